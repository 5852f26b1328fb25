//! `process.apparmorProfile`: the payload is confined, from its first instruction on.

use harness::{Feature, Host, Outcome, Stop, ensure, ensure_eq, json};
use std::path::Path;
use std::process::Command;

pub(crate) fn trials() -> Feature {
    Feature::new("apparmor")
        .trial("the payload is in its profile, which refuses what it does not allow", |host| {
            let profile = Profile::load(host, "deny /secret r,")?;
            let bundle = host
                .bundle()?
                .file("/secret", "secret")?
                .set("/process/apparmorProfile", json!(profile.name))
                .payload(&["read", "/proc/self/attr/current", ";", "read", "/secret", ";", "read", "/etc/passwd"]);
            let [current, secret, other] = host.lines(&bundle)?;
            ensure_eq!(current.text("/text").trim(), format!("{} (enforce)", profile.name));
            ensure_eq!((secret.errno(), other.errno()), ("EACCES", ""));
            Ok(())
        })
        .trial("a process of exec is in its container's profile, or in its own", |host| {
            let profile = Profile::load(host, "")?;
            let bundle = host.bundle()?.set("/process/apparmorProfile", json!(profile.name)).payload(&["sleep"]);
            let container = host.start(&bundle)?;
            let current = |options: &[&str]| -> Result<String, Stop> {
                let words = ["/bin/payload", "read", "/proc/self/attr/current"];
                let text = host.runtime.must(&[&["exec"], options, &[container.id()], &words].concat())?;
                Ok(text.parse::<harness::Value>()?["text"].as_str().unwrap_or_default().trim().to_owned())
            };
            ensure_eq!(current(&[])?, format!("{} (enforce)", profile.name));
            ensure_eq!(current(&["--apparmor", "unconfined"])?, "unconfined");
            container.delete_force()
        })
        .trial("under a profile that lets nobody out of it the payload is in both", |host| {
            let parent =
                Profile::load_without(host, "change_profile,", "change_profile -> &{profile,**},\ndeny /of-parent r,")?;
            let profile = Profile::load(host, "deny /of-profile r,")?;
            let bundle = host
                .bundle()?
                .file("/of-parent", "")?
                .file("/of-profile", "")?
                .set("/process/apparmorProfile", json!(profile.name))
                .payload(&["read", "/proc/self/attr/current", ";", "read", "/of-parent", ";", "read", "/of-profile"]);
            bundle.save()?;
            let script = "echo \"exec $0\" >/proc/self/attr/exec && exec \"$@\"";
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script, &parent.name]).arg(host.runtime.program()).arg("--root").arg(host.root());
            command.args(["run", "--bundle", bundle.dir_text(), bundle.id()]);
            let ran = host.program(command)?.finish()?;
            ensure_eq!(ran.code(), Some(0), "{ran}");
            let lines: Vec<harness::Value> = ran.stdout.lines().filter_map(|line| line.parse().ok()).collect();
            let current = lines[0]["text"].as_str().unwrap_or_default();
            for part in [&parent.name, &profile.name, "//&", "(enforce)"] {
                ensure!(current.contains(part), "{current}");
            }
            ensure_eq!((&lines[1]["errno"], &lines[2]["errno"]), (&json!("EACCES"), &json!("EACCES")), "{ran}");
            Ok(())
        })
        .trial("a profile that is not loaded is named, and not taken for a missing command", |host| {
            enabled()?;
            let bundle = host.bundle()?.set("/process/apparmorProfile", json!("no-such-profile"));
            let ran = host.run(&bundle)?;
            let said = ran.finished.last_line();
            ensure!(ran.code() == Some(125) && said.contains("no-such-profile"), "{}", ran.finished);
            ensure!(!said.to_lowercase().contains("no such file"), "{said}");
            Ok(())
        })
        .trial("a kernel without AppArmor refuses a profile by name, before anything is made", |host| {
            if enabled().is_ok() {
                return Err(Stop::skipped("this kernel has AppArmor"));
            }
            let bundle = host.bundle()?.set("/process/apparmorProfile", json!("some-profile"));
            let failed = host.create_fails(&bundle)?;
            let said = failed.last_line();
            ensure!(said.contains("some-profile") && said.contains("[process/apparmorProfile]"), "{said}");
            Ok(())
        })
}

fn enabled() -> Outcome {
    match std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y')) {
        true => Ok(()),
        false => Err(Stop::skipped("this kernel has no AppArmor")),
    }
}

/// A profile in the kernel. Dropped, it is taken out again.
struct Profile {
    name: String,
    file: std::path::PathBuf,
}

impl Profile {
    /// Everything is allowed but what `rules` deny.
    fn load(host: &Host, rules: &str) -> Result<Self, Stop> {
        Self::load_without(host, "", rules)
    }

    fn load_without(host: &Host, missing: &str, rules: &str) -> Result<Self, Stop> {
        enabled()?;
        if !Path::new("/usr/sbin/apparmor_parser").exists() && !Path::new("/sbin/apparmor_parser").exists() {
            return Err(Stop::skipped("apparmor_parser is not installed (package apparmor)"));
        }
        let name = host.unique("profile");
        let file = host.dir().join(&name);
        let all = "file, capability, network, mount, umount, pivot_root, ptrace, signal, unix, change_profile,";
        let all = all.replace(missing, "");
        std::fs::write(&file, format!("profile {name} flags=(attach_disconnected) {{\n{all}\n{rules}\n}}\n"))?;
        let profile = Profile { name, file };
        profile.parse("--replace")?;
        Ok(profile)
    }

    fn parse(&self, how: &str) -> Outcome {
        let done = Command::new("apparmor_parser").args([how, "--skip-cache"]).arg(&self.file).output()?;
        ensure!(done.status.success(), "apparmor_parser {how}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = self.parse("--remove");
    }
}
