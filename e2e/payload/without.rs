//! Runs a program as on a kernel that lacks some system calls: a seccomp filter answers for them.
//!
//! It is installed in place of the program. Beside it lies a directory `real` with the program itself, under the same
//! name, and with the file `without`: the calls, in the words of [`Missing::named`].
#![deny(unsafe_code)]
#![no_main]

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use wharf_sys::namespace::{Side, clone};
use wharf_sys::notification::{answer_notification, next_notification};
use wharf_sys::process::{ExecStrings, exec, exit_now, wait};
use wharf_sys::{Errno, credentials, fd, libc, socket};

/// The C entry: Rust's own start-up would change signals and descriptors that the program is to inherit.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: the C library calls this once, with argc pointers to NUL-terminated strings that live as long as the
    // process.
    let arguments = unsafe { wharf_sys::process::argument_strings(argc, argv) };
    let why = become_program(&arguments);
    eprintln!("without: {why}");
    125
}

/// Comes back only with what went wrong.
fn become_program(arguments: &[&'static CStr]) -> String {
    let failed = |doing: &'static str| move |errno: Errno| format!("{doing}: {}", errno.desc());
    let attempt = || -> Result<Errno, String> {
        let own = std::fs::read_link("/proc/self/exe").map_err(|error| error.to_string())?;
        let real = own.with_file_name("real");
        let words = std::fs::read_to_string(real.join("without")).map_err(|error| error.to_string())?;
        let missing = words.split_whitespace().map(Missing::named).collect::<Result<Vec<_>, _>>()?.concat();
        let program = filter(&missing);
        if missing.iter().any(|one| one.how == How::Inspect) {
            let (ours, theirs) = socket::pair().map_err(failed("socketpair"))?;
            bear_supervisor(&theirs).map_err(failed("clone"))?;
            drop(theirs);
            let listener = credentials::load_seccomp_listening(&program, NEW_LISTENER).map_err(failed("seccomp"))?;
            let listener = fd::duplicate(listener).map_err(failed("dup"))?;
            socket::send(&ours, b"listener", Some(&listener)).map_err(failed("send"))?;
        } else {
            credentials::load_seccomp(&program, 0).map_err(failed("seccomp"))?;
        }
        let path = real.join(Path::new(own.file_name().unwrap_or_default()));
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        let environment: Vec<CString> = std::env::vars_os()
            .filter_map(|(key, value)| CString::new([key.as_bytes(), b"=", value.as_bytes()].concat()).ok())
            .collect();
        let environment = ExecStrings::new(environment.iter().map(CString::as_c_str));
        Ok(exec(&path, &ExecStrings::new(arguments.iter().copied()), &environment))
    };
    attempt().map_or_else(|why| why, failed("exec"))
}

const NEW_LISTENER: u64 = 1 << 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// No such call.
    Absent,
    /// The call is there and knows none of these bits in its argument of that number: `EINVAL`.
    Bits(u32, u32),
    /// More than one bit in its second argument is `EINVAL`.
    OneBit,
    /// clone3(2) without `CLONE_INTO_CGROUP`, which lies in memory where no filter looks: it is `E2BIG`, for an older
    /// kernel's structure ends before.
    Inspect,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    number: libc::c_long,
    how: How,
}

/// The same on every architecture, unknown to older headers.
const SYS_LSM_SET_SELF_ATTR: libc::c_long = 460;
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

