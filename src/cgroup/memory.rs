//! `linux/resources/memory`.

use crate::wanted::{Missing, Sheet, or_max};
use oci_spec::runtime::LinuxMemory;
use wharf_core::{Error, Result};

const NO_SWAP: &str = "this kernel does not count swap (swapaccount=0)";

/// Bytes; -1 is no limit. 0 asks nothing, as in runc: engines send it for "not set".
///
/// `swap` is memory and swap together, as v1 counts it. v2 counts swap alone, so it gets the difference, and
/// `reservation` becomes `memory.low`, both as runc converts.
pub(crate) fn write(sheet: &mut Sheet, memory: &LinuxMemory) -> Result<()> {
    let at = |name: &str| format!("linux/resources/memory/{name}");
    let limit = amount(memory.limit(), "memory limit", &at("limit"))?;
    let swap = amount(memory.swap(), "limit of memory and swap", &at("swap"))?;
    let reservation = amount(memory.reservation(), "memory reservation", &at("reservation"))?;
    let tcp = amount(memory.kernel_tcp(), "limit of TCP buffers", &at("kernelTCP"))?;
    // Gone from cgroup v2, and without effect on v1 since Linux 5.16.
    if let Some(bytes) = memory.kernel().filter(|bytes| *bytes > 0) {
        return Err(Error::unsupported(format!("kernel memory limit {bytes}"))
            .because("kernels no longer limit kernel memory apart: memory/limit covers it")
            .at(at("kernel")));
    }
    match (limit, swap) {
        (Some(memory), Some(both)) if both >= 0 && (memory < 0 || both < memory) => {
            return Err(Error::invalid(format!("limit of memory and swap {both}"))
                .because(format!("is below the limit of memory alone, {}", or_max(memory)))
                .at(at("swap")));
        }
        (None, Some(both)) if both >= 0 => {
            return Err(Error::invalid(format!("limit of memory and swap {both}"))
                .because("needs a limit of memory beside it")
                .at(at("swap")));
        }
        _ => {}
    }
    // Without a limit of memory there is no limit of both either (runc does the same).
    let implied = swap.is_none() && limit.is_some_and(|limit| limit < 0);
    if let Some(limit) = limit {
        let target = sheet.target("memory", "memory", &at("limit"))?;
        if target.v2 {
            let check = memory.check_before_update().unwrap_or_default() && limit >= 0;
            sheet.add(target, "memory.max", or_max(limit), at("limit")).above_usage = check;
        } else {
            // Lowered, memory goes first, because it may not be above memory and swap; raised, it goes second.
            let both = swap.is_some() || implied;
            sheet.add(target, "memory.limit_in_bytes", limit.to_string(), at("limit")).or_after_next = both;
        }
    }
    if let Some(both) = swap.or(implied.then_some(-1)) {
        let target = sheet.target("memory", "memory", &at("swap"))?;
        let write = if target.v2 {
            let swap = if both < 0 { both } else { both - limit.unwrap_or_default() };
            sheet.add(target, "memory.swap.max", or_max(swap), at("swap"))
        } else {
            sheet.add(target, "memory.memsw.limit_in_bytes", both.to_string(), at("swap"))
        };
        // A kernel that counts no swap sets no limit to it.
        write.missing = if both < 0 { Missing::Skip } else { Missing::Refuse(NO_SWAP) };
    }
    if let Some(reservation) = reservation {
        let target = sheet.target("memory", "memory", &at("reservation"))?;
        if target.v2 {
            sheet.add(target, "memory.low", or_max(reservation), at("reservation")).nearly =
                Some("cgroup v2 protects that much, and has no soft limit");
        } else {
            sheet.add(target, "memory.soft_limit_in_bytes", reservation.to_string(), at("reservation"));
        }
    }
    if let Some(tcp) = tcp {
        let target = sheet.target("memory", "memory", &at("kernelTCP"))?;
        if !target.v2 {
            sheet.add(target, "memory.kmem.tcp.limit_in_bytes", tcp.to_string(), at("kernelTCP"));
        } else if tcp > 0 {
            return Err(only_v1("limit of TCP buffers", "memory/limit covers them", at("kernelTCP")));
        }
    }
    if let Some(swappiness) = memory.swappiness() {
        if swappiness > 100 {
            return Err(Error::invalid(format!("swappiness {swappiness}")).because("is 0 to 100").at(at("swappiness")));
        }
        let target = sheet.target("memory", "memory", &at("swappiness"))?;
        if target.v2 {
            return Err(only_v1("swappiness of a cgroup", "limit swap instead", at("swappiness")));
        }
        sheet.add(target, "memory.swappiness", swappiness.to_string(), at("swappiness"));
    }
    if memory.disable_oom_killer().unwrap_or_default() {
        let target = sheet.target("memory", "memory", &at("disableOOMKiller"))?;
        if target.v2 {
            return Err(only_v1("a cgroup without OOM killer", "memory.high slows it down", at("disableOOMKiller")));
        }
        sheet.add(target, "memory.oom_control", "1", at("disableOOMKiller"));
    }
    match memory.use_hierarchy() {
        // Always so on v2, and on v1 since Linux 5.11; the write is refused nowhere.
        Some(true) | None => {}
        Some(false) => {
            return Err(Error::unsupported("memory accounting without hierarchy")
                .because("kernels since 5.11 always account with it")
                .at(at("useHierarchy")));
        }
    }
    Ok(())
}

fn amount(value: Option<i64>, what: &str, at: &str) -> Result<Option<i64>> {
    match value {
        None | Some(0) => Ok(None),
        Some(value) if value < -1 => {
            Err(Error::invalid(format!("{what} {value}")).because("is bytes, or -1 for no limit").at(at))
        }
        value => Ok(value),
    }
}

fn only_v1(what: &str, hint: &str, at: String) -> Error {
    Error::unsupported(what).because("exists in cgroup v1 only, and this host has v2").at(at).hint(hint)
}
