//! The two suites: how a built checkout is known, what it consists of, how one part is run and read.

use crate::Runtime;
use crate::outcome::{self, Outcome};
use crate::sandbox::{self, Run};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    RuntimeTools,
    Contest,
}

pub(crate) struct Suite {
    kind: Kind,
    dir: PathBuf,
}

impl Suite {
    /// Tells the suite by its files, and says what is missing where it is not built.
    pub(crate) fn open(dir: &Path) -> Result<Self, String> {
        let dir = dir.canonicalize().map_err(|error| format!("{}: {error}", dir.display()))?;
        let (kind, needed) = if dir.join("validation").is_dir() {
            (Kind::RuntimeTools, vec!["runtimetest"])
        } else if dir.join("tests/contest").is_dir() {
            (Kind::Contest, vec!["contest", "runtimetest", "bundle.tar.gz"])
        } else {
            return Err(format!(
                "{} holds neither validation/ of runtime-tools nor tests/contest of youki",
                dir.display()
            ));
        };
        for file in needed {
            if !dir.join(file).is_file() {
                return Err(format!("{} has no {file}: the suite is not built", dir.display()));
            }
        }
        Ok(Suite { kind, dir })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::RuntimeTools => "runtime-tools",
            Kind::Contest => "contest",
        }
    }

    /// The commit of the checkout, shortened.
    pub(crate) fn revision(&self) -> String {
        let output = Command::new("git").arg("-C").arg(&self.dir).args(["rev-parse", "--short=12", "HEAD"]).output();
        output.map_or("?".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// What is run on its own: a program of runtime-tools, a group of contest.
    pub(crate) fn units(&self) -> Result<Vec<String>, String> {
        let mut units: Vec<String> = match self.kind {
            Kind::RuntimeTools => {
                let dir = self.dir.join("validation");
                let entries = std::fs::read_dir(&dir).map_err(|error| format!("read {}: {error}", dir.display()))?;
                let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
                names.filter(|name| self.program(name).is_file()).collect()
            }
            Kind::Contest => {
                let output = Command::new(self.dir.join("contest")).arg("list").current_dir(&self.dir).output();
                let output = output.map_err(|error| format!("contest list: {error}"))?;
                String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
            }
        };
        units.sort();
        match units.is_empty() {
            true => Err(format!("{} holds no built test", self.dir.display())),
            false => Ok(units),
        }
    }

    fn program(&self, unit: &str) -> PathBuf {
        self.dir.join(format!("validation/{unit}/{unit}.t"))
    }

    pub(crate) fn run(&self, unit: &str, runtime: &Runtime) -> Result<Run, String> {
        let program = runtime.program.to_string_lossy();
        match self.kind {
            Kind::RuntimeTools => sandbox::run(&self.dir, &self.program(unit), &[], &[("RUNTIME", &program)]),
            Kind::Contest => {
                let test = self.dir.join("runtimetest");
                let args = ["run", "--runtime", &program, "--runtimetest", &test.to_string_lossy(), "-t", unit];
                sandbox::run(&self.dir, &self.dir.join("contest"), &args, &[("RUNTIME_KIND", &runtime.name)])
            }
        }
    }

    pub(crate) fn read(&self, unit: &str, run: &Run) -> BTreeMap<String, Outcome> {
        match self.kind {
            Kind::RuntimeTools => BTreeMap::from([(unit.to_owned(), outcome::from_tap(run))]),
            Kind::Contest => outcome::from_contest(unit, run),
        }
    }
}
