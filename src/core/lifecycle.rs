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
}

/// `Ok`, or the reason in the words that engines match.
pub fn allowed(id: &ContainerId, status: Status, verb: Verb) -> Result<()> {
    use Status::*;
    let wrong =
        |doing: &str, why: &str| Err(Error::new(Kind::WrongStatus, format!("{doing} container {id}")).because(why));
    match (verb, status) {
        (Verb::Start, Created) => Ok(()),
        (Verb::Start, Creating) => wrong("start", "it is still being created"),
        (Verb::Start, Running | Paused) => wrong("start", "it has been started already"),
        (Verb::Start, Stopped) => wrong("start", "it has stopped"),
        (Verb::Kill, Created | Running | Paused) => Ok(()),
        (Verb::Kill, Creating) => wrong("kill", "it is still being created"),
        (Verb::Kill, Stopped) => {
            Err(Error::new(Kind::NotRunning, format!("kill container {id}: container not running")))
        }
        (Verb::Delete, Stopped) | (Verb::ForceDelete, _) => Ok(()),
        (Verb::Delete, Creating) => wrong("delete", "it is still being created"),
        (Verb::Delete, Created | Running | Paused) => {
            Err(Error::new(Kind::WrongStatus, format!("delete container {id}: it is {status}"))
                .hint("--force kills it first"))
        }
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
            (Verb::Delete, [false, false, false, false, true]),
            (Verb::ForceDelete, [true; 5]),
        ];
        for (verb, row) in table {
            for (status, expected) in statuses.into_iter().zip(row) {
                assert_eq!(allowed(&id, status, verb).is_ok(), expected, "{verb:?} {status}");
            }
        }
    }

    #[test]
    fn a_dead_container_answers_kill_in_the_words_engines_match() {
        let id = ContainerId::new("c").unwrap();
        let error = allowed(&id, Status::Stopped, Verb::Kill).unwrap_err();
        assert!(error.to_string().contains("container not running"));
    }
}
