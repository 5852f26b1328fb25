//! The mount options of runtime-spec (config.md, "Linux mount options"): one table.

use crate::namespaces::Mapping;
use wharf_core::{Error, Result};

/// What a list of options comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `MS_*` flags for mount(2): of the file system and of the mount.
    pub flags: u64,
    /// Attributes of the mount (`MOUNT_ATTR_*`), set and cleared.
    pub set: u64,
    pub clear: u64,
    /// The same for the mount and all below it.
    pub recursive_set: u64,
    pub recursive_clear: u64,
    /// `MS_PRIVATE` and its kind, with `MS_REC` where it goes for all below; 0 where nothing is asked.
    pub propagation: u64,
    /// `bind` or `rbind`
    pub bind: bool,
    /// `rbind`
    pub recursive: bool,
    pub remount: bool,
    pub copy_up: bool,
    /// Options for the file system itself, in order.
    pub data: Vec<String>,
    /// The first option of the file system as a whole (`sync`), which a bind mount cannot have.
    pub superblock: Option<String>,
    /// `idmap` or `ridmap`
    pub idmap: Option<Idmap>,
}

/// How the owners of files are to be mapped. Without mappings it is for other properties to say by what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Idmap {
    /// `ridmap`: in the mounts below, too.
    pub recursive: bool,
    /// Mappings of the option itself, in crun's words; true where `outside` is an id of the container.
    pub uids: Vec<(Mapping, bool)>,
    pub gids: Vec<(Mapping, bool)>,
}

pub const MS_RDONLY: u64 = 1;
const MS_NOSUID: u64 = 2;
const MS_NODEV: u64 = 4;
const MS_NOEXEC: u64 = 8;
const MS_SYNCHRONOUS: u64 = 16;
pub const MS_REMOUNT: u64 = 32;
const MS_MANDLOCK: u64 = 64;
const MS_DIRSYNC: u64 = 128;
const MS_NOSYMFOLLOW: u64 = 256;
const MS_NOATIME: u64 = 1024;
const MS_NODIRATIME: u64 = 2048;
pub const MS_BIND: u64 = 4096;
pub const MS_REC: u64 = 16384;
const MS_SILENT: u64 = 32768;
pub const MS_UNBINDABLE: u64 = 1 << 17;
pub const MS_PRIVATE: u64 = 1 << 18;
pub const MS_SLAVE: u64 = 1 << 19;
pub const MS_SHARED: u64 = 1 << 20;
const MS_RELATIME: u64 = 1 << 21;
const MS_I_VERSION: u64 = 1 << 23;
const MS_STRICTATIME: u64 = 1 << 24;
const MS_LAZYTIME: u64 = 1 << 25;

const ATTR_RDONLY: u64 = 0x01;
const ATTR_NOSUID: u64 = 0x02;
const ATTR_NODEV: u64 = 0x04;
const ATTR_NOEXEC: u64 = 0x08;
const ATTR_ATIME: u64 = 0x70;
const ATTR_RELATIME: u64 = 0x00;
const ATTR_NOATIME: u64 = 0x10;
const ATTR_STRICTATIME: u64 = 0x20;
const ATTR_NODIRATIME: u64 = 0x80;
const ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

#[derive(Clone, Copy)]
enum Meaning {
    /// Nothing to do: it is what happens anyway.
    Default,
    /// An attribute of the mount: the `MS_*` flag and the attribute, to set or to clear.
    Set(u64, u64),
    Clear(u64, u64),
    /// A way of access times: the flag and its attribute.
    Atime(u64, u64),
    /// The same for all below.
    RecursiveSet(u64),
    RecursiveClear(u64),
    RecursiveAtime(u64),
    /// A flag of the file system, to set or to clear.
    Superblock(u64),
    ClearSuperblock(u64),
    Propagation(u64),
    Bind {
        recursive: bool,
    },
    Remount,
    CopyUp,
    MapOwners {
        recursive: bool,
    },
}

use Meaning::*;

