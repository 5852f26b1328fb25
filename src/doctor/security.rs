//! What confines payloads: filters of system calls, security modules, key rings.

use super::{Line, read};
use std::path::Path;

const AREA: &str = "security";

pub(super) fn lines() -> Vec<Line> {
    let modules = read("/sys/kernel/security/lsm").unwrap_or_default();
    let enabled = read("/sys/module/apparmor/parameters/enabled").as_deref() == Some("Y");
    let profiles = Path::new("/sys/kernel/security/apparmor").is_dir();
    vec![
        seccomp(read("/proc/sys/kernel/seccomp/actions_avail").as_deref()),
        apparmor(enabled, profiles),
        selinux(Path::new("/sys/fs/selinux/enforce").exists(), &modules),
        match Path::new("/proc/keys").exists() {
            true => Line::good(AREA, "session key rings"),
            false => Line::absent(
                AREA,
                "session key rings",
                "this kernel has no keys; containers have none to share either",
                "run one that is built with CONFIG_KEYS, if payloads want them",
            ),
        },
    ]
}

fn seccomp(actions: Option<&str>) -> Line {
    let Some(actions) = actions else {
        let cause = "this kernel has no filters of system calls; profiles are refused";
        return Line::limited(AREA, "seccomp", cause, "run one that is built with CONFIG_SECCOMP_FILTER");
    };
    if !actions.split(' ').any(|action| action == "user_notif") {
        let cause = "this kernel has no SCMP_ACT_NOTIFY; profiles with it are refused";
        return Line::limited(AREA, "seccomp", cause, "run Linux 5.0 or newer");
    }
    Line::good(AREA, "seccomp, with SCMP_ACT_NOTIFY")
}

fn apparmor(enabled: bool, profiles: bool) -> Line {
    match (enabled, profiles) {
        (true, true) => Line::good(AREA, "AppArmor"),
        (true, false) => Line::limited(
            AREA,
            "AppArmor",
            "it is on, and its profiles cannot be seen",
            "mount -t securityfs securityfs /sys/kernel/security",
        ),
        (false, _) => Line::absent(
            AREA,
            "AppArmor",
            "it is off; profiles are refused",
            "boot with apparmor=1 security=apparmor, if the kernel has it",
        ),
    }
}

fn selinux(enabled: bool, modules: &str) -> Line {
    if enabled {
        return Line::good(AREA, "SELinux");
    }
    let cause = match modules.split(',').any(|module| module == "selinux") {
        true => "it is on, and /sys/fs/selinux is not mounted; labels are refused",
        false => "it is off; labels are refused",
    };
    let fix = "boot with selinux=1 security=selinux and mount selinuxfs on /sys/fs/selinux, if the kernel has it";
    Line::absent(AREA, "SELinux", cause, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn filters_and_modules_that_are_not_there_are_told() {
        assert_eq!(seccomp(Some("kill_process errno user_notif log allow")).state, State::Good);
        assert_eq!(seccomp(Some("kill errno allow")).fix.as_deref(), Some("run Linux 5.0 or newer"));
        assert_eq!(seccomp(None).state, State::Limited);
        assert!(apparmor(true, false).fix.unwrap().contains("securityfs"));
        assert_eq!(apparmor(true, true).state, State::Good);
        assert!(selinux(false, "lockdown,selinux").cause.unwrap().contains("not mounted"));
        assert_eq!(selinux(true, "").state, State::Good);
    }
}
