//! Fails on an import that the table of rooms does not allow, and on a file that breaks the rules of the house.
//!
//! The table below is the plan; docs/architecture.md tells it in words. A text scan is enough: comments and string
//! literals are blanked, then every path (`a::b`, `use a::{b, c::d}`) is read and its first segment looked up.

mod scan;
mod synthetic;

use scan::{blank, paths};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A crate, or a module of the binary, and everything that it may import.
struct Room {
    /// Its directory or file, from the top.
    path: &'static str,
    /// The package's name; none for a module of the binary.
    package: Option<&'static str>,
    /// Packages, and for modules of the binary also `crate::` rooms.
    may: &'static [&'static str],
    /// More packages for its tests only.
    tests_may: &'static [&'static str],
    /// Paths of the standard library that would break its promise (tests are free).
    never: &'static [&'static str],
}

const PURE: &[&str] = &["std::fs", "std::process", "std::net", "std::thread", "std::env", "std::os::unix::net"];

const fn room(path: &'static str, package: &'static str, may: &'static [&'static str]) -> Room {
    Room { path, package: Some(package), may, tests_may: &["proptest", "serde_json"], never: &[] }
}

const fn module(path: &'static str, may: &'static [&'static str]) -> Room {
    Room { path, package: None, may, tests_may: &[], never: &[] }
}

const ROOMS: &[Room] = &[
    room("src/sys", "wharf-sys", &["libc", "nix"]),
    room("src/core", "wharf-core", &["wharf-sys", "oci-spec", "serde", "serde_json", "serde_path_to_error"]),
    Room {
        never: PURE,
        // The judge of our own compiler of profiles.
        tests_may: &["proptest", "seccompiler", "serde_json"],
        ..room("src/plan", "wharf-plan", &["wharf-core", "wharf-steps", "caps", "oci-spec"])
    },
    Room { never: PURE, ..room("src/steps", "wharf-steps", &[]) },
    // A program of its own, with a C entry.
    room("src/init", "wharf-init", &["wharf-steps", "wharf-sys"]),
    room("src/cgroup", "wharf-cgroup", &["wharf-core", "wharf-sys", "oci-spec"]),
    room("src/foreground", "wharf-foreground", &["wharf-core", "wharf-sys"]),
    room("src/monitor", "wharf-monitor", &["wharf-cgroup", "wharf-core", "wharf-sys", "serde_json"]),
    room("src/disk", "wharf-disk", &["wharf-core", "wharf-sys"]),
    room(
        "src/host",
        "wharf-host",
        &[
            "wharf-core",
            "wharf-plan",
            "wharf-steps",
            "wharf-cgroup",
            "wharf-foreground",
            "wharf-monitor",
            "wharf-sys",
            "oci-spec",
            "serde",
            "serde_json",
        ],
    ),
    room("backends/native", "wharf-native", &["wharf-host"]),
    room(
        "backends/lxc",
        "wharf-lxc",
        &[
            "wharf-core",
            "wharf-plan",
            "wharf-steps",
            "wharf-cgroup",
            "wharf-host",
            "wharf-monitor",
            "wharf-sys",
            "serde_json",
        ],
    ),
    room(
        "backends/delegate",
        "wharf-delegate",
        &["wharf-cgroup", "wharf-core", "wharf-foreground", "wharf-sys", "serde_json"],
    ),
    room(
        "backends/vm",
        "wharf-vm",
        &[
            "wharf-cgroup",
            "wharf-core",
            "wharf-foreground",
            "wharf-monitor",
            "wharf-sys",
            "oci-spec",
            "serde",
            "serde_json",
        ],
    ),
    Room {
        // The judge of the configuration's schema, and of the rules.
        tests_may: &["boon", "proptest", "serde_json"],
        ..room(
            "",
            "wharf",
            &[
                "wharf-core",
                "wharf-sys",
                "wharf-native",
                "wharf-delegate",
                "wharf-lxc",
                "wharf-vm",
                "wharf-cgroup",
                "wharf-monitor",
                "wharf-disk",
                "clap",
                "oci-spec",
                "regex-lite",
                "serde",
                "serde_json",
            ],
        )
    },
    // Its trials of disks call the room itself.
    room("e2e", "wharf-e2e", &["wharf-core", "wharf-disk", "wharf-sys", "libtest-mimic", "nix", "serde_json"]),
    // `without` has a C entry, as the binary has.
    room("e2e/payload", "wharf-payload", &["wharf-sys", "nix", "serde_json"]),
    room("e2e/pct", "wharf-pct", &["wharf-sys", "nix", "serde_json"]),
    room("e2e/benchmark", "wharf-benchmark", &["nix", "serde_json"]),
    room("e2e/suites", "wharf-suites", &[]),
    // Its three small programs have a C entry each, as the binary has.
    room("e2e/floor", "wharf-floor", &["wharf-sys"]),
    module("src/store", &["wharf-core", "wharf-sys", "serde_json"]),
    Room { tests_may: &["proptest", "serde_json"], ..module("src/route", &["wharf-core", "regex-lite", "serde"]) },
    Room { tests_may: &["boon"], ..module("src/config", &["crate::route", "wharf-core", "serde", "serde_json"]) },
    module("src/checkpoints", &["wharf-core", "wharf-sys"]),
    module("src/cli", &["crate::config", "wharf-core", "wharf-sys", "clap", "serde_json"]),
    module("src/guest.rs", &["crate::cli", "crate::report", "crate::verbs", "wharf-core", "wharf-sys", "wharf-vm"]),
    module("src/survey", &["wharf-core", "serde_json"]),
    module(
        "src/doctor",
        &[
            "crate::config",
            "crate::route",
            "wharf-core",
            "wharf-sys",
            "wharf-cgroup",
            "wharf-disk",
            "wharf-lxc",
            "wharf-native",
            "wharf-vm",
            "serde",
        ],
    ),
    module(
        "src/report",
        &["crate::doctor", "crate::survey", "wharf-core", "wharf-sys", "oci-spec", "serde", "serde_json"],
    ),
    module(
        "src/verbs",
        &[
            "crate::checkpoints",
            "crate::cli",
            "crate::config",
            "crate::doctor",
            "crate::report",
            "crate::route",
            "crate::store",
            "crate::survey",
            "wharf-core",
            "wharf-sys",
            "wharf-native",
            "wharf-delegate",
            "wharf-lxc",
            "wharf-vm",
            "wharf-disk",
            "wharf-monitor",
            "oci-spec",
            "serde_json",
        ],
    ),
];

/// Programs without Rust's own start-up: their main.rs has one `allow`, for its C entry.
const ENTRIES: &[&str] = &["wharf", "wharf-init"];

/// Where `unsafe` is at home.
const UNSAFE_ROOMS: &[&str] = &["wharf-sys"];

/// Longest file, not counting its tests.
const MAX_LINES: usize = 600;

#[test]
fn every_import_is_on_the_table_and_every_file_keeps_the_rules() {
    let faults = inspect(Path::new(env!("CARGO_MANIFEST_DIR")), ROOMS);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Everything wrong in the tree at `top`, one line each.
fn inspect(top: &Path, rooms: &[Room]) -> Vec<String> {
    let mut faults = Vec::new();
    let packages: Vec<String> = known_packages(top);
    check_members(top, rooms, &mut faults);
    for room in rooms.iter().filter(|room| room.package.is_some()) {
        check_manifest(top, room, &mut faults);
        for file in sources(top, room, rooms) {
            let shown = file.strip_prefix(top).unwrap().display().to_string();
            let text = fs::read_to_string(&file).unwrap();
            check_rules(&shown, &text, room, &mut faults);
            // A module of the binary has a list of its own, shorter than the binary's.
            let inner = rooms.iter().find(|inner| inner.package.is_none() && is_within(&shown, inner.path));
            check_imports(
                &shown,
                &text,
                is_test_file(top, &file),
                inner.unwrap_or(room),
                rooms,
                &packages,
                &mut faults,
            );
        }
    }
    faults
}

fn is_within(file: &str, room: &str) -> bool {
    file.strip_prefix(room).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// Every workspace member is in the table, and the table names no crate that is not there.
fn check_members(top: &Path, rooms: &[Room], faults: &mut Vec<String>) {
    let manifest = fs::read_to_string(top.join("Cargo.toml")).unwrap();
    let list = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    let members: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    let listed: BTreeSet<&str> =
        rooms.iter().filter(|room| room.package.is_some() && !room.path.is_empty()).map(|room| room.path).collect();
    for member in members.difference(&listed) {
        faults.push(format!("Cargo.toml: member {member} is not in the table of rooms"));
    }
    for path in listed.difference(&members) {
        faults.push(format!("Cargo.toml: {path} is in the table of rooms and no member"));
    }
}

/// The dependencies that a manifest declares: section, package.
fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            // [dependencies.NAME] declares one by its header.
            if let Some((kind, name)) = section.clone().rsplit_once('.')
                && kind.ends_with("dependencies")
                && kind != "workspace.dependencies"
            {
                found.push((kind.to_owned(), name.to_owned()));
            }
            continue;
        }
        if !section.ends_with("dependencies") || section == "workspace.dependencies" || line.starts_with('#') {
            continue;
        }
        if let Some((key, value)) = line.split_once('=') {
            let name = key.trim().trim_end_matches(".workspace").trim_matches('"');
            let renamed = value.split("package = \"").nth(1).and_then(|rest| rest.split('"').next());
            found.push((section.clone(), renamed.unwrap_or(name).to_owned()));
        }
    }
    found
}

