//! Breaks each rule once in a small tree on disk, and expects to hear of it.

use super::{MAX_LINES, PURE, Room, inspect, module, room};
use std::fs;
use std::path::{Path, PathBuf};

/// A small tree on disk that keeps every rule, and what `inspect` says after one file of it was changed.
struct Tree(PathBuf);

const TREE_ROOMS: &[Room] = &[
    room("src/sys", "wharf-sys", &["libc"]),
    Room { never: PURE, ..room("src/plan", "wharf-plan", &["wharf-core"]) },
    room("", "wharf", &["wharf-sys", "clap"]),
    module("src/cli", &["clap"]),
    module("src/verbs", &["crate::cli"]),
];

impl Tree {
    fn new(name: &str) -> Self {
        let top = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("edges-{name}"));
        let _ = fs::remove_dir_all(&top);
        let tree = Tree(top);
        tree.write(
            "Cargo.toml",
            "[workspace]\nmembers = [\"src/sys\", \"src/plan\"]\n[workspace.dependencies]\nwharf-sys = \"1\"\n\
             wharf-core = \"1\"\nlibc = \"1\"\nclap = \"1\"\nproptest = \"1\"\n[package]\nname = \"wharf\"\n\
             [dependencies]\nwharf-sys.workspace = true\nclap = { workspace = true }\n",
        );
        tree.write("src/sys/Cargo.toml", "[package]\n[dependencies]\nlibc.workspace = true\n");
        tree.write("src/sys/lib.rs", "//! Talks to the kernel.\nuse libc::c_int;\n");
        tree.write("src/plan/Cargo.toml", "[dependencies]\nwharf-core = \"1\"\n[dev-dependencies]\nproptest = \"1\"\n");
        tree.write(
            "src/plan/lib.rs",
            "//! Plans, and does nothing.\n#![forbid(unsafe_code)]\n\
             // std::fs in a comment, \nconst S: &str = \"libc::open \\\" std::fs::read\";\n\
             fn f<'a>(c: &'a char) -> bool { *c == '\"' || *c == '\\'' }\nuse wharf_core::{self, Spec};\n\
             #[cfg(test)]\nmod tests { use proptest::prelude::*; use std::fs; }\n",
        );
        tree.write(
            "src/main.rs",
            "//! Starts the program.\n#![deny(unsafe_code)]\n#[allow(unsafe_code)]\nfn main() {}\n",
        );
        tree.write("src/cli/mod.rs", "//! Reads the words typed.\nuse clap::Command;\n");
        tree.write("src/verbs/create.rs", "//! Makes a container.\nuse crate::cli::Request;\n");
        assert_eq!(tree.faults(), Vec::<String>::new());
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn append(&self, path: &str, text: &str) {
        let before = fs::read_to_string(self.0.join(path)).unwrap();
        self.write(path, &(before + text));
    }

    fn faults(&self) -> Vec<String> {
        inspect(&self.0, TREE_ROOMS)
    }
}

#[test]
fn a_dependency_outside_the_table_is_a_fault_wherever_the_manifest_declares_it() {
    for (name, declared) in [
        ("plain", "libc = \"0.2\"\n"),
        ("workspace", "libc.workspace = true\n"),
        ("renamed", "innocent = { version = \"0.2\", package = \"libc\" }\n"),
        ("header", "[dependencies.libc]\nversion = \"0.2\"\n"),
        ("target", "[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n"),
        ("build", "[build-dependencies]\nlibc = \"0.2\"\n"),
        ("dev", "[dev-dependencies.libc]\nversion = \"0.2\"\n"),
    ] {
        let tree = Tree::new(&format!("manifest-{name}"));
        let manifest = "[dependencies]\nwharf-core = \"1\"\n".to_owned() + declared;
        tree.write("src/plan/Cargo.toml", &manifest);
        assert_eq!(tree.faults(), ["src/plan/Cargo.toml: wharf-plan may not depend on libc"], "{name}");
    }
}

#[test]
fn a_crate_outside_the_table_is_a_fault() {
    let tree = Tree::new("member");
    let manifest = fs::read_to_string(tree.0.join("Cargo.toml")).unwrap();
    tree.write("Cargo.toml", &manifest.replace("\"src/plan\"", "\"src/plan\", \"src/extra\""));
    assert_eq!(tree.faults(), ["Cargo.toml: member src/extra is not in the table of rooms"]);
}

