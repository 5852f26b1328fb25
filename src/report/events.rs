//! The lines of `events`, as runc has them.

use serde::Serialize;
use wharf_core::{ContainerId, Error, Event, Kind, Result, Statistics};

#[derive(Serialize)]
struct Line<'a> {
    r#type: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Statistics>,
}

/// One line, with its end.
pub(crate) fn event(id: &ContainerId, event: Event) -> Result<String> {
    let (kind, data) = match &event {
        Event::Statistics(found) => ("stats", Some(&**found)),
        Event::OutOfMemory => ("oom", None),
        Event::Line(line) => return Ok(line.clone()),
    };
    let line = serde_json::to_string(&Line { r#type: kind, id: id.as_str(), data });
    line.map(|line| line + "\n").map_err(|error| Error::new(Kind::System, "write JSON").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_one_line_with_type_and_id() {
        let id = ContainerId::new("c1").unwrap();
        assert_eq!(event(&id, Event::OutOfMemory).unwrap(), "{\"type\":\"oom\",\"id\":\"c1\"}\n");
        let line = event(&id, Event::Statistics(Box::default())).unwrap();
        assert!(line.starts_with("{\"type\":\"stats\",\"id\":\"c1\",\"data\":{\"cpu\":{\"usage\":{"), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
    }
}
