//! Rows are a cache of the log: whatever happens to runs, the fold of their events gives the state that their rows have.

use std::collections::BTreeMap;

use orbit_core::dispatch::breaker::{Answer, Breaker, Health, HealthEvent};
use orbit_core::run::{AfterFailure, Ending, Interruption, Outcome, RunEvent, RunState, Step};
use orbit_store::Store;
use orbit_store::contract::dispatch::{ClaimedDelivery, RedriveFilter, Settle};
use orbit_store::contract::record::StoredRecord;
use orbit_store::contract::selection::Taken;
use orbit_store::contract::tiers::{ClaimedStep, StepCommitted};
use orbit_store::contract::view::{DeliveryView, EndpointView, RunView};
use orbit_store::sqlite::SqliteStore;
use proptest::prelude::*;
use serde_json::Value;

use crate::conformance::world::{
    OPEN, RUN_PROFILE, World, answer, at, choice, commit, cycle, dead, done, failed, log_is_whole, namespace,
    rule, run, succeeded,
};

/// Folds every run's events and compares; then the deliveries, steps and cycles that follow from them.
pub(crate) async fn rows_are_what_the_log_says(store: &dyn Store, records: &[StoredRecord]) {
    let mut states = BTreeMap::new();
    let mut outcomes = BTreeMap::new();
    let (mut attempts, mut receipts) = (0, 0);
    for record in records {
        match record.kind.as_str() {
            "run_admitted" => drop(states.insert(record.run_id.unwrap(), RunState::admitted())),
            "cycle_finished" => {
                drop(outcomes.insert(record.cycle_id.unwrap(), record.body["outcome"].clone()));
            }
            "attempt_started" => attempts += 1,
            "receipt_captured" => receipts += 1,
            _ => {}
        }
        if let Some(event) = record.body.get("event") {
            let event: RunEvent = serde_json::from_value(event.clone()).unwrap();
            assert_eq!(record.kind, event.name());
            let state = states.get_mut(&record.run_id.unwrap()).expect("admitted before anything else");
            *state = state.next(&event).unwrap();
        }
    }
    let mut under_way = 0;
    for (run_id, state) in &states {
        let row = store.run(*run_id).await.unwrap().unwrap();
        assert_eq!(row.state, state.name(), "{run_id}");
        assert_eq!(row.outcome.as_deref(), state.ending().map(|ending| ending.outcome().name()), "{run_id}");
        agrees_with_deliveries(&row, state);
        agrees_with_steps(&row, state);
        for delivery in &row.deliveries {
            let missing = delivery.attempts as usize - delivery.receipts.len();
            assert!(missing == 0 || (missing == 1 && ["sending", "cancelled"].contains(&&*delivery.state)));
            under_way += missing;
        }
        let cycle = store.cycle(row.cycle_id).await.unwrap().unwrap();
        let all: Option<Vec<_>> =
            cycle.runs.iter().map(|run| states[run].ending().map(Ending::outcome)).collect();
        let expected = all.map(|all| Outcome::of_cycle(&all).name().to_owned());
        assert_eq!(cycle.outcome, expected, "{}", row.cycle_id);
        if let Some(expected) = expected {
            assert_eq!(outcomes[&row.cycle_id], Value::from(expected));
        }
    }
    assert_eq!(attempts, receipts + under_way, "one receipt an attempt, but for those under way");
    endpoints_are_what_the_log_says(store, records).await;
}

/// Folds what happened to every endpoint and compares.
async fn endpoints_are_what_the_log_says(store: &dyn Store, records: &[StoredRecord]) {
    let mut healths = BTreeMap::<String, Health>::new();
    for record in records {
        let Some(event) = event_of_endpoint(record) else { continue };
        let health = healths.entry(record.body["endpoint"].as_str().unwrap().to_owned()).or_default();
        let next = health.next(&event);
        assert!(next != *health || matches!(event, HealthEvent::Answered(_)), "{event:?} changed nothing");
        *health = next;
    }
    healths.retain(|_, health| *health != Health::default());
    for health in healths.values() {
        if let Health::Enabled { breaker: Breaker::HalfOpen { probe, .. }, .. } = health {
            let probe = store.delivery(*probe).await.unwrap().unwrap();
            assert_eq!(
                probe.attempts as usize,
                probe.receipts.len() + 1,
                "a half-open breaker has a probe under way"
            );
        }
    }
    let expected = healths.iter().map(|(endpoint, health)| (endpoint.clone(), EndpointView::from(health)));
    assert_eq!(store.counts().await.unwrap().endpoints, expected.collect());
}

