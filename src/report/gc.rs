//! What `gc` says.

use super::state::columns;
use serde::Serialize;

/// A container that is no more, and what is left of it.
#[derive(Debug, Serialize)]
pub(crate) struct Leftover {
    pub(crate) id: String,
    /// None where there is no record.
    pub(crate) backend: Option<String>,
    pub(crate) why: &'static str,
    /// Beside the state directory.
    pub(crate) holds: Vec<String>,
    pub(crate) removed: bool,
}

/// The answer as a table.
pub(crate) fn leftovers(rows: &[Leftover]) -> String {
    let line = |row: &Leftover| {
        let backend = row.backend.as_deref().unwrap_or("-");
        let holds = if row.holds.is_empty() { "-".to_owned() } else { row.holds.join(", ") };
        let removed = if row.removed { "removed" } else { "left" };
        [row.id.clone(), backend.to_owned(), row.why.to_owned(), removed.to_owned(), holds]
    };
    columns(["ID", "BACKEND", "WHY", "STATE", "HOLDS"], rows.iter().map(line))
}
