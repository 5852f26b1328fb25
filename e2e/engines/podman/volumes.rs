//! Volumes, temporary file systems, and what is copied in and out.

use super::engine::Podman;
use super::{Case, case};
use harness::{Stop, ensure, ensure_eq};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("--volume: both see the other's files", "from the host, from inside", |podman| {
            let dir = volume(podman)?;
            let inside = podman.sh(&["--volume", &bound(&dir, "")], "echo from inside >/v/in; cat /v/out")?;
            Ok(format!("{inside}, {}", fs::read_to_string(dir.join("in"))?.trim()))
        }),
        case("--volume :ro", "from the host, Read-only file system", |podman| {
            let dir = volume(podman)?;
            let script = "cat /v/out; touch /v/x 2>&1 | grep -o 'Read-only file system'";
            Ok(podman.sh(&["--volume", &bound(&dir, ":ro")], script)?.replace('\n', ", "))
        }),
        case("--volume :U: the files get the user's owner", "1000:1000", |podman| {
            let dir = volume(podman)?;
            podman.sh(&["--user", "1000:1000", "--volume", &bound(&dir, ":U")], "touch /v/mine")?;
            let meta = fs::metadata(dir.join("out"))?;
            Ok(format!("{}:{}", meta.uid(), meta.gid()))
        }),
        case("--volume :O: changes stay in the container", "changed inside, from the host outside", |podman| {
            let dir = volume(podman)?;
            let inside = podman.sh(&["--volume", &bound(&dir, ":O")], "echo changed >/v/out; cat /v/out")?;
            Ok(format!("{inside} inside, {} outside", fs::read_to_string(dir.join("out"))?.trim()))
        }),
        case("--volume :noexec,nosuid,nodev", "noexec nosuid nodev; Permission denied", |podman| {
            let dir = volume(podman)?;
            let script = "awk '$2 == \"/v\" {print $4}' /proc/mounts | tr , '\\n' | grep -E '^no(exec|suid|dev)$' | sort -r | tr '\\n' ' '; \
                cp /bin/busybox /v/b; /v/b true 2>&1 | grep -o 'Permission denied'";
            let seen = podman.sh(&["--volume", &bound(&dir, ":noexec,nosuid,nodev")], script)?;
            Ok(seen
                .replace("nosuid noexec nodev ", "noexec nosuid nodev; ")
                .replace("nosuid nodev noexec ", "noexec nosuid nodev; "))
        }),
        case("--volume :private: no later mount of the host arrives", "not there, none shared", |podman| {
            propagated(podman, "private")
        }),
        case("--volume :rprivate: no later mount of the host arrives", "not there, none shared", |podman| {
            propagated(podman, "rprivate")
        }),
        case("--volume :slave: later mounts of the host arrive", "there, master", |podman| propagated(podman, "slave")),
        case("--volume :rslave: later mounts of the host arrive", "there, master", |podman| {
            propagated(podman, "rslave")
        }),
        case("--volume :shared: later mounts of the host arrive", "there, shared", |podman| {
            propagated(podman, "shared")
        }),
        case("--volume :rshared: later mounts of the host arrive", "there, shared", |podman| {
            propagated(podman, "rshared")
        }),
        case("--volume :shared: a mount made inside is seen by the host", "tmpfs made inside", |podman| {
            let dir = volume(podman)?;
            let _shared = Shared::new(&dir)?;
            fs::create_dir(dir.join("sub"))?;
            let script = "mount -t tmpfs inside /v/sub && echo 'tmpfs made inside' >/v/sub/f && echo ready; sleep 1000";
            podman.start("c", &["--privileged", "--volume", &bound(&dir, ":rshared")], &["sh", "-c", script])?;
            podman.wait_for_log("c", "ready")?;
            let text = fs::read_to_string(dir.join("sub/f")).unwrap_or_default();
            podman.must(&["rm", "--force", "--time", "0", "c"])?;
            let _ = umount2(&dir.join("sub"), MntFlags::MNT_DETACH);
            Ok(text.trim().to_owned())
        }),
        case("--volume :bind and :rbind: mounts below", "bind without, rbind with", |podman| {
            let dir = volume(podman)?;
            let below = dir.join("below");
            fs::create_dir(&below)?;
            mount(Some("e2e"), &below, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
            let _below = Below(below.clone());
            fs::write(below.join("f"), "")?;
            let script = "[ -e /v/below/f ] && echo with || echo without";
            let bind = podman.sh(&["--volume", &bound(&dir, ":bind")], script)?;
            let rbind = podman.sh(&["--volume", &bound(&dir, ":rbind")], script)?;
            Ok(format!("bind {bind}, rbind {rbind}"))
        })
        .unlike("crun", "makes every bind mount recursive"),
        case(
            "a named volume takes the image's files and keeps what is written",
            "from the image, then kept",
            |podman| {
                let first =
                    podman.sh(&["--volume", "vol:/var/data"], "cat /var/data/kept; echo then kept >/var/data/more")?;
                let second = podman.sh(&["--volume", "vol:/other"], "cat /other/more")?;
                Ok(format!("{first}, {second}"))
            },
        ),
        case("--volumes-from", "from the host", |podman| {
            let dir = volume(podman)?;
            podman.start("c", &["--volume", &bound(&dir, "")], &["sleep", "1000"])?;
            podman.sh(&["--volumes-from", "c"], "cat /v/out")
        }),
        case("--mount type=bind of a file", "from the host", |podman| {
            let dir = volume(podman)?;
            let option = format!("type=bind,src={}/out,dst=/etc/single,ro=true", dir.display());
            podman.sh(&["--mount", &option], "cat /etc/single")
        }),
        case("a volume at a path that the image does not have", "from the host", |podman| {
            let dir = volume(podman)?;
            podman.sh(&["--volume", &format!("{}:/a/b/c", dir.display())], "cat /a/b/c/out")
        }),
        case("a volume full of symbolic links: none leads out", "as inside: root:x:0:0", |podman| {
            let dir = volume(podman)?;
            symlink("/etc/passwd", dir.join("absolute"))?;
            symlink("../../../../../../etc/passwd", dir.join("climbing"))?;
            symlink("loop", dir.join("loop"))?;
            symlink("/nowhere", dir.join("dangling"))?;
            symlink("/", dir.join("root"))?;
            for number in 0..1000 {
                symlink(format!("link{}", number + 1), dir.join(format!("link{number}")))?;
            }
            let script = "cut -d: -f1-4 /v/absolute | head -1; cut -d: -f1-4 /v/climbing | head -1; \
                [ -e /v/root/bin/busybox ] && ls /v | wc -l";
            let seen = podman.sh(&["--volume", &bound(&dir, "")], script)?;
            ensure_eq!(seen, "root:x:0:0\nroot:x:0:0\n1006");
            Ok("as inside: root:x:0:0".to_owned())
        }),
        case("a volume on a link of another volume lands inside", "inside, nothing on the host", |podman| {
            let (dir, target) = (volume(podman)?, podman.dir().join("target"));
            fs::create_dir(&target)?;
            symlink(target.display().to_string(), dir.join("link"))?;
            let other = podman.dir().join("other");
            fs::create_dir(&other)?;
            fs::write(other.join("f"), "other")?;
            let options = ["--volume", &bound(&dir, ""), "--volume", &format!("{}:/v/link/deep", other.display())];
            let ran = podman
                .run(&options, &["sh", "-c", &format!("cat /v/link/deep/f {}/deep/f | uniq", target.display())])?;
            let host = fs::read_dir(&target)?.count();
            ensure!(host == 0, "the host's directory was written to; {ran}");
            Ok(if ran.code() == Some(0) {
                "inside, nothing on the host".to_owned()
            } else {
                ran.stderr.trim().to_owned()
            })
        })
        .unlike("crun", "makes no directory behind a link to something missing"),
        case("--tmpfs: options", "tmpfs 1024 KiB noexec 700", |podman| {
            let script = "df -k /t | awk 'NR==2 {print $2 \" KiB\"}'; awk '$2 == \"/t\" {print $3, ($4 ~ /noexec/) ? \"noexec\" : \"exec\"}' /proc/mounts; stat -c %a /t";
            let seen = podman.sh(&["--tmpfs", "/t:size=1m,noexec,mode=700"], script)?;
            let lines: Vec<&str> = seen.lines().collect();
            Ok(match lines[..] {
                [size, kind, mode] => {
                    let (kind, exec) = kind.split_once(' ').unwrap_or_default();
                    format!("{kind} {size} {exec} {mode}")
                }
                _ => seen,
            })
        }),
        case("--tmpfs over files of the image: they are copied up", "from the image", |podman| {
            podman.sh(&["--tmpfs", "/var/data"], "cat /var/data/kept")
        }),
        case("--mount type=tmpfs,notmpcopyup", "empty", |podman| {
            podman.sh(
                &["--mount", "type=tmpfs,dst=/var/data,notmpcopyup"],
                "[ -e /var/data/kept ] && echo full || echo empty",
            )
        }),
        case("--mount type=devpts", "devpts", |podman| {
            podman.sh(&["--mount", "type=devpts,destination=/pts"], "awk '$2 == \"/pts\" {print $3}' /proc/mounts")
        }),
        case("cp into a running container and out of it", "in and out", |podman| {
            podman.start("c", &[], &["sleep", "1000"])?;
            let (from, to) = (podman.dir().join("from"), podman.dir().join("to"));
            fs::write(&from, "in and out\n")?;
            podman.must(&["cp", &from.display().to_string(), "c:/tmp/file"])?;
            let pid = podman.pid("c")?;
            ensure_eq!(fs::read_to_string(format!("/proc/{pid}/root/tmp/file"))?, "in and out\n");
            podman.must(&["cp", "c:/tmp/file", &to.display().to_string()])?;
            Ok(fs::read_to_string(to)?.trim().to_owned())
        }),
        case("cp out of a volume and a tmpfs of a running container", "from the host, in memory", |podman| {
            let dir = volume(podman)?;
            let script = "echo in memory >/t/f; echo ready; sleep 1000";
            podman.start("c", &["--volume", &bound(&dir, ""), "--tmpfs", "/t"], &["sh", "-c", script])?;
            podman.wait_for_log("c", "ready")?;
            let to = podman.dir().join("to");
            let mut seen = Vec::new();
            for path in ["c:/v/out", "c:/t/f"] {
                podman.must(&["cp", path, &to.display().to_string()])?;
                seen.push(fs::read_to_string(&to)?.trim().to_owned());
            }
            Ok(seen.join(", "))
        }),
        case("secrets and the files that Podman puts in", "the secret, hostname c", |podman| {
            let file = podman.dir().join("secret");
            fs::write(&file, "the secret")?;
            let (file, dir) = (file.display().to_string(), podman.dir().join("secrets").display().to_string());
            let opts = format!("--driver-opts=path={dir}");
            podman.must(&["secret", "create", &opts, "s", &file])?;
            let script = "cat /run/secrets/s; echo; cat /etc/hostname";
            let seen = podman.sh(&["--secret", "s", "--hostname", "c", "--network", "none"], script)?;
            let lines: Vec<&str> = seen.lines().collect();
            Ok(match lines[..] {
                [secret, host] => format!("{secret}, hostname {host}"),
                _ => seen,
            })
        }),
    ]
}

