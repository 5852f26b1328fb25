//! `checkpoint --check`: its verdict is the outcome, on containers that cannot be written down, or only with a flag.

use crate::checkpoint::{Criu, text};
use harness::{Bundle, Container, Desk, Feature, Finished, Host, Outcome, Stop, ensure, ensure_eq, json, limit};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The words that `--check` has for it, and the flag that helps.
#[derive(Clone, Copy)]
struct Case {
    what: &'static str,
    /// Of Python, in a container with the host's programs: nothing else opens such things in a line.
    script: &'static str,
    /// Empty where nothing is in the way.
    says: &'static str,
    flag: Option<&'static str>,
    /// Namespaces that are the host's.
    without: &'static [&'static str],
}

const PLAIN: Case = Case { what: "", script: "pass", says: "", flag: None, without: &[] };
const OUTSIDE: &str = "has a unix socket whose other end is outside of the container";

const CASES: [Case; 32] = [
    Case { what: "nothing special", ..PLAIN },
    Case {
        what: "pipes, timers and an epoll",
        script: "e=select.epoll(); p=os.pipe(); s=socket.socketpair(); e.register(p[0])",
        ..PLAIN
    },
    Case {
        what: "a locked file",
        script: "f=open('/scratch/f','w'); fcntl.flock(f, fcntl.LOCK_EX)",
        says: "holds the lock of a file",
        flag: Some("--file-locks"),
        ..PLAIN
    },
    Case {
        what: "an established TCP connection",
        script: "s=socket.socket(); s.bind(('127.0.0.1',0)); s.listen(); \
                 c=socket.create_connection(s.getsockname()); a=s.accept()",
        says: "a TCP connection is established",
        flag: Some("--tcp-established"),
        ..PLAIN
    },
    Case {
        what: "an io_uring",
        script: "b=ctypes.create_string_buffer(120); n=l.syscall(425,4,b); check(n)",
        says: "[io_uring] open, which criu does not know",
        ..PLAIN
    },
    Case {
        what: "a userfaultfd",
        script: "check(l.syscall(323,1))",
        says: "[userfaultfd] open, which criu does not know",
        ..PLAIN
    },
    Case { what: "a memfd", script: "f=os.memfd_create('x'); os.write(f, b'x')", ..PLAIN },
    Case { what: "an inotify", script: "f=l.inotify_init(); l.inotify_add_watch(f, b'/scratch', 2)", ..PLAIN },
    Case { what: "a shared memory segment", script: "i=check(l.shmget(0,4096,0o1600))", ..PLAIN },
    Case { what: "a child that has ended", script: "os.fork() or os._exit(0)", ..PLAIN },
    Case { what: "a socket of the kernel's messages", script: "s=socket.socket(16,3,0)", ..PLAIN },
    Case {
        what: "a socket of virtual machines",
        script: "s=socket.socket(40,1,0)",
        says: "has a socket of address family 40 open, which criu does not know",
        ..PLAIN
    },
    Case {
        what: "a socket of the kernel's ciphers",
        script: "s=socket.socket(38,5,0)",
        says: "has a socket of address family 38 open, which criu does not know",
        ..PLAIN
    },
    Case {
        what: "a stream to a unix socket outside",
        script: "s=socket.socket(1,1); s.connect('/outside/stream')",
        says: OUTSIDE,
        ..PLAIN
    },
    Case {
        what: "a stream to a unix socket outside, on the host's network",
        script: "s=socket.socket(1,1); s.connect('/outside/stream')",
        says: OUTSIDE,
        without: &["network"],
        ..PLAIN
    },
    Case {
        what: "datagrams to a unix socket outside",
        script: "s=socket.socket(1,2); s.connect('/outside/datagram')",
        says: OUTSIDE,
        ..PLAIN
    },
    Case {
        what: "datagrams to a unix socket outside, on the host's network",
        script: "s=socket.socket(1,2); s.connect('/outside/datagram')",
        says: OUTSIDE,
        flag: Some("--ext-unix-sk"),
        without: &["network"],
    },
    Case {
        what: "a process that is traced",
        script: "p=os.fork() or time.sleep(1000); check(l.syscall(101,0x4206,p,0,0))",
        says: "is traced by another process",
        ..PLAIN
    },
    Case {
        what: "a nested pid namespace",
        script: "check(l.unshare(0x20000000)); os.fork() or time.sleep(1000)",
        says: "has a pid namespace of its own",
        ..PLAIN
    },
    Case {
        what: "a nested mount namespace",
        script: "os.fork() or (check(l.unshare(0x20000)), time.sleep(1000))",
        ..PLAIN
    },
    Case {
        what: "a nested network namespace",
        script: "os.fork() or (check(l.unshare(0x40000000)), time.sleep(1000))",
        says: "has a network namespace of its own",
        ..PLAIN
    },
    Case {
        what: "a nested name of the host",
        script: "os.fork() or (check(l.unshare(0x4000000)), time.sleep(1000))",
        says: "has a uts namespace of its own",
        ..PLAIN
    },
    Case {
        what: "connections within",
        script: "s=socket.socket(1,1); s.bind('/scratch/s'); s.listen(); c=socket.socket(1,1); \
                 c.connect('/scratch/s'); d=socket.socket(1,1); d.connect('/scratch/s'); a=s.accept()",
        ..PLAIN
    },
    Case { what: "a stream whose other end is closed", script: "p,q=socket.socketpair(); p.close()", ..PLAIN },
    Case {
        what: "a stream to a unix socket outside that waits to be accepted",
        script: "s=socket.socket(1,1); s.connect('/outside/busy')",
        says: OUTSIDE,
        ..PLAIN
    },
    Case {
        what: "a removed file of two mebibytes",
        script: "f=open('/scratch/f','wb'); f.write(b'x'*(2<<20)); f.flush(); os.unlink('/scratch/f')",
        says: "of which criu keeps a mebibyte at most",
        ..PLAIN
    },
    Case {
        what: "a small file that was removed",
        script: "f=open('/scratch/f','w'); os.unlink('/scratch/f')",
        ..PLAIN
    },
    Case {
        what: "a removed file by another name",
        script: "f=open('/scratch/f','w'); os.link('/scratch/f','/scratch/g'); os.unlink('/scratch/f')",
        says: "which has another name",
        flag: Some("--link-remap"),
        ..PLAIN
    },
    Case { what: "the host's network", without: &["network"], ..PLAIN },
    Case { what: "the host's shared memory", without: &["ipc"], ..PLAIN },
    Case { what: "the host's name", without: &["uts"], ..PLAIN },
    Case { what: "the host's processes", without: &["pid"], ..PLAIN },
];