fn event_of_endpoint(record: &StoredRecord) -> Option<HealthEvent> {
    fn read<T: serde::de::DeserializeOwned>(record: &StoredRecord, field: &str) -> T {
        serde_json::from_value(record.body[field].clone()).unwrap()
    }
    Some(match record.kind.as_str() {
        "receipt_captured" => HealthEvent::Answered(Answer {
            delivery_id: read(record, "delivery_id"),
            signal: read(record, "signal"),
            at: record.at,
        }),
        "breaker_opened" => {
            HealthEvent::Opened { until: read(record, "until"), pause_ms: read(record, "pause_ms") }
        }
        "breaker_half_opened" => HealthEvent::HalfOpened { probe: read(record, "delivery_id") },
        "breaker_closed" => HealthEvent::Closed,
        "endpoint_failing" => HealthEvent::Failing,
        "endpoint_disabled" => HealthEvent::Disabled { reason: read(record, "reason"), at: record.at },
        "endpoint_enabled" => HealthEvent::Enabled,
        _ => return None,
    })
}

fn agrees_with_deliveries(row: &RunView, state: &RunState) {
    let count = |states: &[&str]| {
        let is = |delivery: &&DeliveryView| states.contains(&&*delivery.state);
        u32::try_from(row.deliveries.iter().filter(is).count()).unwrap()
    };
    if let RunState::Dispatching { open, accepted, lost } = state {
        let found = (count(&["waiting", "sending"]), count(&["accepted"]), count(&["dead"]));
        assert_eq!(found, (*open, *accepted, *lost));
    } else {
        assert_eq!(count(&["waiting", "sending"]), 0);
    }
}

fn agrees_with_steps(row: &RunView, state: &RunState) {
    let working = row.steps.iter().filter(|step| step.state == "working").count();
    match state {
        RunState::Working { progress } => {
            let step = row.steps.iter().find(|step| step.step == progress.step.name()).unwrap();
            assert_eq!((working, step.attempts), (1, progress.started));
        }
        RunState::Ready { .. }
        | RunState::Waiting { .. }
        | RunState::Dispatching { .. }
        | RunState::Finished { .. } => assert_eq!(working, 0),
    }
}

/// One call of the contract, with what it needs to choose.
#[derive(Clone, Debug)]
enum Call {
    Admit { runs: u32, rejected: bool },
    ClaimSteps { limit: u32 },
    CommitStep { which: usize, how: u8, claim_next: bool },
    ClaimDeliveries { endpoint: u8, limit: u32 },
    ClaimInOrder { endpoint: u8 },
    GiveUp,
    CommitAttempt { which: usize, how: u8 },
    CancelRun { which: usize },
    CancelCycles,
    Recover,
    Expire,
    Redrive { endpoint: Option<u8> },
    Pass { seconds: i64 },
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    // Weighted so that most runs reach their deliveries, and every way to be cut short happens to some.
    let call = prop_oneof![
        6 => (1..4_u32, any::<bool>()).prop_map(|(runs, rejected)| Call::Admit { runs, rejected }),
        12 => (1..4_u32).prop_map(|limit| Call::ClaimSteps { limit }),
        24 => (any::<usize>(), 0..14_u8, any::<bool>())
            .prop_map(|(which, how, claim_next)| Call::CommitStep { which, how, claim_next }),
        12 => (0..2_u8, 1..3_u32).prop_map(|(endpoint, limit)| Call::ClaimDeliveries { endpoint, limit }),
        4 => (0..2_u8).prop_map(|endpoint| Call::ClaimInOrder { endpoint }),
        1 => Just(Call::GiveUp),
        12 => (any::<usize>(), 0..8_u8).prop_map(|(which, how)| Call::CommitAttempt { which, how }),
        2 => any::<usize>().prop_map(|which| Call::CancelRun { which }),
        1 => Just(Call::CancelCycles),
        2 => Just(Call::Recover),
        2 => Just(Call::Expire),
        4 => proptest::option::of(0..2_u8).prop_map(|endpoint| Call::Redrive { endpoint }),
        4 => (1..400_i64).prop_map(|seconds| Call::Pass { seconds }),
    ];
    proptest::collection::vec(call, 1..240)
}

const ENDPOINTS: [&str; 2] = ["archive", "mirror"];

/// What a node would hold in memory: claims, valid and stale ones alike.
struct History<'a> {
    world: World<'a>,
    now: i64,
    cycles: u32,
    runs: Vec<uuid::Uuid>,
    steps: Vec<ClaimedStep>,
    deliveries: Vec<ClaimedDelivery>,
}

/// One of the last few, which are mostly still valid; now and then any.
fn recent<T>(all: &[T], which: usize) -> Option<&T> {
    let span = if which.is_multiple_of(8) { all.len() } else { all.len().min(4) };
    all.iter().rev().nth((which / 8) % span.max(1))
}

