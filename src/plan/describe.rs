//! What a step was doing, in words, and why its failure means what it means.

use crate::builder::Plan;
use crate::options;
use wharf_core::{Error, Kind, errno_text};
use wharf_steps::facts::{NO_DEVPTS, OUTSIDE, executable, hook_end};
use wharf_steps::{Failure, Slot, Step};

const EPERM: i32 = 1;
const EXDEV: i32 = 18;
const ELOOP: i32 = 40;

impl Plan {
    /// The error that an init's failure is.
    pub fn explain(&self, failure: &Failure) -> Error {
        let index = failure.step as usize;
        let Some(step) = self.steps().get(index) else {
            return Error::system("set the container up", failure.errno);
        };
        let error = match step {
            Step::FindExecutable { name, .. } => command(&self.text(*name), failure),
            Step::Exec { arguments, .. } => command(self.list(*arguments).first().map_or("", String::as_str), failure),
            Step::Hook { path, milliseconds, .. } => hook(&self.text(*path), *milliseconds, failure),
            Step::WorkingDirectory { path, .. } if failure.facts == OUTSIDE => {
                Error::invalid(format!("working directory {}", self.text(*path)))
                    .because("is outside the container's root")
            }
            // No other part of it asks for a user whom the namespace may lack.
            Step::WorkingDirectory { uid, gid, .. } if failure.errno == EPERM => {
                let error = Error::invalid(format!("become user {uid} and group {gid}"));
                error.because("the container's user namespace has no such ids").at("process/user")
            }
            Step::Groups { .. } if failure.errno == EPERM => Error::system(self.describe(*step), failure.errno)
                .hint("in a user namespace that was made without root the kernel may deny it: setgroups(2)"),
            Step::MountFilesystem { plain: true, target, .. } | Step::MountDetached { plain: true, target, .. }
                if failure.errno == ELOOP =>
            {
                Error::invalid(self.describe(*step)).because(format!(
                    "{} must be mounted on ordinary directory, not on a symbolic link",
                    self.text(*target)
                ))
            }
            Step::WriteProc { .. } if failure.errno == EXDEV => Error::unsupported(self.describe(*step))
                .because("another mount covers it on this host, and the container has no procfs of its own on /proc"),
            Step::OpenTerminal { path, .. } if failure.facts == NO_DEVPTS => {
                Error::invalid(self.describe(*step)).because(format!("there is no devpts on {}", self.text(*path)))
            }
            _ => Error::system(self.describe(*step), failure.errno),
        };
        match self.pointer(index) {
            "" => error,
            pointer => error.at(pointer),
        }
    }

