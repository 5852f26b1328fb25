//! Podman as root with systemd's cgroups: containers, pods of `kube play`, and a stack that comes up and goes down.

use super::podman::{IMAGE, Podman, turns, wait_until};
use super::{show, systemctl};
use harness::{Feature, Host, Outcome, Stop, ensure, ensure_eq};
use std::path::Path;

pub(crate) fn trials() -> Feature {
    Feature::new("systemd_podman")
        .trial("run, stats, update and restart: the limits are those of a scope, and it goes with rm", life)
        .trial("kube play of a pod of two containers: a slice for both, limits for each, and down", pod)
        .trial(
            "a stack with a network, health checks and restart policies comes up and goes down, clean each time",
            stack,
        )
}

fn cgroup(pid: &str) -> Result<String, Stop> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(format!("/sys/fs/cgroup{}", text.trim().trim_start_matches("0::")))
}

fn value(cgroup: &str, file: &str) -> Result<String, Stop> {
    Ok(std::fs::read_to_string(format!("{cgroup}/{file}"))?.trim().to_owned())
}

fn life(host: &Host) -> Outcome {
    let podman = Podman::new(host)?;
    let (name, parent) = (host.unique("c"), podman.parent());
    let limits = ["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"];
    let words = ["run", "--detach", "--name", &name, "--network", "none", "--cgroup-parent", &parent];
    let id = podman.must(&[&words[..], &limits, &[IMAGE, "sleep", "1000"]].concat())?;
    let scope = format!("libpod-{id}.scope");
    ensure_eq!((show(&scope, "ActiveState")?.as_str(), show(&scope, "Slice")?), ("active", parent.clone()));
    let first = podman.inspect(&name, "{{.State.Pid}}")?;
    let place = cgroup(&first)?;
    ensure!(place.contains(&format!("{parent}/{scope}")), "{place}");
    let seen = ["memory.max", "pids.max", "cpu.max"].map(|file| value(&place, file));
    for (seen, wanted) in seen.into_iter().zip(["67108864", "50", "50000 100000"]) {
        ensure_eq!(seen?, wanted);
    }
    let stats = podman.must(&["stats", "--no-stream", "--format", "{{.MemUsage}} pids {{.PIDs}}", &name])?;
    ensure!(stats.contains("/ 67.11MB pids 1"), "{stats}");
    podman.must(&["update", "--memory", "48m", "--pids-limit", "30", &name])?;
    ensure_eq!((value(&place, "memory.max")?.as_str(), value(&place, "pids.max")?.as_str()), ("50331648", "30"));
    ensure_eq!((show(&scope, "MemoryMax")?.as_str(), show(&scope, "TasksMax")?.as_str()), ("50331648", "30"));
    podman.must(&["restart", "--time", "0", &name])?;
    let second = podman.inspect(&name, "{{.State.Pid}}")?;
    ensure!(first != second, "it is the same process");
    ensure_eq!(cgroup(&second)?, place);
    ensure_eq!(show(&scope, "ActiveState")?, "active");
    ensure_eq!(podman.must(&["exec", &name, "echo", "here"])?, "here");
    podman.must(&["rm", "--force", "--time", "0", &name])?;
    ensure_eq!(show(&scope, "LoadState")?, "not-found");
    ensure!(!Path::new(&place).exists(), "{place} is left");
    podman.nothing_left()
}

