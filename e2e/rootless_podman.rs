//! The real Podman of an ordinary user, with a systemd of his own: the same commands with wharf and with crun.

use harness::{Feature, Host, Outcome, Stop, ensure, ensure_eq, limit};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const USER: &str = "wharf-e2e";

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

pub(crate) fn trials() -> Feature {
    Feature::new("rootless_podman").trial("containers with limits, and every verb on them, are as with crun", |host| {
        host.only_wharf("it has crun beside it")?;
        if !Path::new("/run/systemd/system").exists() {
            return Err(Stop::skipped("systemd does not run here"));
        }
        for program in ["podman", "crun", "loginctl", "newuidmap", "busybox"] {
            needs(program)?;
        }
        let user = User::new()?;
        let image = user.image(host)?;
        let wharf = format!("/home/{USER}/wharf");
        std::fs::copy(host.runtime.program(), &wharf)?;
        std::fs::set_permissions(&wharf, std::fs::Permissions::from_mode(0o755))?;
        let crun = found("crun").ok_or_else(|| Stop::skipped("crun is not installed"))?;
        let [theirs, ours] = [crun.as_str(), wharf.as_str()].map(|runtime| user.run(runtime, &image));
        let (theirs, ours) = (theirs?, ours?);
        ensure!(theirs.contains("run 5") && theirs.contains("67108864"), "with crun: {theirs}");
        ensure_eq!(ours, theirs);
        user.leave()
    })
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

    fn run(&self, runtime: &str, image: &str) -> Result<String, Stop> {
        self.shell(&format!("runtime={runtime} image={image}\n{SCRIPT}"))
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
