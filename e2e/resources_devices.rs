//! linux.resources.devices: which devices may be opened and made.

use harness::{Bundle, Feature, Host, Stop, Value, ensure_eq, json};

/// Nodes for /dev/kmsg (1:11), /dev/loop-control (10:237) and a block device, and leave to make more.
fn with_nodes(host: &Host, rules: Value) -> Result<Bundle, Stop> {
    host.needs_controller("devices").or_else(|skip| if host.is_v2() { Ok(()) } else { Err(skip) })?;
    let nodes = json!([
        {"path": "/dev/log-of-kernel", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666},
        {"path": "/dev/nothing", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}
    ]);
    Ok(host
        .bundle()?
        .capabilities(&["bounding", "permitted", "effective"], &["CAP_MKNOD", "CAP_SYSLOG", "CAP_DAC_OVERRIDE"])
        .set("/linux/devices", nodes)
        .set("/linux/resources/devices", rules))
}

pub(crate) fn trials() -> Feature {
    Feature::new("resources_devices")
        .trial("what is denied cannot be opened, default devices can", |host| {
            let bundle = with_nodes(host, json!([{"allow": false, "access": "rwm"}]))?.payload(&[
                "open", "/dev/log-of-kernel", "r", ";", "open", "/dev/nothing", "rw", ";", "open", "/dev/zero", "rw", ";", "open",
                "/dev/urandom", "r", ";", "open", "/dev/ptmx", "rw", ";", "open", "/dev/full", "w",
            ]);
            let seen = host.lines::<6>(&bundle)?.map(|line| line.errno().to_owned());
            ensure_eq!(seen, ["EPERM", "", "", "", "", ""]);
            Ok(())
        })
        .trial("a later rule wins over an earlier one", |host| {
            let open = ["open", "/dev/log-of-kernel", "r"];
            let deny = json!({"allow": false, "access": "rwm"});
            let allow = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"});
            let [allowed] = host.lines(&with_nodes(host, json!([deny, allow]))?.payload(&open))?;
            ensure_eq!(allowed.errno(), "");
            let [denied] = host.lines(&with_nodes(host, json!([allow, deny]))?.payload(&open))?;
            ensure_eq!(denied.errno(), "EPERM");
            Ok(())
        })
        .trial("reading, writing and making are told apart", |host| {
            let deny = json!({"allow": false, "access": "rwm"});
            let words = ["open", "/dev/log-of-kernel", "r", ";", "open", "/dev/log-of-kernel", "w", ";", "mknod", "/var/node", "c", "1", "11"];
            for (access, expected) in [("r", ["", "EPERM", "EPERM"]), ("w", ["EPERM", "", "EPERM"]), ("m", ["EPERM", "EPERM", ""]), ("rw", ["", "", "EPERM"])] {
                // Making any node is allowed by default in runc, so 1:11 alone is denied that.
                let no_making = json!({"allow": false, "type": "c", "major": 1, "minor": 11, "access": "rwm"});
                let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": access});
                let seen = host.lines::<3>(&with_nodes(host, json!([deny, no_making, rule]))?.payload(&words))?;
                let seen = seen.map(|line| line.errno().to_owned());
                if host.runtime.name() == "runc" {
                    // Its default rule allows making every node, whatever the config says.
                    ensure_eq!(seen[..2], expected[..2], "{access}");
                } else {
                    ensure_eq!(seen, expected, "{access}");
                }
            }
            Ok(())
        })
        .trial("all devices of a major number can be allowed at once", |host| {
            let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "access": "rwm"}]);
            let words = ["open", "/dev/log-of-kernel", "r", ";", "mknod", "/var/node", "c", "1", "12"];
            let [open, mknod] = host.lines(&with_nodes(host, rules)?.payload(&words))?;
            ensure_eq!((open.errno(), mknod.errno()), ("", ""));
            Ok(())
        })
        .trial("everything can be allowed", |host| {
            let rules = json!([{"allow": true, "access": "rwm"}]);
            let words = ["open", "/dev/log-of-kernel", "r", ";", "mknod", "/var/b", "b", "7", "0", ";", "mknod", "/var/c", "c", "10", "1"];
            let [open, block, char] = host.lines(&with_nodes(host, rules)?.payload(&words))?;
            ensure_eq!((open.errno(), block.errno(), char.errno()), ("", "", ""));
            Ok(())
        })
        .trial("a type of its own: blocks may be denied where characters are allowed", |host| {
            let rules = json!([
                {"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "access": "rwm"}, {"allow": false, "type": "b", "access": "rwm"}
            ]);
            host.except("runc", "its default rules allow making every node")?;
            let words = ["mknod", "/var/b", "b", "7", "0", ";", "mknod", "/var/c", "c", "10", "1"];
            let [block, char] = host.lines(&with_nodes(host, rules)?.payload(&words))?;
            ensure_eq!((block.errno(), char.errno()), ("EPERM", ""));
            Ok(())
        })
}
