//! Profiles: execution identities.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{DocName, Millis};

/// Who a run is: processors, style, assets, rules and where the result goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The identity, chosen once and kept when the label changes.
    pub profile_id: Uuid,
    /// The name by which run profiles refer to it.
    pub label: DocName,
    /// Values for templates and for tier 1.
    #[serde(default)]
    pub style_vector: serde_json::Map<String, Value>,
    /// Asset name to path below the namespace's folder.
    #[serde(default)]
    pub asset_bindings: BTreeMap<DocName, String>,
    /// What is done.
    pub execution_rules: ExecutionRules,
    /// Where the result goes.
    #[serde(default)]
    pub distribution_map: Vec<DistributionTarget>,
    /// Tags under which value is accounted.
    #[serde(default)]
    pub value_tags: Vec<ValueTag>,
    /// Runs of this profile that may work at once on one node; unlimited if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
    /// Whether new work starts.
    #[serde(default)]
    pub state: DocState,
}

/// What a profile does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecutionRules {
    /// How the instruction is made.
    #[serde(default)]
    pub synthesis: Synthesis,
    /// The three tiers, in order.
    #[schemars(length(min = 3, max = 3))]
    pub tiers: Vec<Tier>,
    /// What tier 3's bytes go through before dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<NormalizeRule>,
}

/// How an instruction is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Synthesis {
    /// A bounded template that gives the instruction's `context_blob`.
    pub template: String,
    /// Passed on with the instruction as they stand.
    pub constraints: serde_json::Map<String, Value>,
    /// Between 0 and 1; a higher one is served first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub priority: f64,
}

/// One tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// The processor's name.
    pub processor: DocName,
    /// The asset given to tier 3 as `{{ reference }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<DocName>,
}

/// What tier 3's bytes go through before dispatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NormalizeRule {
    /// The processor's name.
    pub processor: DocName,
    /// Let one program do this step for several runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchRule>,
}

/// How runs are put together into one batch: those that share the processor, its settings and this rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchRule {
    /// A batch of so many runs starts at once.
    #[schemars(range(min = 2, max = 64))]
    pub items_max: u32,
    /// A batch of fewer starts when the oldest has waited so long, or for half of the time that was left to its deadline.
    pub wait_max: Millis,
}

/// One place where a result goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistributionTarget {
    /// The endpoint's name.
    pub endpoint: DocName,
}

/// A tag under which value is accounted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueTag {
    /// The tag.
    pub tag: DocName,
    /// Its share, greater than zero.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[serde(default = "default_weight")]
    pub weight: f64,
}

/// Whether new work starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DocState {
    /// New work starts.
    #[default]
    Enabled,
    /// No new work starts; admitted runs finish.
    Paused,
    /// As paused, and left out of listings unless asked for.
    Archived,
}

const fn default_weight() -> f64 {
    1.0
}

impl Default for BatchRule {
    fn default() -> Self {
        Self { items_max: 8, wait_max: Millis::seconds(30) }
    }
}

impl Default for Synthesis {
    fn default() -> Self {
        Self {
            template: "{{ initiation.label }}".to_owned(),
            constraints: serde_json::Map::new(),
            priority: 0.5,
        }
    }
}
