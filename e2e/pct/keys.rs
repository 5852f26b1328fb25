//! The keys of a container's configuration, and the raw keys of LXC that may stand beside them (§3).

use crate::args::Kind;
use crate::property::{DEVICE, FEATURES, MOUNT, NET, ROOTFS, Shape};

const OSTYPES: &[&str] = &[
    "debian",
    "devuan",
    "ubuntu",
    "centos",
    "fedora",
    "opensuse",
    "archlinux",
    "alpine",
    "gentoo",
    "nixos",
    "unmanaged",
];
pub(crate) const ARCHITECTURES: &[&str] = &["amd64", "i386", "arm64", "armhf", "riscv32", "riscv64"];
const LOCKS: &[&str] = &[
    "backup",
    "create",
    "destroyed",
    "disk",
    "fstrim",
    "migrate",
    "mounted",
    "rollback",
    "snapshot",
    "snapshot-delete",
];

/// Those without a number.
const SINGLE: &[(&str, Kind)] = &[
    ("arch", Kind::One(ARCHITECTURES)),
    ("cmode", Kind::One(&["shell", "console", "tty"])),
    ("console", Kind::Flag),
    ("cores", Kind::Integer(1, 8192)),
    ("cpulimit", Kind::Number(0.0, 8192.0)),
    ("cpuunits", Kind::Integer(0, 500_000)),
    ("debug", Kind::Flag),
    ("description", Kind::Text(8192)),
    ("entrypoint", Kind::Format(entrypoint)),
    ("env", Kind::Format(env)),
    ("features", Kind::Format(|text| FEATURES.parse(text).map(drop))),
    ("hookscript", Kind::Format(hookscript)),
    ("hostname", Kind::Format(dns_name)),
    ("lock", Kind::One(LOCKS)),
    ("memory", Kind::Integer(16, i64::MAX)),
    ("nameserver", Kind::Format(addresses)),
    ("onboot", Kind::Flag),
    ("ostype", Kind::One(OSTYPES)),
    ("protection", Kind::Flag),
    ("rootfs", Kind::Format(|text| ROOTFS.parse(text).map(drop))),
    ("searchdomain", Kind::Format(domains)),
    ("startup", Kind::Format(startup)),
    ("swap", Kind::Integer(0, i64::MAX)),
    ("tags", Kind::Format(tags)),
    ("template", Kind::Flag),
    ("timezone", Kind::Format(timezone)),
    ("tty", Kind::Integer(0, 6)),
    ("unprivileged", Kind::Flag),
];

/// Those with one: how many there may be.
const NUMBERED: &[(&str, u32, Kind)] = &[
    ("mp", 256, Kind::Format(|text| MOUNT.parse(text).map(drop))),
    ("dev", 256, Kind::Format(|text| DEVICE.parse(text).map(drop))),
    ("net", 32, Kind::Format(|text| NET.parse(text).map(drop))),
    ("unused", 256, Kind::Text(4096)),
];

/// What a key's value must be; none for a key that is not known.
pub(crate) fn kind(key: &str) -> Option<Kind> {
    let single = SINGLE.iter().find(|(name, _)| *name == key).map(|(_, kind)| *kind);
    single.or_else(|| {
        let (family, number) = numbered(key)?;
        NUMBERED.iter().find(|(name, count, _)| *name == family && number < *count).map(|(.., kind)| *kind)
    })
}

/// `mp12` as its family and its number.
pub(crate) fn numbered(key: &str) -> Option<(&str, u32)> {
    let at = key.find(|sign: char| sign.is_ascii_digit())?;
    let number = &key[at..];
    let plain = number == "0" || !number.starts_with('0');
    plain.then(|| number.parse().ok()).flatten().map(|number| (&key[..at], number))
}

