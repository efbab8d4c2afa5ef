//! Sizes, durations and ages as people read them. Scripts read the JSON instead, where every number is exact.

use jiff::{SignedDuration, Timestamp};

const SIZE_UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A number of bytes with one decimal, in the largest binary unit that leaves at least one: `1.2 MiB`.
pub fn bytes(count: u64) -> String {
    let (mut whole, mut rest, mut unit) = (count, 0, 0);
    while whole >= 1024 && unit + 1 < SIZE_UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit == 0 {
        format!("{whole} B")
    } else {
        format!("{whole}.{} {}", rest * 10 / 1024, SIZE_UNITS[unit])
    }
}

/// A length of time with about three digits: `12ms`, `0.3s`, `2m05s`, `1h03m`, `3d04h`. One that is negative counts as none.
pub fn duration(length: SignedDuration) -> String {
    let millis = length.as_millis().max(0);
    let seconds = length.as_secs().max(0);
    match seconds {
        _ if millis < 100 => format!("{millis}ms"),
        ..MINUTE => format!("{seconds}.{}s", millis % 1000 / 100),
        MINUTE..HOUR => format!("{}m{:02}s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{}h{:02}m", seconds / HOUR, seconds % HOUR / MINUTE),
        DAY.. => format!("{}d{:02}h", seconds / DAY, seconds % DAY / HOUR),
    }
}

/// How far an instant is from now in one unit: `3m ago`, `in 2h`, `now`.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs();
    let length = match seconds.abs() {
        0 => return "now".to_owned(),
        length @ ..MINUTE => format!("{length}s"),
        length @ MINUTE..HOUR => format!("{}m", length / MINUTE),
        length @ HOUR..DAY => format!("{}h", length / HOUR),
        length @ DAY.. => format!("{}d", length / DAY),
    };
    if seconds > 0 { format!("{length} ago") } else { format!("in {length}") }
}

/// The instant to the second, in UTC, as RFC 3339.
pub fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The instant to the millisecond, in UTC, as RFC 3339.
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A count and what is counted: `1 error`, `2 errors`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A number with a comma after each three digits: `100,000`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// The time of day to the millisecond, in UTC.
pub fn time_of_day(at: Timestamp) -> String {
    at.strftime("%H:%M:%S%.3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |count: u64, expected: &str| assert_eq!(bytes(count), expected);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1280, "1.2 KiB");
        check(1024 * 1024 - 1, "1023.9 KiB");
        check(1 << 30, "1.0 GiB");
        check(u64::MAX, "16777215.9 TiB");
    }

    #[test]
    fn groups() {
        let check = |number: u64, expected: &str| assert_eq!(grouped(number), expected);
        check(0, "0");
        check(999, "999");
        check(1000, "1,000");
        check(100_000, "100,000");
        check(12_345_678, "12,345,678");
    }

    #[test]
    fn durations() {
        let check = |millis: i64, expected: &str| {
            assert_eq!(duration(SignedDuration::from_millis(millis)), expected);
        };
        check(-5, "0ms");
        check(0, "0ms");
        check(99, "99ms");
        check(100, "0.1s");
        check(349, "0.3s");
        check(59_999, "59.9s");
        check(60_000, "1m00s");
        check(125_000, "2m05s");
        check(3_600_000, "1h00m");
        check(86_400_000 * 3 + 3_600_000 * 4, "3d04h");
    }

    #[test]
    fn ages() {
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        let check = |then: &str, expected: &str| assert_eq!(age(then.parse().unwrap(), now), expected);
        check("2026-11-25T12:00:00Z", "now");
        check("2026-11-25T11:59:59.5Z", "now");
        check("2026-11-25T11:59:18Z", "42s ago");
        check("2026-11-25T11:57:00Z", "3m ago");
        check("2026-11-25T09:30:00Z", "2h ago");
        check("2026-11-20T12:00:00Z", "5d ago");
        check("2026-11-25T12:05:00Z", "in 5m");
        check("2026-11-26T13:00:00Z", "in 1d");
    }

    #[test]
    fn counts() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "error")), ["0 errors", "1 error", "2 errors"]);
    }

    #[test]
    fn instants() {
        let at: Timestamp = "2026-11-25T12:00:00.123456Z".parse().unwrap();
        assert_eq!(instant(at), "2026-11-25T12:00:00Z");
        assert_eq!(moment(at), "2026-11-25T12:00:00.123Z");
        assert_eq!(time_of_day(at), "12:00:00.123");
    }
}
