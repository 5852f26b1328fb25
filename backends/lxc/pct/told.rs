//! What LXC's monitor daemon tells of a container: it hands each message on to whoever has called it before.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use wharf_sys::{Errno, fd, socket};

/// FNV-1a with 64 bits, by which LXC names the socket.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The abstract name of the daemon's socket for an LXC path.
fn name(lxc_path: &Path) -> Vec<u8> {
    let path = lxc_path.as_os_str().as_bytes();
    let hashed = hash(&[b"lxc/", path, b"/monitor-sock"].concat());
    let mut name = format!("lxc/{hashed:016x}/").into_bytes();
    name.extend_from_slice(path);
    // What fits beside the NUL bytes.
    name.truncate(105);
    name
}

/// None where it does not work on this node: then the kernel is asked how the payload ended.
pub(crate) fn listen(lxc_path: &Path) -> Option<OwnedFd> {
    let connect = || -> Result<OwnedFd, Errno> {
        let socket = socket::stream()?;
        socket::connect_abstract(&socket, &name(lxc_path))?;
        fd::set_nonblocking(&socket)?;
        Ok(socket)
    };
    connect().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_named_as_lxc_names_it() {
        assert_eq!(name(Path::new("/tmp/pctd-lxc")), b"lxc/6609d90eddd830b9//tmp/pctd-lxc");
        assert!(name(Path::new(&format!("/{}", "x".repeat(200)))).len() < 107);
    }
}
