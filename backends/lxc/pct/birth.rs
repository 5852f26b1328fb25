//! The birth of a container's first process on a Proxmox node.
//!
//! ```text
//! wharf                          pct, the node's service          lxc-start                    the init
//! -----                          -----------------------          ---------                    --------
//! a number held
//! pct create ------------------> configuration
//! one line added: our include
//! door made, socket listens
//! pct start -------------------> mounts the root file system --> namespaces, ids, cgroup
//!                                                                door hung in, pivot_root ---> executed from the door
//! <------------------------------------------------------------------------------------------- says hello
//! host's tree -------------------------------------------------------------------------------> door taken off; the host's
//!                                                                                              tree is its root, and its
//!                                                                                              old one a directory there
//! plan, descriptors -------------------------------------------------------------------------> performs the plan, as on
//!                                                                                              native
//! ```

use super::ct::{Ct, Wish};
use super::door::Door;
use super::settings::Settings;
use super::tool::Call;
use super::{INNER, cause, conf, hostname, include, shown, told};
use crate::born::{Born, Cradle, DOING, Stander, failed, hand_over, hello};
use crate::remove;
use crate::stand::Seat;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wharf_core::{CgroupPaths, Error, Kind, Result};
use wharf_host::Labour;
use wharf_sys::mount::{self, AT_RECURSIVE, OPEN_TREE_CLONE};
use wharf_sys::{CWD, Errno, Fd, libc, parcel, process, socket};

/// How long an init may be on its way, when the node says that it has started the container.
const LATE: Duration = Duration::from_secs(10);

pub(crate) fn bear(settings: &Settings, labour: &Labour<'_>) -> Result<Born> {
    let state_dir = std::fs::canonicalize(labour.state_dir)
        .map_err(|error| Error::system("find the state directory", error.raw_os_error().unwrap_or(libc::EIO)))?;
    let mut begun = Begun {
        settings: settings.clone(),
        vmid: None,
        cgroup: String::new(),
        paths: None,
        door: Door::of(&state_dir),
        made: Vec::new(),
        call: None,
        kept: false,
    };
    let bundle = labour.bundle;
    let rootfs = bundle.dir.join(bundle.spec.root().as_ref().map_or(Path::new(""), |root| root.path().as_path()));
    let rootfs = std::fs::canonicalize(&rootfs).map_err(|error| {
        Error::system("find the root file system", error.raw_os_error().unwrap_or(libc::EIO)).at("root/path")
    })?;
    begun.made = Door::hang(&rootfs)?;
    let include = include::text(labour.namespaces, labour.joined, &begun.door.door());
    begun.door.make(&include, labour.program)?;
    let (memory, swap) = shown::memory(bundle);
    let ct = Ct::create(
        settings,
        &Wish {
            hostname: &hostname::of(labour.id),
            mark: &conf::mark(labour.id, &state_dir.to_string_lossy()),
            template: &begun.door.template(),
            rootfs: &rootfs,
            unprivileged: labour.namespaces.new_user(),
            memory,
            swap,
        },
    )?;
    begun.vmid = Some(ct.vmid);
    begun.cgroup = format!("/lxc/{}", ct.vmid);
    let mut lines = shown::maps(labour.namespaces);
    lines.push(begun.door.line());
    conf::add(settings, ct.vmid, &lines)?;
    start(&ct, begun, labour)
}

fn start(ct: &Ct<'_>, mut begun: Begun, labour: &Labour<'_>) -> Result<Born> {
    let cgroup = (labour.found)(&begun.cgroup)?;
    begun.paths = Some(cgroup.clone());
    let owner = |map: &[wharf_plan::Mapping]| map.iter().find(|one| one.inside == 0).map_or(0, |one| one.outside);
    let listener = begun.door.listen(owner(&labour.namespaces.uid_map), owner(&labour.namespaces.gid_map))?;
    let told = told::listen(&ct.settings.lxc_path());
    begun.call = Some(ct.start()?);
    let (socket, init) = first_word(&listener, &mut begun)?;
    begun.door.shut();
    let name = ct.vmid.to_string();
    let (line, their_line) = socket::pair().map_err(failed)?;
    let seat = Seat {
        told: told.as_ref().map(|told| (told, Some(name.as_str()))),
        lxc: None,
        line: &their_line,
        dir: labour.dir,
        cgroup: &cgroup,
        namespaces: labour.namespaces.all_apart(),
    };
    let root = begun.door.root();
    let stander = Stander::bear(line, &seat)?;
    let mut born = Born::new(Box::new(begun), stander);
    drop(their_line);
    born.is(init);
    let spoken = show_host(&socket, &root)
        .and_then(|()| hand_over(labour, &socket))
        .and_then(|()| born.settle(&remove::handle(&cgroup)?));
    // An init that waits for words ends with the other side, before it is waited for.
    drop(socket);
    spoken.map(|()| born)
}

