//! Bundles made on the spot: a root file system with the payload, and a config.json as engines write it.

use crate::{Host, Stop, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// A bundle under construction; [`Bundle::save`] writes its config.json, as every verb of [`Host`] does.
pub struct Bundle {
    dir: PathBuf,
    dir_text: String,
    id: String,
    pub config: Value,
}

impl Bundle {
    pub fn new(host: &Host) -> Result<Self, Stop> {
        let id = host.unique("c");
        let dir = host.dir().join(format!("bundle-{id}"));
        let rootfs = dir.join("rootfs");
        for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"] {
            fs::create_dir_all(rootfs.join(name))?;
        }
        fs::copy(host.payload(), rootfs.join("bin/payload"))?;
        fs::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/payload\nsailor:x:1000:1000::/home:/bin/payload\n",
        )?;
        fs::write(rootfs.join("etc/group"), "root:x:0:\nsailor:x:1000:\n")?;
        let dir_text = dir.to_string_lossy().into_owned();
        let config = template(&id);
        Ok(Bundle { dir, dir_text, id, config })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Another container of the same bundle.
    pub fn with_id(mut self, id: &str) -> Self {
        self.id = id.to_owned();
        self
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn dir_text(&self) -> &str {
        &self.dir_text
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The payload's commands, `";"` between them.
    pub fn payload(mut self, words: &[&str]) -> Self {
        let mut args = vec!["/bin/payload"];
        args.extend_from_slice(words);
        self.config["process"]["args"] = json!(args);
        self
    }

    /// `process.args` as they are.
    pub fn args(self, args: &[&str]) -> Self {
        self.set("/process/args", json!(args))
    }

    /// Sets the value at a JSON pointer; missing objects on the way are made.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut place = &mut self.config;
        for key in pointer.trim_start_matches('/').split('/') {
            place = match place {
                Value::Array(list) => {
                    let index: usize = key.parse().expect("an index into an array");
                    &mut list[index]
                }
                other => {
                    if other.is_null() {
                        *other = json!({});
                    }
                    &mut other[key]
                }
            };
        }
        *place = value;
        self
    }

    /// Takes the property at a JSON pointer away.
    pub fn remove(mut self, pointer: &str) -> Self {
        if let Some((parent, key)) = pointer.rsplit_once('/')
            && let Some(Value::Object(map)) = self.config.pointer_mut(parent)
        {
            map.remove(key);
        }
        self
    }

    /// Any change.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Appends to the array at a JSON pointer, which is made where it is missing.
    pub fn push(mut self, pointer: &str, value: Value) -> Self {
        match self.config.pointer_mut(pointer).and_then(Value::as_array_mut) {
            Some(list) => {
                list.push(value);
                self
            }
            None => self.set(pointer, json!([value])),
        }
    }

    /// Appends a mount.
    pub fn mount(self, target: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        self.push("/mounts", json!({"destination": target, "type": kind, "source": source, "options": options}))
    }

    /// Replaces the namespace of this type, or adds it.
    pub fn namespace(mut self, kind: &str, path: Option<&str>) -> Self {
        self = self.without_namespace(kind);
        let mut entry = json!({ "type": kind });
        if let Some(path) = path {
            entry["path"] = json!(path);
        }
        self.push("/linux/namespaces", entry)
    }

    /// Shares the caller's namespace of this type.
    pub fn without_namespace(mut self, kind: &str) -> Self {
        if let Some(list) = self.config.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut) {
            list.retain(|entry| entry["type"] != kind);
        }
        self
    }

    /// The same capabilities in the bounding, permitted, effective and inheritable sets as named.
    pub fn capabilities(self, sets: &[&str], names: &[&str]) -> Self {
        let mut bundle = self;
        for set in sets {
            bundle = bundle.set(&format!("/process/capabilities/{set}"), json!(names));
        }
        bundle
    }

    /// A file of the root file system; parents are made.
    pub fn file(self, path: &str, text: &str) -> Result<Self, Stop> {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
        Ok(self)
    }

    /// A directory of the root file system.
    pub fn directory(self, path: &str) -> Result<Self, Stop> {
        fs::create_dir_all(self.rootfs().join(path.trim_start_matches('/')))?;
        Ok(self)
    }

    /// A symbolic link of the root file system.
    pub fn symlink(self, target: &str, path: &str) -> Result<Self, Stop> {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        std::os::unix::fs::symlink(target, path)?;
        Ok(self)
    }

    /// Writes config.json.
    pub fn save(&self) -> Result<(), Stop> {
        fs::write(self.dir.join("config.json"), serde_json::to_vec_pretty(&self.config)?)?;
        Ok(())
    }
}

/// What engines ask for by default, less what a test wants to ask for by itself.
fn template(id: &str) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/payload", "report"],
            "env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "e2e",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] }
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }
            ]
        }
    })
}
