//! From a bundle to what of it is the guest's, what is the host's, and what a machine cannot have. The guest's part keeps
//! its places, so that what is refused there is told where it stands in config.json.

use crate::guest::{DISK, NETWORK, SHARE};
use crate::host::Binding;
use serde_json::{Map, Value, json};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use wharf_core::{Bundle, Error, LinuxResources, Remark, Result, annotations, parse_resources};

/// What a guest's kernel has in memory for itself, of each machine, MiB.
pub(crate) const RESERVE: u64 = 128;
/// What QEMU needs beside the machine's memory, MiB.
const OVERHEAD: u64 = 256;
const LEAST: u64 = 192;
pub(crate) const MIB: u64 = 1 << 20;

/// A bundle, taken apart.
#[derive(Debug)]
pub(crate) struct Reduced {
    /// The guest's config.json.
    pub(crate) config: String,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) remarks: Vec<Remark>,
    /// Limits of QEMU's cgroup on the host.
    pub(crate) resources: LinuxResources,
    /// MiB.
    pub(crate) memory: u64,
    pub(crate) cpus: u32,
    /// The network namespace whose interfaces the machine gets, and where config.json names it.
    pub(crate) network: Option<(PathBuf, String)>,
}

/// `memory` is that of a container without a limit, in MiB; `rootfs` its root file system, which may be on a disk.
pub(crate) fn reduce(bundle: &Bundle, rootfs: &Path, memory: u64, disk: bool) -> Result<Reduced> {
    let mut config: Value =
        serde_json::from_slice(&bundle.raw).map_err(|error| Error::invalid("read config.json").because(error))?;
    let mut remarks = Vec::new();
    refuse_sections(&config)?;
    let Some(top) = config.as_object_mut() else { return Err(Error::invalid("config.json is no object")) };
    let readonly = top.get("root").and_then(|root| root.get("readonly")) == Some(&Value::Bool(true));
    let mut bindings = Vec::new();
    if disk {
        let text = "it is a copy on a disk of the machine's own: what is written there is not in the bundle, and goes with the container";
        remarks.push(Remark::nearly("root/path", text));
    } else {
        bindings.push(Binding {
            name: "root".to_owned(),
            source: rootfs.to_owned(),
            readonly,
            recursive: true,
            at: "root/path".to_owned(),
            places: Vec::new(),
        });
    }
    let root = if disk { DISK.to_owned() } else { format!("{SHARE}/root") };
    top.insert("root".to_owned(), json!({"path": root, "readonly": readonly}));
    for (index, mount) in top.get_mut("mounts").and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
        let at = format!("mounts/{index}");
        if let Some(binding) = reduce_mount(&bundle.dir, index, mount, &at)? {
            bindings.push(binding);
        }
    }
    if readonly && !disk {
        bindings[0].places = places(bundle, &bindings);
    }
    reduce_annotations(top)?;
    if let Some(process) = top.get_mut("process").and_then(Value::as_object_mut) {
        reduce_process(process, "process/", &mut remarks);
    }
    let (mut host, mut limit, mut cpus, mut network) = (Map::new(), None, 1, None);
    let linux = top.entry("linux").or_insert_with(|| json!({}));
    if let Some(linux) = linux.as_object_mut() {
        network = reduce_linux(linux, &mut remarks)?;
        if let Some(resources) = linux.get_mut("resources").and_then(Value::as_object_mut) {
            (host, limit, cpus) = reduce_resources(resources)?;
        }
    }
    let memory = limit.map_or(memory, |limit: u64| limit.div_ceil(MIB) + RESERVE).max(LEAST);
    if limit.is_some() {
        host.insert("memory".to_owned(), json!({"limit": (memory + OVERHEAD) * MIB}));
    }
    let host = serde_json::to_vec(&host).unwrap_or_default();
    let resources = parse_resources(&host, "linux/resources")?;
    Ok(Reduced { config: config.to_string(), bindings, remarks, resources, memory, cpus, network })
}

