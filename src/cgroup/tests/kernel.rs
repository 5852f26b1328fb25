//! Cgroups of the real kernel, as root, whichever version it has. Each test has a path of its own and leaves nothing.

use oci_spec::runtime::LinuxResources;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use wharf_cgroup::{Cgroup, Handle, Layout, Version, Wanted};
use wharf_core::{CgroupPaths, ContainerId, Result};
use wharf_sys::namespace::{Side, clone};
use wharf_sys::process::{ExecStrings, exec, exit_now};

/// A cgroup path that is nobody else's; what is left of it after the test is removed, and fails the test.
struct Place {
    path: String,
    top: String,
    levels: u32,
}

impl Place {
    /// None, with the reason printed, where this host cannot run the test.
    fn new(name: &str) -> Option<Place> {
        if wharf_sys::dir::effective_uid() != 0 {
            println!("skipped: needs root");
            return None;
        }
        if Layout::detect(None).unwrap().version() == Version::None {
            println!("skipped: no cgroup hierarchy is mounted");
            return None;
        }
        let top = format!("wharf-test-{name}-{}", std::process::id());
        Some(Place { path: format!("/{top}/inner"), top, levels: 2 })
    }

    fn wanted(&self, resources: &str) -> Wanted {
        self.try_wanted(resources).unwrap()
    }

    fn try_wanted(&self, resources: &str) -> Result<Wanted> {
        let resources: LinuxResources = serde_json::from_str(resources).unwrap();
        let id = ContainerId::new("c").unwrap();
        Wanted::new(Layout::detect(None)?, Some(&self.path), &id, Some(&resources), false)
    }

    fn record(&self) -> CgroupPaths {
        CgroupPaths {
            seen: self.path.clone(),
            payload: self.path.clone(),
            freezer: self.path.clone(),
            inner: String::new(),
            freezer_file: String::new(),
            made: self.levels,
            apart: Vec::new(),
            unit: None,
        }
    }

