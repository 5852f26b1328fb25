//! linux.resources.hugepageLimits.

use harness::{Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("resources_hugepages")
        .trial("each limit is set for its page size", |host| {
            host.needs_controller("hugetlb")?;
            let options = ["nosuid", "noexec", "nodev", "ro"];
            let bundle = host
                .bundle()?
                .namespace("cgroup", None)
                .mount("/sys/fs/cgroup", "cgroup", "cgroup", &options)
                .set("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 8 << 20}]));
            let file = match host.is_v2() {
                true => "/sys/fs/cgroup/hugetlb.2MB.max",
                false => "/sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes",
            };
            let [read] = host.lines(&bundle.payload(&["read", file]))?;
            ensure_eq!(read["text"], format!("{}\n", 8 << 20));
            Ok(())
        })
        .trial("a limit on a host that has no such controller is refused by name", |host| {
            if host.controller_dir("hugetlb").is_some() {
                return Err(harness::Stop::skipped("this host has a hugetlb controller"));
            }
            let limits = json!([{"pageSize": "2MB", "limit": 8 << 20}]);
            host.except("runc", "passes over it")?;
            let said = host.create_fails(&host.bundle()?.set("/linux/resources/hugepageLimits", limits))?;
            ensure!(said.stderr.to_lowercase().contains("huge"), "{said}");
            Ok(())
        })
        .trial("a page size that does not exist is refused by name", |host| {
            host.except("runc", "passes over it where there is no controller")?;
            let limits = json!([{"pageSize": "3MB", "limit": 8 << 20}]);
            let said = host.create_fails(&host.bundle()?.set("/linux/resources/hugepageLimits", limits))?;
            ensure!(said.stderr.contains("3MB") || said.stderr.contains("huge"), "{said}");
            Ok(())
        })
}
