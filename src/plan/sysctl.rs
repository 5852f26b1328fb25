//! Kernel parameters that belong to the container's namespaces.

use crate::Builder;
use crate::namespaces::{NEWIPC, NEWNET, NEWUTS, Namespaces};
use oci_spec::runtime::Spec;
use wharf_core::{Error, Result};
use wharf_steps::Step;

/// Parameters of an IPC namespace (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

pub(crate) fn all(spec: &Spec, namespaces: &Namespaces, plan: &mut Builder) -> Result<()> {
    let Some(sysctl) = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref()) else { return Ok(()) };
    let mut sorted: Vec<(&String, &String)> = sysctl.iter().collect();
    sorted.sort();
    for (name, value) in sorted {
        let pointer = format!("linux/sysctl/{}", name.replace('~', "~0").replace('/', "~1"));
        let name = dotted(name);
        let refuse = |why: &str| Err(Error::invalid(format!("sysctl {name}")).because(why).at(pointer.as_str()));
        // As a path: one that climbs would leave the part of the tree that its first name promises.
        if swap(&name).split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refuse("is not the name of a parameter");
        }
        if IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
            if !namespaces.apart(NEWIPC) {
                return refuse("needs an IPC namespace: it would change the host's");
            }
        } else if name.starts_with("net.") {
            if !namespaces.apart(NEWNET) {
                return refuse("needs a network namespace: it would change the host's");
            }
        } else if name == "kernel.domainname" || name == "kernel.hostname" {
            if !namespaces.apart(NEWUTS) {
                return refuse("needs a UTS namespace: it would change the host's");
            }
            if name == "kernel.hostname" && spec.hostname().as_ref().is_some_and(|hostname| hostname != value) {
                return refuse("contradicts hostname");
            }
        } else {
            return refuse("does not belong to a namespace: it would change the host's");
        }
        let path = format!("sys/{}", swap(&name));
        let path = plan.text(path, &pointer)?;
        let value = plan.bytes(value.as_bytes());
        plan.step(Step::WriteProc { path, value }, pointer);
    }
    Ok(())
}

/// The name with dots, as sysctl(8) reads it: where a slash comes first, slashes part the name and dots belong to it.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => swap(name),
        _ => name.to_owned(),
    }
}

/// Dots to slashes and slashes to dots.
fn swap(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_sysctl_reads_it() {
        assert_eq!(dotted("net.ipv4.ip_forward"), "net.ipv4.ip_forward");
        assert_eq!(dotted("net/ipv4/conf/eth0.1/mtu"), "net.ipv4.conf.eth0/1.mtu");
        assert_eq!(swap("net.ipv4.conf.eth0/1.mtu"), "net/ipv4/conf/eth0.1/mtu");
    }
}
