//! Builds the init, a program of its own, for the target that wharf is built for: the backend carries it inside.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the init is made of, from the top of the workspace.
const SOURCES: [&str; 4] = ["src/init", "src/steps", "src/sys", "Cargo.lock"];

fn main() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let top = Path::new(&variable("CARGO_MANIFEST_DIR")).join("../..");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", top.join(source).display());
    }
    let target = variable("TARGET");
    let directory = PathBuf::from(variable("OUT_DIR")).join("init");
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(&top)
        .args(["build", "--quiet", "--package", "wharf-init", "--profile", "init", "--target", &target, "--target-dir"])
        .arg(&directory);
    // These are of the build that runs this script: a linter in the compiler's place, flags of another profile.
    for name in ["RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "RUSTC"] {
        cargo.env_remove(name);
    }
    let done = cargo.status().expect("run cargo for the init");
    assert!(done.success(), "the init does not build");
    let image = directory.join(&target).join("init/wharf-init");
    println!("cargo::rustc-env=WHARF_INIT={}", image.display());
}
