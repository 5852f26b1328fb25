//! Verbs on a container that lives, killed after each system call: what is there then, that the same verb mends it, and
//! that `gc` harms nobody.

use super::traced::{Traced, plain, reap, traced};
use super::{alone, end, points};
use crate::attack::arena::Runtime;
use harness::{Bundle, Container, Feature, Host, Inventory, Outcome, Stop, Value, ensure, ensure_eq, json};
use nix::sys::wait::WaitStatus;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

pub(super) fn trials(feature: Feature) -> Feature {
    feature
        .trial("start is killed after each system call: the payload runs once, then or at the next start", |host| {
            let words = ["append", "/var/ran", "x", ";", "touch", "/var/ran", ";", "sleep"];
            every(host, &Case::new("start", Status::Created, &["start", ID]).payload(&words), started_once)
        })
        .trial("start with a watcher is killed after each system call, likewise", |host| {
            let words = ["append", "/var/ran", "x", ";", "touch", "/var/ran", ";", "sleep"];
            let case = Case::new("start, watched", Status::Created, &["start", ID]).payload(&words).watched();
            every(host, &case, started_once)
        })
        .trial(
            "kill is killed after each system call: the signal was sent or not, and the next kill sends it",
            |host| {
                let case = Case::new("kill", Status::Running, &["kill", ID, "TERM"]).payload(&["wait-signal"]);
                every(host, &case, signalled)?;
                every(host, &case.watched(), signalled)
            },
        )
        .trial("kill --all is killed after each system call: what it had stopped for that goes on by resume", |host| {
            every(host, &Case::new("kill --all", Status::Running, &["kill", "--all", ID, "USR1"]), |scene| {
                if scene.status()? == "paused" {
                    scene.must(&["resume", scene.id()])?;
                }
                scene.is("running")
            })?;
            every(host, &Case::new("kill --all KILL", Status::Running, &["kill", "--all", ID, "KILL"]), |_| Ok(()))
        })
        .trial("pause is killed after each system call: the next pause stops it, and resume lets it go on", |host| {
            every(host, &Case::new("pause", Status::Running, &["pause", ID]), |scene| {
                if scene.status()? != "paused" {
                    scene.must(&["pause", scene.id()])?;
                }
                scene.is("paused")?;
                scene.must(&["resume", scene.id()])?;
                scene.is("running")
            })
        })
        .trial("resume is killed after each system call: the next resume lets it go on", |host| {
            every(host, &Case::new("resume", Status::Paused, &["resume", ID]), |scene| {
                if scene.status()? != "running" {
                    scene.must(&["resume", scene.id()])?;
                }
                scene.is("running")
            })
        })
        .trial(
            "update is killed after each system call: each limit is the old or the new one, and the next sets all",
            updates,
        )
        .trial(
            "exec is killed after each system call: its process is gone, the others are as before, and the next runs",
            |host| {
                every(host, &Case::new("exec", Status::Running, &["exec", ID, "/bin/payload", "nothing"]), |scene| {
                    alone(scene.host, &scene.runtime, &scene.bundle, 3)?;
                    scene.is("running")?;
                    scene.must(&["exec", scene.id(), "/bin/payload", "nothing"]).map(drop)
                })
            },
        )
        .trial("exec --detach is killed after each system call: who lives on is in the pid file", |host| {
            let file = host.dir().join("pid").display().to_string();
            let words = ["exec", "--detach", "--pid-file", &file, ID, "/bin/payload", "sleep"];
            every(host, &Case::new("exec --detach", Status::Running, &words), |scene| known(scene, Path::new(&file)))
        })
        .trial("wait is killed after each system call, and the next one tells the end", |host| {
            let case = Case::new("wait", Status::Running, &["wait", ID]).payload(&["sleep", "250"]).watched();
            every(host, &case, |scene| scene.must(&["wait", scene.id()]).map(drop))
        })
        .trial("verbs that only look are killed after each system call, and nothing has changed", looking)
}

/// Stands for the container's id in a verb.
const ID: &str = "{id}";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Status {
    Created,
    Running,
    Paused,
}

