//! One more process in a machine's container: a stand-in of its own on the host, whose end is that process's end.

use crate::host::control::{Connection, Reply, Request};
use crate::host::seclude;
use crate::pty::Pty;
use crate::reduce::reduce_process;
use serde_json::Value;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use wharf_core::{Ended, Error, Exec, Joined, Kind, Record, Remark, Result, Terminal, read_file};
use wharf_foreground::Relay;
use wharf_sys::namespace::{Side, clone};
use wharf_sys::{CWD, Errno, Fd, fd, libc, process, signal, socket, terminal};

/// How long the guest may take to make the process.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn exec(record: &Record, dir: BorrowedFd<'_>, asked: &Exec) -> Result<Box<dyn Joined>> {
    let refuse =
        |option: &str, why: &str| Err(Error::unsupported(format!("{option} in a virtual machine")).because(why));
    if asked.preserve_fds > 0 {
        return refuse("--preserve-fds", "descriptors of the host do not reach into it");
    }
    if asked.pidfd_socket.is_some() {
        return refuse("--pidfd-socket", "its processes are not of this host");
    }
    if asked.exit_record.is_some() {
        return refuse("--exit-record", "what the process uses is counted by the machine's kernel");
    }
    if asked.apparmor.is_some() || asked.process_label.is_some() {
        return refuse("--apparmor or --process-label", "its kernel has no such policy");
    }
    let mut remarks = Vec::new();
    let mut wanted = asked.tty;
    let process = match &asked.process {
        None => None,
        Some(path) => {
            let doing = format!("read process {}", path.display());
            let raw = read_file(&doing, path)?;
            // Its form is judged with places; its sense in the guest.
            wharf_core::parse_process(&raw, path)?;
            let mut value: Value =
                serde_json::from_slice(&raw).map_err(|error| Error::invalid(doing).because(error))?;
            if let Some(process) = value.as_object_mut() {
                reduce_process(process, "", &mut remarks);
                wanted |= process.get("terminal") == Some(&Value::Bool(true));
            }
            Some(value.to_string())
        }
    };
    let judged = Terminal::judge(wanted, asked.console_socket.as_deref(), !asked.detach)?;
    let gone = || Error::new(Kind::NotRunning, format!("exec in container {}: container not running", record.id));
    let connection = Connection::open(dir)?.ok_or_else(gone)?;
    if !asked.detach {
        // From here on signals are for the process, and wait until there is one.
        signal::block_all().map_err(|errno| Error::system("block signals", errno as i32))?;
    }
    let pty = Pty::open(judged, None)?;
    let failed = |errno: Errno| Error::system("stand in for the process", errno as i32);
    let (ours, theirs) = socket::pair().map_err(failed)?;
    let slave = pty.as_ref().map(|pty| &pty.slave);
    let standing = Standing { go: &theirs, connection: &connection, terminal: slave };
    let (pid, pidfd) = match clone(0, None).map_err(failed)? {
        Side::Child => {
            drop(ours);
            standing.live()
        }
        Side::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    let request = Request::Exec { words: words(asked), arguments: asked.args.clone(), process, terminal: wanted };
    Ok(Box::new(Member {
        pid,
        pidfd,
        go: Some(ours),
        connection: Some(connection),
        request,
        pty,
        relay: None,
        remarks,
    }))
}

/// The options that the guest's exec gets too.
fn words(asked: &Exec) -> Vec<String> {
    let mut words = Vec::new();
    let mut say = |option: &str, value: String| words.extend([option.to_owned(), value]);
    if let Some(user) = asked.user {
        let group = user.gid.map(|gid| format!(":{gid}")).unwrap_or_default();
        say("--user", format!("{}{group}", user.uid));
    }
    asked.additional_gids.iter().for_each(|gid| say("--additional-gids", gid.to_string()));
    asked.cwd.iter().for_each(|cwd| say("--cwd", cwd.clone()));
    asked.env.iter().for_each(|variable| say("--env", variable.clone()));
    asked.capabilities.iter().for_each(|capability| say("--cap", capability.clone()));
    asked.cgroups.iter().for_each(|cgroup| say("--cgroup", cgroup.clone()));
    if let Some(set) = asked.no_new_privileges {
        words.push(format!("--no-new-privs={set}"));
    }
    if asked.tty {
        words.push("--tty".to_owned());
    }
    words
}

struct Member {
    pid: i32,
    pidfd: OwnedFd,
    /// Lets its stand-in go on; none after the release.
    go: Option<OwnedFd>,
    connection: Option<Connection>,
    request: Request,
    pty: Option<Pty>,
    relay: Option<Relay>,
    remarks: Vec<Remark>,
}

