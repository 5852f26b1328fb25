//! What the payload said: one line of JSON per command.

use crate::{Finished, Stop, Value};
use std::ops::Index;

/// One line of the payload.
#[derive(Clone, Debug)]
pub struct Report(pub Value);

/// A finished `run`.
pub struct Ran {
    pub finished: Finished,
}

impl Report {
    pub(crate) fn lines(text: &str) -> Result<Vec<Report>, Stop> {
        text.lines()
            .map(|line| {
                serde_json::from_str(line).map(Report).map_err(|error| {
                    Stop::failed(format!("the payload printed something else than JSON: {error}: {line:?}"))
                })
            })
            .collect()
    }

    /// The string at a JSON pointer, empty where there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The errno that refused this command, empty where it worked.
    pub fn errno(&self) -> &str {
        self.text("/errno")
    }

    /// The list of strings at a JSON pointer.
    pub fn list(&self, pointer: &str) -> Vec<&str> {
        self.0.pointer(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// A hexadecimal mask at a JSON pointer.
    pub fn mask(&self, pointer: &str) -> u64 {
        u64::from_str_radix(self.text(pointer), 16).unwrap_or(u64::MAX)
    }

    /// The topmost mount at this place, as one object; null where none is.
    pub fn mount(&self, target: &str) -> Report {
        let found = self.0["mounts"].as_array().into_iter().flatten().rfind(|mount| mount["target"] == target);
        Report(found.cloned().unwrap_or(Value::Null))
    }

    /// True where the mount at `target` carries this option, its own or the super block's.
    pub fn has_option(&self, target: &str, option: &str) -> bool {
        let mount = self.mount(target);
        mount.list("/options").contains(&option) || mount.list("/super").contains(&option)
    }
}

impl<'a> Index<&'a str> for Report {
    type Output = Value;

    fn index(&self, key: &'a str) -> &Value {
        &self.0[key]
    }
}

impl Ran {
    pub(crate) fn new(finished: Finished) -> Self {
        Ran { finished }
    }

    pub fn code(&self) -> Option<i32> {
        self.finished.code()
    }

    /// Every line the payload printed, one per command.
    pub fn lines(&self) -> Result<Vec<Report>, Stop> {
        Report::lines(&self.finished.stdout)
    }

    /// Exactly this many lines.
    pub fn all<const N: usize>(&self) -> Result<[Report; N], Stop> {
        let lines = self.lines()?;
        let count = lines.len();
        lines
            .try_into()
            .map_err(|_| Stop::failed(format!("the payload printed {count} lines instead of {N}: {}", self.finished)))
    }

    /// The first line.
    pub fn report(&self) -> Result<Report, Stop> {
        let first = self.lines()?.into_iter().next();
        first.ok_or_else(|| Stop::failed(format!("the payload printed nothing: {}", self.finished)))
    }
}
