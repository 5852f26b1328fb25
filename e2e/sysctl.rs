//! linux.sysctl.

use harness::{Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("sysctl")
        .trial("values of the container's own namespaces are set", |host| {
            let values = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "65536", "fs.mqueue.msg_max": "17", "net.ipv4.ip_unprivileged_port_start": "80"});
            let bundle = host.bundle()?.set("/linux/sysctl", values).payload(&[
                "read", "/proc/sys/net/ipv4/ip_forward", ";", "read", "/proc/sys/kernel/msgmax", ";", "read",
                "/proc/sys/fs/mqueue/msg_max", ";", "read", "/proc/sys/net/ipv4/ip_unprivileged_port_start",
            ]);
            let seen = host.lines::<4>(&bundle)?.map(|line| line.text("/text").trim().to_owned());
            ensure_eq!(seen, ["1", "65536", "17", "80"]);
            Ok(())
        })
        .trial("the host's own values stay", |host| {
            let before = std::fs::read_to_string("/proc/sys/kernel/msgmax")?;
            host.run_well(&host.bundle()?.set("/linux/sysctl", json!({"kernel.msgmax": "12345"})))?;
            ensure_eq!(std::fs::read_to_string("/proc/sys/kernel/msgmax")?, before);
            Ok(())
        })
        .trial("a value below an interface with a dot in its name can be written with slashes", |host| {
            let bundle = host
                .bundle()?
                .set("/linux/sysctl", json!({"net/ipv4/conf/lo/forwarding": "1"}))
                .payload(&["read", "/proc/sys/net/ipv4/conf/lo/forwarding"]);
            let [read] = host.lines(&bundle)?;
            ensure_eq!(read["text"], "1\n");
            Ok(())
        })
        .trial("a value of the whole host is refused by name", |host| {
            for key in ["vm.swappiness", "kernel.panic", "fs.file-max"] {
                let said = host.create_fails(&host.bundle()?.set("/linux/sysctl", json!({ key: "7" })))?;
                ensure!(said.stderr.contains(key), "{said}");
            }
            Ok(())
        })
        .trial("a network value without a network namespace is refused", |host| {
            let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?;
            let bundle = host.bundle()?.without_namespace("network").set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
            let said = host.create_fails(&bundle)?;
            ensure!(said.stderr.contains("net.ipv4.ip_forward"), "{said}");
            ensure_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?, before);
            Ok(())
        })
        .trial("an ipc value without an ipc namespace is refused", |host| {
            let bundle = host.bundle()?.without_namespace("ipc").set("/linux/sysctl", json!({"kernel.msgmax": "9999"}));
            host.create_fails(&bundle)?;
            Ok(())
        })
        .trial("a value that is not there, or that the kernel does not take, is refused by name", |host| {
            let said = host.create_fails(&host.bundle()?.set("/linux/sysctl", json!({"net.ipv4.no_such_value": "1"})))?;
            ensure!(said.stderr.contains("no_such_value"), "{said}");
            let said = host.create_fails(&host.bundle()?.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "lots"})))?;
            ensure!(said.stderr.contains("ip_forward"), "{said}");
            Ok(())
        })
}