    /// A step as a verb and its object.
    pub fn describe(&self, step: Step) -> String {
        let text = |at| self.text(at);
        match step {
            Step::EnterNamespace { slot: Slot::INIT, .. } => "join the container's namespaces".to_owned(),
            Step::EnterNamespace { kind, .. } => format!("join the {} namespace", kinds(kind)),
            Step::Unshare { flags } => format!("make a new {} namespace", kinds(flags)),
            Step::BecomeRoot {} => "become root in the user namespace".to_owned(),
            Step::Bear { flags: 0 } => "make a process in the container's namespaces".to_owned(),
            Step::Bear { .. } => "make the container's namespaces".to_owned(),
            Step::Report { .. } | Step::Await {} => "speak with wharf".to_owned(),
            Step::Hook { path, .. } => format!("run hook {}", text(path)),
            Step::OpenNull {} => "open the host's /dev/null as character device 1:3".to_owned(),
            Step::PropagateAll { .. } => "part the container's mounts from the host's".to_owned(),
            Step::OpenTree { source, .. } => format!("open {}", text(source)),
            Step::OpenRoot { path, .. } => format!("mount the root file system {}", text(path)),
            Step::MountFilesystem { target, kind, flags, data, .. } => {
                let mut shown: Vec<&str> = options::shown(flags);
                let data = text(data);
                shown.extend((!data.is_empty()).then_some(data.as_str()));
                let shown = if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) };
                format!("mount {} on {}{shown}", text(kind), text(target))
            }
            Step::MountDetached { target, kind, options, .. } => {
                format!("mount {} on {} ({})", text(kind), text(target), self.list(options).join(", "))
            }
            Step::Bind { target, source, .. } if text(source) == text(target) => {
                format!("bind the host's {} into the container", text(target))
            }
            Step::Bind { target, source, .. } => format!("bind mount {} on {}", text(source), text(target)),
            Step::Remount { target, .. } => format!("remount {}", text(target)),
            Step::OpenDirectory { path, .. } => format!("open directory {} of the container", text(path)),
            Step::Device { slot: Slot::DEV, path, .. } => format!("make device /dev/{}", text(path)),
            Step::Device { path, .. } => format!("make device {}", text(path)),
            Step::Symlink { name, target, .. } => format!("link {} to {}", text(name), text(target)),
            Step::BindIn { source, .. } => format!("bind mount {}", text(source)),
            Step::ChangeMounts { .. } => "set the options of the container's cgroup mounts".to_owned(),
            Step::Hostname { name } => format!("set hostname {:?}", self.shown(name)),
            Step::Domainname { name } => format!("set domainname {:?}", self.shown(name)),
            Step::WriteProc { path, value } => format!("write {:?} to /proc/{}", self.shown(value), text(path)),
            Step::LoopbackUp {} => "bring the loopback interface up".to_owned(),
            Step::Pivot {} => "pivot_root into the root file system".to_owned(),
            Step::MoveRoot {} => "move the root file system to /".to_owned(),
            Step::ChangeRoot {} => "chroot into the root file system".to_owned(),
            Step::RootPropagation { .. } => "set the root's propagation".to_owned(),
            Step::RootReadonly {} => "make the root read-only".to_owned(),
            Step::MountReadonly { path } => format!("make the mount on {} read-only", text(path)),
            Step::Mask { path, .. } => format!("mask {}", text(path)),
            Step::ReadonlyPath { path, .. } => format!("make {} read-only", text(path)),
            Step::NewSession {} => "begin a session".to_owned(),
            Step::SessionKeyring { .. } => "join a new session keyring".to_owned(),
            Step::Personality { .. } => "set the personality".to_owned(),
            Step::MemoryPolicy { .. } => "set the memory policy".to_owned(),
            Step::IoPriority { .. } => "set the I/O priority".to_owned(),
            Step::Schedule { .. } => "set the scheduler".to_owned(),
            Step::Umask { .. } => "set the umask".to_owned(),
            Step::Groups { .. } => "set supplementary groups".to_owned(),
            Step::DropGroups {} => "drop supplementary groups".to_owned(),
            Step::WorkingDirectory { path, .. } => format!("change to working directory {}", text(path)),
            Step::FindExecutable { name, .. } => format!("find {}", text(name)),
            Step::Home { uid } => format!("read /etc/passwd for the home of user {uid}"),
            Step::ListenPid {} => "set LISTEN_PID".to_owned(),
            Step::WaitStart {} => "wait for start".to_owned(),
            Step::NoNewPrivileges {} => "set no_new_privs".to_owned(),
            Step::Seccomp { .. } => "load the seccomp filter".to_owned(),
            Step::Bounding { .. } => "drop capabilities from the bounding set".to_owned(),
            Step::Gid { gid } => format!("become group {gid}"),
            Step::Uid { uid } => format!("become user {uid}"),
            Step::Capabilities { .. } => "set capabilities".to_owned(),
            Step::Ambient { .. } => "raise ambient capabilities".to_owned(),
            Step::OpenTerminal { path, .. } => format!("make a terminal in {}", text(path)),
            Step::BindTerminal { directory, name } => {
                format!("mount the terminal on {}/{}", text(directory), text(name))
            }
            Step::SendTerminal {} => "send the terminal to the console socket".to_owned(),
            Step::OwnStreams { uid } => format!("give descriptors 0 to 2 to user {uid}"),
            Step::TakeTerminal { .. } => "take the terminal".to_owned(),
            Step::KeyLabel { label } => format!("label keys {:?} by SELinux", text(label)),
            Step::ExecLabel { label } => format!("confine by SELinux label {:?}", text(label)),
            Step::LabelFile { target, label } => format!("label {} {:?} by SELinux", text(target), text(label)),
            Step::ChangeProfile { profile } => format!("confine by AppArmor profile {} (is it loaded?)", text(profile)),
            Step::CloseHost {} => "close what is the host's".to_owned(),
            Step::Exec { arguments, .. } => {
                format!("exec {}", self.list(arguments).first().map_or("", String::as_str))
            }
        }
    }

    fn shown(&self, bytes: wharf_steps::Bytes) -> String {
        let from = bytes.at as usize;
        let bytes = self.arena.get(from..from + bytes.length as usize).unwrap_or_default();
        String::from_utf8_lossy(bytes).chars().take(80).collect()
    }
}

