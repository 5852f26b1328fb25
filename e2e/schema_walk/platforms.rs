//! The sections of other platforms: a bundle that has one is meant for another host, and refused as a whole.

use super::row::Row;
use harness::json;

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new("windows").set("/windows", json!({ "layerFolders": ["C:\\layer"] })),
        Row::new("solaris").set("/solaris", json!({ "milestone": "svc:/milestone/container:default" })),
        Row::new("zos").set("/zos", json!({ "namespaces": [{ "type": "pid" }] })),
        Row::new("vm").set("/vm", json!({ "kernel": { "path": "/vmlinuz" }, "hwConfig": { "vcpus": 2 } })),
        Row::new("freebsd").set("/freebsd", json!({ "jail": { "vnet": "new" } })),
    ]
}
