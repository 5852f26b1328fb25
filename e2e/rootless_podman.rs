//! An ordinary user with a systemd of his own: Podman's commands with wharf and with crun, Quadlet, controllers.

use harness::{Feature, Host, Outcome, Stop, Value, ensure, ensure_eq, json, limit};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const USER: &str = "wharf-e2e";
/// As /etc/systemd/system, for this boot.
const ADVICE: &str = "/run/systemd/system/user@.service.d";

/// Words and exit code of each step, without what differs from container to container.
const SCRIPT: &str = r#"
cd
export XDG_RUNTIME_DIR=/run/user/$(id -u) DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$(id -u)/bus
podman() { command podman --log-level error --runtime "$runtime" "$@" 2>&1; }
limits='cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max'
podman run --rm --network none --memory 64m --pids-limit 50 "$image" sh -c "id -u; $limits; exit 5"; echo "run $?"
podman run --rm --network none --user 1000 "$image" sh -c 'id -u; echo x > /dev/null'; echo "run as another $?"
podman run -d --network none --name c "$image" sleep 1000 >/dev/null; echo "run -d $?"
podman exec c sh -c 'echo hello; exit 3'; echo "exec $?"
podman update --memory 48m c >/dev/null; echo "update $?"
podman exec c cat /sys/fs/cgroup/memory.max
podman pause c; echo "pause $?"
podman unpause c; echo "unpause $?"
podman stop -t 0 c; echo "stop $?"
podman start c; echo "start $?"
podman top c hpid >/dev/null; echo "top $?"
podman rm -f -t 0 c; echo "rm $?"
podman run --rm --network none "$image" missing >/dev/null; echo "missing $?"
systemctl --user --failed --no-legend --plain
"#;

/// A service of the user's, restarted again and again: its state before and after the payload says that it is ready,
/// and its limits.
const QUADLET: &str = r#"
cd
export XDG_RUNTIME_DIR=/run/user/$(id -u) DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$(id -u)/bus
until_is() { for i in $(seq 600); do test "$(eval "$1" 2>/dev/null)" = "$2" && return; sleep 0.2; done; echo "$1 is not $2"; }
state() { systemctl --user show --value --property "$1" tried.service; }
mkdir -p .config/containers/systemd v
cat >v/script <<'END'
echo begun >>/v/begun
until test -e /v/go; do sleep 0.1; done
/payload notify READY=1
exec /payload wait-signal
END
cat >.config/containers/systemd/tried.container <<END
[Container]
Image=$image
ContainerName=q
Network=none
GlobalArgs=--runtime=$runtime
Notify=yes
Volume=%h/v:/v
Volume=%h/payload:/payload:ro
Exec=sh /v/script
[Service]
MemoryMax=96M
TasksMax=64
TimeoutStartSec=infinity
END
systemctl --user daemon-reload
for turn in 1 2 3; do
    rm -f v/go
    systemctl --user restart --no-block tried.service
    until_is 'wc -l <v/begun' $turn
    before=$(state ActiveState)
    touch v/go
    until_is 'state ActiveState' active
    echo "$before, $(state ActiveState), restarted by itself $(state NRestarts) times"
done
cgroup=/sys/fs/cgroup$(state ControlGroup)
echo "$(cat $cgroup/memory.max) $(cat $cgroup/pids.max), containers: $(ls -d $cgroup/libpod-payload-* | wc -l)"
podman --runtime $runtime exec q cat /proc/self/cgroup
systemctl --user stop tried.service
echo "$(state ActiveState) $(state Result)"
test -e $cgroup && echo "$cgroup is left"
$runtime list --quiet
podman ps --all --quiet
systemctl --user --failed --no-legend --plain
"#;

const SEEN: &str = "\
activating, active, restarted by itself 0 times
activating, active, restarted by itself 0 times
activating, active, restarted by itself 0 times
100663296 64, containers: 1
0::/
inactive success
";

