//! The options of `ctr run`, each seen from inside of the container.

use super::{Containerd, code, with};
use crate::engines::image;
use harness::{Feature, Outcome, Stop, ensure, ensure_eq, json};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::process::Command;

pub(super) fn trials(feature: Feature) -> Feature {
    feature
        .trial("an attached container's output, errors and input are passed on", with(streams))
        .trial(
            "--env and --cwd hold",
            with(|engine| {
                let seen =
                    engine.prints(&["--env", "SHIP=tall one", "--cwd", "/home"], &["sh", "-c", "echo $SHIP; pwd"])?;
                ensure_eq!(seen, "tall one\n/home");
                Ok(())
            }),
        )
        .trial("--user takes a name of the image, or numbers", with(user))
        .trial("--mount binds, read-only where asked", with(mount))
        .trial(
            "--read-only makes the root read-only",
            with(|engine| {
                let finished = engine.run(&["--rm", "--read-only"], &engine.host.unique("c"), &["touch", "/new"])?;
                ensure!(finished.stderr.contains("Read-only file system"), "{finished}");
                code(finished, 1).map(drop)
            }),
        )
        .trial(
            "capabilities are the default ones, --cap-add and --cap-drop change them, --privileged has all",
            with(capabilities),
        )
        .trial(
            "--allow-new-privs turns noNewPrivileges off",
            with(|engine| {
                let seen = |options: &[&str]| engine.prints(options, &["grep", "NoNewPrivs", "/proc/self/status"]);
                ensure_eq!(seen(&[])?, "NoNewPrivs:\t1");
                ensure_eq!(seen(&["--allow-new-privs"])?, "NoNewPrivs:\t0");
                Ok(())
            }),
        )
        .trial("--seccomp loads the default profile, --seccomp-profile another one", with(seccomp))
        .trial(
            "--pid-file names the payload",
            with(|engine| {
                let file = engine.host.dir().join("pid");
                let (_, pid) = engine.detached(&["--pid-file", &file.to_string_lossy()], &["sleep", "1000"])?;
                ensure_eq!(std::fs::read_to_string(file)?.trim(), pid.to_string());
                Ok(())
            }),
        )
        .trial("--with-ns joins a namespace, --net-host the host's network", with(namespaces))
        .trial("--device adds a device that can be opened", with(device))
        .trial(
            "--rootfs takes a directory in place of an image",
            with(|engine| {
                let tree = image::tree(engine.host)?;
                let id = engine.host.unique("c");
                let runtime = engine.host.runtime.program().display().to_string();
                let finished = engine.ctr(&[
                    "run",
                    "--rm",
                    "--runc-binary",
                    &runtime,
                    "--rootfs",
                    &tree.to_string_lossy(),
                    &id,
                    "/bin/ls",
                    "/bin/payload",
                ])?;
                ensure_eq!(code(finished, 0)?.stdout.trim(), "/bin/payload");
                Ok(())
            }),
        )
        .trial(
            "--uidmap and --gidmap make a user namespace with these maps",
            with(|engine| {
                let seen = engine.prints(
                    &["--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536"],
                    &["sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g /bin/busybox"],
                )?;
                let seen: Vec<_> = seen.split_whitespace().collect();
                ensure_eq!(seen.join(" "), "0 0 100000 65536 0 200000 65536 0:0");
                Ok(())
            }),
        )
        .trial("--null-io drops the output, --log-uri writes it to a file", with(logs))
        .trial("--config runs a bundle's config.json as it is", with(config))
        .trial("a command that is missing is told, and leaves nothing", with(missing))
}

fn streams(engine: &Containerd<'_>) -> Outcome {
    let id = engine.host.unique("c");
    let input = engine.host.dir().join("input");
    std::fs::write(&input, "one\ntwo\n")?;
    let words = engine.run_words(&["--rm"], &id, &["sh", "-c", "read a; read b; echo $b $a; echo aside >&2; exit 7"]);
    let mut command = engine.ctr_command(&words);
    command.stdin(std::fs::File::open(&input)?);
    let finished = code(engine.host.program(command)?.finish()?, 7)?;
    ensure_eq!(finished.stdout, "two one\n");
    ensure!(finished.stderr.contains("aside\n"), "{finished}");
    Ok(())
}

