//! `spec`: writes a config.json to begin with.

use crate::report;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use wharf_core::{Error, Kind, Result};

pub(super) fn spec(bundle: &Path, rootless: bool) -> Result<()> {
    let text = report::spec(rootless.then(wharf_sys::dir::effective_ids))?;
    let path = bundle.join("config.json");
    let failed = |error: std::io::Error| {
        let doing = format!("write {}", path.display());
        match error.kind() {
            ErrorKind::AlreadyExists => {
                Error::new(Kind::Exists, doing).because("it exists already").hint("remove it first")
            }
            _ => match error.raw_os_error() {
                Some(errno) => Error::system(doing, errno),
                None => Error::new(Kind::System, doing).because(error),
            },
        }
    };
    let mut file = File::options().write(true).create_new(true).open(&path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}
