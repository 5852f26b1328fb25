//! Who is measured, and the words each of them wants for a verb.

use crate::Result;
use crate::stage::{Configuration, DIR, Stage};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Candidate {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) program: PathBuf,
}

#[derive(Clone, Copy)]
pub(crate) enum Payload {
    Exits,
    Waits,
}

/// One container to be: its bundle is written, nothing runs yet.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) pid_file: PathBuf,
    bundle: PathBuf,
    configuration: Configuration,
    payload: &'static str,
    hierarchies: String,
}

impl Container {
    pub(crate) fn prepare(
        stage: &Stage,
        candidate: &Candidate,
        configuration: Configuration,
        payload: Payload,
        purpose: &str,
    ) -> Result<Container> {
        let payload = match payload {
            Payload::Exits => "exit",
            Payload::Waits => "wait",
        };
        let id = format!("{}-{purpose}", candidate.name);
        let name = format!("{id}-{}-{payload}", configuration.word());
        let bundle = Path::new(DIR).join("bundles").join(name);
        fs::create_dir_all(&bundle)?;
        fs::write(bundle.join("config.json"), configuration.json(&id, payload)?)?;
        let hierarchies = stage.hierarchies.join(",");
        Ok(Container { id, pid_file: bundle.join("pid"), bundle, configuration, payload, hierarchies })
    }
}

impl Candidate {
    /// The floor program has no `exec`.
    pub(crate) fn has_exec(&self) -> bool {
        self.name != "floor"
    }

    /// Nor has it `list`.
    pub(crate) fn lists(&self) -> bool {
        self.name != "floor"
    }

    pub(crate) fn list(&self) -> Vec<String> {
        [&self.program.display().to_string(), "--root", &format!("{DIR}/state-{}", self.name), "list"]
            .map(str::to_owned)
            .into()
    }

    /// The whole command line for `verb`.
    pub(crate) fn words(&self, verb: &str, container: &Container) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let id = container.id.clone();
        let mut words = vec![text(&self.program)];
        if self.name == "floor" {
            let kind = container.configuration.word();
            words.extend([kind, verb, &id, container.payload, &container.hierarchies].map(str::to_owned));
            if verb == "create" {
                words.push(text(&container.pid_file));
            }
            return words;
        }
        words.extend(["--root".to_owned(), format!("{DIR}/state-{}", self.name)]);
        if let Some((_, to)) = self.name.split_once("wharf-") {
            words.extend(["--backend".to_owned(), to.to_owned()]);
        }
        words.push(verb.to_owned());
        match verb {
            "run" => words.extend(["--bundle".to_owned(), text(&container.bundle), id]),
            "create" => words.extend([
                "--bundle".to_owned(),
                text(&container.bundle),
                "--pid-file".to_owned(),
                text(&container.pid_file),
                id,
            ]),
            "exec" => words.extend([id, "/still".to_owned(), "exit".to_owned()]),
            "kill" => words.extend([id, "KILL".to_owned()]),
            _ => words.push(id),
        }
        words
    }
}

/// The candidates found here; for each that is not, the reason goes to stderr.
pub(crate) fn find(only: Option<&[String]>, tools: &Path, wharf: &Path) -> Vec<Candidate> {
    let places = [
        ("crun", search("crun")),
        ("runc", search("runc")),
        ("floor", Some(tools.join("floor"))),
        ("wharf", Some(wharf.to_owned())),
        // wharf with the other one as its backend: what a delegated container costs beside the other one alone.
        ("wharf-crun", search("crun").map(|_| wharf.to_owned())),
        ("wharf-runc", search("runc").map(|_| wharf.to_owned())),
    ];
    let wanted = |name: &str| match only {
        Some(names) => names.iter().any(|wanted| wanted == name),
        None => !name.starts_with("wharf-"),
    };
    let mut found = Vec::new();
    for (name, place) in places.into_iter().filter(|(name, _)| wanted(name)) {
        match place.filter(|file| file.is_file()) {
            Some(program) => {
                let version = if name == "floor" { String::new() } else { version(&program) };
                match settle_in(name, &program) {
                    Ok(program) => found.push(Candidate { name, version, program }),
                    Err(error) => eprintln!("skipped: {name}: {error}"),
                }
            }
            None => eprintln!("skipped: {name}: not installed"),
        }
    }
    found
}

/// A program of this name in `PATH`.
pub(crate) fn search(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Copies our own programs onto the stage: how many pages of a fresh build one fault maps depends on how the linker
/// wrote it. The peers stay where they are installed; from a tmpfs crun would copy itself in a slower way.
fn settle_in(name: &str, program: &Path) -> std::io::Result<PathBuf> {
    fs::create_dir_all(format!("{DIR}/state-{name}"))?;
    if matches!(name, "crun" | "runc") {
        return Ok(program.to_owned());
    }
    let copy = Path::new(DIR).join(name);
    fs::copy(program, &copy)?;
    Ok(copy)
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output).into_owned();
    let line = text.lines().next().unwrap_or_default();
    line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(line).to_owned()
}