impl Joined for Member {
    fn pid(&self) -> i32 {
        self.pid
    }

    fn remarks(&self) -> Vec<Remark> {
        self.remarks.clone()
    }

    fn release(&mut self) -> Result<()> {
        let failed = |errno: Errno| Error::system("exec in the virtual machine", errno as i32);
        let Some(connection) = self.connection.take() else { return Err(failed(Errno::ENOTCONN)) };
        connection.send(&self.request)?;
        match &self.pty {
            Some(pty) => connection.pass(&pty.slave)?,
            None => (0..3).try_for_each(|number| connection.pass(&fd::duplicate(Fd(number)).map_err(failed)?))?,
        }
        let reply = connection.receive(Some(PATIENCE))?;
        reply
            .ok_or_else(|| Error::new(Kind::NotRunning, "exec in the virtual machine: container not running"))?
            .into_result()?;
        if let Some((host, master)) = self.pty.take().and_then(|pty| pty.foreground) {
            self.relay = Some(Relay::begin(host, master).map_err(|errno| {
                Error::system("make our own terminal the process's", errno as i32).at("process/terminal")
            })?);
        }
        match self.go.take() {
            Some(go) => socket::send(&go, b"go", None).map_err(failed),
            None => Ok(()),
        }
    }

    fn wait(mut self: Box<Self>) -> Result<Ended> {
        let failed = |errno: Errno| Error::system("wait for a process in the virtual machine", errno as i32);
        wharf_foreground::wait(self.pid, self.relay.take(), None).map_err(failed)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.go.take().is_some() {
            let _ = process::signal(&self.pidfd, libc::SIGKILL);
            let _ = process::wait(self.pid, 0);
        }
    }
}

/// What stands for the process on this host.
struct Standing<'a> {
    go: &'a OwnedFd,
    connection: &'a Connection,
    terminal: Option<&'a OwnedFd>,
}

impl Standing<'_> {
    /// Ends as the process has ended.
    fn live(&self) -> ! {
        match self.stand() {
            Ok(status) => wharf_monitor::stand_in::end_as(wharf_core::Ended::of_status(status)),
            // The container was ended, and every process of it.
            Err(_) => {
                wharf_monitor::stand_in::end_as(wharf_core::Ended::Signaled { signal: libc::SIGKILL, core: None })
            }
        }
    }

    fn stand(&self) -> Result<i32, Errno> {
        process::set_session()?;
        signal::block_all()?;
        let signals = signal::descriptor()?;
        let terminal = self.terminal.map(fd::duplicate).transpose()?;
        if let Some(terminal) = &terminal {
            terminal::take_control(terminal)?;
            terminal::Settings::of(terminal)?.raw().without_onlcr().apply(terminal)?;
        }
        // The caller's are the stand-in's of the machine: who waits for their end waits for that one.
        let null = fd::openat(CWD, c"/dev/null", libc::O_RDWR, 0)?;
        (0..3).try_for_each(|number| fd::dup_to(&null, number))?;
        seclude(None).map_err(|_| Errno::EPERM)?;
        match socket::receive(self.go, &mut [0; 8]) {
            Ok((2, _)) => {}
            _ => return Err(Errno::ECANCELED),
        }
        let size = |terminal: &OwnedFd| {
            let size = terminal::size(terminal)?;
            let request = Request::Window { rows: size.rows, columns: size.columns };
            self.connection.send(&request).map_err(|_| Errno::EPIPE)
        };
        if let Some(terminal) = &terminal {
            size(terminal)?;
        }
        loop {
            let [heard, told] = process::ready([signals.as_fd(), self.connection.as_fd()], -1)?;
            if told {
                return match self.connection.receive(None) {
                    Ok(Some(Reply::Exit(status))) => Ok(status),
                    _ => Err(Errno::ECONNRESET),
                };
            }
            if !heard {
                continue;
            }
            while let Some(number) = signal::take(&signals)? {
                match (number, &terminal) {
                    (
                        libc::SIGCHLD | libc::SIGURG | libc::SIGPIPE | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU,
                        _,
                    ) => {}
                    (libc::SIGWINCH, Some(terminal)) => size(terminal)?,
                    (libc::SIGHUP | libc::SIGCONT, Some(_)) => {}
                    _ => self.connection.send(&Request::Signal { signal: number }).map_err(|_| Errno::EPIPE)?,
                }
            }
        }
    }
}
