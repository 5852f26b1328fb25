//! One error per failure: what was being done, to what, why it failed, and where it was asked for.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a program may decide by. Fixes the exit code and the words that engines match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line is wrong (exit code 2).
    Usage,
    /// No container of that id: says "does not exist".
    NoSuchContainer,
    /// The id is taken.
    Exists,
    /// The container's process is gone: says "container not running".
    NotRunning,
    /// The verb is not allowed in this status.
    WrongStatus,
    /// config.json or another input is malformed or contradicts itself.
    Invalid,
    /// A field, flag or value that this backend does not honour.
    Unsupported,
    /// The payload's executable was not found (`run` exits 127).
    CommandNotFound,
    /// The payload's executable was found and cannot be executed (`run` exits 126).
    CommandNotExecutable,
    /// The kernel or another program refused.
    System,
}

/// An error, printed as *doing: why [where in config.json]* and then a hint where there is one.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    doing: String,
    why: Option<String>,
    errno: Option<i32>,
    at: Option<String>,
    hint: Option<String>,
}

impl Error {
    /// `doing` names the object: `mount tmpfs on /dev`, `container c1`.
    pub fn new(kind: Kind, doing: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, doing: doing.into(), why: None, errno: None, at: None, hint: None }))
    }

    /// An input that is wrong in itself.
    pub fn invalid(doing: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, doing)
    }

    /// A property or flag that is refused by name.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, what)
    }

    /// A call that the kernel refused with `errno`.
    pub fn system(doing: impl Into<String>, errno: i32) -> Self {
        Self::new(Kind::System, doing).errno(errno)
    }

    /// The cause in words.
    pub fn because(mut self, why: impl fmt::Display) -> Self {
        self.0.why = Some(why.to_string());
        self
    }

    /// The cause as an errno; its text becomes the cause in words.
    pub fn errno(mut self, errno: i32) -> Self {
        self.0.errno = Some(errno);
        self.0.why = Some(errno_text(errno));
        self
    }

    /// Where in config.json it was asked for, as a JSON pointer without the leading slash.
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.0.at.get_or_insert(pointer.into());
        self
    }

    /// The pointer from a place inside config.json on, for an input that is only that part.
    pub fn below(mut self, place: &str) -> Self {
        if let Some(rest) = self.0.at.as_deref().and_then(|at| at.strip_prefix(place)) {
            self.0.at = Some(rest.to_owned());
        }
        self
    }

    /// The same error at another place.
    pub fn moved_to(mut self, pointer: impl Into<String>) -> Self {
        self.0.at = Some(pointer.into());
        self
    }

    /// What the reader can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn raw_errno(&self) -> Option<i32> {
        self.0.errno
    }

    /// What failed and why, without the place and the hint.
    pub fn reason(&self) -> String {
        match &self.0.why {
            Some(why) => format!("{}: {why}", self.0.doing),
            None => self.0.doing.clone(),
        }
    }

    /// What the reader can do about it, where the error says so.
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The config pointer, where the error has one.
    pub fn pointer(&self) -> Option<&str> {
        self.0.at.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.doing)?;
        if let Some(why) = &self.0.why {
            write!(f, ": {why}")?;
        }
        if let Some(at) = &self.0.at {
            write!(f, " [{at}]")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The C library's words for an errno: `Permission denied`.
pub fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    match text.rfind(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_doing_why_where_and_hint() {
        let error = Error::system("mount tmpfs on /dev (nosuid)", 13).at("mounts/1").hint("run as root");
        assert_eq!(error.to_string(), "mount tmpfs on /dev (nosuid): Permission denied [mounts/1] (run as root)");
        assert_eq!(error.raw_errno(), Some(13));
    }

    #[test]
    fn the_innermost_pointer_wins() {
        let error = Error::invalid("bad value").at("mounts/1/options/0").at("mounts");
        assert_eq!(error.pointer(), Some("mounts/1/options/0"));
    }
}
