//! From the written schedule to entries whose every part is known to be good.

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use super::cron::{Cron, Hit};
use super::exclusion::Blackout;
use super::interval::Interval;
use crate::config::{Millis, ScheduleEntry, ScheduleSpec};
use crate::limits::{
    EXCLUSIONS_MAX, EXCLUSIONS_PASSED_MAX, INTERVAL_MAX, INTERVAL_MIN, JITTER_MAX, SCHEDULE_ENTRIES_MAX,
};

/// A schedule that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schedule entry {entry}: {}{message}", field_prefix(.field))]
pub struct ScheduleError {
    /// The entry's index, from 0.
    pub entry: usize,
    /// The key within the entry, as in `cron` or `exclude[2].from`; empty if it is the entry as a whole.
    pub field: String,
    /// What is wrong and what was expected: a lower-case fragment.
    pub message: String,
}

/// An entry that can be asked for instants.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    rhythm: Rhythm,
    pub(super) zone: TimeZone,
    pub(super) jitter: Millis,
    blackouts: Vec<Blackout>,
}

#[derive(Clone, Debug)]
enum Rhythm {
    Cron(Box<Cron>),
    Interval(Interval),
}

/// The first thing that is wrong with each entry.
pub fn problems(spec: &ScheduleSpec) -> Vec<ScheduleError> {
    let entries = spec.0.iter().enumerate();
    let mut found: Vec<_> = entries.filter_map(|(index, entry)| Entry::compile(index, entry).err()).collect();
    found.extend(count_problem(spec));
    found
}

pub(super) fn entries(spec: &ScheduleSpec) -> Result<Vec<Entry>, ScheduleError> {
    if let Some(problem) = count_problem(spec) {
        return Err(problem);
    }
    spec.0.iter().enumerate().map(|(index, entry)| Entry::compile(index, entry)).collect()
}

fn count_problem(spec: &ScheduleSpec) -> Option<ScheduleError> {
    let count = spec.0.len();
    if (1..=SCHEDULE_ENTRIES_MAX).contains(&count) {
        return None;
    }
    let message = format!("{count} entries are out of range: expected from 1 to {SCHEDULE_ENTRIES_MAX}");
    Some(ScheduleError { entry: count.min(SCHEDULE_ENTRIES_MAX), field: String::new(), message })
}

fn field_prefix(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("`{field}`: ") }
}

impl Entry {
    fn compile(index: usize, entry: &ScheduleEntry) -> Result<Self, ScheduleError> {
        let refuse = |field: &str, message| ScheduleError { entry: index, field: field.to_owned(), message };
        let zone = zone(entry.timezone.as_deref()).map_err(|message| refuse("timezone", message))?;
        let rhythm = Rhythm::compile(entry, &zone).map_err(|(field, message)| refuse(field, message))?;
        let jitter = entry.jitter.unwrap_or(Millis(0));
        in_range(jitter, Millis(0), JITTER_MAX).map_err(|message| refuse("jitter", message))?;
        if entry.exclude.len() > EXCLUSIONS_MAX {
            let count = entry.exclude.len();
            return Err(refuse(
                "exclude",
                format!("{count} are too many: expected at most {EXCLUSIONS_MAX}"),
            ));
        }
        let blackout = |(at, exclusion)| {
            Blackout::compile(exclusion, &zone, entry.dst).map_err(|(key, message)| {
                let dot = if key.is_empty() { "" } else { "." };
                refuse(&format!("exclude[{at}]{dot}{key}"), message)
            })
        };
        let blackouts = entry.exclude.iter().enumerate().map(blackout).collect::<Result<_, _>>()?;
        Ok(Self { rhythm, zone, jitter, blackouts })
    }

    /// The first instant after this one, excluded or not.
    pub(super) fn next(&self, after: Timestamp) -> Option<Hit> {
        match &self.rhythm {
            Rhythm::Cron(cron) => cron.next(after),
            Rhythm::Interval(interval) => interval.next(after).map(|at| Hit { at, change: None }),
        }
    }

    fn previous(&self, before: Timestamp) -> Option<Timestamp> {
        match &self.rhythm {
            Rhythm::Cron(cron) => cron.previous(before).map(|hit| hit.at),
            Rhythm::Interval(interval) => interval.previous(before),
        }
    }

    /// The span of the exclusion that holds this instant.
    pub(super) fn blackout(&self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        self.blackouts.iter().find_map(|blackout| blackout.around(at))
    }

    /// The first instant after this one that is not excluded. Whole blackouts are passed at once.
    pub(super) fn next_allowed(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = after;
        for _ in 0..EXCLUSIONS_PASSED_MAX {
            let at = self.next(from)?.at;
            let Some((_, until)) = self.blackout(at) else { return Some(at) };
            from = until.checked_sub(SignedDuration::from_nanos(1)).ok()?;
        }
        None
    }

    /// The last instant before this one that is not excluded.
    pub(super) fn previous_allowed(&self, before: Timestamp) -> Option<Timestamp> {
        let mut until = before;
        for _ in 0..EXCLUSIONS_PASSED_MAX {
            let at = self.previous(until)?;
            let Some((from, _)) = self.blackout(at) else { return Some(at) };
            until = from;
        }
        None
    }
}

impl Rhythm {
    fn compile(entry: &ScheduleEntry, zone: &TimeZone) -> Result<Self, (&'static str, String)> {
        match (&entry.cron, entry.every) {
            (Some(cron), None) => {
                if entry.offset.is_some() {
                    return Err((
                        "offset",
                        "it shifts an interval: expected `every` instead of `cron`".to_owned(),
                    ));
                }
                let cron = Cron::parse(cron, zone.clone(), entry.dst).map_err(|message| ("cron", message))?;
                Ok(Self::Cron(Box::new(cron)))
            }
            (None, Some(every)) => {
                in_range(every, INTERVAL_MIN, INTERVAL_MAX).map_err(|message| ("every", message))?;
                let offset = entry.offset.unwrap_or(Millis(0));
                in_range(offset, Millis(0), INTERVAL_MAX).map_err(|message| ("offset", message))?;
                Ok(Self::Interval(Interval::new(every, offset)))
            }
            (Some(_), Some(_)) => Err(("every", "expected either `cron` or `every`, not both".to_owned())),
            (None, None) => Err(("", "expected `cron` or `every`".to_owned())),
        }
    }
}

fn in_range(span: Millis, min: Millis, max: Millis) -> Result<(), String> {
    if (min..=max).contains(&span) {
        return Ok(());
    }
    Err(format!("`{span}` is out of range: expected from `{min}` to `{max}`"))
}

fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    // The zones of the machine are not asked: two nodes must agree on every instant.
    TimeZoneDatabase::bundled().get(name).map_err(|_| {
        format!("`{name}` is not a known time zone: expected an IANA name such as `Europe/Berlin`")
    })
}
