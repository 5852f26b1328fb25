//! `linux/resources/cpu`.

use crate::wanted::{Missing, Sheet};
use oci_spec::runtime::LinuxCpu;
use wharf_core::{Error, Result};

/// Microseconds the kernel takes where only a quota is given.
const USUAL_PERIOD: u64 = 100_000;

/// Times are microseconds. 0 asks nothing, as in runc; a quota below 0 is no limit.
pub(crate) fn write(sheet: &mut Sheet, cpu: &LinuxCpu) -> Result<()> {
    let at = |name: &str| format!("linux/resources/cpu/{name}");
    // An idle cgroup takes no weight: it must have stopped being one before, or become one after.
    if cpu.idle() != Some(1) {
        idle(sheet, cpu)?;
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        let target = sheet.target("cpu", "cpu", &at("shares"))?;
        if target.v2 {
            sheet.add(target, "cpu.weight", weight(shares).to_string(), at("shares")).nearly =
                Some("cgroup v2 weighs from 1 to 10000");
        } else {
            sheet.add(target, "cpu.shares", shares.to_string(), at("shares"));
        }
    }
    if cpu.idle() == Some(1) {
        idle(sheet, cpu)?;
    }
    let period = cpu.period().filter(|period| *period != 0);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    if period.is_some() || quota.is_some() {
        let name = if quota.is_some() { "quota" } else { "period" };
        let target = sheet.target("cpu", "cpu", &at(name))?;
        if target.v2 {
            let limit = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
            let value = format!("{limit} {}", period.unwrap_or(USUAL_PERIOD));
            sheet.add(target, "cpu.max", value, at(name)).or_after_next = cpu.burst().is_some();
        } else {
            // A period that is too long for the quota still in force is accepted after the new quota.
            if let Some(period) = period {
                sheet.add(target, "cpu.cfs_period_us", period.to_string(), at("period")).or_after_next =
                    quota.is_some();
            }
            if let Some(quota) = quota {
                sheet.add(target, "cpu.cfs_quota_us", quota.max(-1).to_string(), at("quota")).or_after_next =
                    cpu.burst().is_some();
            }
        }
    }
    if let Some(burst) = cpu.burst() {
        let target = sheet.target("cpu", "cpu", &at("burst"))?;
        let file = if target.v2 { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
        let write = sheet.add(target, file, burst.to_string(), at("burst"));
        write.missing = Missing::Refuse("kernels have it since 5.14");
    }
    realtime(sheet, cpu)?;
    for (name, file, list) in [("cpus", "cpuset.cpus", cpu.cpus()), ("mems", "cpuset.mems", cpu.mems())] {
        let Some(list) = list.as_deref().filter(|list| !list.is_empty()) else { continue };
        if !list.bytes().all(|byte| byte.is_ascii_digit() || b"-,: \n".contains(&byte)) {
            return Err(Error::invalid(format!("{file} {list:?}"))
                .because("is a list of numbers and ranges, as 0-3,7")
                .at(at(name)));
        }
        let target = sheet.target("cpuset", "cpuset", &at(name))?;
        sheet.add(target, file, list.trim(), at(name));
    }
    Ok(())
}

fn idle(sheet: &mut Sheet, cpu: &LinuxCpu) -> Result<()> {
    const AT: &str = "linux/resources/cpu/idle";
    let Some(idle) = cpu.idle() else { return Ok(()) };
    if !(0..=1).contains(&idle) {
        return Err(Error::invalid(format!("cpu idle {idle}")).because("is 0 or 1").at(AT));
    }
    let target = sheet.target("cpu", "cpu", AT)?;
    sheet.add(target, "cpu.idle", idle.to_string(), AT).missing = Missing::Refuse("kernels have it since 5.15");
    Ok(())
}

fn realtime(sheet: &mut Sheet, cpu: &LinuxCpu) -> Result<()> {
    const NO_REALTIME: Missing = Missing::Refuse("this kernel is built without CONFIG_RT_GROUP_SCHED");
    let at = |name: &str| format!("linux/resources/cpu/{name}");
    let period = cpu.realtime_period().filter(|period| *period != 0).map(|period| period.to_string());
    let runtime = cpu.realtime_runtime().filter(|runtime| *runtime != 0).map(|runtime| runtime.to_string());
    let asked = [("realtimePeriod", "cpu.rt_period_us", period), ("realtimeRuntime", "cpu.rt_runtime_us", runtime)];
    for (name, file, value) in asked {
        let Some(value) = value else { continue };
        let target = sheet.target("cpu", "cpu", &at(name))?;
        if target.v2 {
            return Err(Error::unsupported(format!("{name} {value}"))
                .because("exists in cgroup v1 only, and this host has v2")
                .at(at(name)));
        }
        let write = sheet.add(target, file, value, at(name));
        write.missing = NO_REALTIME;
        write.or_after_next = name == "realtimePeriod" && cpu.realtime_runtime().is_some_and(|runtime| runtime != 0);
    }
    Ok(())
}

/// cpu.shares (2 to 262144) as cpu.weight (1 to 10000), by the quadratic formula that crun and runc took over in 2025:
/// the least, the usual (1024 and 100) and the most of both correspond, which the linear formula before it missed.
pub(crate) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            // The tolerance keeps a rounding error from lifting an exact result.
            (10f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}
