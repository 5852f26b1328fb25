//! Containers of a Proxmox node whose record is gone.

use crate::cli::Request;
use crate::report::Leftover;
use crate::verbs::node;
use wharf_lxc::pct::{self, Orphan};

/// Those that have ended, and notes of what is left alone.
pub(super) fn look(request: &Request) -> (Vec<(Orphan, Leftover)>, Vec<String>) {
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    let all = pct::orphans(&node::settings(request), &request.root);
    for orphan in all.map_err(|error| notes.push(format!("note: {error}"))).unwrap_or_default() {
        let Orphan { vmid, id, .. } = &orphan;
        match orphan.runs() {
            Ok(false) => {
                let row = Leftover {
                    id: id.clone(),
                    backend: Some(pct::NAME.to_owned()),
                    why: "its record is gone",
                    holds: vec![format!("CT {vmid} of the node")],
                    removed: false,
                };
                found.push((orphan, row));
            }
            Ok(true) => notes.push(format!(
                "note: CT {vmid} runs, and the record of container {id} is gone: pct stop {vmid} ends it"
            )),
            Err(error) => notes.push(format!("note: CT {vmid} is left alone: {error}")),
        }
    }
    (found, notes)
}
