//! Counts what a serving process holds and what lies in its home, so that a drill can show that nothing of it stays.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::home::{Home, PATIENCE, Serving, until};

/// Files of databases that may be open, of two stores: a writer and at most eight idle readers each, with up to three files.
const DATABASE_FILES_MAX: usize = 2 * 9 * 3;
/// Threads beyond those at first: the ones that may block stay for some seconds after their work.
const THREADS_MORE_MAX: usize = 64;

/// What there was before the drill.
pub struct Leaks<'a> {
    home: &'a Home,
    serving: &'a Serving,
    before: BTreeMap<String, usize>,
    threads: usize,
}

impl<'a> Leaks<'a> {
    /// To be called while nothing is at work, and after a first cycle, with which everything that lasts is opened.
    pub fn before(home: &'a Home, serving: &'a Serving) -> Self {
        let mut before = BTreeMap::new();
        until("what a first cycle opened to be closed", || {
            let seen = count(home, serving.pid());
            let settled = seen == before && !seen.contains_key("children");
            before = seen;
            settled
        });
        Self { home, serving, before, threads: threads(serving.pid()) }
    }

    /// Waits until nothing is left of what came since.
    pub fn none(&self) {
        let started = Instant::now();
        loop {
            let left = self.more();
            if left.is_empty() {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "left behind, with the number allowed and found: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let threads = threads(self.serving.pid());
        assert!(threads <= self.threads + THREADS_MORE_MAX, "{threads} threads, {} before", self.threads);
    }

    fn allowed(&self, what: &str) -> usize {
        if what == "open database" {
            return DATABASE_FILES_MAX;
        }
        self.before.get(what).copied().unwrap_or(0)
    }

    fn more(&self) -> Vec<(String, usize, usize)> {
        let now = count(self.home, self.serving.pid()).into_iter();
        let now = now.map(|(what, number)| (self.allowed(&what), what, number));
        now.filter(|(allowed, _, number)| number > allowed)
            .map(|(allowed, what, number)| (what, allowed, number))
            .collect()
    }
}

/// Everything that is counted, by what it is: open files by their kind, children, ended children that nobody took note of, other processes of the
/// home, and files that are to be there only while something is at work.
fn count(home: &Home, pid: u32) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    let mut add = |what: String| *counted.entry(what).or_insert(0) += 1;
    open_files(pid).into_iter().for_each(&mut add);
    for (child, ended) in children(pid) {
        add("children".to_owned());
        if ended {
            add(format!("zombie {child}"));
        }
    }
    home.processes().into_iter().filter(|process| *process != pid).for_each(|_| add("survivors".to_owned()));
    for namespace in entries(&home.path("data")) {
        let data = home.path("data").join(&namespace);
        for below in ["work", "blobs/incoming", "."] {
            let names = entries(&data.join(below)).into_iter();
            names.map(|name| format!("{namespace}/{below}: {name}")).for_each(&mut add);
        }
    }
    entries(&home.path("run")).into_iter().map(|name| format!("run: {name}")).for_each(&mut add);
    counted
}

fn open_files(pid: u32) -> Vec<String> {
    let folder = format!("/proc/{pid}/fd");
    let targets = entries(Path::new(&folder));
    let targets = targets.into_iter().filter_map(|number| fs::read_link(format!("{folder}/{number}")).ok());
    targets
        .map(|target| {
            let text = target.to_string_lossy();
            if text.contains("/orbit.db") {
                return "open database".to_owned();
            }
            // `socket:[1234]` is one of its kind.
            let kind = text.split(":[").next().unwrap_or_default();
            format!("open {kind}")
        })
        .collect()
}

/// The children of a process, and whether each has ended.
fn children(of: u32) -> Vec<(u32, bool)> {
    let pids = entries(Path::new("/proc")).into_iter().filter_map(|name| name.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let (state, parent) = (fields.next()?, fields.next()?.parse::<u32>().ok()?);
        (parent == of).then_some((pid, state == "Z"))
    })
    .collect()
}

fn threads(pid: u32) -> usize {
    entries(Path::new(&format!("/proc/{pid}/task"))).len()
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn what_is_left_is_seen() {
    let home = Home::lab(1);
    let serving = home.serve();
    let leaks = Leaks::before(&home, &serving);
    leaks.none();
    home.write("data/lab/work/left", "");
    home.write("data/lab/blobs/incoming/1-1", "");
    let mut child = std::process::Command::new("sleep").arg("1000").current_dir(home.root()).spawn().unwrap();
    let seen: Vec<_> = leaks.more().into_iter().map(|(what, ..)| what).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    for expected in ["lab/work: left", "lab/blobs/incoming: 1-1", "survivors"] {
        assert!(seen.iter().any(|what| what == expected), "{expected}: {seen:?}");
    }
    assert_eq!(children(std::process::id()).iter().filter(|(pid, _)| *pid == serving.pid()).count(), 1);
    assert!(
        open_files(serving.pid()).iter().any(|what| what == "open socket"),
        "{:?}",
        open_files(serving.pid())
    );
}