#[test]
fn an_import_outside_the_table_is_a_fault_however_it_is_spelled() {
    for (name, line) in [
        ("use", "use libc::c_int;"),
        ("whole", "use libc;"),
        ("renamed", "use libc as innocent;"),
        ("rooted", "use ::libc::c_int;"),
        ("rooted inline", "fn g() -> i32 { return ::libc::EOF }"),
        ("group", "use {std::fmt, libc::{c_int, c_long}};"),
        ("inline", "fn g() { let _: libc::c_int = 0; }"),
        ("after a quote", "const Q: char = '\"'; fn g() { libc::abort() } // \""),
        ("after a raw string", "const Q: &str = r#\"a\"b\"#; fn g() { libc::abort() } const R: &str = \"\";"),
        ("in tests", "#[cfg(test)] mod more { use libc::c_int; }"),
    ] {
        let tree = Tree::new(&format!("import-{name}"));
        tree.append("src/plan/lib.rs", line);
        assert_eq!(tree.faults(), ["src/plan/lib.rs: wharf-plan may not import libc"], "{name}");
    }
}

#[test]
fn a_module_for_tests_has_the_tests_own_list_and_one_beside_it_has_not() {
    let tree = Tree::new("samples");
    let text = fs::read_to_string(tree.0.join("src/plan/lib.rs")).unwrap();
    let declared =
        text.replace("use wharf_core", "#[cfg(test)]\nmod samples;\nmod other;\nuse std::process;\nuse wharf_core");
    tree.write("src/plan/lib.rs", &declared);
    for name in ["samples", "other"] {
        tree.write(&format!("src/plan/{name}.rs"), "//! Samples of plans.\nuse proptest::prelude::*;\n");
    }
    assert_eq!(
        tree.faults(),
        [
            "src/plan/lib.rs: wharf-plan may not use std::process",
            "src/plan/other.rs: wharf-plan may not import proptest",
        ]
    );
}

#[test]
fn a_crate_that_another_hands_on_is_that_other_s_edge() {
    let tree = Tree::new("handed-on");
    tree.append("src/plan/lib.rs", "use wharf_core::libc;\nfn g() -> i32 { libc::EOF }\n");
    assert_eq!(tree.faults(), Vec::<String>::new());
}

#[test]
fn a_pure_room_may_not_touch_the_system() {
    let tree = Tree::new("pure");
    tree.write(
        "src/plan/lib.rs",
        "//! Plans, and does something.\n#![forbid(unsafe_code)]\nuse std::{fmt, fs::{self, File}};\n",
    );
    assert_eq!(tree.faults(), ["src/plan/lib.rs: wharf-plan may not use std::fs"]);
}

#[test]
fn modules_of_the_binary_have_lists_of_their_own() {
    let tree = Tree::new("modules");
    tree.append("src/verbs/create.rs", "use clap::Command;\n");
    tree.append("src/cli/mod.rs", "use super::verbs::create;\nfn f() { crate::cli::g() }\n");
    tree.write("src/cli/help.rs", "//! Prints the help text.\nuse super::super::verbs;\n");
    assert_eq!(
        tree.faults(),
        [
            "src/cli/help.rs: src/cli may not import crate::verbs",
            "src/cli/mod.rs: src/cli may not import crate::verbs",
            "src/verbs/create.rs: src/verbs may not import clap",
        ]
    );
}

#[test]
fn unsafe_code_is_fenced_in() {
    let tree = Tree::new("unsafe");
    tree.write("src/plan/lib.rs", "//! Plans, and does nothing.\n// #![forbid(unsafe_code)]\n");
    tree.append("src/cli/mod.rs", "#[allow(unsafe_code)]\nfn f() {}\n");
    tree.append("src/main.rs", "#[allow(unsafe_code)]\nfn f() {}\n");
    assert_eq!(
        tree.faults(),
        [
            "src/plan/lib.rs: says no #![forbid(unsafe_code)]",
            "src/cli/mod.rs: allows unsafe code; only the C entry in main.rs may, once",
            "src/main.rs: allows unsafe code; only the C entry in main.rs may, once",
        ]
    );
}

#[test]
fn a_file_says_its_duty_first_and_stays_small() {
    let tree = Tree::new("files");
    let long = "fn f() {}\n".repeat(MAX_LINES);
    tree.write("src/sys/lib.rs", &format!("//! Talks to the kernel.\n{long}"));
    tree.write("src/cli/mod.rs", &format!("use clap::Command;\n#[cfg(test)]\nmod tests {{\n{long}}}\n"));
    assert_eq!(
        tree.faults(),
        [
            "src/sys/lib.rs: 601 lines without its tests, at most 600",
            "src/cli/mod.rs: the first line must be a //! that says its duty",
        ]
    );
}
