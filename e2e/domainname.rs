//! domainname (runtime-spec 1.1).

use harness::{Feature, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("domainname")
        .trial("the payload has the domain name of its config", |host| {
            host.except("runc", "1.1 does not know it")?;
            let bundle = host.bundle()?.set("/domainname", json!("harbour.example")).set("/hostname", json!("quay"));
            let report = host.report(&bundle)?;
            ensure_eq!((report.text("/domainname"), report.text("/hostname")), ("harbour.example", "quay"));
            Ok(())
        })
        .trial("without one it stays the caller's", |host| {
            let own = std::fs::read_to_string("/proc/sys/kernel/domainname")?;
            ensure_eq!(host.report(&host.bundle()?)?["domainname"], own.trim_end());
            Ok(())
        })
        .trial("a domain name without a uts namespace of its own is refused", |host| {
            host.except("runc", "1.1 does not know it")?;
            let bundle = host.bundle()?.remove("/hostname").set("/domainname", json!("x")).without_namespace("uts");
            host.create_fails(&bundle)?;
            Ok(())
        })
}
