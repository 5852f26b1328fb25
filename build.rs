//! Stamps the commit into the binary, where the source is a git checkout of its own.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = checkout_commit().unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=WHARF_COMMIT={commit}");
}

/// None without git, in an unpacked tarball, and where the nearest repository is somebody else's around it.
fn checkout_commit() -> Option<String> {
    let here = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    // Every move of HEAD appends to its log. A path that does not exist would make cargo run this every time, and in a
    // worktree .git is a file, so git says where its files are.
    let watched = ["logs/HEAD", "HEAD", "packed-refs"];
    for file in watched {
        if let Some(path) = git(&["rev-parse", "--git-path", file]).filter(|path| Path::new(path).is_file()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}
