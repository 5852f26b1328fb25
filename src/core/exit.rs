//! How a payload ended, as its witness saw it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the file in a container's state directory; its witness writes it once.
pub const EXIT_FILE: &str = "exit.json";

/// Version that this build writes. It reads this one and the one before.
pub const EXIT_VERSION: u32 = 1;

/// How a container's first process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub version: u32,
    pub witness: WitnessKind,
    #[serde(flatten)]
    pub ended: Ended,
    /// When `start` began, RFC 3339 in UTC; none for a payload that was never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// When the witness saw the end, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<String>,
    /// The signal that wharf sent it and that ended it; else the last one that wharf sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
    /// Why the witness could not see it, or had to bring it about, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    #[serde(flatten)]
    pub usage: Usage,
}

/// Who saw the payload end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WitnessKind {
    /// The `run` that was its parent.
    Run,
    /// A watcher beside it.
    Watcher,
    /// The `wait` that asked.
    Wait,
    /// The process that stands in for the payload.
    StandIn,
    /// The `exec` that was its parent.
    Exec,
}

/// The wait status of a process (wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ended", rename_all = "lowercase")]
pub enum Ended {
    Exited {
        code: i32,
    },
    Signaled {
        signal: i32,
        /// A core was dumped; none where that could not be seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        core: Option<bool>,
    },
    /// Its status went to somebody else, and the kernel did not keep it (before Linux 6.15), or nobody watched.
    Unknown,
}

impl Ended {
    /// From the status of wait(2).
    pub fn of_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Ended::Exited { code: status >> 8 & 0xff },
            signal => Ended::Signaled { signal, core: Some(status & 0x80 != 0) },
        }
    }

    /// As a shell tells it: 128 + n for signal n.
    pub fn code(self) -> Option<i32> {
        match self {
            Ended::Exited { code } => Some(code),
            Ended::Signaled { signal, .. } => Some(128 + signal),
            Ended::Unknown => None,
        }
    }
}

/// What a whole container has used, and what the kernel killed in it. What could not be read is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Microseconds of CPU time in user space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_user: Option<u64>,
    /// Microseconds of CPU time in the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_system: Option<u64>,
    /// The most memory it ever had, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
    /// Bytes that were read from block devices, and written to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_read: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_written: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom: Option<Oom>,
}

/// The kernel killed for want of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oom {
    /// Processes of the container that were killed.
    pub killed: u64,
    pub verdict: OomVerdict,
    /// Where an ancestor's limit was too low: the path of its cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ancestor: Option<String>,
    /// All processes were killed together (`memory.oom.group`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub group: bool,
}

const KILL: i32 = 9;

/// Whose memory was at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OomVerdict {
    /// The container was at its own limit.
    Limit,
    /// A cgroup above it was at its limit.
    Ancestor,
    /// The host had no more.
    Host,
    /// None that is to be seen from here: the host's, or one above the caller's own cgroup namespace.
    Unseen,
}

impl OomVerdict {
    fn word(self) -> &'static str {
        match self {
            OomVerdict::Limit => "limit",
            OomVerdict::Ancestor => "ancestor",
            OomVerdict::Host => "host",
            OomVerdict::Unseen => "unseen",
        }
    }
}

/// A signal of wharf's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Which verb.
    pub by: Sender,
    pub signal: i32,
    /// Who asked.
    pub uid: u32,
    /// RFC 3339 in UTC.
    pub at: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sender {
    /// `kill`
    Kill,
    /// `delete --force`
    Delete,
    /// The limit of the annotation `dev.wharf.lifetime`.
    Lifetime,
}

impl Exit {
    /// Where nobody can tell.
    pub fn unknown(witness: WitnessKind) -> Self {
        Exit {
            version: EXIT_VERSION,
            witness,
            ended: Ended::Unknown,
            started: None,
            finished: None,
            sent: None,
            cause: None,
            usage: Usage::default(),
        }
    }

