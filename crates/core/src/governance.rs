//! Governance: one gate, asked at five doors, that says whether work may go on and why not.
//!
//! Pure: the facts (halts, pause flag, document states, free space) are gathered by the engine. Nothing here kills; a closed gate
//! at the step door is what makes the engine do so.

/// When the disk will be full.
pub mod forecast;

use serde::{Deserialize, Serialize};

use crate::config::DocState;

/// Where the gate is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// Before a cycle is fired.
    Tick,
    /// Before a cycle's runs are admitted.
    Admit,
    /// Before a step's first attempt.
    Step,
    /// Before a delivery's first attempt.
    Dispatch,
    /// Before any further attempt.
    Retry,
}

/// What the gate looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateFacts {
    /// Whether the node does not trust its lease any more: others may begin to do what it does.
    pub lease_lapsed: bool,
    /// The reason of a halt of the whole node.
    pub halted_global: Option<String>,
    /// The reason of a halt of the namespace.
    pub halted_namespace: Option<String>,
    /// Whether `ORBIT_PAUSED` is set, or cannot be read, which is taken as set.
    pub paused: bool,
    /// Free bytes where the home lives, and the floor below which nothing new starts.
    pub disk: Option<DiskFacts>,
}

/// Free space and its floor, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    /// Bytes that are free to this user.
    pub free_bytes: u64,
    /// The namespace's `disk_floor`.
    pub floor_bytes: u64,
}

/// Why a door is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "closed", rename_all = "snake_case")]
pub enum Closed {
    /// The node does not trust its lease.
    #[error("the lease of this node is not renewed: the database is out of reach, or slow")]
    LeaseLapsed,
    /// An operator halted the whole node.
    #[error("halted: {reason}")]
    HaltedGlobal {
        /// What the operator gave as reason.
        reason: String,
    },
    /// An operator halted the namespace.
    #[error("namespace halted: {reason}")]
    HaltedNamespace {
        /// What the operator gave as reason.
        reason: String,
    },
    /// `ORBIT_PAUSED` is set.
    #[error("paused by ORBIT_PAUSED")]
    Paused,
    /// The profile or run profile is not enabled.
    #[error("{document} is {state}")]
    Document {
        /// Which document.
        document: String,
        /// Its state.
        state: String,
    },
    /// Too little free space.
    #[error("{free_bytes} bytes are free, below the floor of {floor_bytes}")]
    DiskFloor {
        /// Bytes that are free.
        free_bytes: u64,
        /// The floor.
        floor_bytes: u64,
    },
}

impl Closed {
    /// Whether work under way must end now, rather than only no new work start.
    pub const fn kills(&self) -> bool {
        match self {
            Self::LeaseLapsed | Self::HaltedGlobal { .. } | Self::HaltedNamespace { .. } => true,
            Self::Paused | Self::Document { .. } | Self::DiskFloor { .. } => false,
        }
    }
}

/// Asks the gate at a door. What a node may not do at all comes first, then halts, the global one before the namespace's.
///
/// A document's state closes only [`Door::Tick`] and [`Door::Admit`]: admitted runs finish on their snapshot. The disk floor
/// leaves dispatch open, because sending needs no space worth the name and frees the backlog.
pub fn gate(door: Door, facts: &GateFacts, documents: &[(&str, DocState)]) -> Result<(), Closed> {
    if facts.lease_lapsed {
        return Err(Closed::LeaseLapsed);
    }
    if let Some(reason) = &facts.halted_global {
        return Err(Closed::HaltedGlobal { reason: reason.clone() });
    }
    if let Some(reason) = &facts.halted_namespace {
        return Err(Closed::HaltedNamespace { reason: reason.clone() });
    }
    if facts.paused {
        return Err(Closed::Paused);
    }
    let (starts_work, needs_space) = match door {
        Door::Tick | Door::Admit => (true, true),
        Door::Step => (false, true),
        Door::Dispatch | Door::Retry => (false, false),
    };
    if starts_work
        && let Some((document, state)) = documents.iter().find(|(_, state)| *state != DocState::Enabled)
    {
        let state = match state {
            DocState::Enabled => "enabled",
            DocState::Paused => "paused",
            DocState::Archived => "archived",
        };
        return Err(Closed::Document { document: (*document).to_owned(), state: state.to_owned() });
    }
    match facts.disk {
        Some(DiskFacts { free_bytes, floor_bytes }) if needs_space && free_bytes < floor_bytes => {
            Err(Closed::DiskFloor { free_bytes, floor_bytes })
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(answer: &Result<(), Closed>) -> &'static str {
        match answer {
            Ok(()) => "open",
            Err(Closed::LeaseLapsed) => "lease",
            Err(Closed::HaltedGlobal { .. }) => "global",
            Err(Closed::HaltedNamespace { .. }) => "namespace",
            Err(Closed::Paused) => "paused",
            Err(Closed::Document { .. }) => "document",
            Err(Closed::DiskFloor { .. }) => "disk",
        }
    }

    #[test]
    fn doors() {
        let open = GateFacts::default();
        let full = GateFacts { disk: Some(DiskFacts { free_bytes: 1, floor_bytes: 2 }), ..open.clone() };
        let paused = GateFacts { paused: true, ..full.clone() };
        let halted = GateFacts { halted_namespace: Some("x".to_owned()), ..paused.clone() };
        let global = GateFacts { halted_global: Some("y".to_owned()), ..halted.clone() };
        let lapsed = GateFacts { lease_lapsed: true, ..global.clone() };
        let enabled = [("profile `a`", DocState::Enabled)];
        let stopped = [("profile `a`", DocState::Enabled), ("profile `b`", DocState::Paused)];
        let doors = [Door::Tick, Door::Admit, Door::Step, Door::Dispatch, Door::Retry];
        let check = |facts: &GateFacts, documents: &[(&str, DocState)], expected: [&str; 5]| {
            assert_eq!(doors.map(|door| word(&gate(door, facts, documents))), expected, "{facts:?}");
        };
        check(&open, &enabled, ["open"; 5]);
        check(&open, &stopped, ["document", "document", "open", "open", "open"]);
        check(&full, &enabled, ["disk", "disk", "disk", "open", "open"]);
        check(&paused, &stopped, ["paused"; 5]);
        check(&halted, &enabled, ["namespace"; 5]);
        check(&global, &enabled, ["global"; 5]);
        check(&lapsed, &stopped, ["lease"; 5]);
    }
}