pub(crate) fn trials() -> Feature {
    Feature::new("rootless_podman")
        .trial("containers with limits, and every verb on them, are as with crun", |host| {
            needs_all(host, &["podman", "crun", "loginctl", "newuidmap", "busybox"])?;
            let user = User::new()?;
            let image = user.image(host)?;
            let wharf = user.program(host)?;
            let crun = found("crun").ok_or_else(|| Stop::skipped("crun is not installed"))?;
            let [theirs, ours] = [crun.as_str(), wharf.as_str()].map(|runtime| user.run(runtime, &image, SCRIPT));
            let (theirs, ours) = (theirs?, ours?);
            ensure!(theirs.contains("run 5") && theirs.contains("67108864"), "with crun: {theirs}");
            ensure_eq!(ours, theirs);
            user.leave()
        })
        .trial(
            "a service of Quadlet in the user's systemd: ready when the payload says so, limited, restarted",
            |host| {
                needs_all(host, &["podman", "loginctl", "newuidmap", "busybox"])?;
                let user = User::new()?;
                let image = user.image(host)?;
                let wharf = user.program(host)?;
                ensure_eq!(user.run(&wharf, &image, QUADLET)?, SEEN);
                user.leave()
            },
        )
        .trial("a controller that the user's systemd was not given is told with what to do, and that helps", controller)
}

fn needs_all(host: &Host, programs: &[&str]) -> Outcome {
    host.only_wharf("it has crun beside it, or advises")?;
    if !Path::new("/run/systemd/system").exists() {
        return Err(Stop::skipped("systemd does not run here"));
    }
    programs.iter().try_for_each(|program| needs(program))
}

/// `run` in a scope of the user's, with a limit of cpuset: refused, and then, as it advises, not.
fn controller(host: &Host) -> Outcome {
    needs_all(host, &["loginctl"])?;
    host.needs_v2("cpuset")?;
    let user = User::new()?;
    user.program(host)?;
    let bus = "export XDG_RUNTIME_DIR=/run/user/$(id -u) DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$(id -u)/bus";
    user.shell("cd; mkdir -p b/rootfs/bin b/rootfs/proc b/rootfs/dev b/rootfs/sys; cp payload b/rootfs/bin; ./wharf spec --rootless --bundle b")?;
    let config = format!("/home/{USER}/b/config.json");
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    (spec["process"]["terminal"], spec["process"]["args"]) = (json!(false), json!(["/bin/payload", "report"]));
    spec["linux"]["resources"] = json!({ "cpu": { "cpus": "0" }, "devices": [{ "allow": false, "access": "rwm" }] });
    std::fs::write(&config, spec.to_string())?;
    let run = format!("{bus}; cd; ./wharf --log log --log-level warn --systemd-cgroup run --bundle b c 2>&1; echo $?");
    let refused = user.shell(&run)?;
    let conf = "Delegate=cpu cpuset io memory pids in /etc/systemd/system/user@.service.d/delegate.conf";
    for words in ["enable controller cpuset below cgroup /", conf, "[linux/resources/cpu/cpus]", "\n125\n"] {
        ensure!(refused.contains(words), "no {words:?}: {refused}");
    }
    let id = done(Command::new("id").args(["-u", USER]))?;
    let _advice = Advice::take(&format!("user@{}.service", id.trim()))?;
    let ran = user.shell(&run)?;
    ensure!(ran.contains("\"affinity\":\"0\"") && ran.ends_with("\n0\n"), "{ran}");
    // What no advice can give is told.
    let log = std::fs::read_to_string(format!("/home/{USER}/log"))?;
    ensure!(log.contains("an ordinary user can set no device rules"), "{log}");
    user.leave()
}

/// What the message says, until the next boot at most.
struct Advice;

impl Advice {
    fn take(manager: &str) -> Result<Self, Stop> {
        let advice = Advice;
        std::fs::create_dir_all(ADVICE)?;
        std::fs::write(format!("{ADVICE}/delegate.conf"), "[Service]\nDelegate=cpu cpuset io memory pids\n")?;
        done(Command::new("systemctl").arg("daemon-reload"))?;
        done(Command::new("systemctl").args(["restart", manager]))?;
        Ok(advice)
    }
}

