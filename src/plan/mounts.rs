//! The root file system and everything mounted in it.

use crate::facts::CgroupMount;
use crate::namespaces::{self, NEWCGROUP, NEWIPC, NEWNET, NEWPID, Namespaces};
use crate::options::{self, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, Options};
use crate::terminal::Terminal;
use crate::trees::{self, Tree};
use crate::{Builder, Facts, Note, required, selinux};
use oci_spec::runtime::{Mount, Spec};
use wharf_core::{Error, Result};
use wharf_steps::{Slot, Step, Text};

/// What later rooms want to know of the mounts.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// /dev is the container's, not one bound from the host: its devices are ours to make.
    pub(crate) own_dev: bool,
    /// Where a /dev is asked for that is read-only.
    read_only_dev: Option<String>,
}

impl Summary {
    /// Once everything is in it, /dev/console too.
    pub(crate) fn finish_dev(self, plan: &mut Builder) -> Result<()> {
        let Some(pointer) = self.read_only_dev else { return Ok(()) };
        let path = plan.text("/dev", &pointer)?;
        plan.step(Step::MountReadonly { path }, pointer);
        Ok(())
    }
}

/// The container's mounts leave the host's, and the root file system becomes a mount of its own. Without a mount
/// namespace that mount is the host's, and everything in it: whoever deletes the container takes it away.
///
/// Gives back what is copied before that.
pub(crate) fn root(spec: &Spec, facts: &Facts, namespaces: &Namespaces, plan: &mut Builder) -> Result<Copies> {
    required(spec.root(), "root")?;
    let asked = root_propagation(spec)?;
    let inherited = if asked & MS_PRIVATE != 0 { MS_PRIVATE } else { MS_SLAVE };
    let copies = copies(spec, facts, namespaces, inherited, plan)?;
    // pivot_root(2) refuses shared mounts, and a root that is to be shared becomes so when it is the root.
    let own_mounts = namespaces.has_mounts();
    if own_mounts {
        plan.step(Step::PropagateAll { flags: inherited | MS_REC }, "linux/rootfsPropagation");
    } else if asked != 0 {
        return Err(Error::invalid("rootfsPropagation")
            .because("needs a mount namespace: it would change the host's mounts")
            .at("linux/rootfsPropagation"));
    }
    let path = plan.text(&facts.rootfs, "root/path")?;
    plan.step(Step::OpenRoot { path, private: !own_mounts }, "root/path");
    Ok(copies)
}

/// Copies of the host's mounts that are made before the container's leave them.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// Those that the parent makes.
    pub(crate) trees: Vec<Tree>,
    /// All of them, by the mount's index.
    slots: Vec<(usize, Slot)>,
}

impl Copies {
    fn slot(&self, index: usize) -> Slot {
        self.slots.iter().find(|(of, _)| *of == index).map_or(Slot::NONE, |(_, slot)| *slot)
    }
}

fn copies(spec: &Spec, facts: &Facts, namespaces: &Namespaces, inherited: u64, plan: &mut Builder) -> Result<Copies> {
    let mut copies = Copies::default();
    let by_parent = trees::are_wanted(facts, namespaces);
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let pointer = format!("mounts/{index}");
        let options = parse(mount, &pointer)?;
        let is_bind = is_bind(mount, &options);
        let owners = trees::owners(mount, &options, is_bind, facts, namespaces, &pointer)?;
        if !is_bind {
            continue;
        }
        let recursive = is_recursive(mount, &options);
        let slot = match owners {
            Some(_) => Some(plan.slot(&pointer)?),
            None if by_parent => plan.spare_slot(),
            None => None,
        };
        if let Some(slot) = slot {
            let propagation = trees::propagation(&options, namespaces, inherited);
            let source = source(mount, facts, &pointer)?;
            let target = mount.destination().to_string_lossy().into_owned();
            copies.slots.push((index, slot));
            copies.trees.push(Tree { slot, source, target, recursive, owners, propagation, pointer });
        } else if options.propagation & MS_SHARED != 0 {
            // It has to be copied while it still is in the host's peer group.
            let slot = plan.slot(&pointer)?;
            let source = source(mount, facts, &pointer)?;
            let source = plan.text(source, &pointer)?;
            plan.step(Step::OpenTree { slot, source, recursive }, pointer);
            copies.slots.push((index, slot));
        }
    }
    Ok(copies)
}

