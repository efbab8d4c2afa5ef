//! `notify` and `heartbeat`: how people learn what happened while they slept, and that the node lives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Addresses, DocName, Millis};

/// Who is told of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyRule {
    /// The endpoint that notices are sent to.
    pub endpoint: DocName,
    /// What it is told of.
    #[schemars(length(min = 1))]
    pub on: Vec<NotifyEvent>,
}

/// What may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotifyEvent {
    /// A cycle ended as `failed`.
    CycleFailed,
    /// A delivery was given up.
    DeadLetter,
    /// An endpoint takes nothing more until it is enabled.
    EndpointDisabled,
    /// A changed configuration was invalid and changed nothing.
    ConfigRefused,
    /// There is less free space than `disk_floor`, and nothing new starts.
    DiskFloor,
    /// The namespace or the node was halted.
    Halted,
    /// A firing was missed and is not made up for.
    TickMissed,
    /// The anchor holds other checkpoints than the log: one of the two was changed.
    AnchorConflict,
}

/// A request at regular times, by whose absence somebody else notices that the node is dead or stuck.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// An `http` or `https` address that a GET is sent to; no templates.
    pub url: String,
    /// The time from one request to the next, at least 10 s.
    #[serde(default = "default_every")]
    pub every: Millis,
    /// Time for one request.
    #[serde(default = "default_timeout")]
    pub timeout: Millis,
    /// Addresses that are allowed although they are not public.
    #[serde(default)]
    pub addresses: Addresses,
}

const fn default_every() -> Millis {
    Millis::minutes(1)
}

const fn default_timeout() -> Millis {
    Millis::seconds(10)
}
