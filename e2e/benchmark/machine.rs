//! Describes the machine in general words: what a reader needs to judge the numbers.

use crate::candidate::Candidate;
use crate::stage::Stage;
use std::fs;

pub(crate) fn describe(stage: &Stage) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel: String = kernel.trim().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let processors = read("/proc/cpuinfo");
    let cores = processors.lines().filter(|line| line.starts_with("processor")).count();
    let machine = if processors.contains("hypervisor") { "a virtual machine" } else { "a machine" };
    let cgroup = if stage.hidden_unified.is_some() {
        "cgroup v1 (the v2 hierarchy, which crun refuses beside it, hidden for all)"
    } else if fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok() {
        "cgroup v2"
    } else {
        "cgroup v1"
    };
    format!(
        "Measured on {machine}: {}, {cores} cores, Linux {}, {cgroup}; bundles and state on tmpfs.\n",
        std::env::consts::ARCH,
        kernel.trim_end_matches('.'),
    )
}

pub(crate) fn versions(candidates: &[Candidate]) -> String {
    let named: Vec<String> = candidates
        .iter()
        .map(|candidate| format!("{} {}", candidate.name, candidate.version).trim().to_owned())
        .collect();
    format!("Candidates: {}.\n", named.join(", "))
}
