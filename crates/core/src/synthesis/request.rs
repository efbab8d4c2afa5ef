//! The execution request: all that the execution of a run needs besides its pinned snapshot and current secrets.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::config::{BatchRule, DocName, Endpoint, Millis, NamespaceName, Processor, Snapshot, ValueTag};
use crate::digest::Digest;
use crate::limits::BATCH_ITEMS_MAX;
use crate::run::Step;

/// What a run executes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionRequest {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The snapshot that every name below refers to.
    pub snapshot: Digest,
    /// The cycle.
    pub cycle: CycleIdentity,
    /// The run.
    pub run: RunIdentity,
    /// The run profile.
    pub run_profile: RunProfileIdentity,
    /// The profile.
    pub profile: ProfileIdentity,
    /// What the cycle is about.
    pub initiation: InitiationView,
    /// What the run is told to do.
    pub instruction: Instruction,
    /// The steps in order: the three tiers, then normalize if the profile has it.
    pub steps: Vec<StepRequest>,
    /// Every asset the run may use, by name.
    pub assets: BTreeMap<DocName, AssetReference>,
    /// Endpoints that the artifact is owed to, without repeats.
    pub targets: Vec<Reference>,
    /// Tags under which value is accounted.
    pub value_tags: Vec<ValueTag>,
    /// From admission to the last artifact.
    pub deadline: Millis,
}

/// A document by name and by what it said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Its name.
    pub name: DocName,
    /// The digest of its settings in the snapshot.
    pub settings: Digest,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRequest {
    /// Which.
    pub step: Step,
    /// What does it.
    pub processor: Reference,
    /// The name of the asset it is given as reference, one of the request's assets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<DocName>,
    /// The rule by which it may share a program with other runs; of normalize only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchRule>,
}

/// An asset as the snapshot holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetReference {
    /// Its path below the namespace's folder.
    pub path: String,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

/// Which cycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CycleIdentity {
    /// Its id.
    pub id: Uuid,
    /// `schedule`, `manual:<key>` or `backfill:<id>`.
    pub trigger: String,
    /// The instant it stands for.
    pub nominal: Timestamp,
}

/// Which run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunIdentity {
    /// Its id.
    pub run_id: Uuid,
}

/// Which run profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunProfileIdentity {
    /// Its id.
    pub id: Uuid,
    /// Its label.
    pub label: DocName,
}

/// Which profile, and what processors may know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileIdentity {
    /// Its id.
    pub id: Uuid,
    /// Its label.
    pub label: DocName,
    /// Its style.
    pub style_vector: Map<String, Value>,
}

/// What the cycle is about, as templates and processors see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitiationView {
    /// Its id.
    pub id: Uuid,
    /// What it is called.
    pub label: String,
    /// How likely it was.
    pub weight: f64,
    /// Anything else.
    pub metadata: Map<String, Value>,
}

/// What a run is told to do. Stateless: equal content has an equal id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instruction {
    /// UUIDv5 of the content.
    pub instruction_id: Uuid,
    /// What the profile's template made.
    pub context_blob: String,
    /// Passed on as the profile has them.
    pub constraints: Map<String, Value>,
    /// Between 0 and 1; a higher one is served first.
    pub priority: f64,
}

