//! A small world to ask a store about: one run profile, profiles by number, instants in seconds.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use orbit_core::config::{BreakerRule, Millis, NamespaceName};
use orbit_core::digest::Digest;
use orbit_core::dispatch::breaker::{Rule, Signal};
use orbit_core::id;
use orbit_core::run::{AfterFailure, RunEvent, RunState, Step, Then};
use orbit_store::Store;
use orbit_store::contract::dispatch::{AttemptCommit, ClaimedDelivery, NewDelivery, RedriveFilter, Settle};
use orbit_store::contract::node::Joining;
use orbit_store::contract::record::{RecordFilter, StoredRecord};
use orbit_store::contract::schedule::NewCycle;
use orbit_store::contract::selection::{Choice, ClaimedCycle, Initiation, NewRun, TakeRule, Taken};
use orbit_store::contract::tiers::{ClaimedStep, Free, StepCommit, StepCommitted};
use orbit_store::contract::{Artifact, OpenDoors, Recovered};
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub(crate) const OPEN: OpenDoors = OpenDoors { first: true, retry: true };
pub(crate) const RUN_PROFILE: Uuid = Uuid::from_u128(0x5eed);
/// Longer than any test takes.
pub(crate) const LEASE: Duration = Duration::from_mins(10);
/// How long runs may take, in seconds.
pub(crate) const DEADLINE: i64 = 3600;

/// Two failures open a breaker for ten seconds; ten minutes without success disable.
pub(crate) const RULE: Rule = Rule {
    breaker: BreakerRule { failures: 2, pause: Millis::seconds(10), pause_max: Millis::seconds(30) },
    disable_after: Millis::minutes(10),
};

/// See the module.
pub(crate) struct World<'a> {
    pub(crate) store: &'a dyn Store,
}

pub(crate) fn namespace() -> NamespaceName {
    NamespaceName::parse("studio").unwrap()
}

/// A node of this name.
pub(crate) fn joining(node: &str) -> Joining {
    Joining { node: node.to_owned(), version: "1.2.3".to_owned(), lease: LEASE, former: None }
}

/// An instant so many seconds after the beginning.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(crate) fn snapshot() -> Digest {
    Digest::of(b"snapshot")
}

pub(crate) fn artifact(name: &str) -> Artifact {
    Artifact {
        digest: Digest::of(name.as_bytes()),
        bytes: name.len() as u64,
        media_type: "text/plain".to_owned(),
    }
}

pub(crate) fn cycle_id(number: u32) -> Uuid {
    let trigger = id::Trigger::Manual { key: number.to_string() };
    id::cycle_id(&namespace(), RUN_PROFILE, &trigger, Timestamp::UNIX_EPOCH)
}

pub(crate) fn cycle(number: u32) -> NewCycle {
    NewCycle {
        cycle_id: cycle_id(number),
        run_profile_id: RUN_PROFILE,
        run_profile: "daily".to_owned(),
        trigger: format!("manual:{number}"),
        nominal: at(0),
        snapshot: snapshot(),
        queued: false,
        preset: Value::Null,
        detail: json!({ "reason": "by hand" }),
    }
}

pub(crate) fn rule() -> TakeRule {
    TakeRule { scope: "namespace".to_owned(), taken_since: None, release_on: Vec::new() }
}

pub(crate) fn choice(cycle: &ClaimedCycle, labels: &[&str], rule: TakeRule) -> Choice {
    let candidate = |label: &&str| Initiation {
        id: id::initiation_id(cycle.claim.id),
        label: (*label).to_owned(),
        weight: 1.5,
        metadata: Map::from_iter([("n".to_owned(), json!(1))]),
        hash: Digest::of(label.as_bytes()),
    };
    let candidates = labels.iter().map(candidate).collect();
    Choice { candidates, rule, report: json!({ "seen": labels.len() }) }
}

/// As in an execution request: two processors, of which `second` does all but the first step.
fn steps() -> Value {
    let step = |step: &str, name: &str| json!({ "step": step, "processor": { "name": name, "settings": settings(name) } });
    json!([
        step("tier1", "first"),
        step("tier2", "second"),
        step("tier3", "second"),
        step("normalize", "second")
    ])
}

/// The digest of a processor's settings.
pub(crate) fn settings(processor: &str) -> Digest {
    Digest::of(processor.as_bytes())
}

