//! linux.resources.unified: files of cgroup v2 by name.

use harness::{Bundle, Feature, Host, Stop, ensure, ensure_eq, json};

fn with_cgroup(host: &Host) -> Result<Bundle, Stop> {
    host.needs_v2("memory")?;
    let options = ["nosuid", "noexec", "nodev", "ro"];
    Ok(host.bundle()?.namespace("cgroup", None).mount("/sys/fs/cgroup", "cgroup", "cgroup", &options))
}

pub(crate) fn trials() -> Feature {
    Feature::new("resources_unified")
        .trial("each file has the value of the config", |host| {
            let unified = json!({"memory.high": "50331648", "pids.max": "77", "memory.oom.group": "1"});
            let bundle = with_cgroup(host)?.set("/linux/resources/unified", unified).payload(&[
                "read",
                "/sys/fs/cgroup/memory.high",
                ";",
                "read",
                "/sys/fs/cgroup/pids.max",
                ";",
                "read",
                "/sys/fs/cgroup/memory.oom.group",
            ]);
            let seen = host.lines::<3>(&bundle)?.map(|line| line.text("/text").trim().to_owned());
            ensure_eq!(seen, ["50331648", "77", "1"]);
            Ok(())
        })
        .trial("it wins over the value in the fields of v1's shape", |host| {
            let resources = json!({"memory": {"limit": 67_108_864}, "unified": {"memory.max": "33554432"}});
            let bundle =
                with_cgroup(host)?.set("/linux/resources", resources).payload(&["read", "/sys/fs/cgroup/memory.max"]);
            let [read] = host.lines(&bundle)?;
            ensure_eq!(read["text"], "33554432\n");
            Ok(())
        })
        .trial("a file that is not there is refused by name", |host| {
            let bundle = with_cgroup(host)?.set("/linux/resources/unified", json!({"memory.depth": "1"}));
            let said = host.create_fails(&bundle)?;
            ensure!(said.stderr.contains("memory.depth"), "{said}");
            Ok(())
        })
        .trial("a name with a slash is refused", |host| {
            let bundle = with_cgroup(host)?.set("/linux/resources/unified", json!({"../memory.max": "1"}));
            host.create_fails(&bundle)?;
            Ok(())
        })
        .trial("without cgroup v2 it is refused by name", |host| {
            if host.is_v2() {
                return Err(Stop::skipped("this host has cgroup v2"));
            }
            let bundle = host.bundle()?.set("/linux/resources/unified", json!({"memory.high": "50331648"}));
            let said = host.create_fails(&bundle)?;
            ensure!(said.stderr.contains("unified"), "{said}");
            Ok(())
        })
}