/// The property strings among them.
pub(crate) fn shape(key: &str) -> Option<&'static Shape> {
    match numbered(key).map_or(key, |(family, _)| family) {
        "rootfs" => Some(&ROOTFS),
        "mp" => Some(&MOUNT),
        "dev" => Some(&DEVICE),
        "net" => Some(&NET),
        "features" => Some(&FEATURES),
        _ => None,
    }
}

/// Whether a raw line goes through to LXC: only these do; others are dropped with a warning.
pub(crate) fn is_raw(key: &str) -> bool {
    const EXACT: &[&str] = &[
        "lxc.apparmor.profile",
        "lxc.apparmor.allow_incomplete",
        "lxc.apparmor.allow_nesting",
        "lxc.apparmor.raw",
        "lxc.selinux.context",
        "lxc.include",
        "lxc.arch",
        "lxc.uts.name",
        "lxc.signal.halt",
        "lxc.signal.reboot",
        "lxc.signal.stop",
        "lxc.init.cmd",
        "lxc.init.cwd",
        "lxc.init.uid",
        "lxc.init.gid",
        "lxc.init.groups",
        "lxc.pty.max",
        "lxc.console.logfile",
        "lxc.console.path",
        "lxc.tty.max",
        "lxc.autodev",
        "lxc.kmsg",
        "lxc.mount.fstab",
        "lxc.mount.entry",
        "lxc.mount.auto",
        "lxc.rootfs.mount",
        "lxc.cap.drop",
        "lxc.cap.keep",
        "lxc.seccomp.profile",
        "lxc.seccomp.notify.proxy",
        "lxc.seccomp.notify.cookie",
        "lxc.idmap",
        "lxc.hook.autodev",
        "lxc.hook.pre-start",
        "lxc.hook.pre-mount",
        "lxc.hook.mount",
        "lxc.hook.start",
        "lxc.hook.stop",
        "lxc.hook.post-stop",
        "lxc.hook.clone",
        "lxc.hook.destroy",
        "lxc.hook.version",
        "lxc.log.level",
        "lxc.log.file",
        "lxc.start.auto",
        "lxc.start.delay",
        "lxc.start.order",
        "lxc.group",
        "lxc.environment",
        "lxc.environment.runtime",
        "lxc.environment.hooks",
        "lxc.sysctl.kernel.sem",
        "lxc.sysctl.kernel.msgmax",
        "lxc.sysctl.kernel.msgmnb",
        "lxc.sysctl.kernel.msgmni",
        "lxc.sysctl.kernel.shmall",
        "lxc.sysctl.kernel.shmmax",
        "lxc.sysctl.kernel.shmmni",
        "lxc.sysctl.kernel.shm_rmid_forced",
    ];
    const FAMILIES: &[&str] = &["lxc.cgroup2.", "lxc.prlimit.", "lxc.net.", "lxc.sysctl.fs.mqueue."];
    EXACT.contains(&key) || FAMILIES.iter().any(|family| key.len() > family.len() && key.starts_with(family))
}

fn is_label(text: &str) -> bool {
    let signs = text.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '-');
    !text.is_empty() && signs && !text.starts_with('-') && !text.ends_with('-')
}

pub(crate) fn dns_name(value: &str) -> Result<(), String> {
    if value.len() > 255 {
        return Err("value may only be 255 characters long".to_owned());
    }
    let holds = value.split('.').all(is_label);
    holds.then_some(()).ok_or_else(|| "invalid format - value does not look like a valid DNS name".to_owned())
}

fn domains(value: &str) -> Result<(), String> {
    value.split([' ', ',', ';']).filter(|part| !part.is_empty()).try_for_each(dns_name)
}

fn addresses(value: &str) -> Result<(), String> {
    let mut all = value.split([' ', ',', ';']).filter(|part| !part.is_empty());
    let holds = all.all(|part| part == "host" || part.parse::<std::net::IpAddr>().is_ok());
    holds.then_some(()).ok_or_else(|| "invalid format - value does not look like a valid IP address".to_owned())
}

