//! containerd's CRI with wharf as a runtime handler: what a kubelet asks of a pod, from its sandbox to its removal.

use super::grpc::{Fields, Message, call};
use super::{Choice, Containerd, RUN, setup};
use crate::engines::common::{cgroup_value, said};
use crate::engines::image::{NAME, PAUSE};
use crate::engines::routing;
use crate::systemd::{needs_systemd, show, systemctl};
use harness::{Feature, Host, Outcome, Stop, ensure, ensure_eq, json, wait_until};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The handler that pods ask for, of the documents, and where containerd keeps what is of CRI.
const HANDLER: &str = "wharf";
const NAMESPACE: &str = "k8s.io";

/// Of enumerations of the protocol.
const NODE: i64 = 2;
const RUNNING: i64 = 1;
const EXITED: i64 = 2;

pub(super) fn trials(feature: Feature) -> Feature {
    feature
        .trial("CRI: a pod and a container of the handler, from RunPodSandbox to RemovePodSandbox", life)
        .trial("CRI: a command that is missing and an exec that fails are told, and leave nothing", failures)
        .trial("CRI: containers land by their image's name and by their handler's link, and work there", routed)
        .trial("CRI: pods outlive a killed containerd, and the next one has them again", restart)
        .trial(
            "CRI: SystemdCgroup = true: pod and container are scopes of the pod's slice, with its limits, and go",
            scopes,
        )
}

fn life(host: &Host) -> Outcome {
    let cri = Cri::start(host)?;
    let pod = cri.pod()?;
    let script = "echo out; echo err >&2; trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done";
    let id = cri.container(&pod, &["sh", "-c", script])?;
    ensure_eq!(cri.status(&id)?.number(3)?, 0, "the state after CreateContainer");
    cri.runtime("StartContainer", &container(&id))?;
    ensure_eq!(cri.status(&id)?.number(3)?, RUNNING);
    // Only the handler's program knows its own records.
    let root = Path::new(RUN).join("runc").join(NAMESPACE);
    let mut state = Command::new(host.runtime.program());
    state.arg("--root").arg(root).args(["state", &id]);
    ensure!(said(host.program(state)?.finish()?)?.contains("\"running\""), "not of the handler");
    let log = cri.logs().join("c.log");
    let text = || Ok::<_, Stop>(std::fs::read_to_string(&log).unwrap_or_default());
    wait_until("the log", || Ok(text()?.contains("stdout F out\n") && text()?.contains("stderr F err\n")))?;

    let told = cri.exec(&id, &["sh", "-c", "echo $0; echo aside >&2; exit 9", "exec"])?;
    ensure_eq!((told.text(1)?.trim(), told.text(2)?.trim(), told.number(3)?), ("exec", "aside", 9));
    let same = "for name in net ipc uts; do readlink /proc/self/ns/$name; done";
    let (own, first) = (cri.exec(&id, &["sh", "-c", same])?.text(1)?, namespaces(cri.engine.task(&pod)?.0)?);
    ensure_eq!(own, first, "namespaces of the pod");

    let pid = cri.engine.task(&id)?.0;
    let limit = || cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max");
    let quota = || cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
    ensure_eq!(limit()?, "67108864");
    let changed = Message::default().number(1, 100_000).number(2, 25_000).number(4, 33_554_432);
    cri.runtime("UpdateContainerResources", &container(&id).message(2, &changed))?;
    ensure_eq!((limit()?.as_str(), quota()?.split(' ').next()), ("33554432", Some("25000")));
    let stats = cri.runtime("ContainerStats", &container(&id))?.message(1)?;
    // The memory's working set, a number in a message of its own.
    ensure!(stats.message(3)?.message(2)?.number(1)? > 0, "no memory in the statistics");

    cri.runtime("StopContainer", &container(&id).number(2, 20))?;
    let status = cri.status(&id)?;
    ensure_eq!((status.number(3)?, status.number(7)?), (EXITED, 7));
    ensure!(text()?.contains("stdout F bye\n"), "{:?}", text());
    ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "the payload is left");
    cri.runtime("RemoveContainer", &container(&id))?;
    ensure!(cri.try_status(&id)?.is_none(), "the container is left");
    cri.end(&pod)
}

