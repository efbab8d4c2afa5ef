//! Normalize: does the normalize step of several runs with one program.
//!
//! A run whose profile has a batch rule waits after tier 3 until its group is full or has waited long enough. `batches` claims a group, `batch` does it and
//! commits every run by itself, `program` is the one program: work folder, manifest, result lines. What was part of a batch once is done alone
//! from then on, by the workers of `tiers`, as a manifest of one line. Without a batch rule the step is one like any other.

mod batch;
mod batches;
mod program;

use jiff::Timestamp;
use orbit_core::config::BatchRule;
use orbit_core::normalize::BatchPlace;
use orbit_core::run::{Step, Then};
use orbit_core::synthesis::{Reference, StepRequest};
use orbit_store::contract::tiers::ClaimedStep;
use serde_json::Value;

pub(crate) use batch::alone;
pub use batches::Batches;

use crate::namespace::Namespace;

/// Whether the step's program is told of its work by a manifest.
pub(crate) fn is_batched(namespace: &Namespace, claimed: &ClaimedStep) -> bool {
    claimed.step == Step::Normalize && rule(namespace, &claimed.request).is_some()
}

/// Where the run waits after a step, if a normalize step with a batch rule follows.
pub(crate) fn place(
    namespace: &Namespace,
    claimed: &ClaimedStep,
    then: Then,
    now: Timestamp,
) -> Option<BatchPlace> {
    if then != (Then::Step { step: Step::Normalize }) {
        return None;
    }
    let (processor, rule) = rule(namespace, &claimed.request)?;
    Some(orbit_core::normalize::place(processor.settings, &rule, now, claimed.deadline_at))
}

/// The request's normalizer and its batch rule. What lives in this process is no program and takes no manifest.
fn rule(namespace: &Namespace, request: &Value) -> Option<(Reference, BatchRule)> {
    let steps = request.get("steps")?.as_array()?;
    // If there is one, it is the last.
    let last: StepRequest = serde_json::from_value(steps.last()?.clone()).ok()?;
    let StepRequest { processor, batch, .. } = Some(last).filter(|step| step.step == Step::Normalize)?;
    let is_program = !namespace.shared.embedded.contains_key(&processor.name);
    batch.filter(|_| is_program).map(|rule| (processor, rule))
}