/// The run of the profile of this number.
pub(crate) fn run(cycle: &ClaimedCycle, number: u32, now: Timestamp) -> NewRun {
    let profile_id = Uuid::from_u128(u128::from(number) + 1);
    NewRun {
        run_id: id::run_id(cycle.claim.id, profile_id),
        profile_id,
        profile: format!("profile-{number}"),
        priority: 0.5,
        deadline_at: now + SignedDuration::from_secs(DEADLINE),
        request: json!({ "initiation": { "label": "asked" }, "number": number, "steps": steps() }),
        rejected: None,
        retry_of: None,
        start: None,
    }
}

pub(crate) fn delivery(run_id: Uuid, endpoint: &str) -> NewDelivery {
    NewDelivery {
        delivery_id: id::delivery_id(run_id, endpoint),
        endpoint: endpoint.to_owned(),
        url: format!("https://{endpoint}.example.net/{run_id}"),
    }
}

pub(crate) fn commit(event: RunEvent) -> StepCommit {
    StepCommit {
        event,
        detail: json!({ "usage": { "cpu_ms": 7 } }),
        evidence: None,
        artifact: None,
        content: None,
        deliveries: Vec::new(),
        send: None,
        claim_next: None,
        batch: None,
        work: None,
    }
}

/// The step succeeded and another follows.
pub(crate) fn succeeded(step: Step, next: Step) -> StepCommit {
    let event = RunEvent::StepSucceeded { step, then: Then::Step { step: next } };
    StepCommit { artifact: Some(artifact(step.name())), ..commit(event) }
}

/// The last step succeeded, and this is owed.
pub(crate) fn done(step: &ClaimedStep, endpoints: &[&str]) -> StepCommit {
    let deliveries: Vec<_> = endpoints.iter().map(|endpoint| delivery(step.claim.id, endpoint)).collect();
    let then = Then::Dispatch { deliveries: u32::try_from(deliveries.len()).unwrap() };
    let event = RunEvent::StepSucceeded { step: step.step, then };
    StepCommit { artifact: Some(artifact("result")), deliveries, ..commit(event) }
}

pub(crate) fn failed(step: Step, then: AfterFailure) -> StepCommit {
    commit(RunEvent::StepFailed { step, failure: "exit 1".to_owned(), then })
}

pub(crate) fn answer(outcome: &str, settle: Settle) -> AttemptCommit {
    let signal = match outcome {
        "accepted" => Signal::Accepted,
        "unavailable" => Signal::Down,
        "interrupted" => Signal::Silent,
        _ => Signal::Alive,
    };
    let receipt = json!({ "outcome": outcome });
    AttemptCommit { receipt, evidence: None, settle, disable_endpoint: None, signal, rule: RULE }
}

pub(crate) fn dead() -> Settle {
    Settle::Dead { reason: "status 400".to_owned() }
}

impl<'a> World<'a> {
    pub(crate) fn new(store: &'a dyn Store) -> Self {
        Self { store }
    }

    /// This process joins, again if it has before; what it had under way.
    pub(crate) async fn join(&self, now: Timestamp) -> Recovered {
        self.store.join(&joining("vps-1"), now).await.unwrap().recovered
    }

    pub(crate) async fn fire(&self, number: u32, now: Timestamp) -> bool {
        self.store.fire(cycle(number), now).await.unwrap()
    }

    pub(crate) async fn claim_cycle(&self, now: Timestamp) -> ClaimedCycle {
        self.store.claim_cycle(now).await.unwrap().expect("a cycle waits")
    }

    /// A cycle of its own candidate with so many runs; their ids.
    pub(crate) async fn admitted(&self, number: u32, runs: u32, now: Timestamp) -> Vec<Uuid> {
        self.admitted_under(number, runs, rule(), now).await
    }

    pub(crate) async fn admitted_under(
        &self,
        number: u32,
        runs: u32,
        rule: TakeRule,
        now: Timestamp,
    ) -> Vec<Uuid> {
        self.fire(number, now).await;
        let cycle = self.claim_cycle(now).await;
        assert_eq!(cycle.claim.id, cycle_id(number));
        let label = format!("candidate {number}");
        let taken =
            self.store.take_initiation(cycle.claim, choice(&cycle, &[&label], rule), now).await.unwrap();
        assert!(matches!(taken, Taken::Initiation(_)), "{taken:?}");
        let runs: Vec<_> = (0..runs).map(|number| run(&cycle, number, now)).collect();
        let ids = runs.iter().map(|run| run.run_id).collect();
        assert!(self.store.admit(cycle.claim, runs, now).await.unwrap());
        ids
    }