fn pod(host: &Host) -> Outcome {
    let podman = Podman::new(host)?;
    let name = host.unique("pod");
    podman.infra()?;
    let file = podman.volume().join("pod.yaml");
    std::fs::write(
        &file,
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  restartPolicy: Never\n  containers:\n\
             \x20 - name: web\n    image: {IMAGE}\n    command: [sh, -c, 'echo hello >/tmp/index.html; exec httpd -f -p 127.0.0.1:8000 -h /tmp']\n\
             \x20   resources:\n      limits:\n        memory: 64Mi\n        cpu: 500m\n\
             \x20 - name: worker\n    image: {IMAGE}\n    command: [sleep, '1000']\n\
             \x20   resources:\n      limits:\n        memory: 32Mi\n"
        ),
    )?;
    let file = file.to_string_lossy();
    podman.must(&["kube", "play", "--network", "none", &file])?;
    let slice = podman.must(&["pod", "inspect", "--format", "{{.CgroupPath}}", &name])?;
    let (web, worker) = (format!("{name}-web"), format!("{name}-worker"));
    let places = [&web, &worker].map(|name| cgroup(&podman.inspect(name, "{{.State.Pid}}")?));
    let [web_place, worker_place] = places;
    let (web_place, worker_place) = (web_place?, worker_place?);
    for place in [&web_place, &worker_place] {
        ensure!(place.starts_with(&format!("/sys/fs/cgroup/{}/", slice.trim_matches('/'))), "{place} in {slice}");
    }
    ensure_eq!(value(&web_place, "memory.max")?, "67108864");
    ensure_eq!(value(&web_place, "cpu.max")?, "50000 100000");
    ensure_eq!(value(&worker_place, "memory.max")?, "33554432");
    let fetched = || podman.call(&["exec", &worker, "wget", "-q", "-O", "-", "http://127.0.0.1:8000/"]);
    wait_until("the other container's page", || Ok(fetched()?.stdout.trim() == "hello"))?;
    podman.must(&["kube", "down", &file])?;
    ensure_eq!(podman.must(&["pod", "ls", "--quiet"])?, "");
    let unit = slice.rsplit('/').next().unwrap_or_default();
    ensure_eq!(show(unit, "ActiveState")?, "inactive", "{unit}");
    ensure!(!Path::new("/sys/fs/cgroup").join(slice.trim_matches('/')).exists(), "{slice} is left");
    podman.nothing_left()
}

fn stack(host: &Host) -> Outcome {
    let podman = Podman::new(host)?;
    let parent = podman.parent();
    let network = host.unique("net");
    let [store, web, job] = ["store", "web", "job"].map(|word| host.unique(word));
    let volume = format!("{}:/v", podman.volume().display());
    for turn in 0..turns(10, 1) {
        podman.must(&["network", "create", &network])?;
        let run = |name: &str, options: &[&str], script: &str| {
            let words = ["run", "--detach", "--name", name, "--network", &network, "--cgroup-parent", &parent];
            let more = ["--volume", &volume, "--stop-signal", "KILL"];
            podman.must(&[&words[..], &more, options, &[IMAGE, "sh", "-c", script]].concat())
        };
        let check = ["--health-cmd", "wget -q -O /dev/null http://127.0.0.1:8000/", "--health-interval", "1s"];
        let serve = "echo kept >/tmp/index.html; exec httpd -f -p 8000 -h /tmp";
        let mut ids = vec![run(&store, &[&check[..], &["--restart", "always"]].concat(), serve)?];
        let ask = format!("until wget -q -O /v/got-{turn} http://{store}:8000/; do sleep 0.2; done; exec sleep 1000");
        ids.push(run(&web, &["--restart", "unless-stopped"], &ask)?);
        // It fails once, and is started again.
        let fail = format!("test -e /v/failed-{turn} && exec sleep 1000; touch /v/failed-{turn}; exit 3");
        ids.push(run(&job, &["--restart", "on-failure:5"], &fail)?);
        wait_until("the page of the other container", || {
            Ok(std::fs::read_to_string(podman.volume().join(format!("got-{turn}"))).is_ok_and(|got| got == "kept\n"))
        })?;
        wait_until("the job to be started again", || {
            Ok(podman.inspect(&job, "{{.State.Status}} {{.RestartCount}}")? == "running 1")
        })?;
        wait_until("the store's health", || Ok(podman.inspect(&store, "{{.State.Health.Status}}")? == "healthy"))?;
        podman.must(&["rm", "--force", &store, &web, &job])?;
        podman.must(&["network", "rm", &network])?;
        for id in &ids {
            let left = systemctl(&["list-units", "--all", "--no-legend", &format!("*{id}*")])?;
            ensure!(left.is_empty(), "turn {turn}: left: {left}");
        }
        podman.nothing_left()?;
    }
    Ok(())
}
