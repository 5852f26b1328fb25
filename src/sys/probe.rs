//! System calls by name, for programs that ask what a sandbox allows (the test payload).

/// The calls [`call`] knows: none of them takes a pointer, so none can write to our memory.
const KNOWN: &[(&str, libc::c_long)] = &[
    ("getppid", libc::SYS_getppid),
    ("getuid", libc::SYS_getuid),
    ("ioprio_get", libc::SYS_ioprio_get),
    ("keyctl", libc::SYS_keyctl),
    ("kill", libc::SYS_kill),
    ("personality", libc::SYS_personality),
    ("setgid", libc::SYS_setgid),
    ("sethostname", libc::SYS_sethostname),
    ("setns", libc::SYS_setns),
    ("setpriority", libc::SYS_setpriority),
    ("setuid", libc::SYS_setuid),
    ("socket", libc::SYS_socket),
    ("sync", libc::SYS_sync),
    ("umask", libc::SYS_umask),
    ("unshare", libc::SYS_unshare),
];

/// Makes the named call: its result, or the errno; `None` where the name is not on the list.
///
/// `keyctl` is limited to KEYCTL_GET_KEYRING_ID, and `sethostname` is handed no buffer of ours.
pub fn call(name: &str, args: [i64; 5]) -> Option<Result<i64, i32>> {
    let &(_, number) = KNOWN.iter().find(|(known, _)| *known == name)?;
    let [a, b, c, d, e] = args;
    if name == "keyctl" && a != 0 {
        return Some(Err(libc::EINVAL));
    }
    // SAFETY: the listed calls take integers; sethostname reads at most `b` bytes from `a`, which the kernel checks
    // (a bad address is EFAULT), and nothing is written to our memory.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result == -1 {
        return Some(Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)));
    }
    #[allow(clippy::useless_conversion)]
    Some(Ok(result.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_call_gives_its_result_and_an_unknown_one_none() {
        assert_eq!(call("getppid", [0; 5]), Some(Ok(i64::from(nix::unistd::getppid().as_raw()))));
        assert_eq!(call("keyctl", [11, 0, 0, 0, 0]), Some(Err(libc::EINVAL)));
        assert_eq!(call("ptrace", [0; 5]), None);
    }
}
