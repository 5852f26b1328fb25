//! linux.seccomp with SCMP_ACT_NOTIFY: an agent gets the listener with the container's state, and answers for the calls.

use harness::{Bundle, Feature, Host, Outcome, Receiver, Stop, Value, ensure, ensure_eq, json};
use nix::libc;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use wharf_sys::notification::{answer_notification, next_notification};
use wharf_sys::process::readable;

const ASK: &str = "0xffffffff";
/// What the agent says to personality(2).
const ANSWER: i64 = 4242;
const RUNC: &str = "wants the agent at create, and fewer calls told";

pub(crate) fn trials() -> Feature {
    Feature::new("seccomp_notify")
        .trial("the agent gets the listener and the container process state, and its answers count", |host| {
            host.except("runc", RUNC)?;
            let agent = Agent::listen(host)?;
            let bundle = bundle(host, &agent.path, &["personality"])?
                .set("/linux/seccomp/listenerMetadata", json!("who = \"me\""))
                .set("/annotations", json!({"org.example.ship": "frigate"}))
                .payload(&["syscall", "personality", ASK, ";", "syscall", "getppid", ";", "sleep"]);
            let container = host.create(&bundle)?;
            let pid = container.pid()?;
            let serving = agent.serve()?;
            container.start()?;
            ensure_eq!(container.lines(2)?[0]["result"], ANSWER);
            let state = serving.state()?;
            ensure_eq!(state["fds"], json!(["seccompFd"]));
            ensure_eq!((&state["pid"], &state["state"]["pid"]), (&json!(pid), &json!(pid)));
            ensure_eq!(state["metadata"], "who = \"me\"");
            ensure!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{state}");
            let inner = &state["state"];
            ensure_eq!((&inner["id"], &inner["status"]), (&json!(bundle.id()), &json!("created")));
            ensure_eq!(inner["bundle"], bundle.dir_text());
            ensure_eq!(inner["annotations"]["org.example.ship"], "frigate");
            container.delete_force()
        })
        .trial("run serves it too", |host| {
            host.except("runc", RUNC)?;
            let agent = Agent::listen(host)?;
            let bundle = bundle(host, &agent.path, &["personality"])?.payload(&["syscall", "personality", ASK]);
            let serving = agent.serve()?;
            ensure_eq!(host.run_well(&bundle)?.lines()?[0]["result"], ANSWER);
            ensure_eq!(serving.state()?["state"]["id"], bundle.id());
            Ok(())
        })
        .trial("every call of the payload may be told, also the exec, and those that send the listener", |host| {
            host.except("runc", RUNC)?;
            for (no_new_privileges, first) in [(true, libc::SYS_execve), (false, libc::SYS_prctl)] {
                let agent = Agent::listen(host)?;
                let bundle = host
                    .bundle()?
                    .set("/process/noNewPrivileges", json!(no_new_privileges))
                    .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": agent.path}))
                    .payload(&["syscall", "personality", ASK]);
                let serving = agent.serve()?;
                ensure_eq!(host.run_well(&bundle)?.lines()?[0]["result"], ANSWER);
                let calls = serving.calls()?;
                ensure_eq!(calls.first().map(|call| i64::from(*call)), Some(first), "no_new_privs {no_new_privileges}");
            }
            Ok(())
        })
        .trial("exec gives the agent the listener of its own filter", |host| {
            host.except("runc", RUNC)?;
            let path = host.dir().join("agent.sock");
            let agent = Agent::at(path.clone())?;
            let bundle = bundle(host, &path, &["personality", "execve"])?.payload(&["sleep"]);
            let first = agent.serve()?;
            let container = host.start(&bundle)?;
            let pid = container.pid()?;
            std::fs::remove_file(&path)?;
            let alone = container.exec(&[], &["/bin/payload", "nothing"])?.finished;
            refused(&alone, &path)?;
            let second = Agent::at(path)?.serve()?;
            let [answered] = container.exec_lines(&[], &["syscall", "personality", ASK])?;
            ensure_eq!(answered["result"], ANSWER);
            let state = second.state()?;
            ensure_eq!((&state["state"]["status"], &state["state"]["pid"]), (&json!("running"), &json!(pid)));
            ensure!(state["pid"].as_i64().is_some_and(|own| own > 0 && own != i64::from(pid)), "{state}");
            container.delete_force()?;
            drop(first);
            Ok(())
        })
        .trial("a filter that waits killable is loaded", |host| {
            host.except("runc", RUNC)?;
            let agent = Agent::listen(host)?;
            let bundle = bundle(host, &agent.path, &["personality"])?
                .set("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]))
                .payload(&["syscall", "personality", ASK]);
            let _serving = agent.serve()?;
            ensure_eq!(host.run_well(&bundle)?.lines()?[0]["result"], ANSWER);
            Ok(())
        })
        .trial("in a user namespace, as another user, it is the same", |host| {
            host.except("runc", RUNC)?;
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            let agent = Agent::listen(host)?;
            let bundle = bundle(host, &agent.path, &["personality"])?
                .namespace("user", None)
                .set("/linux/uidMappings", map.clone())
                .set("/linux/gidMappings", map)
                .set("/process/user", json!({"uid": 1000, "gid": 1000}))
                .payload(&["syscall", "personality", ASK]);
            for entry in ["", "tmp", "dev", "proc", "sys"] {
                std::os::unix::fs::chown(bundle.rootfs().join(entry), Some(100_000), Some(100_000))?;
            }
            let _serving = agent.serve()?;
            ensure_eq!(host.run_well(&bundle)?.lines()?[0]["result"], ANSWER);
            Ok(())
        })
        .trial("the payload does not have the listener", |host| {
            host.except("runc", RUNC)?;
            let agent = Agent::listen(host)?;
            let bundle = bundle(host, &agent.path, &["personality"])?.payload(&["report"]);
            let _serving = agent.serve()?;
            let report = host.report(&bundle)?;
            let open: Vec<_> = report["fds"].as_object().into_iter().flatten().map(|(fd, _)| fd.as_str()).collect();
            ensure_eq!(open, ["0", "1", "2"]);
            Ok(())
        })
        .trial("without an agent nothing starts, and what was created can be started when there is one", |host| {
            host.except("runc", RUNC)?;
            let path = host.dir().join("agent.sock");
            let bundle = bundle(host, &path, &["personality"])?.payload(&["syscall", "personality", ASK, ";", "sleep"]);
            let ran = host.run(&bundle)?.finished;
            refused(&ran, &path)?;
            ensure!(host.runtime.call(&["state", bundle.id()])?.code() != Some(0), "the container is left");
            let container = host.create(&bundle)?;
            refused(&container.call("start", &[])?, &path)?;
            ensure_eq!(container.status()?, "created");
            let agent = Agent::at(path)?;
            let _serving = agent.serve()?;
            container.start()?;
            ensure_eq!(container.lines(1)?[0]["result"], ANSWER);
            container.delete_force()
        })
        .trial("a command that cannot be executed is told as ever", |host| {
            host.except("runc", RUNC)?;
            let agent = Agent::listen(host)?;
            let bundle = bundle(host, &agent.path, &["personality"])?
                .file("/bin/broken", "#!/not/there\n")?
                .args(&["/bin/broken"]);
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(bundle.rootfs().join("bin/broken"), PermissionsExt::from_mode(0o755))?;
            let _serving = agent.serve()?;
            let ran = host.run(&bundle)?.finished;
            ensure!(ran.code() == Some(127) && ran.stderr.contains("/not/there"), "{ran}");
            Ok(())
        })
        .trial("crun's annotation names the agent of a profile that names none", |host| {
            host.except("runc", RUNC)?;
            let agent = Agent::listen(host)?;
            let bundle = bundle(host, &agent.path, &["personality"])?
                .remove("/linux/seccomp/listenerPath")
                .edit(|config| config["annotations"] = json!({"run.oci.seccomp.receiver": agent.path}))
                .payload(&["syscall", "personality", ASK]);
            let _serving = agent.serve()?;
            ensure_eq!(host.run_well(&bundle)?.lines()?[0]["result"], ANSWER);
            Ok(())
        })
        .trial("what makes no sense of it is refused", |host| {
            host.only_wharf("takes it, or tells it late")?;
            let rule = json!([{"names": ["personality"], "action": "SCMP_ACT_NOTIFY"}]);
            let cases = [
                (json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule}), "listenerPath is missing"),
                (
                    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule, "listenerPath": "agent.sock"}),
                    "must be absolute",
                ),
                (json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}), "without listenerPath"),
                (
                    json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}),
                    "it is for SCMP_ACT_NOTIFY",
                ),
            ];
            for (profile, words) in cases {
                let said = host.create_fails(&host.bundle()?.set("/linux/seccomp", profile))?;
                ensure!(said.stderr.contains(words), "{said}");
            }
            Ok(())
        })
        .trial("a listenerPath that nothing notifies is not used", |host| {
            let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/not/there",
                "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO"}]});
            host.run_well(&host.bundle()?.set("/linux/seccomp", profile)).map(drop)
        })
}

