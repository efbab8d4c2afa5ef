//! Run profiles: when and how profiles run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DistributionTarget, DocName, DocState, Millis, ScheduleSpec, ValueTag};

/// When and how: schedule, policy, and the profiles that run side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunProfile {
    /// The identity, chosen once and kept when the label changes.
    pub run_profile_id: Uuid,
    /// The name by which commands refer to it.
    pub label: DocName,
    /// When and how.
    pub execution_policy: ExecutionPolicy,
    /// Asset name to path below the namespace's folder; a profile's own binding of the same name wins.
    #[serde(default)]
    pub asset_bundle: BTreeMap<DocName, String>,
    /// Added to the profiles' distribution maps.
    #[serde(default)]
    pub distribution_targets: Vec<DistributionTarget>,
    /// Added to the profiles' value tags.
    #[serde(default)]
    pub value_tags: Vec<ValueTag>,
    /// Whether new cycles start.
    #[serde(default)]
    pub state: DocState,
}

/// When a run profile fires and what a firing does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecutionPolicy {
    /// When it fires; twice daily if nothing is said.
    #[serde(default)]
    pub schedule: ScheduleSpec,
    /// What happens when a firing finds an earlier cycle still running.
    #[serde(default)]
    pub overlap: Overlap,
    /// What happens to firings missed while no node was up.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// What happens to firings missed while paused or halted.
    #[serde(default)]
    pub resume: Resume,
    /// How the initiation is chosen.
    pub selection: Selection,
    /// Labels or ids of the profiles that run; each is a surface, all run in parallel.
    #[schemars(length(min = 1))]
    pub profiles: Vec<String>,
    /// Runs of this run profile that may work at once on one node, over all its cycles and profiles; unlimited if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
    /// From admission to the last artifact.
    #[serde(default = "default_deadline")]
    pub deadline: Millis,
}

/// What happens when a firing finds an earlier cycle still running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The firing is skipped and recorded.
    #[default]
    Skip,
    /// One firing waits; further ones are skipped.
    QueueOne,
    /// Every firing waits, up to a named limit.
    QueueAll,
    /// The running cycle is cancelled first.
    CancelOther,
    /// Both run.
    Allow,
}

/// What happens to firings missed while no node was up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CatchUp {
    /// Which of them fire late.
    pub policy: MissedPolicy,
    /// How far back.
    pub window: Millis,
}

/// What happens to firings missed while paused or halted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resume {
    /// Which of them fire late.
    pub policy: MissedPolicy,
    /// How far back.
    pub window: Millis,
}

/// Which missed firings fire late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissedPolicy {
    /// None of them.
    None,
    /// The last one.
    Last,
    /// All of them, oldest first, up to a named limit.
    All,
}

/// How the initiation is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// The source's name.
    pub source: DocName,
    /// How candidates are ranked.
    #[serde(default)]
    pub choose: Choose,
    /// What counts as the same candidate.
    #[serde(default)]
    pub dedupe: Dedupe,
}

/// How candidates are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Choose {
    /// At random by weight, from a hash and without state (Efraimidis and Spirakis, 2006).
    #[default]
    Weighted,
    /// As the source lists them.
    InOrder,
}

/// What counts as the same candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dedupe {
    /// The parts that are compared.
    #[schemars(length(min = 1))]
    pub fields: Vec<DedupeField>,
    /// Where a candidate must be new.
    pub scope: DedupeScope,
    /// For how long: `forever`, or a duration.
    pub window: DedupeWindow,
    /// Outcomes of a cycle that free its candidate again.
    pub release_on: Vec<ReleaseOutcome>,
}

/// The parts of a candidate that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DedupeField {
    /// The label.
    Label,
    /// The weight.
    Weight,
    /// All metadata.
    Metadata,
}

/// Where a candidate must be new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DedupeScope {
    /// In this run profile.
    RunProfile,
    /// In this source.
    Source,
    /// In the whole namespace.
    #[default]
    Namespace,
}

/// For how long a candidate stays taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DedupeWindow {
    /// For good.
    #[default]
    Forever,
    /// For this long after it was selected.
    For(Millis),
}

/// Outcomes of a cycle that free its candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseOutcome {
    /// No surface was accepted.
    Failed,
    /// Some were.
    Partial,
    /// It was cancelled.
    Cancelled,
}

const fn default_deadline() -> Millis {
    Millis::hours(2)
}

impl Default for CatchUp {
    fn default() -> Self {
        Self { policy: MissedPolicy::Last, window: Millis::hours(12) }
    }
}

impl Default for Resume {
    fn default() -> Self {
        Self { policy: MissedPolicy::None, window: Millis::hours(12) }
    }
}

impl Default for Dedupe {
    fn default() -> Self {
        Self {
            fields: vec![DedupeField::Label, DedupeField::Metadata],
            scope: DedupeScope::Namespace,
            window: DedupeWindow::Forever,
            release_on: Vec::new(),
        }
    }
}

impl Serialize for DedupeWindow {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Forever => serializer.serialize_str("forever"),
            Self::For(span) => span.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for DedupeWindow {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "forever" {
            return Ok(Self::Forever);
        }
        text.parse().map(Self::For).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for DedupeWindow {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DedupeWindow".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "`forever`, or a duration such as `30d`." })
    }
}
