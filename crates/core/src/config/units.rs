//! Units as people write them: `10 MiB`, `1h30m`.
//!
//! Owns parsing and printing of byte sizes and durations. Both print in the form that parses back to the same value, so
//! that a settings digest does not depend on how the operator spelled it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written with one of `B KiB MiB GiB TiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A duration in whole milliseconds, written with `ms s m h d`, units from large to small: `1h30m`, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// A size or duration that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a number followed by a known unit.
    #[error(
        "`{text}` is not a size: expected a whole number and one of B, KiB, MiB, GiB, TiB, as in `10 MiB`"
    )]
    Size {
        /// What was written.
        text: String,
    },
    /// Not a sequence of numbers with units from large to small.
    #[error("`{text}` is not a duration: expected whole numbers with d, h, m, s or ms, as in `1h30m`")]
    Duration {
        /// What was written.
        text: String,
    },
}

const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl ByteSize {
    /// `n` binary kilobytes.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` binary megabytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` binary gigabytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
}

impl Millis {
    /// `n` seconds.
    pub const fn seconds(n: u64) -> Self {
        Self(n * 1_000)
    }

    /// `n` minutes.
    pub const fn minutes(n: u64) -> Self {
        Self(n * 60_000)
    }

    /// `n` hours.
    pub const fn hours(n: u64) -> Self {
        Self(n * 3_600_000)
    }

    /// The same length as a standard duration.
    pub const fn to_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = || UnitError::Size { text: text.to_owned() };
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let unit = unit.trim_start();
        let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
        number.checked_mul(*factor).map(Self).ok_or_else(refuse)
    }
}

impl FromStr for Millis {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = || UnitError::Duration { text: text.to_owned() };
        let mut rest = text.trim();
        let mut total: u64 = 0;
        let mut smallest_seen = u64::MAX;
        if rest.is_empty() {
            return Err(refuse());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at(letters);
            let number: u64 = number.parse().map_err(|_| refuse())?;
            let (_, factor) = TIME_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
            if *factor >= smallest_seen {
                return Err(refuse());
            }
            smallest_seen = *factor;
            let part = number.checked_mul(*factor).ok_or_else(refuse)?;
            total = total.checked_add(part).ok_or_else(refuse)?;
            rest = after;
        }
        Ok(Self(total))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZE_UNITS
            .iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(&("B", 1));
        write!(f, "{} {unit}", self.0 / factor)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, factor) in TIME_UNITS {
            let count = rest / factor;
            rest %= factor;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

macro_rules! written_as_text {
    ($type:ty, $name:literal, $pattern:literal, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $description })
            }
        }
    };
}

written_as_text!(ByteSize, "ByteSize", "^[0-9]+ *(B|KiB|MiB|GiB|TiB)$", "A size such as `10 MiB`.");
written_as_text!(
    Millis,
    "Duration",
    "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
    "A duration such as `1h30m`."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Option<(u64, &str)>| {
            let parsed = text.parse::<ByteSize>().ok().map(|size| (size.0, size.to_string()));
            assert_eq!(parsed, expected.map(|(bytes, shown)| (bytes, shown.to_owned())), "{text}");
        };
        check("10 MiB", Some((10 << 20, "10 MiB")));
        check("1KiB", Some((1024, "1 KiB")));
        check("2048 KiB", Some((2 << 20, "2 MiB")));
        check("0 B", Some((0, "0 B")));
        check("1025 B", Some((1025, "1025 B")));
        check("10 MB", None);
        check("10", None);
        check("-1 B", None);
        check("99999999999999 TiB", None);
    }

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<(u64, &str)>| {
            let parsed = text.parse::<Millis>().ok().map(|span| (span.0, span.to_string()));
            assert_eq!(parsed, expected.map(|(ms, shown)| (ms, shown.to_owned())), "{text}");
        };
        check("30s", Some((30_000, "30s")));
        check("1h30m", Some((5_400_000, "1h30m")));
        check("90m", Some((5_400_000, "1h30m")));
        check("250ms", Some((250, "250ms")));
        check("0s", Some((0, "0s")));
        check("1m1h", None);
        check("5", None);
        check("5 s", None);
        check("", None);
        check("1.5h", None);
    }
}