/// A request that does not fit its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It names another snapshot or namespace.
    #[error("the request belongs to {found}, not to {expected}")]
    Foreign {
        /// What it names.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// It names something that the snapshot does not have.
    #[error("the snapshot has no {kind} `{name}`")]
    Unknown {
        /// `processor`, `endpoint` or `asset`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The snapshot's settings are not those that the request names.
    #[error("the settings of {kind} `{name}` are not those that the request names")]
    Changed {
        /// `processor`, `endpoint` or `asset`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The steps are not three tiers and at most one normalize, in order.
    #[error("the steps are not tier1, tier2, tier3 and, if wanted, normalize")]
    Steps,
    /// A batch rule that no profile could have.
    #[error("a batch has 2 to {BATCH_ITEMS_MAX} items and is of normalize only")]
    Batch,
}

impl Instruction {
    /// An instruction whose id is that of its content.
    pub fn new(context_blob: String, constraints: Map<String, Value>, priority: f64) -> Self {
        let content =
            json!({ "context_blob": context_blob, "constraints": constraints, "priority": priority });
        let instruction_id = crate::id::instruction_id(&crate::canonical::to_string(&content));
        Self { instruction_id, context_blob, constraints, priority }
    }
}

impl ExecutionRequest {
    /// The step, if the run has it.
    pub fn step(&self, step: Step) -> Option<&StepRequest> {
        self.steps.iter().find(|one| one.step == step)
    }

    /// The step after this one, if there is one.
    pub fn step_after(&self, step: Step) -> Option<Step> {
        self.steps.iter().map(|one| one.step).find(|one| *one > step)
    }

    /// The processor of a step as the snapshot has it.
    pub fn processor<'a>(&self, step: Step, snapshot: &'a Snapshot) -> Result<&'a Processor, RequestError> {
        let reference = &self.step(step).ok_or(RequestError::Steps)?.processor;
        let found = snapshot.processors.get(&reference.name);
        same("processor", reference, snapshot.processor_digest(&reference.name))?;
        found.ok_or(RequestError::Steps)
    }

    /// An endpoint that the artifact is owed to, as the snapshot has it.
    pub fn endpoint<'a>(&self, name: &str, snapshot: &'a Snapshot) -> Result<&'a Endpoint, RequestError> {
        let unknown = || RequestError::Unknown { kind: "endpoint", name: name.to_owned() };
        let reference = self.targets.iter().find(|one| one.name.as_str() == name).ok_or_else(unknown)?;
        let found = snapshot.endpoints.get(name);
        same("endpoint", reference, snapshot.endpoint_digest(&reference.name))?;
        found.ok_or_else(unknown)
    }

    /// Whether everything that the request names is in the snapshot as it names it.
    pub fn check(&self, snapshot: &Snapshot) -> Result<(), RequestError> {
        let ours = (snapshot.namespace.clone(), snapshot.digest());
        if (&self.namespace, self.snapshot) != (&ours.0, ours.1) {
            let name = |namespace: &NamespaceName, digest: Digest| format!("`{namespace}` at {digest}");
            return Err(RequestError::Foreign {
                found: name(&self.namespace, self.snapshot),
                expected: name(&ours.0, ours.1),
            });
        }
        let steps: Vec<_> = self.steps.iter().map(|one| one.step).collect();
        let tiers = [Step::Tier1, Step::Tier2, Step::Tier3];
        if steps != tiers && steps != [tiers.as_slice(), &[Step::Normalize]].concat() {
            return Err(RequestError::Steps);
        }
        for step in &self.steps {
            self.processor(step.step, snapshot)?;
            let fits = |rule: BatchRule| {
                step.step == Step::Normalize && (2..=BATCH_ITEMS_MAX).contains(&rule.items_max)
            };
            if !step.batch.is_none_or(fits) {
                return Err(RequestError::Batch);
            }
            if let Some(name) = step.reference.as_ref().filter(|name| !self.assets.contains_key(*name)) {
                return Err(RequestError::Unknown { kind: "asset", name: name.to_string() });
            }
        }
        for target in &self.targets {
            self.endpoint(target.name.as_str(), snapshot)?;
        }
        for asset in self.assets.values() {
            let found = snapshot.assets.get(&asset.path).map(|found| (found.digest, found.bytes));
            match found {
                Some(found) if found == (asset.digest, asset.bytes) => {}
                Some(_) => return Err(RequestError::Changed { kind: "asset", name: asset.path.clone() }),
                None => return Err(RequestError::Unknown { kind: "asset", name: asset.path.clone() }),
            }
        }
        Ok(())
    }

    /// The same request for another cycle: what `orbit run --request` executes. Ids follow the cycle and the content, whatever the request said.
    #[must_use]
    pub fn rebound(mut self, cycle: CycleIdentity) -> Self {
        let Instruction { context_blob, constraints, priority, .. } = self.instruction;
        self.instruction = Instruction::new(context_blob, constraints, priority);
        self.run = RunIdentity { run_id: crate::id::run_id(cycle.id, self.profile.id) };
        self.initiation.id = crate::id::initiation_id(cycle.id);
        self.cycle = cycle;
        self
    }

    /// What templates see: `initiation`, `instruction`, `style`, `assets` (digests by name), `run`, `cycle`, `profile`.
    pub fn template_values(&self) -> Value {
        let assets: Map<_, _> =
            self.assets.iter().map(|(name, asset)| (name.to_string(), json!(asset.digest))).collect();
        json!({
            "initiation": self.initiation,
            "instruction": self.instruction,
            "style": self.profile.style_vector,
            "assets": assets,
            "run": self.run,
            "cycle": self.cycle,
            "profile": { "id": self.profile.id, "label": self.profile.label },
        })
    }

    /// What tier 1 receives and every program may read: one line of canonical JSON, without a line end.
    pub fn context_line(&self) -> String {
        crate::canonical::to_string(&json!({
            "cycle": self.cycle,
            "initiation": self.initiation,
            "instruction": self.instruction,
            "profile": self.profile,
            "run": self.run,
        }))
    }
}

fn same(kind: &'static str, reference: &Reference, found: Option<Digest>) -> Result<(), RequestError> {
    let name = || reference.name.to_string();
    match found {
        Some(found) if found == reference.settings => Ok(()),
        Some(_) => Err(RequestError::Changed { kind, name: name() }),
        None => Err(RequestError::Unknown { kind, name: name() }),
    }
}

