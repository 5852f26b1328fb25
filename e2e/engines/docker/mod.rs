//! The Docker Engine with wharf as its default runtime, and with its peers.

pub(crate) mod engine;
mod failures;
mod life;
mod limits;
mod network;
mod observation;
mod options;
mod restart;
mod terminal;
mod volumes;

use super::{Case, Seen, feature};
use engine::Docker;
use harness::{Feature, Stop};

pub(crate) fn trials() -> Feature {
    let parts = [
        life::cases(),
        observation::cases(),
        limits::cases(),
        options::cases(),
        network::cases(),
        volumes::cases(),
        failures::cases(),
        restart::cases(),
        terminal::cases(),
    ];
    feature("docker", parts.into_iter().flatten().collect())
}

/// A case with a daemon of its own, which must end with nothing left of any container.
fn case<S: Into<Seen> + 'static>(
    name: &'static str,
    expected: &'static str,
    look: fn(&Docker<'_>) -> Result<S, Stop>,
) -> Case {
    Case::new(name, expected, move |host, choice| {
        let engine = Docker::start(host, choice)?;
        let seen = look(&engine);
        if matches!(seen, Ok(_) | Err(Stop::Skipped(_))) {
            engine.stop()?;
        }
        seen.map(Into::into)
    })
}