fn check_manifest(top: &Path, room: &Room, faults: &mut Vec<String>) {
    let path = top.join(room.path).join("Cargo.toml");
    let Ok(manifest) = fs::read_to_string(&path) else {
        return faults.push(format!("{}: cannot be read", path.display()));
    };
    let shown = path.strip_prefix(top).unwrap().display();
    for (section, name) in dependencies(&manifest) {
        let tests = section.ends_with("dev-dependencies") && room.tests_may.contains(&name.as_str());
        if !room.may.contains(&name.as_str()) && !tests {
            faults.push(format!("{shown}: {} may not depend on {name}", room.package.unwrap()));
        }
    }
}

/// Every package that any manifest of the tree names, as source spells it.
fn known_packages(top: &Path) -> Vec<String> {
    let mut names = BTreeSet::new();
    let manifest = fs::read_to_string(top.join("Cargo.toml")).unwrap();
    let shared = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    for line in shared.lines().skip(1).take_while(|line| !line.starts_with('[')) {
        if let Some((name, _)) = line.split_once('=') {
            names.insert(name.trim().replace('-', "_"));
        }
    }
    names.into_iter().collect()
}

/// The .rs files of a room: not those of a crate that lies inside it.
fn sources(top: &Path, room: &Room, rooms: &[Room]) -> Vec<PathBuf> {
    let crates: Vec<PathBuf> = rooms
        .iter()
        .filter(|other| other.package.is_some() && other.path != room.path)
        .map(|other| top.join(other.path))
        .collect();
    let mut waiting = vec![top.join(room.path)];
    let mut found = Vec::new();
    while let Some(dir) = waiting.pop() {
        let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        for entry in entries.map(|entry| entry.unwrap().path()) {
            let hidden = entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            let generated = entry == top.join("target");
            if entry.is_dir() && !hidden && !generated && !crates.contains(&entry) {
                waiting.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push(entry);
            }
        }
    }
    found.sort();
    found
}

