//! What Proxmox's tools say when something fails, as a cause of our own words: theirs would mean other things to an engine.

use super::tool::Said;
use crate::words;
use wharf_core::{Error, Kind};

/// A message of a tool.
struct Known {
    /// What it holds, all of these.
    parts: &'static [&'static str],
    why: &'static str,
    hint: &'static str,
    /// The same call may succeed a moment later.
    again: bool,
}

const fn known(parts: &'static [&'static str], why: &'static str, hint: &'static str) -> Known {
    Known { parts, why, hint, again: false }
}

const fn passing(parts: &'static [&'static str], why: &'static str, hint: &'static str) -> Known {
    Known { parts, why, hint, again: true }
}

/// The first that fits is it, so the narrower ones come first.
const ALL: &[Known] = &[
    known(
        &["ipcc_send_rec"],
        "the node's cluster file system does not answer",
        "systemctl status pve-cluster; the tools work for root alone",
    ),
    known(
        &["unable to load access control list"],
        "the node's cluster file system does not answer",
        "systemctl status pve-cluster",
    ),
    known(&["no quorum"], "the cluster has no quorum, and takes no changes", "pvecm status"),
    passing(
        &["got lock request timeout"],
        "a lock of the cluster was held too long by another task",
        "call again when that has ended",
    ),
    passing(
        &["can't lock file"],
        "another task on the container holds its lock",
        "call again when that has ended: a shutdown holds it as long as it lasts",
    ),
    known(
        &["is locked ("],
        "it is locked by another task, or was left locked by one that broke off",
        "when nothing works on it: pct unlock VMID",
    ),
    known(&["protection mode enabled"], "it is protected from removal", "pct set VMID --protection 0"),
    known(&["used in ha"], "high availability manages it", "ha-manager remove ct:VMID"),
    known(&["container is running"], "it runs, though its payload has ended", "pct stop VMID"),
    known(
        &["does not support container directories"],
        "the storage is not one for root file systems of containers",
        "give it the content type rootdir: pvesm set STORAGE --content rootdir",
    ),
    known(
        &["bridge '", "' does not exist"],
        "the bridge is missing on this node",
        "network.bridge in the configuration names it",
    ),
    known(
        &["storage '", "' does not exist"],
        "the storage is missing on this node",
        "pvesm status; proxmox.storage in the configuration names it",
    ),
    known(&["volume '", "' does not exist"], "the volume is missing", "pvesm list STORAGE"),
    known(&["can't find file"], "the template's archive is missing", "pveam list STORAGE"),
    known(
        &["does not look like a template archive"],
        "the template is no archive that the node knows",
        "tar, tar.gz, tar.xz or tar.zst",
    ),
    known(
        &["unable to detect os distribution"],
        "the node wants to know the distribution",
        "this is a fault of wharf: it asks for none",
    ),
    known(&["newuidmap"], "root may not map those ids", "give root the range in /etc/subuid and /etc/subgid"),
    known(&["newgidmap"], "root may not map those ids", "give root the range in /etc/subuid and /etc/subgid"),
    known(&["only root can"], "the node allows that to root alone", "call wharf as root"),
    known(&["permission check failed"], "the node allows that to root alone", "call wharf as root"),
    known(
        &["device ", "does not exist"],
        "a device is missing on this node",
        "config.json names it under linux/devices",
    ),
    known(
        &["parameter verification failed"],
        "this version of the node's tools does not take it",
        "wharf needs Proxmox VE 9, or pve-container 6",
    ),
    known(
        &["unknown option"],
        "this version of the node's tools does not take it",
        "wharf needs Proxmox VE 9, or pve-container 6",
    ),
    known(
        &["unable to get pid for ct"],
        "its first process ended at once",
        "the node's log of the start tells why: /run/pve/ct-VMID.stderr",
    ),
    known(
        &["startup for container"],
        "LXC could not start it",
        "the node's log of the start tells why: /run/pve/ct-VMID.stderr",
    ),
    known(&["ct already running"], "it runs already", "pct status VMID"),
];

fn find(said: &Said) -> Option<&'static Known> {
    let text = said.both().to_lowercase();
    ALL.iter().find(|known| known.parts.iter().all(|part| text.contains(part)))
}

/// Whether the same call may succeed a moment later.
pub(crate) fn is_passing(said: &Said) -> bool {
    find(said).is_some_and(|known| known.again)
}

/// Another one has the number.
pub(crate) fn is_taken(said: &Said) -> bool {
    said.both().contains("already exists on node")
}

/// The error of a call that has failed.
pub(crate) fn of(doing: impl Into<String>, said: &Said, vmid: u32) -> Error {
    let error = Error::new(Kind::System, doing);
    if let Some(known) = find(said) {
        return error.because(known.why).hint(known.hint.replace("VMID", &vmid.to_string()));
    }
    let last = said.stderr.lines().chain(said.stdout.lines()).map(str::trim).find(|line| !line.is_empty());
    let error = error.because("the node's tool has failed");
    match last.filter(|line| !words::mean_something(line)) {
        Some(line) => error.hint(format!("it says: {line}")),
        None => error.hint("the node's task list tells more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stderr: &str) -> Said {
        Said { stderr: stderr.to_owned(), ..Said::default() }
    }

    #[test]
    fn every_known_message_becomes_a_cause_that_means_nothing_else_to_an_engine() {
        for (message, why) in [
            (
                "ipcc_send_rec[1] failed: Connection refused\nUnable to load access control list: Connection refused",
                "does not answer",
            ),
            ("cluster not ready - no quorum?", "no quorum"),
            ("cfs-lock 'storage-x' error: no quorum!", "no quorum"),
            ("cfs-lock 'storage-x' error: got lock request timeout", "held too long"),
            ("can't lock file '/run/lock/lxc/pve-config-100.lock' - got timeout", "holds its lock"),
            ("CT is locked (backup)", "locked by another task"),
            ("can't remove CT 100 - protection mode enabled", "protected"),
            ("storage 'x' does not exist", "storage is missing"),
            ("storage 'local' does not support container directories", "not one for root file systems"),
            ("unable to create CT 100 - volume 'x:y' does not exist", "volume is missing"),
            ("unable to create CT 100 - can't find file '/x.tar'", "archive is missing"),
            ("bridge 'vmbr9' does not exist", "bridge is missing"),
            ("unable to get PID for CT 100 (not running?)", "ended at once"),
            ("startup for container '100' failed", "could not start"),
            ("Permission denied", "has failed"),
        ] {
            let error = of("start CT 100", &said(message), 100);
            assert!(error.reason().contains(why), "{message}: {error}");
            assert!(!words::mean_something(&error.to_string()), "{message}: {error}");
        }
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        assert!(is_passing(&said("can't lock file '/x' - got timeout")));
        assert!(!is_passing(&said("CT is locked (backup)")));
        assert!(is_taken(&said("CT 100 already exists on node 'pve'")));
        assert!(!is_taken(&said("CT 100 already running")));
    }
}
