//! linux.memoryPolicy.

use harness::{Feature, Host, Stop, Value, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("memory_policy")
        .trial("the payload has the policy of its config", |host| {
            for (policy, expected) in [
                (json!({"mode": "MPOL_DEFAULT"}), "default"),
                (json!({"mode": "MPOL_LOCAL"}), "local"),
                (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
                (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"}), "interleave:0"),
                (
                    json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}),
                    "prefer=relative:0",
                ),
                (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}), "bind=static:0"),
            ] {
                ensure_eq!(of(host, policy.clone())?, expected, "{policy}");
            }
            Ok(())
        })
        .trial("without one it stays the caller's", |host| {
            let report = host.report(&host.bundle()?)?;
            ensure_eq!(report["memory_policy"], "default");
            Ok(())
        })
        .trial("nodes that are no list, and what the kernel refuses, are refused by name", |host| {
            for policy in [
                json!({"mode": "MPOL_BIND", "nodes": "zero"}),
                json!({"mode": "MPOL_BIND", "nodes": "0-9876543210"}),
                json!({"mode": "MPOL_BIND", "nodes": "1023"}),
                json!({"mode": "MPOL_BIND"}),
                json!({"mode": "MPOL_DEFAULT", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}),
                json!({"mode": "INTERLEAVE", "nodes": "0"}),
                json!({"nodes": "0"}),
            ] {
                let said = host.create_fails(&host.bundle()?.set("/linux/memoryPolicy", policy.clone()))?;
                ensure!(said.stderr.contains("linux/memoryPolicy"), "{policy}: {said}");
            }
            Ok(())
        })
}

fn of(host: &Host, policy: Value) -> Result<String, Stop> {
    let report = host.report(&host.bundle()?.set("/linux/memoryPolicy", policy))?;
    Ok(report.text("/memory_policy").to_owned())
}
