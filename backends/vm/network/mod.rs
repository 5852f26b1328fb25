//! The network of a machine: the interfaces of a network namespace on the host, led to the guest by taps, and there
//! made again with the same names, addresses and routes.
//!
//! ```text
//! host, the given namespace                      guest
//! eth0 <--- traffic redirected ---> tap --QEMU--> eth0 (the same MAC, addresses, routes)
//! ```
//!
//! Addresses and routes cross the channel as the kernel's own messages (rtnetlink(7)), of which only the interface's
//! number is the guest's.

mod apply;
mod attach;
mod look;
mod netlink;

pub(crate) use apply::apply;
pub(crate) use attach::Attached;
pub(crate) use look::names;

use serde::{Deserialize, Serialize};

/// Most interfaces of one machine, and most addresses and routes of one: what crosses the channel is bounded.
const MOST_INTERFACES: usize = 8;
const MOST_ENTRIES: usize = 64;

/// An interface as the guest is to have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interface {
    name: String,
    mac: [u8; 6],
    mtu: u32,
    addresses: Vec<Entry>,
    /// In the order in which each can be made after those before it.
    routes: Vec<Entry>,
}

/// A message's fixed part and its attributes, but for the interface's number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    head: Vec<u8>,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Interface {
    /// `02:00:5e:10:00:01`
    fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }
}
