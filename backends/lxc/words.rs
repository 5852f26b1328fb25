//! LXC's own words about a failure, without those that would mean something to an engine.

/// What engines look for in a message (Podman, containerd), in small letters.
const THEIRS: [&str; 7] = [
    "permission denied",
    "operation not permitted",
    "executable file not found in",
    "no such file or directory",
    "open executable",
    "does not exist",
    "not running",
];

/// The first thing in its log: which function of it, and what. `PROGRAM NAME TIME ERROR PART - FILE:FUNCTION:LINE - [ERRNO -
/// ]TEXT`.
pub(crate) fn first(said: &str) -> Option<String> {
    said.lines().find_map(line)
}

/// To an engine.
pub(crate) fn mean_something(text: &str) -> bool {
    let small = text.to_lowercase();
    THEIRS.iter().any(|words| small.contains(words))
}

fn line(line: &str) -> Option<String> {
    let mut parts = line.split(" - ").skip(1);
    let function = parts.next()?.split(':').nth(1)?;
    let text = parts.last()?.trim();
    Some(if mean_something(text) { format!("LXC failed in {function}") } else { format!("LXC: {text} ({function})") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_lxc_means_something_to_an_engine() {
        let said = "lxc-start c 20261122022601.842 ERROR    conf - ../src/lxc/conf.c:lxc_transient_proc:3353 - No such file or \
                    directory - Failed to mount temporary procfs\nlxc-start c 2 ERROR start - s.c:start:1 - x\n";
        assert_eq!(first(said).unwrap(), "LXC: Failed to mount temporary procfs (lxc_transient_proc)");
        assert_eq!(first("l c 1 ERROR p - f.c:attach:7 - Permission denied").unwrap(), "LXC failed in attach");
        assert_eq!(first("something else"), None);
        assert_eq!(first(""), None);
    }
}
