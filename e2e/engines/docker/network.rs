//! The networks: none, the host's (the daemon's here), and a bridge.

use super::case;
use super::engine::Docker;
use crate::engines::Case;
use crate::engines::common::{code, said};
use harness::{Stop, ensure};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("--network none has only a loopback", "lo", |docker| interfaces(docker, &["--network", "none"])),
        case("--network host is the daemon's", "docker0 lo", |docker| interfaces(docker, &["--network", "host"])),
        case("--network bridge has an address, and reaches its neighbour", "eth0 lo, pong", |docker| {
            let id = docker
                .detached(&["--network", "bridge"], &["sh", "-c", "while true; do echo pong | nc -l -p 7000; done"])?;
            let address = docker.inspect(&id, "{{.NetworkSettings.IPAddress}}")?;
            ensure!(address.starts_with("172."), "{address:?}");
            let script = format!("until nc {address} 7000; do sleep 0.1; done");
            let heard = docker.prints(&["--network", "bridge"], &["timeout", "10", "sh", "-c", &script])?;
            Ok(format!("{}, {heard}", interfaces(docker, &["--network", "bridge"])?))
        }),
        case("a network of one's own resolves names", "172", |docker| {
            docker.must(&["network", "create", "sea"])?;
            let id = docker.detached(&["--network", "sea", "--name", "port"], &["sleep", "1000"])?;
            let address = said(code(docker.exec(&[], &id, &["hostname", "-i"])?, 0)?)?;
            let seen = docker.prints(&["--network", "sea"], &["nslookup", "port"])?;
            ensure!(seen.contains(&address), "{seen:?} has no {address}");
            docker.must(&["rm", "--force", &id])?;
            docker.must(&["network", "rm", "sea"])?;
            Ok(address.split('.').next().unwrap_or_default().to_owned())
        }),
    ]
}

fn interfaces(docker: &Docker<'_>, options: &[&str]) -> Result<String, Stop> {
    let seen = docker.prints(options, &["ls", "/sys/class/net"])?;
    Ok(seen.split_whitespace().filter(|name| !name.starts_with("veth")).collect::<Vec<_>>().join(" "))
}