fn user(engine: &Containerd<'_>) -> Outcome {
    if !engine.must(&["run", "--help"])?.contains("--user ") {
        return Err(Stop::skipped("this ctr has no --user, as before 1.7"));
    }
    let script = "echo $(id -u) $(id -g) $(sed -n 's/^CapEff:.//p' /proc/self/status)";
    let seen = |user: &str| engine.prints(&["--user", user], &["sh", "-c", script]);
    ensure_eq!(seen("sailor")?, "1000 1000 0000000000000000");
    ensure_eq!(seen("1000")?, "1000 1000 0000000000000000");
    ensure_eq!(seen("5:7")?, "5 7 0000000000000000");
    let finished = engine.run(&["--rm", "--user", "nobody-here"], &engine.host.unique("c"), &["true"])?;
    ensure!(finished.stderr.contains("no users found"), "{finished}");
    code(finished, 1).map(drop)
}

fn mount(engine: &Containerd<'_>) -> Outcome {
    let dir = engine.host.new_dir("volume")?;
    std::fs::write(dir.join("file"), "cargo")?;
    let option = |more: &str| format!("type=bind,src={},dst=/hold,options=rbind:{more}", dir.display());
    let script = "cat /hold/file; echo; touch /hold/new 2>&1";
    let seen = engine.run(&["--rm", "--mount", &option("ro")], &engine.host.unique("c"), &["sh", "-c", script])?;
    ensure!(seen.stdout.starts_with("cargo\n") && seen.stdout.contains("Read-only"), "{seen}");
    ensure!(!dir.join("new").exists(), "written through a read-only mount");
    engine.prints(&["--mount", &option("rw")], &["sh", "-c", script])?;
    ensure!(dir.join("new").exists(), "not written");
    Ok(())
}

fn capabilities(engine: &Containerd<'_>) -> Outcome {
    let effective = |options: &[&str]| -> Result<u64, Stop> {
        let text = engine.prints(options, &["sed", "-n", "s/^CapEff:\t//p", "/proc/self/status"])?;
        u64::from_str_radix(&text, 16).map_err(|error| Stop::failed(format!("{text:?}: {error}")))
    };
    // capabilities(7): CAP_CHOWN is 0, CAP_NET_ADMIN 12.
    let default = effective(&[])?;
    ensure_eq!(default & 1, 1, "CAP_CHOWN by default");
    ensure_eq!(default >> 12 & 1, 0, "CAP_NET_ADMIN by default");
    ensure_eq!(effective(&["--cap-add", "CAP_NET_ADMIN"])?, default | 1 << 12);
    ensure_eq!(effective(&["--cap-drop", "CAP_CHOWN"])?, default & !1);
    let own = std::fs::read_to_string("/proc/self/status")?;
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap_or_default();
    ensure_eq!(format!("{:016x}", effective(&["--privileged"])?), own, "--privileged");
    Ok(())
}

fn seccomp(engine: &Containerd<'_>) -> Outcome {
    let script = "grep ^Seccomp: /proc/self/status; mkdir /made 2>&1; ls -d /made; unshare -U true 2>&1; true";
    let seen = |options: &[&str]| engine.prints(options, &["sh", "-c", script]);
    let none = seen(&[])?;
    ensure!(none.contains("Seccomp:\t0") && none.contains("\n/made"), "{none:?}");
    let default = seen(&["--seccomp"])?;
    ensure!(default.contains("Seccomp:\t2") && default.contains("\n/made"), "{default:?}");
    ensure!(default.contains("unshare"), "a user namespace was made: {default:?}");
    let file = engine.host.dir().join("profile.json");
    let rule = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 });
    std::fs::write(&file, json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }).to_string())?;
    let own = seen(&["--seccomp", "--seccomp-profile", &file.to_string_lossy()])?;
    ensure!(own.contains("No space left on device") && !own.contains("\n/made"), "{own:?}");
    Ok(())
}

