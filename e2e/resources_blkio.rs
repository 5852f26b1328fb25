//! linux.resources.blockIO: weights and throttles.

use harness::{Bundle, Feature, Host, Stop, ensure, ensure_eq, json};
use std::os::unix::fs::MetadataExt;

fn with_cgroup(host: &Host) -> Result<Bundle, Stop> {
    host.needs_controller(if host.is_v2() { "io" } else { "blkio" })?;
    let options = ["nosuid", "noexec", "nodev", "ro"];
    Ok(host.bundle()?.namespace("cgroup", None).mount("/sys/fs/cgroup", "cgroup", "cgroup", &options))
}

/// Numbers of a whole disk of this host.
fn disk() -> Result<(u64, u64), Stop> {
    for entry in std::fs::read_dir("/sys/block")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let size = std::fs::read_to_string(entry.path().join("size")).unwrap_or_default();
        let text = std::fs::read_to_string(entry.path().join("dev")).unwrap_or_default();
        if let (Some((major, minor)), false) = (text.trim().split_once(':'), size.trim() == "0")
            && !name.starts_with("zram")
            && !name.starts_with("ram")
        {
            return Ok((major.parse()?, minor.parse()?));
        }
    }
    let root = std::fs::metadata("/")?.dev();
    Err(Stop::skipped(format!("this host has no disk to throttle (/ is on device {root})")))
}

pub(crate) fn trials() -> Feature {
    Feature::new("resources_blkio")
        .trial("each throttle is set for its device", |host| {
            let (major, minor) = disk()?;
            let rate = |value: u64| json!([{"major": major, "minor": minor, "rate": value}]);
            let block = json!({
                "throttleReadBpsDevice": rate(1_000_000), "throttleWriteBpsDevice": rate(2_000_000),
                "throttleReadIOPSDevice": rate(300), "throttleWriteIOPSDevice": rate(400)
            });
            let bundle = with_cgroup(host)?.set("/linux/resources/blockIO", block);
            if host.is_v2() {
                let [read] = host.lines(&bundle.payload(&["read", "/sys/fs/cgroup/io.max"]))?;
                ensure_eq!(read["text"], format!("{major}:{minor} rbps=1000000 wbps=2000000 riops=300 wiops=400\n"));
                return Ok(());
            }
            let files = ["read_bps", "write_bps", "read_iops", "write_iops"]
                .map(|name| format!("/sys/fs/cgroup/blkio/blkio.throttle.{name}_device"));
            let words = ["read", &files[0], ";", "read", &files[1], ";", "read", &files[2], ";", "read", &files[3]];
            let seen = host.lines::<4>(&bundle.payload(&words))?.map(|line| line.text("/text").trim().to_owned());
            let device = format!("{major}:{minor}");
            ensure_eq!(seen, [1_000_000, 2_000_000, 300, 400].map(|value: u64| format!("{device} {value}")));
            Ok(())
        })
        .trial("a weight is set, or refused by name where the kernel has none", |host| {
            let bundle = with_cgroup(host)?.set("/linux/resources/blockIO/weight", json!(300));
            let candidates: &[&str] = match host.is_v2() {
                true => &["/sys/fs/cgroup/io.bfq.weight", "/sys/fs/cgroup/io.weight"],
                false => &["/sys/fs/cgroup/blkio/blkio.bfq.weight", "/sys/fs/cgroup/blkio/blkio.weight"],
            };
            let mut words: Vec<&str> = Vec::new();
            for file in candidates {
                words.extend(["read", file, ";"]);
            }
            let ran = host.run(&bundle.payload(&words))?;
            if ran.code() == Some(0) {
                let shown = ran.lines()?.iter().any(|line| {
                    line.text("/text").trim().rsplit(' ').next().is_some_and(|value| !["100", ""].contains(&value))
                });
                ensure!(shown, "it ran, and no weight differs from the default: {}", ran.finished);
            } else {
                ensure!(ran.finished.stderr.contains("weight"), "{}", ran.finished);
            }
            Ok(())
        })
        .trial("a throttle of a device that does not exist is refused by name", |host| {
            let block = json!({"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 1000}]});
            let said = host.create_fails(&with_cgroup(host)?.set("/linux/resources/blockIO", block))?;
            ensure!(
                said.stderr.contains("4000:1") || said.stderr.contains("blkio") || said.stderr.contains("io.max"),
                "{said}"
            );
            Ok(())
        })
}
