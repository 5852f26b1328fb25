//! linux.resources.hugepageLimits.

use harness::{Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("resources_hugepages")
        .trial("each limit is set for its page size", |host| {
            host.needs_controller("hugetlb")?;
            if !host.is_v2() {
                host.except("runc", "1.1 passes over a v2 hierarchy beside v1")?;
            }
            let bundle = host.bundle()?.payload(&["report", ";", "sleep"]);
            let bundle = bundle.set("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 8 << 20}]));
            let container = host.start(&bundle)?;
            let report = container.lines(1)?[0].clone();
            // The hierarchy need not be visible inside: the payload says where it is, and the kernel what holds there.
            let hierarchy = host.controller_dir("hugetlb").unwrap_or_default();
            let v2 = hierarchy.join("cgroup.controllers").exists();
            let of = |line: &&str| if v2 { line.starts_with("0::") } else { line.contains("hugetlb") };
            let line = report.text("/cgroup").lines().find(of).unwrap_or_default();
            let path = line.splitn(3, ':').nth(2).unwrap_or_default().trim_start_matches('/');
            let file = if v2 { "hugetlb.2MB.max" } else { "hugetlb.2MB.limit_in_bytes" };
            let limit = std::fs::read_to_string(hierarchy.join(path).join(file));
            container.delete_force()?;
            ensure_eq!(limit?, format!("{}\n", 8 << 20));
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
