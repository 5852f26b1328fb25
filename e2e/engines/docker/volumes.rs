//! Volumes: directories of the host's, named ones, read-only, and with each propagation.

use super::case;
use crate::engines::Case;
use crate::engines::common::code;
use harness::{Mounted, ensure};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("a directory of the host's is read and written", "cargo, new", |docker| {
            let (dir, volume) = docker.volume("/hold")?;
            std::fs::write(dir.join("file"), "cargo")?;
            let seen = docker.prints(&["--volume", &volume], &["sh", "-c", "cat /hold/file; echo new >/hold/new"])?;
            Ok(format!("{seen}, {}", std::fs::read_to_string(dir.join("new"))?.trim()))
        }),
        case("a read-only one is not written", "cargo 1", |docker| {
            let (dir, volume) = docker.volume("/hold:ro")?;
            std::fs::write(dir.join("file"), "cargo")?;
            docker.prints(
                &["--volume", &volume],
                &["sh", "-c", "cat /hold/file; touch /hold/new 2>/dev/null; echo '' $?"],
            )
        }),
        case("a named one is kept from one container to the next", "cargo", |docker| {
            docker.prints(&["--volume", "hold:/hold"], &["sh", "-c", "echo cargo >/hold/file"])?;
            let seen = docker.prints(&["--volume", "hold:/hold"], &["cat", "/hold/file"])?;
            docker.must(&["volume", "rm", "hold"])?;
            Ok(seen)
        }),
        case(
            "a mount of the host's gets into a slave volume, and not into a private one",
            "slave, nothing",
            |docker| {
                let mut seen = Vec::new();
                for how in ["rslave", "rprivate"] {
                    let (dir, volume) = docker.volume(&format!("/hold:{how}"))?;
                    let _outer = Mounted::tmpfs(&dir)?;
                    std::fs::create_dir(dir.join("sub"))?;
                    let id = docker.detached(&["--volume", &volume], &["sleep", "1000"])?;
                    let inner = Mounted::tmpfs(&dir.join("sub"))?;
                    std::fs::write(dir.join("sub/file"), "slave")?;
                    let text = docker.exec(&[], &id, &["cat", "/hold/sub/file"])?;
                    seen.push(if text.code() == Some(0) { text.stdout } else { "nothing".to_owned() });
                    docker.must(&["rm", "--force", &id])?;
                    drop(inner);
                }
                Ok(seen.join(", "))
            },
        )
        .unlike("crun", "called in a private mount namespace here, which later mounts of the host do not reach"),
        case("--mount type=tmpfs has size and mode", "64k 1700", |docker| {
            let option = "type=tmpfs,destination=/scratch,tmpfs-size=65536,tmpfs-mode=1700";
            let script = "echo $(awk '$2 == \"/scratch\" { print $4 }' /proc/mounts | tr , '\\n' | sed -n 's/^size=//p') $(stat -c %a /scratch)";
            docker.prints(&["--mount", option], &["sh", "-c", script])
        }),
        case("a volume full of links is mounted where it belongs", "cargo", |docker| {
            // A link in the image leads out of it: the mount must end up inside.
            let (dir, volume) = docker.volume("/link/hold")?;
            std::fs::write(dir.join("file"), "cargo")?;
            let built = docker.must(&["create", super::engine::IMAGE, "ln", "-s", "/../../tmp", "/link"])?;
            docker.must(&["start", "--attach", &built])?;
            docker.must(&["commit", &built, "linked"])?;
            let seen = docker.must(&["run", "--rm", "--volume", &volume, "linked", "cat", "/tmp/hold/file"])?;
            ensure!(!std::path::Path::new("/tmp/hold").exists(), "mounted on the host");
            Ok(seen)
        }),
        case("a volume whose source is missing is refused", "125", |docker| {
            let option = "type=bind,source=/no/such/place,destination=/hold";
            let finished = docker.run(&["--mount", option], &["true"])?;
            ensure!(finished.stderr.contains("/no/such/place"), "{finished}");
            Ok(code_of(&finished))
        }),
        case("a file is mounted over a file", "cargo", |docker| {
            let (dir, _) = docker.volume("/unused")?;
            let file = dir.join("file");
            std::fs::write(&file, "cargo")?;
            let seen = docker.run(&["--volume", &format!("{}:/etc/hosts", file.display())], &["cat", "/etc/hosts"])?;
            Ok(code(seen, 0)?.stdout)
        }),
    ]
}

fn code_of(finished: &harness::Finished) -> String {
    finished.code().map_or_else(|| "?".to_owned(), |code| code.to_string())
}
