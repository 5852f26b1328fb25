//! Two hosts, and the writes that limits become there.

use crate::cpu::weight;
use crate::layout::{Hierarchy, Layout};
use crate::{Missing, Wanted};
use oci_spec::runtime::LinuxResources;
use wharf_core::{ContainerId, Error};

fn hierarchy(v2: bool, controllers: &str, mount_point: &str) -> Hierarchy {
    Hierarchy {
        v2,
        controllers: controllers.split_whitespace().map(str::to_owned).collect(),
        name: None,
        mount_point: format!("/sys/fs/cgroup{mount_point}"),
        own: "/".to_owned(),
    }
}

pub(crate) fn hybrid() -> Layout {
    let v1 = ["cpu cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "net_cls net_prio"];
    let mut hierarchies: Vec<Hierarchy> = v1
        .iter()
        .map(|controllers| hierarchy(false, controllers, &format!("/{}", controllers.replace(' ', ","))))
        .collect();
    hierarchies.push(hierarchy(true, "hugetlb", "/unified"));
    Layout { hierarchies, base: "/sys/fs/cgroup".to_owned() }
}

pub(crate) fn v2() -> Layout {
    let hierarchies = vec![hierarchy(true, "cpuset cpu io memory hugetlb pids rdma", "")];
    Layout { hierarchies, base: "/sys/fs/cgroup".to_owned() }
}

fn judge(layout: Layout, resources: &str) -> Result<Wanted, Error> {
    let resources: LinuxResources = serde_json::from_str(resources).unwrap();
    Wanted::new(layout, Some("/c1"), &ContainerId::new("c1").unwrap(), Some(&resources), false)
}

/// `file = value [pointer below linux/resources]`, a line a write.
fn writes(layout: Layout, resources: &str) -> String {
    let wanted = judge(layout, resources).unwrap();
    let mut text = String::new();
    for write in wanted.writes() {
        let at = write.at.strip_prefix("linux/resources/").unwrap();
        let again = if write.or_after_next { " or after next" } else { "" };
        let other = match &write.missing {
            Missing::Instead { file, value } => format!(" or {file} = {value}"),
            Missing::Skip => " if there".to_owned(),
            Missing::Refuse(_) => String::new(),
        };
        text += &format!("{} = {}{other}{again} [{at}]\n", write.file, write.value);
    }
    text
}

fn refused(layout: Layout, resources: &str) -> String {
    judge(layout, resources).unwrap_err().to_string()
}

const ALL: &str = r#"{
    "memory": {"limit": 1000, "swap": 3000, "reservation": 500, "kernelTCP": -1, "checkBeforeUpdate": true},
    "cpu": {"shares": 1024, "quota": 5000, "period": 10000, "burst": 100, "idle": 0, "cpus": "0-1", "mems": "0"},
    "pids": {"limit": 7},
    "blockIO": {
        "weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]
    },
    "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]
}"#;

#[test]
fn every_limit_in_the_files_of_v1() {
    let expected = "\
memory.limit_in_bytes = 1000 or after next [memory/limit]
memory.memsw.limit_in_bytes = 3000 [memory/swap]
memory.soft_limit_in_bytes = 500 [memory/reservation]
memory.kmem.tcp.limit_in_bytes = -1 [memory/kernelTCP]
cpu.idle = 0 [cpu/idle]
cpu.shares = 1024 [cpu/shares]
cpu.cfs_period_us = 10000 or after next [cpu/period]
cpu.cfs_quota_us = 5000 or after next [cpu/quota]
cpu.cfs_burst_us = 100 [cpu/burst]
cpuset.cpus = 0-1 [cpu/cpus]
cpuset.mems = 0 [cpu/mems]
pids.max = 7 [pids/limit]
blkio.weight = 500 or blkio.bfq.weight = 500 [blockIO/weight]
blkio.weight_device = 8:0 10 or blkio.bfq.weight_device = 8:0 10 [blockIO/weightDevice/0/weight]
blkio.throttle.read_bps_device = 8:0 600 [blockIO/throttleReadBpsDevice/0]
blkio.throttle.write_iops_device = 8:0 0 [blockIO/throttleWriteIOPSDevice/0]
hugetlb.2MB.max = 4194304 [hugepageLimits/0/limit]
hugetlb.2MB.rsvd.max = 4194304 if there [hugepageLimits/0/limit]
";
    assert_eq!(writes(hybrid(), ALL), expected);
}

