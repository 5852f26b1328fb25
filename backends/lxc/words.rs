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

/// The first thing that it said: which function of it, and what. `PROGRAM: NAME: FILE: FUNCTION: LINE [ERRNO - ]TEXT`.
pub(crate) fn first(said: &str) -> Option<String> {
    said.lines().find_map(line)
}

fn line(line: &str) -> Option<String> {
    let mut parts = line.rsplitn(2, ": ");
    let (last, before) = (parts.next()?, parts.next()?);
    let function = before.rsplit(": ").next()?;
    let (number, text) = last.split_once(' ')?;
    number.parse::<u32>().ok()?;
    let text = text.rsplit_once(" - ").map_or(text, |(_, text)| text).trim();
    let small = text.to_lowercase();
    let theirs = THEIRS.iter().any(|words| small.contains(words));
    Some(if theirs { format!("LXC failed in {function}") } else { format!("LXC: {text} ({function})") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_lxc_means_something_to_an_engine() {
        let said = "lxc-start: ct1: ../src/lxc/conf.c: lxc_transient_proc: 3849 No such file or directory - Failed to mount \
                    temporary procfs\nlxc-start: ct1: ../src/lxc/start.c: start: 2197 x\n";
        assert_eq!(first(said).unwrap(), "LXC: Failed to mount temporary procfs (lxc_transient_proc)");
        assert_eq!(first("l: c: f.c: attach: 7 Permission denied").unwrap(), "LXC failed in attach");
        assert_eq!(first("something else"), None);
        assert_eq!(first(""), None);
    }
}
