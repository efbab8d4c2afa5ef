//! Tables of instants: zones, clock changes, unions, exclusions, jitter, and what is refused.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::{Schedule, preview, problems};
use crate::config::ScheduleSpec;

pub(super) fn spec(value: serde_json::Value) -> ScheduleSpec {
    serde_json::from_value(value).unwrap()
}

pub(super) fn schedule(value: serde_json::Value) -> Schedule {
    Schedule::compile(&spec(value), Uuid::from_u128(7)).unwrap()
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The firings in `(from, to)` in local time, written without the date if it is the day of `from`'s local date.
fn local(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
    let (from, to) = (at(from), at(to));
    let zone = &schedule.entries[0].zone;
    let day = from.to_zoned(zone.clone()).date();
    let found =
        schedule.firings(from).take_while(|firing| firing.nominal < to).filter(|firing| !firing.excluded);
    let shown = found.map(|firing| firing.nominal.to_zoned(zone.clone()));
    shown
        .map(|zoned| {
            if zoned.date() == day { zoned.strftime("%H:%M%z") } else { zoned.strftime("%dT%H:%M%z") }
                .to_string()
        })
        .collect()
}

#[test]
fn clock_changes() {
    let check = |cron: &str, zone: &str, dst: serde_json::Value, span: (&str, &str), expected: &[&str]| {
        let schedule = schedule(json!({ "cron": cron, "timezone": zone, "dst": dst }));
        assert_eq!(local(&schedule, span.0, span.1), expected, "{cron} {zone} {dst}");
    };
    let (shift, skip) = (json!({ "gap": "shift" }), json!({ "gap": "skip" }));
    let [first, last, both] = ["first", "last", "both"].map(|fold| json!({ "fold": fold }));

    // Berlin, 2026-03-29: 02:00 to 03:00 does not exist.
    let spring = ("2026-03-28T23:30:00Z", "2026-03-29T03:00:00Z");
    let check_berlin =
        |cron: &str, dst, expected: &[&str]| check(cron, "Europe/Berlin", dst, spring, expected);
    check_berlin("30 2 * * *", shift.clone(), &["03:00+0200"]);
    check_berlin("30 2 * * *", skip.clone(), &[]);
    check_berlin("*/30 2 * * *", shift.clone(), &["03:00+0200"]);
    check_berlin("*/30 2 * * *", skip.clone(), &[]);
    check_berlin("0,30 2,3 * * *", shift.clone(), &["03:00+0200", "03:30+0200"]);
    check_berlin("0 1-3 * * *", skip.clone(), &["01:00+0100", "03:00+0200"]);
    check_berlin("0 * * * *", shift.clone(), &["01:00+0100", "03:00+0200", "04:00+0200"]);
    check_berlin("30 */2 * * *", shift.clone(), &["04:30+0200"]);
    check_berlin("15 0-4/2 * * *", shift.clone(), &["04:15+0200"]);

    // Berlin, 2026-10-25: 02:00 to 03:00 exists twice.
    let autumn = ("2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z");
    let check_berlin =
        |cron: &str, dst, expected: &[&str]| check(cron, "Europe/Berlin", dst, autumn, expected);
    check_berlin("30 2 * * *", first.clone(), &["02:30+0200"]);
    check_berlin("30 2 * * *", last.clone(), &["02:30+0100"]);
    check_berlin("30 2 * * *", both.clone(), &["02:30+0200", "02:30+0100"]);
    check_berlin("*/30 2 * * *", first.clone(), &["02:00+0200", "02:30+0200"]);
    check_berlin("*/30 2 * * *", last.clone(), &["02:00+0100", "02:30+0100"]);
    let twice = ["02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"];
    check_berlin("*/30 2 * * *", both.clone(), &twice);
    check_berlin("0 * * * *", first.clone(), &["02:00+0200", "02:00+0100", "03:00+0100"]);
    check_berlin("0 */2 * * *", last.clone(), &["02:00+0200", "02:00+0100"]);
    check_berlin("0 3 * * *", both.clone(), &["03:00+0100"]);

    // Lord Howe moves by half an hour: 2026-10-04 02:00 to 02:30 is missing, 2026-04-05 01:30 to 02:00 comes twice.
    let check_howe =
        |cron: &str, dst, span, expected: &[&str]| check(cron, "Australia/Lord_Howe", dst, span, expected);
    let (gap, fold) =
        (("2026-10-03T15:00:00Z", "2026-10-03T17:00:00Z"), ("2026-04-04T14:00:00Z", "2026-04-04T17:00:00Z"));
    check_howe("15 2 * * *", shift.clone(), gap, &["02:30+1100"]);
    check_howe("15 2 * * *", skip.clone(), gap, &[]);
    check_howe("*/30 2 * * *", shift.clone(), gap, &["02:30+1100"]);
    check_howe(
        "*/15 * * * *",
        shift.clone(),
        gap,
        &["01:45+1030", "02:30+1100", "02:45+1100", "03:00+1100", "03:15+1100", "03:30+1100", "03:45+1100"],
    );
    check_howe("45 1 * * *", first.clone(), fold, &["01:45+1100"]);
    check_howe("45 1 * * *", last.clone(), fold, &["01:45+1030"]);
    check_howe("45 1 * * *", both.clone(), fold, &["01:45+1100", "01:45+1030"]);
    check_howe("15 1 * * *", both.clone(), fold, &["01:15+1100"]);

    // Midnight is missing: Cairo 2026-04-24, Beirut 2026-03-29, São Paulo 2018-11-04.
    let midnight = |zone, span, expected: &[&str]| {
        check("0 0 * * *", zone, shift.clone(), span, expected);
        check("0 0 * * *", zone, skip.clone(), span, &[]);
    };
    midnight("Africa/Cairo", ("2026-04-23T12:00:00Z", "2026-04-24T12:00:00Z"), &["24T01:00+0300"]);
    midnight("Asia/Beirut", ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"), &["29T01:00+0300"]);
    let sao_paulo = ("2018-11-03T12:00:00Z", "2018-11-05T00:00:00Z");
    check("30 0 * * 0", "America/Sao_Paulo", shift.clone(), sao_paulo, &["04T01:00-0200"]);
    // Samoa left out the whole of 2011-12-30.
    let samoa = ("2011-12-30T08:00:00Z", "2012-01-01T08:00:00Z");
    check("0 6 * * *", "Pacific/Apia", shift, samoa, &["31T00:00+1400", "31T06:00+1400", "01T06:00+1400"]);
    check("0 6 * * *", "Pacific/Apia", skip, samoa, &["31T06:00+1400", "01T06:00+1400"]);
}

#[test]
fn instants() {
    let check = |value: serde_json::Value, from: &str, expected: &[&str]| {
        let schedule = schedule(value.clone());
        let mut found = Vec::new();
        let mut from = at(from);
        while let Some(firing) = schedule.after(from).filter(|_| found.len() < expected.len()) {
            found.push(firing.nominal.to_string());
            from = firing.nominal;
        }
        assert_eq!(found, expected, "{value}");
    };
    let new_year = "2026-01-01T00:00:00Z";
    check(json!({ "cron": "0 6,18 * * *" }), new_year, &["2026-01-01T06:00:00Z", "2026-01-01T18:00:00Z"]);
    check(
        json!({ "cron": "*/20 30 0 1 1 *" }),
        new_year,
        &["2026-01-01T00:30:00Z", "2026-01-01T00:30:20Z", "2026-01-01T00:30:40Z", "2027-01-01T00:30:00Z"],
    );
    check(json!({ "cron": "0 0 29 2 *" }), new_year, &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
    check(json!({ "cron": "0 9 L * MON" }), new_year, &["2026-01-05T09:00:00Z", "2026-01-12T09:00:00Z"]);
    check(json!({ "cron": "0 9 * * MON#1" }), new_year, &["2026-01-05T09:00:00Z", "2026-02-02T09:00:00Z"]);
    check(
        json!({ "every": "8h", "offset": "30m" }),
        new_year,
        &["2026-01-01T00:30:00Z", "2026-01-01T08:30:00Z"],
    );
    check(
        json!([{ "cron": "0 * * * *" }, { "every": "30m" }, { "cron": "45 1 * * *" }]),
        new_year,
        &["2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z", "2026-01-01T01:30:00Z", "2026-01-01T01:45:00Z"],
    );
    // Exclusions: a day in the zone, days, local times, and a repeated blackout.
    let hourly = |exclude: serde_json::Value| json!({ "cron": "0 * * * *", "timezone": "Europe/Berlin", "exclude": [exclude] });
    check(
        hourly(json!({ "date": "2026-01-02" })),
        "2026-01-01T21:30:00Z",
        &["2026-01-01T22:00:00Z", "2026-01-02T23:00:00Z"],
    );
    check(
        hourly(json!({ "from": "2026-01-02", "to": "2026-01-04" })),
        "2026-01-01T22:30:00Z",
        &["2026-01-04T23:00:00Z"],
    );
    check(
        hourly(json!({ "from": "2026-01-02T02:00", "to": "2026-01-02T05:00" })),
        "2026-01-02T00:00:00Z",
        &["2026-01-02T04:00:00Z"],
    );
    check(
        hourly(json!({ "cron": "30 8 * * 1-5", "duration": "9h" })),
        "2026-01-02T06:30:00Z",
        &["2026-01-02T07:00:00Z", "2026-01-02T17:00:00Z"],
    );
    // The other entry's exclusion is not this one's.
    check(
        json!([{ "every": "1h", "exclude": [{ "date": "2026-01-02" }] }, { "every": "6h" }]),
        "2026-01-01T23:30:00Z",
        &["2026-01-02T00:00:00Z", "2026-01-02T06:00:00Z"],
    );
    // Everything is excluded: the search ends.
    check(
        json!({ "cron": "0 9 * * *", "exclude": [{ "cron": "0 8 * * *", "duration": "2h" }] }),
        new_year,
        &[],
    );
    check(
        json!({ "cron": "* * * * * *", "exclude": [{ "from": "2026-01-01", "to": "2026-12-31" }] }),
        new_year,
        &["2027-01-01T00:00:00Z"],
    );
}

#[test]
fn refusals() {
    let check = |value: serde_json::Value, entry: usize, field: &str, part: &str| {
        let found = problems(&spec(value.clone()));
        let [problem] = found.as_slice() else { panic!("{value}: {found:?}") };
        assert_eq!((problem.entry, problem.field.as_str()), (entry, field), "{value}");
        assert!(problem.message.contains(part), "{value}: {}", problem.message);
        assert_eq!(Schedule::compile(&spec(value), Uuid::nil()).unwrap_err(), *problem);
    };
    check(json!({ "cron": "0 0 30 2 *" }), 0, "cron", "never fires");
    check(json!({ "cron": "0 0 31 4,6,9,11 *" }), 0, "cron", "never fires");
    check(json!({ "cron": ", * * * *" }), 0, "cron", "never fires");
    check(json!({ "cron": "0 0 * *" }), 0, "cron", "has 4 fields");
    check(json!({ "cron": "0 0 0 * * * 2026" }), 0, "cron", "has 7 fields");
    check(json!({ "cron": "@daily" }), 0, "cron", "five fields");
    check(json!({ "cron": "60 * * * *" }), 0, "cron", "is not cron");
    check(json!({ "cron": "0".repeat(300) }), 0, "cron", "too long");
    check(json!([{ "every": "1h" }, { "every": "500ms" }]), 1, "every", "expected from `1s`");
    check(json!({ "every": "0s" }), 0, "every", "out of range");
    check(json!({ "every": "1h", "cron": "0 * * * *" }), 0, "every", "not both");
    check(json!({ "timezone": "UTC" }), 0, "", "expected `cron` or `every`");
    check(json!({ "cron": "0 * * * *", "offset": "1m" }), 0, "offset", "instead of `cron`");
    check(json!({ "every": "1h", "timezone": "Europe/Berlino" }), 0, "timezone", "IANA");
    check(json!({ "every": "1h", "jitter": "2d" }), 0, "jitter", "out of range");
    check(json!([]), 0, "", "from 1 to 32");
    let exclude =
        |value: serde_json::Value| json!({ "every": "1h", "exclude": [{ "date": "2026-12-25" }, value] });
    check(exclude(json!({})), 0, "exclude[1]", "expected one of");
    check(exclude(json!({ "date": "2026-12-25", "cron": "0 0 * * *" })), 0, "exclude[1]", "expected one of");
    check(exclude(json!({ "date": "2026-02-30" })), 0, "exclude[1].date", "2026-12-24");
    check(exclude(json!({ "date": "2026-12-25T10:00" })), 0, "exclude[1].date", "is not a day");
    check(exclude(json!({ "from": "2026-12-25", "to": "2026-12-24" })), 0, "exclude[1].to", "is not after");
    check(exclude(json!({ "from": "today", "to": "2026-12-24" })), 0, "exclude[1].from", "not a local day");
    check(exclude(json!({ "cron": "0 0 30 2 *", "duration": "1h" })), 0, "exclude[1].cron", "never fires");
    check(
        exclude(json!({ "cron": "0 0 * * *", "duration": "0s" })),
        0,
        "exclude[1].duration",
        "out of range",
    );
}

#[test]
fn jitter_delays_within_bounds_and_never_past_the_next() {
    let value = json!([{ "every": "10m", "jitter": "4m" }, { "cron": "0 * * * *" }]);
    let (jittered, again) = (schedule(value.clone()), schedule(value.clone()));
    let other = Schedule::compile(&spec(value), Uuid::from_u128(8)).unwrap();
    let from = at("2026-01-01T00:00:00Z");
    let delays = |schedule: &Schedule| -> Vec<i64> {
        let firings = schedule.firings(from).take(120);
        firings
            .map(|firing| i64::try_from(firing.due.duration_since(firing.nominal).as_millis()).unwrap())
            .collect()
    };
    assert_eq!(delays(&jittered), delays(&again));
    assert_ne!(delays(&jittered), delays(&other));
    assert!(delays(&jittered).iter().all(|delay| (0..240_000).contains(delay)));
    assert!(delays(&jittered).iter().filter(|delay| **delay > 60_000).count() > 40);
    // Every sixth meets an entry without jitter.
    assert!(delays(&jittered).iter().skip(5).step_by(6).all(|delay| *delay == 0));
    let crowded = schedule(json!({ "every": "1m", "jitter": "1h" }));
    assert!(delays(&crowded).iter().all(|delay| (0..60_000).contains(delay)));
}

#[test]
fn a_preview_says_what_is_special() {
    let value =
        json!({ "cron": "30 2 * * *", "timezone": "Europe/Berlin", "exclude": [{ "date": "2026-03-30" }] });
    let rows = preview(&schedule(value.clone()), at("2026-03-28T12:00:00Z"), 3);
    let notes: Vec<_> = rows.iter().map(|row| (row.local.as_str(), row.note.as_deref())).collect();
    let expected = [
        ("2026-03-29T03:00:00+02:00[Europe/Berlin]", Some("shifted: 02:30:00 does not exist")),
        ("2026-03-30T02:30:00+02:00[Europe/Berlin]", Some("excluded")),
        ("2026-03-31T02:30:00+02:00[Europe/Berlin]", None),
    ];
    assert_eq!(notes, expected);
    let [row] = preview(&schedule(value), at("2026-10-24T12:00:00Z"), 1).try_into().unwrap();
    assert_eq!(row.note.as_deref(), Some("the first of two 02:30:00"));
    assert_eq!(serde_json::to_value(&row).unwrap()["nominal"], json!("2026-10-25T00:30:00Z"));
}

const CRONS: [&str; 12] = [
    "30 2 * * *",
    "*/30 2 * * *",
    "0 * * * *",
    "*/7 * * * *",
    "0 */2 * * *",
    "0 0 * * *",
    "15 1,2 * * 0",
    "30 1-3/2 * * *",
    "10 */10 1-3 * * *",
    "0 0 1 * *",
    "59 23 L * *",
    "0 12 29 2 *",
];
const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo", "Pacific/Apia", "America/Sao_Paulo"];

/// One of many schedules, with every policy and some exclusions.
pub(super) fn any_schedule() -> impl Strategy<Value = serde_json::Value> {
    let exclude = proptest::sample::select(vec![
        json!([]),
        json!([{ "date": "2026-03-29" }]),
        json!([{ "cron": "0 1 * * *", "duration": "90m" }]),
        json!([{ "from": "2026-03-28T12:00", "to": "2026-03-29" }]),
    ]);
    let dst = (
        proptest::sample::select(vec!["shift", "skip"]),
        proptest::sample::select(vec!["first", "last", "both"]),
    );
    let jitter = proptest::sample::select(vec!["0s", "90s", "3h"]);
    let zone = proptest::sample::select(ZONES.to_vec());
    let cron = (proptest::sample::select(CRONS.to_vec()), zone, dst, exclude.clone(), jitter.clone());
    let cron = cron.prop_map(|(cron, zone, (gap, fold), exclude, jitter)| {
        json!({ "cron": cron, "timezone": zone, "dst": { "gap": gap, "fold": fold }, "exclude": exclude, "jitter": jitter })
    });
    let every = (600_u64..20_000, 0_u64..50_000, exclude, jitter).prop_map(|(every, offset, exclude, jitter)| {
        json!({ "every": format!("{every}s"), "offset": format!("{offset}s"), "exclude": exclude, "jitter": jitter })
    });
    proptest::collection::vec(prop_oneof![3 => cron, 1 => every], 1..4).prop_map(serde_json::Value::Array)
}

/// Seconds around the clock changes of 2026, of 2011 in Samoa and of 2018 in Brazil.
pub(super) fn any_instant() -> impl Strategy<Value = Timestamp> {
    let around = [
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-04-04T15:00:00Z",
        "2011-12-30T10:00:00Z",
        "2018-11-04T03:00:00Z",
    ];
    let around = around.map(|text| at(text).as_millisecond()).to_vec();
    (proptest::sample::select(around), -200_000_000_i64..200_000_000)
        .prop_map(|(base, shift)| Timestamp::from_millisecond(base + shift).unwrap())
}

proptest! {
    #[test]
    fn forwards_and_backwards_agree_and_dues_are_in_order(value in any_schedule(), from in any_instant()) {
        let schedule = schedule(value);
        let firings: Vec<_> = schedule.firings(from).take(60).collect();
        for pair in firings.windows(2) {
            prop_assert!(pair[0].nominal < pair[1].nominal);
            prop_assert!(pair[0].nominal <= pair[0].due && pair[0].due < pair[1].nominal);
        }
        let allowed: Vec<_> = firings.into_iter().filter(|firing| !firing.excluded).collect();
        for pair in allowed.windows(2) {
            prop_assert_eq!(schedule.before(pair[1].nominal), Some(pair[0]));
            prop_assert_eq!(schedule.after(pair[0].nominal), Some(pair[1]));
        }
        if let Some(last) = schedule.before(from) {
            prop_assert!(last.nominal < from);
            let at_or_after = from.checked_sub(jiff::SignedDuration::from_nanos(1)).unwrap();
            prop_assert_eq!(schedule.after(last.nominal), schedule.after(at_or_after));
        }
    }

    /// Asked minute by minute, the pattern gives the same instants as the walk over stretches.
    #[test]
    fn elapsed_hours_are_every_matching_minute(
        cron in proptest::sample::select(vec!["*/7 * * * *", "0 */2 * * *", "15,45 * * * *", "30 0-23/3 * * 0,6"]),
        zone in proptest::sample::select(ZONES.to_vec()),
        from in any_instant(),
    ) {
        let schedule = schedule(json!({ "cron": cron, "timezone": zone }));
        let pattern: croner::Cron = cron.parse().unwrap();
        let tz = schedule.entries[0].zone.clone();
        let first = from.as_second() / 60 + 1;
        let minutes = (first..first + 3000).map(|minute| Timestamp::from_second(minute * 60).unwrap());
        let expected: Vec<_> = minutes
            .filter(|minute| pattern.is_time_matching(&minute.to_zoned(tz.clone()).datetime()).unwrap())
            .collect();
        let end = Timestamp::from_second((first + 3000) * 60).unwrap();
        let found: Vec<_> =
            schedule.firings(from).map(|firing| firing.nominal).take_while(|nominal| *nominal < end).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_text_is_more_than_refused(cron in "[0-9*/,LW#?+A-Z -]{0,40}", zone in ".{0,12}") {
        let entry = json!({ "cron": cron, "timezone": zone });
        let _ = problems(&spec(entry));
        let _ = problems(&spec(json!({ "cron": cron })));
    }
}
