//! What LXC is told beside the node's own configuration, by a file that it includes last: the node lets no such key pass.

use super::door::{Door, INIT, PLACE, SOCKET};
use crate::config::namespace_lines;
use std::os::fd::OwnedFd;
use std::path::Path;
use wharf_plan::Namespaces;
use wharf_steps::CARRIED;

/// An empty value forgets what was said before. The plan of the bundle makes the mounts, devices, limits and rights.
const FORGOTTEN: [&str; 13] = [
    "lxc.mount.auto",
    "lxc.mount.entry",
    "lxc.cap.drop",
    "lxc.cap.keep",
    "lxc.seccomp.profile",
    "lxc.apparmor.raw",
    "lxc.environment",
    "lxc.cgroup2.devices.deny",
    "lxc.cgroup2.devices.allow",
    "lxc.cgroup2.memory.max",
    "lxc.cgroup2.memory.high",
    "lxc.cgroup2.memory.swap.max",
    "lxc.cgroup2.cpu.max",
];

const SET: [(&str, &str); 6] = [
    // A file system on /dev that is the birth's alone: nothing is written into the root file system.
    ("lxc.autodev", "1"),
    ("lxc.tty.max", "0"),
    ("lxc.pty.max", "0"),
    ("lxc.console.path", "none"),
    // The init changes into the bundle's profile, and mounts before that.
    ("lxc.apparmor.profile", "unconfined"),
    // What `pct shutdown` sends.
    ("lxc.signal.halt", "SIGTERM"),
];

pub(crate) fn text(namespaces: &Namespaces, joined: &[OwnedFd], door: &Path) -> String {
    let mut text = String::new();
    let mut key = |key: &str, value: &str| text.push_str(&format!("{key} = {value}\n"));
    FORGOTTEN.iter().for_each(|name| key(name, ""));
    SET.iter().for_each(|(name, value)| key(name, value));
    namespace_lines(namespaces, joined, &mut key);
    key("lxc.mount.entry", &format!("{} {PLACE} none bind,ro,create=dir 0 0", escaped(door)));
    let carried = String::from_utf8_lossy(CARRIED);
    key("lxc.init.cmd", &format!("/{PLACE}/{INIT} {carried} /{PLACE}/{SOCKET}"));
    text
}

/// As in fstab(5).
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for sign in path.to_string_lossy().chars() {
        match sign {
            ' ' | '\t' | '\n' | '\\' | '#' => text.push_str(&format!("\\{:03o}", sign as u32)),
            sign => text.push(sign),
        }
    }
    text
}

impl Door {
    /// The line that has it read.
    pub(crate) fn line(&self) -> String {
        format!("lxc.include: {}", self.include().display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_sys::namespace::flag;

    #[test]
    fn the_file_ends_with_the_way_in() {
        let namespaces = Namespaces { new: flag::NEWNS | flag::NEWPID | flag::NEWUSER, ..Namespaces::default() };
        let text = text(&namespaces, &[], Path::new("/run/wharf-pct/a b/door"));
        assert!(text.starts_with("lxc.mount.auto = \nlxc.mount.entry = \n"), "{text}");
        assert!(
            text.ends_with(
                "lxc.namespace.clone = mnt pid user\n\
                 lxc.mount.entry = /run/wharf-pct/a\\040b/door dev/.wharf none bind,ro,create=dir 0 0\n\
                 lxc.init.cmd = /dev/.wharf/init carried /dev/.wharf/socket\n"
            ),
            "{text}"
        );
    }
}