fn failures(host: &Host) -> Outcome {
    let cri = Cri::start(host)?;
    let pod = cri.pod()?;
    let id = cri.container(&pod, &["/bin/nothing"])?;
    let why = cri.refused("StartContainer", &container(&id))?;
    ensure!(why.contains("/bin/nothing") && why.contains("no such file or directory"), "{why}");
    let status = cri.status(&id)?;
    // What runc leads to: the reason is containerd's, for all that the runtime refuses.
    ensure_eq!((status.number(3)?, status.number(7)?, status.text(10)?.as_str()), (EXITED, 128, "StartError"));
    cri.runtime("RemoveContainer", &container(&id))?;
    let id = cri.container(&pod, &["sleep", "1000"])?;
    cri.runtime("StartContainer", &container(&id))?;
    let why = cri.refused("ExecSync", &container(&id).text(2, "nothing"))?;
    ensure!(why.contains("executable file not found in $PATH"), "{why}");
    // A probe that takes too long is ended, and the container goes on.
    cri.refused("ExecSync", &container(&id).text(2, "sleep").text(2, "1000").number(3, 1))?;
    let sleeping = cri.exec(&id, &["sh", "-c", "pidof sleep | wc -w"])?.text(1)?;
    ensure_eq!(sleeping.trim(), "1", "what the probe ran is left");
    ensure_eq!(cri.status(&id)?.number(3)?, RUNNING);
    cri.end(&pod)
}

fn routed(host: &Host) -> Outcome {
    let rules = json!([
        {"match": {"argv0": "wharf-runc"}, "backend": "runc"},
        {"match": {"annotations": {"io.kubernetes.cri.image-name": NAME}}, "backend": "crun"},
    ]);
    let configuration = routing::configuration(host, &rules)?;
    // containerd hands its environment on to no runtime, and has no option for a configuration.
    let called = |name: &str| -> Result<PathBuf, Stop> {
        let path = host.dir().join(name);
        let (config, program) = (configuration.display(), host.runtime.program().display());
        let text = format!("#!/bin/bash\nexec -a {name} {program} --config {config} \"$@\"\n");
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(path)
    };
    let (plain, link) = (called("wharf")?, called("wharf-runc")?);
    let handler = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wharf-runc";
    let more = format!(
        "{handler}]\nruntime_type = \"io.containerd.runc.v2\"\n{handler}.options]\nBinaryName = \"{}\"\n",
        link.display()
    );
    let cri = Cri::start_as(host, &plain, &more, &format!("/{}", host.tag()), false)?;
    let root = Path::new(RUN).join("runc").join(NAMESPACE);
    for (handler, of_pod, expected) in [(HANDLER, "native", "crun"), ("wharf-runc", "runc", "runc")] {
        let pod = cri.pod_of(handler)?;
        ensure_eq!(routing::backend(host, &root, &pod)?, of_pod, "the sandbox of {handler}");
        let id = cri.container(&pod, &["sleep", "1000"])?;
        cri.runtime("StartContainer", &container(&id))?;
        ensure_eq!(routing::backend(host, &root, &id)?, expected, "a container of {handler}");
        ensure_eq!(cri.exec(&id, &["sh", "-c", "exit 11"])?.number(3)?, 11);
        cri.runtime("StopContainer", &container(&id))?;
        ensure_eq!(cri.status(&id)?.number(7)?, 137);
        cri.runtime("RemoveContainer", &container(&id))?;
        cri.remove(&pod)?;
    }
    cri.engine.stop()
}

fn restart(host: &Host) -> Outcome {
    let cri = Cri::start(host)?;
    let pod = cri.pod()?;
    let id = cri.container(&pod, &["sleep", "1000"])?;
    cri.runtime("StartContainer", &container(&id))?;
    let pid = cri.engine.task(&id)?.0;
    cri.engine.end(Signal::SIGKILL)?;
    cri.engine.launch()?;
    cri.ready()?;
    ensure_eq!((cri.status(&id)?.number(3)?, cri.engine.task(&id)?.0), (RUNNING, pid));
    ensure_eq!(cri.exec(&id, &["sh", "-c", "exit 11"])?.number(3)?, 11);
    cri.runtime("StopContainer", &container(&id))?;
    ensure_eq!(cri.status(&id)?.number(7)?, 137);
    cri.end(&pod)
}

