//! Resource limits of a process. They are the parent's to set: raising one above what is inherited takes a right that a
//! new user namespace does not have, and a low one must not hit the set-up.

use oci_spec::runtime::{PosixRlimitType, Process};
use wharf_core::{Error, Result};

/// One limit: the kernel's number of the resource, and where in config.json it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    pub resource: u32,
    pub name: String,
    pub soft: u64,
    pub hard: u64,
    pub pointer: String,
}

/// `RLIMIT_*` of asm-generic/resource.h, which x86 and arm share.
fn number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}

/// The limits of a process: no resource twice, none softer than it is hard.
pub fn judge(process: &Process) -> Result<Vec<Rlimit>> {
    let mut all: Vec<Rlimit> = Vec::new();
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        let pointer = format!("process/rlimits/{index}");
        let (resource, name) = (number(limit.typ()), limit.typ().to_string());
        if all.iter().any(|other| other.resource == resource) {
            return Err(Error::invalid(format!("rlimit {name}")).because("is listed twice").at(pointer));
        }
        let (soft, hard) = (limit.soft(), limit.hard());
        if soft > hard {
            return Err(Error::invalid(format!("rlimit {name}"))
                .because(format!("its soft limit {soft} is above its hard limit {hard}"))
                .at(pointer));
        }
        all.push(Rlimit { resource, name, soft, hard, pointer });
    }
    Ok(all)
}