/// A verb, and the container that it finds.
#[derive(Clone)]
struct Case {
    name: &'static str,
    status: Status,
    verb: Vec<String>,
    payload: Vec<String>,
    resources: Value,
    watched: bool,
}

impl Case {
    fn new(name: &'static str, status: Status, verb: &[&str]) -> Self {
        let verb = verb.iter().map(|word| (*word).to_owned()).collect();
        Case { name, status, verb, payload: vec!["sleep".to_owned()], resources: json!({}), watched: false }
    }

    fn payload(mut self, words: &[&str]) -> Self {
        self.payload = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    fn watched(mut self) -> Self {
        self.watched = true;
        self
    }
}

/// A container after a verb on it was killed, or had ended.
struct Scene<'h> {
    host: &'h Host,
    runtime: Runtime<'h>,
    bundle: Bundle,
}

impl Scene<'_> {
    fn id(&self) -> &str {
        self.bundle.id()
    }

    fn must(&self, verb: &[&str]) -> Result<String, Stop> {
        plain(self.host, &self.runtime, verb)
    }

    fn state(&self) -> Result<Value, Stop> {
        Ok(serde_json::from_str(&self.must(&["state", self.id()])?)?)
    }

    fn status(&self) -> Result<String, Stop> {
        Ok(self.state()?["status"].as_str().unwrap_or_default().to_owned())
    }

    fn is(&self, status: &str) -> Outcome {
        ensure_eq!(self.status()?, status);
        Ok(())
    }

    /// Brings a container to where the verb finds it.
    fn prepare(&self, status: Status) -> Outcome {
        self.must(&["create", "--bundle", self.bundle.dir_text(), self.id()])?;
        if status != Status::Created {
            self.must(&["start", self.id()])?;
        }
        if status == Status::Paused {
            self.must(&["pause", self.id()])?;
        }
        Ok(())
    }
}

