//! The bundle as it is handed to us: its directory and its config.json, read once.

use crate::{Error, Kind, Result};
use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::de::{DeserializeOwned, IgnoredAny};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use wharf_sys::lot::served;
use wharf_sys::{Errno, Fd, fd, libc};

/// What is read of a file that somebody hands us, in bytes: thousands of times a long one.
const LONGEST: usize = 32 << 20;
const TOO_LONG: &str = "is longer than 32 MiB";

/// A bundle whose config.json has the right form; whether it makes sense is for the backend's plan to say.
#[derive(Debug)]
pub struct Bundle {
    /// Absolute, without symbolic links.
    pub dir: PathBuf,
    pub spec: Spec,
    /// config.json as it was read: properties that [`Spec`] lacks are looked up here.
    pub raw: Vec<u8>,
}

impl Bundle {
    /// Reads `dir`/config.json (runtime-spec, bundle.md). A syntax or type error is reported alone, with its place.
    pub fn open(dir: &Path) -> Result<Self> {
        let failed = |errno: Errno| Error::system(format!("open bundle {}", dir.display()), errno as i32);
        let (opened, dir) = wharf_sys::dir::locate(dir).map_err(failed)?;
        let config = dir.join("config.json");
        let doing = || format!("read {}", config.display());
        let raw = read(opened).map_err(|errno| Error::system(doing(), errno as i32))?;
        let raw = raw.map_err(|why| Error::new(Kind::System, doing()).because(why))?;
        let spec = parse(&raw, &config)?;
        Ok(Bundle { dir, spec, raw })
    }

    /// The same bundle with another config.json.
    pub fn with_config(&self, config: &serde_json::Value) -> Result<Self> {
        let raw = config.to_string().into_bytes();
        let spec = parse(&raw, Path::new("config.json"))?;
        Ok(Bundle { dir: self.dir.clone(), spec, raw })
    }

    /// Whether config.json has this section at its top: for one that [`Spec`] drops. A file without the word, the usual
    /// case, is looked through once and not parsed again.
    pub fn has_section(&self, name: &str) -> bool {
        let text = std::str::from_utf8(&self.raw).unwrap_or_default();
        text.contains(name)
            && serde_json::from_str::<HashMap<String, Option<IgnoredAny>>>(text)
                .is_ok_and(|sections| sections.get(name).is_some_and(Option::is_some))
    }
}

/// A FIFO must not keep us waiting for ever, so the file is opened without that and then looked at: why not, for one that
/// cannot be read to an end.
fn read(dir: Fd) -> Result<Result<Vec<u8>, &'static str>, Errno> {
    let file = served(fd::openat(dir, c"config.json", libc::O_RDONLY | libc::O_NONBLOCK, 0)?);
    let about = fd::stat(file)?;
    match about.st_mode & libc::S_IFMT {
        // Reading a directory says what is wrong.
        libc::S_IFREG if about.st_size as usize > LONGEST => Ok(Err(TOO_LONG)),
        libc::S_IFREG | libc::S_IFDIR => fd::read_sized(file, about.st_size as usize).map(Ok),
        _ => Ok(Err("is not a regular file")),
    }
}

/// Reads limits apart from a bundle, as `update` gets them; `name` says where they come from.
pub fn parse_resources(raw: &[u8], name: &str) -> Result<LinuxResources> {
    serde_json::from_slice(raw).map_err(|error| locate::<LinuxResources>(raw, name, error))
}

/// Reads a process object (config.md, "Process") from a file of its own.
pub fn read_process(path: &Path) -> Result<Process> {
    parse_process(&read_file(&format!("read process {}", path.display()), path)?, path)
}

/// The same from what was read already.
pub fn parse_process(raw: &[u8], path: &Path) -> Result<Process> {
    serde_json::from_slice(raw).map_err(|error| locate::<Process>(raw, &path.display().to_string(), error))
}

/// A file that the caller names, whatever kind of file it is; `doing` says for what it is read.
pub fn read_file(doing: &str, path: &Path) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST as u64 + 1).read_to_end(&mut raw));
    match read {
        Ok(length) if length > LONGEST => Err(Error::new(Kind::System, doing).because(TOO_LONG)),
        Ok(_) => Ok(raw),
        Err(error) => Err(match error.raw_os_error() {
            Some(errno) => Error::system(doing, errno),
            None => Error::new(Kind::System, doing).because(error),
        }),
    }
}

