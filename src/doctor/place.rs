//! The configuration, and the directory of the records.

use super::{Line, Patient};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(super) fn lines(patient: &Patient<'_>) -> Vec<Line> {
    let mut lines = configuration(patient);
    lines.push(records(patient.root, patient.uid));
    lines
}

fn configuration(patient: &Patient<'_>) -> Vec<Line> {
    const AREA: &str = "configuration";
    const MEND: &str = "mend that place; wharf config check tells when it is good";
    if let Some(error) = patient.broken {
        return vec![Line::missing(AREA, "no container can be made", error.to_string(), MEND)];
    }
    let Some(file) = patient.configuration else {
        return vec![Line::good(AREA, "there is none: every container is native")];
    };
    let shown = file.path.display();
    let faults = file.faults();
    if !faults.is_empty() {
        let of =
            |fault: &_| Line::missing(AREA, format!("{shown}: no container can be made"), format!("{fault}"), MEND);
        return faults.iter().map(of).collect();
    }
    let doubts = file.routing().map(|routing| routing.doubts()).unwrap_or_default();
    let mut lines = vec![Line::good(AREA, shown.to_string())];
    lines.extend(doubts.into_iter().map(|doubt| {
        let fix = "install what is named there, or take the rule out";
        Line::limited(AREA, format!("{shown}: a rule whose backend is not usable"), doubt, fix)
    }));
    lines
}

fn records(root: &Path, uid: u32) -> Line {
    const AREA: &str = "records";
    if root.as_os_str().is_empty() {
        let fix = "log in through systemd, set XDG_RUNTIME_DIR to a directory of this user's, or give --root";
        return Line::missing(AREA, "their directory", "XDG_RUNTIME_DIR is not set", fix);
    }
    let shown = root.display();
    let about = match root.metadata() {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let Some(above) = root.ancestors().skip(1).find(|above| above.exists()) else {
                return Line::missing(
                    AREA,
                    shown.to_string(),
                    "no directory above it exists",
                    format!("mkdir -p {shown}"),
                );
            };
            return match may_write(above) {
                true => Line::good(AREA, format!("{shown}, which the first container makes")),
                false => {
                    let cause = format!("{} cannot be written to", above.display());
                    Line::missing(
                        AREA,
                        shown.to_string(),
                        cause,
                        "name another directory with --root, or in the configuration",
                    )
                }
            };
        }
        Err(error) => {
            let fix = "name another directory with --root, or in the configuration";
            return Line::missing(AREA, shown.to_string(), error.to_string(), fix);
        }
    };
    if !about.is_dir() {
        return Line::missing(AREA, shown.to_string(), "it is not a directory", format!("rm {shown}"));
    }
    if about.uid() != uid {
        let cause = format!("it is owned by uid {}, and records are only trusted by their owner", about.uid());
        return Line::missing(AREA, shown.to_string(), cause, format!("as root: chown {uid} {shown}"));
    }
    if about.mode() & 0o022 != 0 {
        let cause = format!("others may write to it (mode {:04o})", about.mode() & 0o7777);
        return Line::missing(AREA, shown.to_string(), cause, format!("chmod go-w {shown}"));
    }
    if !may_write(root) {
        let fix = "remount its file system rw, or name another directory with --root";
        return Line::missing(AREA, shown.to_string(), "it cannot be written to", fix);
    }
    Line::good(AREA, shown.to_string())
}

fn may_write(dir: &Path) -> bool {
    wharf_sys::presence::may_write(dir)
}
