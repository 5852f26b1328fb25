//! Puts device rules on a cgroup: all of them on a new one, and in the place of others on one in use.

use crate::apply::Files;
use crate::devices::{self, Line, Rule};
use crate::filter;
use std::os::fd::AsFd;
use wharf_core::{Error, Result};
use wharf_sys::Errno;
use wharf_sys::bpf::{self, Instruction};

const AT: &str = "linux/resources/devices";

/// v1: every line in its order.
pub(crate) fn write_lines(files: &Files<'_>, index: usize, lines: &[Line]) -> Result<()> {
    let mut controls = [None, None];
    for line in lines {
        let file = if line.allow { "devices.allow" } else { "devices.deny" };
        let failed = |errno: Errno| {
            let at = if line.at.is_empty() { AT } else { &line.at };
            files.failed(&format!("write {:?} to {file} of", line.line), index, errno).at(at)
        };
        let slot = &mut controls[usize::from(line.allow)];
        let control = match slot {
            Some(control) => control,
            None => slot.insert(files.base.open_control(&files.at(index, file)).map_err(failed)?),
        };
        control.write(&line.line).map_err(failed)?;
    }
    Ok(())
}

fn failed(what: &str, errno: Errno) -> Error {
    Error::system(format!("{what} the device rules of the cgroup"), errno as i32).at(AT)
}

/// v2: the program of a new cgroup.
pub(crate) fn attach(cgroup: impl AsFd, program: &[Instruction]) -> Result<()> {
    let loaded = bpf::load_device_program(program).map_err(|errno| failed("load", errno))?;
    bpf::attach_device_program(cgroup, &loaded, None).map_err(|errno| failed("attach", errno))
}

/// Puts these rules in the place of those in force. A failure leaves those in force.
pub(crate) fn replace(files: &Files<'_>, rules: &[Rule]) -> Result<()> {
    if let Some(index) = files.layout.find("devices") {
        return replace_lines(files, index, &devices::lines(rules)?);
    }
    let Some(index) = files.layout.unified() else {
        return Err(crate::wanted::unavailable(files.layout, "devices", AT));
    };
    let cgroup = files.base.open_dir(&files.at(index, "")).map_err(|errno| files.failed("open", index, errno))?;
    replace_program(&cgroup, rules)
}

/// All programs of the cgroup must consent, so the new one alone must be left. There is no moment without a judge.
fn replace_program(cgroup: &impl AsFd, rules: &[Rule]) -> Result<()> {
    let before = bpf::device_programs(cgroup).map_err(|errno| failed("list", errno))?;
    let detach = |programs: &[std::os::fd::OwnedFd]| {
        programs
            .iter()
            .try_for_each(|old| bpf::detach_device_program(cgroup, old).map_err(|errno| failed("detach", errno)))
    };
    if devices::allow_everything(rules) {
        return detach(&before);
    }
    let loaded = bpf::load_device_program(&filter::compile(rules)).map_err(|errno| failed("load", errno))?;
    match before.as_slice() {
        [one] => bpf::attach_device_program(cgroup, &loaded, Some(one)).map_err(|errno| failed("replace", errno)),
        more => {
            bpf::attach_device_program(cgroup, &loaded, None).map_err(|errno| failed("attach", errno))?;
            detach(more)
        }
    }
}

/// Only the difference is written, what is newly allowed first: nothing that stays allowed is denied in between, and
/// cgroups below, with which the kernel changes no default, are no hindrance.
fn replace_lines(files: &Files<'_>, index: usize, wanted: &[Line]) -> Result<()> {
    let list = files.base.read_all(&files.at(index, "devices.list"));
    let list = list.map_err(|errno| files.failed("read devices.list of", index, errno))?;
    let now: Vec<Line> =
        list.lines().map(|line| Line { allow: true, line: line.to_owned(), at: String::new() }).collect();
    // What the kernel shows of a cgroup that is allowed everything: its exceptions are not told.
    let all = now.iter().any(|line| line.line.starts_with('a'));
    if all || wanted.first().is_some_and(|line| line.allow) {
        return write_lines(files, index, wanted);
    }
    let steps = difference(&now, &wanted[1..]);
    for (done, step) in steps.iter().enumerate() {
        if let Err(error) = write_lines(files, index, std::slice::from_ref(step)) {
            let back: Vec<Line> =
                steps[..done].iter().rev().map(|step| Line { allow: !step.allow, ..step.clone() }).collect();
            return Err(match write_lines(files, index, &back) {
                Ok(()) => error,
                Err(left) => error.hint(format!("and then: {left}")),
            });
        }
    }
    Ok(())
}

/// The commands that lead from one list of exceptions to another. A line is `c 1:3 rwm`.
fn difference(now: &[Line], wanted: &[Line]) -> Vec<Line> {
    let split = |line: &Line| line.line.rsplit_once(' ').map(|(node, access)| (node.to_owned(), access.to_owned()));
    let without = |of: &[Line], others: &[Line], allow: bool| -> Vec<Line> {
        let lines = of.iter().filter_map(|line| {
            let (node, access) = split(line)?;
            let has: String =
                others.iter().filter_map(split).filter(|other| other.0 == node).map(|other| other.1).collect();
            let left: String = access.chars().filter(|letter| !has.contains(*letter)).collect();
            (!left.is_empty()).then(|| Line { allow, line: format!("{node} {left}"), at: line.at.clone() })
        });
        lines.collect()
    };
    let mut steps = without(wanted, now, true);
    steps.extend(without(now, wanted, false));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written_and_what_is_allowed_comes_first() {
        let lines = |text: &[&str]| -> Vec<Line> {
            text.iter().map(|line| Line { allow: true, line: (*line).to_owned(), at: String::new() }).collect()
        };
        let now = lines(&["c 1:3 rwm", "b *:* m", "c 5:1 rw", "c 10:200 r"]);
        let wanted = lines(&["c 1:3 rwm", "b *:* m", "c 5:1 rm", "c 10:229 rwm"]);
        let steps: Vec<(bool, String)> =
            difference(&now, &wanted).into_iter().map(|step| (step.allow, step.line)).collect();
        let expected = [(true, "c 5:1 m"), (true, "c 10:229 rwm"), (false, "c 5:1 w"), (false, "c 10:200 r")];
        assert_eq!(steps, expected.map(|(allow, line)| (allow, line.to_owned())));
        assert_eq!(difference(&now, &now), []);
    }
}