/// Why a hook failed.
pub fn hook(path: &str, milliseconds: i32, failure: &Failure) -> Error {
    let error = Error::new(Kind::System, format!("run hook {path}"));
    let low = failure.facts & 0xff;
    match failure.facts & !0xff {
        hook_end::EXITED => error.because(format!("it exited with {low}")),
        hook_end::SIGNALED => error.because(format!("it was killed by signal {low}")),
        hook_end::TIMED_OUT => error.because(format!("it ran longer than {} s and was killed", milliseconds / 1000)),
        _ => error.errno(failure.errno),
    }
}

/// Why the payload's executable cannot be one: from the errno, the mode of the file, and its first bytes.
pub fn command(name: &str, failure: &Failure) -> Error {
    const ENOENT: i32 = 2;
    const ENOEXEC: i32 = 8;
    const EACCES: i32 = 13;
    const KIND: u32 = 0o170_000;
    const DIRECTORY: u32 = 0o040_000;
    let facts = failure.facts;
    let seen = facts & executable::SEEN != 0;
    let refused = |kind, errno| Error::new(kind, format!("exec {name}")).errno(errno).because(small(errno));
    let missing = || refused(Kind::CommandNotFound, ENOENT);
    let not_executable = |why: &str| refused(Kind::CommandNotExecutable, failure.errno).hint(why);
    if facts & executable::NOT_FOUND != 0 {
        let doing = format!("exec {name:?}: executable file not found in $PATH");
        return Error::new(Kind::CommandNotFound, doing);
    }
    if seen && facts & KIND == DIRECTORY {
        return refused(Kind::CommandNotExecutable, EACCES).hint("it is a directory");
    }
    match failure.errno {
        ENOENT if !seen => missing(),
        ENOENT => match needed(&failure.head) {
            Some(Needed::Interpreter(path)) if path.ends_with('\r') => {
                missing().hint(format!("its first line names the interpreter {path:?}: the file has Windows line ends"))
            }
            Some(Needed::Interpreter(path)) => missing().hint(format!("its interpreter {path} is missing")),
            Some(Needed::Loader(path)) => {
                missing().hint(format!("its loader {path} is missing: it is linked for another C library"))
            }
            None => missing(),
        },
        ENOEXEC => match machine(&failure.head) {
            Some(machine) => {
                not_executable(&format!("it is built for {machine}, this machine is {}", std::env::consts::ARCH))
            }
            None if failure.head.is_empty() => not_executable("it is empty"),
            None => not_executable("it is neither an ELF file nor a script with a #! line"),
        },
        EACCES if facts & executable::NOEXEC != 0 => not_executable("it is on a file system mounted noexec"),
        EACCES if seen && facts & 0o111 == 0 => not_executable("it has no execute permission"),
        EACCES => not_executable("the user may not execute it, or may not search a directory on the way"),
        errno => refused(Kind::CommandNotExecutable, errno),
    }
}

