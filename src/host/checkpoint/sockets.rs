//! Sockets that would make a dump fail: of kinds that CRIU does not know, of another network namespace, and unix sockets
//! whose other end is outside.

use super::preflight::{Seen, obstacle};
use std::ffi::CString;
use wharf_core::{Checkpoint, Obstacle};
use wharf_sys::diag::{self, UnixSocket};
use wharf_sys::namespace::{self, Side, clone, flag};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, fd, libc, process, socket};

/// Families that CRIU keeps.
const FAMILIES: [i32; 5] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];

/// What the descriptor of a process shows; nothing of it changes for the process.
pub(super) fn of_descriptor(
    own_namespace: Option<&str>,
    pid: i32,
    number: i32,
    name: &str,
    found: &mut Vec<Obstacle>,
) -> Result<(), Errno> {
    let copy = process::take_descriptor(process::pidfd(pid)?, number)?;
    let family = diag::family(&copy)?;
    if !FAMILIES.contains(&family) {
        let why = format!("has a socket of address family {family} open, which criu does not know");
        found.push(obstacle(name, why, "let it close that first"));
        return Ok(());
    }
    let namespace = fd::stat(diag::namespace_of(&copy)?)?.st_ino;
    if own_namespace.is_some_and(|own| own != format!("net:[{namespace}]")) {
        let why = "has a socket open that is of another network namespace than the container";
        found.push(obstacle(name, why, "let it close that first"));
    }
    Ok(())
}

/// Connected ones whose other end no process of the container has.
pub(super) fn of_unix(proc: &Procfs, asked: &Checkpoint, pid: i32, seen: &Seen, found: &mut Vec<Obstacle>) {
    if seen.sockets.is_empty() {
        return;
    }
    let Ok(all) = unix_of(proc, pid) else { return };
    for socket in all.iter().filter(|socket| seen.sockets.contains_key(&socket.inode)) {
        let peer = socket.peer.unwrap_or(0);
        let dangling = peer == 0 && socket.connected && !all.iter().any(|one| one.pending.contains(&socket.inode));
        if seen.sockets.contains_key(&peer) || peer == 0 && !dangling {
            continue;
        }
        // CRIU connects a datagram socket anew, by the name of its other end.
        let by_name = all.iter().any(|other| other.inode == peer && other.named && other.kind == libc::SOCK_DGRAM);
        let why = "has a unix socket whose other end is outside of the container";
        match (by_name, asked.images.ext_unix_sk) {
            (true, true) => {}
            (true, false) => found.push(obstacle(&seen.sockets[&socket.inode], why, "--ext-unix-sk")),
            (false, _) => found.push(obstacle(&seen.sockets[&socket.inode], why, "let it close that first")),
        }
    }
}

/// All unix sockets of the network namespace of a process.
fn unix_of(proc: &Procfs, pid: i32) -> Result<Vec<UnixSocket>, Errno> {
    let namespace = CString::new(format!("{pid}/ns/net")).map_err(|_| Errno::EINVAL)?;
    let namespace = proc.open_link(&namespace, libc::O_RDONLY)?;
    let (told, telling) = socket::pair()?;
    match clone(0, None)? {
        Side::Child => {
            let asking = namespace::enter(&namespace, flag::NEWNET).and_then(|()| diag::socket());
            let done = asking.and_then(|asking| socket::send(&telling, &[1], Some(&asking)));
            process::exit_now(done.map_or_else(|errno| errno as i32, |()| 0))
        }
        Side::Parent { pid, .. } => {
            drop(telling);
            let asking = socket::receive(&told, &mut [0; 1]);
            process::wait(pid, 0)?;
            diag::unix_sockets(asking?.1.ok_or(Errno::ECHILD)?)
        }
    }
}
