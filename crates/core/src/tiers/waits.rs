//! What held a run between its admission and its first step, and for how long.
//!
//! Each limit has a history of when all its permits were taken. The account of a run gives every moment of its wait to one cause, the first
//! that applies: time before anything was remembered, the gate, the run's processor, its run profile, its profile, the namespace, the node; what
//! is left is the turn of the workers. So the parts add up to the whole. The narrow limits come first: where a processor is full, more
//! permits of the node would not help.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use super::Lane;

/// Spans that the history of one limit keeps; older ones are forgotten.
const SPANS_MAX: usize = 32;
/// A limit that has room for no longer than this counts as full throughout: a freed permit was taken by the next in line.
const GAP_MAX: SignedDuration = SignedDuration::from_millis(100);

/// What can hold a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// The gate was closed: a halt, a pause, the disk floor.
    Gate,
    /// `concurrency` of a processor.
    Processor(String),
    /// `execution_policy.concurrency` of a run profile.
    RunProfile(Uuid),
    /// `concurrency` of a profile.
    Profile(Uuid),
    /// `caps.runs_concurrent` of the namespace.
    Namespace,
    /// `limits.runs_concurrent` of the node.
    Node,
}

/// A cause and how long it held a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// `gate`, `processor`, `run_profile`, `profile`, `namespace`, `node`; `restart` for the time before this process had the
    /// namespace, `unknown` for what is longer ago than it remembers, `turn` for what no limit explains.
    pub limit: &'static str,
    /// The processor's name; a profile and a run profile are the run's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For how long, in milliseconds.
    pub ms: u64,
}

/// The whole wait of a run, in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// From the admission to the start, in milliseconds: the sum of the parts.
    pub waited_ms: u64,
    /// The parts that are not nothing.
    pub held: Vec<Held>,
}

/// A stretch of time, without its end.
type Span = (Timestamp, Timestamp);

/// When a limit was full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fullness {
    /// Those that are over, oldest first.
    past: VecDeque<Span>,
    /// Since when it is full, if it is.
    since: Option<Timestamp>,
    /// The end of the newest span that was forgotten.
    forgotten: Option<Timestamp>,
}

/// The histories of all limits of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// When it began.
    pub began: Timestamp,
    /// Limits without an entry never held anything.
    pub full: BTreeMap<Limit, Fullness>,
}

impl Limit {
    /// The word used in records and output.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Processor(_) => "processor",
            Self::RunProfile(_) => "run_profile",
            Self::Profile(_) => "profile",
            Self::Namespace => "namespace",
            Self::Node => "node",
        }
    }

    /// Everything that holds runs of a lane, in the order in which time is given to causes.
    pub fn of(lane: &Lane) -> [Self; 6] {
        [
            Self::Gate,
            Self::Processor(lane.processor.clone()),
            Self::RunProfile(lane.run_profile_id),
            Self::Profile(lane.profile_id),
            Self::Namespace,
            Self::Node,
        ]
    }
}

