//! `features`: what it claims is what the plan accepts, and what it denies is refused.

use crate::plan::{plan, verdict};
use harness::{Bundle, Feature, Host, Stop, Value, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("features")
        .trial("it is one JSON document of the spec's form", |host| {
            let features: Value = serde_json::from_str(&host.runtime.must(&["features"])?)?;
            for key in ["ociVersionMin", "ociVersionMax", "hooks", "mountOptions", "linux"] {
                ensure!(!features[key].is_null(), "no {key} in {features}");
            }
            let namespaces: Vec<&str> =
                features["linux"]["namespaces"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            for kind in ["pid", "network", "ipc", "uts", "mount", "user", "cgroup"] {
                ensure!(namespaces.contains(&kind), "{kind} is not in {namespaces:?}");
            }
            Ok(())
        })
        .trial("what it calls a mount option is taken", |host| {
            host.except("runc", "1.1 names defaults and does not know it")?;
            let features: Value = serde_json::from_str(&host.runtime.must(&["features"])?)?;
            let options: Vec<String> = features["mountOptions"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            ensure!(options.len() > 30, "{options:?}");
            // Those of runtime-spec's table that stand for what a tmpfs on its own can do.
            let alone = ["bind", "rbind", "remount", "idmap", "ridmap", "noidmap", "mand", "iversion", "move"];
            let mut bundle = host.bundle()?;
            for (number, option) in options.iter().filter(|option| !alone.contains(&option.as_str())).enumerate() {
                bundle = bundle.mount(&format!("/var/o{number}"), "tmpfs", "tmpfs", &[option.as_str()]);
            }
            host.run_well(&bundle)?;
            Ok(())
        })
        .trial("each word that it lists for a value is accepted", |host| {
            host.only_wharf("plan is the judge")?;
            let features = features(host)?;
            let linux = &features["linux"];
            let rule = |action: &str| json!([{"names": ["personality"], "action": action}]);
            for action in words(&linux["seccomp"]["actions"]) {
                let bundle = seccomp(host)?.set("/linux/seccomp/syscalls", rule(action));
                let bundle = bundle.set("/linux/seccomp/listenerPath", json!("/run/agent"));
                accepted(host, &bundle, "linux/seccomp/syscalls/0/action")?;
            }
            for operator in words(&linux["seccomp"]["operators"]) {
                let mut rule = rule("SCMP_ACT_ERRNO");
                rule[0]["args"] = json!([{"index": 0, "value": 1, "op": operator}]);
                accepted(
                    host,
                    &seccomp(host)?.set("/linux/seccomp/syscalls", rule),
                    "linux/seccomp/syscalls/0/args/0/op",
                )?;
            }
            for arch in words(&linux["seccomp"]["archs"]) {
                let bundle = seccomp(host)?.set("/linux/seccomp/architectures", json!([arch]));
                accepted(host, &bundle, "linux/seccomp/architectures")?;
            }
            for flag in words(&linux["seccomp"]["supportedFlags"]) {
                let bundle = seccomp(host)?.set("/linux/seccomp/flags", json!([flag]));
                let bundle = match flag {
                    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => bundle
                        .set("/linux/seccomp/syscalls", rule("SCMP_ACT_NOTIFY"))
                        .set("/linux/seccomp/listenerPath", json!("/run/agent")),
                    _ => bundle,
                };
                accepted(host, &bundle, "linux/seccomp/flags")?;
            }
            for mode in words(&linux["memoryPolicy"]["modes"]) {
                let bundle = host.bundle()?.set("/linux/memoryPolicy", json!({"mode": mode, "nodes": "0"}));
                accepted(host, &bundle, "linux/memoryPolicy/mode")?;
            }
            for flag in words(&linux["memoryPolicy"]["flags"]) {
                let policy = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]});
                accepted(host, &host.bundle()?.set("/linux/memoryPolicy", policy), "linux/memoryPolicy/flags")?;
            }
            for hook in words(&features["hooks"]) {
                let bundle = host.bundle()?.set(&format!("/hooks/{hook}"), json!([{"path": "/bin/true"}]));
                accepted(host, &bundle, &format!("hooks/{hook}/0/path"))?;
            }
            Ok(())
        })
        .trial("what it denies is refused", |host| {
            host.only_wharf("plan is the judge")?;
            let features = features(host)?;
            let linux = &features["linux"];
            for (claim, property, value) in [
                (&linux["intelRdt"]["enabled"], "linux/intelRdt", json!({"closID": "x"})),
                (&linux["netDevices"]["enabled"], "linux/netDevices", json!({"eth9": {"name": "eth0"}})),
            ] {
                let (said, _) = plan(host, &host.bundle()?.set(&format!("/{property}"), value), &[])?;
                ensure_eq!(said.code() == Some(0), claim == &json!(true), "{property}: {said}");
            }
            Ok(())
        })
}

fn features(host: &Host) -> Result<Value, Stop> {
    Ok(serde_json::from_str(&host.runtime.must(&["features"])?)?)
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn seccomp(host: &Host) -> Result<Bundle, Stop> {
    Ok(host.bundle()?.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"})))
}

fn accepted(host: &Host, bundle: &Bundle, property: &str) -> Result<(), Stop> {
    let (said, plan) = plan(host, bundle, &[])?;
    ensure!(said.code() == Some(0) && verdict(&plan, property) == "applied", "{property}: {plan}");
    Ok(())
}
