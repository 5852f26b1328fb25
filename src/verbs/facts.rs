//! What is known of a container before it exists, and the backend that follows from it.

use crate::cli::Request;
use crate::route::{Facts, Route, Routing, cgroup_parent};
use wharf_core::{Bundle, Error, Result};
use wharf_sys::procfs::Procfs;

/// The rules are read here and nowhere earlier: only a container that is being made needs them.
pub(super) fn choose(request: &Request, id: &str, bundle: &Bundle) -> Result<Route> {
    let routing = routing(request)?;
    let facts = gather(&routing, id, bundle, &request.argv0)?;
    routing.choose(request.backend.as_deref(), &facts)
}

pub(super) fn routing(request: &Request) -> Result<Routing> {
    request.configuration.as_ref().map_or_else(|| Ok(Routing::default()), |file| file.routing())
}

/// Copies nothing where it can.
pub(super) fn gather<'a>(routing: &Routing, id: &'a str, bundle: &'a Bundle, argv0: &'a str) -> Result<Facts<'a>> {
    let spec = &bundle.spec;
    let cgroup = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref()).and_then(|path| path.to_str());
    Ok(Facts {
        id,
        annotations: spec.annotations().as_ref(),
        hostname: spec.hostname().as_deref(),
        cgroup_parent: cgroup.map(cgroup_parent),
        bundle: bundle.dir.to_string_lossy(),
        uid: if routing.asks_for_uid() { outer_uid()? } else { 0 },
        argv0,
    })
}

/// The effective user id, in the namespace around ours where a rootless engine has put us into one of its own.
pub(super) fn outer_uid() -> Result<u32> {
    let map = Procfs::open()
        .and_then(|proc| proc.read(c"self/uid_map"))
        .map_err(|errno| Error::system("read the user ids of the caller", errno as i32))?;
    let uid = wharf_sys::dir::effective_uid();
    Ok(outside(&String::from_utf8_lossy(&map), uid).unwrap_or(uid))
}

/// Lines of uid_map are: first inside, first outside, how many (user_namespaces(7)).
fn outside(map: &str, uid: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse::<u64>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = u64::from(uid).checked_sub(inside).filter(|offset| *offset < count)?;
        u32::try_from(outside + offset).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_of_a_rootless_engine_is_the_user_outside() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outside(map, 0), Some(1000));
        assert_eq!(outside(map, 33), Some(100_032));
        assert_eq!(outside(map, 70_000), None);
        assert_eq!(outside("         0          0 4294967295\n", 1000), Some(1000));
    }
}
