//! Files that a caller has asked for: each appears with all that it says, because engines watch for its name.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use wharf_core::{Error, Kind, Result};

/// `kind` is what it is, as in "pid file".
pub(super) fn write(kind: &str, path: &Path, text: &str) -> Result<()> {
    let (mut file, temporary) = beside(kind, path)?;
    file.write_all(text.as_bytes()).and_then(|()| fs::rename(&temporary, path)).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed(kind, path, error)
    })
}

/// Whether one can be written there that is to be written only later.
pub(super) fn try_out(kind: &str, path: &Path) -> Result<()> {
    let (_, temporary) = beside(kind, path)?;
    fs::remove_file(temporary).map_err(|error| failed(kind, path, error))
}

fn beside(kind: &str, path: &Path) -> Result<(File, PathBuf)> {
    let Some(name) = path.file_name() else {
        return Err(Error::new(Kind::Usage, format!("{kind} {}", path.display())).because("is no file's name"));
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    let temporary = path.with_file_name(temporary);
    // O_EXCL: a link that waits there is not followed.
    let open = || File::options().write(true).create_new(true).open(&temporary);
    let file = match open() {
        // Left by a call that was killed.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary).map_err(|error| failed(kind, path, error))?;
            open()
        }
        other => other,
    };
    Ok((file.map_err(|error| failed(kind, path, error))?, temporary))
}

fn failed(kind: &str, path: &Path, error: std::io::Error) -> Error {
    let doing = format!("write {kind} {}", path.display());
    match error.raw_os_error() {
        Some(errno) => Error::system(doing, errno),
        None => Error::new(Kind::System, doing).because(error),
    }
}

/// After a failure later on.
pub(super) fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_the_text_alone_and_a_link_in_its_way_is_not_followed() {
        let dir = std::env::temp_dir().join(format!("wharf-caller-file-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("victim"), "v").unwrap();
        std::os::unix::fs::symlink(dir.join("victim"), dir.join(".pid")).unwrap();
        std::os::unix::fs::symlink(dir.join("victim"), dir.join("pid")).unwrap();
        write("pid file", &dir.join("pid"), "42").unwrap();
        assert_eq!(fs::read_to_string(dir.join("pid")).unwrap(), "42");
        assert_eq!(fs::read_to_string(dir.join("victim")).unwrap(), "v");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(&dir).unwrap();
        let error = write("pid file", &dir.join("pid"), "42").unwrap_err().to_string();
        assert!(error.starts_with("write pid file ") && error.ends_with("No such file or directory"), "{error}");
    }
}