fn refused(finished: &harness::Finished, path: &Path) -> Outcome {
    let path = path.to_string_lossy();
    ensure!(finished.code() != Some(0) && finished.stderr.contains(path.as_ref()), "{finished}");
    ensure!(finished.stdout.is_empty(), "the payload ran: {finished}");
    Ok(())
}

/// A bundle that allows everything and notifies of the named calls.
fn bundle(host: &Host, path: &Path, names: &[&str]) -> Result<Bundle, Stop> {
    let rule = json!({"names": names, "action": "SCMP_ACT_NOTIFY"});
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "syscalls": [rule]});
    Ok(host.bundle()?.set("/linux/seccomp", profile))
}

/// An agent that answers personality(2) by itself and lets everything else go its way.
struct Agent {
    path: PathBuf,
    receiver: Receiver,
}

/// What it has been told so far.
#[derive(Default)]
struct Told {
    state: Value,
    calls: Vec<i32>,
}

struct Serving {
    told: Arc<Mutex<Told>>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    fn listen(host: &Host) -> Result<Self, Stop> {
        Self::at(host.dir().join(host.unique("agent")))
    }

    fn at(path: PathBuf) -> Result<Self, Stop> {
        Ok(Agent { receiver: Receiver::listen(&path)?, path })
    }