/// Sorted by name.
const TABLE: &[(&str, Meaning)] = &[
    ("async", ClearSuperblock(MS_SYNCHRONOUS)),
    ("atime", Clear(MS_NOATIME, ATTR_NOATIME)),
    ("bind", Bind { recursive: false }),
    ("defaults", Default),
    ("dev", Clear(MS_NODEV, ATTR_NODEV)),
    ("diratime", Clear(MS_NODIRATIME, ATTR_NODIRATIME)),
    ("dirsync", Superblock(MS_DIRSYNC)),
    ("exec", Clear(MS_NOEXEC, ATTR_NOEXEC)),
    ("idmap", MapOwners { recursive: false }),
    ("iversion", Superblock(MS_I_VERSION)),
    ("lazytime", Superblock(MS_LAZYTIME)),
    ("loud", ClearSuperblock(MS_SILENT)),
    ("mand", Superblock(MS_MANDLOCK)),
    ("noatime", Atime(MS_NOATIME, ATTR_NOATIME)),
    ("nodev", Set(MS_NODEV, ATTR_NODEV)),
    ("nodiratime", Set(MS_NODIRATIME, ATTR_NODIRATIME)),
    ("noexec", Set(MS_NOEXEC, ATTR_NOEXEC)),
    ("noiversion", ClearSuperblock(MS_I_VERSION)),
    ("nolazytime", ClearSuperblock(MS_LAZYTIME)),
    ("nomand", ClearSuperblock(MS_MANDLOCK)),
    ("norelatime", Atime(MS_RELATIME, ATTR_RELATIME)),
    ("nostrictatime", Atime(MS_RELATIME, ATTR_RELATIME)),
    ("nosuid", Set(MS_NOSUID, ATTR_NOSUID)),
    ("nosymfollow", Set(MS_NOSYMFOLLOW, ATTR_NOSYMFOLLOW)),
    ("private", Propagation(MS_PRIVATE)),
    ("ratime", RecursiveAtime(ATTR_RELATIME)),
    ("rbind", Bind { recursive: true }),
    ("rdev", RecursiveClear(ATTR_NODEV)),
    ("rdiratime", RecursiveClear(ATTR_NODIRATIME)),
    ("relatime", Atime(MS_RELATIME, ATTR_RELATIME)),
    ("remount", Remount),
    ("rexec", RecursiveClear(ATTR_NOEXEC)),
    ("ridmap", MapOwners { recursive: true }),
    ("rnoatime", RecursiveAtime(ATTR_NOATIME)),
    ("rnodev", RecursiveSet(ATTR_NODEV)),
    ("rnodiratime", RecursiveSet(ATTR_NODIRATIME)),
    ("rnoexec", RecursiveSet(ATTR_NOEXEC)),
    ("rnorelatime", RecursiveAtime(ATTR_RELATIME)),
    ("rnostrictatime", RecursiveAtime(ATTR_RELATIME)),
    ("rnosuid", RecursiveSet(ATTR_NOSUID)),
    ("rnosymfollow", RecursiveSet(ATTR_NOSYMFOLLOW)),
    ("ro", Set(MS_RDONLY, ATTR_RDONLY)),
    ("rprivate", Propagation(MS_PRIVATE | MS_REC)),
    ("rrelatime", RecursiveAtime(ATTR_RELATIME)),
    ("rro", RecursiveSet(ATTR_RDONLY)),
    ("rrw", RecursiveClear(ATTR_RDONLY)),
    ("rshared", Propagation(MS_SHARED | MS_REC)),
    ("rslave", Propagation(MS_SLAVE | MS_REC)),
    ("rstrictatime", RecursiveAtime(ATTR_STRICTATIME)),
    ("rsuid", RecursiveClear(ATTR_NOSUID)),
    ("rsymfollow", RecursiveClear(ATTR_NOSYMFOLLOW)),
    ("runbindable", Propagation(MS_UNBINDABLE | MS_REC)),
    ("rw", Clear(MS_RDONLY, ATTR_RDONLY)),
    ("shared", Propagation(MS_SHARED)),
    ("silent", Superblock(MS_SILENT)),
    ("slave", Propagation(MS_SLAVE)),
    ("strictatime", Atime(MS_STRICTATIME, ATTR_STRICTATIME)),
    ("suid", Clear(MS_NOSUID, ATTR_NOSUID)),
    ("symfollow", Clear(MS_NOSYMFOLLOW, ATTR_NOSYMFOLLOW)),
    ("sync", Superblock(MS_SYNCHRONOUS)),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagation(MS_UNBINDABLE)),
];

