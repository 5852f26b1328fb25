//! The manifest of a checkpoint: what it holds, of what container, and what it takes to bring that back.
//!
//! It lies as [`MANIFEST`] beside what it speaks of and is written last: without one a checkpoint is half-made.

use crate::{Digest, Error, Result};
use serde::{Deserialize, Serialize};

/// Name of the file.
pub const MANIFEST: &str = "manifest.json";
/// The copy of the bundle's config.json beside it.
pub const CONFIG: &str = "config.json";
/// Version that this build writes. It refuses newer ones by name.
pub const MANIFEST_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    /// The container.
    pub id: String,
    /// Of the checkpoint, where it has one (`--name`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// RFC 3339 in UTC.
    pub created: String,
    /// The version of wharf that made it.
    pub wharf: String,
    /// None: the disk alone.
    pub memory: Option<Memory>,
    /// None: the memory alone; whoever restores has to bring the disk back.
    pub disk: Option<Disk>,
    pub host: Host,
    pub spec: SpecDigest,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Absolute path of the root file system.
    pub rootfs: String,
    /// Mounts that are not the container's own, from outside.
    #[serde(default)]
    pub mounts: Vec<ExternalMount>,
    /// Where the standard descriptors led, as /proc shows it: `pipe:[4026]`, `/dev/pts/0`.
    #[serde(default)]
    pub descriptors: Vec<String>,
    /// The payload has a terminal, whose master end was another's.
    #[serde(default)]
    pub console: bool,
    /// Where its cgroup was, as engines see it.
    #[serde(default)]
    pub cgroup: String,
    /// The directory of the memory images before these, relative to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// SHA-256 of all the above, written down without a space: whoever edits it by hand is found out. It protects
    /// against accidents, not against whoever may write here.
    #[serde(default)]
    pub seal: String,
}

/// What CRIU has written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// CRIU's version, `4.1.1`.
    pub criu: String,
    pub files: Vec<ImageFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// In hexadecimal. None where wharf ended before it had read the file again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Snapshots that were taken while every process stood still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// `zfs`
    pub kind: String,
    pub datasets: Vec<DatasetEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetEntry {
    pub name: String,
    pub guid: u64,
    /// Without the dataset's name.
    pub snapshot: String,
    pub snapshot_guid: u64,
    /// What of the bundle it keeps: `root`, or destinations of mounts.
    pub paths: Vec<String>,
    /// Where in the dataset each of them is, relative to its root.
    #[serde(default)]
    pub within: Vec<String>,
}

/// Where it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `uname -r`
    pub kernel: String,
    /// `uname -m`
    pub architecture: String,
    /// The flags of /proc/cpuinfo, sorted.
    #[serde(default)]
    pub cpu: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecDigest {
    /// Of config.json, whose copy lies beside the manifest.
    pub sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalMount {
    /// In the container.
    pub destination: String,
    /// On the host, at the time.
    pub source: String,
}

impl Manifest {
    /// Reads what [`Manifest::to_bytes`] has written; `name` is the file, for errors.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Manifest> {
        let doing = || format!("read manifest {name}");
        let version = || serde_json::from_slice::<serde_json::Value>(bytes).ok()?.get("version")?.as_u64();
        let manifest: Manifest = match serde_json::from_slice(bytes) {
            Ok(manifest) => manifest,
            Err(error) => match version() {
                Some(found) if found > u64::from(MANIFEST_VERSION) => return Err(newer(doing(), found)),
                _ => return Err(Error::invalid(doing()).because(error)),
            },
        };
        if manifest.version > MANIFEST_VERSION {
            return Err(newer(doing(), manifest.version.into()));
        }
        if manifest.seal != manifest.digest()? {
            return Err(Error::invalid(doing())
                .because("it was changed after it had been written: its seal is of another content"));
        }
        Ok(manifest)
    }

    /// As it is written, with its seal.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let sealed = Manifest { seal: self.digest()?, ..self.clone() };
        let mut bytes = serde_json::to_vec_pretty(&sealed).map_err(unwritten)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn digest(&self) -> Result<String> {
        let open = Manifest { seal: String::new(), ..self.clone() };
        let mut digest = Digest::new();
        digest.update(&serde_json::to_vec(&open).map_err(unwritten)?);
        Ok(digest.hex())
    }
}

