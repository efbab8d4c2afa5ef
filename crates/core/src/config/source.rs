//! Sources: where candidates for initiations come from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DocName, HttpSource, Limits, TextOrSecret};

/// A source document, told apart by `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// Candidates written in the document itself.
    Inline(InlineSource),
    /// A file of JSON Lines or CSV.
    File(FileSource),
    /// A program that prints JSON Lines.
    Exec(ExecSource),
    /// A service that answers with JSON Lines or CSV.
    Http(HttpSource),
}

/// Candidates written in the document itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InlineSource {
    /// The name by which run profiles refer to it.
    pub name: DocName,
    /// The candidates, in order.
    pub items: Vec<CandidateItem>,
}

/// A file of candidates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// The name by which run profiles refer to it.
    pub name: DocName,
    /// Path below the namespace's folder: `.jsonl` holds one candidate a line, `.csv` has a header row with `label`,
    /// optional `weight`, and any other columns as metadata.
    pub path: String,
}

/// A program that prints candidates as JSON Lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecSource {
    /// The name by which run profiles refer to it.
    pub name: DocName,
    /// The program and its arguments. A program name with a `/` is relative to the namespace's folder.
    #[schemars(length(min = 1))]
    pub argv: Vec<String>,
    /// Environment variables; the rest of the environment is cleared.
    #[serde(default)]
    pub env: BTreeMap<String, TextOrSecret>,
    /// What one listing may use.
    #[serde(default)]
    pub limits: Limits,
}

/// One candidate as a source writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CandidateItem {
    /// What the initiation is called; 1 to 4096 bytes.
    pub label: String,
    /// How likely a weighted choice takes it, greater than zero.
    #[serde(default = "default_weight")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub weight: f64,
    /// Anything else the templates and processors should know.
    #[serde(default)]
    pub metadata: serde_json::Map<String, Value>,
}

const fn default_weight() -> f64 {
    1.0
}

impl Source {
    /// The document's name.
    pub fn name(&self) -> &DocName {
        match self {
            Self::Inline(source) => &source.name,
            Self::File(source) => &source.name,
            Self::Exec(source) => &source.name,
            Self::Http(source) => &source.name,
        }
    }
}
