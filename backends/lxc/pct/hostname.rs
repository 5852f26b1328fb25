//! The name of a container in the node's lists: its id, as far as a DNS label can hold it.

/// Longest label (RFC 1035).
const LONGEST: usize = 63;

/// An id that is a label is its own name. Any other keeps its beginning, and a sum of all of it, so that two never meet.
pub(crate) fn of(id: &str) -> String {
    let is_label = |sign: char| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '-';
    if id.len() <= LONGEST && id.chars().all(is_label) && !id.starts_with('-') && !id.ends_with('-') {
        return id.to_owned();
    }
    let (low, high) = sums(id.as_bytes());
    let sum = format!("{low:016x}{high:08x}");
    let head: String = id
        .chars()
        .map(|sign| sign.to_ascii_lowercase())
        .map(|sign| if is_label(sign) { sign } else { '-' })
        .take(LONGEST - sum.len() - 1)
        .collect();
    match head.trim_matches('-') {
        "" => format!("c{sum}"),
        head => format!("{head}-{sum}"),
    }
}

/// FNV-1a with 64 bits, and another one with 32.
fn sums(bytes: &[u8]) -> (u64, u32) {
    bytes.iter().fold((0xcbf2_9ce4_8422_2325, 0x811c_9dc5), |(low, high), byte| {
        let low = (low ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        (low, (high ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_differ_where_ids_do() {
        assert_eq!(of("web-1"), "web-1");
        let long = "0123456789abcdef".repeat(4);
        let mut ids = vec![long.clone(), format!("{}0", &long[..63]), "A".into(), "a_".into(), "a.".into(), "-".into()];
        ids.push("+".into());
        let names: std::collections::BTreeSet<String> = ids.iter().map(|id| of(id)).collect();
        assert_eq!(names.len(), ids.len());
        for name in &names {
            assert!(name.len() <= 63, "{name}");
            assert!(
                name.chars().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '-'),
                "{name}"
            );
            assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
        }
        assert!(of(&long).starts_with("0123456789abcdef01234567"));
    }
}