/// Where mounts are on the root file system itself, and whether each is a directory.
fn places(bundle: &Bundle, bindings: &[Binding]) -> Vec<(String, bool)> {
    let mounts = bundle.spec.mounts().iter().flatten().enumerate();
    let all: Vec<(String, bool)> = mounts
        .map(|(index, mount)| {
            let at = format!("mounts/{index}");
            let source = bindings.iter().find(|binding| binding.at == at).map(|binding| binding.source.as_path());
            let is_file = source.is_some_and(Path::is_file);
            (mount.destination().to_string_lossy().trim_end_matches('/').to_owned(), !is_file)
        })
        .collect();
    let below = |place: &str| {
        all.iter().any(|(other, _)| place.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('/')))
    };
    all.iter().filter(|(place, _)| !place.is_empty() && !below(place)).cloned().collect()
}

fn refuse_sections(config: &Value) -> Result<()> {
    let is_set = |pointer: &str| config.pointer(pointer).is_some_and(|value| !value.is_null());
    for section in ["solaris", "windows", "zos", "freebsd"] {
        if is_set(&format!("/{section}")) {
            return Err(Error::unsupported(section).because("is for another platform").at(section));
        }
    }
    for (place, why) in [
        ("vm", "the kernel and the machine come from wharf's configuration"),
        ("linux/intelRdt", "the processor's caches are the host's"),
        ("linux/netDevices", "network devices of the host are not moved into a virtual machine"),
        ("linux/seccomp/listenerPath", "the agent is on the host, and the payload's kernel is not"),
        ("linux/resources/rdma", "its devices are the host's"),
        ("linux/resources/network", "its interfaces are the host's"),
        ("process/commandLine", "is for another platform"),
        ("process/user/username", "is for another platform"),
    ] {
        if is_set(&format!("/{place}")) {
            return Err(refused(place, why));
        }
    }
    for list in ["linux/resources/hugepageLimits", "linux/netDevices"] {
        if config.pointer(&format!("/{list}")).and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
            return Err(refused(list, "its pages are the host's"));
        }
    }
    let hooks = config.get("hooks").and_then(Value::as_object);
    for (kind, list) in hooks.into_iter().flatten() {
        if list.as_array().is_some_and(|list| !list.is_empty()) {
            let place = format!("hooks/{kind}");
            return Err(refused(&place, "hooks run beside the container's namespaces, which are in another machine"));
        }
    }
    for kind in [
        "weightDevice",
        "throttleReadBpsDevice",
        "throttleWriteBpsDevice",
        "throttleReadIOPSDevice",
        "throttleWriteIOPSDevice",
    ] {
        let place = format!("linux/resources/blockIO/{kind}");
        if config.pointer(&format!("/{place}")).and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
            return Err(refused(&place, "its devices are the host's"));
        }
    }
    Ok(())
}

fn refused(place: &str, why: &str) -> Error {
    Error::unsupported(format!("{} in a virtual machine", place.rsplit('/').next().unwrap_or(place)))
        .because(why)
        .at(place)
}

/// File systems that the guest's own kernel makes.
const OF_THE_GUEST: &[&str] = &["proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue", "cgroup", "cgroup2"];
/// Where a bind mount would be of the host's kernel, which a guest has its own of.
const OF_THE_HOST: &[&str] = &["/proc", "/sys", "/dev"];

