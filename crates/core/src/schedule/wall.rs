//! Cron on a wall clock that knows no zone: the reading is croner's, the search is day by day and bounded.

use croner::Weekday;
use croner::parser::{CronParser, Seconds, Year};
use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time};

use crate::limits::{CRON_BYTES_MAX, CRON_DAYS_MAX};

/// A pattern that has at least one match.
#[derive(Clone, Debug)]
pub(super) struct Wall {
    pattern: croner::CronPattern,
    hours: Vec<i8>,
    minutes: Vec<i8>,
    seconds: Vec<i8>,
    /// Whether the hour field has `*` or a step.
    pub(super) elapsed: bool,
}

impl Wall {
    /// Reads five or six fields. The error says what was expected.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str =
            "expected five fields (minute hour day month weekday), or six with leading seconds";
        if text.len() > CRON_BYTES_MAX {
            return Err(format!(
                "{} bytes are too long for cron: expected at most {CRON_BYTES_MAX}",
                text.len()
            ));
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let ([_, hour, _, _, _] | [_, _, hour, _, _, _]) = fields.as_slice() else {
            return Err(format!("`{text}` has {} fields: {EXPECTED}", fields.len()));
        };
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let pattern =
            parser.parse(text).map_err(|error| format!("`{text}` is not cron: {error}; {EXPECTED}"))?.pattern;
        let values = |part: &croner::CronComponent| -> Vec<i8> {
            part.values().into_iter().filter_map(|value| i8::try_from(value).ok()).collect()
        };
        let wall = Self {
            hours: values(&pattern.hours),
            minutes: values(&pattern.minutes),
            seconds: values(&pattern.seconds),
            elapsed: hour.contains(['*', '/']),
            pattern,
        };
        // The calendar repeats within the days that a search looks at, so any day will do to begin at.
        if wall.first_from(jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0)).is_none() {
            return Err(format!("`{text}` never fires: no day of any calendar matches it"));
        }
        Ok(wall)
    }

    /// The first match at or after this time.
    pub(super) fn first_from(&self, from: DateTime) -> Option<DateTime> {
        let from = whole_second_from(from)?;
        let (mut day, mut time) = (from.date(), from.time());
        for _ in 0..CRON_DAYS_MAX {
            if self.has_day(day)
                && let Some(found) = self.first_time(time)
            {
                return Some(day.to_datetime(found));
            }
            time = Time::midnight();
            day = if self.has_month(day) { day.tomorrow() } else { day.last_of_month().tomorrow() }.ok()?;
        }
        None
    }

    /// The last match before this time.
    pub(super) fn last_before(&self, until: DateTime) -> Option<DateTime> {
        let last = whole_second_from(until)?.checked_sub(1.second()).ok()?;
        let (mut day, mut time) = (last.date(), last.time());
        for _ in 0..CRON_DAYS_MAX {
            if self.has_day(day)
                && let Some(found) = self.last_time(time)
            {
                return Some(day.to_datetime(found));
            }
            time = Time::MAX;
            day =
                if self.has_month(day) { day.yesterday() } else { day.first_of_month().yesterday() }.ok()?;
        }
        None
    }

    fn has_month(&self, day: Date) -> bool {
        self.pattern.month_match(day.month().unsigned_abs().into()).unwrap_or(false)
    }

    fn has_day(&self, day: Date) -> bool {
        let weekday =
            Weekday::from_days_from_sunday(day.weekday().to_sunday_zero_offset().unsigned_abs().into());
        let (month, of_month) = (day.month().unsigned_abs().into(), day.day().unsigned_abs().into());
        self.has_month(day)
            && self.pattern.day_match(day.year().into(), month, of_month, weekday).unwrap_or(false)
    }

    fn first_time(&self, from: Time) -> Option<Time> {
        let (first_minute, first_second) = (*self.minutes.first()?, *self.seconds.first()?);
        for hour in self.hours.iter().copied().filter(|hour| *hour >= from.hour()) {
            if hour > from.hour() {
                return Time::new(hour, first_minute, first_second, 0).ok();
            }
            for minute in self.minutes.iter().copied().filter(|minute| *minute >= from.minute()) {
                let least = if minute > from.minute() { 0 } else { from.second() };
                if let Some(second) = self.seconds.iter().copied().find(|second| *second >= least) {
                    return Time::new(hour, minute, second, 0).ok();
                }
            }
        }
        None
    }

    fn last_time(&self, upto: Time) -> Option<Time> {
        let (last_minute, last_second) = (*self.minutes.last()?, *self.seconds.last()?);
        for hour in self.hours.iter().rev().copied().filter(|hour| *hour <= upto.hour()) {
            if hour < upto.hour() {
                return Time::new(hour, last_minute, last_second, 0).ok();
            }
            for minute in self.minutes.iter().rev().copied().filter(|minute| *minute <= upto.minute()) {
                let most = if minute < upto.minute() { 59 } else { upto.second() };
                if let Some(second) = self.seconds.iter().rev().copied().find(|second| *second <= most) {
                    return Time::new(hour, minute, second, 0).ok();
                }
            }
        }
        None
    }
}

