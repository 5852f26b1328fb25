//! What `state` and `list` say of a container.

use serde::Serialize;
use std::collections::BTreeMap;
use wharf_core::{Record, Result, Status, Used, user_name};

/// The state of runtime-spec (runtime.md), and what runc prints beside it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    oci_version: String,
    pub(crate) id: String,
    /// 0 once there is no process.
    pid: i32,
    /// `unknown` where the backend could not tell.
    status: String,
    bundle: String,
    rootfs: String,
    created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    owner: String,
    /// Where it runs; not runc's, whose readers pass over it.
    backend: String,
    #[serde(flatten)]
    pub(crate) activity: Option<Activity>,
}

/// Whether somebody still uses it, as `list --format json` tells it. What is not known is not there.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Activity {
    /// RFC 3339, as the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    /// When `exec` has last let a process go in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_exec: Option<String>,
    /// Microseconds, of all its processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_time: Option<u64>,
    /// Bytes, now.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<u64>,
}

impl Activity {
    pub(crate) fn new(used: Used, (started, last_exec): (Option<String>, Option<String>)) -> Self {
        Activity { started, last_exec, cpu_time: used.cpu, memory: used.memory }
    }
}

impl Row {
    pub(crate) fn new(record: Record, status: Option<Status>, pid: i32, owner: String) -> Self {
        let pid = if status == Some(Status::Stopped) { 0 } else { pid };
        Row {
            oci_version: record.oci_version,
            id: record.id,
            pid,
            status: status.map_or_else(|| "unknown".to_owned(), |status| status.to_string()),
            bundle: record.bundle,
            rootfs: record.rootfs,
            created: record.created,
            annotations: record.annotations,
            owner,
            backend: record.backend,
            activity: None,
        }
    }
}

/// The answer of `state`.
pub(crate) fn state(row: &Row) -> Result<String> {
    super::json(row)
}

/// The answer of `list`.
pub(crate) fn table(rows: &[Row]) -> String {
    let line = |row: &Row| {
        [
            row.id.clone(),
            row.pid.to_string(),
            row.status.clone(),
            row.bundle.clone(),
            row.created.clone(),
            row.owner.clone(),
            row.backend.clone(),
        ]
    };
    columns(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER", "BACKEND"], rows.iter().map(line))
}

/// Columns as wide as their longest entry and three spaces, at least twelve.
pub(super) fn columns<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let lines: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count() + 3).max().unwrap_or(0).max(12);
    let widths: Vec<usize> = (0..N - 1).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}"));
        }
        text.push_str(&line[N - 1]);
        text.push('\n');
    }
    text
}

/// The name of a user, `#uid` where it has none.
pub(crate) fn owner(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    user_name(&passwd, uid).map_or_else(|| format!("#{uid}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: Status) -> Row {
        let record: Record = serde_json::from_str(
            r#"{"version":1,"id":"c","oci_version":"1.0.2","bundle":"/b","rootfs":"/b/rootfs","backend":"native",
                "owner":0,"created":"2026-01-01T00:00:00Z","init":null,"engine_pid":42,
                "cgroup":{"seen":"","payload":"","freezer":"","made":0},"annotations":{"a":"b"}}"#,
        )
        .unwrap();
        Row::new(record, Some(status), 42, "root".to_owned())
    }

    #[test]
    fn the_state_has_every_property_of_the_specification() {
        let value: serde_json::Value = serde_json::from_str(&state(&row(Status::Running)).unwrap()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "ociVersion": "1.0.2", "id": "c", "pid": 42, "status": "running", "bundle": "/b",
                "rootfs": "/b/rootfs", "created": "2026-01-01T00:00:00Z", "annotations": {"a": "b"}, "owner": "root", "backend": "native",
            })
        );
    }

    #[test]
    fn a_stopped_container_has_no_pid() {
        assert!(state(&row(Status::Stopped)).unwrap().contains("\"pid\": 0"));
    }

    #[test]
    fn the_table_keeps_its_columns_under_their_heads() {
        let text = table(&[row(Status::Created)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "ID          PID         STATUS      BUNDLE      CREATED                OWNER       BACKEND"
        );
        assert_eq!(
            lines[1],
            "c           42          created     /b          2026-01-01T00:00:00Z   root        native"
        );
    }
}
