//! Which cgroup hierarchies exist, where they are mounted, and where in them we are.

use std::sync::OnceLock;
use wharf_core::{Error, Result};
use wharf_sys::cgroup_fs::{self, Control, Dir, read_piece, read_pieces};

/// What the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// No cgroup file system is mounted.
    None,
    /// Only v1 hierarchies.
    V1,
    /// v1 hierarchies, and the v2 one beside them.
    Hybrid,
    /// Only the v2 hierarchy.
    V2,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub v2: bool,
    /// v1: as mounted together. v2: what its root offers.
    pub controllers: Vec<String>,
    /// Of a v1 hierarchy with a name: `systemd`.
    pub name: Option<String>,
    /// Absolute path of the mount point.
    pub mount_point: String,
    /// The caller's own cgroup, as a path below the mount point: `/` or `/a/b`.
    pub own: String,
}

impl Hierarchy {
    /// What /proc/self/cgroup and mount options call it: `cpu,cpuacct`, `name=systemd`, empty for v2.
    pub fn label(&self) -> String {
        let mut words = if self.v2 { Vec::new() } else { self.controllers.clone() };
        words.extend(self.name.iter().map(|name| format!("name={name}")));
        words.join(",")
    }

    /// The control file that freezes, and says whether something is frozen.
    pub(crate) fn freezer_file(&self) -> &'static str {
        if self.v2 { "cgroup.freeze" } else { "freezer.state" }
    }

    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|own| own == controller)
    }

    /// Whether processes can be frozen there.
    pub(crate) fn freezes(&self) -> bool {
        self.v2 || self.has("freezer")
    }
}

/// Every mounted hierarchy of the host: a plain value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub hierarchies: Vec<Hierarchy>,
    /// The deepest directory that all mount points are in, or the one mount point.
    pub base: String,
}

/// Where nearly every host with v2 alone has it.
const USUAL: &str = "/sys/fs/cgroup";

impl Layout {
    /// Reads the caller's mounts, and its cgroups unless an absolute path is asked for. Where v2 alone is mounted in the
    /// usual place, the mount table, which may be long, is not read.
    pub fn detect(cgroups_path: Option<&str>) -> Result<Layout> {
        let own = match cgroups_path.is_some_and(|path| path.starts_with('/')) {
            true => String::new(),
            false => read("/proc/self/cgroup", read_piece)?,
        };
        let mut layout = Self::mounted()?.placed(&own);
        if let Some(unified) = layout.hierarchies.iter_mut().find(|hierarchy| hierarchy.v2) {
            let text = read(&format!("{}/cgroup.controllers", unified.mount_point), read_piece)?;
            unified.controllers = text.split_ascii_whitespace().map(str::to_owned).collect();
        }
        Ok(layout)
    }

    /// As [`Layout::detect`], without the caller's own cgroups and v2's controllers: enough to find cgroups again by
    /// their recorded paths. The mounts are read once a process.
    pub fn mounted() -> Result<Layout> {
        static KNOWN: OnceLock<Layout> = OnceLock::new();
        if let Some(known) = KNOWN.get() {
            return Ok(known.clone());
        }
        let layout = Self::read_mounts()?;
        Ok(KNOWN.get_or_init(|| layout).clone())
    }

    fn read_mounts() -> Result<Layout> {
        if cgroup_fs::is_v2(USUAL) != Ok(true) {
            return Ok(Self::parse(&read("/proc/self/mountinfo", read_pieces)?));
        }
        let usual = Hierarchy {
            v2: true,
            controllers: Vec::new(),
            name: None,
            mount_point: USUAL.to_owned(),
            own: "/".to_owned(),
        };
        Ok(Layout { hierarchies: vec![usual], base: USUAL.to_owned() })
    }