/// The processor that a request names for a step; of a tier that it does not name, none. None at all of a step that it need not have.
pub fn named_processor(request: &Value, step: Step) -> Option<&str> {
    let steps = request["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    match steps.iter().find(|one| one["step"] == step.name()) {
        Some(named) => Some(named["processor"]["name"].as_str().unwrap_or_default()),
        None if step == Step::Normalize => None,
        None => Some(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesis::sample;

    #[test]
    fn a_request_fits_the_snapshot_it_was_made_of_and_no_other() {
        let snapshot = sample::snapshot();
        let request = sample::build(&snapshot, "one").unwrap();
        assert_eq!(request.check(&snapshot), Ok(()));
        let read: ExecutionRequest = serde_json::from_str(&json!(request).to_string()).unwrap();
        assert_eq!(read, request);

        let check_snapshot = |change: fn(&mut Snapshot), expected: &str| {
            let mut changed = sample::snapshot();
            change(&mut changed);
            // As if the request had been rewritten to claim the other snapshot.
            let claimed = ExecutionRequest { snapshot: changed.digest(), ..request.clone() };
            assert_eq!(claimed.check(&changed).unwrap_err().to_string(), expected);
            assert!(matches!(request.check(&changed), Err(RequestError::Foreign { .. })));
        };
        check_snapshot(
            |snapshot| _ = snapshot.processors.insert(name("second"), snapshot.processors["first"].clone()),
            "the settings of processor `second` are not those that the request names",
        );
        check_snapshot(
            |snapshot| _ = snapshot.processors.remove("first"),
            "the snapshot has no processor `first`",
        );
        check_snapshot(
            |snapshot| snapshot.endpoints.get_mut("mirror").unwrap().concurrency += 1,
            "the settings of endpoint `mirror` are not those that the request names",
        );
        check_snapshot(
            |snapshot| _ = snapshot.endpoints.remove("archive"),
            "the snapshot has no endpoint `archive`",
        );
        check_snapshot(
            |snapshot| snapshot.assets.get_mut("a/own").unwrap().bytes += 1,
            "the settings of asset `a/own` are not those that the request names",
        );
        check_snapshot(
            |snapshot| _ = snapshot.assets.remove("a/shared"),
            "the snapshot has no asset `a/shared`",
        );
    }

    fn batch(request: &mut ExecutionRequest, step: usize, items_max: u32) {
        request.steps[step].batch = Some(BatchRule { items_max, ..BatchRule::default() });
    }

    #[test]
    fn a_request_that_was_edited_is_refused() {
        let snapshot = sample::snapshot();
        let check = |change: fn(&mut ExecutionRequest), expected: &str| {
            let mut request = sample::build(&snapshot, "one").unwrap();
            change(&mut request);
            let error = request.check(&snapshot).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|request| request.namespace = NamespaceName::system(), "belongs to `system`");
        check(|request| request.snapshot = Digest::of(b""), "the request belongs to");
        check(|request| request.steps.swap(0, 1), "the steps are not");
        check(|request| _ = request.steps.remove(2), "the steps are not");
        check(|request| request.steps.clear(), "the steps are not");
        check(|request| request.steps[3].processor.name = name("first"), "settings of processor `first`");
        check(|request| request.steps[2].reference = Some(name("absent")), "no asset `absent`");
        check(|request| batch(request, 3, 1), "2 to 64 items");
        check(|request| batch(request, 3, 65), "2 to 64 items");
        check(|request| batch(request, 0, 8), "normalize only");
        check(|request| request.targets[0].name = name("absent"), "no endpoint `absent`");
        check(|request| request.targets[0].settings = Digest::of(b""), "settings of endpoint `archive`");
    }

    #[test]
    fn rebound_to_another_cycle_every_id_follows() {
        let request = sample::build(&sample::snapshot(), "one").unwrap();
        let cycle = CycleIdentity { id: Uuid::from_u128(9), ..request.cycle.clone() };
        let mut edited = request.clone();
        edited.instruction.context_blob.push('!');
        let rebound = edited.clone().rebound(cycle.clone());
        assert_eq!(rebound.cycle, cycle);
        assert_eq!(rebound.run.run_id, crate::id::run_id(cycle.id, request.profile.id));
        assert_eq!(rebound.initiation.id, crate::id::initiation_id(cycle.id));
        assert_ne!(rebound.instruction.instruction_id, request.instruction.instruction_id);
        assert_eq!(rebound.instruction.context_blob, edited.instruction.context_blob);
        assert_eq!(request.clone().rebound(request.cycle.clone()), request);
    }

    #[test]
    fn the_context_is_one_canonical_line() {
        let line = sample::build(&sample::snapshot(), "two\nlines").unwrap().context_line();
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).unwrap();
        let keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["cycle", "initiation", "instruction", "profile", "run"]);
        assert_eq!(crate::canonical::to_string(&value), line);
    }

    fn name(text: &str) -> DocName {
        DocName::parse(text).unwrap()
    }
}
