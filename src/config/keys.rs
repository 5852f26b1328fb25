//! Every key of the configuration, as data: judging, `config show`, the schema and the example follow this table.

/// What a value must be.
#[derive(Debug)]
pub(crate) enum Form {
    /// A string that is not empty.
    Text,
    /// An absolute path.
    Path,
    Switch,
    Number {
        least: u64,
        most: u64,
    },
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// As Go programs write it: `1h30m`.
    Duration,
    /// An IPv4 or IPv6 address.
    Address,
    /// Two numbers, the second not below the first.
    Range {
        least: u64,
        most: u64,
    },
    /// A glob, or a regular expression as `re:…`.
    Pattern,
    /// A user id, or two of them as `1000-1999`.
    Uids,
    OneOrMore(&'static Form),
    List(&'static Form),
    Object(&'static [Key]),
    /// Names that the administrator chooses.
    Map(&'static Form),
    /// A path, or an object.
    PathOr(&'static [Key]),
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) required: bool,
    pub(crate) about: &'static str,
}

/// A key that is a remark for readers, allowed in every object.
pub(crate) const REMARK: &str = "//";

const fn key(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, required: false, about }
}

const fn required(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, required: true, about }
}

const PATTERNS: Form = Form::OneOrMore(&Form::Pattern);

/// The keys at the top.
pub(crate) const TOP: &[Key] = &[
    key("root", Form::Path, "Directory of the containers' records."),
    key("log", Form::Object(LOG), "Where failures are written, and what else."),
    key(
        "exit_record",
        Form::Choice(&["none", "watcher"]),
        "Whether a watcher stays beside each container and writes down how it ended. One without an annotation follows this.",
    ),
    key("default_backend", Form::Text, "Where a container goes that no rule matches: native, or a runtime's name."),
    key(
        "runtimes",
        Form::Map(&Form::PathOr(RUNTIME)),
        "Other OCI runtimes by name: an absolute path, or an object with path and args.",
    ),
    key(
        "trusted_annotations",
        Form::List(&Form::Text),
        "Annotations that rules may use. An image can set them under some engines, so each must be listed here.",
    ),
    key("routing", Form::List(&Form::Object(RULE)), "Rules, in order; the first that matches chooses the backend."),
    key("storage", Form::Object(STORAGE), "Where root file systems are kept that wharf makes itself."),
    key("network", Form::Object(NETWORK), "The network of containers that no engine gives one."),
    key("proxmox", Form::Object(PROXMOX), "The Proxmox VE node that containers are made on."),
    key("vm", Form::Object(VM), "Virtual machines as containers."),
];

const LOG: &[Key] = &[
    key("file", Form::Path, "File to append to, unless --log names another."),
    key("format", Form::Choice(&["text", "json"]), "Form of a line, unless --log-format is given."),
    key(
        "level",
        Form::Choice(&["error", "warn", "info", "debug"]),
        "What is written, unless --log-level or --debug is given.",
    ),
];

const RUNTIME: &[Key] = &[
    required("path", Form::Path, "The program."),
    key("args", Form::List(&Form::Text), "More options for it, before the verb of every call."),
];

const RULE: &[Key] = &[
    key("name", Form::Text, "What messages call the rule."),
    required("match", Form::Object(MATCH), "Conditions that must all hold; none at all match every container."),
    required("backend", Form::Text, "Where a matching container goes: native, or a runtime's name."),
    key("required", Form::Switch, "True, as without fallback: no such backend on this host, no container."),
    key("fallback", Form::Text, "Where it goes when that backend cannot be used on this host."),
    key(
        "dataset",
        Form::Choice(&["clone", "none"]),
        "clone: its root file system is a clone, below storage.zfs_dataset, of the dataset that keeps the bundle's.",
    ),
];

/// A condition holds when any of its patterns matches.
pub(crate) const MATCH: &[Key] = &[
    key("id", PATTERNS, "The container's id."),
    key("annotations", Form::Map(&PATTERNS), "Annotations by key. Each key must be among trusted_annotations."),
    key("hostname", PATTERNS, "hostname of the bundle."),
    key("cgroup_parent", PATTERNS, "Directory of linux.cgroupsPath; with systemd's form its slice."),
    key("bundle", PATTERNS, "Absolute path of the bundle."),
    key("uid", Form::OneOrMore(&Form::Uids), "The caller's user id, outside of a rootless engine's user namespace."),
    key("argv0", PATTERNS, "Name by which wharf was called, without directories: a link's own name."),
];

const STORAGE: &[Key] = &[
    key(
        "zfs_dataset",
        Form::Text,
        "Dataset below which containers get their own, where they ask for one: it need not exist, its pool must.",
    ),
    key("checkpoints", Form::Path, "Directory of checkpoints that have a name, instead of /var/lib/wharf/checkpoints."),
    key(
        "keep",
        Form::Number { least: 0, most: 1_000_000 },
        "How many checkpoints of a container stay, the last ones, when checkpoints prune is called.",
    ),
    key("keep_for", Form::Duration, "How long a checkpoint stays then, as 168h."),
];

const NETWORK: &[Key] = &[
    key("bridge", Form::Text, "Bridge of the host that containers are attached to."),
    key("dns", Form::List(&Form::Address), "Name servers told to containers."),
];

const PROXMOX: &[Key] = &[
    key("pct_path", Form::Path, "The program pct, instead of /usr/sbin/pct."),
    key(
        "node_root",
        Form::Path,
        "Directory in front of all paths of the node, and of bin/pct: for a node that is not at /.",
    ),
    key("qm_path", Form::Path, "The program qm."),
    key("node", Form::Text, "Name of this node in the cluster."),
    key("storage", Form::Text, "Storage for root file systems."),
    key("vmid_range", Form::Range { least: 100, most: 999_999_999 }, "First and last number given to containers."),
    key(
        "timeout",
        Form::Number { least: 1, most: 86_400 },
        "Longest time for one call of Proxmox's tools, in seconds.",
    ),
    key(
        "unprivileged",
        Form::Switch,
        "Make no container that is privileged: a bundle without a user namespace is refused.",
    ),
];

const VM: &[Key] = &[
    key("qemu_path", Form::Path, "The program qemu-system-*."),
    key("kernel", Form::Path, "The guests' kernel, instead of the newest of /boot."),
    key("modules", Form::Path, "Directory of that kernel's drivers, where it is not beside it as in a package."),
    key("cache", Form::Path, "Directory of what guests boot from, instead of /var/cache/wharf/vm."),
    key(
        "processor",
        Form::Choice(&["auto", "kvm", "emulation"]),
        "What executes the guest: auto is KVM where it is seen to boot the guest, else emulation.",
    ),
    key(
        "memory",
        Form::Number { least: 192, most: 1 << 24 },
        "MiB of memory of a machine whose container has no limit, instead of 512.",
    ),
    key("timeout", Form::Number { least: 1, most: 3600 }, "How many seconds a guest may take to boot, instead of 60."),
    key(
        "root",
        Form::Choice(&["9p", "disk"]),
        "How a guest has its root file system: 9p is the bundle's own directory, disk a copy of it on a disk of its own.",
    ),
    key("disk_size", Form::Number { least: 64, most: 1 << 24 }, "MiB of such a disk at most, instead of 10240."),
    key("disks", Form::Path, "Directory of such disks, instead of /var/lib/wharf/vm."),
];

/// What the predecessors of a key were called, and what is often written instead.
pub(crate) const ALIASES: &[(&str, &str)] = &[
    ("backend", "default_backend"),
    ("default", "default_backend"),
    ("logFormat", "log.format"),
    ("log_format", "log.format"),
    ("logLevel", "log.level"),
    ("log_level", "log.level"),
    ("log_path", "log.file"),
    ("root_path", "root"),
    ("rules", "routing"),
    ("routes", "routing"),
    ("pattern", "match"),
    ("runtime", "backend"),
    ("dns_servers", "dns"),
    ("annotation", "annotations"),
    ("cgroup", "cgroup_parent"),
    ("user", "uid"),
    ("container_id", "id"),
];

/// The known key that was probably meant.
pub(crate) fn meant(word: &str, keys: &[Key]) -> Option<String> {
    let known = |name: &str| keys.iter().any(|key| key.name == name.split('.').next().unwrap_or(name));
    let alias = ALIASES.iter().find(|(old, new)| *old == word && known(new)).map(|(_, new)| (*new).to_owned());
    alias.or_else(|| nearest(word, keys.iter().map(|key| key.name)).map(str::to_owned))
}

/// The candidate with the fewest letters to change, if that is not nearly a new word.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters to add, remove, change or swap with the next; without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<char>>();
    let (a, b) = (letters(a), letters(b));
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_leads_to_the_one_that_was_meant() {
        for (word, key) in [
            ("routng", Some("routing")),
            ("Routing", Some("routing")),
            ("runtime", Some("runtimes")),
            ("backend", Some("default_backend")),
            ("logLevel", Some("log.level")),
            ("security", None),
        ] {
            assert_eq!(meant(word, TOP).as_deref(), key, "{word}");
        }
        assert_eq!(meant("runtime", RULE).as_deref(), Some("backend"));
        assert_eq!((distance("kitten", "sitting"), distance("wran", "warn")), (3, 1));
    }
}
