//! The way of an init that another program bears: what it is to have arrives on its standard input, or at a door.
//!
//! ```text
//! init                                 wharf
//! one byte -------------------------->  learns who it is
//! <---------- preserved:u32 plan:u32 number:u32 ...   with a descriptor for each number
//! ```
//!
//! Each descriptor gets the number that the sender has it under, so a plan is the same as for an init that inherits.
//!
//! A door is a directory of the host, below a mount in the root file system that whoever bore us has already changed to; there
//! are our own program and a socket. Then one more message comes between the two: the host's root directory with all that is mounted, and
//! the name of a directory there.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use wharf_steps::HELLO;
use wharf_sys::{CWD, Errno, Fd, fd, libc, mount, parcel, process, socket};

/// Where the socket is.
const SOCKET: Fd = Fd(0);

/// What the second argument of an init says of how it was borne.
pub(crate) enum Borne<'a> {
    Plainly,
    /// A procfs is mounted over the host's, which a plan may want to bind.
    BesideProc,
    /// By this socket it is to call.
    BehindDoor(&'a CStr),
}

impl<'a> Borne<'a> {
    pub(crate) fn of(argument: Option<&'a CStr>) -> Self {
        match argument {
            None => Borne::Plainly,
            Some(path) if path.to_bytes().starts_with(b"/") => Borne::BehindDoor(path),
            Some(_) => Borne::BesideProc,
        }
    }
}

/// The plan's descriptor, and how many descriptors from 3 on are the payload's.
pub(crate) fn unpack(borne: &Borne<'_>) -> Result<(i32, u32), Errno> {
    if let Borne::BesideProc = borne {
        mount::umount(c"/proc", libc::MNT_DETACH)?;
    }
    if let Borne::BehindDoor(path) = borne {
        let socket = socket::sequenced()?;
        socket::connect(&socket, path)?;
        // Nothing of what a console may have left there.
        fd::close_range(0, 2)?;
        fd::dup_to(&socket, 0)?;
    }
    socket::send(SOCKET, &[HELLO], None)?;
    if let Borne::BehindDoor(path) = borne {
        enter_host(path)?;
    }
    let mut words = [0; 4 * (parcel::MOST + 2)];
    let parcel = parcel::receive(SOCKET, &mut words)?;
    let mut words =
        words[..parcel.length].chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    let (Some(preserved), Some(plan)) = (words.next(), words.next()) else { return Err(Errno::EPROTO) };
    let numbers: Vec<i32> = words.map(|number| number as i32).collect();
    if numbers.len() != parcel.descriptors.len() {
        return Err(Errno::EPROTO);
    }
    // First out of the way of the numbers that they are to have.
    let above = numbers.iter().copied().max().unwrap_or(2).max(2) + 1;
    let parked =
        parcel.descriptors.iter().map(|one| fd::duplicate_from(one, above)).collect::<Result<Vec<OwnedFd>, _>>()?;
    drop(parcel);
    for (one, number) in parked.iter().zip(&numbers) {
        fd::dup_to(one, *number)?;
    }
    Ok((plan as i32, preserved))
}

/// Lets what was the root be a directory of the host's tree, which becomes the root instead: a plan begins on the host, and
/// leaves it by itself.
fn enter_host(socket: &CStr) -> Result<(), Errno> {
    let mut place = [0; libc::PATH_MAX as usize];
    let parcel = parcel::receive(SOCKET, &mut place)?;
    let [host] = parcel.descriptors.as_slice() else { return Err(Errno::EPROTO) };
    let place = CString::new(&place[..parcel.length]).map_err(|_| Errno::EPROTO)?;
    let parts = socket.to_bytes().split(|byte| *byte == b'/');
    let top = parts.skip(1).take(1).fold(b"/".to_vec(), |path, part| [&path, part].concat());
    let top = CString::new(top).map_err(|_| Errno::EPROTO)?;
    // With the door in it.
    mount::umount(&top, libc::MNT_DETACH)?;
    // Left there for a moment by whoever bore us, where it needed one.
    match mount::umount(c"/proc", libc::MNT_DETACH) {
        Err(Errno::EINVAL | Errno::ENOENT) => {}
        other => other?,
    }
    // LXC leaves it shared, and pivot_root(2) takes nothing that is, nor what is mounted on it.
    mount::mount(None, c"/", None, libc::MS_PRIVATE | libc::MS_REC, None)?;
    let root = fd::openat(CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    mount::attach(host.as_fd(), &root)?;
    mount::fchdir(host)?;
    mount::pivot_to(&place)?;
    process::chdir(c"/")
}