fn newer(doing: String, found: u64) -> Error {
    Error::unsupported(doing)
        .because(format!("it has version {found}, this wharf reads up to version {MANIFEST_VERSION}"))
        .hint("it was made by a newer wharf")
}

fn unwritten(error: serde_json::Error) -> Error {
    Error::invalid("write the manifest down").because(error)
}

impl Host {
    /// What of `there`, where a checkpoint was made, this host lacks, a few words each. A newer kernel and more
    /// features of the processor are no hindrance.
    pub fn lacks(&self, there: &Host) -> Vec<String> {
        let mut all = Vec::new();
        if self.architecture != there.architecture {
            all.push(format!("it was made on {}, this is {}", there.architecture, self.architecture));
            return all;
        }
        if numbers(&self.kernel) < numbers(&there.kernel) {
            all.push(format!("it was made on kernel {}, this one, {}, is older", there.kernel, self.kernel));
        }
        let missing: Vec<&str> = there.cpu.iter().filter(|flag| !self.cpu.contains(flag)).map(String::as_str).collect();
        if !missing.is_empty() {
            all.push(format!("this processor lacks {}", missing.join(" ")));
        }
        all
    }
}

/// `6.18.5-arch1` is version 6.18; what comes behind is no kernel's difference that a process could see.
fn numbers(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-', '+']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        Manifest {
            version: MANIFEST_VERSION,
            id: "c".to_owned(),
            name: Some("n".to_owned()),
            created: "2026-01-02T03:04:05Z".to_owned(),
            wharf: "0.1.0".to_owned(),
            memory: Some(Memory {
                criu: "4.1.1".to_owned(),
                files: vec![ImageFile { name: "pages-1.img".to_owned(), size: 4096, sha256: None }],
            }),
            disk: None,
            host: Host {
                kernel: "6.12.1".to_owned(),
                architecture: "x86_64".to_owned(),
                cpu: vec!["avx".to_owned(), "sse".to_owned()],
            },
            spec: SpecDigest { sha256: "00".to_owned() },
            bundle: "/b".to_owned(),
            rootfs: "/b/rootfs".to_owned(),
            mounts: vec![ExternalMount { destination: "/vol".to_owned(), source: "/v".to_owned() }],
            descriptors: vec!["pipe:[1]".to_owned()],
            console: false,
            cgroup: "/c".to_owned(),
            parent: None,
            seal: String::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_every_change_is_found_out() {
        let bytes = sample().to_bytes().unwrap();
        let read = Manifest::parse(&bytes, "m").unwrap();
        assert_eq!(Manifest { seal: String::new(), ..read }, sample());
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in [("4096", "4097"), ("\"/v\"", "\"/w\""), ("6.12.1", "6.12.2"), ("\"avx\",", "")] {
            let error = Manifest::parse(text.replace(from, to).as_bytes(), "m").unwrap_err().to_string();
            assert!(error.contains("was changed"), "{from}: {error}");
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_its_number() {
        let text = String::from_utf8(sample().to_bytes().unwrap()).unwrap().replace("\"version\": 1", "\"version\": 2");
        for text in [text.as_str(), "{\"version\": 2, \"all\": \"else\"}"] {
            let error = Manifest::parse(text.as_bytes(), "m").unwrap_err().to_string();
            assert!(error.contains("it has version 2, this wharf reads up to version 1"), "{error}");
        }
    }

    #[test]
    fn a_host_fits_when_it_has_at_least_as_much() {
        let host = |kernel: &str, architecture: &str, cpu: &[&str]| Host {
            kernel: kernel.to_owned(),
            architecture: architecture.to_owned(),
            cpu: cpu.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        let there = host("6.12.9-1", "x86_64", &["avx", "sse"]);
        for (here, lacking) in [
            (host("6.12.9-1", "x86_64", &["avx", "sse"]), ""),
            (host("6.12.0", "x86_64", &["avx", "avx512", "sse"]), ""),
            (host("7.0.0", "x86_64", &["avx", "sse"]), ""),
            (host("6.1.0", "x86_64", &["avx", "sse"]), "it was made on kernel 6.12.9-1, this one, 6.1.0, is older"),
            (host("6.12.9", "x86_64", &["sse"]), "this processor lacks avx"),
            (host("6.12.9", "aarch64", &[]), "it was made on x86_64, this is aarch64"),
        ] {
            assert_eq!(here.lacks(&there).join("; "), lacking);
        }
    }
}
