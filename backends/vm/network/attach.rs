//! On the host: a tap beside each interface of the given namespace, and the traffic of each led to the other by the
//! kernel (tc-u32(8), tc-mirred(8)), whatever kind of interface it is.

use super::Interface;
use super::look::{Seen, look};
use super::netlink::{Body, CREATE, EXCLUSIVE, Netlink, attributes};
use std::os::fd::{AsRawFd, OwnedFd};
use wharf_core::{Error, Result};
use wharf_sys::{CWD, Errno, fd, libc, namespace, network};

/// The place where what an interface receives is looked at (TC_H_INGRESS, and its number where filters hang).
const INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// By this priority a filter is known as ours.
const PRIORITY: u32 = 0x7768;
/// Of all protocols (ETH_P_ALL).
const ALL: u16 = 3;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;

/// Taps in a namespace. Ended, the namespace is as before.
pub(crate) struct Attached {
    taps: Vec<OwnedFd>,
    pub(crate) interfaces: Vec<Interface>,
    indices: Vec<i32>,
    netlink: Netlink,
}

impl Attached {
    /// In the network namespace of the descriptor; this process is in its own again then.
    pub(crate) fn new(wanted: &OwnedFd) -> Result<Self> {
        let failed = |errno| Error::system("enter the network namespace", errno as i32);
        let own = fd::openat(CWD, c"/proc/thread-self/ns/net", libc::O_RDONLY, 0).map_err(failed)?;
        namespace::enter(wanted, libc::CLONE_NEWNET as u64).map_err(failed)?;
        let made = Self::here();
        namespace::enter(&own, libc::CLONE_NEWNET as u64).map_err(failed)?;
        made
    }

    fn here() -> Result<Self> {
        let failed = |errno| Error::system("ask for the interfaces of the network namespace", errno as i32);
        let netlink = Netlink::open().map_err(failed)?;
        let mut attached = Attached { taps: Vec::new(), interfaces: Vec::new(), indices: Vec::new(), netlink };
        match look(&attached.netlink)?.into_iter().try_for_each(|seen| attached.attach(seen)) {
            Ok(()) => Ok(attached),
            Err(error) => {
                attached.end();
                Err(error)
            }
        }
    }

    fn attach(&mut self, seen: Seen) -> Result<()> {
        let Seen { index, interface } = seen;
        let (doing, name) = (format!("lead interface {} to the machine", interface.name), format!("wharf{index}"));
        let failed = |what: &'static str, why: &'static str| {
            let doing = doing.clone();
            move |errno: Errno| {
                let error = Error::system(format!("{doing}: {what}"), errno as i32);
                if why.is_empty() { error } else { error.hint(why) }
            }
        };
        let busy = || {
            Error::new(wharf_core::Kind::System, doing.clone())
                .because("its traffic is redirected already, by another machine or somebody else's rule")
        };
        let tap = network::tap(&name).map_err(|errno| match errno {
            Errno::EBUSY => busy(),
            other => failed("make a tap", "the host's kernel needs /dev/net/tun (driver tun)")(other),
        })?;
        let its_index = self.index(&name).map_err(failed("find its tap", ""))?;
        let up = link(its_index, libc::IFF_UP as u32).number(libc::IFLA_MTU, interface.mtu);
        self.netlink.ask(libc::RTM_NEWLINK.into(), 0, up).map_err(failed("bring its tap up", ""))?;
        let needs = "the host's kernel needs sch_ingress, cls_u32 and act_mirred";
        match self.watch(index) {
            Err(Errno::EEXIST) if self.is_ours(index) => {
                // Of a stand-in that was killed: the tap that it leads to is gone, or ours would not have got the name.
                self.unwatch(index).and_then(|()| self.watch(index)).map_err(failed("redirect its traffic", needs))?;
            }
            Err(Errno::EEXIST) => return Err(busy()),
            other => other.map_err(failed("redirect its traffic", needs))?,
        }
        self.indices.push(index);
        self.watch(its_index).map_err(failed("redirect its traffic", needs))?;
        for (from, to) in [(index, its_index), (its_index, index)] {
            self.redirect(from, to).map_err(failed("redirect its traffic", needs))?;
        }
        self.taps.push(tap);
        self.interfaces.push(interface);
        Ok(())
    }