/// What the guest is to see for it, where it is a bind mount.
fn reduce_mount(bundle: &Path, index: usize, mount: &mut Value, at: &str) -> Result<Option<Binding>> {
    let text = |mount: &Value, key: &str| mount.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let options: Vec<String> = mount
        .get("options")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect();
    let has = |names: &[&str]| options.iter().find(|option| names.contains(&option.as_str()));
    let refuse = |what: String, why: &str| Error::unsupported(what).because(why).at(at);
    if let Some(option) = has(&["shared", "rshared"]) {
        return Err(refuse(format!("mount option {option} in a virtual machine"), "nothing propagates to the host"));
    }
    let (kind, source) = (text(mount, "type"), text(mount, "source"));
    let recursive = has(&["rbind"]).is_some();
    if !recursive && has(&["bind"]).is_none() && kind != "bind" {
        return match OF_THE_GUEST.contains(&kind.as_str()) {
            true => Ok(None),
            false => {
                Err(refuse(format!("mount of type {kind:?} in a virtual machine"), "what it mounts is the host's"))
            }
        };
    }
    if mount.get("uidMappings").is_some() || mount.get("gidMappings").is_some() || has(&["idmap", "ridmap"]).is_some() {
        return Err(refuse("an idmapped mount in a virtual machine".to_owned(), "9p cannot map owners"));
    }
    let source = bundle.join(&source);
    let doing = format!("bind mount of {} in a virtual machine", source.display());
    let about = std::fs::metadata(&source)
        .and_then(|about| Ok((about, std::fs::canonicalize(&source)?)))
        .map_err(|error| crate::machine::drivers::io(format!("open {}", source.display()), &error).at(at));
    let (about, real) = about?;
    if OF_THE_HOST.iter().any(|place| real.starts_with(place)) {
        return Err(refuse(doing, "it is of the host's kernel"));
    }
    if !about.is_dir() && !about.is_file() {
        let what =
            if about.file_type().is_socket() { "a socket of the host's" } else { "a device or pipe of the host's" };
        return Err(refuse(doing, what));
    }
    let name = index.to_string();
    mount["source"] = Value::String(format!("{SHARE}/{name}"));
    Ok(Some(Binding {
        name,
        source: real,
        readonly: has(&["ro", "rro"]).is_some(),
        recursive,
        at: at.to_owned(),
        places: Vec::new(),
    }))
}

/// Those that mean the host are done or refused here.
fn reduce_annotations(top: &mut Map<String, Value>) -> Result<()> {
    let Some(all) = top.get_mut("annotations").and_then(Value::as_object_mut) else { return Ok(()) };
    for key in [annotations::PIDFD_RECEIVER, annotations::SECCOMP_RECEIVER] {
        if all.contains_key(key) {
            return Err(Error::unsupported(format!("annotation {key} for a virtual machine"))
                .because("its receiver is on the host, and the payload is not")
                .at(annotations::pointer(key)));
        }
    }
    let groups = all.get(annotations::KEEP_ORIGINAL_GROUPS).and_then(Value::as_str).map(str::to_owned);
    if annotations::is_on(groups.as_ref()) {
        return Err(Error::unsupported("the caller's groups in a virtual machine")
            .because("they are of the host")
            .at(annotations::pointer(annotations::KEEP_ORIGINAL_GROUPS)));
    }
    all.retain(|key, _| key == annotations::SECCOMP_FAIL_UNKNOWN);
    Ok(())
}

/// Labels are of policies that the guest's kernel has not loaded.
pub(crate) fn reduce_process(process: &mut Map<String, Value>, place: &str, remarks: &mut Vec<Remark>) {
    for (key, policy) in [("apparmorProfile", "AppArmor"), ("selinuxLabel", "SELinux")] {
        if process.remove(key).is_some_and(|value| value.as_str().is_some_and(|text| !text.is_empty())) {
            remarks.push(not_loaded(&format!("{place}{key}"), policy));
        }
    }
}

fn not_loaded(place: &str, policy: &str) -> Remark {
    Remark::nearly(place, format!("the machine confines it: its kernel has no policy of {policy}"))
}

