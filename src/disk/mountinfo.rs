//! One line of mountinfo (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    pub(crate) device: u64,
    /// What of the file system is mounted.
    pub(crate) root: PathBuf,
    pub(crate) at: PathBuf,
    pub(crate) kind: String,
    pub(crate) source: String,
    /// Of the superblock.
    pub(crate) options: String,
}

impl Mount {
    pub(crate) fn parse(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ');
        let id = before.next()?.parse().ok()?;
        let (major, minor) = before.nth(1)?.split_once(':')?;
        let path = |text: &str| PathBuf::from(OsString::from_vec(unescape(text)));
        let (root, at) = (path(before.next()?), path(before.next()?));
        let mut after = after.split(' ');
        let kind = after.next()?.to_owned();
        let source = String::from_utf8_lossy(&unescape(after.next()?)).into_owned();
        let device = device(major.parse().ok()?, minor.parse().ok()?);
        Some(Mount { id, device, root, at, kind, source, options: after.next().unwrap_or_default().to_owned() })
    }

    /// The value of an option, which may hold commas and blanks of its own where the file system escapes them.
    pub(crate) fn option(&self, name: &str) -> Option<PathBuf> {
        let mut rest = self.options.as_str();
        loop {
            let end = separator(rest);
            if let Some(value) = rest[..end].strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                // First the escapes of mountinfo, then overlay's own, which mountinfo has escaped.
                let value = unescape(value);
                return Some(PathBuf::from(OsString::from_vec(without_backslashes(&value))));
            }
            rest = rest.get(end + 1..)?;
        }
    }
}

/// As stat(2) tells it.
pub(crate) fn device(major: u64, minor: u64) -> u64 {
    (major & 0xffff_f000) << 32 | (major & 0xfff) << 8 | (minor & !0xff) << 12 | minor & 0xff
}

/// The first comma that is not escaped: overlay writes `\,`, and mountinfo the backslash as `\134`.
fn separator(text: &str) -> usize {
    let escaped = |at: usize| text[..at].ends_with("\\134") || text[..at].ends_with('\\');
    text.match_indices(',').map(|(at, _)| at).find(|at| !escaped(*at)).unwrap_or(text.len())
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

fn without_backslashes(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut escaped = false;
    for byte in value {
        if *byte == b'\\' && !escaped {
            escaped = true;
            continue;
        }
        bytes.push(*byte);
        escaped = false;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_dataset_with_a_blank_and_a_bind_of_a_part_of_it_are_read() {
        let line = "180 56 0:51 /sub /tank/sp\\040ace rw,relatime shared:119 - zfs tank/sp\\040ace rw,xattr,noacl";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.id, mount.device, mount.source.as_str()), (180, 51, "tank/sp ace"));
        assert_eq!((mount.root.as_path(), mount.at.as_path()), (Path::new("/sub"), Path::new("/tank/sp ace")));
        assert_eq!(Mount::parse("1 2 0:3 / /"), None);
    }

    #[test]
    fn the_upper_directory_of_an_overlay_is_found_whatever_is_in_its_name() {
        let line =
            r"188 26 0:53 / /m rw - overlay overlay rw,lowerdir=/l:/k,upperdir=/t/a\134,b\040c,workdir=/w,uuid=on";
        let mount = Mount::parse(line).unwrap();
        assert_eq!(mount.option("upperdir").unwrap(), Path::new("/t/a,b c"));
        assert_eq!(mount.option("workdir").unwrap(), Path::new("/w"));
        assert_eq!(mount.option("upper"), None);
    }

    #[test]
    fn device_numbers_are_those_of_stat() {
        assert_eq!(device(0, 44), 44);
        assert_eq!(device(8, 1), 0x801);
        assert_eq!(device(0, 300), 0x10_002c);
    }
}