    fn index(&self, name: &str) -> Result<i32, Errno> {
        let links = self.netlink.all(libc::RTM_GETLINK.into(), &[0; 16])?;
        let is_it = |message: &&Vec<u8>| {
            attributes(message, 16)
                .iter()
                .any(|(kind, value)| *kind == libc::IFLA_IFNAME && value.strip_suffix(b"\0") == Some(name.as_bytes()))
        };
        let found = links.iter().find(is_it).and_then(|message| message.get(4..)?.first_chunk());
        found.map(|bytes| i32::from_ne_bytes(*bytes)).ok_or(Errno::ENODEV)
    }

    fn watch(&self, index: i32) -> Result<(), Errno> {
        let body = traffic(index, INGRESS_HANDLE, INGRESS, 0).attribute(TCA_KIND, b"ingress\0");
        self.netlink.ask(libc::RTM_NEWQDISC.into(), CREATE | EXCLUSIVE, body)
    }

    fn unwatch(&self, index: i32) -> Result<(), Errno> {
        self.netlink.ask(libc::RTM_DELQDISC.into(), 0, traffic(index, INGRESS_HANDLE, INGRESS, 0))
    }

    /// Whether no filter hangs there but such as we hang.
    fn is_ours(&self, index: i32) -> bool {
        let filters = self.netlink.all(libc::RTM_GETTFILTER.into(), &head(index, 0, INGRESS_HANDLE, 0));
        filters.is_ok_and(|all| {
            all.iter().all(|filter| {
                filter
                    .get(16..)
                    .and_then(|rest| rest.first_chunk())
                    .is_some_and(|info| u32::from_ne_bytes(*info) >> 16 == PRIORITY)
            })
        })
    }

    /// All that one receives is sent by the other.
    fn redirect(&self, from: i32, to: i32) -> Result<(), Errno> {
        /// Ends the search; one key, whose mask is nothing, so that all is found.
        const SELECTOR: [u8; 32] = {
            let mut bytes = [0; 32];
            (bytes[0], bytes[2]) = (1, 1);
            bytes
        };
        const TCA_U32_SEL: u16 = 5;
        const TCA_U32_ACT: u16 = 7;
        const TCA_MIRRED_PARMS: u16 = 2;
        const TC_ACT_STOLEN: u32 = 4;
        const TCA_EGRESS_REDIR: u32 = 1;
        let parameters: Vec<u8> =
            [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to as u32].into_iter().flat_map(u32::to_ne_bytes).collect();
        let action = Body::default()
            .attribute(TCA_KIND, b"mirred\0")
            .nested(TCA_OPTIONS, Body::default().attribute(TCA_MIRRED_PARMS, &parameters));
        let options =
            Body::default().attribute(TCA_U32_SEL, &SELECTOR).nested(TCA_U32_ACT, Body::default().nested(1, action));
        let info = PRIORITY << 16 | u32::from(ALL.to_be());
        let body = traffic(from, 0, INGRESS_HANDLE, info).attribute(TCA_KIND, b"u32\0").nested(TCA_OPTIONS, options);
        self.netlink.ask(libc::RTM_NEWTFILTER.into(), CREATE | EXCLUSIVE, body)
    }

    /// Each tap with what its interface is in the guest.
    pub(crate) fn taps(&self) -> Vec<(i32, String)> {
        self.taps.iter().zip(&self.interfaces).map(|(tap, interface)| (tap.as_raw_fd(), interface.mac_text())).collect()
    }

    /// The namespace's interfaces have their traffic again; the taps go with their descriptors.
    pub(crate) fn end(&mut self) {
        for index in std::mem::take(&mut self.indices) {
            let _ = self.unwatch(index);
        }
        self.taps.clear();
    }
}

/// struct tcmsg
fn head(index: i32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, index as u32, handle, parent, info].into_iter().flat_map(u32::to_ne_bytes).collect()
}

fn traffic(index: i32, handle: u32, parent: u32, info: u32) -> Body {
    Body::new(&head(index, handle, parent, info))
}

/// struct ifinfomsg; the flags are set.
pub(super) fn link(index: i32, flags: u32) -> Body {
    let head: Vec<u8> = [0, index as u32, flags, flags].into_iter().flat_map(u32::to_ne_bytes).collect();
    Body::new(&head)
}
