//! What a cycle would do: the same pass and the same synthesis, and nothing is taken, admitted or recorded.

use orbit_core::config::{DocState, RunProfile, Snapshot};
use orbit_core::governance::{Closed, Door};
use orbit_core::id::Trigger;
use orbit_core::synthesis::{CycleIdentity, ExecutionRequest, synthesize};
use uuid::Uuid;

use super::admission::{AdmissionError, profiles_of, view};
use super::pass::{self, Reading};
use crate::clock::salt;
use crate::namespace::Namespace;

/// The execution requests of a cycle with this id, one for each enabled profile. A source that is a program is run, which a halt forbids.
pub async fn dry_run(
    namespace: &Namespace,
    snapshot: &Snapshot,
    run_profile: &RunProfile,
    cycle_id: Uuid,
) -> Result<Vec<ExecutionRequest>, AdmissionError> {
    // Not the cycle's id: the cycle itself may be under way.
    let act_id = Uuid::from_bytes(salt(&*namespace.shared.clock));
    let act = namespace.running.begin(act_id);
    if let Some(halt) = namespace.ask(Door::Admit, &[]).err().filter(Closed::kills) {
        return Err(AdmissionError::Closed(halt));
    }
    let reading = Reading { snapshot, run_profile, cycle_id, act_id, cancel: &act.token };
    let choice = pass::read(namespace, &reading).await?;
    let count = |name: &str| choice.report[name].as_u64().unwrap_or_default();
    let first = choice.candidates.first().ok_or_else(|| AdmissionError::Exhausted {
        source_name: run_profile.execution_policy.selection.source.clone(),
        candidates: count("candidates"),
        taken: count("taken"),
    })?;
    let cycle = CycleIdentity {
        id: cycle_id,
        trigger: Trigger::Manual { key: "dry-run".to_owned() }.to_string(),
        nominal: namespace.shared.clock.now(),
    };
    profiles_of(snapshot, run_profile)?
        .into_iter()
        .filter(|profile| profile.state == DocState::Enabled)
        .map(|profile| Ok(synthesize(snapshot, profile, run_profile, view(first), cycle.clone())?))
        .collect()
}
