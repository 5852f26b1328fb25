//! Seccomp programs decide what their profile says, and what libseccomp and seccompiler would decide.

mod interpreter;
mod libseccomp;
mod profile;
mod rules;
mod seccompiler;

use interpreter::{check, run};
use oci_spec::runtime::LinuxSeccomp;
use profile::{AARCH64, X86_64};
use proptest::prelude::*;
use serde_json::Value;
use wharf_plan::seccomp::{Machine, Program, compile};

fn compiled(profile: &Value, machine: Machine) -> wharf_core::Result<Program> {
    let profile: LinuxSeccomp = serde_json::from_value(profile.clone()).unwrap();
    compile(&profile, machine)
}

fn machines() -> [(Machine, u32); 2] {
    [(Machine::X86_64, X86_64), (Machine::Aarch64, AARCH64)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_program_decides_as_a_reader_of_the_profile_would(profile in prop_oneof![profile::profiles(), profile::overlapping()]) {
        for (machine, native) in machines() {
            let program = match compiled(&profile.json(), machine) {
                Ok(program) => program,
                Err(error) => {
                    prop_assert!(error.to_string().contains("same conditions and another action"), "{}", error);
                    continue;
                }
            };
            check(&program.filter);
            for call in profile.calls() {
                let (is, should) = (run(&program.filter, &call).0, profile.decide(native, &call));
                prop_assert_eq!(is, should, "{:#x} instead of {:#x} for {:x?}", is, should, call);
            }
        }
    }
}
