//! The request of a run that never was: what a test of an endpoint renders its templates from.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    CycleIdentity, ExecutionRequest, InitiationView, Instruction, ProfileIdentity, Reference, RunIdentity,
    RunProfileIdentity, synthesize,
};
use crate::config::{DocName, Endpoint, Profile, RunProfile, Snapshot, settings_digest};
use crate::id::{initiation_id, run_id};

/// What the initiation of a trial is called, and its profile and run profile where the configuration has none for the endpoint.
const LABEL: &str = "test";

/// A request as a run would have it whose artifact is owed to the endpoint: of the first profile and run profile that lead there, else of
/// stand-ins called `test`. Its initiation is called `test` and has `{"test": true}` as metadata.
pub fn trial(snapshot: &Snapshot, endpoint: &Endpoint, cycle_id: Uuid, now: Timestamp) -> ExecutionRequest {
    let nominal = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let cycle = CycleIdentity { id: cycle_id, trigger: format!("manual:{LABEL}"), nominal };
    let metadata = Map::from_iter([(LABEL.to_owned(), Value::Bool(true))]);
    let initiation =
        InitiationView { id: initiation_id(cycle_id), label: LABEL.to_owned(), weight: 1.0, metadata };
    let made = pairs(snapshot).find_map(|(profile, run_profile)| {
        let made = synthesize(snapshot, profile, run_profile, initiation.clone(), cycle.clone()).ok()?;
        made.targets.iter().any(|target| target.name == endpoint.name).then_some(made)
    });
    made.unwrap_or_else(|| stand_in(snapshot, endpoint, (cycle, initiation)))
}

/// Every profile with every run profile that runs it, in order of their labels.
fn pairs(snapshot: &Snapshot) -> impl Iterator<Item = (&Profile, &RunProfile)> {
    snapshot.run_profiles.values().flat_map(move |run_profile| {
        let profiles = &run_profile.execution_policy.profiles;
        profiles.iter().filter_map(move |name| Some((snapshot.profile(name)?, run_profile)))
    })
}

fn stand_in(
    snapshot: &Snapshot,
    endpoint: &Endpoint,
    (cycle, initiation): (CycleIdentity, InitiationView),
) -> ExecutionRequest {
    let id = Uuid::nil();
    // The name of a document that is valid stands in for one that never fails to be.
    let label = DocName::parse(LABEL).unwrap_or_else(|_| endpoint.name.clone());
    ExecutionRequest {
        namespace: snapshot.namespace.clone(),
        snapshot: snapshot.digest(),
        run: RunIdentity { run_id: run_id(cycle.id, id) },
        cycle,
        run_profile: RunProfileIdentity { id, label: label.clone() },
        profile: ProfileIdentity { id, label, style_vector: Map::new() },
        initiation,
        instruction: Instruction::new(String::new(), Map::new(), 0.5),
        steps: Vec::new(),
        assets: BTreeMap::new(),
        targets: vec![Reference { name: endpoint.name.clone(), settings: settings_digest(endpoint) }],
        value_tags: Vec::new(),
        deadline: crate::config::Millis::hours(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesis::sample;

    #[test]
    fn of_the_profile_that_leads_there_else_of_a_stand_in() {
        let mut snapshot = sample::snapshot();
        let check = |snapshot: &Snapshot, name: &str, label: &str, context: &str| {
            let endpoint = &snapshot.endpoints[name];
            let made = trial(snapshot, endpoint, Uuid::from_u128(7), Timestamp::UNIX_EPOCH);
            assert_eq!(
                (made.profile.label.as_str(), made.instruction.context_blob.as_str()),
                (label, context)
            );
            assert_eq!(
                (made.initiation.label.as_str(), made.cycle.trigger.as_str()),
                ("test", "manual:test")
            );
            assert_eq!(made.endpoint(name, snapshot), Ok(endpoint));
        };
        check(&snapshot, "archive", "main", "test 3 main manual:test");
        check(&snapshot, "mirror", "main", "test 3 main manual:test");
        snapshot.run_profiles.clear();
        check(&snapshot, "archive", "test", "");
    }
}
