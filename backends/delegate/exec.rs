//! `exec`: this process becomes the other program, so that the joined process is the caller's as it would be from that one.

use crate::child::{Call, keep_only};
use crate::memory::Memory;
use crate::{Delegate, io, service, state_root};
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use wharf_core::{Error, Exec, Log, Record};

/// Returns only when it failed.
pub(crate) fn become_the_program(
    delegate: &Delegate,
    record: &Record,
    dir: BorrowedFd<'_>,
    asked: &Exec,
    log: Option<Log<'_>>,
) -> Error {
    let doing = format!("exec in container {} with {}", record.id, delegate.name);
    let call = match Memory::of(record)
        .and_then(|memory| Ok(Call::new(&memory.program, &memory.options, &state_root(dir)?)))
    {
        Ok(call) => call,
        Err(error) => return error,
    };
    let call = match log {
        Some(log) => call.log(log.file, log.json),
        None => call.quiet(),
    };
    if let Err(refused) = service::judge_exec(&delegate.name) {
        return refused;
    }
    if let Err(unclosed) = keep_only(asked.preserve_fds) {
        return unclosed.during(&doing);
    }
    io(&doing, &arguments(call, &record.id, asked).into_command().exec())
}

/// The request as the other program is told it.
pub(crate) fn arguments(call: Call, id: &str, asked: &Exec) -> Call {
    let mut call = call.args(["exec"]);
    let paths = [
        ("--process", &asked.process),
        ("--pid-file", &asked.pid_file),
        ("--pidfd-socket", &asked.pidfd_socket),
        ("--console-socket", &asked.console_socket),
    ];
    for (name, path) in paths {
        if let Some(path) = path {
            call = call.args([name]).args([path]);
        }
    }
    let user = asked.user.map(|user| match user.gid {
        Some(gid) => format!("{}:{gid}", user.uid),
        None => user.uid.to_string(),
    });
    let preserved = (asked.preserve_fds > 0).then(|| asked.preserve_fds.to_string());
    let texts = [
        ("--user", &user),
        ("--cwd", &asked.cwd),
        ("--apparmor", &asked.apparmor),
        ("--process-label", &asked.process_label),
        ("--preserve-fds", &preserved),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            call = call.args([name, text]);
        }
    }
    let gids: Vec<String> = asked.additional_gids.iter().map(u32::to_string).collect();
    let lists = [
        ("--additional-gids", &gids),
        ("--env", &asked.env),
        ("--cap", &asked.capabilities),
        ("--cgroup", &asked.cgroups),
    ];
    for (name, list) in lists {
        for text in list {
            call = call.args([name, text]);
        }
    }
    let switches = [
        ("--tty", asked.tty),
        ("--no-new-privs", asked.no_new_privileges == Some(true)),
        ("--no-new-privs=false", asked.no_new_privileges == Some(false)),
        ("--ignore-paused", asked.ignore_paused),
        ("--detach", asked.detach),
    ];
    call = call.args(switches.into_iter().filter(|(_, given)| *given).map(|(name, _)| name));
    call.args([id]).args(&asked.args)
}