#[test]
fn every_limit_in_the_files_of_v2() {
    let expected = "\
memory.max = 1000 [memory/limit]
memory.swap.max = 2000 [memory/swap]
memory.low = 500 [memory/reservation]
cpu.idle = 0 [cpu/idle]
cpu.weight = 100 [cpu/shares]
cpu.max = 5000 10000 or after next [cpu/quota]
cpu.max.burst = 100 [cpu/burst]
cpuset.cpus = 0-1 [cpu/cpus]
cpuset.mems = 0 [cpu/mems]
pids.max = 7 [pids/limit]
io.bfq.weight = 500 or io.weight = 4950 [blockIO/weight]
io.bfq.weight = 8:0 10 or io.weight = 8:0 1 [blockIO/weightDevice/0/weight]
io.max = 8:0 rbps=600 [blockIO/throttleReadBpsDevice/0]
io.max = 8:0 wiops=max [blockIO/throttleWriteIOPSDevice/0]
hugetlb.2MB.max = 4194304 [hugepageLimits/0/limit]
hugetlb.2MB.rsvd.max = 4194304 if there [hugepageLimits/0/limit]
";
    assert_eq!(writes(v2(), ALL), expected);
}

#[test]
fn no_limit_is_minus_one_and_nothing_asked_is_zero() {
    let unlimited = r#"{"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}}"#;
    let v1 = "\
memory.limit_in_bytes = -1 or after next [memory/limit]
memory.memsw.limit_in_bytes = -1 if there [memory/swap]
cpu.cfs_quota_us = -1 [cpu/quota]
pids.max = max [pids/limit]
";
    assert_eq!(writes(hybrid(), unlimited), v1);
    let two = "\
memory.max = max [memory/limit]
memory.swap.max = max if there [memory/swap]
cpu.max = max 100000 [cpu/quota]
pids.max = max [pids/limit]
";
    assert_eq!(writes(v2(), unlimited), two);
    let zero =
        r#"{"memory": {"limit": 0, "swap": 0}, "cpu": {"shares": 0, "quota": 0, "cpus": ""}, "pids": {"limit": 0}}"#;
    assert_eq!(writes(hybrid(), zero), "");
    assert_eq!(writes(v2(), zero), "");
}

