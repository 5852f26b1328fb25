//! `linux/resources/blockIO`.

use crate::wanted::{Missing, Sheet};
use oci_spec::runtime::LinuxBlockIo;
use wharf_core::{Error, Result};

pub(crate) const NO_WEIGHT: &str = "no scheduler of this kernel weighs block I/O (CONFIG_BFQ_GROUP_IOSCHED)";

/// Weights are 10 to 1000, rates bytes or operations a second; 0 asks no weight, and lifts a rate.
///
/// On v2 a weight goes to BFQ's own file where there is one and else, converted as runc does, to `io.weight`.
pub(crate) fn write(sheet: &mut Sheet, block_io: &LinuxBlockIo) -> Result<()> {
    let at = |name: &str| format!("linux/resources/blockIO/{name}");
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        add_weight(sheet, None, weight, at("weight"))?;
    }
    if let Some(weight) = block_io.leaf_weight().filter(|weight| *weight != 0) {
        add_leaf_weight(sheet, None, weight, at("leafWeight"))?;
    }
    for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
        let numbers = format!("{}:{}", device.major(), device.minor());
        let at = |name: &str| at(&format!("weightDevice/{index}/{name}"));
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            add_weight(sheet, Some(&numbers), weight, at("weight"))?;
        }
        if let Some(weight) = device.leaf_weight().filter(|weight| *weight != 0) {
            add_leaf_weight(sheet, Some(&numbers), weight, at("leafWeight"))?;
        }
    }
    let rates = [
        ("throttleReadBpsDevice", "read_bps", "rbps", block_io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "write_bps", "wbps", block_io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "read_iops", "riops", block_io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "write_iops", "wiops", block_io.throttle_write_iops_device()),
    ];
    for (name, v1, v2, devices) in rates {
        for (index, device) in devices.iter().flatten().enumerate() {
            let at = at(&format!("{name}/{index}"));
            let target = sheet.target("blkio", "io", &at)?;
            let (numbers, rate) = (format!("{}:{}", device.major(), device.minor()), device.rate());
            let write = if target.v2 {
                let rate = if rate == 0 { "max".to_owned() } else { rate.to_string() };
                sheet.add(target, "io.max", format!("{numbers} {v2}={rate}"), at)
            } else {
                sheet.add(target, format!("blkio.throttle.{v1}_device"), format!("{numbers} {rate}"), at)
            };
            write.missing = Missing::Refuse("this kernel is built without CONFIG_BLK_DEV_THROTTLING");
        }
    }
    Ok(())
}

fn check(weight: u16, at: &str) -> Result<()> {
    if (10..=1000).contains(&weight) {
        return Ok(());
    }
    Err(Error::invalid(format!("weight {weight}")).because("is 10 to 1000").at(at))
}

fn add_weight(sheet: &mut Sheet, device: Option<&str>, weight: u16, at: String) -> Result<()> {
    check(weight, &at)?;
    let target = sheet.target("blkio", "io", &at)?;
    let value = |weight: u64| device.map_or(weight.to_string(), |device| format!("{device} {weight}"));
    let own = value(weight.into());
    let write = if target.v2 {
        sheet.add(target, "io.bfq.weight", own.clone(), at)
    } else {
        let file = if device.is_some() { "blkio.weight_device" } else { "blkio.weight" };
        sheet.add(target, file, own.clone(), at)
    };
    if target.v2 {
        write.nearly = Some("where the kernel has no BFQ, io.weight gets it, converted to 1 to 10000");
    }
    write.missing = match (target.v2, device.is_some()) {
        (true, _) => Missing::Instead { file: "io.weight", value: value(io_weight(weight)) },
        (false, true) => Missing::Instead { file: "blkio.bfq.weight_device", value: own },
        (false, false) => Missing::Instead { file: "blkio.bfq.weight", value: own },
    };
    Ok(())
}

fn add_leaf_weight(sheet: &mut Sheet, device: Option<&str>, weight: u16, at: String) -> Result<()> {
    check(weight, &at)?;
    let target = sheet.target("blkio", "io", &at)?;
    if target.v2 {
        return Err(Error::unsupported(format!("leaf weight {weight}"))
            .because("exists in cgroup v1 only, and this host has v2")
            .at(at));
    }
    let (file, value) = match device {
        Some(device) => ("blkio.leaf_weight_device", format!("{device} {weight}")),
        None => ("blkio.leaf_weight", weight.to_string()),
    };
    sheet.add(target, file, value, at).missing = Missing::Refuse(NO_WEIGHT);
    Ok(())
}

/// blkio.weight (10 to 1000) as io.weight (1 to 10000): linear, as runc converts.
pub(crate) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight) - 10) * 9999 / 990
}