fn scopes(host: &Host) -> Outcome {
    needs_systemd(host)?;
    let slice = format!("{}.slice", host.tag().replace('-', "_"));
    let cri = Cri::start_as(host, host.runtime.program(), "", &slice, true)?;
    let pod = cri.pod()?;
    let id = cri.container(&pod, &["sleep", "1000"])?;
    cri.runtime("StartContainer", &container(&id))?;
    let units = [&pod, &id].map(|id| format!("cri-containerd-{id}.scope"));
    for (unit, id) in units.iter().zip([&pod, &id]) {
        ensure_eq!((show(unit, "ActiveState")?.as_str(), show(unit, "Slice")?), ("active", slice.clone()));
        let place = std::fs::read_to_string(format!("/proc/{}/cgroup", cri.engine.task(id)?.0))?;
        ensure_eq!(place.trim(), format!("0::/{slice}/{unit}"));
    }
    let top = PathBuf::from("/sys/fs/cgroup").join(&slice);
    let read = |file: &str| -> Result<String, Stop> {
        Ok(std::fs::read_to_string(top.join(&units[1]).join(file))?.trim().to_owned())
    };
    ensure_eq!((read("memory.max")?.as_str(), read("cpu.max")?.as_str()), ("67108864", "50000 100000"));
    let changed = Message::default().number(1, 100_000).number(2, 25_000).number(4, 33_554_432);
    cri.runtime("UpdateContainerResources", &container(&id).message(2, &changed))?;
    ensure_eq!((read("memory.max")?.as_str(), read("cpu.max")?.as_str()), ("33554432", "25000 100000"));
    ensure_eq!(show(&units[1], "MemoryMax")?, "33554432");
    ensure_eq!(cri.exec(&id, &["sh", "-c", "exit 9"])?.number(3)?, 9);
    cri.runtime("StopContainer", &container(&id))?;
    cri.runtime("RemoveContainer", &container(&id))?;
    cri.end(&pod)?;
    for unit in &units {
        ensure_eq!(show(unit, "LoadState")?, "not-found", "{unit}");
        ensure!(!top.join(unit).exists(), "the cgroup of {unit} is left");
    }
    // systemd takes an empty slice away when it likes.
    systemctl(&["stop", &slice]).map(drop)
}

/// A daemon whose CRI plugin has the handler.
struct Cri<'h> {
    engine: Containerd<'h>,
    socket: PathBuf,
    parent: String,
}

impl<'h> Cri<'h> {
    fn start(host: &'h Host) -> Result<Self, Stop> {
        Self::start_as(host, host.runtime.program(), "", &format!("/{}", host.tag()), false)
    }

    /// `program` is the handler's, `handlers` are lines of more of them, `parent` is the cgroup of all pods, as a kubelet
    /// names it.
    fn start_as(host: &'h Host, program: &Path, handlers: &str, parent: &str, systemd: bool) -> Result<Self, Stop> {
        let own = Choice { name: host.runtime.name(), program, peer: false };
        // The documents' lines. What cannot be raised here stays as it is; pods have no network of their own here.
        let lines = setup::lines()?.replace("version = 2\n", "");
        let lines = lines.replace("SystemdCgroup = false", &format!("SystemdCgroup = {systemd}"));
        let more = |runtime: &Path| {
            format!(
                "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{PAUSE}\"\nrestrict_oom_score_adj = true\n{}{handlers}",
                lines.replace("/usr/local/bin/wharf", &runtime.display().to_string())
            )
        };
        let engine = Containerd::start_with(host, &own, NAMESPACE, &[], more)?;
        let cri = Cri { socket: engine.dir.join("sock"), engine, parent: parent.to_owned() };
        cri.ready()?;
        Ok(cri)
    }

    /// Waits until the plugin answers and has heard of the images.
    fn ready(&self) -> Outcome {
        for name in [NAME, PAUSE] {
            let image = Message::default().message(1, &Message::default().text(1, name));
            wait_until(name, || {
                let told = call(&self.socket, "/runtime.v1.ImageService/ImageStatus", &image)?;
                Ok(told.map(|told| told.message(1)?.text(1)).transpose()?.is_some_and(|id| !id.is_empty()))
            })?;
        }
        Ok(())
    }

