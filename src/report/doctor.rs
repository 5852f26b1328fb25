//! What `doctor` says.

use crate::doctor::{Line, State};

/// A line for each thing, with cause and fix below it, and the counts last.
pub(crate) fn examined(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.area.len()).max().unwrap_or(0) + 2;
    let mut text = String::new();
    for line in lines {
        text.push_str(&format!("{:width$}{:9}{}\n", line.area, word(line.state), line.what));
        let indent = width + 9;
        for (name, words) in [("because", &line.cause), ("fix", &line.fix)] {
            if let Some(words) = words {
                text.push_str(&format!("{:indent$}{name}: {words}\n", ""));
            }
        }
    }
    let count = |state| lines.iter().filter(|line| line.state == state).count();
    let all = [State::Good, State::Absent, State::Limited, State::Missing];
    let counts = all.map(|state| format!("{} {}", count(state), word(state)));
    text + &counts.join(", ") + "\n"
}

fn word(state: State) -> &'static str {
    match state {
        State::Good => "good",
        State::Absent => "absent",
        State::Limited => "limited",
        State::Missing => "missing",
    }
}
