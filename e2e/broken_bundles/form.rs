//! Bundles that are broken in form: directory, file, JSON, types, ids, strings.

use super::{Broken, Case, Expect::*};
use harness::json;
use std::fs;

const LONG: usize = 64 * 1024;

pub(super) fn rows() -> Vec<Broken> {
    let row = |name, expect, make| Broken { name, expect, make };
    vec![
        row("the bundle directory does not exist", Refused(&["nowhere", "No such file or directory"], ""), |case| {
            let dir = case.bundle.dir().join("nowhere");
            Case { dir: Some(dir), ..case }
        }),
        row("the bundle is a file", Refused(&["file", "Not a directory"], ""), |case| {
            let dir = case.bundle.dir().join("file");
            fs::write(&dir, "").expect("a file");
            Case { dir: Some(dir), ..case }
        }),
        row("the bundle is reached through a link and works", Runs("it ran"), |case| {
            let dir = case.bundle.dir().with_extension("link");
            std::os::unix::fs::symlink(case.bundle.dir(), &dir).expect("a link");
            Case { dir: Some(dir), ..case }
        }),
        row("config.json is missing", Refused(&["config.json", "No such file or directory"], ""), |case| {
            fs::remove_file(case.bundle.dir().join("config.json")).expect("config.json");
            case
        }),
        row("config.json is a directory", Refused(&["config.json", "directory"], ""), |case| {
            let path = case.bundle.dir().join("config.json");
            fs::remove_file(&path).expect("config.json");
            fs::create_dir(&path).expect("a directory");
            case
        }),
        row("config.json is a FIFO", Refused(&["config.json"], ""), |case| {
            let path = case.bundle.dir().join("config.json");
            fs::remove_file(&path).expect("config.json");
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o644)).expect("a FIFO");
            case
        }),
        row("config.json is empty", Refused(&["config.json line 1", "EOF"], ""), |case| case.raw("")),
        row("config.json is cut off", Refused(&["config.json line 1", "EOF"], ""), |case| {
            case.text(|text| text[..text.len() / 2].to_owned())
        }),
        row("config.json has a trailing comma", Refused(&["config.json line 1", "trailing comma"], ""), |case| {
            case.text(|text| format!("{},}}", &text[..text.len() - 1]))
        }),
        row(
            "config.json has something behind its end",
            Refused(&["config.json line 1", "trailing characters"], ""),
            |case| case.text(|text| text + "x"),
        ),
        row("config.json is a list", Refused(&["config.json line 1", "invalid type"], ""), |case| case.raw("[1]")),
        row("config.json is not UTF-8", Refused(&["config.json line 1"], ""), |case| {
            case.raw(b"{\"ociVersion\": \"1.0.2\", \"hostname\": \"\xff\xfe\"}".to_vec())
        }),
        row("config.json is nested ten thousand deep", Refused(&["config.json line 1"], ""), |case| {
            case.raw(format!("{{\"ociVersion\": \"1.0.2\", \"x\": {}", "[".repeat(10_000)))
        }),
        row("args is a string", Refused(&["invalid type: string"], "process/args"), |case| {
            case.set("/process/args", json!("/bin/true"))
        }),
        row("uid is a name", Refused(&["invalid type: string \"root\""], "process/user/uid"), |case| {
            case.set("/process/user/uid", json!("root"))
        }),
        row("uid is negative", Refused(&["-1"], "process/user/uid"), |case| case.set("/process/user/uid", json!(-1))),
        row("mounts is an object", Refused(&["invalid type: map"], "mounts"), |case| case.set("/mounts", json!({}))),
        row("ociVersion is missing", Refused(&["ociVersion"], "ociVersion"), |case| case.remove("/ociVersion")),
        row("ociVersion is of another major version", Refused(&["9.0.0"], "ociVersion"), |case| {
            case.set("/ociVersion", json!("9.0.0"))
        }),
        row("ociVersion is no version", Refused(&["one point two"], "ociVersion"), |case| {
            case.set("/ociVersion", json!("one point two"))
        }),
        row("the id is two dots", Refused(&["container id \"..\""], ""), |case| case.id("..")),
        row("the id has a slash", Refused(&["container id \"a/b\""], ""), |case| case.id("a/b")),
        row("the id climbs", Refused(&["container id \"../../x\""], ""), |case| case.id("../../x")),
        row("the id is empty", Refused(&["container id", "empty"], ""), |case| case.id("")),
        row("the id has 256 bytes", Refused(&["container id", "256 bytes"], ""), |case| case.id(&"i".repeat(256))),
        row("the id has a newline", Refused(&["container id \"a\\nb\""], ""), |case| case.id("a\nb")),
        row("the id is taken", Refused(&["container", "exists"], ""), |case| Case { taken: true, ..case }),
        row("an argument of 64 KiB is passed", Runs("xxxxxxxxxxxxxxxx"), |case| {
            case.set("/process/args", json!(["/bin/attacker", "say", "x".repeat(LONG)]))
        }),
        row("an environment variable of 64 KiB is passed", Runs("it ran"), |case| {
            case.push("/process/env", json!(format!("LONG={}", "x".repeat(LONG))))
        }),
        row("an annotation of 64 KiB is kept", Runs("it ran"), |case| {
            case.set("/annotations", json!({"org.example.long": "x".repeat(LONG)}))
        }),
        row("a hostname of 64 KiB", Refused(&["hostname"], "hostname"), |case| {
            case.set("/hostname", json!("h".repeat(LONG)))
        }),
        row("a working directory of 64 KiB", Refused(&["too long"], "process/cwd"), |case| {
            case.set("/process/cwd", json!(format!("/{}", "d".repeat(LONG))))
        }),
        row("an argument list of 3 MiB", Refused(&["Argument list too long"], "process/args"), |case| {
            let mut args = vec!["/bin/attacker".to_owned(), "say".into(), "x".into()];
            args.extend((0..48).map(|_| "x".repeat(LONG)));
            case.set("/process/args", json!(args))
        }),
        row("an argument with a NUL", Refused(&["NUL"], "process/args/2"), |case| {
            case.set("/process/args", json!(["/bin/attacker", "say", "a\0b"]))
        }),
        row("an environment variable with a NUL", Refused(&["NUL"], "process/env/1"), |case| {
            case.push("/process/env", json!("A=\0"))
        }),
        row("a working directory with a NUL", Refused(&["NUL"], "process/cwd"), |case| {
            case.set("/process/cwd", json!("/\0"))
        }),
        row("a hostname with a NUL", Refused(&["NUL"], "hostname"), |case| case.set("/hostname", json!("a\0b"))),
        row("a root path with a NUL", Refused(&["NUL"], "root/path"), |case| case.set("/root/path", json!("root\0fs"))),
        row("a mount destination with a NUL", Refused(&["NUL"], "mounts/6/destination"), |case| {
            case.push("/mounts", json!({"destination": "/a\0b", "type": "tmpfs", "source": "tmpfs"}))
        }),
        row("a masked path with a NUL", Refused(&["NUL"], "linux/maskedPaths/0"), |case| {
            case.set("/linux/maskedPaths", json!(["/a\0b"]))
        }),
    ]
}
