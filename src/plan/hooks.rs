//! The hooks that the init runs from inside; the others are the parent's.

use crate::Builder;
use oci_spec::runtime::{Hook, Spec};
use wharf_core::{Error, HookEntry, Result};
use wharf_steps::Step;

/// Longest time limit, in seconds, that fits a wait in milliseconds.
const LONGEST: i64 = i32::MAX as i64 / 1000;

/// Each kind of hook, judged and in its order; `name` is the field of `hooks`.
pub fn entries(hooks: &Option<Vec<Hook>>, name: &str) -> Result<Vec<HookEntry>> {
    let mut all = Vec::new();
    for (index, hook) in hooks.iter().flatten().enumerate() {
        let pointer = format!("hooks/{name}/{index}");
        let path = hook.path().to_str().unwrap_or_default();
        if !path.starts_with('/') {
            return Err(Error::invalid(format!("hook path {path:?}"))
                .because("must be absolute")
                .at(format!("{pointer}/path")));
        }
        let timeout = match hook.timeout() {
            None => None,
            Some(seconds) if (1..=LONGEST).contains(&seconds) => Some(seconds as u32),
            Some(seconds) => {
                return Err(Error::invalid(format!("hook timeout {seconds}"))
                    .because("must be more than 0 seconds, and less than a month")
                    .at(format!("{pointer}/timeout")));
            }
        };
        let args = match hook.args().as_deref() {
            Some(args) if !args.is_empty() => args.to_vec(),
            _ => vec![path.to_owned()],
        };
        let env = hook.env().clone().unwrap_or_default();
        if [path].into_iter().chain(args.iter().chain(&env).map(String::as_str)).any(|text| text.contains('\0')) {
            return Err(Error::invalid("a hook's string").because("it holds a NUL byte").at(pointer));
        }
        all.push(HookEntry { path: path.to_owned(), args, env, timeout });
    }
    Ok(all)
}

pub(crate) fn create_container(spec: &Spec, plan: &mut Builder) -> Result<()> {
    match spec.hooks() {
        Some(hooks) => inside(hooks.create_container(), "createContainer", &[], plan),
        None => Ok(()),
    }
}

pub(crate) fn start_container(spec: &Spec, plan: &mut Builder) -> Result<()> {
    match spec.hooks() {
        Some(hooks) => {
            // One without an environment of its own gets the payload's, as with the other runtimes.
            let env = spec.process().as_ref().and_then(|process| process.env().as_deref()).unwrap_or_default();
            inside(hooks.start_container(), "startContainer", env, plan)
        }
        None => Ok(()),
    }
}

fn inside(hooks: &Option<Vec<Hook>>, name: &str, inherited: &[String], plan: &mut Builder) -> Result<()> {
    let given = hooks.iter().flatten().map(|hook| hook.env().is_some());
    for (index, (hook, has_env)) in entries(hooks, name)?.into_iter().zip(given).enumerate() {
        let pointer = format!("hooks/{name}/{index}");
        let path = plan.text(&hook.path, &pointer)?;
        let arguments = plan.list(&hook.args, &pointer)?;
        let environment = plan.list(if has_env { &hook.env } else { inherited }, &pointer)?;
        let milliseconds = hook.milliseconds();
        plan.step(Step::Hook { path, arguments, environment, milliseconds }, pointer);
    }
    Ok(())
}