fn root_propagation(spec: &Spec) -> Result<u64> {
    let Some(asked) = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref()) else {
        return Ok(0);
    };
    Ok(match asked {
        "" => 0,
        "private" => MS_PRIVATE,
        "rprivate" => MS_PRIVATE | MS_REC,
        "slave" => MS_SLAVE,
        "rslave" => MS_SLAVE | MS_REC,
        "shared" => MS_SHARED,
        "rshared" => MS_SHARED | MS_REC,
        "unbindable" => MS_UNBINDABLE,
        "runbindable" => MS_UNBINDABLE | MS_REC,
        other => {
            return Err(Error::invalid(format!("rootfsPropagation {other:?}"))
                .because("is not one of private, slave, shared, unbindable, or one of these with r before it")
                .at("linux/rootfsPropagation"));
        }
    })
}

fn parse(mount: &Mount, pointer: &str) -> Result<Options> {
    options::parse(mount.options().as_deref().unwrap_or_default(), &format!("{pointer}/options"))
}

fn is_bind(mount: &Mount, options: &Options) -> bool {
    options.bind || matches!(mount.typ().as_deref(), Some("bind" | "rbind"))
}

/// Whether a path is another one, or below it.
fn is_below(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_recursive(mount: &Mount, options: &Options) -> bool {
    options.recursive || mount.typ().as_deref() == Some("rbind")
}

fn source(mount: &Mount, facts: &Facts, pointer: &str) -> Result<String> {
    let Some(source) = mount.source().as_ref().filter(|source| !source.as_os_str().is_empty()) else {
        return Err(Error::invalid("a bind mount without a source").at(format!("{pointer}/source")));
    };
    // A relative source is below the bundle (config.md, "mounts").
    let path = std::path::Path::new(&facts.bundle).join(source);
    path.into_os_string().into_string().map_err(|_| Error::invalid("a source that is not UTF-8").at(pointer))
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn all(
    spec: &Spec,
    facts: &Facts,
    namespaces: &Namespaces,
    copies: &Copies,
    terminal: Option<&Terminal>,
    notes: &mut Vec<Note>,
    plan: &mut Builder,
) -> Result<Summary> {
    let mut summary = Summary { own_dev: true, read_only_dev: None };
    let label = selinux::of_mounts(spec, facts);
    let mut bound = Vec::new();
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let pointer = format!("mounts/{index}");
        let mut options = parse(mount, &pointer)?;
        let destination = mount
            .destination()
            .to_str()
            .filter(|path| !path.is_empty())
            .ok_or_else(|| Error::invalid("a mount without a destination").at(format!("{pointer}/destination")))?;
        if destination.trim_matches('/').is_empty() {
            return Err(Error::invalid("a mount over the root itself").at(format!("{pointer}/destination")));
        }
        let target = plan.text(destination, &format!("{pointer}/destination"))?;
        if destination.trim_end_matches('/') == "/dev" && !options.remount {
            summary.read_only_dev = None;
            if is_bind(mount, &options) {
                summary.own_dev = false;
            } else if options.flags & MS_RDONLY != 0 {
                // Not yet: devices, links and further mounts are to be made in it.
                summary.read_only_dev = Some(pointer.clone());
                options.read_write();
            }
        }
        if is_bind(mount, &options) {
            notes.extend(
                options
                    .superblock
                    .iter()
                    .chain(&options.data)
                    .map(|option| Note::BindOption { option: option.clone(), pointer: format!("{pointer}/options") }),
            );
            bind(mount, &options, facts, target, copies.slot(index), &pointer, plan)?;
            if is_recursive(mount, &options) {
                bound.push(destination);
            }
        } else if options.remount {
            let data = plan.text(options.data.join(","), &pointer)?;
            plan.step(Step::Remount { target, flags: options.flags | MS_REMOUNT, data }, pointer);
        } else {
            match mount.typ().as_deref() {
                Some("cgroup" | "cgroup2") => {
                    let over = bound.iter().any(|above| is_below(destination, above));
                    cgroup(&options, facts, namespaces, (target, destination, over), label, &pointer, plan)?
                }
                Some(kind) if !kind.is_empty() => {
                    may_mount(kind, &options, namespaces, &pointer)?;
                    let slot = terminal.map_or(Slot::NONE, |terminal| terminal.slot(index));
                    let (option, root) = match label.map(|label| (selinux::way(kind), label)) {
                        Some((selinux::Way::Option, label)) => (Some(label), None),
                        Some((selinux::Way::Root, label)) => (None, Some(label)),
                        _ => (None, None),
                    };
                    filesystem(mount, kind, &options, (target, slot), option, &pointer, plan)?;
                    if let Some(label) = root {
                        selinux::root(target, label, &pointer, plan)?;
                    }
                }
                _ => return Err(Error::invalid("a mount without a type").at(format!("{pointer}/type"))),
            }
        }
    }
    Ok(summary)
}

#[allow(clippy::too_many_arguments)]
fn bind(
    mount: &Mount,
    options: &Options,
    facts: &Facts,
    target: Text,
    slot: Slot,
    pointer: &str,
    plan: &mut Builder,
) -> Result<()> {
    if options.copy_up {
        return Err(Error::invalid("mount option tmpcopyup").because("is for tmpfs").at(format!("{pointer}/options")));
    }
    let text = source(mount, facts, pointer)?;
    let source = plan.text(text, pointer)?;
    let recursive = is_recursive(mount, options);
    let step = Step::Bind {
        target,
        source,
        slot,
        recursive,
        set: options.set,
        clear: options.clear,
        recursive_set: options.recursive_set,
        recursive_clear: options.recursive_clear,
        propagation: options.propagation,
    };
    plan.step(step, pointer);
    Ok(())
}

/// What the kernel would refuse in a new user namespace with a bare EPERM or EINVAL.
fn may_mount(kind: &str, options: &Options, namespaces: &Namespaces, pointer: &str) -> Result<()> {
    if !namespaces.new_user() {
        return Ok(());
    }
    // A file system that shows a namespace belongs to the user namespace that owns it.
    let owned = [("proc", NEWPID, "pid"), ("sysfs", NEWNET, "network"), ("mqueue", NEWIPC, "ipc")];
    if let Some((_, namespace, name)) = owned.into_iter().find(|(of, ..)| *of == kind)
        && !namespaces.apart(namespace)
    {
        let instead = match kind {
            "sysfs" => ", or bind the host's /sys (rbind, ro)",
            _ => "",
        };
        return Err(Error::unsupported(format!("mount {kind} in a user namespace"))
            .because(format!("it shows the {name} namespace, and that is the caller's"))
            .hint(format!("give the container a {name} namespace of its own{instead}"))
            .at(format!("{pointer}/type")));
    }
    if !matches!(kind, "tmpfs" | "devpts" | "proc") {
        return Ok(());
    }
    for option in &options.data {
        let (map, name, id) = match option.split_once('=') {
            Some(("uid", id)) => (&namespaces.uid_map, "uidMappings", id),
            Some(("gid", id)) => (&namespaces.gid_map, "gidMappings", id),
            _ => continue,
        };
        if id.parse().is_ok_and(|id| !namespaces::has_id(namespaces, map, id)) {
            return Err(Error::invalid(format!("mount option {option}"))
                .because(format!("{id} is no id in the container's user namespace"))
                .hint(format!("leave it out, or have linux/{name} map it"))
                .at(format!("{pointer}/options")));
        }
    }
    Ok(())
}

fn filesystem(
    mount: &Mount,
    kind: &str,
    options: &Options,
    (target, slot): (Text, Slot),
    label: Option<&str>,
    pointer: &str,
    plan: &mut Builder,
) -> Result<()> {
    if options.copy_up && kind != "tmpfs" {
        return Err(Error::invalid("mount option tmpcopyup").because("is for tmpfs").at(format!("{pointer}/options")));
    }
    let source = mount.source().as_ref().and_then(|source| source.to_str()).filter(|source| !source.is_empty());
    let source = plan.text(source.unwrap_or(kind), pointer)?;
    let plain = matches!(kind, "proc" | "sysfs");
    let data: Vec<&str> = options.data.iter().map(String::as_str).collect();
    let kind = plan.text(kind, pointer)?;
    if options.is_simple() && slot == Slot::NONE {
        let data = plan.text(selinux::data(&data.join(","), label), pointer)?;
        plan.step(Step::MountFilesystem { target, kind, source, flags: options.flags, data, plain }, pointer);
        return Ok(());
    }
    let superblock = options.superblock.as_deref().into_iter();
    let read_only = (options.flags & MS_RDONLY != 0).then_some("ro");
    let each = data.iter().flat_map(|data| data.split(',')).chain(superblock).chain(read_only);
    let context = label.map(|label| format!("context={label}"));
    let options_list = plan.list(each.chain(context.as_deref()), pointer)?;
    let step = Step::MountDetached {
        target,
        kind,
        source,
        options: options_list,
        attributes: options.set,
        recursive_set: options.recursive_set,
        recursive_clear: options.recursive_clear,
        propagation: options.propagation,
        copy_up: options.copy_up,
        plain,
        slot,
    };
    plan.step(step, pointer);
    Ok(())
}

/// A mount of type `cgroup`: the host's own layout, seen from the container's cgroup.
fn cgroup(
    options: &Options,
    facts: &Facts,
    namespaces: &Namespaces,
    (target, destination, over): (Text, &str, bool),
    label: Option<&str>,
    pointer: &str,
    plan: &mut Builder,
) -> Result<()> {
    if let Some(name) = options.data.first() {
        return Err(Error::unsupported(format!("mount option {name}"))
            .because("a mount of type cgroup has none of its own")
            .at(format!("{pointer}/options")));
    }
    if facts.cgroup.is_empty() {
        return Err(Error::unsupported("a mount of type cgroup")
            .because("this container has no cgroup, or this host has none mounted")
            .at(format!("{pointer}/type")));
    }
    let apart = namespaces.apart(NEWCGROUP);
    if let [only] = facts.cgroup.as_slice()
        && only.v2
        && only.name.is_empty()
    {
        return hierarchy(only, options, apart, (target, over), pointer, plan);
    }
    // Version 1, or both: a small file system with one directory a hierarchy, as on the host.
    let (kind, none) = (plan.text("tmpfs", pointer)?, plan.text("cgroup", pointer)?);
    let data = plan.text(selinux::data("mode=755", label), pointer)?;
    let flags = options.flags & !MS_RDONLY;
    plan.step(Step::MountFilesystem { target, kind, source: none, flags, data, plain: false }, pointer);
    let slot = plan.slot(pointer)?;
    plan.step(Step::OpenDirectory { slot, path: target }, pointer);
    let fresh = apart && options.is_simple();
    for one in &facts.cgroup {
        if fresh || one.name.is_empty() {
            let inside = plan.text(format!("{}/{}", destination.trim_end_matches('/'), one.name), pointer)?;
            hierarchy(one, options, apart, (inside, false), pointer, plan)?;
        } else {
            let (name, source) = (plan.text(&one.name, pointer)?, plan.text(&one.path, pointer)?);
            plan.step(Step::BindIn { directory: slot, name, source }, pointer);
        }
        for part in one.name.split(',').filter(|part| *part != one.name) {
            let (name, to) = (plan.text(part, pointer)?, plan.text(&one.name, pointer)?);
            plan.step(Step::Symlink { slot, name, target: to }, pointer);
        }
    }
    if !fresh {
        // All of them at once.
        let (set, clear) = (options.set | options.recursive_set, options.clear | options.recursive_clear);
        plan.step(Step::ChangeMounts { slot, set, clear, propagation: options.propagation & !MS_REC }, pointer);
    } else if options.flags & MS_RDONLY != 0 {
        let flags = options.flags | MS_REMOUNT | options::MS_BIND;
        plan.step(Step::Remount { target, flags, data: Text(0) }, pointer);
    }
    Ok(())
}

fn hierarchy(
    one: &CgroupMount,
    options: &Options,
    apart: bool,
    (target, over): (Text, bool),
    pointer: &str,
    plan: &mut Builder,
) -> Result<()> {
    if apart && options.is_simple() {
        let name = if one.v2 { "cgroup2" } else { "cgroup" };
        let (kind, source) = (plan.text(name, pointer)?, plan.text("cgroup", pointer)?);
        if over {
            // A bound /sys has the same file system there, and mount(2) refuses that (EBUSY); move_mount(2) does not.
            let options_list = plan.list(one.data.split(',').filter(|option| !option.is_empty()), pointer)?;
            let step = Step::MountDetached {
                target,
                kind,
                source,
                options: options_list,
                attributes: options.set,
                recursive_set: 0,
                recursive_clear: 0,
                propagation: 0,
                copy_up: false,
                plain: false,
                slot: Slot::NONE,
            };
            plan.step(step, pointer);
            return Ok(());
        }
        let data = plan.text(&one.data, pointer)?;
        plan.step(Step::MountFilesystem { target, kind, source, flags: options.flags, data, plain: false }, pointer);
        return Ok(());
    }
    let source = plan.text(&one.path, pointer)?;
    let step = Step::Bind {
        target,
        source,
        slot: Slot::NONE,
        recursive: false,
        set: options.set,
        clear: options.clear,
        recursive_set: options.recursive_set,
        recursive_clear: options.recursive_clear,
        propagation: options.propagation,
    };
    plan.step(step, pointer);
    Ok(())
}

/// From outside the root to inside, after the hooks that still see the host.
pub(crate) fn enter_root(spec: &Spec, facts: &Facts, own_mounts: bool, plan: &mut Builder) -> Result<()> {
    if !own_mounts {
        plan.step(Step::ChangeRoot {}, "root/path");
        return Ok(());
    }
    plan.step(if facts.no_pivot { Step::MoveRoot {} } else { Step::Pivot {} }, "root/path");
    let flags = root_propagation(spec)?;
    if flags != 0 {
        plan.step(Step::RootPropagation { flags }, "linux/rootfsPropagation");
    }
    Ok(())
}

/// Last of the mounts, as a working directory may have to be made before.
pub(crate) fn readonly_root(spec: &Spec, plan: &mut Builder) {
    if spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false)) {
        plan.step(Step::RootReadonly {}, "root/readonly");
    }
}
