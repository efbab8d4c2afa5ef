//! Processes as `/proc` shows them: those below this one, and those that carry a mark.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{ATTEMPT_MARK, HOME_MARK};

/// Rounds of a sweep; each finds what was forked during the one before.
const SWEEP_ROUNDS_MAX: u32 = 100;
/// Time for the killed to go, between two rounds.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);

/// More than a line of `/proc/<pid>/stat` has: a name of 64 bytes, and some fifty numbers. The kernel gives the whole of it to one read.
const STAT_BYTES_MAX: usize = 2048;

/// A process below another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// It has ended and waits for its parent to take note.
    pub ended: bool,
    /// User and system time of it and of the children it has waited for, in clock ticks.
    pub cpu_ticks: u64,
    /// Resident memory in pages.
    pub resident_pages: u64,
}

/// Every process below this number, at whatever depth. A process that is forked meanwhile may be missing.
pub(super) fn descendants(of: i32) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    let mut stat = [0; STAT_BYTES_MAX];
    for pid in pids() {
        // One that ended since the folder was read is none.
        let Ok(read) = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut stat))
        else {
            continue;
        };
        if let Some(process) = stat.get(..read).and_then(|stat| parse(pid, stat)) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = children.remove(&of).unwrap_or_default();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        found.extend(children.remove(&process.pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// How many tasks (threads of processes) the machine has; zero if it does not say (`/proc/loadavg`, proc(5)).
pub(super) fn tasks() -> u64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let tasks = text.split_ascii_whitespace().nth(3).and_then(|tasks| tasks.split('/').nth(1));
    tasks.and_then(|tasks| tasks.parse().ok()).unwrap_or(0)
}

/// Ends every process of this user that carries the mark of this home, as far as it can be ended. Blocking and bounded; how many were
/// there at first.
pub fn sweep(marker: &str) -> usize {
    sweep_entry(&format!("{HOME_MARK}={marker}"))
}

/// As [`sweep`], for one attempt.
pub(super) fn sweep_attempt(mark: &str) -> usize {
    sweep_entry(&format!("{ATTEMPT_MARK}={mark}"))
}

fn sweep_entry(entry: &str) -> usize {
    let first = kill_marked(entry);
    let mut left = first;
    for _ in 1..SWEEP_ROUNDS_MAX {
        if left == 0 {
            break;
        }
        std::thread::sleep(SWEEP_PAUSE);
        left = kill_marked(entry);
    }
    if left > 0 {
        tracing::warn!(left, "marked processes could not be ended");
    }
    first
}

/// Kills whoever has the entry in its environment, but not this process; their number.
fn kill_marked(entry: &str) -> usize {
    let own = Pid::this().as_raw();
    let marked = |pid: &i32| {
        // The environment of another user's process cannot be read, and one that has ended has none.
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|one| one == entry.as_bytes()))
    };
    let found = pids().filter(|pid| *pid != own).filter(marked);
    found.filter(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok()).count()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

/// Reads `/proc/<pid>/stat` (proc(5)). The name stands in parentheses and may itself hold any bytes, so that fields are counted from the last one.
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = str::from_utf8(stat.get(end_of_name + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The field after the name is number 3 of the manual page.
    let field = |number: usize| fields.get(number - 3).copied();
    let count = |number: usize| field(number).and_then(|text| text.parse::<u64>().ok());
    Some(Process {
        pid,
        parent: field(4)?.parse().ok()?,
        group: field(5)?.parse().ok()?,
        ended: matches!(field(3)?, "Z" | "X" | "x"),
        cpu_ticks: [14, 15, 16, 17].into_iter().filter_map(count).sum(),
        resident_pages: count(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let tail = "7 8 8 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 123 4096 55 18446744073709551615";
        let check = |name: &[u8], state: &str, ended: bool| {
            let expected = Process { pid: 9, parent: 7, group: 8, ended, cpu_ticks: 100, resident_pages: 55 };
            let stat = [b"9 (", name, b") ", state.as_bytes(), b" ", tail.as_bytes(), b"\n"].concat();
            assert_eq!(parse(9, &stat), Some(expected), "{stat:?}");
        };
        check(b"sh", "S", false);
        check(b"a) Z 1 (b", "R", false);
        check(b"not \xff UTF-8", "S", false);
        check(b"sh", "Z", true);
        assert_eq!(parse(9, b"9 (sh"), None);
        assert_eq!(parse(9, b"9 (sh) S 7"), None);
    }

    #[test]
    fn the_machine_has_tasks() {
        assert!(tasks() > 0);
    }

    #[test]
    fn this_process_is_below_its_parent() {
        let (own, parent) = (Pid::this().as_raw(), Pid::parent().as_raw());
        let found = descendants(parent).into_iter().find(|process| process.pid == own);
        assert!(found.is_some_and(|process| process.parent == parent && process.resident_pages > 0));
    }
}
