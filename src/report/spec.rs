//! The config.json that `spec` writes: a place to begin, restricted where nothing was asked for.

use serde_json::{Value, json};
use wharf_core::{Error, Kind, Result};

const DEFAULT: &str = include_str!("default.json");

/// `ordinary` is the uid and gid of the user who will run it without privileges.
pub(crate) fn spec(ordinary: Option<(u32, u32)>) -> Result<String> {
    let Some(ids) = ordinary else { return Ok(DEFAULT.to_owned()) };
    let mut spec: Value = serde_json::from_str(DEFAULT)
        .map_err(|error| Error::new(Kind::System, "write the default config.json").because(error))?;
    for_ordinary_user(&mut spec, ids);
    super::json(&spec)
}

/// A user namespace with the caller as root; what the kernel then denies is left out.
fn for_ordinary_user(spec: &mut Value, (uid, gid): (u32, u32)) {
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("resources");
    }
    spec["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
    spec["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
    if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
        // A network namespace of one's own would have no way out.
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({ "type": "user" }));
    }
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        match mount["destination"].as_str() {
            // The group tty has no mapping.
            Some("/dev/pts") => {
                if let Some(options) = mount["options"].as_array_mut() {
                    options.retain(|option| option != "gid=5");
                }
            }
            // sysfs may be mounted only by who owns the network namespace.
            Some("/sys") => {
                mount["type"] = json!("none");
                mount["source"] = json!("/sys");
                mount["options"] = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{LinuxNamespaceType, Spec};

    fn parsed(ordinary: Option<(u32, u32)>) -> (Spec, Value) {
        let text = spec(ordinary).unwrap();
        (serde_json::from_str(&text).unwrap(), serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn every_property_of_the_default_is_one_that_the_specification_has() {
        let (typed, written) = parsed(None);
        let mut through_types = serde_json::to_value(typed).unwrap();
        // Sets have no order.
        for set in through_types["process"]["capabilities"].as_object_mut().unwrap().values_mut() {
            set.as_array_mut().unwrap().sort_by_key(|name| name.to_string());
        }
        assert_eq!(through_types, written);
        assert_eq!(written["ociVersion"], crate::report::SPEC_VERSION);
    }

    #[test]
    fn an_ordinary_users_container_maps_him_to_root_and_keeps_the_hosts_network() {
        let (typed, written) = parsed(Some((1000, 100)));
        let linux = typed.linux().as_ref().unwrap();
        let types: Vec<_> = linux.namespaces().as_ref().unwrap().iter().map(|namespace| namespace.typ()).collect();
        assert!(types.contains(&LinuxNamespaceType::User) && !types.contains(&LinuxNamespaceType::Network));
        assert_eq!(written["linux"]["uidMappings"][0]["hostID"], 1000);
        assert_eq!(written["linux"]["gidMappings"][0]["hostID"], 100);
        assert!(linux.resources().is_none());
        assert!(!written.to_string().contains("gid=5"));
    }
}
