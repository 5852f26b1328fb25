//! The annotations that mean something to a runtime: what wharf does about each is decided here, and in no other place.
//!
//! All others are labels of engines, images and people. They are kept in the record and told by `state` and to hooks.

use crate::{Error, Result};

/// `--group-add keep-groups` of Podman: the payload keeps the caller's supplementary groups.
pub const KEEP_ORIGINAL_GROUPS: &str = "run.oci.keep_original_groups";
/// A file that the hooks' standard output is appended to.
pub const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
/// A file that the hooks' standard error is appended to.
pub const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
/// A socket that is given a pidfd of the container's first process.
pub const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";
/// `listenerPath` for a seccomp profile that has none.
pub const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";
/// A system call in the seccomp profile that is not known is an error.
pub const SECCOMP_FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";

/// One property of the unit that systemd makes for the container, in the text form of GVariant.
pub const SYSTEMD_PROPERTY: &str = "org.systemd.property.";
/// The name of a cgroup inside of that unit, which is then the container's.
pub const SYSTEMD_SUBGROUP: &str = "run.oci.systemd.subgroup";
/// `watcher`: a process stays beside the container and writes down how it ended. `none`: none does, whatever the
/// configuration says.
pub const EXIT_RECORD: &str = "dev.wharf.exit-record";
/// `clone`: its root file system is a clone of the dataset that keeps the bundle's. `none`: it is the bundle's, whatever
/// a rule says.
pub const DATASET: &str = "dev.wharf.dataset";
/// How long the container may run, as `90s`: a watcher ends it then.
pub const LIFETIME: &str = "dev.wharf.lifetime";

/// A file with options for criu.
pub const CRIU_CONFIG: &str = "org.criu.config";

/// What becomes of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has the effect that its inventor gave it.
    Applied,
    /// The same where systemd makes the cgroup; without `--systemd-cgroup` it has none.
    Systemd,
    /// It would change how the container runs, and does not here.
    Refused,
    /// It has no effect here, and none that anybody could miss.
    Ignored,
}

/// One annotation, or all that begin with a name that ends in a dot.
#[derive(Clone, Copy, Debug)]
pub struct Annotation {
    pub name: &'static str,
    pub fate: Fate,
    /// What it does, or why it does not.
    pub what: &'static str,
}

const fn row(name: &'static str, fate: Fate, what: &'static str) -> Annotation {
    Annotation { name, fate, what }
}

/// Of every runtime that is known to read annotations. `docs/annotations.md` shows this table.
pub const TABLE: &[Annotation] = &[
    row(KEEP_ORIGINAL_GROUPS, Fate::Applied, "the payload keeps the caller's supplementary groups"),
    row(HOOKS_STDOUT, Fate::Applied, "hooks write their standard output to the end of this file"),
    row(HOOKS_STDERR, Fate::Applied, "hooks write their standard error to the end of this file"),
    row(PIDFD_RECEIVER, Fate::Applied, "this socket is given a pidfd of the container's first process"),
    row(SECCOMP_RECEIVER, Fate::Applied, "this is the seccomp profile's listenerPath, where it has none"),
    row(SECCOMP_FAIL_UNKNOWN, Fate::Applied, "a system call in the seccomp profile that is not known is an error"),
    row(
        EXIT_RECORD,
        Fate::Applied,
        "`watcher`: a process beside the container writes down how it ended; `none`: none does",
    ),
    row(
        DATASET,
        Fate::Applied,
        "`clone`: the root file system is a clone of the ZFS dataset that keeps the bundle's; `none`: it is the bundle's",
    ),
    row(LIFETIME, Fate::Applied, "the container is killed when it has run for this long, as `90s` or `1h30m`"),
    row("run.oci.seccomp.plugins", Fate::Refused, "wharf loads no code of others; use listenerPath"),
    row("run.oci.seccomp_bpf_data", Fate::Refused, "use linux.seccomp"),
    row("run.oci.handler", Fate::Refused, "wharf runs programs of this kernel only"),
    row("run.oci.timens_offset", Fate::Refused, "use linux.timeOffsets"),
    row("run.oci.delegate-cgroup", Fate::Refused, "the payload's cgroup is the container's"),
    row("run.oci.systemd.force_cgroup_v1", Fate::Refused, "mounts of type cgroup are of the host's layout"),
    row(
        SYSTEMD_SUBGROUP,
        Fate::Systemd,
        "the payload's cgroup is the one of this name inside of the container's scope",
    ),
    row("run.oci.mount_context_type", Fate::Ignored, "file systems are labelled by the mount option `context` alone"),
    row(
        SYSTEMD_PROPERTY,
        Fate::Systemd,
        "the container's scope has this property, whose value is in GVariant's text form",
    ),
    row(
        CRIU_CONFIG,
        Fate::Applied,
        "criu reads this file too, in place of /etc/criu/wharf.conf; none where it is empty",
    ),
    row("run.oci.", Fate::Ignored, "it is not known"),
    row("krun.", Fate::Ignored, "it is for a handler that is refused"),
    row("dev.wharf.", Fate::Refused, "there is no annotation of this name"),
    row("module.wasm.image/variant", Fate::Ignored, "it is for a handler that is refused"),
];

