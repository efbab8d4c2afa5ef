//! Schedule: when a run profile fires, and what becomes of each firing.
//!
//! Owns the instants (cron with zone and clock changes, intervals, unions, jitter, exclusions), the decision about each of them, and
//! the memory that a decision needs. Never reads a clock: `now` is a parameter. Zones are the ones built into the program.
//!
//! A firing is known by its *nominal* instant; it is *due* when its jitter has passed, and jitter never reaches the next nominal
//! instant, so that firings come due in order. Read next: [`decide`](crate::schedule::decide).

mod compile;
mod cron;
mod decide;
mod exclusion;
mod interval;
mod judge;
mod memory;
mod preview;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_decide;
#[cfg(test)]
mod tests_next;
mod wall;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

pub use compile::{ScheduleError, problems};
pub use cron::Change;
pub use decide::{Cause, Cursor, Facts, Fire, Load, Plan, decide};
pub use memory::{Decided, Decision};
pub use preview::{Preview, preview};

use crate::config::{Millis, ScheduleSpec, settings_digest};
use crate::digest::Digest;
use crate::limits::JITTER_MAX;
use compile::Entry;

/// A schedule that has been checked: the union of its entries.
#[derive(Clone, Debug)]
pub struct Schedule {
    entries: Vec<Entry>,
    seed: Uuid,
    digest: Digest,
}

/// One nominal instant of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    /// The instant that it stands for.
    pub nominal: Timestamp,
    /// When it happens: the nominal instant and its share of the jitter, less than the gap to the next nominal instant.
    pub due: Timestamp,
    /// Whether an exclusion holds it; it does not happen then.
    pub excluded: bool,
    /// What a change of the clocks did to it.
    pub change: Option<Change>,
    entry: usize,
}

/// Every nominal instant in order, the excluded ones too.
#[derive(Clone, Debug)]
pub struct Firings<'a> {
    schedule: &'a Schedule,
    heads: Vec<Option<cron::Hit>>,
}

impl Schedule {
    /// Checks a schedule. The seed, which is the run profile's id, makes the jitter its own.
    pub fn compile(spec: &ScheduleSpec, seed: Uuid) -> Result<Self, ScheduleError> {
        Ok(Self { entries: compile::entries(spec)?, seed, digest: settings_digest(spec) })
    }

    /// The first firing after this instant that is not excluded.
    pub fn after(&self, at: Timestamp) -> Option<Firing> {
        let nominal = self.entries.iter().filter_map(|entry| entry.next_allowed(at)).min()?;
        self.at(nominal)
    }

    /// The last firing before this instant that is not excluded.
    pub fn before(&self, at: Timestamp) -> Option<Firing> {
        let nominal = self.entries.iter().filter_map(|entry| entry.previous_allowed(at)).max()?;
        self.at(nominal)
    }

    /// Every nominal instant after this one.
    pub fn firings(&self, after: Timestamp) -> Firings<'_> {
        Firings { schedule: self, heads: self.entries.iter().map(|entry| entry.next(after)).collect() }
    }

    /// The last firing that is due before this instant and not excluded.
    fn last_due(&self, before: Timestamp) -> Option<Firing> {
        let last = self.before(before)?;
        // Firings come due in order, so that at most one is nominal before the instant and due after it.
        if last.due < before { Some(last) } else { self.before(last.nominal) }
    }

    fn at(&self, nominal: Timestamp) -> Option<Firing> {
        self.firings(nominal.checked_sub(SignedDuration::from_nanos(1)).ok()?).next()
    }

    /// A fixed share of the jitter: SHA-256 of seed and nominal instant, as a fraction of what there is room for.
    fn delay(&self, nominal: Timestamp, jitter: Millis, next: Option<Timestamp>) -> SignedDuration {
        let mut text = self.seed.as_bytes().to_vec();
        text.extend(nominal.as_nanosecond().to_be_bytes());
        let fraction = Digest::of(&text).0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        let room = next.and_then(|next| u64::try_from(next.duration_since(nominal).as_millis()).ok());
        let span = jitter.0.min(room.unwrap_or(u64::MAX));
        let millis = (u128::from(span) * u128::from(fraction)) >> 64;
        SignedDuration::from_millis(i64::try_from(millis).unwrap_or(0))
    }
}

impl Iterator for Firings<'_> {
    type Item = Firing;

    fn next(&mut self) -> Option<Firing> {
        let earliest = |heads: &[Option<cron::Hit>]| heads.iter().flatten().map(|hit| hit.at).min();
        let nominal = earliest(&self.heads)?;
        let mut firing = Firing { nominal, due: nominal, excluded: true, change: None, entry: 0 };
        let (mut met, mut jitter) = (false, JITTER_MAX);
        for (index, head) in self.heads.iter_mut().enumerate() {
            let Some(hit) = head.filter(|hit| hit.at == nominal) else { continue };
            let entry = &self.schedule.entries[index];
            let excluded = entry.blackout(nominal).is_some();
            // Entries that meet at an instant fire once, as the first of them that is allowed would.
            if !met || (firing.excluded && !excluded) {
                (met, firing.change, firing.entry) = (true, hit.change, index);
            }
            firing.excluded &= excluded;
            if !excluded {
                jitter = jitter.min(entry.jitter);
            }
            *head = entry.next(nominal);
        }
        if !firing.excluded && jitter.0 > 0 {
            let delay = self.schedule.delay(nominal, jitter, earliest(&self.heads));
            firing.due = nominal.checked_add(delay).unwrap_or(nominal);
        }
        Some(firing)
    }
}
