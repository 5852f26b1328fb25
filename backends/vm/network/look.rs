//! What interfaces a network namespace has, with their addresses and routes; what a guest cannot have of them is
//! refused by name.

use super::netlink::{Netlink, attributes};
use super::{Entry, Interface, MOST_ENTRIES, MOST_INTERFACES};
use wharf_core::{Error, Result};
use wharf_sys::libc;

const LINK: usize = 16;
const ADDRESS: usize = 8;
const ROUTE: usize = 12;
/// A kernel's that is not of the list is one of a fixed part that has grown: not taken.
const ETHERNET: u16 = 1;

/// An interface, and the number that it has there.
pub(super) struct Seen {
    pub(super) index: i32,
    pub(super) interface: Interface,
}

/// Those that are up, in the order of their numbers.
pub(super) fn look(netlink: &Netlink) -> Result<Vec<Seen>> {
    let failed = |errno| Error::system("read the interfaces of the network namespace", errno as i32);
    let links = netlink.all(libc::RTM_GETLINK.into(), &[0; LINK]).map_err(failed)?;
    let mut all = links.iter().filter_map(|message| seen(message).transpose()).collect::<Result<Vec<_>>>()?;
    if all.len() > MOST_INTERFACES {
        return Err(refused(format!("{} network interfaces", all.len()), "more than a machine has places for"));
    }
    for message in netlink.all(libc::RTM_GETADDR.into(), &[0; ADDRESS]).map_err(failed)? {
        address(&message, &mut all);
    }
    for message in netlink.all(libc::RTM_GETROUTE.into(), &[0; ROUTE]).map_err(failed)? {
        route(&message, &mut all)?;
    }
    for Seen { interface, .. } in &mut all {
        if interface.addresses.len().max(interface.routes.len()) > MOST_ENTRIES {
            let what = format!("more than {MOST_ENTRIES} addresses or routes of interface {}", interface.name);
            return Err(refused(what, "they are told to the guest in one message"));
        }
        // A gateway is found by a route without one.
        interface.routes.sort_by_key(|route| route.attributes.iter().any(|(kind, _)| GATEWAYS.contains(kind)));
    }
    Ok(all)
}

/// What those are called that are up in this process's namespace; whatever they are, one that a guest cannot have is an error.
pub(crate) fn names() -> Result<Vec<String>> {
    let netlink = Netlink::open().map_err(|errno| Error::system("look for interfaces", errno as i32))?;
    Ok(look(&netlink)?.into_iter().map(|seen| seen.interface.name).collect())
}