    fn ask(&self, method: &str, message: &Message) -> Result<Option<Fields>, Stop> {
        call(&self.socket, &format!("/runtime.v1.RuntimeService/{method}"), message)
    }

    /// A call that must succeed.
    fn runtime(&self, method: &str, message: &Message) -> Result<Fields, Stop> {
        self.ask(method, message)?.ok_or_else(|| Stop::failed(format!("{method}: {}", self.last_words())))
    }

    /// A call that must not: why, in containerd's words.
    fn refused(&self, method: &str, message: &Message) -> Result<String, Stop> {
        ensure!(self.ask(method, message)?.is_none(), "{method} succeeded");
        Ok(self.last_words())
    }

    fn last_words(&self) -> String {
        self.engine.daemon.borrow().as_ref().map(|daemon| daemon.last_words()).unwrap_or_default()
    }

    fn logs(&self) -> PathBuf {
        self.engine.dir.join("logs")
    }

    /// PodSandboxConfig: names, logs, and the host's network, with which containerd leaves the host's name too.
    fn config(&self) -> Message {
        let names = Message::default().text(1, "pod").text(2, "uid").text(3, "default");
        let host_network = Message::default().number(1, NODE);
        let linux = Message::default().text(1, &self.parent).message(2, &Message::default().message(1, &host_network));
        let logs = self.logs();
        Message::default().message(1, &names).text(3, &logs.to_string_lossy()).message(8, &linux)
    }

    fn pod(&self) -> Result<String, Stop> {
        self.pod_of(HANDLER)
    }

    fn pod_of(&self, handler: &str) -> Result<String, Stop> {
        self.runtime("RunPodSandbox", &Message::default().message(1, &self.config()).text(2, handler))?.text(1)
    }

    /// A container of the pod with a limit of 64 MiB, created.
    fn container(&self, pod: &str, command: &[&str]) -> Result<String, Stop> {
        let limits = Message::default().number(1, 100_000).number(2, 50_000).number(4, 67_108_864);
        let host_network = Message::default().number(1, NODE);
        let security = Message::default().message(3, &host_network);
        let mut config = Message::default()
            .message(1, &Message::default().text(1, "c"))
            .message(2, &Message::default().text(1, NAME));
        for word in command {
            config = config.text(3, word);
        }
        let linux = Message::default().message(1, &limits).message(2, &security);
        let config = config.text(11, "c.log").message(15, &linux);
        let asked = Message::default().text(1, pod).message(2, &config).message(3, &self.config());
        self.runtime("CreateContainer", &asked)?.text(1)
    }

    fn exec(&self, id: &str, command: &[&str]) -> Result<Fields, Stop> {
        let asked = command.iter().fold(container(id), |asked, word| asked.text(2, word));
        self.runtime("ExecSync", &asked.number(3, 60))
    }

    fn try_status(&self, id: &str) -> Result<Option<Fields>, Stop> {
        self.ask("ContainerStatus", &container(id))?.map(|told| told.message(1)).transpose()
    }

    fn status(&self, id: &str) -> Result<Fields, Stop> {
        self.try_status(id)?.ok_or_else(|| Stop::failed(format!("ContainerStatus: {}", self.last_words())))
    }

    /// Stops and removes the pod, with what is left in it; nothing may be left of either.
    fn end(self, pod: &str) -> Outcome {
        self.remove(pod)?;
        self.engine.stop()
    }

    fn remove(&self, pod: &str) -> Outcome {
        let asked = Message::default().text(1, pod);
        self.runtime("StopPodSandbox", &asked)?;
        self.runtime("RemovePodSandbox", &asked).map(drop)
    }
}

/// The first field of nearly every request about a container.
fn container(id: &str) -> Message {
    Message::default().text(1, id)
}

fn namespaces(pid: i32) -> Result<String, Stop> {
    let of = |name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}"));
    let links: Result<Vec<_>, _> = ["net", "ipc", "uts"].map(of).into_iter().collect();
    Ok(links?.iter().map(|link| format!("{}\n", link.display())).collect())
}
