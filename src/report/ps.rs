//! The processes of a container, as `ps` lists them.

use super::owner;
use std::collections::BTreeMap;
use std::ffi::CString;
use wharf_core::{Error, Result};
use wharf_sys::Errno;
use wharf_sys::clock::{self, Local};
use wharf_sys::procfs::Procfs;

/// `[1,2]`: one line of JSON.
pub(crate) fn pids(pids: &[i32]) -> String {
    let words: Vec<String> = pids.iter().map(i32::to_string).collect();
    format!("[{}]\n", words.join(","))
}

/// The lines of a table of ps(1) that are about these processes, and its head. None where no column is PID.
pub(crate) fn of_pids(table: &str, pids: &[i32]) -> Option<String> {
    let mut lines = table.lines();
    let head = lines.next()?;
    let column = head.split_whitespace().position(|title| title == "PID")?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Some(std::iter::once(head).chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}

/// The table of `ps -ef`, by our own hand: it needs no program of the host's, and no names of the container's.
pub(crate) fn processes(pids: &[i32]) -> Result<String> {
    let failed = |errno: Errno| Error::system("read /proc", errno as i32);
    let proc = Procfs::open().map_err(failed)?;
    let now = clock::now();
    let mut owners = BTreeMap::new();
    let mut text = String::from("UID          PID    PPID  C STIME TTY          TIME CMD\n");
    for pid in pids {
        match Row::read(&proc, *pid) {
            Ok(row) => {
                let owner = owners.entry(row.uid).or_insert_with(|| owner(row.uid));
                text.push_str(&row.line(owner, now));
            }
            // It has ended since it was listed.
            Err(Errno::ENOENT | Errno::ESRCH) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(text)
}

/// What /proc tells of one process (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Row {
    uid: u32,
    pid: i32,
    parent: i32,
    terminal: i32,
    /// User and system time, in clock ticks.
    ticks: u64,
    /// Clock ticks after boot.
    start: u64,
    command: String,
}

impl Row {
    fn read(proc: &Procfs, pid: i32) -> std::result::Result<Row, Errno> {
        let read = |name: &str| {
            let path = CString::new(format!("{pid}/{name}")).unwrap_or_default();
            proc.read(&path)
        };
        let stat = read("stat")?;
        let mut row = Row::parse(pid, &String::from_utf8_lossy(&stat)).ok_or(Errno::EIO)?;
        // The effective one; the owner of the directory would be root where the process is not dumpable.
        let status = String::from_utf8_lossy(&read("status")?).into_owned();
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
        row.uid = uids.split_ascii_whitespace().nth(1).and_then(|uid| uid.parse().ok()).ok_or(Errno::EIO)?;
        let line = read("cmdline")?;
        if !line.is_empty() {
            row.command = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
        }
        row.command = plain(&row.command);
        Ok(row)
    }

    /// The name may hold spaces and parentheses, so fields are counted from the last parenthesis on.
    fn parse(pid: i32, stat: &str) -> Option<Row> {
        let (left, right) = stat.rsplit_once(')')?;
        let name = left.split_once('(')?.1;
        let fields: Vec<&str> = right.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let dead = if fields.first() == Some(&"Z") { " <defunct>" } else { "" };
        Some(Row {
            uid: 0,
            pid,
            parent: fields.get(1)?.parse().ok()?,
            terminal: fields.get(4)?.parse().ok()?,
            ticks: number(14)? + number(15)?,
            start: number(22)?,
            command: format!("[{name}]{dead}"),
        })
    }

    fn line(&self, owner: &str, now: clock::Now) -> String {
        let per_second = now.ticks_per_second;
        let age = now.since_boot.saturating_sub(self.start / per_second);
        let used = self.ticks / per_second;
        let percent = (self.ticks * 100 / per_second).checked_div(age).unwrap_or(0).min(99);
        let began = stime(clock::local(now.since_epoch.saturating_sub(age)), clock::local(now.since_epoch));
        let time = format!("{:02}:{:02}:{:02}", used / 3600, used / 60 % 60, used % 60);
        let terminal = terminal(self.terminal);
        let (pid, parent, command) = (self.pid, self.parent, &self.command);
        format!("{owner:<8} {pid:>7} {parent:>7} {percent:>2} {began:>5} {terminal:<8} {time:>8} {command}\n")
    }
}

/// A command may hold what a terminal would obey.
fn plain(command: &str) -> String {
    command.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// Hour and minute of today, else the day, else the year.
fn stime(began: Local, now: Local) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    if began.year != now.year {
        return began.year.to_string();
    }
    if began.day_of_year == now.day_of_year {
        return format!("{:02}:{:02}", began.hour, began.minute);
    }
    format!("{}{:02}", MONTHS.get(began.month as usize).unwrap_or(&"?"), began.day)
}

/// The name of a controlling terminal by its device number: minor in bits 0-7 and 20-31, major in 8-19.
fn terminal(device: i32) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_of_our_processes_are_kept() {
        let table = "USER   PID COMMAND\nroot     1 init\nroot    12 12 is its argument\nbob    120 sh\n";
        assert_eq!(of_pids(table, &[12]).unwrap(), "USER   PID COMMAND\nroot    12 12 is its argument\n");
        assert_eq!(of_pids("TTY CMD\n? init\n", &[1]), None);
        assert_eq!(of_pids("", &[1]), None);
    }

    #[test]
    fn a_hostile_name_moves_no_column() {
        let stat = "7 (a) S 9 (b) Z 3 7 7 34817 7 0 1 2 3 4 150 50 0 0 20 0 1 0 4200 0 0";
        let row = Row::parse(7, stat).unwrap();
        assert_eq!((row.parent, row.terminal, row.ticks, row.start), (3, 34817, 200, 4200));
        assert_eq!(row.command, "[a) S 9 (b] <defunct>");
        assert_eq!(plain("a\u{1b}[31mb\n"), "a?[31mb?");
        assert_eq!(Row::parse(7, "7 ("), None);
    }

    #[test]
    fn terminals_have_their_names() {
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(34817), "pts/1");
        assert_eq!(terminal(1025), "tty1");
        assert_eq!(terminal(1088), "ttyS0");
    }

    #[test]
    fn a_time_becomes_shorter_with_age() {
        let now = Local { year: 2026, month: 10, day: 21, day_of_year: 324, hour: 11, minute: 5 };
        assert_eq!(stime(Local { hour: 9, ..now }, now), "09:05");
        assert_eq!(stime(Local { day: 2, day_of_year: 305, ..now }, now), "Nov02");
        assert_eq!(stime(Local { year: 2025, ..now }, now), "2025");
    }

    #[test]
    fn the_table_has_a_line_of_this_process() {
        let pid = std::process::id();
        let text = processes(&[pid as i32, i32::MAX]).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[1].split_whitespace().nth(1), Some(pid.to_string().as_str()), "{text}");
        assert_eq!(lines[0].find("CMD"), lines[1].find(lines[1].split_whitespace().nth(7).unwrap()), "{text}");
    }
}
