//! The five capability sets of a process, as masks.

use crate::{Facts, Note};
use oci_spec::runtime::{Capabilities, Process};
use wharf_core::{Error, Result};

/// One bit a capability, as the kernel numbers them (capabilities(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

/// The mask of a set.
fn mask(set: &Capabilities) -> u64 {
    set.iter()
        .filter_map(|one| format!("CAP_{one}").parse::<caps::Capability>().ok().map(|known| known.bitmask()))
        .fold(0, |a, b| a | b)
}

/// A process without `capabilities` has none, as with runc.
pub(crate) fn judge(process: &Process, facts: &Facts) -> Result<Sets> {
    let Some(capabilities) = process.capabilities() else { return Ok(Sets::default()) };
    let of = |set: &Option<Capabilities>| set.as_ref().map_or(0, mask);
    let mut sets = Sets {
        bounding: of(capabilities.bounding()),
        effective: of(capabilities.effective()),
        permitted: of(capabilities.permitted()),
        inheritable: of(capabilities.inheritable()),
        ambient: of(capabilities.ambient()),
    };
    let known = if facts.last_capability >= 63 { u64::MAX } else { (1 << (facts.last_capability + 1)) - 1 };
    for (name, set) in [
        ("bounding", sets.bounding),
        ("effective", sets.effective),
        ("permitted", sets.permitted),
        ("inheritable", sets.inheritable),
        ("ambient", sets.ambient),
    ] {
        refuse(set & !known, name, "this kernel does not know it")?;
    }
    refuse(sets.effective & !sets.permitted, "effective", "it is not in permitted")?;
    // Said by the kernel only at `start`, when the set is made.
    refuse(
        sets.inheritable & !(sets.bounding | facts.inheritable),
        "inheritable",
        "it is not in the bounding set: Operation not permitted",
    )?;
    refuse((sets.permitted | sets.inheritable) & !facts.permitted, "permitted", "wharf itself does not hold it")?;
    // As with runc, of which `spec` asks for such a set: the kernel raises no other (capabilities(7)).
    sets.ambient &= sets.permitted & sets.inheritable;
    Ok(sets)
}

/// Tells of ambient capabilities that cannot be raised.
pub(crate) fn notes(process: &Process, notes: &mut Vec<Note>) {
    let Some(capabilities) = process.capabilities() else { return };
    let of = |set: &Option<Capabilities>| set.as_ref().map_or(0, mask);
    let held = of(capabilities.permitted()) & of(capabilities.inheritable());
    if of(capabilities.ambient()) & !held != 0 {
        notes.push(Note::Ambient);
    }
}

fn refuse(wrong: u64, set: &str, why: &str) -> Result<()> {
    if wrong == 0 {
        return Ok(());
    }
    let name = caps::all()
        .into_iter()
        .find(|one| one.bitmask() & wrong != 0)
        .map_or_else(|| format!("capability {}", wrong.trailing_zeros()), |one| one.to_string());
    Err(Error::invalid(format!("{name} in the {set} set")).because(why).at(format!("process/capabilities/{set}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Capability;

    #[test]
    fn names_become_the_kernels_bits() {
        let set = Capabilities::from([Capability::Chown, Capability::CheckpointRestore]);
        assert_eq!(mask(&set), 1 | 1 << 40);
    }

    #[test]
    fn every_capability_of_the_spec_has_a_bit() {
        for index in 0..=40 {
            let name = caps::all().into_iter().find(|one| one.index() == index).unwrap().to_string();
            let one: Capability = serde_json::from_str(&format!("{name:?}")).unwrap();
            assert_eq!(mask(&Capabilities::from([one])), 1 << index, "{name}");
        }
    }
}
