//! Processors: configured ways to turn bytes into bytes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, ContextMode, DocName, HttpProcessor, Millis, TextOrSecret};

/// A processor document, told apart by `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Processor {
    /// A program started under a supervisor.
    Exec(ExecProcessor),
    /// A service behind HTTP.
    Http(HttpProcessor),
}

/// A program: argv templates, never a shell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecProcessor {
    /// The name by which profiles refer to it.
    pub name: DocName,
    /// The program and its arguments, each a bounded template. A program name with a `/` is relative to the namespace's folder.
    #[schemars(length(min = 1))]
    pub argv: Vec<String>,
    /// How the input reaches the program.
    #[serde(default)]
    pub input: InputMode,
    /// Where the program leaves its output.
    #[serde(default)]
    pub output: OutputSpec,
    /// Environment variables; the rest of the environment is cleared.
    #[serde(default)]
    pub env: BTreeMap<String, TextOrSecret>,
    /// Exit codes that mean success.
    #[serde(default = "default_success_exit_codes")]
    pub success_exit_codes: Vec<i32>,
    /// What one attempt may use.
    #[serde(default)]
    pub limits: Limits,
    /// What an output must satisfy; its meaning is never looked at.
    #[serde(default)]
    pub validate: Validate,
    /// When a failed attempt is tried again.
    #[serde(default)]
    pub retry: StepRetry,
    /// Attempts of this processor that may run at once on one node; the active snapshot's value counts for all runs.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1))]
    pub concurrency: u32,
    /// Serve identical work (same input, settings and arguments) from the store. For programs whose output depends on nothing else: not on time,
    /// network, randomness, or the run.
    #[serde(default)]
    pub reuse: bool,
}

/// How the input reaches a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputMode {
    /// A file in the attempt's work folder, `{{ input }}`.
    #[default]
    File,
    /// Standard input.
    Stdin,
    /// Not at all.
    None,
}

/// Where a program leaves its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputSpec {
    /// A file in the attempt's work folder (`{{ output }}`), or standard output.
    pub to: OutputTarget,
    /// The file's extension, without a dot; programs such as FFmpeg choose a format by it.
    pub extension: String,
    /// The declared media type, kept with the artifact and sent as `Content-Type`.
    pub media_type: String,
}

/// The two places where an output can be left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputTarget {
    /// `{{ output }}` in the attempt's work folder.
    File,
    /// Standard output.
    #[default]
    Stdout,
}

/// What one attempt may use; the whole process tree counts together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Wall-clock time.
    pub wall: Millis,
    /// CPU time of the process tree.
    pub cpu: Millis,
    /// Resident memory of the process tree.
    pub memory: ByteSize,
    /// Bytes of output, and the largest file that the program may write.
    pub output: ByteSize,
    /// Processes and their children alive at once.
    #[schemars(range(min = 1))]
    pub processes: u32,
    /// Time between TERM and KILL.
    pub grace: Millis,
}

/// What an output must satisfy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Validate {
    /// Fewer bytes than this is a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_min: Option<ByteSize>,
    /// More bytes than this is a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<ByteSize>,
    /// An output equal to the input is a failure.
    pub differs_from_input: bool,
    /// Bytes, in hex, with which the output must begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_hex: Option<String>,
}

/// When a failed attempt is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StepRetry {
    /// Attempts in all, 1 to 3.
    #[schemars(range(min = 1, max = 3))]
    pub attempts: u32,
    /// The wait between attempts.
    pub backoff: Backoff,
}

/// Exponential backoff.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// The first wait.
    pub initial: Millis,
    /// Each wait is this many times the one before.
    #[schemars(range(min = 1.0, max = 10.0))]
    pub factor: f64,
    /// No wait is longer.
    pub max: Millis,
    /// How the wait is spread.
    pub jitter: Jitter,
}

/// How a wait is spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Uniform between zero and the wait.
    #[default]
    Full,
    /// Exactly the wait.
    None,
}

fn default_success_exit_codes() -> Vec<i32> {
    vec![0]
}

const fn default_concurrency() -> u32 {
    2
}

impl Processor {
    /// The document's name.
    pub fn name(&self) -> &DocName {
        match self {
            Self::Exec(exec) => &exec.name,
            Self::Http(http) => &http.name,
        }
    }

    /// The longest time that one attempt may take.
    pub fn wall(&self) -> Millis {
        match self {
            Self::Exec(exec) => exec.limits.wall,
            Self::Http(http) => http.limits.wall,
        }
    }

    /// The largest output.
    pub fn output_max(&self) -> ByteSize {
        match self {
            Self::Exec(exec) => exec.limits.output,
            Self::Http(http) => http.limits.output,
        }
    }

    /// The extension of the output's file.
    pub fn extension(&self) -> &str {
        match self {
            Self::Exec(exec) => &exec.output.extension,
            Self::Http(http) => &http.output.extension,
        }
    }

    /// The declared media type of the output.
    pub fn media_type(&self) -> &str {
        match self {
            Self::Exec(exec) => &exec.output.media_type,
            Self::Http(http) => &http.output.media_type,
        }
    }

    /// What an output must satisfy.
    pub fn validate(&self) -> &Validate {
        match self {
            Self::Exec(exec) => &exec.validate,
            Self::Http(http) => &http.validate,
        }
    }

    /// When a failed attempt is tried again.
    pub fn retry(&self) -> &StepRetry {
        match self {
            Self::Exec(exec) => &exec.retry,
            Self::Http(http) => &http.retry,
        }
    }

    /// Attempts that may run at once on one node.
    pub fn concurrency(&self) -> u32 {
        match self {
            Self::Exec(exec) => exec.concurrency,
            Self::Http(http) => http.concurrency,
        }
    }

    /// Whether it is given the input at all.
    pub fn takes_input(&self) -> bool {
        match self {
            Self::Exec(exec) => exec.input != InputMode::None,
            Self::Http(_) => true,
        }
    }

    /// Whether it can be given a reference asset.
    pub fn takes_reference(&self) -> bool {
        match self {
            Self::Exec(_) => true,
            Self::Http(http) => http.context == ContextMode::Part,
        }
    }
}

impl Default for OutputSpec {
    fn default() -> Self {
        Self {
            to: OutputTarget::Stdout,
            extension: "bin".to_owned(),
            media_type: "application/octet-stream".to_owned(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Millis::minutes(5),
            cpu: Millis::minutes(5),
            memory: ByteSize::gib(1),
            output: ByteSize::gib(1),
            processes: 64,
            grace: Millis::seconds(5),
        }
    }
}

impl Default for StepRetry {
    fn default() -> Self {
        Self { attempts: 3, backoff: Backoff::default() }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Millis::seconds(1), factor: 2.0, max: Millis::minutes(1), jitter: Jitter::Full }
    }
}
