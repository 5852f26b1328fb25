//! hostname and the uts namespace it needs.

use harness::{Feature, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("hostname")
        .trial("the payload has the hostname of its config", |host| {
            let bundle = host.bundle()?.set("/hostname", json!("lighthouse")).payload(&["report"]);
            let report = host.run_well(&bundle)?.report()?;
            ensure_eq!(report["hostname"], "lighthouse");
            Ok(())
        })
        .trial("without a hostname the payload keeps the one it was born with", |host| {
            let bundle = host.bundle()?.remove("/hostname").payload(&["report"]);
            let report = host.run_well(&bundle)?.report()?;
            let own = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
            ensure_eq!(report["hostname"], own.trim_end());
            Ok(())
        })
        .trial("a hostname of 64 bytes is the longest", |host| {
            let longest = "h".repeat(64);
            let bundle = host.bundle()?.set("/hostname", json!(longest)).payload(&["report"]);
            ensure_eq!(host.run_well(&bundle)?.report()?["hostname"], longest.as_str());
            host.create_fails(&host.bundle()?.set("/hostname", json!("h".repeat(65))))?;
            Ok(())
        })
        .trial("a hostname without a uts namespace of its own is refused", |host| {
            let before = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
            host.create_fails(&host.bundle()?.without_namespace("uts"))?;
            ensure_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname")?, before);
            Ok(())
        })
}
