//! The root file system, mounts, names and annotations.

use super::row::{Row, equal};
use harness::{Bundle, Host, Outcome, Stop, ensure, json};
use std::os::unix::fs::MetadataExt;

/// A directory of the host with one file, bound to /var/bound as the seventh mount.
fn bound(host: &Host, bundle: Bundle, more: harness::Value) -> Result<Bundle, Stop> {
    let source = host.new_dir("source")?;
    std::fs::write(source.join("cargo"), "tea")?;
    let mut mount = json!({ "destination": "/var/bound", "type": "bind", "source": source, "options": ["bind"] });
    for (key, value) in more.as_object().into_iter().flatten() {
        mount[key] = value.clone();
    }
    Ok(bundle.push("/mounts", mount))
}

fn state(host: &Host, bundle: &Bundle, pointer: &str, expected: &str) -> Outcome {
    let container = host.create(bundle)?;
    let state = container.state()?;
    container.delete_force()?;
    equal(state.pointer(pointer), Some(&json!(expected)))
}

fn mount(property: &'static str) -> Row {
    Row::new(property).at(&property.replacen('*', "6", 1).replace('*', "0"))
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        Row::new("ociVersion")
            .set("/ociVersion", json!("1.1.0"))
            .look(|host, bundle| state(host, bundle, "/ociVersion", "1.1.0")),
        Row::new("annotations/*")
            .at("annotations/org.example.cargo")
            .set("/annotations", json!({ "org.example.cargo": "tea" }))
            .look(|host, bundle| state(host, bundle, "/annotations/org.example.cargo", "tea")),
        Row::new("hostname").set("/hostname", json!("berth")).report("/hostname", json!("berth")),
        Row::new("domainname").set("/domainname", json!("harbour")).report("/domainname", json!("harbour")),
        Row::new("root/path")
            .beside(|_, bundle| Ok(bundle.file("/where", "rootfs")?.payload(&["read", "/where"])))
            .edit(|_, bundle| {
                // A copy of it with another word in it, at another place.
                let other = bundle.dir().join("other");
                std::fs::create_dir(&other)?;
                for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"] {
                    std::fs::create_dir(other.join(name))?;
                }
                std::fs::copy(bundle.rootfs().join("bin/payload"), other.join("bin/payload"))?;
                std::fs::write(other.join("where"), "other")?;
                Ok(bundle.set("/root/path", json!("other")))
            })
            .lines(|lines| equal(lines[0].text("/text"), "other")),
        Row::new("root/readonly")
            .payload(&["touch", "/var/new"])
            .set("/root/readonly", json!(true))
            .lines(|lines| equal(lines[0].errno(), "EROFS")),
        mount("mounts/*/source")
            .payload(&["read", "/var/bound/cargo"])
            .edit(|host, bundle| bound(host, bundle, json!({})))
            .lines(|lines| equal(lines[0].text("/text"), "tea")),
        mount("mounts/*/destination")
            .edit(|_, bundle| Ok(bundle.mount("/var/lock", "tmpfs", "tmpfs", &[])))
            .lines(|lines| equal(lines[0].mount("/var/lock").text("/type"), "tmpfs")),
        mount("mounts/*/type")
            .edit(|_, bundle| Ok(bundle.mount("/var/lock", "ramfs", "none", &[])))
            .lines(|lines| equal(lines[0].mount("/var/lock").text("/type"), "ramfs")),
        mount("mounts/*/options")
            .edit(|_, bundle| Ok(bundle.mount("/var/lock", "tmpfs", "tmpfs", &["noexec", "size=64k"])))
            .lines(|lines| {
                let has = |option| lines[0].has_option("/var/lock", option);
                ensure!(has("noexec") && has("size=64k"), "{:?}", lines[0].mount("/var/lock"));
                Ok(())
            }),
    ];
    for property in [
        "mounts/*/uidMappings/*/containerID",
        "mounts/*/uidMappings/*/hostID",
        "mounts/*/uidMappings/*/size",
        "mounts/*/gidMappings/*/containerID",
        "mounts/*/gidMappings/*/hostID",
        "mounts/*/gidMappings/*/size",
    ] {
        // What belongs to root on the host belongs to 4000 in the mount.
        let map = json!([{ "containerID": 0, "hostID": 4000, "size": 10 }]);
        let row = mount(property).payload(&["stat", "/var/bound/cargo"]).edit(move |host, bundle| {
            bound(host, bundle, json!({ "uidMappings": map, "gidMappings": map, "options": ["bind", "idmap"] }))
        });
        rows.push(row.lines(move |lines| {
            let id = if property.contains("/uid") { "uid" } else { "gid" };
            equal(&lines[0][id], &json!(4000))
        }));
    }
    rows
}

/// Ids and maps of a user namespace.
pub(super) fn mapped(property: &'static str) -> Row {
    const BASE: u32 = 231_072;
    Row::new(property)
        .beside(|_, bundle| {
            for path in ["", "var", "tmp", "root"] {
                std::os::unix::fs::chown(bundle.rootfs().join(path), Some(BASE), Some(BASE))?;
            }
            debug_assert_eq!(std::fs::metadata(bundle.rootfs())?.uid(), BASE);
            Ok(bundle)
        })
        .edit(|_, bundle| {
            let map = json!([
                { "containerID": 0, "hostID": BASE, "size": 10 },
                { "containerID": 700, "hostID": BASE + 5000, "size": 3 },
            ]);
            let bundle = bundle.namespace("user", None);
            Ok(bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map))
        })
        .lines(move |lines| {
            let file = if property.contains("/uid") { "/uid_map" } else { "/gid_map" };
            let words: Vec<u32> = lines[0].text(file).split_whitespace().filter_map(|word| word.parse().ok()).collect();
            equal(words, [0, BASE, 10, 700, BASE + 5000, 3])
        })
}
