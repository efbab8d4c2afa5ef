//! Blackouts: spans in which an entry does not fire.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::cron::Cron;
use crate::config::{DstPolicy, Exclusion, Millis};
use crate::limits::EXCLUSION_MAX;

/// One exclusion of an entry, in instants.
#[derive(Clone, Debug)]
pub(super) enum Blackout {
    /// From the first instant up to and without the second.
    Once(Timestamp, Timestamp),
    /// From each match of the pattern, for this long.
    Repeated(Box<Cron>, SignedDuration),
}

/// What is wrong with an exclusion: the key, and what was expected.
pub(super) type Problem = (&'static str, String);

/// Where a bound written as a whole day ends.
#[derive(Clone, Copy)]
enum Edge {
    First,
    Last,
}

impl Blackout {
    pub(super) fn compile(exclusion: &Exclusion, zone: &TimeZone, dst: DstPolicy) -> Result<Self, Problem> {
        let Exclusion { date, from, to, cron, duration } = exclusion;
        match (date, from, to, cron, duration) {
            (Some(day), None, None, None, None) => {
                let bound = |edge| instant(day, zone, edge).map_err(|message| ("date", message));
                if day.contains('T') {
                    return Err(("date", format!("`{day}` is not a day: expected one such as `2026-12-25`")));
                }
                Ok(Self::Once(bound(Edge::First)?, bound(Edge::Last)?))
            }
            (None, Some(from), Some(to), None, None) => {
                let first = instant(from, zone, Edge::First).map_err(|message| ("from", message))?;
                let end = instant(to, zone, Edge::Last).map_err(|message| ("to", message))?;
                if end <= first {
                    return Err(("to", format!("`{to}` is not after `from: {from}`")));
                }
                Ok(Self::Once(first, end))
            }
            (None, None, None, Some(cron), Some(lasts)) => {
                if *lasts < Millis::seconds(1) || *lasts > EXCLUSION_MAX {
                    let message =
                        format!("`{lasts}` is out of range: expected from `1s` to `{EXCLUSION_MAX}`");
                    return Err(("duration", message));
                }
                let cron = Cron::parse(cron, zone.clone(), dst).map_err(|message| ("cron", message))?;
                let millis = i64::try_from(lasts.0).unwrap_or(i64::MAX);
                Ok(Self::Repeated(Box::new(cron), SignedDuration::from_millis(millis)))
            }
            _ => Err(("", "expected one of `{ date }`, `{ from, to }` or `{ cron, duration }`".to_owned())),
        }
    }

    /// The span that holds the instant: its first instant, and the first that it does not hold.
    pub(super) fn around(&self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let (from, until) = match self {
            Self::Once(from, until) => (*from, *until),
            Self::Repeated(cron, lasts) => {
                let inclusive = at.checked_add(SignedDuration::from_nanos(1)).ok()?;
                let from = cron.previous(inclusive)?.at;
                (from, from.checked_add(*lasts).unwrap_or(Timestamp::MAX))
            }
        };
        (from <= at && at < until).then_some((from, until))
    }
}

/// The instant of a local day or time.
fn instant(text: &str, zone: &TimeZone, edge: Edge) -> Result<Timestamp, String> {
    let refuse = |_: jiff::Error| {
        format!(
            "`{text}` is not a local day or time: expected one such as `2026-12-24` or `2026-12-24T18:00`"
        )
    };
    let wall = if text.contains('T') {
        text.parse::<DateTime>().map_err(refuse)?
    } else {
        let day = text.parse::<Date>().map_err(refuse)?;
        match edge {
            Edge::First => day,
            Edge::Last => day.tomorrow().map_err(refuse)?,
        }
        .to_datetime(jiff::civil::Time::midnight())
    };
    zone.to_timestamp(wall).map_err(refuse)
}
