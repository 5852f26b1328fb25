//! Understands what the other program says.

use wharf_core::{Error, Kind, Result, Status};

/// What `state` told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    /// The container's init as the caller sees it; 0 where there is none.
    pub(crate) pid: i32,
}

/// Reads the state of runtime-spec, whatever else stands beside it.
pub(crate) fn parse(doing: &str, text: &[u8]) -> Result<Answer> {
    let wrong = |why: String| Error::new(Kind::System, doing).because(why);
    let value: serde_json::Value = serde_json::from_slice(text)
        .map_err(|error| wrong(format!("its answer is no state: {error}: {}", excerpt(text))))?;
    let status = value.get("status").cloned().unwrap_or_default();
    let status = serde_json::from_value::<Status>(status.clone())
        .map_err(|_| wrong(format!("its answer has the unknown status {status}")))?;
    let pid = value.get("pid").and_then(serde_json::Value::as_i64).unwrap_or(0);
    let pid = i32::try_from(pid).map_err(|_| wrong(format!("its answer has the impossible pid {pid}")))?;
    Ok(Answer { status, pid })
}

/// Reads the answer of `ps --format json`: a list of pids, or null where there is none.
pub(crate) fn processes(doing: &str, text: &[u8]) -> Result<Vec<i32>> {
    let pids: Option<Vec<i32>> = serde_json::from_slice(text).map_err(|error| {
        let why = format!("its answer is no list of pids: {error}: {}", excerpt(text));
        Error::new(Kind::System, doing).because(why)
    })?;
    let mut pids = pids.unwrap_or_default();
    pids.sort_unstable();
    Ok(pids)
}

/// What kind of failure the words of runc, crun and their kin tell of.
pub(crate) fn kind(words: &str) -> Kind {
    let words = words.to_ascii_lowercase();
    let says = |any: &[&str]| any.iter().any(|phrase| words.contains(phrase));
    if says(&["container does not exist", "no such container"]) {
        Kind::NoSuchContainer
    } else if says(&["container not running", "process already finished", "no such process"]) {
        Kind::NotRunning
    } else if words.contains("executable file") && words.contains("not found") {
        Kind::CommandNotFound
    } else {
        Kind::System
    }
}

/// The cause is the last line that says something: warnings come before it.
pub(crate) fn cause(stderr: &str) -> Option<&str> {
    stderr.lines().map(str::trim).rfind(|line| !line.is_empty())
}

fn excerpt(text: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned();
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_the_spec_is_understood() {
        let text = br#"{"ociVersion":"1.0.2","id":"c","pid":42,"status":"running","bundle":"/b","owner":""}"#;
        assert_eq!(parse("ask", text).unwrap(), Answer { status: Status::Running, pid: 42 });
        assert_eq!(parse("ask", br#"{"status":"stopped"}"#).unwrap(), Answer { status: Status::Stopped, pid: 0 });
    }

    #[test]
    fn an_answer_that_is_no_state_is_an_error_that_quotes_it() {
        for (text, why) in [
            ("", "its answer is no state"),
            ("hello", "\"hello\""),
            ("{}", "unknown status null"),
            (r#"{"status":"dancing"}"#, "unknown status \"dancing\""),
            (r#"{"status":"running","pid":99999999999}"#, "impossible pid 99999999999"),
        ] {
            let error = parse("ask crun", text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("ask crun: ") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_list_of_pids_is_understood() {
        assert_eq!(processes("ps", b"[7,3]\n").unwrap(), [3, 7]);
        assert!(processes("ps", b"null").unwrap().is_empty());
        assert!(processes("ps", b"PID\n3\n").unwrap_err().to_string().contains("no list of pids"));
    }

    #[test]
    fn the_words_of_runc_and_crun_are_sorted() {
        assert_eq!(kind("container does not exist"), Kind::NoSuchContainer);
        assert_eq!(kind("container not running"), Kind::NotRunning);
        assert_eq!(kind("exec: \"x\": executable file not found in $PATH"), Kind::CommandNotFound);
        assert_eq!(kind("executable file `x` not found in $PATH: No such file or directory"), Kind::CommandNotFound);
        assert_eq!(kind("open /x: No such file or directory"), Kind::System);
    }

    #[test]
    fn the_cause_is_the_last_line_that_is_not_empty() {
        assert_eq!(cause("warning: a\nthe cause\n\n"), Some("the cause"));
        assert_eq!(cause(" \n"), None);
    }
}
