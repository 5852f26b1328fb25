//! Which verb is allowed in which status: one total function.
//!
//! ```text
//!            create            start             payload ends
//! (nothing) -------> created --------> running --------------> stopped
//!     ^  creating       |               |   ^                     |
//!     |                 | kill    pause |   | resume              |
//!     |                 v               v   |                     |
//!     |              stopped          paused                      |
//!     +----------------------- delete ----------------------------+
//! ```

use crate::{ContainerId, Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A container's status as runtime-spec names it, and `paused` as every engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// The verbs that depend on a container's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Start,
    Kill,
    Delete,
    ForceDelete,
    Pause,
    Resume,
    /// Lists the processes.
    Ps,
    /// Tells what is used, once or as it goes.
    Events,
    /// Changes limits.
    Update,
    /// Runs one more process.
    Exec,
    /// Writes memory and disk down.
    Checkpoint,
}

/// `Ok`, or the reason in the words that engines match.
pub fn allowed(id: &ContainerId, status: Status, verb: Verb) -> Result<()> {
    use Status::*;
    let wrong =
        |doing: &str, why: &str| Err(Error::new(Kind::WrongStatus, format!("{doing} container {id}")).because(why));
    let gone =
        |doing: &str| Err(Error::new(Kind::NotRunning, format!("{doing} container {id}: container not running")));
    match (verb, status) {
        (Verb::Start, Created) => Ok(()),
        (Verb::Start, Creating) => wrong("start", "it is still being created"),
        (Verb::Start, Running) => wrong("start", "it has been started already"),
        (Verb::Start, Paused) => wrong("start", "it is paused"),
        (Verb::Start, Stopped) => wrong("start", "it has stopped"),
        (Verb::Kill, Created | Running | Paused) => Ok(()),
        (Verb::Kill, Creating) => wrong("kill", "it is still being created"),
        (Verb::Kill, Stopped) => gone("kill"),
        (Verb::Delete, Stopped) | (Verb::ForceDelete, _) => Ok(()),
        (Verb::Delete, Creating) => wrong("delete", "it is still being created"),
        (Verb::Delete, Created | Running | Paused) => {
            Err(Error::new(Kind::WrongStatus, format!("delete container {id}: it is {status}"))
                .hint("--force kills it first"))
        }
        // A created container is paused as it waits, and waits on when it is resumed.
        (Verb::Pause, Created | Running) => Ok(()),
        (Verb::Pause, Creating) => wrong("pause", "it is still being created"),
        (Verb::Pause, Paused) => wrong("pause", "it is paused already"),
        (Verb::Pause, Stopped) => gone("pause"),
        (Verb::Resume, Paused) => Ok(()),
        (Verb::Resume, Creating | Created | Running) => wrong("resume", "container not paused"),
        (Verb::Resume, Stopped) => gone("resume"),
        // Without a pid namespace of their own, processes outlive the first one.
        (Verb::Ps, Created | Running | Paused | Stopped) => Ok(()),
        (Verb::Ps, Creating) => wrong("list the processes of", "it is still being created"),
        (Verb::Exec, Created | Running) => Ok(()),
        (Verb::Exec, Creating) => wrong("exec in", "it is still being created"),
        (Verb::Exec, Paused) => Err(Error::new(Kind::WrongStatus, format!("exec in container {id}"))
            .because("it is paused")
            .hint("--ignore-paused waits until it is resumed")),
        (Verb::Exec, Stopped) => gone("exec in"),
        (Verb::Events, Created | Running | Paused) => Ok(()),
        (Verb::Events, Creating) => wrong("watch", "it is still being created"),
        (Verb::Events, Stopped) => gone("watch"),
        (Verb::Checkpoint, Running | Paused) => Ok(()),
        (Verb::Checkpoint, Creating) => wrong("checkpoint", "it is still being created"),
        (Verb::Checkpoint, Created) => wrong("checkpoint", "it has not been started"),
        (Verb::Checkpoint, Stopped) => gone("checkpoint"),
        (Verb::Update, Created | Running | Paused) => Ok(()),
        (Verb::Update, Creating) => wrong("update", "it is still being created"),
        (Verb::Update, Stopped) => gone("update"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        let id = ContainerId::new("c").unwrap();
        let statuses = [Status::Creating, Status::Created, Status::Running, Status::Paused, Status::Stopped];
        let table = [
            (Verb::Start, [false, true, false, false, false]),
            (Verb::Kill, [false, true, true, true, false]),
            (Verb::Checkpoint, [false, false, true, true, false]),
            (Verb::Delete, [false, false, false, false, true]),
            (Verb::ForceDelete, [true; 5]),
            (Verb::Exec, [false, true, true, false, false]),
            (Verb::Pause, [false, true, true, false, false]),
            (Verb::Resume, [false, false, false, true, false]),
            (Verb::Ps, [false, true, true, true, true]),
            (Verb::Events, [false, true, true, true, false]),
            (Verb::Update, [false, true, true, true, false]),
        ];
        for (verb, row) in table {
            for (status, expected) in statuses.into_iter().zip(row) {
                assert_eq!(allowed(&id, status, verb).is_ok(), expected, "{verb:?} {status}");
            }
        }
    }

    #[test]
    fn a_dead_container_answers_in_the_words_engines_match() {
        let id = ContainerId::new("c").unwrap();
        for verb in [Verb::Kill, Verb::Pause, Verb::Resume, Verb::Events, Verb::Update] {
            let error = allowed(&id, Status::Stopped, verb).unwrap_err();
            assert!(error.to_string().contains("container not running"), "{error}");
        }
    }
}
