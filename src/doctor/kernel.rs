//! The kernel: its version, and the system calls that wharf makes.

use super::{Line, Patient, State, read};
use wharf_sys::kernel::{ALL, Call, NEEDS};
use wharf_sys::presence::{Presence, presence};

const AREA: &str = "kernel";

/// The oldest that wharf runs on.
const OLDEST: (u32, u32) = (5, 3);

pub(super) fn lines(patient: &Patient<'_>) -> Vec<Line> {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut lines = vec![version(&release)];
    let without: Vec<Line> = ALL.iter().filter_map(|call| judge(*call, presence(*call, patient.privileged))).collect();
    if without.is_empty() {
        lines.push(Line::good(AREA, format!("all {} system calls and features that wharf makes use of", ALL.len())));
    }
    lines.extend(without);
    lines
}

fn version(release: &str) -> Line {
    let what = format!("Linux {release}");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) < OLDEST => {
            let (major, minor) = OLDEST;
            let fix = format!("run Linux {major}.{minor} or newer");
            Line::missing(AREA, what, format!("wharf needs Linux {major}.{minor}"), fix)
        }
        _ => Line::good(AREA, what),
    }
}

fn judge(call: Call, presence: Presence) -> Option<Line> {
    let need = &NEEDS[call as usize];
    let what = format!("{}, for {}", need.name, need.used);
    let (cause, fix) = match presence {
        Presence::Here => return None,
        Presence::Missing => ("this kernel has it not".to_owned(), format!("run Linux {} or newer", need.since)),
        Presence::Forbidden => (
            "a filter of system calls or a security module forbids it".to_owned(),
            "allow it where this shell or service is confined, as in its seccomp profile".to_owned(),
        ),
    };
    let state = match need.instead {
        Some(_) => State::Limited,
        // What only those need who ask for it.
        None if matches!(
            call,
            Call::PidfdGetfd | Call::RecursiveAttributes | Call::IdmappedMounts | Call::TimeNamespaces
        ) =>
        {
            State::Limited
        }
        None => State::Missing,
    };
    let cause = match need.instead {
        Some(instead) => format!("{cause}; instead: {instead}"),
        None => cause,
    };
    Some(Line { state, ..Line::limited(AREA, what, cause, fix) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_too_old_is_told_from_one_that_is_not() {
        for (release, state) in [
            ("6.18.44", State::Good),
            ("5.3.0-1-amd64", State::Good),
            ("5.10", State::Good),
            ("5.2.21", State::Missing),
            ("4.19.0-26-amd64", State::Missing),
        ] {
            assert_eq!(version(release).state, state, "{release}");
        }
    }

    #[test]
    fn what_has_a_replacement_limits_and_what_has_none_is_missing() {
        assert_eq!(judge(Call::Openat2, Presence::Here), None);
        let line = judge(Call::Openat2, Presence::Missing).unwrap();
        assert_eq!((line.state, line.fix.as_deref()), (State::Limited, Some("run Linux 5.6 or newer")));
        assert!(line.cause.unwrap().contains("wharf walks itself"));
        assert_eq!(judge(Call::OpenTree, Presence::Missing).unwrap().state, State::Missing);
        assert_eq!(judge(Call::IdmappedMounts, Presence::Missing).unwrap().state, State::Limited);
        let line = judge(Call::MoveMount, Presence::Forbidden).unwrap();
        assert!(line.cause.unwrap().contains("forbids") && line.fix.unwrap().contains("seccomp"));
    }
}
