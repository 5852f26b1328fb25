//! The smaller parts of `linux/resources`: pids, huge pages, network, RDMA, and `unified`.

use crate::wanted::{Missing, Sheet, Target, or_max, unavailable};
use oci_spec::runtime::{LinuxHugepageLimit, LinuxNetwork, LinuxPids, LinuxRdma};
use std::collections::HashMap;
use wharf_core::{Error, Result};

/// Tasks; below 0 is no limit, 0 asks nothing, as in runc.
pub(crate) fn pids(sheet: &mut Sheet, pids: &LinuxPids) -> Result<()> {
    const AT: &str = "linux/resources/pids/limit";
    if pids.limit() != 0 {
        let target = sheet.target("pids", "pids", AT)?;
        sheet.add(target, "pids.max", or_max(pids.limit()), AT);
    }
    Ok(())
}

/// Bytes of one page size. Where the kernel also counts reservations (5.7), they get the same limit, as in runc.
pub(crate) fn hugepages(sheet: &mut Sheet, limits: &[LinuxHugepageLimit]) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        let at = |name: &str| format!("linux/resources/hugepageLimits/{index}/{name}");
        let size = limit.page_size();
        let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit)).unwrap_or_default();
        if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::invalid(format!("huge page size {size:?}"))
                .because("is a number and KB, MB or GB, as 2MB")
                .at(at("pageSize")));
        }
        let target = sheet.target("hugetlb", "hugetlb", &at("limit"))?;
        let bytes = limit.limit();
        let (word, value) = if target.v2 { ("max", or_max(bytes)) } else { ("limit_in_bytes", bytes.to_string()) };
        sheet.add(target, format!("hugetlb.{size}.{word}"), value.clone(), at("limit")).missing =
            Missing::Refuse("this kernel has no huge pages of that size");
        sheet.add(target, format!("hugetlb.{size}.rsvd.{word}"), value, at("limit")).missing = Missing::Skip;
    }
    Ok(())
}

pub(crate) fn network(sheet: &mut Sheet, network: &LinuxNetwork) -> Result<()> {
    let v1_only = |sheet: &Sheet, controller: &str, at: &str| -> Result<Target> {
        // No v2 controller has these names: v2 classifies packets by cgroup in the packet filter.
        sheet.target(controller, "", at).map_err(|error| match sheet.layout().unified() {
            Some(_) => error.hint("on v2 match packets by cgroup in nftables"),
            None => error,
        })
    };
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        let at = "linux/resources/network/classID";
        let target = v1_only(sheet, "net_cls", at)?;
        sheet.add(target, "net_cls.classid", class.to_string(), at);
    }
    for (index, priority) in network.priorities().iter().flatten().enumerate() {
        let at = format!("linux/resources/network/priorities/{index}");
        let name = priority.name();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Error::invalid(format!("network interface {name:?}"))
                .because("is empty or holds white space")
                .at(format!("{at}/name")));
        }
        let target = v1_only(sheet, "net_prio", &at)?;
        sheet.add(target, "net_prio.ifpriomap", format!("{name} {}", priority.priority()), at);
    }
    Ok(())
}

pub(crate) fn rdma(sheet: &mut Sheet, limits: &HashMap<String, LinuxRdma>) -> Result<()> {
    for device in sorted(limits.keys()) {
        let at = format!("linux/resources/rdma/{}", escape(device));
        if device.is_empty() || device.contains(char::is_whitespace) {
            return Err(Error::invalid(format!("RDMA device {device:?}"))
                .because("is empty or holds white space")
                .at(at));
        }
        let limit = &limits[device];
        let parts = [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())];
        let parts: Vec<String> = parts.iter().filter_map(|(name, most)| Some(format!("{name}={}", (*most)?))).collect();
        if parts.is_empty() {
            continue;
        }
        let target = sheet.target("rdma", "rdma", &at)?;
        sheet.add(target, "rdma.max", format!("{device} {}", parts.join(" ")), at);
    }
    Ok(())
}

/// Files of cgroup v2 by name, each line of a value by one write. What moves, stops or kills processes or changes the
/// cgroup's kind is not a resource and is refused.
pub(crate) fn unified(sheet: &mut Sheet, files: &HashMap<String, String>) -> Result<()> {
    const OWN: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];
    for file in sorted(files.keys()) {
        let at = format!("linux/resources/unified/{}", escape(file));
        let fails = |why: &str| Err(Error::unsupported(format!("cgroup file {file:?}")).because(why).at(at.clone()));
        let Some(hierarchy) = sheet.layout().unified() else {
            return fails("is one of cgroup v2, and this host has v1 only");
        };
        if file.contains(['/', '\0']) {
            return fails("is not the name of a control file");
        }
        let Some((controller, _)) = file.split_once('.') else {
            return fails("is not the name of a control file: CONTROLLER.NAME");
        };
        if controller == "cgroup" && !OWN.contains(&file.as_str()) {
            return fails("is not a resource");
        }
        let has = &sheet.layout().hierarchies[hierarchy].controllers;
        if controller != "cgroup" && !has.iter().any(|own| own == controller) {
            let error = unavailable(sheet.layout(), controller, &at);
            return Err(match sheet.layout().find(controller) {
                Some(_) => error.because("is on a v1 hierarchy of this host, where the files of v2 do not exist"),
                None => error,
            });
        }
        for line in files[file].lines().filter(|line| !line.trim().is_empty()) {
            sheet.add(Target { hierarchy, v2: true }, file.clone(), line, at.clone());
        }
    }
    Ok(())
}

fn sorted<'a>(keys: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut keys: Vec<&String> = keys.collect();
    keys.sort_unstable();
    keys
}

/// A key as one part of a JSON pointer (RFC 6901).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