    /// From the text of mountinfo (proc_pid_mountinfo(5)). `own` holds the root of the mount until [`Layout::placed`].
    pub fn parse(mountinfo: &str) -> Layout {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for line in mountinfo.lines() {
            let Some((fields, tail)) = line.split_once(" - ") else { continue };
            let mut fields = fields.split(' ').skip(3);
            let (Some(root), Some(mount_point)) = (fields.next(), fields.next()) else { continue };
            let mount_point = unescape(mount_point);
            // A later mount hides what was mounted there and below.
            let inside = format!("{mount_point}/");
            hierarchies.retain(|hierarchy| {
                hierarchy.mount_point != mount_point && !hierarchy.mount_point.starts_with(&inside)
            });
            let mut tail = tail.split(' ');
            let kind = tail.next().unwrap_or_default();
            if kind != "cgroup" && kind != "cgroup2" {
                continue;
            }
            let options = tail.nth(1).unwrap_or_default();
            let v2 = kind == "cgroup2";
            let name = options.split(',').find_map(|option| option.strip_prefix("name=")).map(str::to_owned);
            let controllers = if v2 { Vec::new() } else { controllers(options) };
            let hierarchy = Hierarchy { v2, controllers, name, mount_point, own: unescape(root) };
            // A hierarchy may be mounted more than once: the first, whole one is taken.
            let same = |other: &Hierarchy| other.v2 == hierarchy.v2 && other.label() == hierarchy.label();
            match hierarchies.iter_mut().find(|other| same(other)) {
                Some(other) if other.own != "/" && hierarchy.own == "/" => *other = hierarchy,
                Some(_) => {}
                None => hierarchies.push(hierarchy),
            }
        }
        let base = common(&hierarchies);
        Layout { hierarchies, base }
    }

    /// Fills in the caller's own cgroups from the text of /proc/self/cgroup (cgroups(7)).
    fn placed(mut self, own: &str) -> Layout {
        for hierarchy in &mut self.hierarchies {
            let label = hierarchy.label();
            let found = own.lines().find_map(|line| {
                let (_, line) = line.split_once(':')?;
                let (controllers, path) = line.split_once(':')?;
                same_words(controllers, &label).then_some(path)
            });
            // The mount may show only a part of the hierarchy: what is above is out of reach.
            let root = hierarchy.own.trim_end_matches('/');
            let below = found.and_then(|path| path.strip_prefix(root)).filter(|path| path.starts_with('/'));
            hierarchy.own = match below {
                Some(path) if !path.split('/').any(|part| part == "..") => path.to_owned(),
                _ => "/".to_owned(),
            };
        }
        self
    }

    pub fn version(&self) -> Version {
        let v2 = self.hierarchies.iter().any(|hierarchy| hierarchy.v2);
        let v1 = self.hierarchies.iter().any(|hierarchy| !hierarchy.v2);
        match (v1, v2) {
            (false, false) => Version::None,
            (true, false) => Version::V1,
            (true, true) => Version::Hybrid,
            (false, true) => Version::V2,
        }
    }

    /// Which hierarchy has a controller, by its name there.
    pub fn find(&self, controller: &str) -> Option<usize> {
        self.hierarchies.iter().position(|hierarchy| hierarchy.has(controller))
    }

    /// The v2 hierarchy.
    pub fn unified(&self) -> Option<usize> {
        self.hierarchies.iter().position(|hierarchy| hierarchy.v2)
    }

    /// Where v2 is alone, `cgroup.procs` of its root and of the caller's own cgroup, of a layout that was detected.
    pub fn root_and_own(&self) -> Result<Option<(Control, Control)>> {
        if self.version() != Version::V2 {
            return Ok(None);
        }
        let open = |path: &str| {
            let opened =
                Dir::open(&self.base).and_then(|base| base.open_control(&self.below_base(0, path, "cgroup.procs")));
            opened.map_err(|errno| Error::system(format!("open cgroup.procs of cgroup {path}"), errno as i32))
        };
        Ok(Some((open("/")?, open(&self.hierarchies[0].own)?)))
    }

    /// Which hierarchy freezes, and lists the processes of a container.
    pub fn freezer(&self) -> Option<usize> {
        self.find("freezer").or(self.unified()).or(if self.hierarchies.is_empty() { None } else { Some(0) })
    }

    /// The path of a file below [`Layout::base`].
    pub(crate) fn below_base(&self, hierarchy: usize, path: &str, file: &str) -> String {
        let mount_point = &self.hierarchies[hierarchy].mount_point;
        let parts = [&mount_point[self.base.len()..], path, file];
        let joined: Vec<&str> =
            parts.iter().map(|part| part.trim_matches('/')).filter(|part| !part.is_empty()).collect();
        if joined.is_empty() { ".".to_owned() } else { joined.join("/") }
    }
}

fn read(path: &str, read: fn(&str) -> wharf_sys::Result<String>) -> Result<String> {
    read(path).map_err(|errno| Error::system(format!("read {path}"), errno as i32))
}