/// The options that are honoured, for `features`.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// The `MS_*` flags of a mount, for people.
pub(crate) fn shown(flags: u64) -> Vec<&'static str> {
    [
        (MS_RDONLY, "ro"),
        (MS_NOSUID, "nosuid"),
        (MS_NODEV, "nodev"),
        (MS_NOEXEC, "noexec"),
        (MS_SYNCHRONOUS, "sync"),
        (MS_NOATIME, "noatime"),
        (MS_STRICTATIME, "strictatime"),
    ]
    .into_iter()
    .filter(|(flag, _)| flags & flag != 0)
    .map(|(_, name)| name)
    .collect()
}

/// Reads a mount's options, in order: a later one wins over an earlier. `pointer` is that of the list.
pub fn parse(options: &[String], pointer: &str) -> Result<Options> {
    let mut all = Options::default();
    for (index, option) in options.iter().enumerate() {
        match TABLE.binary_search_by_key(&option.as_str(), |(name, _)| name) {
            Ok(found) => all.add(option, TABLE[found].1),
            // It asks for nothing. Podman 5 sends one for each tmpfs of --systemd, where there is no SELinux label for it.
            Err(_) if option.is_empty() => {}
            Err(_) => match option.split_once('=') {
                Some((name @ ("idmap" | "ridmap"), mappings)) => {
                    let idmap = idmap(name == "ridmap", mappings);
                    all.idmap = Some(idmap.ok_or_else(|| {
                        Error::invalid(format!("mount option {option}"))
                            .because("its mappings are not of the form uids=0-1000-1;gids=0-1000-1")
                            .at(format!("{pointer}/{index}"))
                    })?);
                }
                _ => all.data.push(option.clone()),
            },
        }
    }
    Ok(all)
}

/// Mappings within a mount option, as crun has them: `uids=0-1000-10#500-2000-1;gids=@0-1000-10`, each of an id in the
/// file system, an id of the host or, after `@`, of the container, and how many there are.
fn idmap(recursive: bool, text: &str) -> Option<Idmap> {
    let mut all = Idmap { recursive, ..Idmap::default() };
    for part in text.split(';') {
        let (name, list) = part.split_once('=')?;
        let into = match name {
            "uids" => &mut all.uids,
            "gids" => &mut all.gids,
            _ => return None,
        };
        for one in list.split('#') {
            let (one, relative) = one.strip_prefix('@').map_or((one, false), |one| (one, true));
            let mut numbers = one.split('-').map(|number| number.parse::<u32>().ok());
            let (inside, outside, size) = (numbers.next()??, numbers.next()??, numbers.next()??);
            let last = |first: u32| first.checked_add(size.checked_sub(1)?);
            if numbers.next().is_some() || last(inside).is_none() || last(outside).is_none() {
                return None;
            }
            into.push((Mapping { inside, outside, size }, relative));
        }
    }
    (!all.uids.is_empty() && !all.gids.is_empty()).then_some(all)
}

