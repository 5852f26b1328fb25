//! The end-to-end suite: one file per feature, each effect read from inside a container.
#![forbid(unsafe_code)]

mod hostname;

fn main() -> std::process::ExitCode {
    harness::main(vec![hostname::trials()])
}