impl Fullness {
    /// From now on it is full, or has room.
    pub fn note(&mut self, full: bool, now: Timestamp) {
        match (full, self.since) {
            (true, None) => {
                let reopened = self.past.pop_back_if(|(_, until)| now.duration_since(*until) <= GAP_MAX);
                self.since = Some(reopened.map_or(now, |(from, _)| from));
            }
            (false, Some(from)) => {
                self.since = None;
                self.past.push_back((from, now.max(from)));
                if self.past.len() > SPANS_MAX {
                    self.forgotten = self.past.pop_front().map(|(_, until)| until);
                }
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Whether nothing is known of it: no history and not full.
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }

    fn spans(&self, now: Timestamp) -> impl Iterator<Item = Span> {
        self.past.iter().copied().chain(self.since.map(|from| (from, now)))
    }
}

impl Waits {
    /// Nothing is known before this.
    pub const fn new(began: Timestamp) -> Self {
        Self { began, full: BTreeMap::new() }
    }

    /// The wait of a run of this lane that was admitted at one instant and starts at the other.
    pub fn account(&self, lane: &Lane, admitted: Timestamp, now: Timestamp) -> Account {
        let whole = millis(now.duration_since(admitted));
        let mut open = vec![(admitted, now)];
        let mut held = Vec::new();
        let mut told = 0;
        let mut tell = |limit: &'static str, name: Option<String>, took: SignedDuration| {
            let ms = millis(took).min(whole - told);
            told += ms;
            if ms > 0 {
                held.push(Held { limit, name, ms });
            }
        };
        tell("restart", None, cut(&mut open, (Timestamp::MIN, self.began)));
        let limits = Limit::of(lane);
        let known: Vec<_> = limits.iter().filter_map(|limit| Some((limit, self.full.get(limit)?))).collect();
        if let Some(forgotten) = known.iter().filter_map(|(_, full)| full.forgotten).max() {
            tell("unknown", None, cut(&mut open, (Timestamp::MIN, forgotten)));
        }
        for (limit, full) in known {
            let took = full.spans(now).fold(SignedDuration::ZERO, |sum, span| sum + cut(&mut open, span));
            let name = match limit {
                Limit::Processor(name) => Some(name.clone()),
                Limit::Gate | Limit::RunProfile(_) | Limit::Profile(_) | Limit::Namespace | Limit::Node => {
                    None
                }
            };
            tell(limit.name(), name, took);
        }
        let rest = whole - told;
        if rest > 0 {
            held.push(Held { limit: "turn", name: None, ms: rest });
        }
        Account { waited_ms: whole, held }
    }
}

fn millis(span: SignedDuration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(0)
}

/// Takes a span out of what is open; how much of it there was.
fn cut(open: &mut Vec<Span>, (from, until): Span) -> SignedDuration {
    let mut taken = SignedDuration::ZERO;
    let mut left = Vec::with_capacity(open.len() + 1);
    for (begin, end) in open.drain(..) {
        let (first, last) = (begin.max(from), end.min(until));
        if first >= last {
            left.push((begin, end));
            continue;
        }
        taken += last.duration_since(first);
        left.extend([(begin, first), (last, end)].into_iter().filter(|(begin, end)| begin < end));
    }
    *open = left;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

    fn lane() -> Lane {
        Lane { profile_id: Uuid::nil(), run_profile_id: Uuid::nil(), processor: "narrate".to_owned() }
    }

    fn full(changes: &[(bool, i64)]) -> Fullness {
        let mut full = Fullness::default();
        for (is_full, ms) in changes {
            full.note(*is_full, at(*ms));
        }
        full
    }

    fn processor() -> Limit {
        Limit::Processor("narrate".to_owned())
    }

    fn told(waits: &Waits, admitted: i64, now: i64) -> Vec<(&'static str, u64)> {
        let account = waits.account(&lane(), at(admitted), at(now));
        assert_eq!(account.held.iter().map(|held| held.ms).sum::<u64>(), account.waited_ms);
        account.held.into_iter().map(|held| (held.limit, held.ms)).collect()
    }

    #[test]
    fn every_moment_has_one_cause() {
        let mut waits = Waits::new(at(0));
        assert_eq!(told(&waits, 100, 100), []);
        assert_eq!(told(&waits, 100, 107), [("turn", 7)]);
        assert_eq!(told(&waits, -50, 10), [("restart", 50), ("turn", 10)]);
        waits.full.insert(Limit::Node, full(&[(true, 1_000), (false, 5_000)]));
        waits.full.insert(processor(), full(&[(true, 2_000), (false, 3_000)]));
        waits.full.insert(Limit::Gate, full(&[(true, 4_500)]));
        assert_eq!(
            told(&waits, 500, 6_000),
            [("gate", 1_500), ("processor", 1_000), ("node", 2_500), ("turn", 500)]
        );
        assert_eq!(told(&waits, 2_100, 2_600), [("processor", 500)]);
        let held = waits.account(&lane(), at(2_100), at(2_600)).held;
        assert_eq!(held[0].name.as_deref(), Some("narrate"));
        let other = Lane { processor: "other".to_owned(), ..lane() };
        assert_eq!(waits.account(&other, at(2_100), at(2_600)).held[0].limit, "node");
    }

    #[test]
    fn a_moment_of_room_is_not_told_and_old_spans_are_forgotten() {
        let mut waits = Waits::new(at(0));
        waits.full.insert(processor(), full(&[(true, 0), (false, 1_000), (true, 1_050), (false, 2_000)]));
        assert_eq!(told(&waits, 0, 2_000), [("processor", 2_000)]);
        let count = i64::try_from(SPANS_MAX).unwrap() + 2;
        let changes: Vec<_> =
            (0..count).flat_map(|n| [(true, n * 1_000), (false, n * 1_000 + 500)]).collect();
        waits.full.insert(processor(), full(&changes));
        // Two spans are forgotten, so that what came before the end of the second is not known.
        let kept = u64::try_from(SPANS_MAX).unwrap();
        let end = count * 1_000;
        assert_eq!(
            told(&waits, 0, end),
            [("unknown", 1_500), ("processor", kept * 500), ("turn", kept * 500 + 500)]
        );
    }

    #[test]
    fn a_clock_that_goes_back_harms_nothing() {
        let mut waits = Waits::new(at(0));
        waits.full.insert(processor(), full(&[(true, 1_000), (false, 500), (true, 200)]));
        assert_eq!(told(&waits, 900, 300), []);
        _ = told(&waits, 100, 3_000);
    }

    proptest! {
        #[test]
        fn the_parts_add_up(
            changes in proptest::collection::vec((0..3_usize, any::<bool>(), 0..3_000_i64), 0..80),
            (admitted, waited) in (-500..20_000_i64, 0..20_000_i64),
        ) {
            let mut waits = Waits::new(at(0));
            let limits = [Limit::Node, processor(), Limit::Gate];
            let mut now = 0;
            for (which, is_full, after) in changes {
                now += after;
                waits.full.entry(limits[which].clone()).or_default().note(is_full, at(now));
            }
            told(&waits, admitted, admitted + waited);
        }
    }
}