    /// From now on, until every process of the filter has ended.
    fn serve(self) -> Result<Serving, Stop> {
        let told = Arc::new(Mutex::new(Told::default()));
        let telling = told.clone();
        let thread = std::thread::spawn(move || {
            let Ok((received, _)) = self.receiver.receive() else { return };
            let Some(listener) = received.descriptor else { return };
            if let Ok(mut told) = telling.lock() {
                told.state = received.words.parse().unwrap_or_default();
            }
            while readable(&listener, 20_000).unwrap_or(false) {
                let Ok(call) = next_notification(&listener) else { break };
                if let Ok(mut told) = telling.lock() {
                    told.calls.push(call.number);
                }
                let own = i64::from(call.number) == libc::SYS_personality;
                let _ = answer_notification(&listener, call.id, own.then_some(Ok(ANSWER)));
            }
        });
        Ok(Serving { told, thread: Some(thread) })
    }
}

impl Serving {
    fn state(&self) -> Result<Value, Stop> {
        self.told.lock().map(|told| told.state.clone()).map_err(|_| Stop::failed("the agent panicked"))
    }

    fn calls(&self) -> Result<Vec<i32>, Stop> {
        self.told.lock().map(|told| told.calls.clone()).map_err(|_| Stop::failed("the agent panicked"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.thread.take().map(JoinHandle::join);
    }
}
