//! Why `zfs` did not: a cause that programs can decide by, and what to do about it.

use std::fmt;
use wharf_core::{Error, Kind};

pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// What a program may decide by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The program `zfs` is not installed.
    Missing,
    /// The kernel has no ZFS, or /dev/zfs is not there.
    NoModule,
    NotPermitted,
    NoSuchDataset,
    NoSuchPool,
    NoParent,
    /// The name is taken.
    Exists,
    /// The pool has no space left.
    Full,
    /// A quota of this dataset is used up.
    Quota(String),
    Busy,
    Held,
    /// Newer snapshots and bookmarks are in the way of a rollback.
    Newer(Vec<String>),
    /// These depend on it.
    Clones(Vec<String>),
    Children(Vec<String>),
    TooLong,
    /// The pool has lost its devices and waits for them.
    Suspended,
    /// What is received is damaged, or does not continue what is there.
    Stream,
    /// It has another GUID than was said: another one by the same name.
    Another,
    /// Nothing heard within the time limit. What was asked for may have been done.
    NoAnswer,
    Other,
}

/// A failure of one call.
#[derive(Debug)]
pub struct Fault {
    cause: Cause,
    words: String,
    doing: String,
    hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(cause: Cause, doing: &str, words: &str) -> Self {
        Fault { cause, doing: doing.to_owned(), words: words.to_owned(), hint: None }
    }