fn check_rules(shown: &str, text: &str, room: &Room, faults: &mut Vec<String>) {
    let duty = text.lines().next().unwrap_or_default();
    if duty.strip_prefix("//! ").is_none_or(|words| words.trim().len() < 10 || words.starts_with("placeholder")) {
        faults.push(format!("{shown}: the first line must be a //! that says its duty"));
    }
    let is_test = ["tests/", "e2e/"].iter().any(|place| shown.starts_with(place)) || shown.contains("/tests/");
    let lines = text[..tests_begin(text)].lines().count();
    if !is_test && lines > MAX_LINES {
        faults.push(format!("{shown}: {lines} lines without its tests, at most {MAX_LINES}"));
    }
    let name = shown.strip_prefix(room.path).unwrap_or(shown).trim_start_matches('/');
    let package = room.package.unwrap();
    let code = blank(text);
    if ENTRIES.contains(&package) {
        let is_main = matches!(name, "src/main.rs" | "main.rs");
        if is_main && !code.contains("#![deny(unsafe_code)]") {
            faults.push(format!("{shown}: says no #![deny(unsafe_code)]"));
        }
        let allowed = code.matches("allow(unsafe_code)").count();
        if allowed > usize::from(is_main) {
            faults.push(format!("{shown}: allows unsafe code; only the C entry in main.rs may, once"));
        }
    } else if !UNSAFE_ROOMS.contains(&package) {
        let is_root = matches!(name, "lib.rs" | "main.rs" | "src/main.rs" | "src/lib.rs");
        if is_root && !code.contains("#![forbid(unsafe_code)]") {
            faults.push(format!("{shown}: says no #![forbid(unsafe_code)]"));
        }
    }
}

