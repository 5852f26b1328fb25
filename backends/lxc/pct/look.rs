//! Whether a node is in order for containers of ours. Looks, and changes nothing.

use super::settings::Settings;
use super::{told, vmid};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// One thing that was looked at.
#[derive(Debug)]
pub struct Finding {
    pub what: String,
    /// Why it is not in order, and what to do about that.
    pub fault: Option<(String, String)>,
}

fn finding(what: impl Into<String>, fault: Option<(&str, &str)>) -> Finding {
    Finding { what: what.into(), fault: fault.map(|(why, fix)| (why.to_owned(), fix.to_owned())) }
}

/// Everything that a container takes of the node.
pub fn look(settings: &Settings) -> Vec<Finding> {
    let cluster = settings.cluster();
    let guests = match vmid::guests(settings) {
        Ok(all) => finding(format!("Proxmox: {}, {} guests in the cluster", cluster.display(), all.len()), None),
        Err(error) => {
            let fix = error.advice().unwrap_or_default().to_owned();
            Finding { what: "Proxmox: cluster file system".to_owned(), fault: Some((error.reason(), fix)) }
        }
    };
    // The link can be written to, as it says itself, where the cluster has a quorum.
    let has_quorum = fs::symlink_metadata(cluster.join("local")).is_ok_and(|about| about.mode() & 0o222 != 0);
    let quorum = (!has_quorum).then_some(("the cluster takes no changes", "pvecm status"));
    let silent = told::listen(&settings.lxc_path()).is_none();
    let silent = silent.then_some((
        "how a payload ended is then asked of the kernel, which tells from version 6.15 on",
        "systemctl start lxc-monitord",
    ));
    let ids = ["/etc/subuid", "/etc/subgid"].iter().all(|file| {
        let text = fs::read_to_string(settings.path(file)).unwrap_or_default();
        has_usual(&text)
    });
    let ids = (!ids).then_some((
        "root has not the ids 100000 to 165535 there",
        "echo root:100000:65536 >> /etc/subuid, and the same to /etc/subgid",
    ));
    vec![
        guests,
        finding("Proxmox: quorum", quorum),
        finding("Proxmox: LXC's monitor daemon", silent),
        finding("Proxmox: ids of unprivileged containers in /etc/subuid and /etc/subgid", ids),
    ]
}

/// Whether root has what every unprivileged container of a node is mapped to.
fn has_usual(text: &str) -> bool {
    text.lines().any(|line| {
        let mut fields = line.trim().split(':');
        let root = fields.next().is_some_and(|name| matches!(name, "root" | "0"));
        let mut number = || fields.next()?.parse::<u64>().ok();
        match (number(), number()) {
            (Some(first), Some(count)) => root && first <= 100_000 && first + count >= 165_536,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ids_are_found_in_one_range() {
        assert!(has_usual("me:1:2\nroot:100000:65536\n"));
        assert!(has_usual("0:1:1000000"));
        for other in ["", "root:100000:65535", "me:100000:65536", "root:100001:65536", "root:x:y"] {
            assert!(!has_usual(other), "{other}");
        }
    }

    #[test]
    fn a_host_that_is_no_node_has_its_faults_told() {
        let found = look(&Settings::of_node("/nowhere".into()));
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|one| one.fault.is_some()), "{found:?}");
    }
}
