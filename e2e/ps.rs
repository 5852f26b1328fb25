//! ps: the processes of a container, as pids and as a table.

use harness::{Container, Feature, Stop, Value, ensure, ensure_eq};
use std::time::{Duration, Instant};

pub(crate) fn trials() -> Feature {
    Feature::new("ps")
        .trial("--format json is the list of pids that the kernel has", |host| {
            let bundle = host.bundle()?.payload(&["spawn", "/bin/payload", "sleep"]);
            let container = host.start(&bundle)?;
            let first = container.pid()?;
            let pids = wait_for(&container, 2)?;
            ensure!(pids.contains(&first), "{pids:?} without {first}");
            let parent = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat"));
            for other in pids.iter().filter(|pid| **pid != first) {
                let stat = parent(*other)?;
                let ppid = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
                ensure_eq!(ppid, Some(first.to_string().as_str()));
            }
            container.delete_force()
        })
        .trial("processes in cgroups below the container's are among them", |host| {
            let bundle = host.bundle()?.payload(&["spawn", "/bin/payload", "sleep"]);
            let container = host.start(&bundle)?;
            let pids = wait_for(&container, 2)?;
            let top = match host.is_v2() {
                true => Some("/sys/fs/cgroup".into()),
                false => host.controller_dir("freezer"),
            };
            let nested = top.ok_or_else(|| Stop::skipped("this host has no freezer"))?.join(bundle.id()).join("nested");
            std::fs::create_dir(&nested)?;
            std::fs::write(nested.join("cgroup.procs"), pids[1].to_string())?;
            ensure_eq!(json(&container)?, pids);
            container.delete_force()
        })
        .trial("the table has a line for each process, with its command", |host| {
            let bundle = host.bundle()?.payload(&["spawn", "/bin/payload", "sleep", "40"]);
            let bundle = bundle.set("/process/user", harness::json!({"uid": 4321, "gid": 4321}));
            let container = host.start(&bundle.payload(&["sleep", "3600000"]))?;
            let pid = container.pid()?.to_string();
            let said = container.call("ps", &[])?;
            ensure!(said.code() == Some(0) && said.stderr.is_empty(), "{said}");
            let lines: Vec<Vec<&str>> = said.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
            ensure_eq!(lines[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
            ensure_eq!(lines.len(), 2, "{said}");
            ensure_eq!((lines[1][1], &lines[1][7..]), (pid.as_str(), &["/bin/payload", "sleep", "3600000"][..]));
            ensure!(lines[1][0].contains("4321"), "{said}");
            container.delete_force()
        })
        .trial("the table says what ps(1) says", |host| {
            host.only_wharf("others print the words of ps(1)")?;
            let container = host.start(&host.bundle()?.payload(&["spin", "1500", ";", "sleep"]))?;
            container.lines(1)?;
            let own = container.call("ps", &[])?.stdout;
            let theirs = host.runtime.must(&["ps", container.id(), "-ef"])?;
            let words = |table: &str| -> Vec<Vec<String>> {
                let lines = table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect());
                lines.collect()
            };
            let (mut own, mut theirs) = (words(&own), words(&theirs));
            ensure_eq!(own.len(), 2);
            // A second may pass between them, or be rounded away.
            let percent = |words: &mut Vec<Vec<String>>| words[1].remove(3).parse::<i32>();
            let (one, other) = (percent(&mut own)?, percent(&mut theirs)?);
            ensure!((one - other).abs() <= 60 && one > 0, "{one} % and {other} %");
            ensure_eq!(own[1].remove(5).len(), theirs[1].remove(5).len());
            ensure_eq!(own, theirs);
            container.delete_force()
        })
        .trial("options after the id are those of ps(1)", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let pid = container.pid()?.to_string();
            for options in [&["-e", "-o", "ppid,pid,comm"][..], &["axo", "comm,pid"]] {
                let said = host.runtime.call(&[&["ps", container.id()][..], options].concat())?;
                ensure_eq!(said.code(), Some(0), "{said}");
                let lines: Vec<&str> = said.stdout.lines().collect();
                ensure_eq!(lines.len(), 2, "{said}");
                ensure!(lines[1].split_whitespace().any(|word| word == pid), "{said}");
                ensure!(lines[1].contains("payload"), "{said}");
            }
            container.delete_force()
        })
        .trial("a table without pids and options that ps(1) does not know are refused by name", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let said = host.runtime.call(&["ps", container.id(), "-e", "-o", "comm"])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("PID"), "{said}");
            let said = host.runtime.call(&["ps", container.id(), "--no-such-option"])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("unknown gnu long option"), "{said}");
            if host.runtime.name() == "wharf" {
                ensure!(said.last_line().contains("run ps --no-such-option: "), "{said}");
            }
            container.delete_force()
        })
        .trial("a created, a paused and a stopped container are listed", |host| {
            let container = host.create(&host.bundle()?.payload(&["sleep"]))?;
            ensure_eq!(json(&container)?, [container.pid()?]);
            container.start()?;
            ensure_eq!(container.call("pause", &[])?.code(), Some(0));
            ensure_eq!(json(&container)?, [container.pid()?]);
            container.kill("KILL")?;
            container.wait_for_status("stopped")?;
            // A dead process that nobody has waited for is in no cgroup any more, or still on its way out.
            let begun = Instant::now();
            while !json(&container)?.is_empty() {
                ensure!(begun.elapsed() < Duration::from_secs(15), "a stopped container has processes");
            }
            container.delete()
        })
        .trial("processes that outlived the first one are listed", |host| {
            host.except("runc", "reads the pids of the first process only")?;
            let bundle = host.bundle()?.without_namespace("pid").payload(&["spawn", "/bin/payload", "sleep"]);
            let container = host.start(&bundle)?;
            let first = container.pid()?;
            let pids = wait_for(&container, 2)?;
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL)?;
            container.wait_for_status("stopped")?;
            container.reap(first)?;
            ensure_eq!(json(&container)?, pids.into_iter().filter(|pid| *pid != first).collect::<Vec<_>>());
            container.delete_force()
        })
        .trial("an unknown container does not exist", |host| {
            let said = host.runtime.call(&["ps", "nobody"])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("does not exist"), "{said}");
            Ok(())
        })
}

fn json(container: &Container<'_>) -> Result<Vec<i32>, Stop> {
    let said = container.call("ps", &["--format", "json"])?;
    ensure!(said.code() == Some(0) && said.stderr.is_empty(), "{said}");
    let value: Value = serde_json::from_str(&said.stdout)?;
    let mut pids: Vec<i32> = serde_json::from_value::<Option<Vec<i32>>>(value)?.unwrap_or_default();
    pids.sort_unstable();
    Ok(pids)
}

fn wait_for(container: &Container<'_>, count: usize) -> Result<Vec<i32>, Stop> {
    let begun = Instant::now();
    loop {
        let pids = json(container)?;
        if pids.len() >= count {
            return Ok(pids);
        }
        ensure!(begun.elapsed() < Duration::from_secs(15), "{pids:?} are not {count}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