/// What a machine gives instead of a namespace that is the host's.
const INSTEAD: &[&str] = &["pid", "ipc", "uts", "cgroup"];
/// Character devices that are the same in every kernel.
const SAME_EVERYWHERE: &[(u64, u64)] = &[(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];

/// The network namespace that is given.
fn reduce_linux(linux: &mut Map<String, Value>, remarks: &mut Vec<Remark>) -> Result<Option<(PathBuf, String)>> {
    linux.remove("cgroupsPath");
    let (mut kinds, mut network) = (Vec::new(), None);
    for (index, namespace) in
        linux.get_mut("namespaces").and_then(Value::as_array_mut).into_iter().flatten().enumerate()
    {
        let text = |key: &str| namespace.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, path, at) = (text("type"), text("path"), format!("linux/namespaces/{index}"));
        match (kind.as_str(), path.as_str()) {
            (_, "") => {}
            ("network", _) => {
                namespace["path"] = Value::String(NETWORK.to_owned());
                network = Some((path.into(), at));
            }
            _ => {
                return Err(Error::unsupported(format!("{kind} namespace by path for a virtual machine"))
                    .because("it is the host's kernel's")
                    .at(at));
            }
        }
        kinds.push(kind);
    }
    let has = |kind: &str| kinds.iter().any(|one| one == kind);
    if !has("network") {
        return Err(Error::unsupported("the host's network in a virtual machine")
            .because("there is no namespace of type network")
            .at("linux/namespaces")
            .hint("add one: the machine then has no network but its own loopback"));
    }
    if !has("mount") {
        return Err(Error::unsupported("the host's mounts in a virtual machine")
            .because("there is no namespace of type mount")
            .at("linux/namespaces"));
    }
    for kind in INSTEAD.iter().filter(|kind| !has(kind)) {
        let text = format!("without a namespace of type {kind} it has the machine's own, not the host's");
        remarks.push(Remark::nearly("linux/namespaces", text));
    }
    if let Some(propagation) = linux.get("rootfsPropagation").and_then(Value::as_str)
        && ["shared", "rshared"].contains(&propagation)
    {
        return Err(refused("linux/rootfsPropagation", "nothing propagates to the host"));
    }
    if linux.remove("mountLabel").is_some_and(|value| value.as_str().is_some_and(|text| !text.is_empty())) {
        remarks.push(not_loaded("linux/mountLabel", "SELinux"));
    }
    for (index, device) in linux.get("devices").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let number = |key: &str| device.get(key).and_then(Value::as_u64).unwrap_or_default();
        let kind = device.get("type").and_then(Value::as_str).unwrap_or_default();
        let same = ["c", "u"].contains(&kind) && SAME_EVERYWHERE.contains(&(number("major"), number("minor")));
        if !same && kind != "p" {
            let path = device.get("path").and_then(Value::as_str).unwrap_or_default();
            return Err(Error::unsupported(format!("device {path} in a virtual machine"))
                .because("it is the host's")
                .at(format!("linux/devices/{index}")));
        }
    }
    Ok(network)
}

/// Takes out processors and their time, and weights among neighbours: they are the host's to give.
pub(crate) fn of_the_host(resources: &mut Map<String, Value>) -> Map<String, Value> {
    ["cpu", "blockIO"].into_iter().filter_map(|key| resources.remove_entry(key)).collect()
}

/// What is the host's of the limits, the limit of memory in bytes, and the number of processors.
fn reduce_resources(resources: &mut Map<String, Value>) -> Result<(Map<String, Value>, Option<u64>, u32)> {
    let host = of_the_host(resources);
    let limit = resources.get("memory").and_then(|memory| memory.get("limit")).and_then(Value::as_i64);
    let mut cpus = 1;
    if let Some(cpu) = host.get("cpu") {
        let number = |key: &str| cpu.get(key).and_then(Value::as_i64).filter(|number| *number > 0);
        if let Some(quota) = number("quota") {
            cpus = (quota as u64).div_ceil(number("period").unwrap_or(100_000) as u64);
        }
    }
    let most = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let limit = limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
    Ok((host, limit, cpus.clamp(1, most) as u32))
}

/// The root file system's directory.
pub(crate) fn rootfs(bundle: &Bundle) -> Result<PathBuf> {
    let path = match bundle.spec.root() {
        Some(root) if !root.path().as_os_str().is_empty() => bundle.dir.join(root.path()),
        _ => return Err(Error::invalid("root/path is missing or empty").at("root/path")),
    };
    let doing = || format!("open root file system {}", path.display());
    let failed = |error: std::io::Error| crate::machine::drivers::io(doing(), &error).at("root/path");
    let about = std::fs::symlink_metadata(&path).map_err(failed)?;
    if !about.is_dir() {
        let why = if about.is_symlink() { "it is a symbolic link" } else { "it is not a directory" };
        return Err(Error::invalid(doing()).because(why).at("root/path"));
    }
    std::fs::canonicalize(&path).map_err(failed)
}
