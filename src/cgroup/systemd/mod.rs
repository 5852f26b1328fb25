//! A container's cgroup as a transient scope of systemd: made around its first process, changed, and stopped.

mod bus;
mod gvariant;
mod message;
mod name;
mod property;
mod value;

pub(crate) use name::resolve;
pub(crate) use property::{Property, of_annotations, of_writes};

use bus::{Bus, Trouble};
use message::{Message, Target};
use std::os::unix::fs::MetadataExt;
use value::Value;
use wharf_core::{Error, Kind, Manager, Result, UnitRecord};
use wharf_sys::dir::effective_uid;

const SYSTEMD: Target = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};
const PROPERTIES: Target = Target { interface: "org.freedesktop.DBus.Properties", ..SYSTEMD };
const PEER: Target = Target { interface: "org.freedesktop.DBus.Peer", ..SYSTEMD };

/// The manager that makes our scopes: the system's for its root, else the user's own. Root of a user namespace is an
/// ordinary user to a manager outside of it, whose directory is not root's as seen from inside.
pub(crate) fn manager() -> Result<Manager> {
    let missing = || {
        Error::unsupported("--systemd-cgroup")
            .because("systemd does not run here")
            .hint("without that flag wharf makes the cgroup itself")
    };
    let owner = std::fs::metadata("/run/systemd/system").map_err(|_| missing())?.uid();
    Ok(if effective_uid() == 0 && owner == 0 { Manager::System } else { Manager::User })
}

fn explain(doing: String, trouble: &Trouble) -> Error {
    let error = match trouble {
        Trouble::System(errno) => return Error::system(doing, *errno as i32),
        _ => Error::new(Kind::System, doing).because(trouble.text()),
    };
    match (trouble, trouble.refusal()) {
        (Trouble::Absent(_), _) => error.hint("is systemd's bus running? a user's needs XDG_RUNTIME_DIR"),
        (_, "UnitExists") => error.hint("systemctl status tells whose it is"),
        _ => error,
    }
}

/// One of the manager's own properties that are texts.
fn own_property(manager: Manager, name: &str) -> Result<String> {
    let arguments = [Value::Text(SYSTEMD.interface.into()), Value::Text(name.into())];
    let read = bus::with(manager, |bus| {
        let serial = bus.call(PROPERTIES, "Get", &arguments);
        let answer = bus.answer(serial)?;
        let text = answer.texts().first().map(|text| (*text).to_owned());
        text.ok_or(Trouble::Broken("the answer is not a text"))
    });
    read.map_err(|trouble| explain(format!("ask {manager} systemd for its {name}"), &trouble))
}

/// The cgroup of the manager itself, as a path with a `/` before it, or nothing for the root.
pub(crate) fn own_cgroup(manager: Manager) -> Result<String> {
    match manager {
        Manager::System => Ok(String::new()),
        Manager::User => own_property(manager, "ControlGroup").map(|path| path.trim_end_matches('/').to_owned()),
    }
}

/// Whether this systemd knows that a cgroup can be idle: since version 252.
pub(crate) fn knows_idle(manager: Manager) -> Result<bool> {
    let version = own_property(manager, "Version")?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse::<u32>().is_ok_and(|number| number >= 252))
}

/// What a scope is made of.
pub(crate) struct Scope<'a> {
    pub(crate) unit: &'a UnitRecord,
    pub(crate) slice: &'a str,
    /// In the words of `systemctl`.
    pub(crate) description: String,
    pub(crate) pid: i32,
    /// Of annotations, and of limits: what is said later holds.
    pub(crate) properties: &'a [&'a [Property]],
}