fn refused(what: String, why: &str) -> Error {
    Error::unsupported(format!("{what} in a virtual machine")).because(why)
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn seen(message: &[u8]) -> Result<Option<Seen>> {
    let [kind, index, flags] = match message.get(..LINK) {
        Some(head) => [
            u32::from(u16::from_ne_bytes([head[2], head[3]])),
            number(&head[4..]).unwrap_or(0),
            number(&head[8..]).unwrap_or(0),
        ],
        None => return Ok(None),
    };
    let is = |flag: i32| flags & flag as u32 != 0;
    if is(libc::IFF_LOOPBACK) || !is(libc::IFF_UP) {
        return Ok(None);
    }
    let mut interface =
        Interface { name: String::new(), mac: [0; 6], mtu: 0, addresses: Vec::new(), routes: Vec::new() };
    let mut mac = None;
    for (kind, value) in attributes(message, LINK) {
        match kind {
            libc::IFLA_IFNAME => interface.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
            libc::IFLA_ADDRESS => mac = <[u8; 6]>::try_from(value).ok(),
            libc::IFLA_MTU => interface.mtu = number(value).unwrap_or(0),
            _ => {}
        }
    }
    match mac.filter(|_| kind == u32::from(ETHERNET)) {
        Some(mac) => Ok(Some(Seen { index: index as i32, interface: Interface { mac, ..interface } })),
        None => Err(refused(
            format!("interface {}", interface.name),
            "only interfaces with frames of Ethernet reach a guest",
        )),
    }
}

/// What is kept of an address: IFA_ADDRESS, LOCAL, LABEL, BROADCAST and RT_PRIORITY; its flags are made anew.
const OF_ADDRESSES: &[u16] = &[1, 2, 3, 4, 9];
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

fn address(message: &[u8], all: &mut [Seen]) {
    /// As far as this machine, or this link: the guest's kernel makes those itself.
    const LINK_SCOPE: u8 = 253;
    const HOST_SCOPE: u8 = 254;
    let Some(&[family, prefix, _, scope]) = message.first_chunk() else { return };
    let index = message.get(4..).and_then(number);
    let Some(Seen { interface, .. }) = all.iter_mut().find(|seen| Some(seen.index as u32) == index) else { return };
    let six = i32::from(family) == libc::AF_INET6;
    if scope >= HOST_SCOPE || (six && scope == LINK_SCOPE) {
        return;
    }
    let found = attributes(message, ADDRESS);
    let flags = found.iter().find(|(kind, _)| *kind == IFA_FLAGS).and_then(|(_, value)| number(value)).unwrap_or(0);
    // Nobody else has it: it is the namespace's.
    let flags = flags & IFA_F_NOPREFIXROUTE | if six { IFA_F_NODAD } else { 0 };
    let mut attributes = kept(&found, OF_ADDRESSES);
    attributes.push((IFA_FLAGS, flags.to_ne_bytes().to_vec()));
    interface.addresses.push(Entry { head: vec![family, prefix, 0, scope], attributes });
}

/// What is kept of a route: RTA_DST, SRC, GATEWAY, PRIORITY, PREFSRC, METRICS, VIA and PREF.
const OF_ROUTES: &[u16] = &[1, 2, 5, 6, 7, 8, 18, 20];
const GATEWAYS: &[u16] = &[5, 18];
/// RTA_MULTIPATH, ENCAP and NH_ID.
const NOT_CARRIED: &[u16] = &[9, 22, 30];
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;

fn route(message: &[u8], all: &mut [Seen]) -> Result<()> {
    /// The kernel's own, which come with addresses.
    const BY_KERNEL: u8 = 2;
    const CACHED: u32 = 0x200;
    const LOCAL: u32 = 255;
    const MAIN: u32 = 254;
    let Some(head) = message.get(..ROUTE) else { return Ok(()) };
    let found = attributes(message, ROUTE);
    let of = |kind: u16| found.iter().find(|(one, _)| *one == kind).and_then(|(_, value)| number(value));
    let table = of(RTA_TABLE).unwrap_or(u32::from(head[4]));
    if head[5] == BY_KERNEL || table == LOCAL || number(&head[8..]).unwrap_or(0) & CACHED != 0 {
        return Ok(());
    }
    if found.iter().any(|(kind, _)| NOT_CARRIED.contains(kind)) {
        return Err(refused(
            "a route with several next hops, or one that wraps packets,".to_owned(),
            "only plain routes reach a guest",
        ));
    }
    if table != MAIN {
        return Err(refused(format!("a route of table {table}"), "only the main table's reach a guest"));
    }
    let Some(index) = of(RTA_OIF) else {
        return Err(refused("a route without an interface".to_owned(), "only those of interfaces reach a guest"));
    };
    if let Some(Seen { interface, .. }) = all.iter_mut().find(|seen| seen.index as u32 == index) {
        let mut head = head.to_vec();
        // Flags that are the kernel's word, but RTNH_F_ONLINK.
        let onlink = number(&head[8..]).unwrap_or(0) & 4;
        head[8..].copy_from_slice(&onlink.to_ne_bytes());
        interface.routes.push(Entry { head, attributes: kept(&found, OF_ROUTES) });
    }
    Ok(())
}

fn kept(found: &[(u16, &[u8])], kinds: &[u16]) -> Vec<(u16, Vec<u8>)> {
    found.iter().filter(|(kind, _)| kinds.contains(kind)).map(|(kind, value)| (*kind, value.to_vec())).collect()
}