    /// By its own words, in the C locale.
    pub(crate) fn said(doing: &str, words: &str) -> Self {
        Self::new(cause(words), doing, words)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with a cause that was looked at more closely.
    pub(crate) fn turned(mut self, cause: Cause) -> Self {
        self.cause = cause;
        self
    }

    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// What `zfs` said, unchanged: for details, never for the last line of stderr, in which engines look for words.
    pub fn words(&self) -> &str {
        &self.words
    }

    fn why(&self) -> String {
        let names = |names: &[String]| names.join(", ");
        match &self.cause {
            Cause::Missing => "the program zfs is not installed".into(),
            Cause::NoModule => "this kernel has no ZFS, or /dev/zfs is not there".into(),
            Cause::NotPermitted => "ZFS does not let this user do it".into(),
            Cause::NoSuchDataset => "there is no such dataset".into(),
            Cause::NoSuchPool => "there is no such pool".into(),
            Cause::NoParent => "there is no dataset to put it below".into(),
            Cause::Exists => "the name is taken".into(),
            Cause::Full => "the pool is full".into(),
            Cause::Quota(dataset) => format!("the quota of {dataset} is used up"),
            Cause::Busy => "it is in use".into(),
            Cause::Held => "it is held".into(),
            Cause::Newer(list) => format!("newer snapshots are in the way: {}", names(list)),
            Cause::Clones(list) => format!("clones depend on it: {}", names(list)),
            Cause::Children(list) => format!("there is more below it: {}", names(list)),
            Cause::TooLong => "the name would be longer than the 255 bytes of ZFS".into(),
            Cause::Suspended => "the pool waits for its devices".into(),
            Cause::Stream => format!("zfs does not take the stream: {}", neutral(&self.words)),
            Cause::Another => "it is another one by the same name".into(),
            Cause::NoAnswer | Cause::Other => neutral(&self.words),
        }
    }

    fn advice(&self) -> Option<&str> {
        self.hint.as_deref().or(match &self.cause {
            Cause::Missing => Some("install the package zfsutils-linux"),
            Cause::NoModule => Some("modprobe zfs"),
            Cause::Full => Some("make space in the pool; snapshots that are not needed hold some of it"),
            Cause::Quota(_) => Some("raise the quota, or make space below it"),
            Cause::Held => Some("zfs holds tells by whom"),
            Cause::Newer(_) => Some("restore to a clone, or destroy them first"),
            Cause::Suspended => Some("zpool status tells what it waits for"),
            _ => None,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.why())
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        let kind = match fault.cause {
            Cause::TooLong => Kind::Usage,
            Cause::Newer(_) | Cause::Clones(_) | Cause::Children(_) | Cause::Held => Kind::WrongStatus,
            _ => Kind::System,
        };
        let error = Error::new(kind, &fault.doing).because(fault.why());
        match fault.advice() {
            Some(advice) => error.hint(advice),
            None => error,
        }
    }
}

/// On one line, without the words that engines take for news of the payload.
fn neutral(words: &str) -> String {
    let line = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    let mut line: String = line.chars().take(500).collect();
    for (told, instead) in [
        ("No such file or directory", "ENOENT"),
        ("no such file or directory", "ENOENT"),
        ("Permission denied", "EACCES"),
        ("permission denied", "EACCES"),
        ("Operation not permitted", "EPERM"),
        ("operation not permitted", "EPERM"),
        ("No such process", "ESRCH"),
        ("does not exist", "is not there"),
    ] {
        line = line.replace(told, instead);
    }
    line
}

/// The texts are those of libzfs 2.0 to 2.3.
fn cause(words: &str) -> Cause {
    let has = |part: &str| words.contains(part);
    let named = || {
        let list = words.lines().skip_while(|line| !line.starts_with("use '-")).skip(1);
        list.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect::<Vec<_>>()
    };
    if has("ZFS modules cannot be auto-loaded")
        || has("ZFS modules are not loaded")
        || has("/dev/zfs and /proc/self/mounts")
    {
        Cause::NoModule
    } else if has("more recent snapshots or bookmarks exist") {
        Cause::Newer(named())
    } else if has("has dependent clones") || has("clones of previous snapshots exist") {
        Cause::Clones(named())
    } else if has("filesystem has children") {
        Cause::Children(named())
    } else if has("it's being held") {
        Cause::Held
    } else if has("currently suspended") {
        Cause::Suspended
    } else if has("quota exceeded") || has("quota is reached") {
        Cause::Quota(String::new())
    } else if has("out of space") || has("No space left") {
        Cause::Full
    } else if has("is busy") {
        Cause::Busy
    } else if has("no such pool") || has("missing dataset name") {
        Cause::NoSuchPool
    } else if has("parent does not exist") {
        Cause::NoParent
    } else if has("already exists") || has("destination '") && has("' exists") {
        Cause::Exists
    } else if has("name is too long") {
        Cause::TooLong
    } else if has("permission denied") || has("Permission denied") || has("may only be mounted by root") {
        Cause::NotPermitted
    } else if has("incremental stream")
        || has("invalid stream")
        || has("failed to read from stream")
        || has("checksum mismatch")
        || has("incremental source")
        || has("has been modified")
        || has("incomplete stream")
        || has("most recent snapshot")
        || has("stream has unsupported feature")
        || has("pool must be upgraded")
    {
        Cause::Stream
    } else if has("dataset does not exist") || has("could not find any snapshots") {
        Cause::NoSuchDataset
    } else {
        Cause::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_zfs_says_has_a_cause() {
        for (words, expected) in [
            ("cannot create snapshot 'tank/a@x': dataset already exists", Cause::Exists),
            ("cannot open 'tank/b': dataset does not exist", Cause::NoSuchDataset),
            (
                "cannot destroy snapshot tank/a@x: it's being held. Run 'zfs holds -r tank/a@x' to see holders.",
                Cause::Held,
            ),
            (
                "cannot rollback to 'tank/a@x': more recent snapshots or bookmarks exist\n\
                 use '-r' to force deletion of the following snapshots and bookmarks:\ntank/a@y\ntank/a#b",
                Cause::Newer(vec!["tank/a@y".into(), "tank/a#b".into()]),
            ),
            (
                "cannot destroy 'tank/a': snapshot has dependent clones\nuse '-R' to destroy the following datasets:\ntank/c",
                Cause::Clones(vec!["tank/c".into()]),
            ),
            ("cannot create snapshots : permission denied", Cause::NotPermitted),
            ("cannot create snapshots : out of space", Cause::Full),
            ("cannot create 'nopool/x': no such pool 'nopool'", Cause::NoSuchPool),
            ("cannot create 'tank/no/x': parent does not exist", Cause::NoParent),
            ("cannot unmount '/tank/b': pool or dataset is busy", Cause::Busy),
            ("cannot destroy 'tank/b': dataset is busy", Cause::Busy),
            ("cannot receive: failed to read from stream", Cause::Stream),
            ("cannot receive incremental stream: destination 'tank/x' does not exist", Cause::Stream),
            ("internal error: something new", Cause::Other),
        ] {
            assert_eq!(cause(words), expected, "{words}");
        }
    }

    #[test]
    fn words_that_engines_look_for_do_not_get_into_the_message() {
        let error = Error::from(Fault::said("list tank", "couldn't run it: No such file or directory\nmore"));
        assert_eq!(error.to_string(), "list tank: couldn't run it: ENOENT; more");
    }

    #[test]
    fn what_is_in_the_way_is_listed() {
        let fault = Fault::new(Cause::Newer(vec!["a@y".into(), "a@z".into()]), "roll a back to x", "");
        let expected = "roll a back to x: newer snapshots are in the way: a@y, a@z \
                        (restore to a clone, or destroy them first)";
        assert_eq!(Error::from(fault).to_string(), expected);
    }
}