impl Scope<'_> {
    fn properties(&self) -> Value {
        let yes = || Value::Bool(true);
        let mut all = vec![
            Property::new("Description", Value::Text(self.description.clone())),
            Property::new("Slice", Value::Text(self.slice.to_owned())),
            // What is below is the payload's and ours; systemd enables every controller that it knows.
            Property::new("Delegate", yes()),
            Property::new("PIDs", Value::Array("u".to_owned(), vec![Value::Uint32(self.pid.cast_unsigned())])),
            Property::new("MemoryAccounting", yes()),
            Property::new("CPUAccounting", yes()),
            Property::new("IOAccounting", yes()),
            Property::new("TasksAccounting", yes()),
            // It ends when its engine says so, not before whatever the host stops.
            Property::new("DefaultDependencies", Value::Bool(false)),
            // A unit that has failed goes by itself, also when nobody is left to say so.
            Property::new("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ];
        for more in self.properties {
            property::merge(&mut all, more.iter().cloned());
        }
        list(&all)
    }

    /// Makes the unit, with the process in it. A unit of that name that has failed, or has ended and is still known, is
    /// taken away first. A failure leaves none.
    pub(crate) fn start(&self) -> Result<()> {
        let name = self.unit.name.as_str();
        let arguments = [
            Value::Text(name.to_owned()),
            Value::Text("replace".to_owned()),
            self.properties(),
            Value::Array("(sa(sv))".to_owned(), Vec::new()),
        ];
        let started = bus::with(self.unit.manager, |bus| {
            watch(bus, name);
            let first = bus.call(SYSTEMD, "StartTransientUnit", &arguments);
            let answer = match bus.answer(first) {
                Err(trouble) if trouble.refusal() == "UnitExists" => {
                    reset(bus, name);
                    let second = bus.call(SYSTEMD, "StartTransientUnit", &arguments);
                    bus.answer(second)?
                }
                other => other?,
            };
            let result = end_of_job(bus, name, &answer)?;
            if result != "done" {
                reset(bus, name);
            }
            Ok(result)
        });
        let doing = || format!("start unit {name} of {} systemd", self.unit.manager);
        match started {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => Err(Error::new(Kind::System, doing())
                .because(format!("its job ended with {result:?}"))
                .hint(format!("journalctl --unit {name} tells more"))),
            Err(trouble) => Err(explain(doing(), &trouble)),
        }
    }
}

fn list(properties: &[Property]) -> Value {
    Value::Array("(sv)".to_owned(), properties.iter().map(Property::to_value).collect())
}

fn watch(bus: &mut Bus, unit: &str) {
    bus.watch(&format!(
        "type='signal',sender='{}',path='{}',interface='{}',member='JobRemoved',arg2='{unit}'",
        SYSTEMD.destination, SYSTEMD.path, SYSTEMD.interface
    ));
}

fn reset(bus: &mut Bus, unit: &str) {
    let serial = bus.call(SYSTEMD, "ResetFailedUnit", &[Value::Text(unit.to_owned())]);
    // That it has not failed, or is gone, is as well.
    let _ = bus.answer(serial);
}

/// How the job ended that an answer names.
fn end_of_job(bus: &mut Bus, unit: &str, answer: &Message) -> Result<String, Trouble> {
    let [job] = answer.texts()[..] else { return Err(Trouble::Broken("the answer names no job")) };
    bus.signal(answer, |message| match message.texts()[..] {
        [path, of, result] if message.member == "JobRemoved" && path == job && of == unit => Some(result.to_owned()),
        _ => None,
    })
}

/// Stops a unit and waits until it has; one that is gone is no error. Where nobody is left to ask, systemd is not there to
/// keep it either.
pub(crate) fn stop(unit: &UnitRecord) -> Result<()> {
    let name = unit.name.as_str();
    let stopped = bus::with(unit.manager, |bus| {
        watch(bus, name);
        let serial = bus.call(SYSTEMD, "StopUnit", &[Value::Text(name.to_owned()), Value::Text("replace".to_owned())]);
        let answer = match bus.answer(serial) {
            Err(trouble) if trouble.refusal() == "NoSuchUnit" => return Ok("done".to_owned()),
            other => other?,
        };
        let result = end_of_job(bus, name, &answer)?;
        reset(bus, name);
        Ok(result)
    });
    let doing = || format!("stop unit {name} of {} systemd", unit.manager);
    match stopped {
        Ok(result) if result == "done" => Ok(()),
        Err(Trouble::Absent(_)) => Ok(()),
        Ok(result) => Err(Error::new(Kind::System, doing()).because(format!("its job ended with {result:?}"))),
        Err(trouble) => Err(explain(doing(), &trouble)),
    }
}

/// Puts a process into a unit, at `below` in its cgroup: an empty path, or one with a `/` before it.
pub(crate) fn attach(unit: &UnitRecord, below: &str, pid: u32) -> Result<()> {
    let name = unit.name.as_str();
    let pids = Value::Array("u".to_owned(), vec![Value::Uint32(pid)]);
    let arguments = [Value::Text(name.to_owned()), Value::Text(below.to_owned()), pids];
    let attached = bus::with(unit.manager, |bus| {
        let serial = bus.call(SYSTEMD, "AttachProcessesToUnit", &arguments);
        bus.answer(serial).map(drop)
    });
    let doing = || format!("put process {pid} into unit {name} of {} systemd", unit.manager);
    attached.map_err(|trouble| explain(doing(), &trouble))
}

/// Changes properties until the next boot. When this returns systemd has written its own idea of the limits.
pub(crate) fn set(unit: &UnitRecord, properties: &[Property]) -> Result<()> {
    let name = unit.name.as_str();
    let arguments = [Value::Text(name.to_owned()), Value::Bool(true), list(properties)];
    let changed = bus::with(unit.manager, |bus| {
        let serial = bus.call(SYSTEMD, "SetUnitProperties", &arguments);
        // systemd writes control files between two calls, after the answer to the first.
        let after = bus.call(PEER, "Ping", &[]);
        bus.answer(serial)?;
        bus.answer(after).map(drop)
    });
    changed.map_err(|trouble| explain(format!("change unit {name} of {} systemd", unit.manager), &trouble))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_annotation_says_holds_over_the_usual_and_a_limit_over_both() {
        let unit = UnitRecord { name: "a-b.scope".into(), manager: Manager::System };
        let asked =
            [Property::new("CollectMode", Value::Text("inactive".into())), Property::new("TasksMax", Value::Uint64(9))];
        let limits = [Property::new("TasksMax", Value::Uint64(7))];
        let scope =
            Scope { unit: &unit, slice: "a.slice", description: "x".into(), pid: 5, properties: &[&asked, &limits] };
        let Value::Array(kind, all) = scope.properties() else { panic!() };
        assert_eq!(kind, "(sv)");
        let of = |name: &str| -> Vec<&Value> {
            let named = all.iter().filter_map(|one| match one {
                Value::Tuple(parts) if parts[0] == Value::Text(name.into()) => Some(&parts[1]),
                _ => None,
            });
            named.collect()
        };
        let variant = |value: Value| Value::Variant(Box::new(value));
        assert_eq!(of("CollectMode"), [&variant(Value::Text("inactive".into()))]);
        assert_eq!(of("TasksMax"), [&variant(Value::Uint64(7))]);
        assert_eq!(of("PIDs"), [&variant(Value::Array("u".into(), vec![Value::Uint32(5)]))]);
    }
}