#[test]
fn what_only_v1_has() {
    let text = r#"{"memory": {"swappiness": 60, "disableOOMKiller": true},
        "cpu": {"realtimePeriod": 1000, "realtimeRuntime": 10},
        "network": {"classID": 5, "priorities": [{"name": "eth0", "priority": 3}]}}"#;
    let expected = "\
memory.swappiness = 60 [memory/swappiness]
memory.oom_control = 1 [memory/disableOOMKiller]
cpu.rt_period_us = 1000 or after next [cpu/realtimePeriod]
cpu.rt_runtime_us = 10 [cpu/realtimeRuntime]
net_cls.classid = 5 [network/classID]
net_prio.ifpriomap = eth0 3 [network/priorities/0]
";
    assert_eq!(writes(hybrid(), text), expected);
    for (part, pointer) in [
        (r#"{"memory": {"swappiness": 60}}"#, "memory/swappiness"),
        (r#"{"memory": {"disableOOMKiller": true}}"#, "memory/disableOOMKiller"),
        (r#"{"memory": {"kernelTCP": 5}}"#, "memory/kernelTCP"),
        (r#"{"cpu": {"realtimeRuntime": 10}}"#, "cpu/realtimeRuntime"),
        (r#"{"blockIO": {"leafWeight": 10}}"#, "blockIO/leafWeight"),
        (r#"{"network": {"classID": 5}}"#, "network/classID"),
        (r#"{"network": {"priorities": [{"name": "eth0", "priority": 3}]}}"#, "network/priorities/0"),
    ] {
        let error = refused(v2(), part);
        assert!(error.contains(&format!("[linux/resources/{pointer}]")), "{error}");
    }
}

#[test]
fn unified_files_are_written_line_by_line_where_their_controller_is() {
    let text = r#"{"unified": {"memory.high": "10", "io.max": "8:0 rbps=1\n8:16 rbps=2\n", "cgroup.max.depth": "2"}}"#;
    let expected = "\
cgroup.max.depth = 2 [unified/cgroup.max.depth]
io.max = 8:0 rbps=1 [unified/io.max]
io.max = 8:16 rbps=2 [unified/io.max]
memory.high = 10 [unified/memory.high]
";
    assert_eq!(writes(v2(), text), expected);
    assert_eq!(
        writes(hybrid(), r#"{"unified": {"hugetlb.2MB.max": "0"}}"#),
        "hugetlb.2MB.max = 0 [unified/hugetlb.2MB.max]\n"
    );
    let v1 = {
        let mut layout = hybrid();
        layout.hierarchies.pop();
        layout
    };
    for (layout, file, why) in [
        (v2(), "cgroup.procs", "is not a resource"),
        (v2(), "misc.max", "is not available"),
        (v2(), "../memory.max", "is not the name of a control file"),
        (v2(), "memory", "is not the name of a control file"),
        (hybrid(), "memory.high", "is on a v1 hierarchy"),
        (v1, "memory.high", "this host has v1 only"),
    ] {
        let error = refused(layout, &format!(r#"{{"unified": {{"{file}": "1"}}}}"#));
        assert!(error.contains(why) && error.contains("[linux/resources/unified/"), "{error}");
    }
}

#[test]
fn a_limit_without_its_controller_is_refused_and_no_limit_is_not() {
    let mut layout = v2();
    layout.hierarchies[0].controllers.retain(|name| name != "pids");
    assert_eq!(
        refused(layout.clone(), r#"{"pids": {"limit": 5}}"#),
        "cgroup controller pids: is not available: this host has cpu cpuset hugetlb io memory rdma \
         [linux/resources/pids/limit]"
    );
    assert_eq!(writes(layout, r#"{"pids": {"limit": 0}}"#), "");
}

#[test]
fn values_that_make_no_sense_are_refused_with_their_pointer() {
    for (text, pointer) in [
        (r#"{"memory": {"limit": -2}}"#, "memory/limit"),
        (r#"{"memory": {"limit": 10, "swap": 9}}"#, "memory/swap"),
        (r#"{"memory": {"swap": 9}}"#, "memory/swap"),
        (r#"{"memory": {"limit": -1, "swap": 9}}"#, "memory/swap"),
        (r#"{"memory": {"kernel": 9}}"#, "memory/kernel"),
        (r#"{"memory": {"useHierarchy": false}}"#, "memory/useHierarchy"),
        (r#"{"memory": {"swappiness": 101}}"#, "memory/swappiness"),
        (r#"{"cpu": {"idle": 2}}"#, "cpu/idle"),
        (r#"{"cpu": {"cpus": "zero"}}"#, "cpu/cpus"),
        (r#"{"blockIO": {"weight": 9}}"#, "blockIO/weight"),
        (
            r#"{"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 1001}]}}"#,
            "blockIO/weightDevice/0/weight",
        ),
        (r#"{"hugepageLimits": [{"pageSize": "2M", "limit": 1}]}"#, "hugepageLimits/0/pageSize"),
        (r#"{"rdma": {"a b": {"hcaHandles": 1}}}"#, "rdma/a b"),
    ] {
        for layout in [hybrid(), v2()] {
            let error = refused(layout, text);
            assert!(error.contains(&format!("[linux/resources/{pointer}]")), "{text}: {error}");
        }
    }
}

#[test]
fn shares_become_weights_by_the_quadratic_formula() {
    let pairs = [(1, 1), (2, 1), (3, 2), (256, 35), (1024, 100), (2048, 174), (10_000, 627), (262_144, 10_000)];
    for (shares, expected) in pairs {
        assert_eq!(weight(shares), expected, "{shares}");
    }
}
