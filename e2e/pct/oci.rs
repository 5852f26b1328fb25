//! An OCI image archive as a container's template (§4.5).

use crate::answer::Death;
use crate::config::Section;
use crate::rootfs;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether it is one: members of exactly these names. With `./` before them it is not, and is unpacked as it stands.
pub(crate) fn is_archive(path: &Path) -> bool {
    if path.extension().is_none_or(|end| end != "tar") {
        return false;
    }
    let names = members(path, None).unwrap_or_default();
    let has = |name: &str| names.iter().any(|one| one == name);
    has("oci-layout") && has("index.json") && names.iter().any(|name| name.starts_with("blobs/"))
}

fn tar(words: &[&str], compression: Option<&str>) -> Command {
    let mut command = Command::new("/usr/bin/tar");
    command.args(words).args(compression).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

fn members(path: &Path, compression: Option<&str>) -> Result<Vec<String>, Death> {
    let done = tar(&["tf", &path.to_string_lossy()], compression).output();
    let done = done.map_err(|error| Death::system("run tar", error))?;
    Ok(String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect())
}

struct Image {
    dir: PathBuf,
    config: Value,
    layers: Vec<(PathBuf, Option<&'static str>)>,
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn broken(what: impl std::fmt::Display) -> Death {
    Death::worker(format!("failed to parse OCI image: {what}"))
}

impl Image {
    fn open(archive: &Path, place: &Path) -> Result<Self, Death> {
        let dir = place.join(format!("oci.{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(broken)?;
        let mut image = Image { dir, config: Value::Null, layers: Vec::new() };
        let done = tar(&["xf", &archive.to_string_lossy(), "-C", &image.dir.to_string_lossy()], None).status();
        if !done.map_err(broken)?.success() {
            return Err(broken("tar"));
        }
        let index = image.json(Path::new("index.json"))?;
        let mut manifest = image.described(&index["manifests"][0])?;
        if manifest["manifests"].is_array() {
            manifest = image.described(&manifest["manifests"][0])?;
        }
        image.config = image.described(&manifest["config"])?;
        for layer in manifest["layers"].as_array().into_iter().flatten() {
            let kind = layer["mediaType"].as_str().unwrap_or_default();
            let compression = if kind.ends_with("gzip") {
                Some("-z")
            } else if kind.ends_with("zstd") {
                Some("--zstd")
            } else {
                None
            };
            image.layers.push((image.dir.join(blob(layer)?), compression));
        }
        Ok(image)
    }

    fn json(&self, path: &Path) -> Result<Value, Death> {
        let text = fs::read(self.dir.join(path)).map_err(broken)?;
        serde_json::from_slice(&text).map_err(broken)
    }

    fn described(&self, descriptor: &Value) -> Result<Value, Death> {
        self.json(&blob(descriptor)?)
    }
}

fn blob(descriptor: &Value) -> Result<PathBuf, Death> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let (kind, digits) = digest.split_once(':').ok_or_else(|| broken("a digest"))?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && kind == "sha256";
    plain.then(|| Path::new("blobs").join(kind).join(digits)).ok_or_else(|| broken("a digest"))
}

/// Flattens the layers into the root file system; what the image says of its process becomes configuration.
pub(crate) fn unpack(archive: &Path, place: &Path, root: &Path, section: &Section) -> Result<Section, Death> {
    println!("Detected OCI archive");
    let image = Image::open(archive, place)?;
    for (layer, compression) in &image.layers {
        hide(layer, *compression, root)?;
        let done = rootfs::as_its_root(section)
            .args(["tar", "xpf", "-", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--warning=no-xattr-write"])
            .args(["--exclude", ".wh.*", "--overwrite", "-C"])
            .arg(root)
            .args(*compression)
            .stdin(File::open(layer).map_or_else(|_| Stdio::null(), Stdio::from))
            .status();
        if !done.map_err(broken)?.success() {
            return Err(broken("a layer"));
        }
    }
    let config = &image.config["config"];
    for volume in config["Volumes"].as_object().into_iter().flat_map(|all| all.keys()) {
        let inside = volume.trim_start_matches('/');
        if !inside.split('/').any(|part| part == "..") {
            let _ = fs::create_dir_all(root.join(inside));
        }
    }
    Ok(told(config, root))
}

/// Whiteouts: what the layers below have of these names goes.
fn hide(layer: &Path, compression: Option<&str>, root: &Path) -> Result<(), Death> {
    for name in members(layer, compression)? {
        let path = Path::new(name.trim_start_matches("./"));
        let Some(last) = path.file_name().and_then(|last| last.to_str()) else { continue };
        let dir = root.join(path.parent().unwrap_or(Path::new("")));
        if last == ".wh..wh..opq" {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                remove(&entry.path());
            }
        } else if let Some(hidden) = last.strip_prefix(".wh.") {
            remove(&dir.join(hidden));
        }
    }
    Ok(())
}

fn remove(path: &Path) {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
    let _ = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// A word that LXC's own splitting leaves in one piece.
fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && !word.contains(|sign: char| sign.is_whitespace() || sign == '"' || sign == '\'');
    match (plain, word.contains('"')) {
        (true, _) => word.to_owned(),
        (_, false) => format!("\"{word}\""),
        (_, true) => format!("'{word}'"),
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn told(config: &Value, root: &Path) -> Section {
    let mut told = Section::default();
    let mut words = strings(&config["Entrypoint"]);
    words.extend(strings(&config["Cmd"]));
    if !words.is_empty() {
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        told.set("entrypoint", &words.join(" "));
        told.set("cmode", "console");
    }
    told.env = strings(&config["Env"]);
    let mut raw = |key: &str, value: String| told.raw.push((key.to_owned(), value));
    if let Some(dir) = config["WorkingDir"].as_str().filter(|dir| !dir.is_empty()) {
        raw("lxc.init.cwd", dir.to_owned());
    }
    if let Some((uid, gid)) = config["User"].as_str().and_then(|user| ids(user, root)) {
        raw("lxc.init.uid", uid.to_string());
        raw("lxc.init.gid", gid.to_string());
    }
    raw("lxc.signal.halt", config["StopSignal"].as_str().unwrap_or("SIGTERM").to_owned());
    told
}

/// `user[:group]`, by number or by the image's own files.
fn ids(text: &str, root: &Path) -> Option<(u32, u32)> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let find = |file: &str, name: &str| {
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        let is_it = |parts: &Vec<String>| parts[0] == name || parts.get(2).is_some_and(|id| id == name);
        text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>()).find(is_it)
    };
    let number = |text: Option<&String>| text.and_then(|text| text.parse().ok());
    let entry = (!user.is_empty()).then(|| find("etc/passwd", user)).flatten();
    let uid = user.parse().ok().or_else(|| number(entry.as_ref()?.get(2)))?;
    let own = entry.as_ref().and_then(|entry| number(entry.get(3)));
    let gid = match group {
        Some(group) => group.parse().ok().or_else(|| number(find("etc/group", group)?.get(2)))?,
        None => own.unwrap_or(0),
    };
    Some((uid, gid))
}
