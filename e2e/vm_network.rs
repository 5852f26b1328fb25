//! A machine in a network namespace that an engine has made: the same interface, addresses and routes, and traffic both
//! ways.

use crate::vm::machines;
use harness::{Feature, Host, Outcome, Stop, ensure, ensure_eq, json};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

pub(crate) fn trials() -> Feature {
    let feature = Feature::new("vm network")
        .trial("a machine has the interface of the namespace and reaches the host by it; then all is as before", leads)
        .trial("what of a namespace cannot be a guest's is refused by name, and nothing is left there", refused);
    match std::env::var_os("WHARF_E2E_FULL") {
        Some(_) => feature.trial("one machine a namespace; where its stand-in was killed, the next has it", one),
        None => feature,
    }
}

/// A network namespace with one end of a pair of interfaces; the other is the host's. It goes with the trial.
struct Net {
    name: String,
    outside: String,
}

impl Net {
    fn new(host: &Host, number: u8) -> Result<Self, Stop> {
        if !Path::new("/dev/net/tun").exists() {
            return Err(Stop::skipped("there is no /dev/net/tun"));
        }
        let net = Net { name: host.unique("net"), outside: format!("whe{number}o{}", std::process::id() % 100_000) };
        let (name, outside) = (net.name.as_str(), net.outside.as_str());
        ip(&["netns", "add", name])?;
        ip(&["link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        ip(&["addr", "add", &format!("198.18.{number}.1/24"), "dev", outside])?;
        ip(&["link", "set", outside, "up"])?;
        for words in [
            &["addr", "add", &format!("198.18.{number}.2/24"), "dev", "eth0"][..],
            &["addr", "add", "fd00:18::2/64", "dev", "eth0", "nodad"],
            &["link", "set", "eth0", "mtu", "1400", "up"],
            &["route", "add", "default", "via", &format!("198.18.{number}.1")],
        ] {
            net.ip(words)?;
        }
        Ok(net)
    }

    fn ip(&self, words: &[&str]) -> Result<String, Stop> {
        ip(&[&["-n", &self.name], words].concat())
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// As it was made.
    fn is_untouched(&self) -> Outcome {
        let (links, queues) = (self.ip(&["link"])?, self.tc()?);
        ensure!(!links.contains("wharf") && !queues.contains("ingress"), "{links}{queues}");
        Ok(())
    }

    fn tc(&self) -> Result<String, Stop> {
        said(Command::new("tc").args(["-n", &self.name, "qdisc", "show"]))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.name]);
        let _ = ip(&["link", "del", &self.outside]);
    }
}

fn ip(words: &[&str]) -> Result<String, Stop> {
    said(Command::new("ip").args(words))
}

fn said(command: &mut Command) -> Result<String, Stop> {
    let out = command.output().map_err(|_| Stop::skipped("iproute2 is not installed"))?;
    let stderr = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{command:?}: {stderr}");
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn leads(host: &Host) -> Outcome {
    let (host, net) = (machines(host, json!({}))?, Net::new(host, 71)?);
    let server = TcpListener::bind("198.18.71.1:0")?;
    let address = server.local_addr()?.to_string();
    let serve = std::thread::spawn(move || -> std::io::Result<String> {
        let (mut peer, from) = server.accept()?;
        peer.write_all(&[b'x'; 200_000]).map(|()| from.ip().to_string())
    });
    let words = [
        "fetch",
        &address,
        ";",
        "read",
        "/sys/class/net/eth0/address",
        ";",
        "read",
        "/sys/class/net/eth0/mtu",
        ";",
        "read",
        "/proc/net/route",
        ";",
        "read",
        "/proc/net/if_inet6",
        ";",
        "read",
        "/sys/class/net/lo/operstate",
    ];
    let bundle = host.bundle()?.without_namespace("network").namespace("network", Some(&net.path()));
    let mac = net.ip(&["-o", "link", "show", "eth0"])?;
    let [fetched, address, mtu, routes, six, _] = host.lines(&bundle.payload(&words))?;
    ensure_eq!(fetched["fetched"].as_str().map(str::len), Some(200_000), "{fetched:?}");
    ensure_eq!(serve.join().map_err(|_| Stop::failed("the server panicked"))??, "198.18.71.2");
    let text = |report: &harness::Report| report["text"].as_str().unwrap_or_default().trim().to_owned();
    ensure!(text(&address).len() == 17 && mac.contains(&text(&address)), "{address:?}, not that of {mac}");
    ensure_eq!(text(&mtu), "1400");
    // A default route by 198.18.71.1, as the kernel writes it.
    ensure!(text(&routes).contains("eth0\t00000000\t014712C6"), "{routes:?}");
    ensure!(text(&six).contains("fd000018000000000000000000000002"), "{six:?}");
    net.is_untouched()
}

fn refused(host: &Host) -> Outcome {
    let (host, net) = (machines(host, json!({}))?, Net::new(host, 72)?);
    let bundle = || -> Result<_, Stop> {
        Ok(host.bundle()?.without_namespace("network").namespace("network", Some(&net.path())))
    };
    let wants = |words: &str| -> Outcome {
        let failed = host.create_fails(&bundle()?)?;
        ensure!(failed.last_line().contains(words) && failed.last_line().contains("[linux/namespaces/4]"), "{failed}");
        Ok(())
    };
    net.ip(&["route", "add", "10.9.0.0/16", "nexthop", "via", "198.18.72.1", "nexthop", "via", "198.18.72.3"])?;
    wants("a route with several next hops")?;
    net.ip(&["route", "del", "10.9.0.0/16"])?;
    net.ip(&["route", "add", "10.9.0.0/16", "via", "198.18.72.1", "table", "7"])?;
    wants("a route of table 7")?;
    net.ip(&["route", "flush", "table", "7"])?;
    net.is_untouched()?;
    let somebody = Command::new("tc").args(["-n", &net.name, "qdisc", "add", "dev", "eth0", "ingress"]).status()?;
    if somebody.success() {
        let rule = ["-n", &net.name, "filter", "add", "dev", "eth0", "parent", "ffff:", "protocol", "all", "u32"];
        said(
            Command::new("tc")
                .args(rule)
                .args(["match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", "lo"]),
        )?;
        wants("its traffic is redirected already")?;
        ensure!(net.tc()?.contains("ingress"), "somebody else's rule is gone");
    }
    let file = host.dir().join("no-namespace");
    std::fs::write(&file, "")?;
    let path = file.to_string_lossy().into_owned();
    let failed = host.create_fails(&host.bundle()?.without_namespace("network").namespace("network", Some(&path)))?;
    ensure!(failed.last_line().contains("is not a namespace [linux/namespaces/4]"), "{failed}");
    Ok(())
}

/// What comes after the machine cannot be its own.
fn late(host: &Host) -> Outcome {
    let (host, net) = (machines(host, json!({}))?, Net::new(host, 74)?);
    let bundle = host.bundle()?.payload(&["sleep"]);
    let container = host.create(&bundle)?;
    net.ip(&["link", "set", "eth0", "netns", &container.pid()?.to_string()])?;
    said(Command::new("nsenter").args(["-n", "-t", &container.pid()?.to_string(), "ip", "link", "set", "eth0", "up"]))?;
    let refused = host.runtime.call(&["start", bundle.id()])?;
    ensure!(
        refused.code() == Some(1) && refused.last_line().contains("interface eth0 in a virtual machine"),
        "{refused}"
    );
    container.delete_force()
}

fn one(host: &Host) -> Outcome {
    late(host)?;
    let (host, net) = (machines(host, json!({}))?, Net::new(host, 73)?);
    let bundle = || -> Result<_, Stop> {
        Ok(host.bundle()?.without_namespace("network").namespace("network", Some(&net.path())).payload(&["sleep"]))
    };
    let first = host.start(&bundle()?)?;
    let pid = first.pid()?;
    // Who looks through the pid finds the namespace that it knows.
    ensure_eq!(std::fs::metadata(format!("/proc/{pid}/ns/net"))?.ino(), std::fs::metadata(net.path())?.ino());
    let failed = host.create_fails(&bundle()?)?;
    ensure!(failed.last_line().contains("its traffic is redirected already, by another machine"), "{failed}");
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    first.reap(pid)?;
    first.delete()?;
    let second = host.start(&bundle()?)?;
    second.delete_force()?;
    // It was killed too; the rule is nobody's, and goes with the namespace or with the next machine.
    let third = host.start(&bundle()?.payload(&["wait-signal"]))?;
    let pid = third.pid()?;
    third.kill("TERM")?;
    third.reap(pid)?;
    third.delete()?;
    net.is_untouched()
}