pub(crate) fn trials() -> Feature {
    let feature = CASES.iter().fold(Feature::new("checkpoint_check"), |feature, case| {
        feature.trial(&format!("{}: --check says what becomes of it", case.what), |host| verdict(host, case))
    });
    feature
        .trial("a shell's terminal: --check says what becomes of it", terminal)
        .trial("a disk that is not on ZFS: --check --name says what becomes of it", without_dataset)
}

/// With the host's programs, and sockets of the host in /outside.
fn bundle(host: &Host, case: &Case) -> Result<(Bundle, [UnixListener; 2], UnixDatagram), Stop> {
    if !Path::new("/usr/bin/python3").exists() {
        return Err(Stop::skipped("python3 is not installed"));
    }
    let script = format!(
        "import ctypes, fcntl, os, select, socket, time\n\
         l=ctypes.CDLL(None, use_errno=True)\n\
         def check(n):\n  if n < 0: raise OSError(ctypes.get_errno(), 'it cannot be had')\n  return n\n\
         try:\n  {}\n  open('/scratch/ready','w').close()\n\
         except OSError as error: open('/scratch/cannot','w').write(str(error))\n\
         time.sleep(1000)",
        case.script
    );
    let outside = host.new_dir("outside")?;
    let streams = [UnixListener::bind(outside.join("stream"))?, UnixListener::bind(outside.join("busy"))?];
    let datagram = UnixDatagram::bind(outside.join("datagram"))?;
    let mut bundle = host.bundle()?.args(&["/usr/bin/python3", "-c", &script]);
    for dir in ["usr", "lib", "lib64"].iter().filter(|dir| Path::new("/").join(dir).exists()) {
        let dir = format!("/{dir}");
        bundle = bundle.mount(&dir, "bind", &dir, &["bind", "ro"]);
    }
    for kind in case.without {
        bundle = bundle.without_namespace(kind);
        if *kind == "uts" {
            bundle = bundle.remove("/hostname");
        }
    }
    let bundle = bundle
        .mount("/scratch", "tmpfs", "tmpfs", &[])
        .mount("/outside", "bind", text(&outside), &["bind", "rw"])
        .capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_KILL"]);
    Ok((bundle, streams, datagram))
}

