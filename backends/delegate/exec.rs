//! `exec`: this process becomes the other program, so that the joined process is the caller's as it would be from that one.
//!
//! Runtimes differ in what they make of a user without a group or of a capability, and in what a command has of the
//! container's own process: with crun neither its limits nor its no_new_privs. Where there is a process object they leave
//! out what is typed beside it. So what is asked is put into such an object here, and means the same everywhere.

use crate::child::{Call, keep_only};
use crate::help::Help;
use crate::memory::Memory;
use crate::{Delegate, become_it, service, state_root};
use serde_json::Value;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use wharf_core::{Bundle, ContainerId, Error, Exec, Kind, Log, Record, Result, Status, Verb, allowed};

/// Returns only when it failed.
pub(crate) fn become_the_program(
    delegate: &Delegate,
    record: &Record,
    dir: BorrowedFd<'_>,
    asked: &Exec,
    log: Log<'_>,
) -> Error {
    attempt(delegate, record, dir, asked, log).unwrap_err()
}

/// Never `Ok`.
fn attempt(
    delegate: &Delegate,
    record: &Record,
    dir: BorrowedFd<'_>,
    asked: &Exec,
    log: Log<'_>,
) -> Result<std::convert::Infallible> {
    let doing = format!("exec in container {} with {}", record.id, delegate.name);
    service::judge_exec(&delegate.name)?;
    let memory = Memory::of(record)?;
    let status = delegate.known(record, dir, asked.preserve_fds)?.status;
    if status != Status::Paused || !asked.ignore_paused {
        allowed(&ContainerId::new(&record.id)?, status, Verb::Exec)?;
    }
    understood(delegate, &memory, asked)?;
    let call = Call::new(&memory.program, &memory.options, &state_root(dir)?).logging(log);
    // A file that is to be taken as it is goes on as it is: so engines ask.
    let as_it_is = asked.process.clone().filter(|_| !asked.changes_more_than_the_command());
    let object = if as_it_is.is_none() { Some(composed(record, asked)?) } else { None };
    keep_only(asked.preserve_fds).map_err(|unclosed| unclosed.during(&doing))?;
    let process = match object {
        Some(object) => hand_down(&object, asked.preserve_fds, &doing)?,
        None => as_it_is.unwrap_or_default(),
    };
    Err(become_it(&doing, arguments(call, &record.id, asked, &process)))
}

/// Refuses what the program would not do.
fn understood(delegate: &Delegate, memory: &Memory, asked: &Exec) -> Result<()> {
    let given = [
        ("pidfd-socket", asked.pidfd_socket.is_some(), "open the process of the pid file with pidfd_open(2)"),
        ("exit-record", asked.exit_record.is_some(), "use the native backend"),
        ("preserve-fds", asked.preserve_fds > 0, "use the native backend"),
        ("ignore-paused", asked.ignore_paused, "resume the container first"),
        ("cgroup", !asked.cgroups.is_empty(), "move the process of the pid file by its cgroup.procs"),
    ];
    if given.iter().all(|(_, given, _)| !given) {
        return Ok(());
    }
    let help = Help::ask(&delegate.name, &memory.program, "exec", asked.preserve_fds, delegate.answer_time)?;
    given.iter().filter(|(_, given, _)| *given).try_for_each(|(option, _, instead)| help.require(option, instead))?;
    // crun takes the word as it is for a path, and the last one for the only one.
    let by_controller = asked.cgroups.len() > 1 || asked.cgroups.iter().any(|cgroup| cgroup.contains(':'));
    match by_controller && !help.says("<controller>:") {
        true => help.refuse("--cgroup with a controller", "give one path, or use the native backend"),
        false => Ok(()),
    }
}

/// The process object with what is asked of it; of all else it keeps the words that it has.
fn composed(record: &Record, asked: &Exec) -> Result<Value> {
    let (mut object, own) = match &asked.process {
        Some(path) => {
            let doing = format!("read process {}", path.display());
            let raw = wharf_core::read_file(&doing, path)?;
            let process = wharf_core::parse_process(&raw, path)?;
            let object = serde_json::from_slice(&raw);
            (object.map_err(|error| Error::new(Kind::System, doing.as_str()).because(error))?, process)
        }
        None => {
            let bundle = Bundle::open(Path::new(&record.bundle))?;
            let missing = || Error::invalid(format!("exec in container {}", record.id)).because("it has no process");
            let mut config: Value = serde_json::from_slice(&bundle.raw).map_err(|error| missing().because(error))?;
            (config["process"].take(), bundle.spec.process().clone().ok_or_else(missing)?)
        }
    };
    let changed = serde_json::to_value(asked.change(own)?)
        .map_err(|error| Error::new(Kind::System, format!("exec in container {}", record.id)).because(error))?;
    let touched = [
        ("args", !asked.args.is_empty()),
        ("terminal", true),
        ("user", asked.user.is_some() || !asked.additional_gids.is_empty()),
        ("cwd", asked.cwd.is_some()),
        ("env", !asked.env.is_empty()),
        ("capabilities", !asked.capabilities.is_empty()),
        ("apparmorProfile", asked.apparmor.is_some()),
        ("selinuxLabel", asked.process_label.is_some()),
        ("noNewPrivileges", asked.no_new_privileges.is_some()),
    ];
    for (name, _) in touched.into_iter().filter(|(_, touched)| *touched) {
        object[name] = changed[name].clone();
    }
    Ok(object)
}

/// Leaves the object open behind the descriptors that are handed on, and says by what path the program finds it. Both crun
/// and runc close it before the container's process sees it.
fn hand_down(object: &Value, preserved: u32, doing: &str) -> Result<PathBuf> {
    let failed = |errno: wharf_sys::Errno| Error::system(format!("{doing}: hand on its process"), errno as i32);
    let write = || -> std::result::Result<OwnedFd, wharf_sys::Errno> {
        let file = wharf_sys::fd::memfd(c"process.json", false)?;
        wharf_sys::fd::write_all(&file, object.to_string().as_bytes())?;
        Ok(file)
    };
    let file = write().map_err(failed)?;
    let number = i32::try_from(preserved.saturating_add(3)).unwrap_or(i32::MAX);
    if file.as_raw_fd() == number {
        wharf_sys::fd::set_cloexec(&file, false).map_err(failed)?;
        // Until the exec.
        std::mem::forget(file);
    } else {
        wharf_sys::fd::dup_to(&file, number).map_err(failed)?;
    }
    Ok(PathBuf::from(format!("/proc/self/fd/{number}")))
}

/// The request as the other program is told it.
fn arguments(call: Call, id: &str, asked: &Exec, process: &Path) -> Call {
    let mut call = call.args(["exec"]);
    let paths = [
        ("--process", Some(process)),
        ("--pid-file", asked.pid_file.as_deref()),
        ("--exit-record", asked.exit_record.as_deref()),
        ("--pidfd-socket", asked.pidfd_socket.as_deref()),
        ("--console-socket", asked.console_socket.as_deref()),
    ];
    for (name, path) in paths {
        if let Some(path) = path {
            call = call.args([name]).args([path]);
        }
    }
    if asked.preserve_fds > 0 {
        call = call.args(["--preserve-fds", &asked.preserve_fds.to_string()]);
    }
    for path in &asked.cgroups {
        call = call.args(["--cgroup", path]);
    }
    let switches = [("--ignore-paused", asked.ignore_paused), ("--detach", asked.detach)];
    call.args(switches.into_iter().filter(|(_, given)| *given).map(|(name, _)| name)).args([id])
}
