//! How a program dies: what it says on stderr, and its exit code.

/// Perl's `die` within a worker, and where errno says nothing (§1, exit codes).
pub(crate) const WORKER: u8 = 255;
/// `ENOENT`, stale from a file that was looked for (§1: seen for status, config, destroy, exec, set).
pub(crate) const STALE: u8 = 2;

#[derive(Debug)]
pub(crate) struct Death {
    pub(crate) code: u8,
    /// With its newline.
    pub(crate) text: String,
    /// The result of a worker, which has a code of its own.
    pub(crate) of_task: bool,
}

impl Death {
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Self {
        Death { code, text: text.into(), of_task: false }
    }

    /// `die "…\n"`.
    pub(crate) fn worker(text: impl std::fmt::Display) -> Self {
        Death::new(WORKER, format!("{text}\n"))
    }

    pub(crate) fn stale(text: impl std::fmt::Display) -> Self {
        Death::new(STALE, format!("{text}\n"))
    }

    /// An operating system's error where the real program's words are not known.
    pub(crate) fn system(doing: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Death::worker(format!("{doing}: {error}"))
    }

    /// §1, parameter errors: the faults, one a line, and the usage.
    pub(crate) fn parameters(faults: &[(String, String)], usage: &str) -> Self {
        let mut text = "400 Parameter verification failed.\n".to_owned();
        for (parameter, reason) in faults {
            text.push_str(&format!("{parameter}: {reason}\n"));
        }
        if !usage.is_empty() {
            text.push_str(&format!("{usage}\n"));
        }
        Death::new(WORKER, text)
    }

    pub(crate) fn parameter(parameter: &str, reason: impl Into<String>) -> Self {
        Death::parameters(&[(parameter.to_owned(), reason.into())], "")
    }

    pub(crate) fn say(&self) {
        eprint!("{}", self.text);
    }

    /// Without its newline, for another message that has it inside.
    pub(crate) fn words(&self) -> &str {
        self.text.trim_end_matches('\n')
    }
}
