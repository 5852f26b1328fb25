//! A container's configuration as the node keeps it: `/etc/pve/lxc/VMID.conf`. Read for whose it is, and given what `pct` has
//! no option for.

use super::settings::Settings;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wharf_core::{Error, Kind, Result};
use wharf_sys::dir::{self, Lock};

/// The two parts of a mark that are not the container's.
const WHOSE: &str = "wharf container ";
const WHERE: &str = ", state in ";

/// What the description of a container of ours says: its id, and the state directory that its record is in.
pub(crate) fn mark(id: &str, state_dir: &str) -> String {
    format!("{WHOSE}{id}{WHERE}{state_dir}")
}

pub(crate) fn path(settings: &Settings, vmid: u32) -> PathBuf {
    settings.cluster().join("lxc").join(format!("{vmid}.conf"))
}

/// None where there is none on this node.
pub(crate) fn text(settings: &Settings, vmid: u32) -> Result<Option<String>> {
    match fs::read_to_string(path(settings, vmid)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let doing = format!("read the configuration of CT {vmid}");
            Err(Error::new(Kind::System, doing).because(error.kind()).hint("systemctl status pve-cluster"))
        }
    }
}

/// Its description, decoded.
fn description(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.starts_with('[')).filter_map(|line| line.strip_prefix('#'));
    decoded(lines.collect::<Vec<_>>().join("\n").trim())
}

/// Whether it is the container of that [`mark`].
pub(crate) fn is_marked(text: &str, mark: &str) -> bool {
    description(text).lines().any(|line| line == mark)
}

/// Whose it is by its mark: the id, and the state directory.
pub(crate) fn marked(text: &str) -> Option<(String, PathBuf)> {
    let description = description(text);
    let mut marks = description.lines().filter_map(|line| line.strip_prefix(WHOSE)?.split_once(WHERE));
    marks.next().map(|(id, dir)| (id.to_owned(), PathBuf::from(dir)))
}

/// Percent signs and two digits.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whose container of this node has that description.
pub(crate) fn find(settings: &Settings, mark: &str) -> Result<Option<u32>> {
    let dir = settings.cluster().join("lxc");
    let Ok(entries) = fs::read_dir(&dir) else { return Ok(None) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(vmid) = name.to_str().and_then(|name| name.strip_suffix(".conf")?.parse().ok()) else { continue };
        if text(settings, vmid)?.is_some_and(|text| is_marked(&text, mark)) {
            return Ok(Some(vmid));
        }
    }
    Ok(None)
}

/// The lock that every writer of it takes.
fn lock(settings: &Settings, vmid: u32) -> Result<OwnedFd> {
    let path = settings.path(&format!("/run/lock/lxc/pve-config-{vmid}.lock"));
    let doing = format!("lock the configuration of CT {vmid}");
    let failed = |error: std::io::Error| Error::new(Kind::System, doing.as_str()).because(error.kind());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let file: OwnedFd = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?.into();
    let until = Instant::now() + settings.timeout;
    while !dir::try_lock(file.as_fd(), Lock::Exclusive).map_err(|errno| Error::system(doing.as_str(), errno as i32))? {
        if Instant::now() >= until {
            return Err(Error::new(Kind::System, doing)
                .because("another task holds the lock")
                .hint("call again when that has ended"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(file)
}

/// Adds lines that only root may write, behind all others: they are what LXC is told last.
pub(crate) fn add(settings: &Settings, vmid: u32, lines: &[String]) -> Result<()> {
    let _lock = lock(settings, vmid)?;
    let doing = || format!("write the configuration of CT {vmid}");
    let missing = || Error::new(Kind::System, doing()).because("it is gone; was it removed by somebody else?");
    let text = text(settings, vmid)?.ok_or_else(missing)?;
    let whole = with(&text, lines);
    let path = path(settings, vmid);
    // The cluster file system keeps files of other names there, and takes a rename as one change.
    let draft = path.with_extension(format!("conf.tmp.{}", std::process::id()));
    let write = || {
        OpenOptions::new().write(true).create_new(true).open(&draft)?.write_all(whole.as_bytes())?;
        fs::rename(&draft, &path)
    };
    write().map_err(|error: std::io::Error| {
        let _ = fs::remove_file(&draft);
        Error::new(Kind::System, doing())
            .because(error.kind())
            .hint("pvecm status: without a quorum it takes no changes")
    })
}

/// Before the first section.
fn with(text: &str, lines: &[String]) -> String {
    let at = if text.starts_with('[') { 0 } else { text.find("\n[").map_or(text.len(), |at| at + 1) };
    let (head, tail) = text.split_at(at);
    let mut whole = head.trim_end().to_owned();
    for line in lines {
        whole.push('\n');
        whole.push_str(line);
    }
    whole.push('\n');
    if !tail.is_empty() {
        whole.push('\n');
        whole.push_str(tail);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#wharf container a%3Ab, state in /run/wharf/a%3Ab\n#more\narch: amd64\ntags: wharf\n\
                        [pve:pending]\ntags: other\n#no\n";

    #[test]
    fn a_description_tells_whose_it_is() {
        assert!(is_marked(TEXT, &mark("a:b", "/run/wharf/a:b")));
        assert!(!is_marked(TEXT, &mark("a:b", "/run/wharf/a:")));
        assert_eq!(marked(TEXT), Some(("a:b".to_owned(), PathBuf::from("/run/wharf/a:b"))));
        assert_eq!(marked("#mine\narch: amd64\n"), None);
        assert_eq!(description("arch: amd64\n"), "");
        assert_eq!(decoded("100% %zz %41%"), "100% %zz A%");
    }

    #[test]
    fn lines_are_added_before_the_sections() {
        let lines = ["lxc.include: /x".to_owned()];
        assert_eq!(with("arch: amd64\n", &lines), "arch: amd64\nlxc.include: /x\n");
        assert_eq!(
            with("arch: amd64\n\n[pve:pending]\na: b\n", &lines),
            "arch: amd64\nlxc.include: /x\n\n[pve:pending]\na: b\n"
        );
    }
}
