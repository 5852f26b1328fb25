//! The payload's terminal: made where the plan has mounted a devpts, handed over, and taken before `start`.

use crate::Builder;
use oci_spec::runtime::{Mount, Process, Spec};
use wharf_core::{Error, Result};
use wharf_steps::{Slot, Step};

/// Where terminals are, in every container that has some.
const PLACE: &str = "/dev/pts";

/// What is known of the terminal before the mounts are planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// The entry of `mounts` that is the devpts, and the slot that it stays open in.
    devpts: Option<(usize, Slot)>,
    rows: u16,
    columns: u16,
}

/// `None` for a payload without a terminal.
pub(crate) fn judge(spec: &Spec, plan: &mut Builder) -> Result<Option<Terminal>> {
    let Some(process) = spec.process().as_ref().filter(|process| process.terminal().unwrap_or(false)) else {
        return Ok(None);
    };
    let (rows, columns) = size(process)?;
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let devpts = match last_at(mounts) {
        Some(index) if mounts[index].typ().as_deref() == Some("devpts") => {
            Some((index, plan.slot("process/terminal")?))
        }
        _ => None,
    };
    Ok(Some(Terminal { devpts, rows, columns }))
}

/// The entry of `mounts` that is seen at the end where terminals are.
fn last_at(mounts: &[Mount]) -> Option<usize> {
    mounts.iter().rposition(|mount| {
        let target = mount.destination().to_str().unwrap_or_default().trim_end_matches('/');
        target == PLACE || target == "/dev"
    })
}

fn size(process: &Process) -> Result<(u16, u16)> {
    let Some(size) = process.console_size() else { return Ok((0, 0)) };
    let each = |value: u64, name: &str| {
        u16::try_from(value).map_err(|_| {
            Error::invalid(format!("console {name} {value}"))
                .because(format!("is more than {}", u16::MAX))
                .at(format!("process/consoleSize/{name}"))
        })
    };
    Ok((each(size.height(), "height")?, each(size.width(), "width")?))
}

impl Terminal {
    /// Where the mount of entry `index` is to stay open.
    pub(crate) fn slot(&self, index: usize) -> Slot {
        self.devpts.filter(|(devpts, _)| *devpts == index).map_or(Slot::NONE, |(_, slot)| slot)
    }

    /// Once the mounts are made, before anybody else can change them.
    pub(crate) fn open(&self, plan: &mut Builder) -> Result<()> {
        let slot = self.devpts.map_or(Slot::NONE, |(_, slot)| slot);
        let path = plan.text(PLACE, "")?;
        let (rows, columns) = (self.rows.into(), self.columns.into());
        plan.step(Step::OpenTerminal { slot, path, rows, columns }, "process/terminal");
        Ok(())
    }

    /// /dev/console (config-linux.md, "Default Devices"), which masked and read-only paths have no say in.
    pub(crate) fn bind(&self, plan: &mut Builder) -> Result<()> {
        let (directory, name) = (plan.text("/dev", "")?, plan.text("console", "")?);
        plan.step(Step::BindTerminal { directory, name }, "process/terminal");
        Ok(())
    }
}

/// The terminal of a process that joins a container: in what it finds there, and without a name of its own in /dev.
pub(crate) fn join(process: &Process, plan: &mut Builder) -> Result<()> {
    if process.terminal().unwrap_or(false) {
        let (rows, columns) = size(process)?;
        Terminal { devpts: None, rows, columns }.open(plan)?;
    }
    Ok(())
}

/// Late, so that whoever gets the other end gets it of a payload that is found; before `start`, so that the standard
/// descriptors of whoever creates are not held any longer.
pub(crate) fn take(uid: u32, plan: &mut Builder) {
    plan.step(Step::SendTerminal {}, "process/terminal");
    plan.step(Step::TakeTerminal { uid }, "process/terminal");
}
