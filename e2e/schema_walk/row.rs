//! One row of the walk: a property, how it is set, and where its effect is seen.

use harness::{Bundle, Host, Outcome, Report, Stop, Value, ensure, ensure_eq};
use std::fmt::Debug;

type Make = Box<dyn Fn(&Host, Bundle) -> Result<Bundle, Stop>>;
type Look = Box<dyn Fn(&Host, &Bundle) -> Outcome>;

pub(super) struct Row {
    /// As the schema has it.
    pub(super) property: &'static str,
    /// Where it stands in the bundle.
    pub(super) at: String,
    /// What else the bundle must have.
    base: Vec<Make>,
    set: Vec<Make>,
    /// None where no effect is to be expected.
    pub(super) look: Option<Look>,
}

impl Row {
    /// The property, at its first place where it stands in a list.
    pub(super) fn new(property: &'static str) -> Self {
        Row { property, at: property.replace('*', "0"), base: Vec::new(), set: Vec::new(), look: None }
    }

    /// Where it stands, if not at the first place.
    pub(super) fn at(mut self, at: &str) -> Self {
        self.at = at.to_owned();
        self
    }

    /// What the bundle has beside the property.
    pub(super) fn beside(mut self, make: impl Fn(&Host, Bundle) -> Result<Bundle, Stop> + 'static) -> Self {
        self.base.push(Box::new(make));
        self
    }

    /// The property's value: a JSON pointer with its first slash, as [`Bundle::set`] wants it.
    pub(super) fn set(self, pointer: &'static str, value: Value) -> Self {
        self.edit(move |_, bundle| Ok(bundle.set(pointer, value.clone())))
    }

    /// The same by any change.
    pub(super) fn edit(mut self, make: impl Fn(&Host, Bundle) -> Result<Bundle, Stop> + 'static) -> Self {
        self.set.push(Box::new(make));
        self
    }

    /// The payload's commands.
    pub(super) fn payload(self, words: &'static [&'static str]) -> Self {
        self.beside(move |_, bundle| Ok(bundle.payload(words)))
    }

    /// Looks for the effect.
    pub(super) fn look(mut self, look: impl Fn(&Host, &Bundle) -> Outcome + 'static) -> Self {
        self.look = Some(Box::new(look));
        self
    }

    /// Looks for it in what the payload printed.
    pub(super) fn lines(self, look: impl Fn(&[Report]) -> Outcome + 'static) -> Self {
        self.look(move |host, bundle| look(&host.run_well(bundle)?.lines()?))
    }

    /// Looks for it at one place of the payload's report.
    pub(super) fn report(self, pointer: &'static str, expected: Value) -> Self {
        self.lines(move |lines| {
            ensure_eq!(lines[0].0.pointer(pointer), Some(&expected), "{pointer}");
            Ok(())
        })
    }

    /// Looks for it in a control file of the container's cgroup: controller, file and value on v1, the same on v2.
    pub(super) fn cgroup(self, v1: [&'static str; 3], v2: [&'static str; 3]) -> Self {
        self.look(move |host, bundle| {
            let value = control_file(host, bundle, [v1[0], v1[1]], [v2[0], v2[1]])?;
            let expected = if host.is_v2() || v1[0].is_empty() { v2[2] } else { v1[2] };
            ensure!(value.lines().any(|line| line.trim() == expected), "expected {expected:?}, the file has {value:?}");
            Ok(())
        })
    }

    pub(super) fn bundle(&self, host: &Host) -> Result<Bundle, Stop> {
        self.base.iter().chain(&self.set).try_fold(host.bundle()?, |bundle, make| make(host, bundle))
    }

    /// The same bundle without the property.
    pub(super) fn control(&self, host: &Host) -> Result<Bundle, Stop> {
        self.base.iter().try_fold(host.bundle()?, |bundle, make| make(host, bundle))
    }
}

/// A control file of a container that waits to be started, read on the host: controller and file on v1, on v2.
pub(super) fn control_file(host: &Host, bundle: &Bundle, v1: [&str; 2], v2: [&str; 2]) -> Result<String, Stop> {
    let container = host.create(bundle)?;
    let found = [v1, v2].into_iter().find_map(|[controller, file]| {
        let base = match controller {
            "" => return None,
            "cgroup" if host.is_v2() => "/sys/fs/cgroup".into(),
            "cgroup" => std::path::PathBuf::from("/sys/fs/cgroup/unified"),
            controller => host.controller_dir(controller)?,
        };
        std::fs::read_to_string(base.join(bundle.id()).join(file)).ok()
    });
    container.delete_force()?;
    found.ok_or_else(|| Stop::failed(format!("no file {} or {} of the container", v1[1], v2[1])))
}

pub(super) fn equal<A: PartialEq<B> + Debug, B: Debug>(seen: A, expected: B) -> Outcome {
    ensure!(seen == expected, "expected {expected:?}, seen {seen:?}");
    Ok(())
}

/// The calls of this name that a `run` of the bundle makes, as strace(1) tells them.
pub(super) fn traced(host: &Host, bundle: &Bundle, call: &str) -> Result<String, Stop> {
    bundle.save()?;
    let file = host.dir().join("trace");
    let mut command = std::process::Command::new("strace");
    command.arg("-f").arg("-e").arg(format!("trace={call}")).arg("-o").arg(&file);
    command.arg(host.runtime.program()).arg("--root").arg(host.root());
    let out = command.args(["run", "--bundle", bundle.dir_text(), bundle.id()]).output();
    let out = out.map_err(|error| Stop::skipped(format!("strace is needed to see the call: {error}")))?;
    ensure!(out.status.success(), "run: {}", String::from_utf8_lossy(&out.stderr));
    Ok(std::fs::read_to_string(file)?)
}
