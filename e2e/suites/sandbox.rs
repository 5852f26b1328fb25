//! Runs one test program where it can leave nothing behind: own mounts, own processes, own /run, bounded in time.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How one test program ended.
#[derive(Debug, PartialEq)]
pub(crate) struct Run {
    /// None where it was ended for its time.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Stretched by `WHARF_PATIENCE`, for a machine that is emulated.
fn limit() -> Duration {
    let factor = std::env::var("WHARF_PATIENCE").ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(1);
    Duration::from_secs(120) * factor
}

// crun refuses a hierarchy of v2 beside v1, so the suites run without it. Runtimes keep their state below /run, test
// programs their bundles below TMPDIR: both are gone with the namespace. A descriptor that our caller left open would be
// counted as the runtime's.
const PREPARE: &str = "set -e
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
mount -t tmpfs -o mode=755 run /run
mkdir -m 1777 /run/tmp
export TMPDIR=/run/tmp
for open in /proc/self/fd/*; do
    number=${open##*/}
    if [ $number -gt 2 ]; then eval \"exec $number>&-\"; fi
done
exec \"$@\"";

/// Runs `program` in `dir`. A pid namespace ends every process that is left; cgroups that are left are removed.
pub(crate) fn run(dir: &Path, program: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<Run, String> {
    let before = cgroups();
    let (out, err) = (scratch("out"), scratch("err"));
    let open = |path: &Path| File::create(path).map_err(|error| format!("make {}: {error}", path.display()));
    let mut child = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", PREPARE, "bash"])
        .arg(program)
        .args(args)
        .envs(env.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(open(&out)?)
        .stderr(open(&err)?)
        .spawn()
        .map_err(|error| format!("start unshare: {error}"))?;
    let (begun, limit) = (Instant::now(), limit());
    let code = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status.code().unwrap_or(-1)),
            Ok(None) if begun.elapsed() < limit => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            Err(error) => return Err(format!("wait for {}: {error}", program.display())),
        }
    };
    let text = |path: &Path| {
        let bytes = fs::read(path).unwrap_or_default();
        let _ = fs::remove_file(path);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let run = Run { code, stdout: text(&out), stderr: text(&err) };
    sweep(&before);
    Ok(run)
}

/// What a peer answered the last time, where that is kept; it does not change while wharf does.
pub(crate) fn kept_or_run(file: Option<&Path>, run: impl FnOnce() -> Result<Run, String>) -> Result<Run, String> {
    let Some(file) = file else { return run() };
    if let Some(run) = load(file) {
        return Ok(run);
    }
    let run = run()?;
    save(file, &run).map_err(|error| format!("keep {}: {error}", file.display()))?;
    Ok(run)
}

fn save(file: &Path, run: &Run) -> std::io::Result<()> {
    fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
    let mut to = File::create(file)?;
    let code = run.code.map_or("-".to_owned(), |code| code.to_string());
    write!(to, "{code} {}\n{}{}", run.stdout.len(), run.stdout, run.stderr)
}

fn load(file: &Path) -> Option<Run> {
    let mut text = String::new();
    File::open(file).ok()?.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once('\n')?;
    let (code, length) = head.split_once(' ')?;
    let (stdout, stderr) = body.split_at_checked(length.parse().ok()?)?;
    Some(Run { code: code.parse().ok(), stdout: stdout.to_owned(), stderr: stderr.to_owned() })
}

fn scratch(end: &str) -> PathBuf {
    std::env::temp_dir().join(format!("wharf-suites.{}.{end}", std::process::id()))
}

/// Every cgroup that bears a name which the suites give, or lies below one.
fn cgroups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![(PathBuf::from("/sys/fs/cgroup"), false)];
    while let Some((dir, inside)) = waiting.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let of_suites = inside || is_a_suites_name(&entry.file_name().to_string_lossy());
                if of_suites {
                    found.push(entry.path());
                }
                waiting.push((entry.path(), of_suites));
            }
        }
    }
    found
}

fn sweep(before: &[PathBuf]) {
    let mut left: Vec<PathBuf> = cgroups().into_iter().filter(|path| !before.contains(path)).collect();
    left.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for path in left {
        // The last process of the namespace may still be on its way out.
        for _ in 0..100 {
            if fs::remove_dir(&path).is_ok() || !path.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn is_a_suites_name(name: &str) -> bool {
    let id = name.strip_prefix(":youki:").unwrap_or(name);
    let is_uuid = id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    is_uuid || matches!(name, "cgrouptest" | "testdir" | "runtime-test")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cgroups_that_a_suite_made_are_removed() {
        assert!(is_a_suites_name("0ab3f71e-f4e8-bb40-0cdb-beb7a0dbdea1"));
        assert!(is_a_suites_name(":youki:0ab3f71e-f4e8-bb40-0cdb-beb7a0dbdea1"));
        assert!(is_a_suites_name("cgrouptest"));
        for name in
            ["user.slice", "docker", "0ab3f71e-f4e8-bb40-0cdb-beb7a0dbdea", "0ab3f71e-f4e8-bb40-0cdb-beb7a0dbdeaz"]
        {
            assert!(!is_a_suites_name(name), "{name}");
        }
    }

    #[test]
    fn a_kept_answer_reads_back_as_it_was() {
        let file = scratch("kept");
        for code in [Some(1), None] {
            let run = Run { code, stdout: "ok 1 - a\n".to_owned(), stderr: "no\n".to_owned() };
            save(&file, &run).unwrap();
            assert_eq!(load(&file), Some(run));
        }
        fs::remove_file(file).unwrap();
    }
}
