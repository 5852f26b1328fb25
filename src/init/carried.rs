//! The way of an init that another program bears: what it is to have arrives on its standard input.
//!
//! ```text
//! init                                 wharf
//! one byte -------------------------->  learns who it is
//! <---------- preserved:u32 plan:u32 number:u32 ...   with a descriptor for each number
//! ```
//!
//! Each descriptor gets the number that the sender has it under, so a plan is the same as for an init that inherits.

use std::os::fd::OwnedFd;
use wharf_steps::HELLO;
use wharf_sys::{Errno, Fd, fd, libc, mount, parcel, socket};

/// Where the socket is.
const SOCKET: Fd = Fd(0);

/// The plan's descriptor, and how many descriptors from 3 on are the payload's. `proc`: whoever bore us has mounted one over
/// the host's, which a plan may want to bind.
pub(crate) fn unpack(proc: bool) -> Result<(i32, u32), Errno> {
    if proc {
        mount::umount(c"/proc", libc::MNT_DETACH)?;
    }
    socket::send(SOCKET, &[HELLO], None)?;
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
