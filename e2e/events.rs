//! events: what a container uses, equal to the kernel's files, once or as it goes, and its deaths for want of memory.

use harness::{Bundle, Container, Feature, Host, Outcome, Running, Stop, Value, ensure, ensure_eq, json, limit};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

pub(crate) fn trials() -> Feature {
    Feature::new("events")
        .trial("--stats tells once what the kernel's files say", |host| {
            let limits = json!({
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": 96 * MIB}, "pids": {"limit": 23}, "cpu": {"cpus": "0"},
            });
            for controller in ["memory", "pids", "cpuset", "cpu"] {
                host.needs_controller(controller)?;
            }
            let bundle = host.bundle()?.set("/linux/resources", limits);
            let container = host.start(&bundle.payload(&["spin", "60", ";", "hold", "20"]))?;
            container.lines(2)?;
            let before = processor_time(host, &container)?;
            let line = once(&container)?;
            let after = processor_time(host, &container)?;
            ensure_eq!((&line["type"], &line["id"]), (&json!("stats"), &json!(container.id())));
            let data = &line["data"];
            ensure_eq!(data["pids"], json!({"current": 1, "limit": 23}));
            ensure_eq!(data["memory"]["usage"]["limit"], 96 * MIB);
            let usage = data["memory"]["usage"]["usage"].as_u64().unwrap_or(0);
            ensure!((20 * MIB..40 * MIB).contains(&usage), "20 MiB are held, {usage} bytes are told");
            ensure_eq!(data["cpuset"]["cpus"], json!([0]));
            let cpu = &data["cpu"]["usage"];
            let number = |name: &str| cpu[name].as_u64().unwrap_or(0);
            let total = number("total");
            ensure!(before > 0 && (before..=after).contains(&total), "{total} is not between {before} and {after}");
            ensure!(number("user") + number("kernel") > 0 && number("user") <= total, "{cpu}");
            let (controller, file) = if host.is_v2() { ("memory", "anon") } else { ("memory", "rss") };
            let stat = std::fs::read_to_string(dir(host, container.id(), controller)?.join("memory.stat"))?;
            let names: BTreeSet<&str> = stat.lines().filter_map(|line| line.split(' ').next()).collect();
            let raw = &data["memory"]["raw"];
            let told: BTreeSet<&str> = raw.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            ensure_eq!(told, names);
            ensure!(raw[file].as_u64().is_some_and(|bytes| bytes > 20 * MIB), "{raw}");
            container.delete_force()
        })
        .trial("processor time of each processor is told on v1, and throttling on both", |host| {
            host.except("runc", "counts in ticks")?;
            host.needs_controller("cpu")?;
            let cpu = json!({"quota": 1000, "period": 10000});
            let bundle = host.bundle()?.set("/linux/resources/cpu", cpu).payload(&["spin", "300", ";", "sleep"]);
            let container = host.start(&bundle)?;
            container.lines(1)?;
            let file = dir(host, container.id(), "cpu")?.join("cpu.stat");
            let throttled = || -> Result<(u64, u64), Stop> {
                let stat = std::fs::read_to_string(&file)?;
                let of = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
                let time =
                    if host.is_v2() { of("throttled_usec ").map(|time| time * 1000) } else { of("throttled_time ") };
                Ok((of("nr_throttled ").unwrap_or(0), time.unwrap_or(0)))
            };
            let before = throttled()?;
            let line = once(&container)?;
            let after = throttled()?;
            let cpu = &line["data"]["cpu"];
            let told = |name: &str| cpu["throttling"][name].as_u64().unwrap_or(0);
            ensure!(
                before.0 > 0 && (before.0..=after.0).contains(&told("throttledPeriods")),
                "{before:?} {cpu} {after:?}"
            );
            ensure!((before.1..=after.1).contains(&told("throttledTime")), "{before:?} {cpu} {after:?}");
            if !host.is_v2() {
                let sum = |name: &str| {
                    cpu["usage"][name].as_array().map(|all| all.iter().filter_map(Value::as_u64).sum::<u64>())
                };
                ensure_eq!(sum("percpu"), cpu["usage"]["total"].as_u64());
                ensure_eq!(sum("percpu_user"), cpu["usage"]["user"].as_u64());
                ensure_eq!(sum("percpu_kernel"), cpu["usage"]["kernel"].as_u64());
            }
            container.delete_force()
        })
        .trial("huge pages are told by their size", |host| {
            host.except("runc", "1.1 counts v1 only")?;
            host.needs_controller("hugetlb")?;
            let limits = json!([{"pageSize": "2MB", "limit": 4 * MIB}]);
            let bundle = host.bundle()?.set("/linux/resources/hugepageLimits", limits).payload(&["sleep"]);
            let container = host.start(&bundle)?;
            let line = once(&container)?;
            ensure_eq!(line["data"]["hugetlb"]["2MB"]["failcnt"], 0);
            container.delete_force()
        })
        .trial("pressure is told where the kernel tells it", |host| {
            host.except("runc", "1.1 does not")?;
            let top = if host.is_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/unified" };
            let container = host.start(&host.bundle()?.payload(&["spin", "50", ";", "sleep"]))?;
            container.lines(1)?;
            let file = Path::new(top).join(container.id()).join("cpu.pressure");
            if std::fs::read_to_string(&file).is_err() {
                return Err(Stop::skipped("this kernel tells no pressure"));
            }
            let line = once(&container)?;
            for (part, name) in [("cpu", "cpu"), ("memory", "memory"), ("blkio", "io")] {
                let psi = &line["data"][part]["psi"];
                for kind in ["some", "full"] {
                    ensure!(psi[kind]["avg10"].is_number() && psi[kind]["total"].is_u64(), "{name}: {psi}");
                }
            }
            container.delete_force()
        })
        .trial("names and types are those of runc", |host| {
            host.only_wharf("they are compared with it")?;
            if !["/usr/sbin/runc", "/usr/bin/runc"].iter().any(|path| Path::new(path).exists()) {
                return Err(Stop::skipped("runc is not installed"));
            }
            let limits = json!({"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 23}});
            let shape = |backend: &str| -> Result<BTreeSet<String>, Stop> {
                let bundle =
                    host.bundle()?.set("/linux/resources", limits.clone()).payload(&["spin", "60", ";", "sleep"]);
                bundle.save()?;
                let words = ["--backend", backend, "run", "--detach", "--bundle", bundle.dir_text(), bundle.id()];
                host.runtime.must(&words)?;
                std::thread::sleep(Duration::from_millis(150));
                let text = host.runtime.must(&["events", "--stats", bundle.id()])?;
                host.runtime.must(&["delete", "--force", bundle.id()])?;
                let mut names = BTreeSet::new();
                shape_of(&serde_json::from_str(&text)?, String::new(), &mut names);
                Ok(names)
            };
            let (own, theirs) = (shape("native")?, shape("runc")?);
            let missing: Vec<&String> = theirs.difference(&own).filter(|name| !is_optional(name)).collect();
            ensure!(missing.is_empty(), "missing: {missing:?}");
            let more: Vec<&String> = own.difference(&theirs).filter(|name| !is_optional(name)).collect();
            ensure!(more.is_empty(), "more than runc has: {more:?}");
            Ok(())
        })
        .trial("--interval tells a line each time, and ends when the container ends", |host| {
            host.except("runc", "ends when the cgroup is removed")?;
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let running = host.spawn(&["events", "--interval", "30ms", container.id()])?;
            let begun = Instant::now();
            wait_for_lines(&running, 4)?;
            ensure!(begun.elapsed() >= Duration::from_millis(110), "four lines after {:?}", begun.elapsed());
            container.kill("KILL")?;
            let said = running.finish()?;
            ensure!(said.code() == Some(0) && said.stderr.is_empty(), "{said}");
            for line in said.stdout.lines() {
                let value: Value = serde_json::from_str(line)?;
                ensure_eq!(value["type"], "stats");
                ensure_eq!(value["data"]["pids"]["current"], 1);
            }
            container.delete()
        })
        .trial("a paused and a created container are told of", |host| {
            host.except("runc", "counts its own threads")?;
            let container = host.create(&host.bundle()?.payload(&["sleep"]))?;
            ensure_eq!(once(&container)?["data"]["pids"]["current"], 1);
            container.start()?;
            ensure_eq!(container.call("pause", &[])?.code(), Some(0));
            ensure_eq!(once(&container)?["data"]["pids"]["current"], 1);
            container.delete_force()
        })
        .trial("a process that is killed for want of memory is an event", |host| {
            host.except("runc", "waits elsewhere")?;
            let container = host.start(&hungry(host, &["spawn", "/bin/payload", "alloc", "100", ";", "sleep"])?)?;
            let running = host.spawn(&["events", "--interval=1h", container.id()])?;
            watched(&running, &container)?;
            let said = wait_for_lines(&running, 1)?;
            let value: Value = serde_json::from_str(said.lines().next().unwrap_or_default())?;
            ensure_eq!(value, json!({"type": "oom", "id": container.id()}));
            ensure_eq!(container.status()?, "running");
            container.kill("KILL")?;
            ensure_eq!(running.finish()?.code(), Some(0));
            container.delete()
        })
        .trial("the death of the first process for want of memory is told before the end", |host| {
            host.except("runc", "ends when the cgroup is removed")?;
            let container = host.start(&hungry(host, &["alloc", "100"])?)?;
            let running = host.spawn(&["events", "--interval=1h", container.id()])?;
            watched(&running, &container)?;
            let said = running.finish()?;
            ensure_eq!(said.code(), Some(0), "{said}");
            ensure!(said.stdout.contains("\"type\":\"oom\""), "{said}");
            container.wait_for_status("stopped")?;
            container.delete()
        })
        .trial("a long stream takes no more memory and no more descriptors", |host| {
            host.only_wharf("others collect garbage")?;
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let running = host.spawn(&["events", "--interval", "500us", container.id()])?;
            wait_for_lines(&running, 100)?;
            let before = (resident(running.pid())?, descriptors(running.pid())?);
            wait_for_lines(&running, 400)?;
            let after = (resident(running.pid())?, descriptors(running.pid())?);
            ensure_eq!(after.1, before.1);
            ensure!(after.0 <= before.0 + 128, "{} KiB, and {} KiB after 300 lines more", before.0, after.0);
            container.kill("KILL")?;
            ensure_eq!(running.finish()?.code(), Some(0));
            container.delete()
        })
        .trial(
            "A4.3: --all tells of each that lives once, in lines as of one, and as text that Prometheus reads",
            |host| {
                host.only_wharf("others tell of one")?;
                host.needs_controller("memory")?;
                host.needs_controller("pids")?;
                let limits = json!({"memory": {"limit": 96 * MIB}, "pids": {"limit": 23}});
                let limited = host.bundle()?.set("/linux/resources", limits);
                let holding = host.start(&limited.payload(&["spin", "60", ";", "hold", "20"]))?;
                let created = host.create(&host.bundle()?.payload(&["sleep"]))?;
                let over = host.start(&host.bundle()?.payload(&["nothing"]))?;
                holding.lines(2)?;
                over.wait_for_status("stopped")?;
                let lines = host.runtime.must(&["events", "--all", "--stats"])?;
                let told: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
                let ids: BTreeSet<&str> = told.iter().filter_map(|line| line["id"].as_str()).collect();
                ensure_eq!(ids, BTreeSet::from([holding.id(), created.id()]));
                let shape = |value: &Value| {
                    let mut names = BTreeSet::new();
                    shape_of(value, String::new(), &mut names);
                    names
                };
                let line = told.iter().find(|line| line["id"] == holding.id()).cloned().unwrap_or_default();
                ensure_eq!(shape(&line), shape(&once(&holding)?));
                let before = processor_time(host, &holding)?;
                let page = host.runtime.must(&["events", "--all", "--stats", "--format", "prometheus"])?;
                let after = processor_time(host, &holding)?;
                let samples = exposition(&page)?;
                let of = |name: &str, id: &str| samples.get(&format!("{name}{{id=\"{id}\"}}")).copied();
                let cpu = of("wharf_cpu_seconds_total", holding.id()).unwrap_or(0.0) * 1e9;
                ensure!(cpu + 1.0 >= before as f64 && cpu <= after as f64 + 1.0, "{before} {cpu} {after}");
                ensure_eq!(of("wharf_memory_limit_bytes", holding.id()), Some((96 * MIB) as f64));
                ensure!(
                    of("wharf_memory_bytes", holding.id()).is_some_and(|bytes| bytes >= (20 * MIB) as f64),
                    "{page}"
                );
                ensure_eq!(of("wharf_processes_limit", holding.id()), Some(23.0));
                ensure_eq!(of("wharf_processes", created.id()), Some(1.0));
                ensure_eq!(of("wharf_memory_limit_bytes", created.id()), None);
                ensure!(!page.contains(over.id()), "{page}");
                let one = host.runtime.must(&["events", "--stats", "--format", "prometheus", created.id()])?;
                ensure!(exposition(&one)?.keys().all(|sample| sample.contains(created.id())), "{one}");
                for wrong in [&["events", "--all"][..], &["events", "--stats"], &["events", "--all", "--stats", "c"]] {
                    let said = host.runtime.call(wrong)?;
                    ensure!(said.code() != Some(0) && said.stderr.contains("events: "), "{said}");
                }
                let said = created.call("events", &["--format", "prometheus"])?;
                ensure!(said.code() != Some(0) && said.stderr.contains("--stats"), "{said}");
                holding.delete_force()?;
                created.delete_force()?;
                over.delete()
            },
        )
        .trial("a time that is none is refused", |host| {
            host.except("runc", "prints its help")?;
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            for text in ["0s", "-1s", "soon", "5"] {
                let said = host.runtime.call(&["events", &format!("--interval={text}"), container.id()])?;
                ensure!(said.code() != Some(0) && said.stdout.is_empty(), "{said}");
            }
            container.delete_force()
        })
        .trial("a stopped container is not running, and an unknown one does not exist", |host| {
            let container = host.start(&host.bundle()?.payload(&["nothing"]))?;
            container.wait_for_status("stopped")?;
            for options in [&["--stats"][..], &[]] {
                let said = container.call("events", options)?;
                ensure!(said.code() == Some(1) && said.stderr.contains("not running"), "{said}");
            }
            container.delete()?;
            let said = host.runtime.call(&["events", "--stats", "nobody"])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("does not exist"), "{said}");
            Ok(())
        })
}

fn once(container: &Container<'_>) -> Result<Value, Stop> {
    let said = container.call("events", &["--stats"])?;
    ensure!(said.code() == Some(0) && said.stderr.is_empty() && said.stdout.matches('\n').count() == 1, "{said}");
    Ok(serde_json::from_str(&said.stdout)?)
}

fn dir(host: &Host, id: &str, controller: &str) -> Result<std::path::PathBuf, Stop> {
    let top = host.controller_dir(controller);
    Ok(top.ok_or_else(|| Stop::skipped(format!("this host has no {controller} controller")))?.join(id))
}

/// Nanoseconds, by the kernel's own count.
fn processor_time(host: &Host, container: &Container<'_>) -> Result<u64, Stop> {
    if !host.is_v2() {
        let text = std::fs::read_to_string(dir(host, container.id(), "cpuacct")?.join("cpuacct.usage"))?;
        return Ok(text.trim().parse()?);
    }
    let text = std::fs::read_to_string(dir(host, container.id(), "cpu")?.join("cpu.stat"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap_or_default();
    Ok(line.trim().parse::<u64>()? * 1000)
}

/// A container that does what is said once it is told to, with 40 MiB of memory.
fn hungry(host: &Host, words: &[&str]) -> Result<Bundle, Stop> {
    host.needs_controller("memory")?;
    let memory = json!({"limit": 40 * MIB, "swap": 40 * MIB});
    let words = [&["wait-file", "/tmp/go", ";"][..], words].concat();
    Ok(host.bundle()?.set("/linux/resources/memory", memory).payload(&words))
}

/// Lets the payload go as soon as somebody watches: until then the kernel would tell nobody.
fn watched(running: &Running, container: &Container<'_>) -> Outcome {
    let begun = Instant::now();
    // The watcher sleeps in ppoll.
    while !std::fs::read_to_string(format!("/proc/{}/wchan", running.pid()))?.contains("poll") {
        ensure!(begun.elapsed() < limit(10), "nobody watches");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::write(format!("/proc/{}/root/tmp/go", container.pid()?), "")?;
    Ok(())
}

fn wait_for_lines(running: &Running, count: usize) -> Result<String, Stop> {
    let begun = Instant::now();
    loop {
        let text = running.stdout_so_far();
        if text.matches('\n').count() >= count {
            return Ok(text);
        }
        ensure!(begun.elapsed() < limit(30), "{count} lines were expected: {text:?}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Kibibytes.
fn resident(pid: i32) -> Result<u64, Stop> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn descriptors(pid: i32) -> Result<usize, Stop> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// The samples of a page in Prometheus's text format, each judged as that format is described: a family has its HELP and
/// its TYPE before its samples, which stand together; names and labels are made of the right letters.
fn exposition(page: &str) -> Result<BTreeMap<String, f64>, Stop> {
    let is_name = |text: &str| {
        !text.starts_with(|c: char| c.is_ascii_digit())
            && !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    let (mut samples, mut families, mut current) = (BTreeMap::new(), BTreeSet::new(), String::new());
    ensure!(page.ends_with('\n'), "its last line has no end");
    for line in page.lines() {
        if let Some(words) = line.strip_prefix("# TYPE ") {
            let (name, kind) = words.split_once(' ').unwrap_or_default();
            ensure!(is_name(name) && ["counter", "gauge"].contains(&kind), "{line}");
            ensure!(name.ends_with("_total") == (kind == "counter"), "{line}");
            ensure!(families.insert(name.to_owned()), "a family comes twice: {line}");
            current = name.to_owned();
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').ok_or_else(|| Stop::failed(line))?;
        let (name, labels) = sample.split_once('{').ok_or_else(|| Stop::failed(line))?;
        ensure!(is_name(name) && name == current, "not below its family: {line}");
        for label in labels.strip_suffix('}').unwrap_or_default().split(',') {
            let (key, value) = label.split_once('=').unwrap_or_default();
            ensure!(is_name(key) && value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{line}");
        }
        ensure!(samples.insert(sample.to_owned(), value.parse()?).is_none(), "a sample comes twice: {line}");
    }
    Ok(samples)
}

/// Every property by its path, with the kind of its value.
fn shape_of(value: &Value, path: String, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| shape_of(value, format!("{path}/{name}"), names)),
        Value::Array(list) => list.iter().for_each(|value| shape_of(value, format!("{path}/*"), names)),
        Value::Null => drop(names.insert(format!("{path}: null"))),
        Value::Number(_) => drop(names.insert(format!("{path}: number"))),
        _ => drop(names.insert(format!("{path}: other"))),
    }
}

/// Left out where it is 0, or of newer versions than the installed one may be.
fn is_optional(name: &str) -> bool {
    name.contains("/psi/")
        || name.contains("/data/blkio/")
        || ["/max: number", "/usage: number", "/cache: number", "/current: number"]
            .iter()
            .any(|end| name.ends_with(end))
        || name.contains("/hugetlb/")
        || name.contains("/cpuset/cpus/")
        || name.contains("/cpuset/mems/")
}
