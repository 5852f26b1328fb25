//! In the guest: a network namespace with the interfaces that the host has told of.

use super::attach::link;
use super::netlink::{Body, CREATE, Netlink, attributes};
use super::{Entry, Interface};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use wharf_core::{Error, Result};
use wharf_sys::{CWD, Errno, fd, libc, mount, namespace};

/// How long the kernel may take to find an interface.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOPBACK: i32 = 1;

/// Makes the namespace, which is at the path from then on, and what is to be in it.
pub(crate) fn apply(path: &str, interfaces: &[Interface]) -> Result<()> {
    let failed = |errno: Errno| Error::system("make the guest's network namespace", errno as i32);
    let open = || fd::openat(CWD, c"/proc/thread-self/ns/net", libc::O_RDONLY, 0);
    let (first, outside) = (open().map_err(failed)?, Netlink::open().map_err(failed)?);
    namespace::unshare(libc::CLONE_NEWNET as u64).map_err(failed)?;
    let made = || -> Result<(OwnedFd, Netlink), Errno> {
        let place = CString::new(path).map_err(|_| Errno::EINVAL)?;
        drop(fd::openat(CWD, &place, libc::O_CREAT | libc::O_RDONLY, 0o600)?);
        mount::mount(Some(c"/proc/thread-self/ns/net"), &place, None, libc::MS_BIND, None)?;
        Ok((open()?, Netlink::open()?))
    };
    let made = made();
    namespace::enter(&first, libc::CLONE_NEWNET as u64).map_err(failed)?;
    let (wanted, inside) = made.map_err(failed)?;
    inside.ask(libc::RTM_NEWLINK.into(), 0, link(LOOPBACK, libc::IFF_UP as u32)).map_err(failed)?;
    for interface in interfaces {
        let failed =
            |errno: Errno| Error::system(format!("make interface {} in the guest", interface.name), errno as i32);
        let index =
            find(&outside, interface.mac).map_err(|errno| failed(errno).hint("the guest's kernel needs virtio_net"))?;
        let moved = link(index, 0).number(libc::IFLA_NET_NS_FD, wanted.as_raw_fd() as u32);
        outside.ask(libc::RTM_NEWLINK.into(), 0, moved).map_err(failed)?;
        make(&inside, interface).map_err(failed)?;
    }
    Ok(())
}

fn find(netlink: &Netlink, mac: [u8; 6]) -> Result<i32, Errno> {
    let begun = Instant::now();
    loop {
        for message in netlink.all(libc::RTM_GETLINK.into(), &[0; 16])? {
            if attributes(&message, 16).contains(&(libc::IFLA_ADDRESS, &mac)) {
                return message
                    .get(4..)
                    .and_then(|rest| rest.first_chunk())
                    .map(|index| i32::from_ne_bytes(*index))
                    .ok_or(Errno::EBADMSG);
            }
        }
        if begun.elapsed() > PATIENCE {
            return Err(Errno::ENODEV);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn make(netlink: &Netlink, interface: &Interface) -> Result<(), Errno> {
    let index = find(netlink, interface.mac)?;
    let mut name = interface.name.clone().into_bytes();
    name.push(0);
    let named = link(index, 0).attribute(libc::IFLA_IFNAME, &name).number(libc::IFLA_MTU, interface.mtu);
    netlink.ask(libc::RTM_NEWLINK.into(), 0, named)?;
    netlink.ask(libc::RTM_NEWLINK.into(), 0, link(index, libc::IFF_UP as u32))?;
    for address in &interface.addresses {
        let mut head = address.head.clone();
        head.extend_from_slice(&index.to_ne_bytes());
        netlink.ask(libc::RTM_NEWADDR.into(), CREATE, body(&head, address))?;
    }
    for route in &interface.routes {
        const RTA_OIF: u16 = 4;
        match netlink.ask(libc::RTM_NEWROUTE.into(), CREATE, body(&route.head, route).number(RTA_OIF, index as u32)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn body(head: &[u8], entry: &Entry) -> Body {
    entry.attributes.iter().fold(Body::new(head), |body, (kind, value)| body.attribute(*kind, value))
}
