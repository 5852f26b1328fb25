//! Property strings: `VALUE,key=value,…`, and what each of their keys must be (§3).

use crate::args::{Kind, judge};

/// What a property string may hold.
pub(crate) struct Shape {
    /// The key that stands without its name, first.
    pub(crate) default: Option<&'static str>,
    pub(crate) keys: &'static [(&'static str, Kind)],
    pub(crate) required: &'static [&'static str],
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Properties(pub(crate) Vec<(String, String)>);

impl Properties {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is(&self, key: &str) -> bool {
        self.get(key) == Some("1")
    }
}

impl Shape {
    /// The parts, or the reason that the schema gives.
    pub(crate) fn parse(&self, text: &str) -> Result<Properties, String> {
        let wrong = |reason: String| format!("invalid format - format error\n{reason}");
        let mut found = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = match part.split_once('=') {
                // A path may hold the sign.
                Some((key, value)) if self.keys.iter().any(|(name, _)| *name == key) => (key, value),
                Some((key, _)) if !key.contains(['/', ':']) => {
                    return Err(wrong(format!(
                        "{key}: property is not defined in schema and the schema does not allow additional properties"
                    )));
                }
                _ => match self.default {
                    Some(default) if found.iter().all(|(name, _)| name != default) => (default, part),
                    Some(default) => {
                        return Err(wrong(format!(
                            "{default}: duplicate key in comma-separated list property: {default}"
                        )));
                    }
                    None => {
                        return Err(wrong(format!(
                            "value without key, but schema does not define a default key: {part}"
                        )));
                    }
                },
            };
            if found.iter().any(|(name, _): &(String, String)| name == key) {
                return Err(wrong(format!("duplicate key in comma-separated list property: {key}")));
            }
            let mut value = value.to_owned();
            if let Some((_, kind)) = self.keys.iter().find(|(name, _)| *name == key) {
                judge(*kind, &mut value).map_err(|reason| wrong(format!("{key}: {reason}")))?;
            }
            found.push((key.to_owned(), value));
        }
        for key in self.required {
            if found.iter().all(|(name, _)| name != key) {
                return Err(wrong(format!("{key}: property is missing and it is not optional")));
            }
        }
        Ok(Properties(found))
    }
}

const VOLUME: (&str, Kind) = ("volume", Kind::Format(volume));

pub(crate) const ROOTFS: Shape = Shape {
    default: Some("volume"),
    keys: &[
        VOLUME,
        ("size", Kind::Format(size)),
        ("acl", Kind::Flag),
        ("mountoptions", Kind::Format(mount_options)),
        ("idmap", Kind::Format(idmap)),
        ("ro", Kind::Flag),
        ("quota", Kind::Flag),
        ("replicate", Kind::Flag),
        ("shared", Kind::Flag),
    ],
    required: &["volume"],
};

pub(crate) const MOUNT: Shape = Shape {
    default: Some("volume"),
    keys: &[
        VOLUME,
        ("mp", Kind::Format(inside)),
        ("size", Kind::Format(size)),
        ("acl", Kind::Flag),
        ("mountoptions", Kind::Format(mount_options)),
        ("idmap", Kind::Format(idmap)),
        ("ro", Kind::Flag),
        ("quota", Kind::Flag),
        ("replicate", Kind::Flag),
        ("shared", Kind::Flag),
        ("backup", Kind::Flag),
        ("keepattrs", Kind::Flag),
    ],
    required: &["mp", "volume"],
};

pub(crate) const DEVICE: Shape = Shape {
    default: Some("path"),
    keys: &[
        ("path", Kind::Format(device)),
        ("mode", Kind::Format(mode)),
        ("uid", Kind::Integer(0, u32::MAX as i64)),
        ("gid", Kind::Integer(0, u32::MAX as i64)),
        ("deny-write", Kind::Flag),
    ],
    required: &["path"],
};

pub(crate) const NET: Shape = Shape {
    default: None,
    keys: &[
        ("name", Kind::Format(interface)),
        ("bridge", Kind::Format(interface)),
        ("hwaddr", Kind::Format(mac)),
        ("ip", Kind::Format(ipv4)),
        ("gw", Kind::Format(gateway4)),
        ("ip6", Kind::Format(ipv6)),
        ("gw6", Kind::Format(gateway6)),
        ("mtu", Kind::Integer(64, 65535)),
        ("tag", Kind::Integer(1, 4094)),
        ("trunks", Kind::Text(4096)),
        ("rate", Kind::Number(0.0, 1e9)),
        ("firewall", Kind::Flag),
        ("link_down", Kind::Flag),
        ("type", Kind::One(&["veth"])),
        ("host-managed", Kind::Flag),
    ],
    required: &["name"],
};

pub(crate) const FEATURES: Shape = Shape {
    default: None,
    keys: &[
        ("nesting", Kind::Flag),
        ("keyctl", Kind::Flag),
        ("fuse", Kind::Flag),
        ("mknod", Kind::Flag),
        ("force_rw_sys", Kind::Flag),
        ("mount", Kind::Text(4096)),
    ],
    required: &[],
};

fn format(holds: bool, reason: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| format!("invalid format - {reason}"))
}

