//! Cron in a time zone: from matches on the wall clock to instants.
//!
//! Time is walked in stretches of one offset, within which
//! wall clock and instants run in step, and what lies between two stretches is decided here: the policies hold for fixed hours, and an
//! hour field with `*` or a step follows elapsed time (nothing in a gap, both times in a fold).

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneTransition};
use jiff::{SignedDuration, Timestamp};

use super::wall::Wall;
use crate::config::{DstPolicy, FoldPolicy, GapPolicy};
use crate::limits::ZONE_CHANGES_MAX;

/// One cron expression in its zone.
#[derive(Clone, Debug)]
pub(super) struct Cron {
    wall: Wall,
    hours: Hours,
    zone: TimeZone,
}

/// Whether the clock changes matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hours {
    /// Named hours: the policies decide.
    Fixed(DstPolicy),
    /// `*` or a step: every wall clock time that exists, as often as it exists.
    Elapsed,
}

/// An instant at which an entry fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) at: Timestamp,
    pub(super) change: Option<Change>,
}

/// What a change of the clocks did to a firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This local time does not exist; it fires at the first instant after the gap.
    Shifted(DateTime),
    /// The local time exists twice, and this is the first of them.
    First(DateTime),
    /// The local time exists twice, and this is the second of them.
    Second(DateTime),
}

/// What a stretch of one offset had to offer.
enum Found {
    Hit(Hit),
    /// Nothing here; another stretch may have it.
    NotHere,
    /// Nothing in this direction at all.
    Never,
}

impl Cron {
    /// The error says what was expected.
    pub(super) fn parse(text: &str, zone: TimeZone, dst: DstPolicy) -> Result<Self, String> {
        let wall = Wall::parse(text)?;
        let hours = if wall.elapsed { Hours::Elapsed } else { Hours::Fixed(dst) };
        Ok(Self { wall, hours, zone })
    }

    /// The first instant after this one.
    pub(super) fn next(&self, after: Timestamp) -> Option<Hit> {
        let (mut from, mut step) = (after, SignedDuration::from_nanos(1));
        for _ in 0..ZONE_CHANGES_MAX {
            let offset = self.zone.to_offset(from);
            let end = self.zone.following(from).next();
            match self.first_within(offset, offset.to_datetime(from).checked_add(step).ok()?, end.as_ref()) {
                Found::Hit(hit) => return Some(hit),
                Found::Never => return None,
                Found::NotHere => {}
            }
            let end = end?;
            if let Some(hit) = self.shifted(offset, &end) {
                return Some(hit);
            }
            // Every stretch but the first begins with its first instant.
            (from, step) = (end.timestamp(), SignedDuration::ZERO);
        }
        None
    }

    /// The last instant before this one.
    pub(super) fn previous(&self, before: Timestamp) -> Option<Hit> {
        let mut until = before;
        for _ in 0..ZONE_CHANGES_MAX {
            let offset = self.zone.to_offset(just_before(until)?);
            let start = self.zone.preceding(until).next();
            match self.last_within(offset, offset.to_datetime(until), start.as_ref()) {
                Found::Hit(hit) => return Some(hit),
                Found::Never => return None,
                Found::NotHere => {}
            }
            let start = start?;
            if let Some(hit) = self.shifted(self.zone.to_offset(just_before(start.timestamp())?), &start) {
                return Some(hit);
            }
            until = start.timestamp();
        }
        None
    }

    fn first_within(&self, offset: Offset, from: DateTime, end: Option<&TimeZoneTransition<'_>>) -> Found {
        let end = end.map(|end| offset.to_datetime(end.timestamp()));
        let mut from = from;
        loop {
            let Some(found) = self.wall.first_from(from) else { return Found::Never };
            if end.is_some_and(|end| found >= end) {
                return Found::NotHere;
            }
            if let Some(hit) = self.accept(found, offset) {
                return Found::Hit(hit);
            }
            let Ok(later) = found.checked_add(SignedDuration::from_secs(1)) else { return Found::Never };
            from = later;
        }
    }

    fn last_within(&self, offset: Offset, until: DateTime, start: Option<&TimeZoneTransition<'_>>) -> Found {
        let start = start.map(|start| offset.to_datetime(start.timestamp()));
        let mut until = until;
        loop {
            let Some(found) = self.wall.last_before(until) else { return Found::Never };
            if start.is_some_and(|start| found < start) {
                return Found::NotHere;
            }
            if let Some(hit) = self.accept(found, offset) {
                return Found::Hit(hit);
            }
            until = found;
        }
    }

    /// The instant of a wall clock time in the stretch with this offset, unless the policy gives it to the other one.
    fn accept(&self, wall: DateTime, offset: Offset) -> Option<Hit> {
        let at = offset.to_timestamp(wall).ok()?;
        let change = match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => None,
            AmbiguousOffset::Fold { before, .. } if before == offset => Some(Change::First(wall)),
            AmbiguousOffset::Fold { .. } => Some(Change::Second(wall)),
        };
        let wanted = match (change, self.hours) {
            (Some(Change::First(_)), Hours::Fixed(dst)) => dst.fold != FoldPolicy::Last,
            (Some(Change::Second(_)), Hours::Fixed(dst)) => dst.fold != FoldPolicy::First,
            (None | Some(Change::Shifted(_)), Hours::Fixed(_)) | (_, Hours::Elapsed) => true,
        };
        wanted.then_some(Hit { at, change })
    }

    /// The firing at the end of a gap, for the wall clock times that it swallows.
    fn shifted(&self, before: Offset, end: &TimeZoneTransition<'_>) -> Option<Hit> {
        match self.hours {
            Hours::Fixed(DstPolicy { gap: GapPolicy::Shift, .. }) => {}
            Hours::Fixed(DstPolicy { gap: GapPolicy::Skip, .. }) | Hours::Elapsed => return None,
        }
        let at = end.timestamp();
        let (first, after) = (before.to_datetime(at), end.offset().to_datetime(at));
        let swallowed = self.wall.first_from(first)?;
        (swallowed < after).then_some(Hit { at, change: Some(Change::Shifted(swallowed)) })
    }
}

fn just_before(at: Timestamp) -> Option<Timestamp> {
    at.checked_sub(SignedDuration::from_nanos(1)).ok()
}
