//! Failures and, when asked for, more, in the file that the engine reads or on stderr. Silent on success.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use wharf_core::time::now_in_seconds;
use wharf_core::{Error, Kind, Level, Result};

#[derive(Debug)]
pub(crate) struct Log {
    /// None: stderr.
    file: Option<File>,
    json: bool,
    level: Level,
}

impl Log {
    /// `--log`, `--log-format json` and `--log-level`.
    pub(crate) fn open(path: Option<&Path>, json: bool, level: Level) -> Result<Self> {
        let file = match path {
            None => None,
            Some(path) => Some(File::options().append(true).create(true).open(path).map_err(|error| {
                let doing = format!("open log {}", path.display());
                match error.raw_os_error() {
                    Some(errno) => Error::system(doing, errno),
                    None => Error::new(Kind::System, doing).because(error),
                }
            })?),
        };
        Ok(Log { file, json, level })
    }

    /// Where failures go before the log is open, or when it cannot be.
    pub(crate) fn stderr(json: bool) -> Self {
        Log { file: None, json, level: Level::Error }
    }

    /// The one failure of this process: one object in the log, and the same text as the last line on stderr.
    pub(crate) fn failure(&self, error: &Error) {
        let message = one_line(&error.to_string());
        if self.file.is_some() || self.json {
            self.write(Level::Error, &message);
        }
        if self.file.is_some() || !self.json {
            to_stderr(&format!("wharf: error: {message}\n"));
        }
    }

    /// What went wrong on the way and did not stop us.
    pub(crate) fn warn(&self, message: impl FnOnce() -> String) {
        self.more(Level::Warn, message);
    }

    /// Each of many, gathered only where somebody reads them.
    pub(crate) fn warn_each(&self, messages: impl FnOnce() -> Vec<String>) {
        if Level::Warn <= self.level {
            messages().into_iter().for_each(|message| self.warn(|| message));
        }
    }

    pub(crate) fn debug(&self, message: impl FnOnce() -> String) {
        self.more(Level::Debug, message);
    }

    /// Where the time went, whatever is logged else: a table on stderr, one line in a file or for programs.
    pub(crate) fn times(&self, table: &str, record: impl FnOnce() -> serde_json::Value) {
        if self.file.is_none() && !self.json {
            return to_stderr(table);
        }
        let record = record();
        let what = record["command"].as_str().unwrap_or_default();
        let mut line = line(self.json, Level::Info, &format!("times of {what}"), &now_in_seconds());
        line.truncate(line.len() - if self.json { 2 } else { 1 });
        line.push_str(&if self.json { format!(",\"times\":{record}}}\n") } else { format!(" times={record}\n") });
        self.put(&line);
    }

    fn more(&self, level: Level, message: impl FnOnce() -> String) {
        if level <= self.level {
            self.write(level, &one_line(&message()));
        }
    }

    fn write(&self, level: Level, message: &str) {
        self.put(&line(self.json, level, message, &now_in_seconds()));
    }

    fn put(&self, line: &str) {
        match &self.file {
            // One write: lines of several processes do not mix. A full disk must not hide the failure itself.
            Some(file) => {
                let mut file = file;
                drop(file.write_all(line.as_bytes()));
            }
            None => to_stderr(line),
        }
    }
}

fn to_stderr(line: &str) {
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// As logrus writes it, which is what engines were written for.
fn line(json: bool, level: Level, message: &str, time: &str) -> String {
    let level = level.word();
    if json {
        let message = serde_json::Value::from(message);
        format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
    } else {
        format!("time=\"{time}\" level={level} msg={message:?}\n")
    }
}

/// The names in a message may hold anything; it stays one line.
fn one_line(message: &str) -> String {
    if !message.contains(|c: char| c.is_control()) {
        return message.to_owned();
    }
    message.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(std::path::PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn scratch(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("wharf-log-{name}-{}", std::process::id())))
    }

    #[test]
    fn a_failure_is_exactly_one_json_object_with_level_msg_and_time() {
        let path = scratch("json");
        let log = Log::open(Some(&path.0), true, Level::Error).unwrap();
        log.debug(|| unreachable!("not at this level"));
        log.warn(|| unreachable!("not at this level"));
        log.failure(&Error::system("open \"a\nb\"", 2));
        let text = std::fs::read_to_string(&path.0).unwrap();
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(object.len(), 3);
        assert_eq!(object["level"], "error");
        assert_eq!(object["msg"], "open \"a\\nb\": No such file or directory");
        let time = object["time"].as_str().unwrap();
        assert_eq!((time.len(), &time[10..11], &time[19..]), (20, "T", "Z"));
    }

    #[test]
    fn the_text_form_is_that_of_logrus() {
        assert_eq!(
            line(false, Level::Error, "a \"b\"", "2026-01-01T00:00:00Z"),
            "time=\"2026-01-01T00:00:00Z\" level=error msg=\"a \\\"b\\\"\"\n"
        );
        assert!(line(false, Level::Warn, "", "").contains("level=warning"));
    }

    #[test]
    fn more_is_logged_only_when_asked_for_and_lines_are_appended() {
        let path = scratch("level");
        for _ in 0..2 {
            let log = Log::open(Some(&path.0), false, Level::Debug).unwrap();
            log.debug(|| "detail".to_owned());
        }
        assert_eq!(std::fs::read_to_string(&path.0).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_an_error_that_names_it() {
        let error = Log::open(Some(Path::new("/no/such/dir/log")), true, Level::Error).unwrap_err();
        assert_eq!(error.to_string(), "open log /no/such/dir/log: No such file or directory");
    }
}
