//! NOTIFY_SOCKET: the payload's sd_notify(3) reaches the caller's service manager, and nothing that it did not say does.

use harness::{Container, Feature, Host, Stop, ensure, ensure_eq, json};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const PEERS: &str = "says READY alone, or MAINPID in a message of its own";

pub(crate) fn trials() -> Feature {
    Feature::new("notify_socket")
        .trial("start waits until the payload says that it is ready, and tells its pid on the host", |host| {
            let manager = Manager::new(host)?;
            let bundle = host.bundle()?.payload(&["wait-file", "/tmp/go", ";", "notify", "READY=1", ";", "sleep"]);
            let container = manager.create(&bundle)?;
            let starting = host.runtime.spawn_command(manager.command(&["start", bundle.id()]))?;
            container.wait_for_status("running")?;
            ensure!(manager.heard(300)?.is_empty(), "something was said before the payload did");
            std::fs::write(bundle.rootfs().join("tmp/go"), "")?;
            let said = manager.until(|said| said.contains("MAINPID="))?;
            ensure!(said.lines().any(|line| line == "READY=1"), "{said:?}");
            ensure!(said.lines().any(|line| line == format!("MAINPID={}", container.pid().unwrap_or(0))), "{said:?}");
            let finished = starting.finish()?;
            ensure_eq!(finished.code(), Some(0));
            ensure_eq!(container.status()?, "running");
            container.delete_force()
        })
        .trial("run --detach waits too, and leaves nobody behind", |host| {
            let manager = Manager::new(host)?;
            let bundle = host.bundle()?.payload(&["notify", "READY=1\nSTATUS=sailing", ";", "sleep"]);
            bundle.save()?;
            let run = ["run", "--detach", "--bundle", bundle.dir_text(), bundle.id()];
            let finished = host.runtime.spawn_command(manager.command(&run))?.finish()?;
            ensure_eq!(finished.code(), Some(0), "{finished}");
            let state: harness::Value = serde_json(&host.runtime.must(&["state", bundle.id()])?)?;
            let said = manager.until(|said| said.contains("MAINPID="))?;
            ensure!(said.contains(&format!("MAINPID={}", state["pid"])), "{said:?} and {state}");
            host.runtime.must(&["delete", "--force", bundle.id()])?;
            Ok(())
        })
        .trial("run in the foreground passes on what is said as long as the payload lives", |host| {
            host.only_wharf("others pass READY on alone")?;
            let manager = Manager::new(host)?;
            let payload = ["notify", "READY=1", ";", "notify", "STATUS=later", ";", "exit", "7"];
            let bundle = host.bundle()?.payload(&payload);
            bundle.save()?;
            let running =
                host.runtime.spawn_command(manager.command(&["run", "--bundle", bundle.dir_text(), bundle.id()]))?;
            let ours = running.pid();
            let said = manager.until(|said| said.contains("STATUS=later"))?;
            // The caller's own child is what it can wait for, signal and get the exit code of.
            ensure_eq!(said, format!("READY=1\nMAINPID={ours}\nSTATUS=later\n"));
            ensure_eq!(running.finish()?.code(), Some(7));
            Ok(())
        })
        .trial("signals reach the payload while its words are waited for", |host| {
            host.except("runc", "waits for ever")?;
            let manager = Manager::new(host)?;
            let bundle = host.bundle()?.payload(&["wait-signal"]);
            bundle.save()?;
            let running =
                host.runtime.spawn_command(manager.command(&["run", "--bundle", bundle.dir_text(), bundle.id()]))?;
            for _ in 0..2000 {
                if running.stdout_so_far().contains("ready") {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(running.pid()), nix::sys::signal::Signal::SIGUSR1)?;
            let finished = running.finish()?;
            ensure!(finished.stdout.contains("SIGUSR1"), "{finished}");
            Ok(())
        })
        .trial("a pid of the container, descriptors and who may speak are not the payload's to tell", |host| {
            host.only_wharf(PEERS)?;
            let manager = Manager::new(host)?;
            let words = "MAINPID=1\nNOTIFYACCESS=all\nFDSTORE=1\nERRNO=2\nREADY=1";
            let bundle = host.bundle()?.payload(&["notify", "MAINPID=1", ";", "notify", words, ";", "sleep"]);
            let container = manager.create(&bundle)?;
            host.runtime.spawn_command(manager.command(&["start", bundle.id()]))?.finish()?;
            let said = manager.until(|said| said.contains("READY=1"))?;
            ensure_eq!(said, format!("ERRNO=2\nREADY=1\nMAINPID={}\n", container.pid()?));
            container.delete_force()
        })
        .trial("a payload that ends without a word ends the wait, and READY was never said", |host| {
            host.except("runc", "waits for ever")?;
            let manager = Manager::new(host)?;
            let bundle = host.bundle()?.payload(&["nothing"]);
            let container = manager.create(&bundle)?;
            let finished = host.runtime.spawn_command(manager.command(&["start", bundle.id()]))?.finish()?;
            ensure_eq!(finished.code(), Some(0), "{finished}");
            container.wait_for_status("stopped")?;
            ensure!(!manager.heard(200)?.contains("READY"), "READY was said");
            container.delete()
        })
        .trial("the last words of a payload that ends at once arrive", |host| {
            host.only_wharf("others may lose them")?;
            for verbs in [&["run"][..], &["run", "--detach"]] {
                let manager = Manager::new(host)?;
                let bundle = host.bundle()?.payload(&["notify", "READY=1", ";", "notify", "STOPPING=1"]);
                bundle.save()?;
                let call = [verbs, &["--bundle", bundle.dir_text(), bundle.id()]].concat();
                ensure_eq!(host.runtime.spawn_command(manager.command(&call))?.finish()?.code(), Some(0));
                manager.until(|said| said.contains("READY=1"))?;
                let _ = host.runtime.call(&["delete", "--force", bundle.id()])?;
            }
            Ok(())
        })
        .trial("delete and state do not wait for a start that waits", |host| {
            host.except("runc", "waits for ever")?;
            let manager = Manager::new(host)?;
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = manager.create(&bundle)?;
            let starting = host.runtime.spawn_command(manager.command(&["start", bundle.id()]))?;
            container.wait_for_status("running")?;
            container.delete_force()?;
            ensure_eq!(starting.finish()?.code(), Some(0));
            Ok(())
        })
        .trial("the payload finds the socket by its environment, whoever it is", |host| {
            let manager = Manager::new(host)?;
            let bundle = host
                .bundle()?
                .set("/process/user", json!({"uid": 1000, "gid": 1000}))
                .payload(&["report", ";", "notify", "READY=1"]);
            bundle.save()?;
            let run = manager.command(&["run", "--bundle", bundle.dir_text(), bundle.id()]);
            let finished = host.runtime.spawn_command(run)?.finish()?;
            ensure_eq!(finished.code(), Some(0), "{finished}");
            ensure!(finished.stdout.contains("NOTIFY_SOCKET=/run/notify/notify.sock"), "{finished}");
            manager.until(|said| said.contains("READY=1")).map(drop)
        })
        .trial("in a user namespace it is reached too", |host| {
            host.except("runc", "its socket's directory is not reached there")?;
            let manager = Manager::new(host)?;
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            let bundle = host
                .bundle()?
                .namespace("user", None)
                .set("/linux/uidMappings", map.clone())
                .set("/linux/gidMappings", map)
                .payload(&["notify", "READY=1", ";", "read", "/proc/self/mountinfo"]);
            for entry in ["", "tmp", "dev", "proc", "sys"] {
                std::os::unix::fs::chown(bundle.rootfs().join(entry), Some(100_000), Some(100_000))?;
            }
            bundle.save()?;
            let run = manager.command(&["run", "--bundle", bundle.dir_text(), bundle.id()]);
            let finished = host.runtime.spawn_command(run)?.finish()?;
            ensure_eq!(finished.code(), Some(0), "{finished}");
            let mounted = finished.stdout.contains("/run/notify ro,nosuid,nodev,noexec");
            ensure!(mounted || host.runtime.name() != "wharf", "{finished}");
            manager.until(|said| said.contains("READY=1")).map(drop)
        })
        .trial("an abstract name is reached", |host| {
            let name = host.unique("notify");
            let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
            let manager = Manager::of(host, socket, format!("@{name}"))?;
            let bundle = host.bundle()?.payload(&["notify", "READY=1"]);
            bundle.save()?;
            let run = manager.command(&["run", "--bundle", bundle.dir_text(), bundle.id()]);
            ensure_eq!(host.runtime.spawn_command(run)?.finish()?.code(), Some(0));
            manager.until(|said| said.contains("READY=1")).map(drop)
        })
        .trial("where the config sets NOTIFY_SOCKET itself, nothing is added and nobody waits", |host| {
            host.only_wharf("others mount theirs over it")?;
            let manager = Manager::new(host)?;
            let bundle = host
                .bundle()?
                .push("/process/env", json!("NOTIFY_SOCKET=/own/socket"))
                .payload(&["report", ";", "list", "/run", ";", "sleep"]);
            let container = manager.create(&bundle)?;
            host.runtime.spawn_command(manager.command(&["start", bundle.id()]))?.finish()?;
            let lines = container.lines(2)?;
            ensure!(!container.printed().contains("notify.sock"), "{}", container.printed());
            ensure_eq!(lines[1]["errno"], "ENOENT", "{}", container.printed());
            container.delete_force()
        })
        .trial("without NOTIFY_SOCKET there is no mount, no variable and no directory", |host| {
            let bundle = host.bundle()?.payload(&["report", ";", "list", "/run", ";", "sleep"]);
            let container = host.start(&bundle)?;
            let lines = container.lines(2)?;
            ensure!(!container.printed().contains("NOTIFY_SOCKET"), "{}", container.printed());
            ensure_eq!(lines[1]["errno"], "ENOENT");
            ensure!(!host.root().join(bundle.id()).join("notify").exists(), "the state directory has one");
            container.delete_force()
        })
        .trial("a NOTIFY_SOCKET that nobody listens on fails the run, and leaves nothing", |host| {
            host.only_wharf("others run the payload and tell nobody")?;
            for (socket, why) in [("/not/there", "no such file"), ("vsock:2:1", "neither a path")] {
                let bundle = host.bundle()?.payload(&["sleep"]);
                bundle.save()?;
                let mut run = host.runtime.command();
                run.env("NOTIFY_SOCKET", socket).args(["run", "--bundle", bundle.dir_text(), bundle.id()]);
                let said = host.runtime.spawn_command(run)?.finish()?;
                ensure!(said.code() == Some(125) && said.stderr.contains(socket), "{said}");
                ensure!(said.stderr.to_lowercase().contains(why), "{said}");
            }
            Ok(())
        })
}

fn serde_json(text: &str) -> Result<harness::Value, Stop> {
    text.parse().map_err(|error| Stop::failed(format!("{error}: {text:?}")))
}

/// A service manager that listens.
pub(crate) struct Manager<'h> {
    host: &'h Host,
    /// As `NOTIFY_SOCKET` has it.
    pub(crate) name: String,
    said: Arc<Mutex<String>>,
    over: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl<'h> Manager<'h> {
    pub(crate) fn new(host: &'h Host) -> Result<Self, Stop> {
        let path = host.dir().join(host.unique("manager"));
        let socket = UnixDatagram::bind(&path)?;
        Self::of(host, socket, path.to_string_lossy().into_owned())
    }

    fn of(host: &'h Host, socket: UnixDatagram, name: String) -> Result<Self, Stop> {
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let (said, over) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicBool::new(false)));
        let (heard, ended) = (said.clone(), over.clone());
        let listening = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !ended.load(Ordering::Relaxed) {
                // A descriptor that comes with a barrier is dropped by this, which is the answer to it.
                let Ok(length) = socket.recv(&mut buffer) else { continue };
                let words = String::from_utf8_lossy(&buffer[..length]);
                if words != "BARRIER=1"
                    && let Ok(mut heard) = heard.lock()
                {
                    heard.push_str(&words);
                }
            }
        });
        Ok(Manager { host, name, said, over, listening: Some(listening) })
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.runtime.command();
        command.env("NOTIFY_SOCKET", &self.name).args(words);
        command
    }

    fn create(&self, bundle: &harness::Bundle) -> Result<Container<'h>, Stop> {
        Container::create_by(self.host, bundle, |args| self.command(args))
    }

    /// What has been said until then.
    pub(crate) fn heard(&self, milliseconds: u64) -> Result<String, Stop> {
        std::thread::sleep(Duration::from_millis(milliseconds));
        self.said.lock().map(|said| said.clone()).map_err(|_| Stop::failed("the listener panicked"))
    }

    pub(crate) fn until(&self, enough: impl Fn(&str) -> bool) -> Result<String, Stop> {
        for _ in 0..3000 {
            let all = self.heard(5)?;
            if enough(&all) {
                return Ok(all);
            }
        }
        Err(Stop::failed(format!("the service manager heard {:?}", self.heard(0)?)))
    }
}

impl Drop for Manager<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.listening.take().map(JoinHandle::join);
    }
}
