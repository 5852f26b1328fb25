//! Cgroups: which hierarchies there are, what they can limit, and whether the caller may make any.

use super::{Line, Patient};
use std::path::Path;
use wharf_cgroup::{Layout, Version};

const AREA: &str = "cgroups";

/// What engines set on nearly every container: the controller by its name on v1 and on v2.
const USUAL: [(&str, &str); 5] =
    [("cpu", "cpu"), ("cpuset", "cpuset"), ("memory", "memory"), ("pids", "pids"), ("blkio", "io")];

pub(super) fn lines(patient: &Patient<'_>) -> Vec<Line> {
    let layout = match Layout::detect(None) {
        Ok(layout) => layout,
        Err(error) => {
            return vec![Line::missing(AREA, "the hierarchies", error.to_string(), "mount /proc and /sys/fs/cgroup")];
        }
    };
    let mut lines = vec![hierarchies(&layout)];
    if layout.hierarchies.is_empty() {
        return lines;
    }
    lines.extend(writable(&layout, patient));
    lines.push(controllers(&layout, patient));
    lines.push(systemd(&layout, patient));
    lines
}

fn hierarchies(layout: &Layout) -> Line {
    let what = match layout.version() {
        Version::V2 => format!("version 2, on {}", layout.base),
        Version::V1 => format!("version 1, on {}", layout.base),
        Version::Hybrid => format!("version 1 with version 2 beside it, on {}", layout.base),
        Version::None => {
            return Line::limited(
                AREA,
                "none is mounted",
                "containers have no limits, and cannot be paused",
                "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            );
        }
    };
    Line::good(AREA, what)
}

/// For an ordinary user on v2: the cgroup that the caller is in; else the mount points.
fn writable(layout: &Layout, patient: &Patient<'_>) -> Vec<Line> {
    if patient.uid != 0 {
        return vec![delegated(layout)];
    }
    let closed = layout.hierarchies.iter().filter(|hierarchy| !may_write(&hierarchy.mount_point));
    let lines: Vec<Line> = closed
        .map(|hierarchy| {
            let path = &hierarchy.mount_point;
            let fix = format!("mount -o remount,bind,rw {path}");
            Line::missing(AREA, format!("{path} cannot be written to"), "it is mounted read-only", fix)
        })
        .collect();
    if lines.is_empty() { vec![Line::good(AREA, "containers' cgroups can be made")] } else { lines }
}

fn delegated(layout: &Layout) -> Line {
    let what = "cgroups of this user";
    let none = "containers have no cgroup: no limits, no pause";
    if layout.version() != Version::V2 {
        return Line::limited(
            AREA,
            what,
            format!("{none}; version 1 delegates nothing safely"),
            "boot with systemd.unified_cgroup_hierarchy=1",
        );
    }
    let own =
        layout.hierarchies.iter().map(|own| format!("{}{}", own.mount_point, own.own.trim_end_matches('/'))).next();
    let own = own.unwrap_or_default();
    if may_write(&own) {
        return Line::good(AREA, format!("{what} can be made below {own}"));
    }
    Line::limited(
        AREA,
        what,
        format!("{none}; {own} is not delegated to this user"),
        "use a login session of systemd's, with --systemd-cgroup, or: systemd-run --user --scope -p Delegate=yes COMMAND",
    )
}

fn controllers(layout: &Layout, patient: &Patient<'_>) -> Line {
    let has = |(v1, v2): &(&str, &str)| layout.find(v1).or(layout.find(v2)).is_some();
    let v2 = layout.version() == Version::V2;
    let (here, without): (Vec<_>, Vec<_>) = USUAL.iter().partition(|both| has(both));
    let names =
        |of: &[&(&str, &str)]| of.iter().map(|(one, two)| if v2 { *two } else { *one }).collect::<Vec<_>>().join(" ");
    if without.is_empty() {
        return Line::good(AREA, format!("controllers {}", names(&here)));
    }
    let missing = names(&without);
    let fix = match (v2, patient.uid) {
        (true, 0) => format!("check that the kernel's command line has no cgroup_disable= for {missing}"),
        (true, _) => "as root, in /etc/systemd/system/user@.service.d/delegate.conf: [Service] Delegate=cpu cpuset io \
                      memory pids; then log in again"
            .to_owned(),
        (false, _) => format!("mount each: mount -t cgroup -o NAME NAME {}/NAME", layout.base),
    };
    Line::limited(AREA, format!("no controller {missing}"), "limits by it are refused", fix)
}

fn systemd(layout: &Layout, patient: &Patient<'_>) -> Line {
    let what = "scopes of systemd (--systemd-cgroup)";
    if !Path::new("/run/systemd/system").is_dir() {
        return Line::absent(AREA, what, "systemd does not run on this host", "use cgroups without it, the default");
    }
    if layout.version() != Version::V2 {
        let fix = "boot with systemd.unified_cgroup_hierarchy=1";
        return Line::limited(AREA, what, "wharf has them on version 2 alone", fix);
    }
    if patient.uid != 0 {
        let dir = std::env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| format!("/run/user/{}", patient.uid));
        if !["bus", "systemd/private"].iter().any(|socket| Path::new(&dir).join(socket).exists()) {
            let fix = "log in through systemd (loginctl enable-linger NAME keeps it running) and set XDG_RUNTIME_DIR";
            return Line::limited(AREA, what, format!("there is no systemd of this user: no bus in {dir}"), fix);
        }
    }
    Line::good(AREA, what)
}

fn may_write(path: &str) -> bool {
    wharf_sys::cgroup_fs::Dir::open(path).and_then(|dir| dir.is_writable(".")) == Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn of(mountinfo: &str) -> Layout {
        Layout::parse(mountinfo)
    }

    #[test]
    fn each_layout_is_told_and_none_is_a_limit() {
        let v2 = of("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(hierarchies(&v2).what, "version 2, on /sys/fs/cgroup");
        let v1 = of(
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n33 31 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n",
        );
        assert!(hierarchies(&v1).what.starts_with("version 1, on /sys/fs/cgroup"));
        let none = hierarchies(&of(""));
        assert_eq!(none.state, State::Limited);
        assert!(none.fix.unwrap().contains("cgroup2"));
    }

    #[test]
    fn controllers_that_are_not_there_are_named() {
        let patient = Patient { root: Path::new("/"), configuration: None, broken: None, uid: 0, privileged: true };
        let v1 = of(
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n33 31 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n",
        );
        let line = controllers(&v1, &patient);
        assert_eq!((line.state, line.what.as_str()), (State::Limited, "no controller cpuset memory blkio"));
        assert!(line.fix.unwrap().starts_with("mount each"));
    }
}
