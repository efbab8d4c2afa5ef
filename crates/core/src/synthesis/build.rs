//! Makes the execution request of a run: a pure function of snapshot, profile, run profile, initiation and cycle.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::request::{
    AssetReference, CycleIdentity, ExecutionRequest, InitiationView, Instruction, ProfileIdentity, Reference,
    RunIdentity, RunProfileIdentity, StepRequest,
};
use crate::config::{DocName, Profile, RunProfile, Snapshot, ValueTag};
use crate::digest::Digest;
use crate::id::run_id;
use crate::run::Step;
use crate::template::{self, TemplateError};

/// Why a run cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SynthesisError {
    /// The profile's template gives no text for this initiation.
    #[error("profile `{profile}`: {source}")]
    Template {
        /// The profile's label.
        profile: DocName,
        /// What is wrong.
        source: TemplateError,
    },
    /// Something that the profile names is not in the snapshot.
    #[error("profile `{profile}` names {kind} `{name}`, which the snapshot does not have")]
    Unknown {
        /// The profile's label.
        profile: DocName,
        /// `processor`, `endpoint` or `asset`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The profile does not have three tiers.
    #[error("profile `{profile}` has {found} tiers, expected 3")]
    Tiers {
        /// The profile's label.
        profile: DocName,
        /// How many it has.
        found: usize,
    },
}

/// The request for one profile's pass within a cycle. It names processors, endpoints and assets by name and by the digest of what the snapshot says
/// of them, and repeats none of their settings. Equal arguments give equal requests.
pub fn synthesize(
    snapshot: &Snapshot,
    profile: &Profile,
    run_profile: &RunProfile,
    initiation: InitiationView,
    cycle: CycleIdentity,
) -> Result<ExecutionRequest, SynthesisError> {
    let rules = &profile.execution_rules.synthesis;
    let mut request = ExecutionRequest {
        namespace: snapshot.namespace.clone(),
        snapshot: snapshot.digest(),
        run: RunIdentity { run_id: run_id(cycle.id, profile.profile_id) },
        cycle,
        run_profile: RunProfileIdentity { id: run_profile.run_profile_id, label: run_profile.label.clone() },
        profile: ProfileIdentity {
            id: profile.profile_id,
            label: profile.label.clone(),
            style_vector: profile.style_vector.clone(),
        },
        initiation,
        instruction: Instruction::new(String::new(), Map::new(), rules.priority),
        steps: steps(snapshot, profile)?,
        assets: assets(snapshot, profile, run_profile)?,
        targets: targets(snapshot, profile, run_profile)?,
        value_tags: value_tags(profile, run_profile),
        deadline: run_profile.execution_policy.deadline,
    };
    let context_blob = template::render(&rules.template, &values(&request))
        .map_err(|source| SynthesisError::Template { profile: profile.label.clone(), source })?;
    request.instruction = Instruction::new(context_blob, rules.constraints.clone(), rules.priority);
    Ok(request)
}

/// What the profile's template sees: all that later templates see but the instruction, which it is about to make.
fn values(request: &ExecutionRequest) -> Value {
    let mut values = request.template_values();
    if let Value::Object(fields) = &mut values {
        fields.remove("instruction");
    }
    values
}

fn steps(snapshot: &Snapshot, profile: &Profile) -> Result<Vec<StepRequest>, SynthesisError> {
    let rules = &profile.execution_rules;
    let tiers = [Step::Tier1, Step::Tier2, Step::Tier3];
    if rules.tiers.len() != tiers.len() {
        return Err(SynthesisError::Tiers { profile: profile.label.clone(), found: rules.tiers.len() });
    }
    let processor = |name: &DocName| reference(profile, "processor", name, snapshot.processor_digest(name));
    let mut steps = Vec::with_capacity(tiers.len() + 1);
    for (step, tier) in tiers.into_iter().zip(&rules.tiers) {
        let processor = processor(&tier.processor)?;
        steps.push(StepRequest { step, processor, reference: tier.reference.clone(), batch: None });
    }
    if let Some(rule) = &rules.normalize {
        let processor = processor(&rule.processor)?;
        steps.push(StepRequest { step: Step::Normalize, processor, reference: None, batch: rule.batch });
    }
    Ok(steps)
}

/// The run profile's bundle under the profile's own bindings. Every reference of a tier must be among them.
fn assets(
    snapshot: &Snapshot,
    profile: &Profile,
    run_profile: &RunProfile,
) -> Result<BTreeMap<DocName, AssetReference>, SynthesisError> {
    let mut paths = run_profile.asset_bundle.clone();
    paths.extend(profile.asset_bindings.clone());
    for name in profile.execution_rules.tiers.iter().filter_map(|tier| tier.reference.as_ref()) {
        if !paths.contains_key(name) {
            return Err(unknown(profile, "asset", name.as_str()));
        }
    }
    let found = |(name, path): (DocName, String)| match snapshot.assets.get(&path) {
        Some(asset) => Ok((name, AssetReference { digest: asset.digest, bytes: asset.bytes, path })),
        None => Err(unknown(profile, "asset", &path)),
    };
    paths.into_iter().map(found).collect()
}

