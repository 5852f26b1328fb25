//! The mounts of a process as the kernel tells them (proc_pid_mountinfo(5)).

/// One of them. In names that are no UTF-8 other bytes stand for those that are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub id: u64,
    /// Of the file system, as stat(2) tells it.
    pub device: u64,
    /// What of the file system is mounted.
    pub root: String,
    /// In the mount namespace's own words.
    pub point: String,
    /// `shared:N`, `master:N`
    pub propagation: String,
    pub kind: String,
    pub source: String,
    /// Of the superblock.
    pub options: String,
}

/// Every line that can be read.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(Mount::parse).collect()
}

impl Mount {
    pub fn parse(line: &str) -> Option<Mount> {
        let (fields, tail) = line.split_once(" - ")?;
        let mut fields = fields.split(' ');
        let id = fields.next()?.parse().ok()?;
        let (major, minor) = fields.nth(1)?.split_once(':')?;
        let device = device(major.parse().ok()?, minor.parse().ok()?);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let propagation = fields.skip(1).collect::<Vec<_>>().join(" ");
        let mut tail = tail.split(' ');
        let (kind, source) = (tail.next()?.to_owned(), unescape(tail.next()?));
        let options = tail.next().unwrap_or_default().to_owned();
        Some(Mount { id, device, root, point, propagation, kind, source, options })
    }

    /// The value of an option, which may hold commas and blanks of its own where the file system escapes them.
    pub fn option(&self, name: &str) -> Option<String> {
        let mut rest = self.options.as_str();
        loop {
            let end = separator(rest);
            if let Some(value) = rest[..end].strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                // First the escapes of mountinfo, then overlay's own, which mountinfo has escaped.
                return Some(without_backslashes(&unescape(value)));
            }
            rest = rest.get(end + 1..)?;
        }
    }
}

/// As stat(2) tells it.
fn device(major: u64, minor: u64) -> u64 {
    (major & 0xffff_f000) << 32 | (major & 0xfff) << 8 | (minor & !0xff) << 12 | minor & 0xff
}

/// The first comma that is not escaped: overlay writes `\,`, and mountinfo the backslash as `\134`.
fn separator(text: &str) -> usize {
    let escaped = |at: usize| text[..at].ends_with("\\134") || text[..at].ends_with('\\');
    text.match_indices(',').map(|(at, _)| at).find(|at| !escaped(*at)).unwrap_or(text.len())
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
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
    String::from_utf8_lossy(&bytes).into_owned()
}

fn without_backslashes(value: &str) -> String {
    let mut escaped = false;
    let keep = |letter: &char| {
        escaped = *letter == '\\' && !escaped;
        !escaped
    };
    value.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_with_a_blank_and_a_bind_of_a_part_of_it_are_read() {
        let line = "180 56 0:51 /sub /tank/sp\\040ace rw,relatime shared:119 - zfs tank/sp\\040ace rw,xattr,noacl";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.id, mount.device, mount.source.as_str()), (180, 51, "tank/sp ace"));
        assert_eq!((mount.root.as_str(), mount.point.as_str()), ("/sub", "/tank/sp ace"));
        assert_eq!(mount.propagation, "shared:119");
        assert_eq!(Mount::parse("1 2 0:3 / /"), None);
    }

    #[test]
    fn the_upper_directory_of_an_overlay_is_found_whatever_is_in_its_name() {
        let line =
            r"188 26 0:53 / /m rw - overlay overlay rw,lowerdir=/l:/k,upperdir=/t/a\134,b\040c,workdir=/w,uuid=on";
        let mount = Mount::parse(line).unwrap();
        assert_eq!(mount.option("upperdir").unwrap(), "/t/a,b c");
        assert_eq!(mount.option("workdir").unwrap(), "/w");
        assert_eq!(mount.option("upper"), None);
    }

    #[test]
    fn device_numbers_are_those_of_stat() {
        assert_eq!(device(0, 44), 44);
        assert_eq!(device(8, 1), 0x801);
        assert_eq!(device(0, 300), 0x10_002c);
    }
}