fn parse(raw: &[u8], config: &Path) -> Result<Spec> {
    let spec: Spec = match serde_json::from_slice(raw) {
        Ok(spec) => spec,
        Err(error) => respelled(raw).ok_or_else(|| locate::<Spec>(raw, &config.display().to_string(), error))?,
    };
    if spec.version().is_empty() {
        return Err(Error::invalid(format!("{}: ociVersion is missing", config.display())).at("ociVersion"));
    }
    if !spec.version().starts_with("1.") {
        return Err(Error::unsupported(format!("ociVersion {:?}", spec.version()))
            .because("only 1.x is supported")
            .at("ociVersion"));
    }
    Ok(spec)
}

/// The spec of a file that failed for words of runtime-spec which the types of oci-spec 0.10 spell otherwise.
fn respelled(raw: &[u8]) -> Option<Spec> {
    const WORDS: [(&str, &str); 2] =
        [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];
    let mut config: serde_json::Value = serde_json::from_slice(raw).ok()?;
    for flag in config.pointer_mut("/process/scheduler/flags")?.as_array_mut()? {
        if let Some((_, theirs)) = WORDS.iter().find(|(word, _)| flag == word) {
            *flag = (*theirs).into();
        }
    }
    // By its text: types that read values too would be in the program twice.
    serde_json::from_str(&config.to_string()).ok()
}

/// Parses again, slowly, to learn which property was wrong.
fn locate<T: DeserializeOwned>(raw: &[u8], name: &str, error: serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let why = text.split(" at line ").next().unwrap_or(&text).to_owned();
    let found = Error::invalid(format!("{name} line {line} column {column}")).because(why);
    if error.is_syntax() || error.is_eof() {
        return found;
    }
    let mut deserializer = serde_json::Deserializer::from_slice(raw);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(located) => found.at(pointer(located.path())),
        Ok(_) => found,
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let parts: Vec<String> = path
        .iter()
        .map(|segment| match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => "?".to_owned(),
        })
        .collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(text: &str) -> String {
        parse(text.as_bytes(), Path::new("/b/config.json")).unwrap_err().to_string()
    }

    #[test]
    fn a_syntax_error_names_file_line_and_column() {
        assert_eq!(fails("{\n  \"ociVersion\": \"1.0.0\",\n}"), "/b/config.json line 3 column 1: trailing comma");
    }

    #[test]
    fn a_type_error_names_the_property() {
        let text = r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":"root","gid":0}}}"#;
        let error = fails(text);
        assert!(error.contains("invalid type: string \"root\""), "{error}");
        assert!(error.ends_with("[process/user/uid]"), "{error}");
    }

    #[test]
    fn scheduler_flags_are_read_as_the_specification_spells_them() {
        let text = r#"{"ociVersion":"1.3.0","process":{"cwd":"/","user":{"uid":0,"gid":0},
            "scheduler":{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN"]}}}"#;
        let spec = parse(text.as_bytes(), Path::new("/b/config.json")).unwrap();
        let scheduler = spec.process().as_ref().unwrap().scheduler().as_ref().unwrap();
        assert_eq!(scheduler.flags().as_ref().map(Vec::len), Some(2));
        assert!(fails(&text.replace("DL_OVERRUN", "OVERBOARD")).contains("unknown variant"));
    }

    #[test]
    fn a_section_that_the_types_drop_is_found_in_the_text() {
        let bundle = |text: &str| {
            let spec = parse(text.as_bytes(), Path::new("/b/config.json")).unwrap();
            Bundle { dir: PathBuf::new(), spec, raw: text.as_bytes().to_vec() }
        };
        assert!(bundle(r#"{"ociVersion":"1.3.0","freebsd":{}}"#).has_section("freebsd"));
        assert!(!bundle(r#"{"ociVersion":"1.3.0","freebsd":null}"#).has_section("freebsd"));
        assert!(!bundle(r#"{"ociVersion":"1.3.0","annotations":{"a":"freebsd"}}"#).has_section("freebsd"));
    }

    #[test]
    fn a_version_is_required_and_must_be_one() {
        assert!(fails("{}").contains("ociVersion is missing"));
        assert!(fails(r#"{"ociVersion":"2.0.0"}"#).contains("only 1.x"));
    }
}