/// An errno in small letters: Docker's client tells 126 and 127 by these words, and heeds the case.
fn small(errno: i32) -> String {
    errno_text(errno).to_lowercase()
}

/// Another file that a program cannot run without.
enum Needed {
    Interpreter(String),
    Loader(String),
}

fn needed(head: &[u8]) -> Option<Needed> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?;
        let text = String::from_utf8_lossy(line);
        let path = text.trim_start_matches([' ', '\t']);
        let end = path.find([' ', '\t']).unwrap_or(path.len());
        return Some(Needed::Interpreter(path[..end].to_owned()));
    }
    // ELF, 64 bits, little endian: program headers at e_phoff, of which PT_INTERP (3) names the loader.
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let word = |at: usize, length: usize| {
        let bytes = head.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0usize, |value, byte| value << 8 | usize::from(*byte)))
    };
    let (table, size, count) = (word(32, 8)?, word(54, 2)?, word(56, 2)?);
    for index in 0..count {
        let entry = table.checked_add(index.checked_mul(size)?)?;
        if word(entry, 4)? == 3 {
            let (offset, length) = (word(entry.checked_add(8)?, 8)?, word(entry.checked_add(32)?, 8)?);
            let path = head.get(offset..offset.checked_add(length)?)?;
            return Some(Needed::Loader(String::from_utf8_lossy(path).trim_end_matches('\0').to_owned()));
        }
    }
    None
}

/// The machine an ELF file is for, where it is not this one.
fn machine(head: &[u8]) -> Option<&'static str> {
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    Some(match (head.get(18)?, head.get(4)?) {
        (0x3e, _) => "x86_64",
        (0xb7, _) => "aarch64",
        (0x28, _) => "arm",
        (0x03, _) => "i386",
        (0xf3, _) => "riscv",
        (0x15, _) => "powerpc64",
        (0x16, _) => "s390x",
        _ => "another machine",
    })
}

fn kinds(flags: u64) -> &'static str {
    use crate::namespaces::*;
    match flags {
        NEWTIME => "time",
        NEWNS => "mount",
        NEWCGROUP => "cgroup",
        NEWUTS => "UTS",
        NEWIPC => "IPC",
        NEWUSER => "user",
        NEWPID => "pid",
        NEWNET => "network",
        _ => "several",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(errno: i32, facts: u32, head: &[u8]) -> String {
        command("/bin/x", &Failure { step: 0, errno, facts, head: head.to_vec() }).to_string()
    }

    #[test]
    fn a_missing_command_is_told_in_the_words_that_engines_match() {
        let error = failed(2, executable::NOT_FOUND, b"");
        assert_eq!(error, "exec \"/bin/x\": executable file not found in $PATH");
    }

    #[test]
    fn a_script_with_windows_line_ends_is_recognised() {
        let error = failed(2, executable::SEEN | 0o100_755, b"#!/bin/sh\r\nexit\r\n");
        assert!(error.contains("Windows line ends"), "{error}");
    }

    #[test]
    fn a_missing_loader_is_named() {
        let mut head = vec![0; 256];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[32] = 64;
        head[54] = 56;
        head[56] = 1;
        head[64] = 3;
        head[72] = 200;
        head[96] = 12;
        head[200..211].copy_from_slice(b"/lib/ld.so\0");
        let error = failed(2, executable::SEEN | 0o100_755, &head);
        assert!(error.contains("its loader /lib/ld.so is missing"), "{error}");
        head[96] = 255;
        assert!(!failed(2, executable::SEEN | 0o100_755, &head).contains("loader"));
    }

    #[test]
    fn other_reasons_are_told_apart() {
        assert!(failed(13, executable::SEEN | 0o040_755, b"").contains("it is a directory"));
        assert!(failed(13, executable::SEEN | 0o100_644, b"").contains("no execute permission"));
        assert!(failed(13, executable::SEEN | executable::NOEXEC | 0o100_755, b"").contains("noexec"));
        assert!(
            failed(8, executable::SEEN | 0o100_755, b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0")
                .contains("aarch64")
        );
    }
}