    /// Every directory of ours, in all hierarchies.
    fn left(&self) -> Vec<PathBuf> {
        let layout = Layout::detect(None).unwrap();
        let tops = layout.hierarchies.iter().map(|hierarchy| Path::new(&hierarchy.mount_point).join(&self.top));
        tops.filter(|path| path.exists()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.left();
        if let Ok(handle) = Handle::open(Layout::detect(None).unwrap(), &self.record()) {
            let _ = handle.kill_all(9);
            let _ = handle.remove();
        }
        if !left.is_empty() && !std::thread::panicking() {
            panic!("left behind: {left:?}");
        }
    }
}

fn directory(wanted: &Wanted, controller: &str) -> Option<PathBuf> {
    let layout = wanted.layout();
    let index = layout.find(controller)?;
    let path = wanted.paths()[index].trim_start_matches('/');
    Some(Path::new(&layout.hierarchies[index].mount_point).join(path))
}

fn read(wanted: &Wanted, controller: &str, file: &str) -> String {
    let path = directory(wanted, controller).unwrap().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn handle(cgroup: &Cgroup) -> Handle {
    Handle::open(Layout::mounted().unwrap(), &cgroup.paths()).unwrap()
}

/// A shell that waits until it is placed and told to go.
fn shell(script: &str) -> Child {
    Command::new("sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Places the shell, lets it go, and returns what it wrote.
fn run_in(cgroup: &Cgroup, script: &str) -> String {
    let mut child = shell(script);
    cgroup.place(child.id() as i32).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn finish(cgroup: &Cgroup, children: impl IntoIterator<Item = Child>) {
    let handle = handle(cgroup);
    let reaper: Vec<_> =
        children.into_iter().map(|mut child| std::thread::spawn(move || child.wait().unwrap())).collect();
    handle.kill_all(9).unwrap();
    assert_eq!(handle.processes().unwrap(), Vec::<i32>::new());
    for thread in reaper {
        thread.join().unwrap();
    }
    handle.remove().unwrap();
}

#[test]
fn limits_are_in_the_files_before_any_process() {
    let Some(place) = Place::new("limits") else { return };
    let resources = r#"{"memory": {"limit": 67108864, "reservation": 33554432},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"}, "pids": {"limit": 20}}"#;
    let wanted = place.wanted(resources);
    let cgroup = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    let seen = match wanted.layout().version() {
        Version::V2 => [
            ("memory", "memory.max", "67108864"),
            ("memory", "memory.low", "33554432"),
            ("cpu", "cpu.weight", "59"),
            ("cpu", "cpu.max", "50000 100000"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "20"),
        ],
        _ => [
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "20"),
        ],
    };
    for (controller, file, value) in seen {
        assert_eq!(read(&wanted, controller, file), value, "{file}");
    }
    assert_eq!(cgroup.paths().payload, place.path);
    let paths = cgroup.paths();
    assert!(Path::new(&paths.freezer_file).exists(), "{paths:?}");
    assert_eq!(CgroupPaths { freezer_file: String::new(), ..paths }, place.record());
    finish(&cgroup, []);
}

#[test]
fn memory_and_swap_are_limited_together() {
    let Some(place) = Place::new("swap") else { return };
    let wanted = place.wanted(r#"{"memory": {"limit": 67108864, "swap": 100663296}}"#);
    let cgroup = match Cgroup::create(&wanted, &|_| Ok(())) {
        Ok(cgroup) => cgroup,
        Err(error) if error.to_string().contains("does not count swap") => {
            return println!("skipped: {error}");
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(memory_and_swap(&wanted), ["67108864".to_owned(), "100663296".to_owned()]);
    // Raised and lowered past each other in the same cgroup: the kernel wants another order each way.
    for (memory, both) in [(134_217_728, 134_217_728), (33_554_432, 50_331_648)] {
        let wanted = place.wanted(&format!(r#"{{"memory": {{"limit": {memory}, "swap": {both}}}}}"#));
        Cgroup::create(&wanted, &|_| Ok(())).unwrap();
        assert_eq!(memory_and_swap(&wanted), [memory.to_string(), both.to_string()]);
    }
    finish(&cgroup, []);
}

/// The limits of memory and of memory and swap, in bytes.
fn memory_and_swap(wanted: &Wanted) -> [String; 2] {
    if wanted.layout().version() == Version::V2 {
        let memory = read(wanted, "memory", "memory.max");
        let swap: u64 = read(wanted, "memory", "memory.swap.max").parse().unwrap();
        let both = memory.parse::<u64>().unwrap() + swap;
        [memory, both.to_string()]
    } else {
        ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"].map(|file| read(wanted, "memory", file))
    }
}

#[test]
fn a_limit_below_what_is_used_already_is_refused_where_that_was_asked_for() {
    let Some(place) = Place::new("usage") else { return };
    let wanted = place.wanted("{}");
    if wanted.layout().version() != Version::V2 {
        return println!("skipped: v1 kernels refuse such a limit themselves");
    }
    let cgroup = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    // A file in memory stays charged when its writer has ended.
    let file = format!("/dev/shm/{}", place.top);
    run_in(&cgroup, &format!("head -c 8388608 /dev/zero > {file}"));
    let lower =
        |check: bool| place.wanted(&format!(r#"{{"memory": {{"limit": 1048576, "checkBeforeUpdate": {check}}}}}"#));
    let refused = Cgroup::create(&lower(true), &|_| Ok(())).map(|_| ());
    std::fs::remove_file(&file).unwrap();
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("more than 1048576"), "{error}");
    assert_eq!(error.pointer(), Some("linux/resources/memory/limit"));
    Cgroup::create(&lower(false), &|_| Ok(())).unwrap();
    finish(&cgroup, []);
}

/// What `cgroup.subtree_control` of the v2 root says, put back at the end: a test that enables more must not keep it.
struct Enabled(Option<(PathBuf, String)>);

impl Enabled {
    fn now() -> Enabled {
        let layout = Layout::detect(None).unwrap();
        Enabled(layout.unified().filter(|_| layout.version() == Version::Hybrid).map(|index| {
            let file = Path::new(&layout.hierarchies[index].mount_point).join("cgroup.subtree_control");
            let before = std::fs::read_to_string(&file).unwrap();
            (file, before)
        }))
    }
}

impl Drop for Enabled {
    fn drop(&mut self) {
        let Some((file, before)) = &self.0 else { return };
        for name in std::fs::read_to_string(file).unwrap().split_whitespace() {
            if !before.split_whitespace().any(|old| old == name) {
                std::fs::write(file, format!("-{name}")).unwrap();
            }
        }
    }
}

#[test]
fn files_of_v2_and_huge_pages_are_limited_where_v2_has_them() {
    let _enabled = Enabled::now();
    let Some(place) = Place::new("unified") else { return };
    let layout = Layout::detect(None).unwrap();
    let Some(unified) = layout.unified() else { return println!("skipped: this host has v1 only") };
    let has = |name: &str| layout.hierarchies[unified].controllers.iter().any(|own| own == name);
    if !has("hugetlb") {
        return println!("skipped: v2 has no hugetlb controller here");
    }
    let memory = if has("memory") { r#", "memory.high": "33554432""# } else { "" };
    let resources = format!(
        r#"{{"hugepageLimits": [{{"pageSize": "2MB", "limit": 4194304}}],
            "unified": {{"cgroup.max.depth": "3", "hugetlb.2MB.rsvd.max": "2097152"{memory}}}}}"#
    );
    let wanted = place.wanted(&resources);
    let cgroup = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    assert_eq!(read(&wanted, "hugetlb", "hugetlb.2MB.max"), "4194304");
    assert_eq!(read(&wanted, "hugetlb", "hugetlb.2MB.rsvd.max"), "2097152");
    assert_eq!(read(&wanted, "hugetlb", "cgroup.max.depth"), "3");
    if has("memory") {
        assert_eq!(read(&wanted, "memory", "memory.high"), "33554432");
    }
    finish(&cgroup, []);
}

#[test]
fn block_io_is_throttled_and_weighed_or_refused_by_name() {
    let Some(place) = Place::new("blockio") else { return };
    let disks = std::fs::read_dir("/sys/block").unwrap().flatten();
    let disk = disks.filter(|disk| disk.file_name().to_string_lossy().starts_with(['v', 's', 'n'])).find_map(|disk| {
        std::fs::read_to_string(disk.path().join("dev")).ok().map(|numbers| numbers.trim().to_owned())
    });
    let Some(disk) = disk else { return println!("skipped: no disk") };
    let (major, minor) = disk.split_once(':').unwrap();
    let device = |rest: &str| format!(r#"[{{"major": {major}, "minor": {minor}, {rest}}}]"#);
    let resources = format!(
        r#"{{"blockIO": {{"throttleReadBpsDevice": {0}, "throttleWriteIOPSDevice": {0}}}}}"#,
        device(r#""rate": 1048576"#)
    );
    let wanted = place.wanted(&resources);
    let cgroup = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    if wanted.layout().version() == Version::V2 {
        assert_eq!(read(&wanted, "io", "io.max"), format!("{disk} rbps=1048576 wbps=max riops=max wiops=1048576"));
    } else {
        let line = format!("{disk} 1048576");
        assert_eq!(read(&wanted, "blkio", "blkio.throttle.read_bps_device"), line);
        assert_eq!(read(&wanted, "blkio", "blkio.throttle.write_iops_device"), line);
    }
    finish(&cgroup, []);
    let wanted = place.wanted(r#"{"blockIO": {"weight": 500}}"#);
    match Cgroup::create(&wanted, &|_| Ok(())) {
        Ok(cgroup) => {
            let files = [("io", "io.bfq.weight"), ("io", "io.weight"), ("blkio", "blkio.bfq.weight")];
            let seen = files
                .iter()
                .filter_map(|(name, file)| std::fs::read_to_string(directory(&wanted, name)?.join(file)).ok());
            let seen: Vec<String> = seen.collect();
            assert!(seen.iter().any(|text| text.contains("500") || text.contains("4950")), "{seen:?}");
            finish(&cgroup, []);
        }
        Err(error) => {
            assert_eq!(error.pointer(), Some("linux/resources/blockIO/weight"));
            assert!(error.to_string().contains("weighs block I/O"), "{error}");
        }
    }
}

#[test]
fn a_pids_limit_stops_the_fork_that_goes_too_far() {
    let Some(place) = Place::new("pids") else { return };
    let wanted = place.wanted(r#"{"pids": {"limit": 3}}"#);
    let cgroup = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    let said = run_in(&cgroup, "sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait; echo survived");
    assert!(said.to_lowercase().contains("fork"), "{said}");
    finish(&cgroup, []);
}

#[test]
fn a_placed_process_is_in_every_hierarchy() {
    let Some(place) = Place::new("place") else { return };
    let wanted = place.wanted("{}");
    let cgroup = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    let said = run_in(&cgroup, "cat /proc/self/cgroup");
    for hierarchy in &wanted.layout().hierarchies {
        let line = format!(":{}:{}", hierarchy.label(), place.path);
        assert!(said.lines().any(|seen| seen.ends_with(&line)), "{line} is not in\n{said}");
    }
    finish(&cgroup, []);
}

#[test]
fn a_process_can_be_born_inside_where_v2_is_alone() {
    let Some(place) = Place::new("birth") else { return };
    let wanted = place.wanted(r#"{"pids": {"limit": 5}}"#);
    let cgroup = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    let Some(birth) = cgroup.birth_fd() else {
        assert_ne!(wanted.layout().version(), Version::V2);
        finish(&cgroup, []);
        return println!("skipped: v2 is not alone on this host");
    };
    let arguments = ExecStrings::new([c"sleep", c"60"]);
    let nothing = ExecStrings::new([]);
    match clone(0, Some(birth)).unwrap() {
        Side::Child => {
            exec(c"/bin/sleep", &arguments, &nothing);
            // Nothing else: other tests run in threads that the child does not have.
            exit_now(127)
        }
        Side::Parent { pid, .. } => {
            assert_eq!(handle(&cgroup).processes().unwrap(), [pid]);
            handle(&cgroup).kill_all(9).unwrap();
            wharf_sys::process::wait(pid, 0).unwrap();
        }
    }
    finish(&cgroup, []);
}

#[test]
fn device_rules_deny_what_they_do_not_allow() {
    let Some(place) = Place::new("devices") else { return };
    let dir = PathBuf::from(format!("/var/tmp/{}", place.top));
    std::fs::create_dir(&dir).unwrap();
    let node = |name: &str| dir.join(name).display().to_string();
    let (kmsg, port, zero) = (node("kmsg"), node("port"), node("zero"));
    let script = format!(
        "mknod {kmsg} c 1 11 && mknod {port} c 1 4 && mknod {zero} c 1 5 && echo made
        for way in '{kmsg} <' '{kmsg} >' '{port} <' '{zero} <'; do
            set -- $way
            case $2 in '<') (exec 3<$1) ;; '>') (exec 3>$1) ;; esac 2>/dev/null && echo $way || echo no $way
        done"
    );
    let outcome = std::panic::catch_unwind(|| {
        let rules = r#"{"devices": [{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]}"#;
        let wanted = place.wanted(rules);
        let cgroup = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
        let said = run_in(&cgroup, &script);
        assert_eq!(said, format!("made\n{kmsg} <\nno {kmsg} >\nno {port} <\n{zero} <\n"));
        finish(&cgroup, []);
    });
    // The same outside, so that nothing but the rules denies.
    let outside = Command::new("sh").args(["-c", &format!("(exec 3>{kmsg}) && echo written")]).output().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    outcome.unwrap();
    assert_eq!(String::from_utf8_lossy(&outside.stdout), "written\n");
}

#[test]
fn a_failed_create_leaves_nothing() {
    let Some(place) = Place::new("failed") else { return };
    // The last write of the list is refused by the kernel, after everything before it was made.
    let wanted = place.wanted(r#"{"pids": {"limit": 5}, "cpu": {"cpus": "100000", "mems": "0"}}"#);
    let error = Cgroup::create(&wanted, &|_| Ok(())).unwrap_err();
    assert_eq!(error.pointer(), Some("linux/resources/cpu/cpus"), "{error}");
    assert!(error.to_string().contains(&place.path), "{error}");
    assert_eq!(place.left(), Vec::<PathBuf>::new());
}

#[test]
fn levels_that_were_there_before_stay() {
    let Some(place) = Place::new("levels") else { return };
    let layout = Layout::detect(None).unwrap();
    let tops: Vec<PathBuf> =
        layout.hierarchies.iter().map(|hierarchy| Path::new(&hierarchy.mount_point).join(&place.top)).collect();
    // In the first hierarchy only: the others are told apart in the record.
    std::fs::create_dir(&tops[0]).unwrap();
    let wanted = place.wanted("{}");
    let told = std::cell::RefCell::new(None);
    let tell = |paths| {
        // Nothing but single levels is made yet.
        assert_eq!(tops.iter().filter(|top| top.exists()).count(), 1);
        told.replace(Some(paths));
        Ok(())
    };
    let cgroup = Cgroup::create(&wanted, &tell).unwrap();
    assert_eq!(Some(cgroup.paths()), told.take());
    finish(&cgroup, []);
    assert_eq!(place.left(), [tops[0].clone()]);
    std::fs::remove_dir(&tops[0]).unwrap();
}

#[test]
fn a_cgroup_in_use_is_refused_and_an_empty_one_is_used() {
    let Some(place) = Place::new("used") else { return };
    let wanted = place.wanted("{}");
    let first = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    let child = shell("sleep 60");
    first.place(child.id() as i32).unwrap();
    for error in [Cgroup::create(&wanted, &|_| Ok(())).unwrap_err(), wanted.expected().unwrap_err()] {
        assert!(error.to_string().contains("it exists and holds a process"), "{error}");
    }
    finish(&first, [child]);
}

#[test]
fn a_frozen_process_stands_still_and_dies_all_the_same() {
    let Some(place) = Place::new("freeze") else { return };
    let wanted = place.wanted("{}");
    let cgroup = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    let handle = handle(&cgroup);
    let mut child = shell("echo went on; sleep 60");
    cgroup.place(child.id() as i32).unwrap();
    assert!(!handle.is_frozen().unwrap());
    handle.freeze().unwrap();
    assert!(handle.is_frozen().unwrap());
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let out = child.stdout.take().unwrap();
    assert!(!wharf_sys::process::readable(&out, 200).unwrap(), "it ran while frozen");
    handle.thaw().unwrap();
    assert!(wharf_sys::process::readable(&out, 5000).unwrap(), "it did not go on");
    handle.freeze().unwrap();
    finish(&cgroup, [child]);
}

#[test]
fn killing_reaches_nested_cgroups_and_a_process_that_forks_on_and_on() {
    let Some(place) = Place::new("kill") else { return };
    let wanted = place.wanted(r#"{"pids": {"limit": 100}}"#);
    let cgroup = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    let mut child = shell("fork() { (fork) & (sleep 0.01; fork) & }; fork; sleep 60");
    cgroup.place(child.id() as i32).unwrap();
    // A payload that made cgroups of its own below, in each hierarchy.
    let nested = shell("sleep 60");
    for index in 0..wanted.layout().hierarchies.len() {
        let mount_point = &wanted.layout().hierarchies[index].mount_point;
        let below = format!("{mount_point}{}/child", wanted.paths()[index]);
        std::fs::create_dir_all(format!("{below}/grandchild")).unwrap();
        for (file, value) in [("cpuset.cpus", "0"), ("cpuset.mems", "0")] {
            for dir in [below.clone(), format!("{below}/grandchild")] {
                let _ = std::fs::write(format!("{dir}/{file}"), value);
            }
        }
        std::fs::write(format!("{below}/grandchild/cgroup.procs"), nested.id().to_string()).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let listed = handle(&cgroup).processes().unwrap();
    assert!(listed.len() > 2 && listed.contains(&(nested.id() as i32)), "{listed:?}");
    finish(&cgroup, [child, nested]);
    assert_eq!(place.left(), Vec::<PathBuf>::new());
}

#[test]
fn a_signal_to_all_is_sent_once_and_leaves_the_cgroup_running() {
    let Some(place) = Place::new("signal") else { return };
    let wanted = place.wanted("{}");
    let cgroup = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    let mut child = shell("trap 'echo caught' USR1; echo ready; while :; do sleep 0.05; done");
    cgroup.place(child.id() as i32).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    handle(&cgroup).kill_all(10).unwrap();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "ready\ncaught\n");
    assert!(!handle(&cgroup).is_frozen().unwrap());
    finish(&cgroup, [child]);
}

#[test]
fn removing_what_is_gone_is_no_error() {
    let Some(place) = Place::new("gone") else { return };
    let handle = Handle::open(Layout::mounted().unwrap(), &place.record()).unwrap();
    handle.kill_all(9).unwrap();
    handle.thaw().unwrap();
    assert!(!handle.is_frozen().unwrap());
    assert_eq!(handle.processes().unwrap(), Vec::<i32>::new());
    handle.remove().unwrap();
    let none = Handle::open(Layout::mounted().unwrap(), &CgroupPaths::default()).unwrap();
    none.kill_all(9).unwrap();
    none.remove().unwrap();
}

#[test]
fn a_record_that_leads_elsewhere_is_refused() {
    for path in ["/", "/../x", "/a/.."] {
        let paths = CgroupPaths { payload: path.to_owned(), ..CgroupPaths::default() };
        assert!(Handle::open(Layout::default(), &paths).is_err(), "{path}");
    }
}

#[test]
fn what_has_no_cgroup_cannot_be_paused() {
    let handle = Handle::open(Layout::mounted().unwrap(), &CgroupPaths::default()).unwrap();
    let error = handle.freeze().unwrap_err().to_string();
    assert!(error.contains("it has no cgroup"), "{error}");
    assert!(!handle.is_frozen().unwrap());
}

#[test]
fn an_ordinary_user_gets_no_cgroup_unless_one_is_asked_for() {
    let id = ContainerId::new("wharf-test-nobody").unwrap();
    if wharf_sys::dir::effective_uid() == 0 {
        // Again as nobody, from where nobody may execute it.
        let copy = format!("/var/tmp/wharf-test-nobody-{}", std::process::id());
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        let mut command = Command::new(&copy);
        command.args(["--exact", "--nocapture", "an_ordinary_user_gets_no_cgroup_unless_one_is_asked_for"]);
        let output = std::os::unix::process::CommandExt::uid(&mut command, 65534).output();
        std::fs::remove_file(&copy).unwrap();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        return assert!(output.status.success() && said.contains("checked as uid 65534"), "{said}");
    }
    let layout = Layout::detect(None).unwrap();
    if layout.version() == Version::None {
        return println!("skipped: no cgroup hierarchy is mounted");
    }
    let wanted = Wanted::new(layout.clone(), None, &id, None, true).unwrap();
    let cgroup = Cgroup::create(&wanted, &|_| Ok(())).unwrap();
    assert_eq!(cgroup.left_out().len(), layout.hierarchies.len());
    assert_eq!(cgroup.paths(), CgroupPaths::default());
    assert_eq!(wanted.expected().unwrap(), CgroupPaths::default());
    cgroup.place(std::process::id() as i32).unwrap();
    handle(&cgroup).remove().unwrap();
    let refused = |path: Option<&str>, resources: &str| {
        let resources: LinuxResources = serde_json::from_str(resources).unwrap();
        let wanted = Wanted::new(layout.clone(), path, &id, Some(&resources), true).unwrap();
        Cgroup::create(&wanted, &|_| Ok(())).unwrap_err()
    };
    assert!(refused(Some("/wharf-test-nobody"), "{}").to_string().contains("Permission denied"));
    assert!(refused(None, r#"{"pids": {"limit": 5}}"#).to_string().contains("Permission denied"));
    println!("checked as uid {}", wharf_sys::dir::effective_uid());
}