fn wait_until_ready(container: &Container<'_>, what: &str) -> Outcome {
    let at = PathBuf::from(format!("/proc/{}/root/scratch", container.pid()?));
    let begun = Instant::now();
    while !at.join("ready").exists() {
        if let Ok(why) = std::fs::read_to_string(at.join("cannot"))
            && !why.is_empty()
        {
            return Err(Stop::skipped(format!("{what}: {why}")));
        }
        ensure!(begun.elapsed() < limit(10), "{what} is not ready; it is {}", container.status()?);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

/// What `--check` says of it, and what then happens: it has to be the same.
fn both(
    criu: &Criu<'_>,
    container: &Container<'_>,
    images: &Path,
    flags: &[&str],
) -> Result<(Finished, Finished), Stop> {
    let words = ["--image-path", text(images)];
    let said = criu.call("checkpoint", &[&words[..], &["--check"], flags, &[container.id()]].concat())?;
    ensure_eq!(std::fs::read_dir(images)?.count(), 0, "what --check leaves");
    let outcome = criu.call("checkpoint", &[&words[..], &["--leave-running"], flags, &[container.id()]].concat())?;
    ensure_eq!(outcome.code(), said.code(), "--check {flags:?}: {said}; the outcome: {outcome}");
    ensure_eq!(container.status()?, "running");
    for entry in std::fs::read_dir(images)?.flatten() {
        std::fs::remove_file(entry.path())?;
    }
    Ok((said, outcome))
}

fn verdict(host: &Host, case: &Case) -> Outcome {
    let criu = Criu::new(host)?;
    let (bundle, [stream, _busy], _datagram) = &bundle(host, case)?;
    let container = criu.start(bundle)?;
    wait_until_ready(&container, case.what)?;
    stream.set_nonblocking(true)?;
    let _connection = stream.accept().ok();
    let images = host.new_dir("images")?;
    let (said, outcome) = both(&criu, &container, &images, &[])?;
    ensure!(said.stdout.contains(case.says), "{said}; the outcome: {outcome}");
    ensure_eq!(said.code(), Some(if case.says.is_empty() { 0 } else { 1 }), "{said}; the outcome: {outcome}");
    if let Some(flag) = case.flag {
        ensure!(said.stdout.contains(&format!("({flag})")), "{flag} is not named: {said}");
        let (said, outcome) = both(&criu, &container, &images, &[flag])?;
        // Before criu 4.2 no socket of the Internet can be kept on Linux 6.16 and later.
        let old = said.stdout.contains("is too old for sockets of this kernel");
        ensure!(said.code() == Some(0) || old, "with {flag}: {said}; {outcome}");
    }
    container.delete_force()
}

/// The payload has the terminal of whoever has made the container.
fn terminal(host: &Host) -> Outcome {
    let criu = Criu::new(host)?;
    let (bundle, ..) = &bundle(host, &Case { what: "a terminal", ..PLAIN })?;
    let desk = Desk::new(24, 80)?;
    let stdio = desk.stdio()?;
    let container = Container::create_by(host, bundle, |words| {
        let plain = host.runtime.command();
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" >&0 2>&0", "sh"]).arg(plain.get_program()).args(plain.get_args());
        command.args(words).stdin(stdio);
        command
    })?;
    container.start()?;
    wait_until_ready(&container, "a terminal")?;
    let (said, _) = both(&criu, &container, &host.new_dir("images")?, &[])?;
    ensure!(said.code() == Some(1) && said.stdout.contains("is a shell's on the host (--shell-job)"), "{said}");
    container.delete_force()
}

fn without_dataset(host: &Host) -> Outcome {
    let criu = Criu::new(host)?;
    let (bundle, ..) = &bundle(host, &Case { what: "a disk elsewhere", ..PLAIN })?;
    let container = criu.start(bundle)?;
    let home = host.new_dir("home")?;
    let configuration = host.dir().join("configuration");
    std::fs::write(&configuration, json!({"storage": {"checkpoints": home}}).to_string())?;
    let call = |more: &[&str]| {
        let words = ["--config", text(&configuration), "checkpoint", "--name", "a", "--leave-running"];
        let words = criu.words(&[&words, more, &[container.id()]].concat());
        host.runtime.call(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (said, outcome) = (call(&["--check"])?, call(&[])?);
    ensure!(said.stderr.contains("its root file system") && said.stderr.contains("not on a dataset of ZFS"), "{said}");
    ensure_eq!((said.code(), said.last_line()), (outcome.code(), outcome.last_line()), "{said}; {outcome}");
    ensure_eq!((said.code(), call(&["--disk", "none", "--check"])?.code()), (Some(1), Some(0)));
    ensure_eq!(std::fs::read_dir(&home)?.count(), 0, "what is left");
    container.delete_force()
}
