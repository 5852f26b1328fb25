//! The real Podman with wharf as its runtime.

mod checkpoint;
mod control;
pub(crate) mod engine;
mod exec;
mod failures;
mod life;
mod limits;
mod namespaces;
mod observation;
mod privileges;
mod terminal;
mod volumes;

use super::{Case, Seen, feature};
use engine::Podman;
use harness::{Feature, Stop};

pub(crate) fn trials() -> Feature {
    let parts = [
        life::cases(),
        observation::cases(),
        exec::cases(),
        terminal::cases(),
        control::cases(),
        limits::cases(),
        privileges::cases(),
        namespaces::cases(),
        volumes::cases(),
        failures::cases(),
    ];
    feature("podman", parts.into_iter().flatten().collect())
}

/// What CRIU takes part in.
pub(crate) fn checkpoints() -> Feature {
    feature("podman", checkpoint::cases())
}

fn case<S: Into<Seen> + 'static>(
    name: &'static str,
    expected: &'static str,
    look: fn(&Podman) -> Result<S, Stop>,
) -> Case {
    Case::new(name, expected, move |host, choice| look(&Podman::new(host, choice)?).map(Into::into))
}