impl Options {
    fn add(&mut self, name: &str, meaning: Meaning) {
        const ATIME_FLAGS: u64 = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;
        match meaning {
            Default => {}
            Set(flag, attribute) => {
                self.flags |= flag;
                self.set |= attribute;
                self.clear &= !attribute;
            }
            // Access times are one field of three values: to clear one is to ask for the default.
            Clear(MS_NOATIME, _) => {
                self.flags &= !ATIME_FLAGS;
                self.set &= !ATTR_ATIME;
                self.clear |= ATTR_ATIME;
            }
            Clear(flag, attribute) => {
                self.flags &= !flag;
                self.set &= !attribute;
                self.clear |= attribute;
            }
            Atime(flag, attribute) => {
                self.flags = self.flags & !ATIME_FLAGS | flag;
                self.set = self.set & !ATTR_ATIME | attribute;
                self.clear |= ATTR_ATIME;
            }
            RecursiveSet(attribute) => {
                self.recursive_set |= attribute;
                self.recursive_clear &= !attribute;
            }
            RecursiveClear(attribute) => {
                self.recursive_set &= !attribute;
                self.recursive_clear |= attribute;
            }
            RecursiveAtime(attribute) => {
                self.recursive_set = self.recursive_set & !ATTR_ATIME | attribute;
                self.recursive_clear |= ATTR_ATIME;
            }
            Superblock(flag) => {
                self.flags |= flag;
                self.superblock.get_or_insert(name.to_owned());
            }
            ClearSuperblock(flag) => self.flags &= !flag,
            Propagation(kind) => self.propagation = kind,
            Bind { recursive } => {
                self.bind = true;
                self.recursive |= recursive;
            }
            Remount => self.remount = true,
            CopyUp => self.copy_up = true,
            MapOwners { recursive } => self.idmap = Some(Idmap { recursive, ..Idmap::default() }),
        }
    }

    /// Takes `ro` back.
    pub fn read_write(&mut self) {
        self.flags &= !MS_RDONLY;
        self.set &= !ATTR_RDONLY;
    }

    /// Whether one call of mount(2) can do it.
    pub fn is_simple(&self) -> bool {
        self.recursive_set | self.recursive_clear | self.propagation == 0 && !self.copy_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> Options {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        parse(&options, "mounts/0/options").unwrap()
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(TABLE.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn a_later_option_wins() {
        assert_eq!(of(&["ro", "rw"]).flags & MS_RDONLY, 0);
        assert_eq!(of(&["rw", "ro"]).set, ATTR_RDONLY);
        let mut options = of(&["ro", "nosuid"]);
        options.read_write();
        assert_eq!((options.flags, options.set), (of(&["nosuid"]).flags, of(&["nosuid"]).set));
        assert_eq!(of(&["noatime", "strictatime"]).set & ATTR_ATIME, ATTR_STRICTATIME);
        assert_eq!(of(&["private", "rshared"]).propagation, MS_SHARED | MS_REC);
    }

    #[test]
    fn what_the_table_does_not_know_goes_to_the_file_system() {
        assert_eq!(of(&["nosuid", "mode=755", "size=64k"]).data, ["mode=755", "size=64k"]);
    }

    #[test]
    fn an_empty_option_asks_for_nothing() {
        assert_eq!(of(&["nosuid", "", "size=64k", ""]), of(&["nosuid", "size=64k"]));
    }

    #[test]
    fn mappings_in_an_option_are_read_as_crun_reads_them() {
        let read = of(&["bind", "ridmap=uids=0-1000-10#500-7-1;gids=@0-5-1"]);
        let map = |inside, outside, size| Mapping { inside, outside, size };
        let idmap = read.idmap.unwrap();
        assert!(idmap.recursive && read.data.is_empty());
        assert_eq!(idmap.uids, [(map(0, 1000, 10), false), (map(500, 7, 1), false)]);
        assert_eq!(idmap.gids, [(map(0, 5, 1), true)]);
        for wrong in ["idmap=", "idmap=uids=0-1-1", "idmap=uids=0-1-0;gids=0-1-1", "idmap=uids=0-1-1-1;gids=0-1-1"] {
            let error = parse(&["ro".to_owned(), wrong.to_owned()], "mounts/3/options").unwrap_err();
            assert_eq!(error.pointer(), Some("mounts/3/options/1"));
        }
        assert_eq!(of(&["idmap"]).idmap, Some(Idmap::default()));
    }

    #[test]
    fn recursive_attributes_are_kept_apart() {
        let options = of(&["rbind", "rro", "rnosuid", "rdev"]);
        assert!(options.bind && options.recursive && !options.is_simple());
        assert_eq!(options.recursive_set, ATTR_RDONLY | ATTR_NOSUID);
        assert_eq!(options.recursive_clear, ATTR_NODEV);
        assert_eq!(options.set, 0);
    }
}
