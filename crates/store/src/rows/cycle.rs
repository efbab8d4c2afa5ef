//! What records tell of cycles and of what they are about: read here for whoever folds the log, into rows of tables or into memory.

use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::run::Outcome;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

use super::Contradiction;
use crate::contract::selection::Initiation;

/// See the module.
pub(crate) enum Told {
    /// It exists.
    Fired(Fired),
    /// It is about this.
    Selected(Selected),
    /// All that came of it is over.
    Finished(Finished),
    /// What it was about may be selected again.
    Released(Released),
}

/// A cycle that was fired.
#[derive(Deserialize)]
pub(crate) struct Fired {
    /// The run profile.
    pub(crate) run_profile_id: Uuid,
    /// Its label.
    pub(crate) run_profile: String,
    /// What fired it.
    pub(crate) trigger: String,
    /// The instant it stands for.
    pub(crate) nominal: Timestamp,
    /// Whether it waits until its run profile has no active cycle.
    pub(crate) queued: bool,
    /// Requests instead of a selection, or null. Records of older versions do not tell it.
    #[serde(default, deserialize_with = "present")]
    pub(crate) preset: Option<Value>,
}

/// An initiation that was taken.
#[derive(Deserialize)]
pub(crate) struct Selected {
    /// It.
    pub(crate) initiation: Initiation,
    /// Where it must be new.
    pub(crate) scope: String,
    /// What frees it again. Records of older versions do not tell it.
    pub(crate) release_on: Option<Vec<String>>,
}

/// How a cycle ended.
#[derive(Deserialize)]
pub(crate) struct Finished {
    /// In a word.
    pub(crate) outcome: Outcome,
    /// Where the word does not say.
    pub(crate) reason: Option<String>,
}

/// An initiation that is held no more.
#[derive(Deserialize)]
pub(crate) struct Released {
    /// It.
    pub(crate) initiation_id: Uuid,
    /// Its hash.
    pub(crate) hash: Digest,
    /// Where it was new.
    pub(crate) scope: String,
}

/// A value that is there, be it null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Told {
    /// Whether records of this kind tell something.
    pub(crate) fn is_told_by(kind: &str) -> bool {
        matches!(kind, "cycle_fired" | "cycle_finished" | "initiation_selected" | "initiation_released")
    }

    /// Reads the body of a record of this kind; none if it tells nothing of cycles by itself.
    pub(crate) fn read<'de, D: Deserializer<'de>>(
        kind: &str,
        body: D,
    ) -> Result<Option<Self>, Contradiction> {
        Ok(Some(match kind {
            "cycle_fired" => Self::Fired(Fired::deserialize(body).map_err(Contradiction::unreadable)?),
            "cycle_finished" => {
                Self::Finished(Finished::deserialize(body).map_err(Contradiction::unreadable)?)
            }
            "initiation_selected" => {
                Self::Selected(Selected::deserialize(body).map_err(Contradiction::unreadable)?)
            }
            "initiation_released" => {
                Self::Released(Released::deserialize(body).map_err(Contradiction::unreadable)?)
            }
            _ => return Ok(None),
        }))
    }
}

/// The word of a cycle's state before anybody has claimed it.
pub(crate) const fn unclaimed(queued: bool) -> &'static str {
    if queued { "queued" } else { "waiting" }
}