    pub(crate) async fn claim_step(&self, now: Timestamp) -> ClaimedStep {
        let mut steps = self.store.claim_steps(Free::of(1, OPEN), now).await.unwrap();
        assert_eq!(steps.len(), 1, "one step can start");
        steps.remove(0)
    }

    pub(crate) async fn commit(&self, step: &ClaimedStep, commit: StepCommit, now: Timestamp) -> RunState {
        match self.store.commit_step(step.claim, commit, now).await.unwrap() {
            StepCommitted::Done { state, .. } => state,
            StepCommitted::Lost => panic!("the claim on {} is lost", step.claim.id),
        }
    }

    /// A cycle with one run whose artifact is owed to these endpoints; the run.
    pub(crate) async fn dispatching(&self, number: u32, endpoints: &[&str], now: Timestamp) -> Uuid {
        let run_id = self.admitted(number, 1, now).await[0];
        let step = self.claim_step(now).await;
        assert_eq!(step.claim.id, run_id);
        self.commit(&step, done(&step, endpoints), now).await;
        run_id
    }

    pub(crate) async fn claim_delivery(&self, endpoint: &str, now: Timestamp) -> ClaimedDelivery {
        let mut claimed = self.store.claim_deliveries(endpoint, 1, OPEN, now).await.unwrap();
        assert_eq!(claimed.len(), 1, "one delivery to {endpoint} is due");
        claimed.remove(0)
    }

    /// The next attempt at the endpoint ends so.
    pub(crate) async fn attempt(
        &self,
        endpoint: &str,
        commit: AttemptCommit,
        now: Timestamp,
    ) -> ClaimedDelivery {
        let claimed = self.claim_delivery(endpoint, now).await;
        assert!(self.store.commit_attempt(claimed.claim, commit, now).await.unwrap());
        claimed
    }

    /// Endpoints that something is due for.
    pub(crate) async fn due_endpoints(&self, now: Timestamp) -> Vec<String> {
        let waiting = self.store.waiting_endpoints().await.unwrap().into_iter();
        waiting.filter(|one| one.due_at <= now).map(|one| one.endpoint).collect()
    }

    /// When the first delivery that waits is due.
    pub(crate) async fn next_delivery_due(&self) -> Option<Timestamp> {
        self.store.waiting_endpoints().await.unwrap().into_iter().map(|one| one.due_at).min()
    }

    /// Redrives batch by batch; what waits again.
    pub(crate) async fn redrive(&self, filter: RedriveFilter, now: Timestamp) -> Vec<Uuid> {
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let batch = self.store.redrive(filter.clone(), from, now).await.unwrap();
            all.extend(batch.ids);
            from = batch.next;
            if from.is_none() {
                return all;
            }
        }
    }

    pub(crate) async fn state_of_run(&self, run_id: Uuid) -> (String, Option<String>) {
        let run = self.store.run(run_id).await.unwrap().expect("the run exists");
        (run.state, run.outcome)
    }

    pub(crate) async fn outcome_of_cycle(&self, number: u32) -> Option<String> {
        self.store.cycle(cycle_id(number)).await.unwrap().expect("the cycle exists").outcome
    }

    pub(crate) async fn state_of_delivery(&self, run_id: Uuid, endpoint: &str) -> String {
        let id = id::delivery_id(run_id, endpoint);
        self.store.delivery(id).await.unwrap().expect("the delivery exists").state
    }

    pub(crate) async fn log(&self) -> Vec<StoredRecord> {
        self.store.records(RecordFilter::default(), u32::MAX).await.unwrap()
    }

    pub(crate) async fn log_of(&self, kind: &str) -> Vec<StoredRecord> {
        self.log().await.into_iter().filter(|record| record.kind == kind).collect()
    }

    /// The kinds of a run's records, in order.
    pub(crate) async fn story(&self, run_id: Uuid) -> Vec<String> {
        let filter = RecordFilter { run_id: Some(run_id), ..RecordFilter::default() };
        let records = self.store.records(filter, u32::MAX).await.unwrap();
        records.into_iter().map(|record| record.kind).collect()
    }
}

/// Positions begin at 0 and have no gaps, and every run's row is what its events give.
pub(crate) async fn log_is_whole(store: &dyn Store) {
    let records = store.records(RecordFilter::default(), u32::MAX).await.unwrap();
    let positions: Vec<_> = records.iter().map(|record| record.position).collect();
    assert_eq!(positions, (0..records.len() as u64).collect::<Vec<_>>());
    crate::fold::rows_are_what_the_log_says(store, &records).await;
}
