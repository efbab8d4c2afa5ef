//! Which call of a store fails, when, and how; and the list of the calls that were made.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use orbit_core::digest::Digest;
use orbit_store::StoreError;
use tokio_util::sync::CancellationToken;

/// Answers by which a call says that it changed nothing. Recovery that found nothing still tells of the start.
pub const NOTHING: [&str; 8] =
    ["false", "None", "[None]", "Lost", "0", "[]", "Already", "Redriven { ids: [], next: None }"];

/// Whether a call may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// It appends no record and changes no row.
    Read,
    /// It may, and in this history it did not.
    Idle,
    /// It may.
    Write,
}

/// A call: the so-manyth of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The method.
    pub name: &'static str,
    /// From 1.
    pub nth: u32,
}

/// On which side of the transaction the fault lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The transaction never happens.
    Before,
    /// It is durable, and the caller is not told.
    After,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The call answers that the file could not be read or written.
    Io,
    /// The call answers that the disk is full.
    Full,
    /// From here on no call answers any more: whoever drives the process must drop it.
    End,
    /// The process dies at once.
    Abort,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The call.
    pub point: Point,
    /// Its side.
    pub when: When,
    /// What happens there.
    pub effect: Effect,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {}#{}", self.effect, self.when, self.point.name, self.point.nth)
    }
}

/// What is to happen to the stores of a world, over all its processes.
#[derive(Default)]
pub struct Plan {
    /// The fault, if there is one; it happens once.
    pub fault: Option<Fault>,
    /// Every call that changes something is made twice.
    pub repeat: bool,
    /// Where what is durable is noted after every answer, so that it outlives a process that dies; see [`Acknowledged::read`].
    pub notes: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counts: BTreeMap<&'static str, u32>,
    calls: Vec<(Point, Mode)>,
    hit: bool,
    repeats: Vec<Repeat>,
    acknowledged: Vec<Acknowledged>,
}

/// A record that was durable when a call was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The first call that was answered after it.
    pub call: String,
    /// Its index.
    pub position: u64,
    /// Of header and body.
    pub digest: Digest,
}

impl Acknowledged {
    /// What of a record must not change.
    pub fn digest_of(header: &str, body: Option<&str>) -> Digest {
        Digest::of(format!("{header}\n{}", body.unwrap_or_default()).as_bytes())
    }

    /// Those that a process noted in this file, which may have ended in the middle of a line.
    pub fn read(notes: &Path) -> Vec<Self> {
        let text = std::fs::read_to_string(notes).unwrap_or_default();
        let parse = |line: &str| {
            let (call, position, digest) = serde_json::from_str(line).ok()?;
            Some(Self { call, position, digest })
        };
        text.lines().filter_map(parse).collect()
    }
}

/// A call that was made twice.
#[derive(Clone, Debug)]
pub struct Repeat {
    /// The method.
    pub name: &'static str,
    /// What the first call answered.
    pub first: String,
    /// What the second did.
    pub second: String,
}

impl Plan {
    /// A plan with one fault.
    pub fn with(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    /// A plan by which every call that changes something is made twice.
    pub fn repeating() -> Self {
        Self { repeat: true, ..Self::default() }
    }

    /// The same plan, with a file for what is acknowledged.
    #[must_use]
    pub fn noting(self, notes: PathBuf) -> Self {
        Self { notes: Some(notes), ..self }
    }

    /// A call begins: its number, and the fault that lies on it.
    pub fn begin(&self, name: &'static str, mode: Mode) -> Option<Fault> {
        let mut state = self.lock();
        let count = state.counts.entry(name).or_default();
        *count += 1;
        let point = Point { name, nth: *count };
        state.calls.push((point, mode));
        let fault = self.fault.filter(|fault| fault.point == point && !state.hit);
        state.hit |= fault.is_some();
        fault
    }

    /// What a call answered. One that answers that there was nothing to do is as good as a read.
    pub fn answered(&self, name: &'static str, answer: &impl fmt::Debug) {
        if self.fault.is_none() && NOTHING.contains(&format!("{answer:?}").as_str()) {
            let mut state = self.lock();
            let is_last = |(point, mode): &&mut (Point, Mode)| point.name == name && *mode == Mode::Write;
            if let Some((_, mode)) = state.calls.iter_mut().rev().find(is_last) {
                *mode = Mode::Idle;
            }
        }
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<(Point, Mode)> {
        self.lock().calls.clone()
    }

    /// Whether the fault happened.
    pub fn was_hit(&self) -> bool {
        self.lock().hit
    }

    /// The position up to which records are acknowledged.
    pub fn noted(&self) -> u64 {
        self.lock().acknowledged.last().map_or(0, |last| last.position + 1)
    }

    /// This is acknowledged, in order of position.
    pub fn acknowledge(&self, new: Vec<Acknowledged>) {
        for one in new {
            if one.position < self.noted() {
                continue;
            }
            if let Some(path) = &self.notes {
                let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
                let line = serde_json::to_string(&(&one.call, one.position, one.digest)).unwrap();
                writeln!(file, "{line}").unwrap();
            }
            self.lock().acknowledged.push(one);
        }
    }

    /// Everything that is.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.lock().acknowledged.clone()
    }

    /// Keeps what a repeated call answered.
    pub fn repeated(&self, repeat: Repeat) {
        self.lock().repeats.push(repeat);
    }

    /// What repeated calls answered.
    pub fn repeats(&self) -> Vec<Repeat> {
        self.lock().repeats.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of an effect that is one.
pub fn error(effect: Effect) -> Option<StoreError> {
    let place = "orbit.db".to_owned();
    match effect {
        Effect::Io => Some(StoreError::Io { place, message: "failed to order".to_owned() }),
        Effect::Full => Some(StoreError::Full { place }),
        Effect::End | Effect::Abort => None,
    }
}

/// Set when a process has ended.
pub type Ended = CancellationToken;
