//! Processors and sources that are services behind HTTP.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Addresses, Auth, ByteSize, DocName, Method, Millis, StepRetry, Validate};

/// A service behind HTTP: the input is sent in the body of a request, and the output comes in the body of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProcessor {
    /// The name by which profiles refer to it.
    pub name: DocName,
    /// An `http` or `https` address; templates are allowed only after the authority and are percent-encoded.
    pub url: String,
    /// The method of the request that carries the input; what asks for the output later is a GET.
    #[serde(default)]
    pub method: Method,
    /// How every request proves who sends it. Credentials never leave the origin of `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Further headers of every request; values are bounded templates.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Addresses that are allowed although they are not public.
    #[serde(default)]
    pub addresses: Addresses,
    /// How the service tells that it has finished.
    #[serde(default)]
    pub completion: Completion,
    /// How often a service that works on is asked; for `completion: poll`.
    #[serde(default)]
    pub poll: Poll,
    /// How the context, one line of JSON about the run, comes along.
    #[serde(default)]
    pub context: ContextMode,
    /// What the output is said to be.
    #[serde(default)]
    pub output: DeclaredOutput,
    /// What one attempt may use.
    #[serde(default)]
    pub limits: HttpLimits,
    /// Time for one request, from resolving the name to the last byte of the answer.
    #[serde(default = "default_timeout")]
    pub timeout: Millis,
    /// What an output must satisfy; its meaning is never looked at.
    #[serde(default)]
    pub validate: Validate,
    /// When a failed attempt is tried again.
    #[serde(default)]
    pub retry: StepRetry,
    /// Attempts of this processor that may run at once on one node.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1))]
    pub concurrency: u32,
    /// Serve identical work (same input and settings) from the store.
    #[serde(default)]
    pub reuse: bool,
}

/// How a service tells that it has finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Completion {
    /// Its answer is the output.
    #[default]
    Sync,
    /// It answers `202` with a `Location`, which is asked until it answers `200` with the output.
    Poll,
}

/// How often a service that works on is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Poll {
    /// The wait before each question; a `Retry-After` of the service can lengthen it.
    pub every: Millis,
}

/// How the context comes along: the line of JSON that tier 1 has as its input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContextMode {
    /// Not at all: the body is the input.
    #[default]
    None,
    /// In the header `X-Orbit-Context`, in base64; the body is the input. A context that is too long for a header fails the step.
    Header,
    /// The body is `multipart/form-data` with the parts `context`, `input` and, where the tier has one, `reference`.
    Part,
}

/// What an output is said to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeclaredOutput {
    /// The extension of the output's file, without a dot.
    pub extension: String,
    /// The declared media type, kept with the artifact and sent as `Content-Type`; what the service says of its answer is not looked at.
    pub media_type: String,
}

/// What one attempt of a service may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpLimits {
    /// Time for the whole attempt, with every question and every wait.
    pub wall: Millis,
    /// Bytes of output; a longer answer is not read to its end.
    pub output: ByteSize,
}

/// A service behind HTTP that answers a GET with candidates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSource {
    /// The name by which run profiles refer to it.
    pub name: DocName,
    /// An `http` or `https` address; not a template.
    pub url: String,
    /// How the request proves who sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Further headers; not templates.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Addresses that are allowed although they are not public.
    #[serde(default)]
    pub addresses: Addresses,
    /// How the answer is read.
    #[serde(default)]
    pub format: SourceFormat,
    /// Time for the request, from resolving the name to the last byte of the answer.
    #[serde(default = "default_timeout")]
    pub timeout: Millis,
    /// What one listing may use.
    #[serde(default)]
    pub limits: ListingLimits,
}

/// How a listing is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceFormat {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// A header row with `label`, optional `weight`, and any other columns as metadata.
    Csv,
}

/// What one listing of a service may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListingLimits {
    /// Bytes of the answer; a longer one is a failure.
    pub output: ByteSize,
}

const fn default_timeout() -> Millis {
    Millis::seconds(30)
}

const fn default_concurrency() -> u32 {
    2
}

impl Default for Poll {
    fn default() -> Self {
        Self { every: Millis::seconds(2) }
    }
}

impl Default for DeclaredOutput {
    fn default() -> Self {
        Self { extension: "bin".to_owned(), media_type: "application/octet-stream".to_owned() }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { wall: Millis::minutes(5), output: ByteSize::gib(1) }
    }
}

impl Default for ListingLimits {
    fn default() -> Self {
        Self { output: ByteSize::gib(1) }
    }
}

impl SourceFormat {
    /// The extension of a file of this format.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }
}