/// The row of an annotation that means something to a runtime.
pub fn find(key: &str) -> Option<&'static Annotation> {
    TABLE.iter().find(|row| match row.name.strip_suffix('.') {
        Some(_) => key.starts_with(row.name),
        None => key == row.name,
    })
}

/// Those that change what wharf does: whoever takes a config.json from others has to look at them (features.md,
/// `potentiallyUnsafeConfigAnnotations`).
pub fn applied() -> impl Iterator<Item = &'static str> {
    TABLE.iter().filter(|row| matches!(row.fate, Fate::Applied | Fate::Systemd)).map(|row| row.name)
}

/// Refuses those that would have to change how the container runs; gives back those that have no effect and look as if
/// they should, and why. `systemd` makes the container's cgroup, or does not.
pub fn judge<'a>(keys: impl Iterator<Item = &'a str>, systemd: bool) -> Result<Vec<(&'a str, &'static str)>> {
    let mut ineffective = Vec::new();
    for key in keys {
        match find(key) {
            Some(row) if row.fate == Fate::Refused => {
                return Err(Error::unsupported(format!("annotation {key}")).because(row.what).at(pointer(key)));
            }
            Some(row) if row.fate == Fate::Ignored => ineffective.push((key, row.what)),
            Some(row) if row.fate == Fate::Systemd && !systemd => {
                ineffective.push((key, "it is for a cgroup of systemd's (--systemd-cgroup)"));
            }
            _ => {}
        }
    }
    ineffective.sort_by_key(|(key, _)| *key);
    Ok(ineffective)
}

/// Whether a switch among annotations is on: anything but `0` is, as with crun.
pub fn is_on(value: Option<&String>) -> bool {
    value.is_some_and(|value| value != "0")
}

/// Where in config.json an annotation is (RFC 6901).
pub fn pointer(key: &str) -> String {
    format!("annotations/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_that_fits_decides() {
        let fate = |key| find(key).map(|row| row.fate);
        assert_eq!(fate(KEEP_ORIGINAL_GROUPS), Some(Fate::Applied));
        assert_eq!(fate("run.oci.handler"), Some(Fate::Refused));
        assert_eq!(fate("run.oci.of.tomorrow"), Some(Fate::Ignored));
        assert_eq!(fate("org.systemd.property.CPUWeight"), Some(Fate::Systemd));
        for label in ["io.podman.annotations.init", "io.kubernetes.cri.container-type", "run.ocix", "org.example"] {
            assert_eq!(fate(label), None, "{label}");
        }
    }

    #[test]
    fn a_refusal_names_the_annotation_and_its_place() {
        let error = judge(["a", "run.oci.handler"].into_iter(), true).unwrap_err();
        assert_eq!(error.pointer(), Some("annotations/run.oci.handler"));
        let told = |systemd| judge(["run.oci.systemd.subgroup", "a"].into_iter(), systemd).unwrap().len();
        assert_eq!((told(false), told(true)), (1, 0));
        assert_eq!(pointer("module.wasm.image/variant"), "annotations/module.wasm.image~1variant");
        assert!(!is_on(None) && !is_on(Some(&"0".to_owned())) && is_on(Some(&String::new())));
    }

    #[test]
    fn the_documentation_has_every_row() {
        let page = include_str!("../../docs/annotations.md");
        for row in TABLE {
            let name = match row.name.ends_with('.') {
                true => format!("`{}*`", row.name),
                false => format!("`{}`", row.name),
            };
            let line = page.lines().find(|line| line.starts_with(&format!("| {name} |")));
            let line = line.unwrap_or_else(|| panic!("no row for {name}"));
            let fate = match row.fate {
                Fate::Applied => "applied",
                Fate::Systemd => "with systemd",
                Fate::Refused => "refused",
                Fate::Ignored => "no effect",
            };
            assert_eq!(line, format!("| {name} | {fate} | {} |", row.what));
        }
    }
}
