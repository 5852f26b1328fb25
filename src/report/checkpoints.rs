//! What `checkpoints` says.

use super::state::columns;
use serde::Serialize;

/// One checkpoint that is kept by name.
#[derive(Debug, Serialize)]
pub(crate) struct CheckpointRow {
    pub(crate) container: String,
    pub(crate) name: String,
    /// RFC 3339 in UTC; none where there is no manifest.
    pub(crate) created: Option<String>,
    /// What it holds: `memory`, `disk`, or both; `nothing` where it is half-made.
    pub(crate) holds: &'static str,
    /// Of its files, without its snapshots.
    pub(crate) bytes: u64,
    /// Why it cannot be restored, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broken: Option<String>,
    /// Its snapshots, and what depends on each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) snapshots: Vec<SnapshotRow>,
    /// Of `prune`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) removed: Option<bool>,
}

#[derive(Debug, Serialize)]
pub(crate) struct SnapshotRow {
    /// `DATASET@NAME`
    pub(crate) name: String,
    pub(crate) guid: u64,
    /// What of the container it keeps.
    pub(crate) keeps: Vec<String>,
    /// None where it is gone.
    pub(crate) exists: bool,
    pub(crate) clones: Vec<String>,
}

/// The answer as a table.
pub(crate) fn checkpoints(rows: &[CheckpointRow]) -> String {
    let line = |row: &CheckpointRow| {
        let state = match (row.removed, &row.broken) {
            (Some(true), _) => "removed".to_owned(),
            (Some(false), None) => "to be removed".to_owned(),
            (_, Some(why)) => why.clone(),
            (None, None) => "good".to_owned(),
        };
        let created = row.created.clone().unwrap_or_else(|| "-".to_owned());
        [row.container.clone(), row.name.clone(), created, row.holds.to_owned(), row.bytes.to_string(), state]
    };
    columns(["CONTAINER", "NAME", "CREATED", "HOLDS", "BYTES", "STATE"], rows.iter().map(line))
}