fn volume(podman: &Podman) -> Result<PathBuf, Stop> {
    let dir = podman.dir().join("volume");
    fs::create_dir(&dir)?;
    fs::write(dir.join("out"), "from the host\n")?;
    Ok(dir)
}

fn bound(dir: &Path, options: &str) -> String {
    format!("{}:/v{options}", dir.display())
}

/// Mounts below the volume after the start, and looks from inside; and what the mount's own line says.
fn propagated(podman: &Podman, option: &str) -> Result<String, Stop> {
    let dir = volume(podman)?;
    let _shared = Shared::new(&dir)?;
    let late = dir.join("late");
    fs::create_dir(&late)?;
    podman.start("c", &["--volume", &bound(&dir, &format!(":{option}"))], &["sleep", "1000"])?;
    mount(Some("late"), &late, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let _late = Below(late.clone());
    fs::write(late.join("f"), "")?;
    let pid = podman.pid("c")?;
    let there = Path::new(&format!("/proc/{pid}/root/v/late/f")).exists();
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let line = table.lines().find(|line| line.split(' ').nth(4) == Some("/v")).unwrap_or_default();
    let fields = line.split(" - ").next().unwrap_or_default();
    let kind = ["shared", "master"].into_iter().find(|word| fields.contains(&format!(" {word}:")));
    drop(_late);
    podman.must(&["rm", "--force", "--time", "0", "c"])?;
    Ok(format!("{}, {}", if there { "there" } else { "not there" }, kind.unwrap_or("none shared")))
}

/// A directory that is a mount of its own, with shared propagation.
struct Shared(PathBuf);

impl Shared {
    fn new(dir: &Path) -> Result<Self, Stop> {
        mount(Some(dir), dir, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        let shared = Shared(dir.to_owned());
        mount(None::<&str>, dir, None::<&str>, MsFlags::MS_SHARED, None::<&str>)?;
        Ok(shared)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A mount that goes before its directory.
struct Below(PathBuf);

impl Drop for Below {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
