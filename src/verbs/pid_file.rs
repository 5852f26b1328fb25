//! `--pid-file`: the file appears with the whole number in it, because engines watch for its name.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use wharf_core::{Error, Kind, Result};

pub(super) fn write(path: &Path, pid: i32) -> Result<()> {
    let failed = |error: std::io::Error| {
        let doing = format!("write pid file {}", path.display());
        match error.raw_os_error() {
            Some(errno) => Error::system(doing, errno),
            None => Error::new(Kind::System, doing).because(error),
        }
    };
    let Some(name) = path.file_name() else {
        return Err(Error::new(Kind::Usage, format!("pid file {}", path.display())).because("is no file's name"));
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    let temporary = path.with_file_name(temporary);
    // O_EXCL: a link that waits there is not followed.
    let open = || File::options().write(true).create_new(true).open(&temporary);
    let mut file = match open() {
        // Left by a create that was killed.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary).map_err(failed)?;
            open().map_err(failed)?
        }
        other => other.map_err(failed)?,
    };
    file.write_all(pid.to_string().as_bytes()).and_then(|()| fs::rename(&temporary, path)).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed(error)
    })
}

/// After a failure later on.
pub(super) fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_the_number_alone_and_a_link_in_its_way_is_not_followed() {
        let dir = std::env::temp_dir().join(format!("wharf-pid-file-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("victim"), "v").unwrap();
        std::os::unix::fs::symlink(dir.join("victim"), dir.join(".pid")).unwrap();
        std::os::unix::fs::symlink(dir.join("victim"), dir.join("pid")).unwrap();
        write(&dir.join("pid"), 42).unwrap();
        assert_eq!(fs::read_to_string(dir.join("pid")).unwrap(), "42");
        assert_eq!(fs::read_to_string(dir.join("victim")).unwrap(), "v");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(&dir).unwrap();
        let error = write(&dir.join("pid"), 42).unwrap_err().to_string();
        assert!(error.starts_with("write pid file ") && error.ends_with("No such file or directory"), "{error}");
    }
}
