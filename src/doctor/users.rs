//! User namespaces and the ids that an ordinary user may map.

use super::{Line, Patient, read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use wharf_core::user_name;

const AREA: &str = "users";

/// Settings that forbid user namespaces: the file, what it says when it does, whether root is free of it, and why.
const FORBIDDING: [(&str, &str, bool, &str); 3] = [
    ("user.max_user_namespaces", "0", false, "no more of them may be made"),
    ("kernel.unprivileged_userns_clone", "0", true, "only root may make one"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", true, "AppArmor leaves ordinary users no rights in one"),
];

pub(super) fn lines(patient: &Patient<'_>) -> Vec<Line> {
    let setting = |name: &str| read(format!("/proc/sys/{}", name.replace('.', "/")));
    let mut lines = vec![namespaces(Path::new("/proc/self/ns/user").exists(), patient.uid, setting)];
    if patient.uid != 0 {
        lines.extend(["newuidmap", "newgidmap"].map(helper));
        let passwd = read("/etc/passwd").unwrap_or_default();
        let name = user_name(&passwd, patient.uid).map_or_else(|| patient.uid.to_string(), str::to_owned);
        for (file, option) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
            lines.push(range(file, &read(file).unwrap_or_default(), option, &name, patient.uid));
        }
    }
    lines
}

fn namespaces(are_known: bool, uid: u32, setting: impl Fn(&str) -> Option<String>) -> Line {
    let what = "user namespaces";
    if !are_known {
        return Line::limited(AREA, what, "this kernel has none", "run one that is built with CONFIG_USER_NS");
    }
    let forbids = |(name, value, root_is_free, _): &&(&str, &str, bool, &str)| {
        !(*root_is_free && uid == 0) && setting(name).as_deref() == Some(*value)
    };
    let Some((name, value, _, why)) = FORBIDDING.iter().find(forbids) else { return Line::good(AREA, what) };
    let other = if *name == "user.max_user_namespaces" {
        "15000"
    } else if *value == "0" {
        "1"
    } else {
        "0"
    };
    let line =
        Line::limited(AREA, what, format!("{name} is {value}: {why}"), format!("as root: sysctl -w {name}={other}"));
    if uid == 0 { line } else { Line { state: super::State::Missing, ..line } }
}

fn helper(name: &str) -> Line {
    const SET_USER_ID: u32 = 0o4000;
    let what = format!("{name}, for more than one id in a container");
    let found = wharf_native::HELPER_PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
    let Some(path) = found else {
        return Line::limited(AREA, what, "it is not installed", "as root: install the package uidmap or shadow-utils");
    };
    let is_privileged = path.metadata().is_ok_and(|about| about.permissions().mode() & SET_USER_ID != 0)
        || wharf_sys::presence::has_attribute(&path, c"security.capability");
    if is_privileged {
        return Line::good(AREA, path.display().to_string());
    }
    let fix = format!("as root: chmod u+s {}", path.display());
    Line::limited(AREA, what, "it has neither the set-user-ID bit nor file capabilities", fix)
}

/// A line of the file is `NAME:FIRST:COUNT`, of a user by name or number (subuid(5)).
fn range(file: &str, text: &str, option: &str, name: &str, uid: u32) -> Line {
    let number = uid.to_string();
    let ranges: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(of, _)| *of == name || *of == number)
        .map(|(_, range)| range)
        .collect();
    if ranges.is_empty() {
        let fix = format!("as root: usermod {option} 100000-165535 {name}");
        return Line::limited(
            AREA,
            format!("ids for {name} in {file}"),
            "there are none: one id can be mapped, his own",
            fix,
        );
    }
    Line::good(AREA, format!("ids for {name} in {file}: {}", ranges.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_setting_that_forbids_user_namespaces_is_named_with_the_command_that_changes_it() {
        let set =
            |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.to_owned());
        assert_eq!(namespaces(true, 1000, |_| None).state, State::Good);
        let line = namespaces(true, 1000, set("kernel.unprivileged_userns_clone", "0"));
        assert_eq!(line.fix.as_deref(), Some("as root: sysctl -w kernel.unprivileged_userns_clone=1"));
        assert_eq!(line.state, State::Missing);
        assert_eq!(namespaces(true, 0, set("kernel.unprivileged_userns_clone", "0")).state, State::Good);
        let line = namespaces(true, 0, set("user.max_user_namespaces", "0"));
        assert_eq!(line.fix.as_deref(), Some("as root: sysctl -w user.max_user_namespaces=15000"));
        assert_eq!(line.state, State::Limited);
        let line = namespaces(true, 7, set("kernel.apparmor_restrict_unprivileged_userns", "1"));
        assert!(line.fix.unwrap().ends_with("=0"));
    }

    #[test]
    fn a_range_is_found_by_name_and_by_number() {
        let text = "mail:100000:65536\n1000:165536:65536\nwharf:231072:10\n";
        let of = |name, uid| range("/etc/subuid", text, "--add-subuids", name, uid);
        assert_eq!(of("wharf", 5).what, "ids for wharf in /etc/subuid: 231072:10");
        assert_eq!(of("x", 1000).state, State::Good);
        let line = of("nobody", 65534);
        assert_eq!(line.fix.as_deref(), Some("as root: usermod --add-subuids 100000-165535 nobody"));
    }
}
