//! Commands that concern processes, memory, signals and the network.

use crate::{Found, Refused, number, say};
use nix::sys::signal::{SigSet, Signal};
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

pub(crate) fn perform(verb: &str, args: &[&str]) -> Found {
    match (verb, args) {
        ("nothing", []) => Ok(Value::Null),
        ("say", words) => Ok(json!({ "said": words })),
        ("complain", words) => {
            eprintln!("{}", words.join(" "));
            Ok(Value::Null)
        }
        ("flood", [stream, mebibytes]) => flood(stream, number(mebibytes)? as usize),
        ("exit", [code]) => std::process::exit(number(code)? as i32),
        ("sleep", []) => {
            std::thread::sleep(Duration::from_secs(3600));
            Ok(Value::Null)
        }
        ("sleep", [milliseconds]) => {
            std::thread::sleep(Duration::from_millis(number(milliseconds)? as u64));
            Ok(Value::Null)
        }
        ("count", [path]) => count(path),
        ("number-lines", [sync, paths @ ..]) => number_lines(sync.parse().unwrap_or(8), paths),
        ("wait-signal", []) => wait_signal(),
        ("wait-file", [path]) => wait_file(path),
        ("ignore-signals", []) => Ok(SigSet::all().thread_block().map(|()| Value::Null)?),
        ("kill-self", [signal]) => {
            // Our language's runtime ignores SIGPIPE.
            wharf_sys::signal::reset_all()?;
            nix::sys::signal::raise(signal_of(signal)?)?;
            std::thread::sleep(Duration::from_millis(200));
            Ok(Value::Null)
        }
        ("crash-in-thread", [signal]) => {
            let signal = signal_of(signal)?;
            let _ = std::thread::spawn(move || nix::sys::signal::raise(signal)).join();
            Ok(Value::Null)
        }
        ("end-by-thread", [code]) => {
            let code = number(code)? as i32;
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                std::process::exit(code)
            });
            wharf_sys::process::end_thread()
        }
        ("kill", [pid, signal]) => {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(number(pid)? as i32), signal_of(signal)?)?;
            Ok(Value::Null)
        }
        ("alloc", [mebibytes]) => alloc(number(mebibytes)? as usize),
        ("write-direct", [path, mebibytes]) => write_direct(path, number(mebibytes)? as usize),
        ("hold", [mebibytes]) => hold(number(mebibytes)? as usize),
        ("fork", [count]) => fork(number(count)? as usize),
        ("fork-on", []) => fork_on(),
        ("fork-bomb", words) => fork_bomb(words.is_empty()),
        ("spin", [milliseconds]) => spin(number(milliseconds)? as u64),
        ("spawn", words) if !words.is_empty() => spawn(words),
        ("syscall", [name, words @ ..]) => syscall(name, words),
        ("notify", [words]) => {
            let name = std::env::var("NOTIFY_SOCKET").map_err(|_| Refused::Usage("no NOTIFY_SOCKET".to_owned()))?;
            std::os::unix::net::UnixDatagram::unbound()?.send_to(words.as_bytes(), name)?;
            Ok(Value::Null)
        }
        ("listen", [port]) => {
            let listener = std::net::TcpListener::bind(("127.0.0.1", port.parse()?))?;
            Ok(json!({ "listening": listener.local_addr()?.to_string() }))
        }
        ("fetch", [address]) => {
            let mut words = String::new();
            std::io::Read::read_to_string(&mut std::net::TcpStream::connect(*address)?, &mut words)?;
            Ok(json!({ "fetched": words }))
        }
        ("setrlimit", [name, soft, hard]) => setrlimit(name, soft, hard),
        _ => Err(Refused::Usage(format!("no such command, or wrong number of arguments: {verb} {}", args.join(" ")))),
    }
}

/// Writes so many mebibytes to stdout or stderr.
fn flood(stream: &str, mebibytes: usize) -> Found {
    let block = vec![b'x'; 1 << 20];
    for _ in 0..mebibytes {
        match stream {
            "stdout" => std::io::stdout().write_all(&block)?,
            _ => std::io::stderr().write_all(&block)?,
        }
    }
    Ok(Value::Null)
}

fn signal_of(name: &str) -> Result<Signal, Refused> {
    Ok(Signal::from_str(&format!("SIG{name}"))?)
}

/// Says that it is ready, waits for any signal, and says which one came. As PID 1 nothing else would be delivered.
fn wait_signal() -> Found {
    let all = SigSet::all();
    all.thread_block()?;
    say(&json!({ "ready": true }));
    Ok(json!({ "signal": all.wait()?.as_str() }))
}

