//! `exec` and namespaces: those of the container's first process, whatever they are.

use harness::{Bundle, Container, Feature, Host, Outcome, Stop, ensure, ensure_eq, json};

const BASE: u32 = 231_072;

pub(crate) fn trials() -> Feature {
    Feature::new("exec_namespaces")
        .trial("new ones of every type are joined", |host| {
            let bundle = host.bundle()?.namespace("cgroup", None);
            same(host, if host.runtime.name() == "runc" { bundle } else { bundle.namespace("time", None) })
        })
        .trial("in a user namespace the process is its root, and no more than that", user)
        .trial("other users are taken on inside a user namespace", |host| {
            let container = host.start(&mapped(host)?.payload(&["sleep"]))?;
            let [joined] = container.exec_lines(&["--user", "1000:1001", "-g", "5"], &["report"])?;
            ensure_eq!(
                (&joined["uid"][0], &joined["gid"][0], &joined["groups"]),
                (&json!(1000), &json!(1001), &json!([5]))
            );
            container.delete_force()
        })
        .trial("without a pid namespace the process is an ordinary one", |host| {
            same(host, plain(host)?.without_namespace("pid"))
        })
        .trial("without a mount namespace the process is in the container's root", |host| {
            host.except("runc", "joins the host's root")?;
            same(host, plain(host)?.without_namespace("mount"))
        })
        .trial("without any namespace the process is in the container's root and cgroup", |host| {
            host.except("runc", "needs a mount namespace")?;
            let bundle = plain(host)?.set("/linux/namespaces", json!([])).edit(|config| {
                config["mounts"].as_array_mut().expect("mounts").retain(|mount| mount["type"] != "sysfs")
            });
            same(host, bundle)
        })
        .trial("namespaces that the container joined by path are joined", |host| {
            let holder = host.start(&host.bundle()?.namespace("cgroup", None).payload(&["sleep"]))?;
            let pid = holder.pid()?;
            let mut bundle = plain(host)?;
            for (kind, name) in
                [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"), ("cgroup", "cgroup")]
            {
                bundle = bundle.namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
            }
            same(host, bundle)?;
            holder.delete_force()
        })
        .trial("a user namespace that the container joined by path is joined", |host| {
            host.except("runc", "1.1 cannot join it")?;
            let holder = host.start(&mapped(host)?.payload(&["sleep"]))?;
            let pid = holder.pid()?;
            let bundle = mapped(host)?
                .namespace("user", Some(&format!("/proc/{pid}/ns/user")))
                .namespace("network", Some(&format!("/proc/{pid}/ns/net")));
            same(host, bundle)?;
            holder.delete_force()
        })
}

/// A config that does not depend on namespaces which a trial takes away.
fn plain(host: &Host) -> Result<Bundle, Stop> {
    Ok(host.bundle()?.remove("/hostname"))
}

fn mapped(host: &Host) -> Result<Bundle, Stop> {
    let map = json!([{"containerID": 0, "hostID": BASE, "size": 65536}]);
    Ok(host.bundle()?.namespace("user", None).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map))
}

/// The joined process sees what the container's own sees.
fn same(host: &Host, bundle: Bundle) -> Outcome {
    let container = host.start(&bundle.payload(&["report", ";", "sleep"]))?;
    let own = container.lines(1)?.remove(0);
    let [joined] = container.exec_lines(&[], &["report"])?;
    for key in ["namespaces", "root", "cwd", "mounts", "cgroup", "uid_map", "hostname", "time_offsets"] {
        ensure_eq!(joined[key], own[key], "{key}");
    }
    ensure_eq!(joined["fds"].as_object().map(|fds| fds.len()), Some(3), "{}", joined["fds"]);
    detached(host, &container)?;
    let pid = container.pid()?;
    container.delete_force()?;
    // Left unreaped it would keep a joined pid namespace.
    container.reap(pid).map(drop)
}

/// The pid in the file is that of the process that stays.
fn detached(host: &Host, container: &Container<'_>) -> Outcome {
    let file = host.dir().join(host.unique("pid"));
    let file = file.to_string_lossy();
    let ran = container.exec(&["--detach", "--pid-file", &file], &["/bin/payload", "exit", "23"])?;
    ensure_eq!(ran.code(), Some(0), "{}", ran.finished);
    ensure_eq!(container.reap(std::fs::read_to_string(&*file)?.parse()?)?, 23);
    Ok(())
}

fn user(host: &Host) -> Outcome {
    let container = host.start(&mapped(host)?.payload(&["report", ";", "sleep"]))?;
    let own = container.lines(1)?.remove(0);
    let [joined] = container.exec_lines(&[], &["report"])?;
    for key in ["namespaces", "uid", "gid", "uid_map", "gid_map", "capabilities", "root"] {
        ensure_eq!(joined[key], own[key], "{key}");
    }
    let file = host.dir().join("pid");
    let file = file.to_string_lossy();
    let ran = container.exec(&["--detach", "--pid-file", &file], &["/bin/payload", "sleep"])?;
    ensure_eq!(ran.code(), Some(0), "{}", ran.finished);
    let pid: i32 = std::fs::read_to_string(&*file)?.parse()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default();
    ensure!(uid.split_whitespace().nth(1) == Some(&BASE.to_string()), "on the host it has {uid}");
    // Left unreaped it would keep the pid namespace.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
    container.reap(pid)?;
    container.delete_force()
}
