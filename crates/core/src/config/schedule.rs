//! The schedule as it is written; `crate::schedule` turns it into instants.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, SeqAccess, Visitor, value};
use serde::{Deserialize, Deserializer, Serialize};

use super::Millis;

/// One entry, or a list of entries whose firings are united.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ScheduleSpec(pub Vec<ScheduleEntry>);

/// One entry: either `cron` or `every`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleEntry {
    /// Five fields (minute hour day month weekday) or six with leading seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// A fixed interval counted from the Unix epoch in elapsed time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Millis>,
    /// Shifts an interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<Millis>,
    /// IANA time zone for `cron` and `exclude`; UTC if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Each firing is delayed by a fixed pseudo-random part of this; its nominal instant is not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Millis>,
    /// What happens to fixed hours when the clocks change.
    pub dst: DstPolicy,
    /// Firings that fall in one of these do not happen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Exclusion>,
}

/// What happens to fixed hours when the clocks change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DstPolicy {
    /// The local time does not exist.
    pub gap: GapPolicy,
    /// The local time exists twice.
    pub fold: FoldPolicy,
}

/// What happens to a local time that does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapPolicy {
    /// It fires at the first instant after the gap.
    #[default]
    Shift,
    /// It does not fire.
    Skip,
}

/// What happens to a local time that exists twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FoldPolicy {
    /// It fires the first time.
    #[default]
    First,
    /// It fires the second time.
    Last,
    /// It fires both times.
    Both,
}

/// One of `{date}`, `{from, to}` or `{cron, duration}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exclusion {
    /// A whole local day, as in `2026-12-25`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The first excluded day or local time, as in `2026-12-24` or `2026-12-24T18:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The end: a day is excluded as a whole, a local time is the first that is not excluded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The start of a repeated blackout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// How long a repeated blackout lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Millis>,
}

impl Default for ScheduleSpec {
    /// Twice daily, at 06:00 and 18:00 UTC.
    fn default() -> Self {
        Self(vec![ScheduleEntry { cron: Some("0 6,18 * * *".to_owned()), ..ScheduleEntry::default() }])
    }
}

impl<'de> Deserialize<'de> for ScheduleSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = ScheduleSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a schedule such as `{ cron: \"0 6 * * *\" }` or a list of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ScheduleSpec, A::Error> {
                let entry = ScheduleEntry::deserialize(value::MapAccessDeserializer::new(map))?;
                Ok(ScheduleSpec(vec![entry]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<ScheduleSpec, A::Error> {
                Vec::deserialize(value::SeqAccessDeserializer::new(seq)).map(ScheduleSpec)
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

impl JsonSchema for ScheduleSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Schedule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let entry = generator.subschema_for::<ScheduleEntry>();
        json_schema!({ "anyOf": [entry, { "type": "array", "items": entry, "minItems": 1, "maxItems": 32 }] })
    }
}
