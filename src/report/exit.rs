//! The answer of `wait --format json`: the exit record, and what it comes to in words.

use serde::Serialize;
use wharf_core::{Exit, Result};

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    exit: &'a Exit,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(crate) fn exit(exit: &Exit) -> Result<String> {
    super::json(&Told { exit, reason: exit.reason() })
}