/// The socket to the init that has come in, and who it is. Only the container's own root can have called.
fn first_word(listener: &OwnedFd, begun: &mut Begun) -> Result<(OwnedFd, (i32, OwnedFd))> {
    let until = Instant::now() + begun.settings.timeout;
    let mut late: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let late_by = late.map_or(until, |late| until.min(late));
        let error = || Error::new(Kind::System, DOING);
        if now >= late_by {
            let error = error().because("the node says that it runs, and no init has called");
            return Err(match late {
                Some(_) => error.hint(begun.hint()),
                None => error.hint("proxmox.timeout in the configuration"),
            });
        }
        let left = i32::try_from((late_by - now).as_millis()).unwrap_or(i32::MAX).max(1);
        let (called, ended) = match &begun.call {
            Some(call) => {
                let [called, ended] = process::ready([listener.as_fd(), call.pidfd().as_fd()], left).map_err(failed)?;
                (called, ended)
            }
            None => (process::readable(listener, left).map_err(failed)?, false),
        };
        if called {
            let socket = socket::accept_now(listener).map_err(failed)?;
            if !process::readable(&socket, 1000).map_err(failed)? {
                continue;
            }
            if let Some(init) = hello(&socket)? {
                return Ok((socket, init));
            }
            continue;
        }
        if ended {
            begun.confirm()?;
            late = Some(Instant::now() + LATE);
        }
    }
}

/// All that is mounted here, for the init to begin from. What the host mounts is still seen there, and nothing the other way.
fn show_host(socket: &OwnedFd, root: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let show = || {
        let host = mount::open_tree(CWD, c"/", OPEN_TREE_CLONE | AT_RECURSIVE)?;
        mount::set_attributes(&host, true, 0, 0, libc::MS_SLAVE)?;
        let place = root.strip_prefix("/").unwrap_or(root);
        parcel::send(socket, place.as_os_str().as_bytes(), &[Fd(host.as_raw_fd())])
    };
    show().map_err(|errno: Errno| Error::system("show the host's files to the init", errno as i32))
}

/// What exists of a container of the node, from its number on.
struct Begun {
    settings: Settings,
    vmid: Option<u32>,
    cgroup: String,
    /// The same, as soon as it is recorded.
    paths: Option<CgroupPaths>,
    door: Door,
    /// Directories that were made in the root file system.
    made: Vec<PathBuf>,
    /// `pct start`, while it works.
    call: Option<Call>,
    kept: bool,
}

impl Begun {
    fn hint(&self) -> String {
        let file = format!("/run/pve/ct-{}.stderr", self.vmid.unwrap_or_default());
        format!("the node's log of the start tells why: {}", self.settings.path(&file).display())
    }

    fn undo(&mut self) {
        drop(self.call.take());
        if let Some(vmid) = self.vmid.take() {
            let _ = Ct { settings: &self.settings, vmid }.destroy();
        }
        if let Some(handle) = self.paths.take().and_then(|paths| remove::handle(&paths).ok()) {
            let _ = handle.kill_all(libc::SIGKILL);
            let _ = handle.remove();
        }
        let _ = self.door.remove();
        for made in self.made.drain(..) {
            let _ = std::fs::remove_dir(made);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.kept {
            self.undo();
        }
    }
}

impl Cradle for Begun {
    fn inner(&self) -> &'static str {
        INNER
    }

    fn cgroup(&self) -> Option<&str> {
        Some(&self.cgroup)
    }

    fn last_words(&self) -> Option<String> {
        None
    }

    fn confirm(&mut self) -> Result<()> {
        let Some(call) = self.call.take() else { return Ok(()) };
        let vmid = self.vmid.unwrap_or_default();
        let said = call.finish(self.settings.timeout)?;
        match said.fine {
            true => Ok(()),
            false => Err(cause::of(format!("start CT {vmid}"), &said, vmid)),
        }
    }

    fn memory(&self) -> serde_json::Value {
        let mut memory = self.settings.memory();
        memory["vmid"] = self.vmid.into();
        memory["made"] = self.made.iter().map(|dir| dir.to_string_lossy().into_owned()).collect();
        memory
    }

    fn keep(&mut self) {
        self.kept = true;
    }

    fn take_back(&mut self) {
        self.undo();
    }
}