/// Where a file's own test module begins; its end where it has none.
fn tests_begin(code: &str) -> usize {
    let opens_module = |at: &usize| {
        let rest = code[*at..].trim_start_matches("#[cfg(test)]");
        let item = rest.split_inclusive(['{', ';']).next().unwrap_or_default();
        item.ends_with('{') && item.contains("mod ")
    };
    code.match_indices("#[cfg(test)]").map(|(at, _)| at).find(opens_module).unwrap_or(code.len())
}

/// A file that its parent declares for tests only, or one in a directory of tests.
fn is_test_file(top: &Path, file: &Path) -> bool {
    let parents = ["lib.rs", "main.rs", "mod.rs"].map(|name| file.with_file_name(name));
    let inner = file.parent().map(|dir| dir.with_extension("rs"));
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let declared =
        parents.iter().chain(inner.as_ref()).filter_map(|parent| fs::read_to_string(parent).ok()).any(|text| {
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            let declaration = format!("{name};");
            words.windows(4).any(|four| four[0] == "#[cfg(test)]" && four[1..].contains(&declaration.as_str()))
        });
    declared || file.strip_prefix(top).is_ok_and(|path| path.iter().any(|part| part == "tests"))
}

fn check_imports(
    shown: &str,
    text: &str,
    is_test: bool,
    room: &Room,
    rooms: &[Room],
    packages: &[String],
    faults: &mut Vec<String>,
) {
    let code = blank(text);
    let (body, tests) = code.split_at(if is_test { 0 } else { tests_begin(&code) });
    let all = paths(&code);
    let name = room.package.unwrap_or(room.path);
    let own = room.package.map(|package| package.replace('-', "_"));
    for (part, testing) in [(body, false), (tests, true)] {
        let mut reported = BTreeSet::new();
        for path in paths(part) {
            let joined = path.join("::");
            let first = path[0].as_str();
            // `use wharf_sys::libc` makes `libc::` lead there, which is the edge that counts.
            let handed_on = all.iter().any(|other| other.len() > 1 && other.last().is_some_and(|last| last == first));
            let is_package = packages.iter().any(|package| package == first) && own.as_deref() != Some(first);
            if is_package && !(handed_on && path.len() > 1) {
                let listed = |list: &[&str]| list.iter().any(|may| may.replace('-', "_") == first);
                if !(listed(room.may) || testing && listed(room.tests_may)) {
                    reported.insert(format!("{shown}: {name} may not import {first}"));
                }
            }
            if room.package.is_none()
                && let Some(target) = room_of(&path, shown)
                && rooms.iter().any(|other| other.package.is_none() && other.path == format!("src/{target}"))
                && room.path != format!("src/{target}")
                && !room.may.contains(&format!("crate::{target}").as_str())
            {
                reported.insert(format!("{shown}: {name} may not import crate::{target}"));
            }
            for never in room.never.iter().filter(|_| !testing && !joined.starts_with("std::env::consts")) {
                if joined == *never || joined.starts_with(&format!("{never}::")) {
                    reported.insert(format!("{shown}: {name} may not use {never}"));
                }
            }
        }
        faults.extend(reported);
    }
}

/// The module at the binary's top that a path leads to, from `crate::` or from enough `super::`.
fn room_of(path: &[String], file: &str) -> Option<String> {
    if path[0] == "crate" {
        return path.get(1).cloned();
    }
    // src/cli.rs and src/cli/mod.rs are one module deep, src/cli/help.rs two.
    let depth = file.trim_start_matches("src/").trim_end_matches("/mod.rs").split('/').count();
    let supers = path.iter().take_while(|segment| *segment == "super").count();
    (supers >= depth && supers > 0).then(|| path.get(supers).cloned()).flatten()
}