fn volume(value: &str) -> Result<(), String> {
    let is_id = value.split_once(':').is_some_and(|(storage, rest)| {
        storage.starts_with(|first: char| first.is_ascii_alphabetic()) && !rest.is_empty()
    });
    format(is_id || value.starts_with('/'), &format!("unable to parse volume ID '{value}'"))
}

/// Of a path inside the container: no step up, and nothing that a list of properties could not hold.
fn inside(value: &str) -> Result<(), String> {
    let normal = !value.is_empty() && !value.split('/').any(|part| part == ".." || part == ".");
    format(normal, "value does not look like a normalized path")
}

fn size(value: &str) -> Result<(), String> {
    let digits = value.strip_suffix(['K', 'M', 'G', 'T']).unwrap_or(value);
    format(digits.parse::<f64>().is_ok(), &format!("value '{value}' does not look like a valid disk size"))
}

/// §3: no others.
const MOUNT_OPTIONS: [&str; 6] = ["discard", "lazytime", "noatime", "nodev", "noexec", "nosuid"];

fn mount_options(value: &str) -> Result<(), String> {
    let known = value.split(';').all(|option| MOUNT_OPTIONS.contains(&option));
    known.then_some(()).ok_or_else(|| "value does not match the regex pattern".to_owned())
}

fn idmap(value: &str) -> Result<(), String> {
    let range = |text: &str| {
        let parts: Vec<&str> = text.split(':').collect();
        parts.len() == 4
            && ["u", "g", "b"].contains(&parts[0])
            && parts[1..].iter().all(|part| part.parse::<u32>().is_ok())
    };
    format(value == "passthrough" || value.split(';').all(range), "not a valid idmap")
}

fn device(value: &str) -> Result<(), String> {
    let holds = value.starts_with("/dev/") && !value.contains("..");
    format(holds, &format!("{value} is not a valid path, it must start with /dev/"))
}

fn mode(value: &str) -> Result<(), String> {
    let octal = value.len() == 4 && value.starts_with('0') && value.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    format(octal, "value is not a valid file mode")
}

fn interface(value: &str) -> Result<(), String> {
    let first = value.starts_with(|first: char| first.is_ascii_alphabetic());
    let rest = value.chars().all(|sign| sign.is_ascii_alphanumeric() || "_.-".contains(sign));
    format(first && rest && (2..=15).contains(&value.len()), &format!("invalid network interface name '{value}'"))
}

fn mac(value: &str) -> Result<(), String> {
    let parts: Vec<&str> = value.split(':').collect();
    let holds = parts.len() == 6
        && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let unicast = parts.first().and_then(|part| u8::from_str_radix(part, 16).ok()).is_some_and(|byte| byte & 1 == 0);
    format(holds && unicast, "value does not look like a valid unicast MAC address")
}

fn network<A: std::str::FromStr>(value: &str, widest: u8) -> bool {
    let parts = value.split_once('/');
    parts.is_some_and(|(address, width)| {
        address.parse::<A>().is_ok() && width.parse::<u8>().is_ok_and(|width| width <= widest)
    })
}

fn ipv4(value: &str) -> Result<(), String> {
    let holds = ["dhcp", "manual"].contains(&value) || network::<std::net::Ipv4Addr>(value, 32);
    format(holds, "value does not look like a valid IPv4 network configuration")
}

fn ipv6(value: &str) -> Result<(), String> {
    let holds = ["auto", "dhcp", "manual"].contains(&value) || network::<std::net::Ipv6Addr>(value, 128);
    format(holds, "value does not look like a valid IPv6 network configuration")
}

fn gateway4(value: &str) -> Result<(), String> {
    format(value.parse::<std::net::Ipv4Addr>().is_ok(), "value does not look like a valid ipv4 address")
}

fn gateway6(value: &str) -> Result<(), String> {
    format(value.parse::<std::net::Ipv6Addr>().is_ok(), "value does not look like a valid ipv6 address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_mount_point() {
        let found = MOUNT.parse("/srv/a=b,mp=/data,ro=yes").unwrap();
        assert_eq!(found.get("volume"), Some("/srv/a=b"));
        assert_eq!((found.get("mp"), found.is("ro")), (Some("/data"), true));
    }

    #[test]
    fn what_section_3_does_not_name_is_refused() {
        for (shape, text) in [
            (&MOUNT, "/srv"),
            (&MOUNT, "/srv,mp=/a,mountoptions=rbind"),
            (&MOUNT, "/srv,mp=/a/../b"),
            (&MOUNT, "srv,mp=/a"),
            (&ROOTFS, "data:1,mp=/a"),
            (&NET, "bridge=vmbr0"),
            (&NET, "name=eth0,ip=10.0.0.1"),
            (&NET, "name=eth0,hwaddr=01:00:00:00:00:00"),
            (&DEVICE, "/etc/passwd"),
            (&DEVICE, "/dev/null,mode=666"),
            (&FEATURES, "nested=1"),
        ] {
            let reason = shape.parse(text).unwrap_err();
            assert!(reason.starts_with("invalid format - format error\n"), "{text}: {reason}");
        }
    }
}
