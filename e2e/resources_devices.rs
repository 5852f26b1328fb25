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
        .trial("reading and writing are told apart", |host| {
            let deny = json!({"allow": false, "access": "rwm"});
            let words = ["open", "/dev/log-of-kernel", "r", ";", "open", "/dev/log-of-kernel", "w"];
            for (access, expected) in [("r", ["", "EPERM"]), ("w", ["EPERM", ""]), ("m", ["EPERM", "EPERM"]), ("rw", ["", ""])] {
                let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": access});
                let seen = host.lines::<2>(&with_nodes(host, json!([deny, rule]))?.payload(&words))?;
                ensure_eq!(seen.map(|line| line.errno().to_owned()), expected, "{access}");
            }
            Ok(())
        })
        .trial("nodes can be made whatever may be opened, as images with device nodes need", |host| {
            let rules = json!([{"allow": false, "access": "rwm"}]);
            let words = ["mknod", "/var/b", "b", "7", "0", ";", "mknod", "/var/c", "c", "10", "1", ";", "open", "/var/c", "r"];
            let [block, char, open] = host.lines(&with_nodes(host, rules)?.payload(&words))?;
            ensure_eq!((block.errno(), char.errno(), open.errno()), ("", "", "EPERM"));
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
            let words = ["mknod", "/var/b", "b", "7", "0", ";", "open", "/var/b", "r", ";", "open", "/dev/log-of-kernel", "r"];
            let [_, block, char] = host.lines(&with_nodes(host, rules)?.payload(&words))?;
            ensure_eq!((block.errno(), char.errno()), ("EPERM", ""));
            Ok(())
        })
}
