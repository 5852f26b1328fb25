//! Who has the other end of a payload's terminal.

use crate::{Error, Result};
use std::path::Path;

/// What `process.terminal` and the options come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal<'a> {
    /// The payload has none: its standard descriptors are the caller's.
    None,
    /// Whoever listens at `--console-socket`.
    Socket(&'a Path),
    /// This process, which is in the foreground.
    Foreground,
}

impl<'a> Terminal<'a> {
    /// Refuses what would leave a terminal without its other end, or a socket without a terminal, as runc does.
    /// `wanted` is `process.terminal`, `foreground` that this process waits for the payload's end.
    pub fn judge(wanted: bool, socket: Option<&'a Path>, foreground: bool) -> Result<Self> {
        let with = |socket: &Path| format!("--console-socket {}", socket.display());
        match (wanted, socket, foreground) {
            (false, None, _) => Ok(Terminal::None),
            (true, Some(socket), false) => Ok(Terminal::Socket(socket)),
            (true, None, true) => Ok(Terminal::Foreground),
            (false, Some(socket), _) => Err(Error::invalid(with(socket)).because("the process has no terminal")),
            (true, Some(socket), true) => Err(Error::invalid(with(socket))
                .because("the terminal's other end is in the foreground")
                .hint("give --detach too")),
            (true, None, false) => Err(Error::invalid("a terminal")
                .because("nobody would have its other end")
                .hint("give --console-socket, or run in the foreground")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_exactly_one_other_end() {
        let socket = Some(Path::new("/s"));
        assert_eq!(Terminal::judge(false, None, true).unwrap(), Terminal::None);
        assert_eq!(Terminal::judge(true, socket, false).unwrap(), Terminal::Socket(Path::new("/s")));
        assert_eq!(Terminal::judge(true, None, true).unwrap(), Terminal::Foreground);
        let refused = |wanted, socket, foreground| Terminal::judge(wanted, socket, foreground).unwrap_err().to_string();
        assert_eq!(refused(false, socket, false), "--console-socket /s: the process has no terminal");
        assert_eq!(refused(false, socket, true), "--console-socket /s: the process has no terminal");
        assert!(refused(true, socket, true).contains("in the foreground (give --detach too)"));
        assert!(refused(true, None, false).contains("nobody would have its other end"));
    }
}
