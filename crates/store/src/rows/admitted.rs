//! What the record of a run's admission tells: read here for whoever folds the log, into rows of tables or into memory.

use jiff::Timestamp;
use orbit_core::run::Step;
use orbit_core::synthesis::named_processor;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

use super::Contradiction;
use crate::contract::selection::Start;

/// See the module; of the request as much is read as is asked for.
#[derive(Deserialize)]
pub(crate) struct Admitted<R> {
    /// The profile's label.
    pub(crate) profile: String,
    /// Who is claimed first.
    pub(crate) priority: f64,
    /// When it must have an artifact.
    pub(crate) deadline_at: Timestamp,
    /// The execution request.
    #[serde(default)]
    pub(crate) request: R,
    /// The run that it does again.
    pub(crate) retry_of: Option<Uuid>,
    /// Where it begins, if not at tier 1.
    pub(crate) start: Option<Start>,
}

impl<R: Default + for<'a> Deserialize<'a>> Admitted<R> {
    /// Reads the body.
    pub(crate) fn read<'de, D: Deserializer<'de>>(body: D) -> Result<Self, Contradiction> {
        Self::deserialize(body).map_err(Contradiction::unreadable)
    }

    /// What is made of the request, beside the rest.
    pub(crate) fn apart<T>(self, make: impl FnOnce(R) -> T) -> (Admitted<()>, T) {
        let Self { profile, priority, deadline_at, request, retry_of, start } = self;
        (Admitted { profile, priority, deadline_at, request: (), retry_of, start }, make(request))
    }
}

/// Of a request no more than what it is about.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct About {
    initiation: Labelled,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Labelled {
    label: Option<String>,
}

impl About {
    /// The label, if it names one.
    pub(crate) fn label(self) -> Option<String> {
        self.initiation.label
    }
}

/// What a request is about, for people, if it names it.
pub(crate) fn label_of(request: &Value) -> Option<&str> {
    request["initiation"]["label"].as_str()
}

/// The processor in whose lane a run waits to start this step. A step that the request does not have stands where the first one stood, but for a run
/// that was only just admitted.
pub(crate) fn waits_for(request: &Value, step: Step, is_new: bool) -> Option<&str> {
    let first = || if is_new { None } else { named_processor(request, Step::Tier1) };
    named_processor(request, step).or_else(first)
}