fn timezone(value: &str) -> Result<(), String> {
    let plain = value == "host" || value.chars().all(|sign| sign.is_ascii_alphanumeric() || "/_+-".contains(sign));
    plain.then_some(()).ok_or_else(|| format!("invalid format - invalid time zone '{value}'"))
}

fn tags(value: &str) -> Result<(), String> {
    let sound = |tag: &str| {
        tag.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit() || first == '_')
            && tag.chars().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || "_-+.".contains(sign))
    };
    let holds = value.split([' ', ',', ';']).filter(|tag| !tag.is_empty()).all(sound);
    holds.then_some(()).ok_or_else(|| "invalid format - invalid characters in tag".to_owned())
}

fn startup(value: &str) -> Result<(), String> {
    let sound = |part: &str| {
        let number = part.rsplit('=').next().unwrap_or_default();
        let name = part.split_once('=').map_or("order", |(name, _)| name);
        ["order", "up", "down"].contains(&name) && number.parse::<u32>().is_ok()
    };
    let holds = value.split(',').all(sound);
    holds.then_some(()).ok_or_else(|| format!("invalid format - unable to parse startup options '{value}'"))
}

/// A volume id: an absolute path is refused.
fn hookscript(value: &str) -> Result<(), String> {
    let holds = !value.starts_with('/') && value.split_once(':').is_some_and(|(_, rest)| !rest.is_empty());
    holds.then_some(()).ok_or_else(|| format!("invalid format - unable to parse volume ID '{value}'"))
}

fn has_controls(value: &str) -> bool {
    value.chars().any(|sign| sign.is_control() && sign != '\t')
}

fn entrypoint(value: &str) -> Result<(), String> {
    (!has_controls(value)).then_some(()).ok_or_else(|| "value does not match the regex pattern".to_owned())
}

/// Variables between NUL bytes, so a command line holds one.
fn env(value: &str) -> Result<(), String> {
    let sound = |variable: &str| {
        let name = variable.split_once('=').map(|(name, _)| name).unwrap_or_default();
        !name.is_empty()
            && name.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '_')
            && !has_controls(variable)
    };
    let holds = value.split('\0').all(sound);
    holds.then_some(()).ok_or_else(|| "value does not match the regex pattern".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_section_3() {
        for key in ["mp0", "mp255", "net31", "dev12", "rootfs", "entrypoint"] {
            assert!(kind(key).is_some(), "{key}");
        }
        for key in ["mp256", "net32", "mp", "mp01", "lxc.init.cmd", "cpus", "digest"] {
            assert!(kind(key).is_none(), "{key}");
        }
    }

    #[test]
    fn raw_keys_are_those_of_section_3() {
        for key in [
            "lxc.include",
            "lxc.cgroup2.pids.max",
            "lxc.net.0.type",
            "lxc.prlimit.nofile",
            "lxc.sysctl.fs.mqueue.msg_max",
        ] {
            assert!(is_raw(key), "{key}");
        }
        for key in
            ["lxc.no_new_privs", "lxc.sysctl.net.ipv4.ip_forward", "lxc.proc.oom_score_adj", "lxc.namespace.clone"]
                .into_iter()
                .chain([
                    "lxc.hook.start-host",
                    "lxc.rootfs.path",
                    "lxc.ephemeral",
                    "lxc.keyring.session",
                    "lxc.cgroup2.",
                ])
        {
            assert!(!is_raw(key), "{key}");
        }
    }

    #[test]
    fn no_value_of_env_or_entrypoint_holds_a_newline() {
        assert!(env("A=1\0B=two words").is_ok() && entrypoint("/bin/sh -c 'a b'").is_ok());
        for value in ["A=1\nB", "A B=1", "=1", "A"] {
            assert!(env(value).is_err(), "{value}");
        }
        assert!(entrypoint("a\nb").is_err() && entrypoint("a\tb").is_ok());
    }
}
