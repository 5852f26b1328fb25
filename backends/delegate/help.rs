//! What the other program understands, by its own help: versions differ, and what one lacks is refused by name.
//!
//! Asked only where an option is given that not every version of every runtime has.

use crate::child::Call;
use std::path::Path;
use std::time::Duration;
use wharf_core::{Result, Unsupported};

/// The help of one verb.
#[derive(Debug)]
pub(crate) struct Help<'a> {
    verb: &'a str,
    backend: &'a str,
    text: String,
}

impl<'a> Help<'a> {
    /// One that fails to help with a verb does not have it.
    pub(crate) fn ask(
        backend: &'a str,
        program: &Path,
        verb: &'a str,
        preserved: u32,
        limit: Duration,
    ) -> Result<Self> {
        let doing = format!("ask {backend} for the options of {verb}");
        let finished = Call::bare(program).preserving(preserved).args([verb, "--help"]).capture(&doing, Some(limit))?;
        let text = match finished.success {
            true => String::from_utf8_lossy(&finished.stdout).into_owned() + &finished.stderr,
            false => String::new(),
        };
        Ok(Help { verb, backend, text })
    }

    /// Whether the option, written without its dashes, is in it.
    pub(crate) fn has(&self, option: &str) -> bool {
        let word = format!("--{option}");
        let goes_on = |rest: &str| rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-');
        self.text.match_indices(&word).any(|(at, _)| !goes_on(&self.text[at + word.len()..]))
    }

    pub(crate) fn says(&self, words: &str) -> bool {
        self.text.contains(words)
    }

    /// Refuses an option by name unless the program has it.
    pub(crate) fn require(&self, option: &str, instead: &str) -> Result<()> {
        if self.has(option) {
            return Ok(());
        }
        self.refuse(&format!("--{option}"), instead)
    }

    pub(crate) fn refuse(&self, what: &str, instead: &str) -> Result<()> {
        Err(Unsupported { verb: &format!("{} {what}", self.verb), backend: self.backend, instead }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_a_whole_word_in_both_forms_of_help() {
        let text = "   --memory-swap value  swap\n  -d, --detach  no\n      --cgroup=PATH  sub-cgroup\n".to_owned();
        let help = Help { verb: "exec", backend: "other", text };
        for (option, known) in [("memory", false), ("memory-swap", true), ("detach", true), ("cgroup", true)] {
            assert_eq!(help.has(option), known, "{option}");
        }
        let error = help.require("ignore-paused", "resume it first").unwrap_err().to_string();
        assert_eq!(error, "exec --ignore-paused on the other backend: is not supported (resume it first)");
    }
}