fn namespaces(engine: &Containerd<'_>) -> Outcome {
    let of = |path: &str| -> Result<String, Stop> { Ok(std::fs::read_link(path)?.to_string_lossy().into_owned()) };
    let mut other = Command::new("unshare").args(["--net", "--uts", "sleep", "1000"]).spawn()?;
    let path = format!("/proc/{}/ns/net", other.id());
    let result = (|| {
        let own = of("/proc/self/ns/net")?;
        harness::wait_until("another network namespace", || Ok(of(&path)? != own))?;
        let option = format!("network:{path}");
        ensure_eq!(engine.prints(&["--with-ns", &option], &["readlink", "/proc/self/ns/net"])?, of(&path)?);
        ensure_eq!(engine.prints(&["--net-host"], &["readlink", "/proc/self/ns/net"])?, own);
        let new = engine.prints(&[], &["readlink", "/proc/self/ns/net"])?;
        ensure!(new != own && new != of(&path)?, "no network namespace of its own: {new}");
        Ok(())
    })();
    other.kill()?;
    other.wait()?;
    result
}

fn device(engine: &Containerd<'_>) -> Outcome {
    // 1:9 is urandom (Documentation/admin-guide/devices.txt).
    let path = engine.host.dir().join("chance");
    mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 9))?;
    let path = path.to_string_lossy();
    let script = format!("stat -c '%F %t:%T' {path}; head -c 8 {path} | wc -c");
    let seen = engine.prints(&["--device", &path], &["sh", "-c", &script])?;
    ensure_eq!(seen, "character special file 1:9\n8");
    Ok(())
}

fn logs(engine: &Containerd<'_>) -> Outcome {
    let id = engine.host.unique("c");
    let finished = code(engine.run(&["--rm", "--null-io"], &id, &["sh", "-c", "echo said; exit 3"])?, 3)?;
    ensure_eq!(finished.stdout, "");
    let file = engine.host.dir().join("log");
    let uri = format!("file://{}", file.display());
    // The shim closes the file of both streams when the first one ends: with runc too, the last words of the other may be lost.
    let script = "echo out; echo err >&2; sleep 0.5; exit 4";
    let (id, _) = engine.detached(&["--log-uri", &uri], &["sh", "-c", script])?;
    ensure_eq!(engine.exit_code(&id)?, 4);
    // Two pipes: the order of the lines is not settled.
    let text = std::fs::read_to_string(file)?;
    ensure!(text == "out\nerr\n" || text == "err\nout\n", "{text:?}");
    Ok(())
}

fn config(engine: &Containerd<'_>) -> Outcome {
    let tree = image::tree(engine.host)?;
    let mut config = engine.host.bundle()?.args(&["sh", "-c", "hostname; exit 5"]).config;
    config["root"]["path"] = json!(tree);
    config["linux"]["cgroupsPath"] = json!(format!("/{}/own", engine.host.tag()));
    let file = engine.host.dir().join("own.json");
    std::fs::write(&file, config.to_string())?;
    let id = engine.host.unique("c");
    let runtime = engine.host.runtime.program().display().to_string();
    let finished = engine.ctr(&["run", "--rm", "--runc-binary", &runtime, "--config", &file.to_string_lossy(), &id])?;
    ensure_eq!(code(finished, 5)?.stdout, "e2e\n");
    Ok(())
}

fn missing(engine: &Containerd<'_>) -> Outcome {
    for (word, told) in [
        ("nothing", "executable file not found in $PATH"),
        ("/bin/nothing", "no such file or directory"),
        ("/bin", "permission denied"),
        ("/bin/plain", "permission denied"),
    ] {
        let id = engine.host.unique("c");
        let finished = code(engine.run(&["--rm"], &id, &[word])?, 1)?;
        ensure!(finished.stderr.contains(told) && finished.stderr.contains(word), "{finished}");
    }
    engine.nothing_left()
}