/// The profile's distribution map, then the run profile's targets; the first mention of an endpoint counts.
fn targets(
    snapshot: &Snapshot,
    profile: &Profile,
    run_profile: &RunProfile,
) -> Result<Vec<Reference>, SynthesisError> {
    let mut targets: Vec<Reference> = Vec::new();
    for target in profile.distribution_map.iter().chain(&run_profile.distribution_targets) {
        let name = &target.endpoint;
        if targets.iter().all(|known| known.name != *name) {
            targets.push(reference(profile, "endpoint", name, snapshot.endpoint_digest(name))?);
        }
    }
    Ok(targets)
}

/// The profile's tags, then the run profile's; the first mention of a tag counts, so that no value is accounted twice.
fn value_tags(profile: &Profile, run_profile: &RunProfile) -> Vec<ValueTag> {
    let mut tags: Vec<ValueTag> = Vec::new();
    for tag in profile.value_tags.iter().chain(&run_profile.value_tags) {
        if tags.iter().all(|known| known.tag != tag.tag) {
            tags.push(tag.clone());
        }
    }
    tags
}

fn reference(
    profile: &Profile,
    kind: &'static str,
    name: &DocName,
    settings: Option<Digest>,
) -> Result<Reference, SynthesisError> {
    let settings = settings.ok_or_else(|| unknown(profile, kind, name.as_str()))?;
    Ok(Reference { name: name.clone(), settings })
}

fn unknown(profile: &Profile, kind: &'static str, name: &str) -> SynthesisError {
    SynthesisError::Unknown { profile: profile.label.clone(), kind, name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesis::sample;
    use serde_json::json;

    /// The request for the sample after a change to its snapshot.
    fn build(change: impl FnOnce(&mut Snapshot)) -> Result<ExecutionRequest, SynthesisError> {
        let mut snapshot = sample::snapshot();
        change(&mut snapshot);
        sample::build(&snapshot, "one")
    }

    fn profile(snapshot: &mut Snapshot) -> &mut Profile {
        snapshot.profiles.get_mut("main").unwrap()
    }

    #[test]
    fn everything_is_named_in_order_and_once() {
        let request = build(|_| ()).unwrap();
        let names: Vec<_> = request.steps.iter().map(|one| (one.step, one.processor.name.as_str())).collect();
        let expected = [
            (Step::Tier1, "first"),
            (Step::Tier2, "second"),
            (Step::Tier3, "second"),
            (Step::Normalize, "last"),
        ];
        assert_eq!(names, expected);
        let targets: Vec<_> = request.targets.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(targets, ["archive", "mirror"]);
        let assets = json!(request.assets);
        assert_eq!(
            (&assets["own"]["path"], &assets["shared"]["path"]),
            (&json!("a/own"), &json!("a/shared"))
        );
        assert_eq!(assets["both"]["path"], "a/own", "the profile's own binding wins");
        assert_eq!(
            json!(request.value_tags),
            json!([{"tag": "t", "weight": 2.0}, {"tag": "u", "weight": 1.0}])
        );
        assert_eq!(request.initiation.label, "one");
        assert_eq!(request.instruction.context_blob, "one 3 main manual:k");
    }

    #[test]
    fn a_request_carries_no_setting() {
        let text = json!(build(|_| ()).unwrap()).to_string();
        for hidden in sample::HIDDEN {
            assert!(json!(sample::snapshot()).to_string().contains(hidden), "{hidden} is in the snapshot");
            assert!(!text.contains(hidden), "{hidden} is in {text}");
        }
    }

    #[test]
    fn equal_content_is_an_equal_instruction() {
        let snapshot = sample::snapshot();
        let id = |label: &str| sample::build(&snapshot, label).unwrap().instruction.instruction_id;
        assert_eq!(id("one"), id("one"));
        assert_ne!(id("one"), id("two"));
        let constrained = build(|snapshot| {
            let rules = &mut profile(snapshot).execution_rules.synthesis;
            rules.constraints.insert("n".to_owned(), json!(1));
        });
        assert_ne!(constrained.unwrap().instruction.instruction_id, id("one"));
        let restyled = build(|snapshot| {
            profile(snapshot).style_vector.insert("other".to_owned(), json!(1));
        });
        assert_eq!(
            restyled.unwrap().instruction.instruction_id,
            id("one"),
            "the id is that of the content alone"
        );
    }

    #[test]
    fn refused() {
        let check = |change: fn(&mut Snapshot), expected: &str| {
            let error = build(change).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        let template = |snapshot: &mut Snapshot, text: &str| {
            text.clone_into(&mut profile(snapshot).execution_rules.synthesis.template);
        };
        let check_template = |text: &str, expected: &str| {
            let error = build(|snapshot| template(snapshot, text)).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check_template("{{ instruction.priority }}", "undefined");
        check_template("{{ initiation.metadata.absent }}", "undefined");
        check_template("{{ 'x' * 300000 }}", "renders more than");
        check(|snapshot| _ = snapshot.processors.remove("last"), "processor `last`");
        check(|snapshot| _ = snapshot.endpoints.remove("mirror"), "endpoint `mirror`");
        check(|snapshot| _ = snapshot.assets.remove("a/own"), "asset `a/own`");
        check(|snapshot| _ = profile(snapshot).asset_bindings.remove("own"), "asset `own`");
        check(|snapshot| _ = profile(snapshot).execution_rules.tiers.pop(), "2 tiers");
    }
}
