//! newuidmap(1) and newgidmap(1): they write the id maps that an ordinary user may not write.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use wharf_core::{Error, Kind, Result};
use wharf_plan::Mapping;
use wharf_sys::process::{Ended, ExecStrings};
use wharf_sys::spawn::{self, Outcome};
use wharf_sys::{Errno, Fd, dir, fd};

/// Where they are looked for: they act with root's rights, so the caller's PATH has no say.
pub const PLACES: [&str; 5] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin"];
/// How long one of them may take, in milliseconds.
const PATIENCE: i32 = 10_000;

/// One of the two kinds of ids.
struct Kinds {
    program: &'static str,
    /// Who may map what.
    file: &'static str,
    option: &'static str,
    what: &'static str,
    property: &'static str,
}

const USERS: Kinds = Kinds {
    program: "newuidmap",
    file: "/etc/subuid",
    option: "--add-subuids",
    what: "user",
    property: "linux/uidMappings",
};
const GROUPS: Kinds = Kinds {
    program: "newgidmap",
    file: "/etc/subgid",
    option: "--add-subgids",
    what: "group",
    property: "linux/gidMappings",
};

/// Has the maps of the user namespace that `pid` is in written.
pub(super) fn map_ids(pid: i32, uids: &[Mapping], gids: &[Mapping]) -> Result<()> {
    let (uid, gid) = dir::effective_ids();
    one(&GROUPS, pid, gids, gid)?;
    one(&USERS, pid, uids, uid)
}

fn one(kinds: &Kinds, pid: i32, map: &[Mapping], own: u32) -> Result<()> {
    let numbers = map.iter().flat_map(|one| [one.inside, one.outside, one.size]);
    let words = [kinds.program.to_owned(), pid.to_string()].into_iter().chain(numbers.map(|number| number.to_string()));
    let words: Vec<CString> = words.map(|word| CString::new(word).unwrap_or_default()).collect();
    let doing = || format!("map {} ids by {}", kinds.what, kinds.program);
    let system = |errno: Errno| Error::system(doing(), errno as i32).at(kinds.property);
    let said = fd::memfd(c"said", false).map_err(system)?;
    for place in PLACES {
        let path = CString::new(format!("{place}/{}", kinds.program)).unwrap_or_default();
        match run(&path, &words, &said).map_err(system)? {
            Outcome::Ended(Ended::Exited(0)) => return Ok(()),
            Outcome::NotExecuted(Errno::ENOENT | Errno::ENOTDIR) => {}
            Outcome::NotExecuted(errno) => return Err(system(errno)),
            outcome => return Err(failed(kinds, map, own, outcome, &said)),
        }
    }
    Err(Error::new(Kind::System, doing())
        .because("it is not installed")
        .hint(format!("install it (package uidmap or shadow-utils), or map no id but your own, {own}"))
        .at(kinds.property))
}

fn run(path: &CStr, words: &[CString], said: &OwnedFd) -> Result<Outcome, Errno> {
    let arguments = ExecStrings::new(words.iter().map(CString::as_c_str));
    let output = Some(Fd(said.as_raw_fd()));
    let nothing = fd::memfd(c"nothing", false)?;
    spawn::run(path, &arguments, &ExecStrings::new([]), &nothing, [output, output], PATIENCE)
}

/// What it says on stderr is not told as it is: engines decide by words that may stand in it.
fn failed(kinds: &Kinds, map: &[Mapping], own: u32, outcome: Outcome, said: &OwnedFd) -> Error {
    let error = Error::new(Kind::System, format!("map {} ids by {}", kinds.what, kinds.program)).at(kinds.property);
    let code = match outcome {
        Outcome::TimedOut => return error.because("it did not end within 10 s and was killed"),
        Outcome::Ended(ended) => ended.code(),
        Outcome::NotExecuted(errno) => return error.errno(errno as i32),
    };
    let mut words = [0; 1024];
    let length = fd::read_at(said, &mut words, 0).unwrap_or(0);
    let words = String::from_utf8_lossy(&words[..length]);
    let table = std::fs::read_to_string(kinds.file).unwrap_or_default();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = dir::effective_uid();
    let name = wharf_core::user_name(&passwd, uid).map_or_else(|| uid.to_string(), str::to_owned);
    let ranges = ranges(&table, &name, uid);
    let give = || format!("as root: usermod {} 100000-165535 {name}; or map no id but your own, {own}", kinds.option);
    match map.iter().find(|one| !covered(one, own, &ranges)) {
        Some(_) if ranges.is_empty() => {
            error.because(format!("{name} has no range of ids in {}", kinds.file)).hint(give())
        }
        Some(one) => {
            let last = u64::from(one.outside) + u64::from(one.size) - 1;
            let ids = if one.size == 1 { one.outside.to_string() } else { format!("{} to {last}", one.outside) };
            let ranges: Vec<String> = ranges.iter().map(|(from, count)| format!("{from}:{count}")).collect();
            let why = format!("{ids} is not within the ranges of {name} in {}: {}", kinds.file, ranges.join(", "));
            error.because(why).hint(give())
        }
        None if words.contains("not permitted") => error.because("the kernel let it not write the map").hint(format!(
            "{} must be set-user-ID root or have its file capabilities, and no_new_privs must not be set",
            kinds.program
        )),
        None => error.because(format!("it ended with code {code}")),
    }
}

/// First id and count of what a user may map (subuid(5)).
fn ranges(table: &str, name: &str, uid: u32) -> Vec<(u64, u64)> {
    let uid = uid.to_string();
    let one = |line: &str| {
        let (owner, range) = line.split_once(':')?;
        let (from, count) = range.split_once(':')?;
        if owner != name && owner != uid {
            return None;
        }
        Some((from.trim().parse().ok()?, count.trim().parse().ok()?))
    };
    table.lines().filter_map(one).collect()
}

fn covered(one: &Mapping, own: u32, ranges: &[(u64, u64)]) -> bool {
    let (from, count) = (u64::from(one.outside), u64::from(one.size));
    one.outside == own && count == 1
        || ranges.iter().any(|(first, all)| from >= *first && from + count <= first.saturating_add(*all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_a_user_are_those_of_his_name_and_his_number() {
        let table = "# who\nroot:1:2\ntom:100000:65536\n1000:300000:10\ntommy:7:7\nbroken\n";
        let found = ranges(table, "tom", 1000);
        assert_eq!(found, [(100_000, 65536), (300_000, 10)]);
        let map = |outside, size| Mapping { inside: 0, outside, size };
        assert!(covered(&map(1000, 1), 1000, &[]) && !covered(&map(1000, 2), 1000, &[]));
        assert!(covered(&map(100_000, 65536), 1000, &found) && !covered(&map(100_001, 65536), 1000, &found));
    }
}
