//! Labels of SELinux: of the payload and its keys, and of the file systems that are made for it.

use crate::{Builder, Facts};
use oci_spec::runtime::{Process, Spec};
use wharf_core::{Error, Result};
use wharf_steps::{Step, Text};

const POINTER: &str = "process/selinuxLabel";

/// The label of a process; refused where the kernel has nothing that reads it.
fn of_process<'a>(process: &'a Process, facts: &Facts) -> Result<Option<&'a str>> {
    let Some(label) = process.selinux_label().as_deref().filter(|label| !label.is_empty()) else { return Ok(None) };
    if !facts.selinux {
        let why = "this kernel has no SELinux, or it is off";
        return Err(Error::unsupported(format!("SELinux label {label}")).because(why).at(POINTER));
    }
    Ok(Some(label))
}

/// Before the session keyring is made, which is labelled too.
pub(crate) fn keys(process: &Process, facts: &Facts, plan: &mut Builder) -> Result<()> {
    if let Some(label) = of_process(process, facts)?.filter(|_| !facts.no_new_keyring) {
        let label = plan.text(label, POINTER)?;
        plan.step(Step::KeyLabel { label }, POINTER);
    }
    Ok(())
}

/// After the hooks, which would be labelled else. An exec forgets what was said of keys.
pub(crate) fn exec(process: &Process, facts: &Facts, plan: &mut Builder) -> Result<()> {
    if let Some(label) = of_process(process, facts)? {
        let label = plan.text(label, POINTER)?;
        plan.step(Step::ExecLabel { label }, POINTER);
    }
    Ok(())
}

/// The label of the container's file systems, where the kernel has SELinux.
pub(crate) fn of_mounts<'a>(spec: &'a Spec, facts: &Facts) -> Option<&'a str> {
    let label = spec.linux().as_ref()?.mount_label().as_deref().filter(|label| !label.is_empty())?;
    facts.selinux.then_some(label)
}

/// How a file system of this kind is labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The kernel labels its files one by one: nothing is to be said.
    Itself,
    /// By the mount option `context`.
    Option,
    /// Its root, once it is mounted: it is one for all mounts of an IPC namespace, and has no other label than the first.
    Root,
}

pub(crate) fn way(kind: &str) -> Way {
    match kind {
        "proc" | "sysfs" | "cgroup" | "cgroup2" => Way::Itself,
        "mqueue" => Way::Root,
        _ => Way::Option,
    }
}

/// `data` of mount(2) with the label: quoted, because it may hold commas.
pub(crate) fn data(data: &str, label: Option<&str>) -> String {
    match label {
        None => data.to_owned(),
        Some(label) if data.is_empty() => format!("context=\"{label}\""),
        Some(label) => format!("{data},context=\"{label}\""),
    }
}

/// The root of a file system that was mounted without its label.
pub(crate) fn root(target: Text, label: &str, pointer: &str, plan: &mut Builder) -> Result<()> {
    let label = plan.text(label, "linux/mountLabel")?;
    plan.step(Step::LabelFile { target, label }, pointer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";
    const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";

    fn spec() -> Spec {
        let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
        serde_json::from_value(json!({
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs"},
            "process": {"args": ["/init"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "selinuxLabel": LABEL},
            "mounts": [
                mount("/proc", "proc", &[]),
                mount("/dev", "tmpfs", &["mode=755"]),
                mount("/dev/pts", "devpts", &["newinstance"]),
                mount("/dev/mqueue", "mqueue", &[]),
                mount("/scratch", "tmpfs", &["tmpcopyup"]),
            ],
            "linux": {
                "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}],
                "maskedPaths": ["/proc/acpi"],
                "mountLabel": FILES,
            },
        }))
        .unwrap()
    }

    fn facts(selinux: bool) -> Facts {
        Facts { selinux, permitted: u64::MAX, rootfs: "/rootfs".to_owned(), ..Facts::default() }
    }

    /// The plan's steps in words, those that name a label.
    fn labelled(facts: &Facts) -> Vec<String> {
        let container = crate::container(&spec(), facts).unwrap();
        let plan = &container.plan;
        let words = plan.steps().iter().map(|step| match *step {
            Step::Mask { path, label } => format!("mask {} as {:?}", plan.text(path), plan.text(label)),
            step => plan.describe(step),
        });
        words.filter(|words| words.contains("system_u")).collect()
    }

    #[test]
    fn each_label_is_set_where_it_counts() {
        let expected = [
            format!("mount tmpfs on /dev (mode=755,context=\"{FILES}\")"),
            format!("mount devpts on /dev/pts (newinstance,context=\"{FILES}\")"),
            format!("label /dev/mqueue {FILES:?} by SELinux"),
            format!("mount tmpfs on /scratch (context={FILES})"),
            format!("mask /proc/acpi as {FILES:?}"),
            format!("label keys {LABEL:?} by SELinux"),
            format!("confine by SELinux label {LABEL:?}"),
        ];
        assert_eq!(labelled(&facts(true)), expected);
    }

    #[test]
    fn keys_are_labelled_before_there_are_any_and_the_exec_after_the_hooks() {
        let container = crate::container(&spec(), &facts(true)).unwrap();
        let position = |wanted: fn(&Step) -> bool| container.plan.steps().iter().position(wanted).unwrap();
        let keys = position(|step| matches!(step, Step::KeyLabel { .. }));
        assert!(matches!(container.plan.steps()[keys + 1], Step::SessionKeyring { .. }));
        let exec = position(|step| matches!(step, Step::ExecLabel { .. }));
        assert!(exec > position(|step| matches!(step, Step::WaitStart {})));
        assert!(exec < position(|step| matches!(step, Step::Bounding { .. })));
        assert_eq!(container.plan.pointer(exec), POINTER);
    }

    #[test]
    fn without_a_new_keyring_no_key_is_labelled() {
        let steps = labelled(&Facts { no_new_keyring: true, ..facts(true) });
        assert!(!steps.iter().any(|step| step.starts_with("label keys")), "{steps:?}");
    }

    #[test]
    fn a_kernel_without_selinux_refuses_a_process_label_and_tells_of_the_other() {
        let error = crate::container(&spec(), &facts(false)).unwrap_err();
        assert_eq!(error.pointer(), Some(POINTER));
        assert!(error.to_string().contains(LABEL), "{error}");
        let mut spec = spec();
        spec.set_process(spec.process().clone().map(|mut process| {
            process.set_selinux_label(None);
            process
        }));
        let container = crate::container(&spec, &facts(false)).unwrap();
        assert!(container.notes.iter().any(|note| matches!(note, crate::Note::MountLabel)));
        let plan = &container.plan;
        assert!(plan.steps().iter().all(|step| !plan.describe(*step).contains("system_u")));
    }
}