impl Drop for Advice {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(ADVICE);
        let _ = Command::new("systemctl").arg("daemon-reload").output();
    }
}

fn found(program: &str) -> Option<String> {
    let places = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    places.iter().map(|place| format!("{place}/{program}")).find(|path| Path::new(path).exists())
}

fn needs(program: &str) -> Outcome {
    found(program).map(drop).ok_or_else(|| Stop::skipped(format!("{program} is not installed")))
}

fn done(command: &mut Command) -> Result<String, Stop> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(said),
        false => Err(Stop::failed(format!("{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr)))),
    }
}

/// A user of the machine, with a manager that needs no login.
struct User;

impl User {
    fn new() -> Result<Self, Stop> {
        done(Command::new("useradd").args(["--create-home", USER]))?;
        let user = User;
        done(Command::new("loginctl").args(["enable-linger", USER]))?;
        let id = done(Command::new("id").args(["-u", USER]))?;
        let manager = format!("user@{}.service", id.trim());
        let begun = Instant::now();
        while done(Command::new("systemctl").args(["is-active", &manager])).is_err() {
            ensure!(begun.elapsed() < limit(30), "{manager} is not active");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Ok(user)
    }

    fn shell(&self, script: &str) -> Result<String, Stop> {
        // The user's directories are mounted where systemd is, not where the trials are.
        let mut command = Command::new("nsenter");
        command.args(["--target", "1", "--mount", "su", USER, "-s", "/bin/bash", "-c", script]);
        done(command.current_dir("/"))
    }

    /// An image with a busybox.
    fn image(&self, host: &Host) -> Result<String, Stop> {
        let root = host.new_dir("image")?;
        let busybox = found("busybox").ok_or_else(|| Stop::skipped("busybox is not installed"))?;
        std::fs::create_dir(root.join("bin"))?;
        std::fs::copy(busybox, root.join("bin/busybox"))?;
        for name in ["sh", "id", "cat", "echo", "sleep"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name))?;
        }
        let tar = host.new_dir("tar")?.join("image.tar");
        done(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."))?;
        std::fs::copy(&tar, format!("/home/{USER}/image.tar"))?;
        std::fs::set_permissions(format!("/home/{USER}/image.tar"), std::fs::Permissions::from_mode(0o644))?;
        self.shell("cd; export XDG_RUNTIME_DIR=/run/user/$(id -u); podman import -q image.tar tried >/dev/null 2>&1")?;
        Ok("localhost/tried".to_owned())
    }

    /// Copies of the runtime and of the payload, in his home: where the runtime is.
    fn program(&self, host: &Host) -> Result<String, Stop> {
        for (from, name) in [(host.payload(), "payload"), (host.runtime.program(), "wharf")] {
            let to = format!("/home/{USER}/{name}");
            std::fs::copy(from, &to)?;
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(format!("/home/{USER}/wharf"))
    }

    fn run(&self, runtime: &str, image: &str, script: &str) -> Result<String, Stop> {
        self.shell(&format!("runtime={runtime} image={image}\n{script}"))
    }

    fn leave(self) -> Outcome {
        done(Command::new("loginctl").args(["disable-linger", USER]))?;
        done(Command::new("loginctl").args(["terminate-user", USER]))?;
        let begun = Instant::now();
        while done(Command::new("userdel").args(["--remove", USER])).is_err() {
            ensure!(begun.elapsed() < limit(30), "{USER} stays");
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        Ok(())
    }
}

impl Drop for User {
    /// What is left of a trial that failed.
    fn drop(&mut self) {
        for words in [&["loginctl", "terminate-user", USER][..], &["userdel", "--force", "--remove", USER]] {
            let _ = Command::new(words[0]).args(&words[1..]).output();
        }
    }
}
