//! The configuration file: defaults for the options before the verb.

use serde::Deserialize;
use std::path::{Path, PathBuf};
use wharf_core::{Error, Kind, Level, Result};

/// Read where `--config` names no other; it may be absent.
const DEFAULT: &str = "/etc/wharf/config.json";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Config {
    pub(super) root: Option<PathBuf>,
    pub(super) backend: Option<String>,
    pub(super) log: Option<PathBuf>,
    pub(super) log_format: Option<LogFormat>,
    pub(super) log_level: Option<Level>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// A file that was named must exist.
pub(super) fn read(named: Option<&Path>) -> Result<Config> {
    let path = named.unwrap_or(Path::new(DEFAULT));
    let failed = |error: std::io::Error| match error.raw_os_error() {
        Some(errno) => Error::system(format!("read configuration {}", path.display()), errno),
        None => Error::new(Kind::System, format!("read configuration {}", path.display())).because(error),
    };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(format!("configuration {}", path.display())).because(error)),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_known_is_refused_by_name() {
        let path = std::env::temp_dir().join(format!("wharf-config-{}.json", std::process::id()));
        std::fs::write(&path, r#"{"root": "/r", "logFormat": "json"}"#).unwrap();
        let good = read(Some(&path)).unwrap();
        std::fs::write(&path, r#"{"backends": 1}"#).unwrap();
        let bad = read(Some(&path)).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((good.root.as_deref(), good.log_format), (Some(Path::new("/r")), Some(LogFormat::Json)));
        assert!(bad.contains("unknown field `backends`"), "{bad}");
        assert!(read(Some(&path)).unwrap_err().to_string().contains("No such file or directory"));
    }
}