    /// For `state` and `list`, beside the container's own annotations.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut put = |name: &str, value: String| all.insert(format!("dev.wharf.exit.{name}"), value);
        match self.ended {
            Ended::Exited { code } => drop(put("code", code.to_string())),
            Ended::Signaled { signal, core } => {
                put("signal", signal.to_string());
                core.into_iter().for_each(|core| drop(put("core", core.to_string())));
            }
            Ended::Unknown => drop(put("unknown", "its witness died, or was not told".to_owned())),
        }
        if let Some(oom) = &self.usage.oom {
            put("oom", oom.verdict.word().to_owned());
        }
        for (name, value) in [("started", &self.started), ("finished", &self.finished), ("reason", &self.reason())] {
            if let Some(value) = value {
                put(name, value.clone());
            }
        }
        let numbers = [
            ("cpu-user-microseconds", self.usage.cpu_user),
            ("cpu-system-microseconds", self.usage.cpu_system),
            ("memory-peak-bytes", self.usage.memory_peak),
            ("io-read-bytes", self.usage.io_read),
            ("io-written-bytes", self.usage.io_written),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                put(name, number.to_string());
            }
        }
        all
    }

    /// In words, where there is more to say than a status.
    pub fn reason(&self) -> Option<String> {
        if self.cause.is_some() {
            return self.cause.clone();
        }
        let killed = |signal| matches!(self.ended, Ended::Signaled { signal: by, .. } if by == signal);
        match (&self.sent, &self.usage.oom) {
            (Some(Sent { by: Sender::Lifetime, signal, .. }), _) if killed(*signal) || self.ended == Ended::Unknown => {
                Some("lifetime".to_owned())
            }
            (Some(Sent { by, signal, uid, .. }), _) if killed(*signal) => {
                let verb = if *by == Sender::Delete { "delete" } else { "kill" };
                Some(format!("{verb} {signal} by uid {uid}"))
            }
            // Where a process beside the first was killed, and that one ended by itself, `oom` tells, and is not the reason.
            (_, Some(oom)) if killed(KILL) => Some(match oom.verdict {
                OomVerdict::Limit => "out of memory: its own limit".to_owned(),
                OomVerdict::Ancestor => {
                    format!("out of memory: the limit of cgroup {}", oom.ancestor.as_deref().unwrap_or("above"))
                }
                OomVerdict::Host => "out of memory: the host's".to_owned(),
                OomVerdict::Unseen => "out of memory: a limit beyond sight, or the host's".to_owned(),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(ended: Ended) -> Exit {
        Exit {
            version: EXIT_VERSION,
            witness: WitnessKind::Watcher,
            ended,
            started: Some("2026-01-01T00:00:00Z".to_owned()),
            finished: Some("2026-01-01T00:00:01Z".to_owned()),
            sent: None,
            cause: None,
            usage: Usage::default(),
        }
    }

    #[test]
    fn a_wait_status_is_taken_apart() {
        assert_eq!(Ended::of_status(0x2a00), Ended::Exited { code: 42 });
        assert_eq!(Ended::of_status(9), Ended::Signaled { signal: 9, core: Some(false) });
        assert_eq!(Ended::of_status(0x8b), Ended::Signaled { signal: 11, core: Some(true) });
        assert_eq!(Ended::of_status(0x8b).code(), Some(139));
        assert_eq!(Ended::Unknown.code(), None);
    }

    #[test]
    fn it_is_written_and_read_back() {
        let mut one = exit(Ended::Signaled { signal: 9, core: Some(false) });
        one.sent = Some(Sent { by: Sender::Lifetime, signal: 9, uid: 0, at: "2026-01-01T00:00:01Z".to_owned() });
        one.usage.oom = Some(Oom { killed: 2, verdict: OomVerdict::Host, ancestor: None, group: true });
        let text = serde_json::to_string(&one).unwrap();
        assert!(text.contains(r#""ended":"signaled","signal":9"#), "{text}");
        assert_eq!(serde_json::from_str::<Exit>(&text).unwrap(), one);
    }

    #[test]
    fn a_kill_of_ours_is_the_reason_only_of_the_end_that_it_brought() {
        let mut one = exit(Ended::Signaled { signal: 9, core: Some(false) });
        one.sent = Some(Sent { by: Sender::Kill, signal: 15, uid: 7, at: "2026-01-01T00:00:01Z".to_owned() });
        assert_eq!(one.reason(), None);
        one.ended = Ended::Signaled { signal: 15, core: Some(false) };
        assert_eq!(one.reason().as_deref(), Some("kill 15 by uid 7"));
        assert_eq!(one.annotations()["dev.wharf.exit.signal"], "15");
        one.sent = Some(Sent { by: Sender::Delete, signal: 15, uid: 7, at: "2026-01-01T00:00:01Z".to_owned() });
        assert_eq!(one.reason().as_deref(), Some("delete 15 by uid 7"));
    }

    #[test]
    fn what_ended_by_itself_was_not_killed() {
        let at = "2026-01-01T00:00:01Z".to_owned();
        let mut one = exit(Ended::Exited { code: 0 });
        one.sent = Some(Sent { by: Sender::Lifetime, signal: 9, uid: 0, at });
        one.usage.oom = Some(Oom { killed: 1, verdict: OomVerdict::Limit, ancestor: None, group: false });
        assert_eq!(one.reason(), None);
        assert_eq!(one.annotations()["dev.wharf.exit.oom"], "limit");
        one.ended = Ended::Signaled { signal: 9, core: None };
        assert_eq!(one.reason().as_deref(), Some("lifetime"));
        assert!(!one.annotations().contains_key("dev.wharf.exit.core"));
        one.sent = None;
        assert_eq!(one.reason().as_deref(), Some("out of memory: its own limit"));
        one.ended = Ended::Signaled { signal: 11, core: Some(true) };
        assert_eq!(one.reason(), None, "a crash is no want of memory");
    }
}
