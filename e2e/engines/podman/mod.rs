//! The real Podman with wharf as its runtime.

pub(crate) mod engine;
mod failures;
mod life;
mod limits;
mod namespaces;
mod observation;
mod privileges;
mod volumes;

use super::{Case, Seen, feature};
use engine::Podman;
use harness::{Feature, Stop};

pub(crate) fn trials() -> Feature {
    let parts = [
        life::cases(),
        observation::cases(),
        limits::cases(),
        privileges::cases(),
        namespaces::cases(),
        volumes::cases(),
        failures::cases(),
    ];
    feature("podman", parts.into_iter().flatten().collect())
}

fn case<S: Into<Seen> + 'static>(
    name: &'static str,
    expected: &'static str,
    look: fn(&Podman) -> Result<S, Stop>,
) -> Case {
    Case::new(name, expected, move |host, choice| look(&Podman::new(host, choice)?).map(Into::into))
}