impl History<'_> {
    async fn call(&mut self, call: Call) {
        let (store, now) = (self.world.store, at(self.now));
        match call {
            Call::Admit { runs, rejected } => self.admit(runs, rejected).await,
            Call::ClaimSteps { limit } => {
                self.steps.extend(store.claim_steps(limit, OPEN, now).await.unwrap());
            }
            Call::CommitStep { which, how, claim_next } => self.commit_step(which, how, claim_next).await,
            Call::ClaimDeliveries { endpoint, limit } => {
                let endpoint = ENDPOINTS[usize::from(endpoint)];
                self.deliveries.extend(store.claim_deliveries(endpoint, limit, OPEN, now).await.unwrap());
            }
            Call::ClaimInOrder { endpoint } => {
                let endpoint = ENDPOINTS[usize::from(endpoint)];
                self.deliveries.extend(store.claim_next_in_order(endpoint, OPEN, now).await.unwrap());
            }
            Call::GiveUp => drop(store.give_up_disabled(now).await.unwrap()),
            Call::CommitAttempt { which, how } => self.commit_attempt(which, how).await,
            Call::CancelRun { which } => {
                if let Some(run_id) = recent(&self.runs, which) {
                    store.cancel_run(*run_id, "by hand", now).await.unwrap();
                }
            }
            Call::CancelCycles => drop(store.cancel_cycles(RUN_PROFILE, "overlap", now).await.unwrap()),
            Call::Recover => drop(store.recover(Value::Null, now).await.unwrap()),
            Call::Expire => drop(store.expire_runs(now).await.unwrap()),
            Call::Redrive { endpoint } => {
                let endpoint = endpoint.map(|endpoint| ENDPOINTS[usize::from(endpoint)].to_owned());
                self.world.redrive(RedriveFilter { endpoint, ..RedriveFilter::default() }, now).await;
            }
            Call::Pass { seconds } => self.now += seconds,
        }
    }

    async fn admit(&mut self, runs: u32, rejected: bool) {
        let (store, now) = (self.world.store, at(self.now));
        self.cycles += 1;
        store.fire(cycle(self.cycles), now).await.unwrap();
        let claimed = self.world.claim_cycle(now).await;
        let label = self.cycles.to_string();
        let taken =
            store.take_initiation(claimed.claim, choice(&claimed, &[&label], rule()), now).await.unwrap();
        assert!(matches!(taken, Taken::Initiation(_)));
        let mut runs: Vec<_> = (0..runs).map(|number| run(&claimed, number, now)).collect();
        runs[0].rejected = rejected.then(|| "no such key".to_owned());
        self.runs.extend(runs.iter().map(|run| run.run_id));
        assert!(store.admit(claimed.claim, runs, now).await.unwrap());
    }

    async fn commit_step(&mut self, which: usize, how: u8, claim_next: bool) {
        let Some(step) = recent(&self.steps, which).cloned() else { return };
        let now = at(self.now);
        let mut end = match (how, step.step) {
            (0, _) => failed(step.step, AfterFailure::GiveUp),
            (1, _) => failed(step.step, AfterFailure::Retry { until: at(self.now + 5) }),
            (2, _) => commit(RunEvent::StepInterrupted { step: step.step, cause: Interruption::Halt }),
            (3, _) => commit(RunEvent::DeadlinePassed { step: step.step }),
            (4, _) => done(&step, &[]),
            (5..=7, _) => done(&step, &ENDPOINTS[..1]),
            (8..=10, _) | (_, Step::Tier3 | Step::Normalize) => done(&step, &ENDPOINTS),
            (_, Step::Tier1) => succeeded(Step::Tier1, Step::Tier2),
            (_, Step::Tier2) => succeeded(Step::Tier2, Step::Tier3),
        };
        end.claim_next = claim_next;
        let answer = self.world.store.commit_step(step.claim, end, now).await.unwrap();
        if let StepCommitted::Done { next: Some(next), .. } = answer {
            self.steps.push(*next);
        }
    }

    async fn commit_attempt(&mut self, which: usize, how: u8) {
        let Some(claimed) = recent(&self.deliveries, which) else { return };
        let now = at(self.now);
        let commit = match how {
            0 => answer("refused", dead()),
            1 => answer("unavailable", Settle::Retry { until: at(self.now + 5) }),
            3 => answer("refused", Settle::Retry { until: at(self.now + 5) }),
            4 => answer("interrupted", Settle::Retry { until: now }),
            2 => {
                let mut gone = answer("gone", dead());
                gone.disable_endpoint = Some("status 410".to_owned());
                gone
            }
            _ => answer("accepted", Settle::Accepted),
        };
        self.world.store.commit_attempt(claimed.claim, commit, now).await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_rows_are_what_the_log_says(calls in calls()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = SqliteStore::in_memory(&namespace()).unwrap();
            let mut history = History {
                world: World::new(&store), now: 0, cycles: 0, runs: vec![], steps: vec![], deliveries: vec![],
            };
            for call in calls {
                history.call(call).await;
            }
            log_is_whole(&store).await;
        });
    }
}