impl Missing {
    /// What a word takes away: one call, one of its features, or all that a kernel version lacks.
    fn named(word: &str) -> Result<Vec<Missing>, String> {
        let absent = |number| vec![Missing { number, how: How::Absent }];
        let several = |words: &[&str]| words.iter().map(|word| Self::named(word)).collect::<Result<Vec<_>, _>>();
        Ok(match word {
            "openat2" => absent(libc::SYS_openat2),
            "clone3" => absent(libc::SYS_clone3),
            "clone-into-cgroup" => vec![Missing { number: libc::SYS_clone3, how: How::Inspect }],
            "open_tree" => absent(libc::SYS_open_tree),
            "move_mount" => absent(libc::SYS_move_mount),
            "fsopen" => absent(libc::SYS_fsopen),
            "fsconfig" => absent(libc::SYS_fsconfig),
            "fsmount" => absent(libc::SYS_fsmount),
            "mount_setattr" => [absent(libc::SYS_mount_setattr), absent(SYS_OPEN_TREE_ATTR)].concat(),
            "close_range" => absent(libc::SYS_close_range),
            "close-range-cloexec" => vec![Missing { number: libc::SYS_close_range, how: How::Bits(2, 4) }],
            "pidfd_open" => absent(libc::SYS_pidfd_open),
            "pidfd_getfd" => absent(libc::SYS_pidfd_getfd),
            "pidfd_send_signal" => absent(libc::SYS_pidfd_send_signal),
            "setns-pidfd" => vec![Missing { number: libc::SYS_setns, how: How::OneBit }],
            "statx" => absent(libc::SYS_statx),
            "faccessat2" => absent(libc::SYS_faccessat2),
            "lsm_set_self_attr" => absent(SYS_LSM_SET_SELF_ATTR),
            "time-namespaces" => vec![Missing { number: libc::SYS_unshare, how: How::Bits(0, 0x80) }],
            "linux-5.10" => several(&["mount_setattr", "close-range-cloexec", "lsm_set_self_attr"])?.concat(),
            "linux-5.4" => several(&[
                "openat2",
                "clone-into-cgroup",
                "mount_setattr",
                "close_range",
                "pidfd_getfd",
                "setns-pidfd",
                "statx",
                "faccessat2",
                "time-namespaces",
                "lsm_set_self_attr",
            ])?
            .concat(),
            other => return Err(format!("no call is known as {other:?}")),
        })
    }
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// A classic BPF program over struct seccomp_data (seccomp(2)), in the machine's byte order.
fn filter(missing: &[Missing]) -> Vec<u8> {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const ANY_BIT: u16 = 0x45;
    const SUBTRACT: u16 = 0x14;
    const AND_X: u16 = 0x5c;
    const TO_X: u16 = 0x07;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    const NOTIFY: u32 = 0x7fc0_0000;
    const NUMBER_AT: u32 = 0;
    const ARCHITECTURE_AT: u32 = 4;
    let argument = |index: u32| 16 + 8 * index;
    let mut program: Vec<(u16, u8, u8, u32)> =
        vec![(LOAD, 0, 0, ARCHITECTURE_AT), (EQUAL, 1, 0, ARCHITECTURE), (RETURN, 0, 0, ALLOW)];
    for one in missing {
        let refuse = |errno: i32| (RETURN, 0, 0, ERRNO | errno as u32);
        let body = match one.how {
            How::Absent => vec![refuse(libc::ENOSYS)],
            How::Inspect => vec![(RETURN, 0, 0, NOTIFY)],
            How::Bits(index, bits) => {
                vec![(LOAD, 0, 0, argument(index)), (ANY_BIT, 0, 1, bits), refuse(libc::EINVAL), (RETURN, 0, 0, ALLOW)]
            }
            // What is left of a number and its predecessor is zero where it has but one bit.
            How::OneBit => vec![
                (LOAD, 0, 0, argument(1)),
                (TO_X, 0, 0, 0),
                (SUBTRACT, 0, 0, 1),
                (AND_X, 0, 0, 0),
                (EQUAL, 1, 0, 0),
                refuse(libc::EINVAL),
                (RETURN, 0, 0, ALLOW),
            ],
        };
        program.push((LOAD, 0, 0, NUMBER_AT));
        program.push((EQUAL, 0, body.len() as u8, one.number as u32));
        program.extend(body);
    }
    program.push((RETURN, 0, 0, ALLOW));
    let bytes = |(code, yes, no, value): &(u16, u8, u8, u32)| {
        [&code.to_ne_bytes()[..], &[*yes, *no], &value.to_ne_bytes()].concat()
    };
    program.iter().flat_map(bytes).collect()
}

/// The process that looks into the memory of who calls clone3. It is nobody's child, holds nothing of the caller's, and
/// ends when the last process with the filter has.
fn bear_supervisor(theirs: &OwnedFd) -> Result<(), Errno> {
    match clone(0, None)? {
        Side::Parent { pid, .. } => wait(pid, 0).map(drop),
        Side::Child => {
            if let Ok(Side::Child) = clone(0, None) {
                supervise(theirs);
            }
            exit_now(0)
        }
    }
}

fn supervise(theirs: &OwnedFd) {
    for number in (0..64).filter(|number| *number != theirs.as_raw_fd()) {
        fd::close(wharf_sys::Fd(number));
    }
    let Ok((_, Some(listener))) = socket::receive(theirs, &mut [0; 8]) else { return };
    loop {
        let mut watched = [libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        if fd::poll(&mut watched, -1).is_err() || watched[0].revents & libc::POLLIN == 0 {
            return;
        }
        let Ok(call) = next_notification(&listener) else { continue };
        let refused = into_cgroup(call.pid, call.arguments[0]).then_some(Err(Errno::E2BIG));
        let _ = answer_notification(&listener, call.id, refused);
    }
}

/// Whether the struct clone_args at `address`, whose first word is its flags, asks for a cgroup.
fn into_cgroup(pid: u32, address: u64) -> bool {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut flags = [0; 8];
    let memory = std::fs::File::open(format!("/proc/{pid}/mem"));
    memory.is_ok_and(|memory| memory.read_exact_at(&mut flags, address).is_ok())
        && u64::from_ne_bytes(flags) & CLONE_INTO_CGROUP != 0
}
