//! The execution request of a trial: one processor outside of any run, asked as a step of a profile would ask it.

use std::collections::BTreeMap;

use serde_json::Map;

use super::super::request::{
    CycleIdentity, ExecutionRequest, InitiationView, Instruction, ProfileIdentity, Reference, RunIdentity,
    RunProfileIdentity, StepRequest,
};
use super::super::{SynthesisError, synthesize};
use crate::config::{DocName, Processor, Profile, RunProfile, Snapshot, settings_digest};
use crate::id::{initiation_id, run_id};
use crate::limits::DURATION_MAX;
use crate::run::Step;

/// What the initiation of a trial is called, and what its instruction says where the profile's template needs more than a label.
const SAMPLE: &str = "sample";

/// What is asked of the processor in a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialRequest {
    /// The request; nothing of it was selected, and nothing is admitted.
    pub request: ExecutionRequest,
    /// The step that the processor is tried as.
    pub step: Step,
}

/// The request for a processor that the snapshot has: as the first step of the profile that it does, with the profile's style, reference and assets. If the profile
/// does not use it, or there is none, it is tried as tier 2. The initiation is a sample without metadata.
pub fn trial_of_processor(
    snapshot: &Snapshot,
    processor: &Processor,
    profile: Option<&Profile>,
    cycle: CycleIdentity,
) -> Result<TrialRequest, SynthesisError> {
    let name = processor.name();
    let Some((profile, run_profile)) = profile.and_then(|one| Some((one, run_profile_of(snapshot, one)?)))
    else {
        return Ok(TrialRequest { request: bare(snapshot, processor, profile, cycle), step: Step::Tier2 });
    };
    let initiation = initiation(&cycle);
    let request = match synthesize(snapshot, profile, run_profile, initiation.clone(), cycle.clone()) {
        Err(SynthesisError::Template { .. }) => {
            let mut plain = profile.clone();
            SAMPLE.clone_into(&mut plain.execution_rules.synthesis.template);
            synthesize(snapshot, &plain, run_profile, initiation, cycle)
        }
        other => other,
    };
    let mut request = request?;
    let used = request.steps.iter().find(|one| one.processor.name == *name).map(|found| found.step);
    if used.is_none() {
        request.steps = vec![step_of(processor)];
    }
    let step = used.unwrap_or(Step::Tier2);
    Ok(TrialRequest { request, step })
}

/// The first profile, by label, that uses the processor.
pub fn profile_with<'a>(snapshot: &'a Snapshot, processor: &DocName) -> Option<&'a Profile> {
    let uses = |profile: &&Profile| {
        let rules = &profile.execution_rules;
        let normalizes = rules.normalize.as_ref().is_some_and(|rule| rule.processor == *processor);
        normalizes || rules.tiers.iter().any(|tier| tier.processor == *processor)
    };
    snapshot.profiles.values().find(uses)
}

/// The first run profile that runs the profile, else the first of all.
fn run_profile_of<'a>(snapshot: &'a Snapshot, profile: &Profile) -> Option<&'a RunProfile> {
    let runs = |one: &&RunProfile| {
        let named = one.execution_policy.profiles.iter();
        named.into_iter().any(|reference| {
            snapshot.profile(reference).is_some_and(|found| found.profile_id == profile.profile_id)
        })
    };
    let all = || snapshot.run_profiles.values();
    all().find(runs).or_else(|| all().next())
}

fn initiation(cycle: &CycleIdentity) -> InitiationView {
    InitiationView {
        id: initiation_id(cycle.id),
        label: SAMPLE.to_owned(),
        weight: 1.0,
        metadata: Map::new(),
    }
}

fn step_of(processor: &Processor) -> StepRequest {
    let reference = Reference { name: processor.name().clone(), settings: settings_digest(processor) };
    StepRequest { step: Step::Tier2, processor: reference, reference: None, batch: None }
}

/// A request of the processor alone.
fn bare(
    snapshot: &Snapshot,
    processor: &Processor,
    profile: Option<&Profile>,
    cycle: CycleIdentity,
) -> ExecutionRequest {
    let id = profile.map(|profile| profile.profile_id).unwrap_or_default();
    // Any document's name is a name; nothing is looked up by it.
    let label = profile.map_or_else(|| processor.name().clone(), |profile| profile.label.clone());
    ExecutionRequest {
        namespace: snapshot.namespace.clone(),
        snapshot: snapshot.digest(),
        run: RunIdentity { run_id: run_id(cycle.id, id) },
        run_profile: RunProfileIdentity { id: uuid::Uuid::nil(), label: label.clone() },
        profile: ProfileIdentity {
            id,
            label,
            style_vector: profile.map(|profile| profile.style_vector.clone()).unwrap_or_default(),
        },
        initiation: initiation(&cycle),
        cycle,
        instruction: Instruction::new(SAMPLE.to_owned(), Map::new(), 0.0),
        steps: vec![step_of(processor)],
        assets: BTreeMap::new(),
        targets: Vec::new(),
        value_tags: Vec::new(),
        deadline: DURATION_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesis::sample;
    use uuid::Uuid;

    fn ask(snapshot: &Snapshot, processor: &str, profile: Option<&Profile>) -> TrialRequest {
        let cycle = CycleIdentity {
            id: Uuid::from_u128(3),
            trigger: "manual:test".to_owned(),
            nominal: jiff::Timestamp::UNIX_EPOCH,
        };
        trial_of_processor(snapshot, &snapshot.processors[processor], profile, cycle).unwrap()
    }

    #[test]
    fn a_processor_is_tried_as_the_first_step_that_it_does() {
        let mut snapshot = sample::snapshot();
        let profile = snapshot.profiles["main"].clone();
        let check =
            |snapshot: &Snapshot, processor: &str, profile: Option<&Profile>, expected: (Step, &str)| {
                let TrialRequest { request, step } = ask(snapshot, processor, profile);
                let asked = request.step(step).unwrap();
                assert_eq!((step, asked.processor.name.as_str()), (expected.0, processor));
                assert_eq!(request.instruction.context_blob, expected.1);
                // What execution asks of the snapshot it finds there.
                request.processor(step, snapshot).unwrap();
                assert_eq!(request.initiation.label, SAMPLE);
            };
        check(&snapshot, "first", Some(&profile), (Step::Tier1, "sample 3 main manual:test"));
        check(&snapshot, "second", Some(&profile), (Step::Tier2, "sample 3 main manual:test"));
        check(&snapshot, "last", Some(&profile), (Step::Normalize, "sample 3 main manual:test"));
        check(&snapshot, "last", None, (Step::Tier2, SAMPLE));
        let mut needy = profile.clone();
        needy.execution_rules.synthesis.template = "{{ initiation.metadata.absent }}".to_owned();
        check(&snapshot, "first", Some(&needy), (Step::Tier1, SAMPLE));
        let mut other = profile.clone();
        other.execution_rules.normalize = None;
        check(&snapshot, "last", Some(&other), (Step::Tier2, "sample 3 main manual:test"));
        snapshot.run_profiles.clear();
        check(&snapshot, "first", Some(&profile), (Step::Tier2, SAMPLE));
    }

    #[test]
    fn the_profile_that_uses_a_processor_is_found() {
        let mut snapshot = sample::snapshot();
        let name = |text: &str| DocName::parse(text).unwrap();
        for used in ["first", "second", "last"] {
            assert_eq!(profile_with(&snapshot, &name(used)).unwrap().label, name("main"), "{used}");
        }
        snapshot.profiles.get_mut("main").unwrap().execution_rules.normalize = None;
        assert!(profile_with(&snapshot, &name("last")).is_none());
    }
}
