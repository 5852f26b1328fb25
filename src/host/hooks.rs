//! Hooks that run outside the container, and the state that every hook is given.

use oci_spec::runtime::Spec;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use wharf_core::{Error, HookEntry, Record, Result, Status, annotations};
use wharf_plan::hook_entries;
use wharf_steps::Failure;
use wharf_steps::facts::hook_end;
use wharf_sys::process::{Ended, ExecStrings};
use wharf_sys::spawn::{self, Outcome};
use wharf_sys::{CWD, Errno, Fd, fd, libc};

/// The hooks that are the parent's to run, and whether the init has some too.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) prestart: Vec<HookEntry>,
    pub(crate) create_runtime: Vec<HookEntry>,
    pub(crate) poststart: Vec<HookEntry>,
    pub(crate) poststop: Vec<HookEntry>,
    /// createContainer or startContainer
    pub(crate) inside: bool,
}

impl Hooks {
    pub(crate) fn new(spec: &Spec) -> Result<Self> {
        let Some(hooks) = spec.hooks() else { return Ok(Self::default()) };
        let any = |hooks: &Option<Vec<_>>| hooks.as_ref().is_some_and(|hooks| !hooks.is_empty());
        #[allow(deprecated)]
        let prestart = hook_entries(hooks.prestart(), "prestart")?;
        Ok(Hooks {
            prestart,
            create_runtime: hook_entries(hooks.create_runtime(), "createRuntime")?,
            poststart: hook_entries(hooks.poststart(), "poststart")?,
            poststop: hook_entries(hooks.poststop(), "poststop")?,
            inside: any(hooks.create_container()) || any(hooks.start_container()),
        })
    }
}

/// The state as runtime.md ("State") defines it.
pub(crate) fn state(record: &Record, status: Status, pid: i32) -> Vec<u8> {
    state_value(record, status, pid).to_string().into_bytes()
}

/// The same as a value.
pub(crate) fn state_value(record: &Record, status: Status, pid: i32) -> serde_json::Value {
    let mut state = serde_json::json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "status": status,
        "bundle": record.bundle,
        "annotations": record.annotations,
    });
    if pid != 0 {
        state["pid"] = pid.into();
    }
    state
}

/// A file with the state in it: each hook reads it from the start.
pub(crate) fn state_file(state: &[u8]) -> Result<OwnedFd> {
    let fill = || {
        let file = fd::memfd(c"state", false)?;
        fd::write_all(&file, state)?;
        Ok(file)
    };
    fill().map_err(|errno: Errno| Error::system("write the state for hooks", errno as i32))
}

/// Where hooks write, in place of our own standard output and error.
#[derive(Default)]
pub(crate) struct Outputs {
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

impl Outputs {
    /// As the container's annotations have it.
    pub(crate) fn open(record: &Record) -> Result<Self> {
        let open = |name: &str| {
            let Some(file) = record.annotations.get(name) else { return Ok(None) };
            let failed = |errno: Errno| {
                Error::system(format!("open {file} for what hooks write"), errno as i32).at(annotations::pointer(name))
            };
            let path = CString::new(file.as_str()).map_err(|_| failed(Errno::EINVAL))?;
            let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NOCTTY;
            fd::openat(CWD, &path, flags, 0o600).map(Some).map_err(failed)
        };
        Ok(Outputs { stdout: open(annotations::HOOKS_STDOUT)?, stderr: open(annotations::HOOKS_STDERR)? })
    }

    fn numbers(&self) -> [Option<Fd>; 2] {
        [&self.stdout, &self.stderr].map(|output| output.as_ref().map(|output| Fd(output.as_raw_fd())))
    }
}

/// Runs hooks one after the other; the first failure ends it. `name` is the field of `hooks`.
pub(crate) fn run(hooks: &[HookEntry], name: &str, state: &[u8], record: &Record) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let outputs = Outputs::open(record)?;
    let file = state_file(state)?;
    for (index, hook) in hooks.iter().enumerate() {
        let at = format!("hooks/{name}/{index}");
        one(hook, &file, &outputs).map_err(|error| error.at(at))?;
    }
    Ok(())
}

/// Whether a poststart hook that fails ends the container: so it is from version 1.3 of the specification on
/// (runtime.md, "Lifecycle", step 9). Before, it is told and nothing changes.
pub(crate) fn poststart_decides(oci_version: &str) -> bool {
    let mut numbers = oci_version.split(['.', '-', '+']).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (1, 3)
}

/// Runs every hook whatever becomes of those before; gives back what failed.
pub(crate) fn run_all(hooks: &[HookEntry], name: &str, state: &[u8], record: &Record) -> Vec<Error> {
    if hooks.is_empty() {
        return Vec::new();
    }
    let outputs = match Outputs::open(record) {
        Ok(outputs) => outputs,
        Err(error) => return vec![error],
    };
    let each = |(index, hook)| {
        let at = format!("hooks/{name}/{index}");
        state_file(state).and_then(|file| one(hook, &file, &outputs)).err().map(|error| error.at(at))
    };
    hooks.iter().enumerate().filter_map(each).collect()
}

fn one(hook: &HookEntry, state: &OwnedFd, outputs: &Outputs) -> Result<()> {
    let text = |text: &String| {
        CString::new(text.as_str()).map_err(|_| Error::invalid("a hook's string").because("it holds a NUL byte"))
    };
    let path = text(&hook.path)?;
    let args = hook.args.iter().map(text).collect::<Result<Vec<_>>>()?;
    let env = hook.env.iter().map(text).collect::<Result<Vec<_>>>()?;
    let arguments = ExecStrings::new(args.iter().map(CString::as_c_str));
    let environment = ExecStrings::new(env.iter().map(CString::as_c_str));
    let milliseconds = hook.milliseconds();
    let failed = |errno: Errno, facts: u32| {
        let failure = Failure { step: 0, errno: errno as i32, facts, head: Vec::new() };
        Err(wharf_plan::hook(&hook.path, milliseconds, &failure))
    };
    if let Err(errno) = fd::seek_start(state) {
        return failed(errno, 0);
    }
    match spawn::run(&path, &arguments, &environment, state, outputs.numbers(), milliseconds) {
        Ok(Outcome::Ended(Ended::Exited(0))) => Ok(()),
        Ok(Outcome::Ended(Ended::Exited(code))) => failed(Errno::UnknownErrno, hook_end::EXITED | code as u32 & 0xff),
        Ok(Outcome::Ended(Ended::Signaled(signal))) => failed(Errno::UnknownErrno, hook_end::SIGNALED | signal as u32),
        Ok(Outcome::TimedOut) => failed(Errno::UnknownErrno, hook_end::TIMED_OUT),
        Ok(Outcome::NotExecuted(errno)) | Err(errno) => failed(errno, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::poststart_decides;

    #[test]
    fn poststart_hooks_decide_from_version_1_3_on() {
        for (version, expected) in [
            ("1.0.2", false),
            ("1.2.1+dev", false),
            ("1.3.0", true),
            ("1.3.0-rc.1", true),
            ("1.10.0", true),
            ("2.0", true),
            ("", false),
        ] {
            assert_eq!(poststart_decides(version), expected, "{version}");
        }
    }
}