/// A part of a second does not exist for a pattern.
fn whole_second_from(wall: DateTime) -> Option<DateTime> {
    if wall.subsec_nanosecond() == 0 {
        return Some(wall);
    }
    wall.with().subsec_nanosecond(0).build().ok()?.checked_add(1.second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_ways() {
        let check = |cron: &str, around: &str, before: &str, from: &str| {
            let (wall, around) = (Wall::parse(cron).unwrap(), around.parse().unwrap());
            let found =
                [wall.last_before(around), wall.first_from(around)].map(|found| found.unwrap().to_string());
            assert_eq!(found, [before, from], "{cron} {around}");
        };
        check("0 6,18 * * *", "2026-01-01T06:00", "2025-12-31T18:00:00", "2026-01-01T06:00:00");
        check("0 6,18 * * *", "2026-01-01T06:00:00.5", "2026-01-01T06:00:00", "2026-01-01T18:00:00");
        check("10,40 30 * * * *", "2026-01-01T06:30:20", "2026-01-01T06:30:10", "2026-01-01T06:30:40");
        check("0 0 29 2 *", "2026-01-01T00:00", "2024-02-29T00:00:00", "2028-02-29T00:00:00");
        check("0 0 29 2 +SUN", "2026-01-01T00:00", "2004-02-29T00:00:00", "2032-02-29T00:00:00");
        check("0 0 29 2 +FRI", "2100-03-01T00:00", "2092-02-29T00:00:00", "2104-02-29T00:00:00");
        check("0 9 LW * *", "2026-02-15T00:00", "2026-01-30T09:00:00", "2026-02-27T09:00:00");
        check("0 9 * * FRIL", "2026-02-15T00:00", "2026-01-30T09:00:00", "2026-02-27T09:00:00");
        check("0 9 1 * MON", "2026-02-03T00:00", "2026-02-02T09:00:00", "2026-02-09T09:00:00");
    }

    proptest! {
        /// The search finds what croner's own finds where there is no zone.
        #[test]
        fn agrees_with_croner(
            cron in proptest::sample::select(vec!["*/7 3-5 * * *", "*/20 1,59 */6 * * *", "0 0 31 * *", "5 4 * * MON-FRI", "0 12 15W * *", "59 23 L 1-6 *", "0 0 1 * 0"]),
            second in 0_i64..4_000_000_000,
        ) {
            let (wall, pattern) = (Wall::parse(cron).unwrap(), cron.parse::<croner::Cron>().unwrap());
            let at = jiff::Timestamp::from_second(second).unwrap().to_zoned(jiff::tz::TimeZone::UTC).datetime();
            prop_assert_eq!(wall.first_from(at), pattern.find_next_occurrence(&at, true).ok());
            prop_assert_eq!(wall.last_before(at), pattern.find_previous_occurrence(&at, false).ok());
        }
    }
}