fn wait_file(path: &str) -> Found {
    let begun = Instant::now();
    while !std::path::Path::new(path).exists() {
        if begun.elapsed() > Duration::from_secs(600) {
            return Err(Refused::Errno(nix::libc::ETIMEDOUT));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Value::Null)
}

/// Says that it is ready, then writes how far it has counted into a file, for ever.
/// One number after the other, a line each, at the end of every file: what is in memory is what comes next.
fn number_lines(sync: u64, paths: &[&str]) -> Found {
    use std::io::Write as _;
    say(&json!({ "ready": true }));
    for number in 1u64.. {
        for path in paths {
            let mut file = std::fs::File::options().append(true).create(true).open(path)?;
            writeln!(file, "{number}")?;
            if sync != 0 && number % sync == 0 {
                file.sync_all()?;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(Value::Null)
}

fn count(path: &str) -> Found {
    say(&json!({ "ready": true }));
    for number in 1u64.. {
        std::fs::write(path, format!("{number:12}"))?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(Value::Null)
}

/// Says that it is ready, then makes one short-lived child after the other, for ever.
fn fork_on() -> Found {
    say(&json!({ "ready": true }));
    loop {
        Command::new(own_path()).args(["exit", "0"]).status()?;
    }
}

/// Says that it is ready, then makes copies of itself that make copies of themselves, for ever.
fn fork_bomb(first: bool) -> Found {
    if first {
        say(&json!({ "ready": true }));
    }
    loop {
        if Command::new(own_path()).args(["fork-bomb", "again"]).spawn().is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Takes the memory and touches every page; the kernel may kill us for it.
fn alloc(mebibytes: usize) -> Found {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mebibytes {
        let mut block = vec![0u8; 1 << 20];
        block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        blocks.push(block);
    }
    let sum: usize = blocks.iter().map(|block| block[0] as usize).sum();
    Ok(json!({ "allocated": sum }))
}

/// Past the cache of files: what is written is on its way to the device when this returns.
fn write_direct(path: &str, mebibytes: usize) -> Found {
    const PAGE: usize = 4096;
    let direct = nix::fcntl::OFlag::O_DIRECT.bits();
    let mut file = std::fs::OpenOptions::new().write(true).create(true).custom_flags(direct).open(path)?;
    let block = vec![1u8; (1 << 20) + PAGE];
    let skipped = block.as_ptr().align_offset(PAGE);
    for _ in 0..mebibytes {
        file.write_all(&block[skipped..][..1 << 20])?;
    }
    Ok(json!({ "written": mebibytes << 20 }))
}

/// Takes memory, says so, and keeps it.
fn hold(mebibytes: usize) -> Found {
    let block = vec![1u8; mebibytes << 20];
    say(&json!({ "ready": block.len() }));
    std::thread::sleep(Duration::from_secs(3600));
    Ok(json!({ "held": std::hint::black_box(&block).len() }))
}

/// How many children can be made, up to `count`, and what the kernel said to the first that could not.
fn fork(count: usize) -> Found {
    let mut children = Vec::new();
    let mut refused = Value::Null;
    for _ in 0..count {
        match Command::new(own_path()).arg("sleep").spawn() {
            Ok(child) => children.push(child),
            Err(error) => {
                refused = json!(crate::errno_name(error.raw_os_error().unwrap_or(0)));
                break;
            }
        }
    }
    let made = children.len();
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok(json!({ "made": made, "refused": refused }))
}

fn spin(milliseconds: u64) -> Found {
    let begun = Instant::now();
    let mut turns = 0u64;
    while begun.elapsed() < Duration::from_millis(milliseconds) {
        turns = std::hint::black_box(turns + 1);
    }
    Ok(json!({ "turns": turns }))
}

fn spawn(words: &[&str]) -> Found {
    let out = Command::new(words[0]).args(&words[1..]).output()?;
    Ok(json!({
        "code": out.status.code(),
        "stdout": String::from_utf8_lossy(&out.stdout),
        "stderr": String::from_utf8_lossy(&out.stderr),
    }))
}

pub(crate) fn own_path() -> String {
    std::env::args().next().unwrap_or_else(|| "/bin/payload".to_owned())
}

fn syscall(name: &str, words: &[&str]) -> Found {
    let mut args = [0i64; 5];
    for (slot, word) in args.iter_mut().zip(words) {
        *slot = number(word)?;
    }
    match wharf_sys::probe::call(name, args) {
        Some(Ok(result)) => Ok(json!({ "result": result })),
        Some(Err(errno)) => Err(Refused::Errno(errno)),
        None => Err(Refused::Usage(format!("unknown system call {name}"))),
    }
}

fn setrlimit(name: &str, soft: &str, hard: &str) -> Found {
    use nix::sys::resource::{Resource, setrlimit};
    let resource = match name {
        "nofile" => Resource::RLIMIT_NOFILE,
        "core" => Resource::RLIMIT_CORE,
        other => return Err(Refused::Usage(format!("unknown limit {other}"))),
    };
    setrlimit(resource, soft.parse()?, hard.parse()?)?;
    Ok(Value::Null)
}