/// Mount options of a v1 hierarchy that are not controllers (cgroup-v1 documentation).
const OPTIONS: [&str; 9] =
    ["rw", "ro", "none", "all", "noprefix", "clone_children", "xattr", "cpuset_v2_mode", "favordynmods"];

fn controllers(options: &str) -> Vec<String> {
    let is_controller = |option: &&str| !OPTIONS.contains(option) && !option.contains('=') && !option.is_empty();
    options.split(',').filter(is_controller).map(str::to_owned).collect()
}

fn same_words(one: &str, other: &str) -> bool {
    let sorted = |text: &str| {
        let mut words: Vec<String> = text.split(',').map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    one == other || sorted(one) == sorted(other)
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut result = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        result.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&result).into_owned()
}

fn common(hierarchies: &[Hierarchy]) -> String {
    let Some((first, rest)) = hierarchies.split_first() else { return String::new() };
    if rest.is_empty() {
        return first.mount_point.clone();
    }
    let mut base = first.mount_point.as_str();
    for other in rest {
        let inside = |base: &str| other.mount_point.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
        while !base.is_empty() && !inside(base) {
            base = &base[..base.rfind('/').unwrap_or(0)];
        }
    }
    let mounted_on_base = hierarchies.iter().any(|hierarchy| hierarchy.mount_point == base);
    let base = if mounted_on_base { &base[..base.rfind('/').unwrap_or(0)] } else { base };
    if base.is_empty() { "/".to_owned() } else { base.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:4 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/x /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
50 31 0:32 / /mnt/with\\040space rw - cgroup cgroup rw,freezer
";

    #[test]
    fn a_hybrid_host_is_read_from_its_mounts() {
        let layout = Layout::parse(HYBRID)
            .placed("9:name=systemd:/s\n4:memory:/docker/x/y\n2:cpuacct,cpu:/c\n3:freezer:/../..\n0::/u\n");
        let seen: Vec<(String, &str, &str)> = layout
            .hierarchies
            .iter()
            .map(|hierarchy| (hierarchy.label(), hierarchy.mount_point.as_str(), hierarchy.own.as_str()))
            .collect();
        let expected = [
            ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/c"),
            ("memory", "/sys/fs/cgroup/memory", "/y"),
            ("name=systemd", "/sys/fs/cgroup/systemd", "/s"),
            ("", "/sys/fs/cgroup/unified", "/u"),
            ("freezer", "/mnt/with space", "/"),
        ];
        assert_eq!(seen, expected.map(|(label, mount, own)| (label.to_owned(), mount, own)));
        assert_eq!(layout.version(), Version::Hybrid);
        assert_eq!((layout.find("cpuacct"), layout.find("devices"), layout.unified()), (Some(0), None, Some(3)));
        assert_eq!(layout.base, "/");
        assert_eq!(layout.below_base(1, "/a/b", "tasks"), "sys/fs/cgroup/memory/a/b/tasks");
    }

    #[test]
    fn what_is_mounted_over_is_not_there() {
        let text = format!("{HYBRID}60 31 0:50 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n");
        let layout = Layout::parse(&text);
        assert_eq!(layout.hierarchies.len(), 1);
        assert_eq!(layout.base, "/mnt/with space");
        assert_eq!(Layout::parse("").version(), Version::None);
    }

    #[test]
    fn a_base_above_one_mount_point_is_never_another_mount_point() {
        let layout =
            Layout::parse("1 0 0:1 / /cg rw - cgroup2 cgroup2 rw\n2 1 0:2 / /cg/memory rw - cgroup cgroup rw,memory\n");
        assert_eq!(layout.base, "/");
        assert_eq!(layout.below_base(0, "/", ""), "cg");
    }

    #[test]
    fn this_host_has_what_the_kernel_says() {
        let layout = Layout::detect(None).unwrap();
        for line in std::fs::read_to_string("/proc/self/cgroup").unwrap().lines() {
            let label = line.split(':').nth(1).unwrap();
            if let Some(found) = layout.hierarchies.iter().find(|hierarchy| hierarchy.label() == label) {
                assert!(std::path::Path::new(&format!("{}/cgroup.procs", found.mount_point)).exists());
                assert!(std::path::Path::new(&format!("{}{}", found.mount_point, found.own)).is_dir());
            }
        }
    }
}
