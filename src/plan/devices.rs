//! /dev: the devices every container has, the ones the spec lists, and the usual links.

use crate::namespaces::Namespaces;
use crate::{Builder, Facts, Note};
use oci_spec::runtime::{LinuxDeviceType, Spec};
use wharf_core::{Error, Result};
use wharf_steps::{Slot, Step};

const CHARACTER: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;
const FIFO: u32 = 0o010_000;

/// Major, minor and name of what runtime-spec says is supplied by default (config-linux.md, "Default Devices").
const DEFAULT: [(u32, u32, &str); 6] =
    [(1, 3, "null"), (1, 5, "zero"), (1, 7, "full"), (1, 8, "random"), (1, 9, "urandom"), (5, 0, "tty")];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// A device number as the kernel's calls take it (makedev(3)).
fn number(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & 0xfff) << 8 | (major & !0xfff) << 32 | minor & 0xff | (minor & !0xff) << 12
}

pub(crate) fn all(
    spec: &Spec,
    facts: &Facts,
    namespaces: &Namespaces,
    notes: &mut Vec<Note>,
    plan: &mut Builder,
) -> Result<()> {
    let path = plan.text("/dev", "")?;
    plan.step(Step::OpenDirectory { slot: Slot::DEV, path }, "");
    // Nodes cannot be made in a user namespace that is not the first; the host's own are bound instead.
    let by_bind = namespaces.apart(crate::namespaces::NEWUSER) || facts.uid != 0;
    let listed = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    for (major, minor, name) in DEFAULT {
        let path = format!("/dev/{name}");
        if listed.iter().any(|device| device.path().to_str() == Some(&path)) {
            continue;
        }
        node(plan, &path, CHARACTER | 0o666, number(major, minor), (0, 0), by_bind, "")?;
    }
    for (index, device) in listed.iter().enumerate() {
        let pointer = format!("linux/devices/{index}");
        let path = device.path().to_str().unwrap_or_default();
        if !path.starts_with('/') || path.contains("/../") || path.ends_with("/..") {
            return Err(Error::invalid(format!("device path {path:?}"))
                .because("must be absolute and without ..")
                .at(format!("{pointer}/path")));
        }
        if path == "/dev/ptmx" {
            notes.push(Note::PtmxDevice { pointer });
            continue;
        }
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => CHARACTER,
            LinuxDeviceType::B => BLOCK,
            LinuxDeviceType::P => FIFO,
            LinuxDeviceType::A => {
                return Err(Error::invalid("device type a")
                    .because("is only for device rules")
                    .at(format!("{pointer}/type")));
            }
        };
        let part = |value: i64, field: &str| {
            u32::try_from(value).map_err(|_| {
                Error::invalid(format!("device {field} {value}"))
                    .because("is not a device number")
                    .at(format!("{pointer}/{field}"))
            })
        };
        let number =
            if kind == FIFO { 0 } else { number(part(device.major(), "major")?, part(device.minor(), "minor")?) };
        let mode = device.file_mode().unwrap_or(0o666);
        if mode & !0o7777 & !0o170_000 != 0 {
            return Err(Error::invalid(format!("fileMode {mode:#o}")).at(format!("{pointer}/fileMode")));
        }
        let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        if by_bind {
            let asked = [
                ("fileMode", device.file_mode().is_some()),
                ("uid", device.uid().is_some()),
                ("gid", device.gid().is_some()),
            ];
            let unheard = asked.into_iter().filter(|(_, is_set)| *is_set);
            notes.extend(unheard.map(|(name, _)| Note::BoundDevice { pointer: format!("{pointer}/{name}") }));
        }
        node(plan, path, kind | mode & 0o7777, number, owner, by_bind, &pointer)?;
    }
    for (name, to) in LINKS {
        let (name, target) = (plan.text(name, "")?, plan.text(to, "")?);
        plan.step(Step::Symlink { slot: Slot::DEV, name, target }, "");
    }
    Ok(())
}

fn node(
    plan: &mut Builder,
    path: &str,
    mode: u32,
    device: u64,
    (uid, gid): (u32, u32),
    by_bind: bool,
    pointer: &str,
) -> Result<()> {
    if by_bind {
        let path = plan.text(path, pointer)?;
        let step = Step::Bind {
            target: path,
            source: path,
            slot: Slot::NONE,
            recursive: false,
            set: 0,
            clear: 0,
            recursive_set: 0,
            recursive_clear: 0,
            propagation: 0,
        };
        plan.step(step, pointer);
        return Ok(());
    }
    let (slot, below) = match path.strip_prefix("/dev/") {
        Some(below) => (Slot::DEV, below),
        None => (Slot::ROOT, path),
    };
    let path = plan.text(below, pointer)?;
    plan.step(Step::Device { slot, path, mode, device, uid, gid }, pointer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_number_is_laid_out_as_the_kernel_reads_it() {
        assert_eq!(number(1, 3), 0x103);
        assert_eq!(number(0x1234, 0x56789), 0x1000_5672_3489);
    }
}