/// Every kill point of one verb: `then` judges what is there, and tries what mends it.
fn every(host: &Host, case: &Case, then: impl Fn(&Scene<'_>) -> Outcome) -> Outcome {
    host.only_wharf("only wharf has gc")?;
    let payload: Vec<&str> = case.payload.iter().map(String::as_str).collect();
    let mut bundle = host.bundle()?.payload(&payload).set("/linux/resources", case.resources.clone());
    if case.watched {
        bundle = bundle.set("/annotations", json!({"dev.wharf.exit-record": "watcher"}));
    }
    bundle.save()?;
    let ran = bundle.rootfs().join("var/ran");
    let scene = Scene { host, runtime: Runtime::under_test(host), bundle };
    let verb: Vec<&str> = case.verb.iter().map(|word| if word == ID { scene.id() } else { word.as_str() }).collect();
    let neighbours = Neighbours::start(host)?;
    let round = |k| {
        fs::write(&ran, "")?;
        scene.prepare(case.status)?;
        traced(host, &scene.runtime, &verb, k)
    };
    points(
        host,
        case.name,
        |status| matches!(status, WaitStatus::Exited(_, 0)),
        round,
        |before| {
            let judged = then(&scene).and_then(|()| neighbours.unharmed());
            let swept = sweep(&scene, before);
            judged.and(swept)
        },
    )?;
    neighbours.end()
}

/// `gc` lets it live; when it has been ended, `gc` leaves nothing.
fn sweep(scene: &Scene<'_>, before: &Inventory) -> Outcome {
    reap();
    let state = scene.state()?;
    if state["status"] != "stopped" {
        scene.must(&["gc", "--stopped", "--apply"])?;
        let now = scene.state()?;
        // A payload may end by itself meanwhile.
        ensure!(now == state || now["status"] == "stopped", "gc changes a living container: {state} {now}");
    }
    end(scene.host, &scene.runtime, &scene.bundle)?;
    scene.must(&["gc", "--stopped", "--apply"])?;
    let begun = Instant::now();
    loop {
        reap();
        let difference = Inventory::take(scene.host.tag(), &scene.host.root()).difference(before);
        if difference.is_empty() {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(2), "gc leaves {}", difference.join(", "));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A payload that was let go runs; one that was not waits for the next start. Never both.
fn started_once(scene: &Scene<'_>) -> Outcome {
    let started = plain(scene.host, &scene.runtime, &["start", scene.id()]);
    let begun = Instant::now();
    let ran = || fs::read_to_string(scene.bundle.rootfs().join("var/ran"));
    while ran()?.is_empty() {
        ensure!(begun.elapsed() < Duration::from_secs(5), "the payload does not run; the second start: {started:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    // It says so before it has said all.
    std::thread::sleep(Duration::from_millis(20));
    ensure_eq!(ran()?, "x", "the payload ran more than once");
    scene.is("running")?;
    let again = plain(scene.host, &scene.runtime, &["start", scene.id()]);
    ensure!(matches!(&again, Err(Stop::Failed(why)) if why.contains("started already")), "a third start: {again:?}");
    Ok(())
}

/// The payload ends by the first signal that it gets.
fn signalled(scene: &Scene<'_>) -> Outcome {
    let begun = Instant::now();
    loop {
        reap();
        if scene.status()? == "stopped" {
            return Ok(());
        }
        // Where it comes too early for the payload, the signal is dropped: it is its pid namespace's first process.
        let _ = plain(scene.host, &scene.runtime, &["kill", scene.id(), "TERM"]);
        ensure!(begun.elapsed() < Duration::from_secs(5), "the signal does not arrive");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Who is in the container beside its first process is in the pid file.
fn known(scene: &Scene<'_>, file: &Path) -> Outcome {
    let begun = Instant::now();
    let init = scene.state()?["pid"].clone();
    let strangers = loop {
        reap();
        let listed: Value = serde_json::from_str(&scene.must(&["ps", "--format", "json", scene.id()])?)?;
        let told: Option<i64> = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
        let strangers: Vec<&Value> =
            listed.as_array().into_iter().flatten().filter(|pid| **pid != init && pid.as_i64() != told).collect();
        // One that was not let go ends with its exec.
        if strangers.is_empty() || begun.elapsed() > Duration::from_secs(3) {
            break strangers.len();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let _ = fs::remove_file(file);
    ensure_eq!(strangers, 0, "processes that nobody knows");
    scene.is("running")
}

/// Several limits in one update; each file has the old or the new value, whenever it was killed.
fn updates(host: &Host) -> Outcome {
    for controller in ["memory", "pids", "cpu"] {
        host.needs_controller(controller)?;
    }
    let words = ["update", "--memory", "96M", "--memory-swap", "96M", "--pids-limit", "60", "--cpu-quota", "40000", ID];
    let mut case = Case::new("update", Status::Running, &words);
    case.resources = json!({
        "memory": {"limit": 64 * MIB, "swap": 64 * MIB}, "pids": {"limit": 30}, "cpu": {"quota": 20_000, "period": 100_000}
    });
    every(host, &case, |scene| {
        let values = limits(host, scene.id());
        for (name, value) in &values {
            let known: &[&str] = match name.rsplit('/').next().unwrap_or_default() {
                "memory.limit_in_bytes" | "memory.memsw.limit_in_bytes" | "memory.max" => &["67108864", "100663296"],
                "memory.swap.max" => &["0"],
                "pids.max" => &["30", "60"],
                "cpu.cfs_quota_us" => &["20000", "40000"],
                "cpu.max" => &["20000 100000", "40000 100000"],
                _ => continue,
            };
            ensure!(known.contains(&value.as_str()), "{name} is {value}, neither the old nor the new one");
        }
        let words: Vec<&str> = words.iter().map(|word| if *word == ID { scene.id() } else { word }).collect();
        scene.must(&words)?;
        let now = limits(host, scene.id());
        for (file, wanted) in [
            ("/pids.max", "60"),
            ("/cpu.cfs_quota_us", "40000"),
            ("/cpu.max", "40000 100000"),
            ("/memory.limit_in_bytes", "100663296"),
            ("/memory.memsw.limit_in_bytes", "100663296"),
            ("/memory.max", "100663296"),
            ("/memory.swap.max", "0"),
        ] {
            let mut found = now.iter().filter(|(name, _)| name.ends_with(file));
            ensure!(found.all(|(_, value)| value == wanted), "{file} is not {wanted}: {now:?}");
        }
        scene.is("running")
    })
}

/// Verbs that change nothing, on one container that lives all the time.
fn looking(host: &Host) -> Outcome {
    host.only_wharf("only wharf has gc")?;
    let neighbours = Neighbours::start(host)?;
    let runtime = Runtime::under_test(host);
    let id = neighbours.running.id();
    for verb in [
        &["state", id][..],
        &["list"],
        &["list", "--format", "json"],
        &["ps", id],
        &["events", "--stats", id],
        &["gc"],
        &["gc", "--stopped", "--apply"],
    ] {
        let round = |k| -> Result<Traced, Stop> { traced(host, &runtime, verb, k) };
        points(
            host,
            verb[0],
            |status| matches!(status, WaitStatus::Exited(_, 0)),
            round,
            |before| {
                reap();
                neighbours.unharmed()?;
                let difference = Inventory::take(host.tag(), &host.root()).difference(before);
                ensure!(difference.is_empty(), "{}", difference.join(", "));
                Ok(())
            },
        )?;
    }
    neighbours.end()
}

/// Files of a cgroup that say what a container may use and whether it stands still.
const LIMITS: [&str; 10] = [
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "pids.max",
    "cpu.cfs_quota_us",
    "cpu.shares",
    "freezer.state",
    "memory.max",
    "memory.swap.max",
    "cpu.max",
    "cgroup.freeze",
];

/// Those that are there, by their paths.
fn limits(host: &Host, id: &str) -> BTreeMap<String, String> {
    let tops =
        ["memory", "pids", "cpu", "freezer"].into_iter().filter_map(|controller| host.controller_dir(controller));
    let files = tops.flat_map(|top| LIMITS.map(|file| top.join(id).join(file)));
    let read = |path: std::path::PathBuf| Some((path.display().to_string(), fs::read_to_string(path).ok()?));
    files.filter_map(read).map(|(path, text)| (path, text.trim().to_owned())).collect()
}

/// State, limits, and when its first process began.
type Seen = (Value, BTreeMap<String, String>, String);

/// Containers that have nothing to do with what is killed: one runs, one is paused.
pub(super) struct Neighbours<'h> {
    host: &'h Host,
    running: Container<'h>,
    paused: Container<'h>,
    /// What was seen of them when all was well.
    seen: Vec<Seen>,
}

impl<'h> Neighbours<'h> {
    pub(super) fn start(host: &'h Host) -> Result<Self, Stop> {
        let limits =
            json!({"memory": {"limit": 48 * MIB}, "pids": {"limit": 23}, "cpu": {"quota": 30_000, "period": 100_000}});
        let bundle = || Ok::<_, Stop>(host.bundle()?.set("/linux/resources", limits.clone()).payload(&["sleep"]));
        let running = host.start(&bundle()?)?;
        let paused = host.start(&bundle()?)?;
        ensure_eq!(paused.call("pause", &[])?.code(), Some(0));
        let mut neighbours = Neighbours { host, running, paused, seen: Vec::new() };
        neighbours.seen = neighbours.look()?;
        ensure_eq!(
            (&neighbours.seen[0].0["status"], &neighbours.seen[1].0["status"]),
            (&json!("running"), &json!("paused"))
        );
        Ok(neighbours)
    }

    fn look(&self) -> Result<Vec<Seen>, Stop> {
        let one = |container: &Container<'_>| -> Result<_, Stop> {
            let state = container.state()?;
            let stat = fs::read_to_string(format!("/proc/{}/stat", state["pid"]))?;
            let began = stat.rsplit(')').next().unwrap_or_default().split_whitespace().nth(19).unwrap_or_default();
            Ok((state, limits(self.host, container.id()), began.to_owned()))
        };
        Ok(vec![one(&self.running)?, one(&self.paused)?])
    }

    pub(super) fn unharmed(&self) -> Outcome {
        let now = self.look()?;
        ensure!(now == self.seen, "a neighbour was harmed: {now:?}, before {:?}", self.seen);
        Ok(())
    }

    pub(super) fn end(self) -> Outcome {
        self.unharmed()?;
        self.running.delete_force()?;
        self.paused.delete_force()
    }
}
