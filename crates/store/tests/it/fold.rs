//! Rows are a cache of the log: whatever happens to runs, the fold of their events gives the state that their rows have.

use std::collections::BTreeMap;

use orbit_core::digest::Digest;
use orbit_core::dispatch::breaker::{Answer, Breaker, Health, HealthEvent};
use orbit_core::normalize::BatchPlace;
use orbit_core::run::fold::{Folded, Told};
use orbit_core::run::{Ending, Outcome, RunState};
use orbit_store::Store;
use orbit_store::contract::quarantine::Quarantine;
use orbit_store::contract::record::StoredRecord;
use orbit_store::contract::view::{DeliveryView, EndpointView, RunView};
use orbit_store::sqlite::SqliteStore;
use proptest::prelude::*;
use serde_json::Value;

use crate::conformance::world::{log_is_whole, namespace};
use crate::history::{History, calls};

/// Folds every run's events and compares; then the deliveries, steps and cycles that follow from them.
pub(crate) async fn rows_are_what_the_log_says(store: &dyn Store, records: &[StoredRecord]) {
    let mut states = BTreeMap::new();
    let mut outcomes = BTreeMap::new();
    let (mut attempts, mut receipts) = (0, 0);
    let mut waiting = BTreeMap::new();
    for record in records {
        match record.kind.as_str() {
            "run_admitted" => {
                drop(states.insert(record.run_id.unwrap(), Folded::admit(&record.body).unwrap()));
            }
            "cycle_finished" => {
                drop(outcomes.insert(record.cycle_id.unwrap(), record.body["outcome"].clone()));
            }
            "attempt_started" => attempts += 1,
            "receipt_captured" => receipts += 1,
            _ => {}
        }
        if record.body.get("event").is_some() {
            let run = states.get_mut(&record.run_id.unwrap()).expect("admitted before anything else");
            let told = Told::read(&record.kind, &record.body).unwrap();
            assert!(run.apply(&record.kind, told).unwrap().is_some());
            // Who waits for a batch is told by the last event alone.
            waiting.remove(&record.run_id);
            if let Some(place) = record.body.get("batch_place") {
                let place: BatchPlace = serde_json::from_value(place.clone()).unwrap();
                waiting.insert(record.run_id, place.due_at);
            }
        }
    }
    assert_eq!(store.next_batch_due().await.unwrap(), waiting.values().min().copied());
    let mut under_way = 0;
    let states: BTreeMap<_, _> = states.into_iter().map(|(run_id, run)| (run_id, run.state)).collect();
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
    assert_eq!(quarantined(records), store.quarantined().await.unwrap());
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

/// Each record of a crash says the new count; a step that is done and a release take it back.
fn quarantined(records: &[StoredRecord]) -> Vec<Quarantine> {
    let mut requests = BTreeMap::new();
    let mut since = BTreeMap::<(String, Digest), Quarantine>::new();
    for StoredRecord { kind, body, run_id, at, .. } in records {
        let named = |of: &Value, name: &str| {
            let settings = serde_json::from_value(of["settings"].clone());
            Some((of[name].as_str()?.to_owned(), settings.unwrap()))
        };
        match kind.as_str() {
            "run_admitted" => drop(requests.insert(run_id.unwrap(), body["request"]["steps"].clone())),
            "step_succeeded" => {
                let steps = requests[&run_id.unwrap()].as_array();
                let step = steps.and_then(|steps| steps.iter().find(|step| step["step"] == body["step"]));
                if let Some(key) = step.and_then(|step| named(&step["processor"], "name")) {
                    since.remove(&key);
                }
            }
            "processor_quarantined" => {
                let (processor, settings) = named(body, "processor").unwrap();
                let crashes = serde_json::from_value(body["crashes_in_a_row"].clone()).unwrap();
                let quarantine = Quarantine { processor: processor.clone(), settings, crashes, since: *at };
                since.insert((processor, settings), quarantine);
            }
            "step_interrupted" => {
                // One that was claimed before the quarantine and interrupted after it.
                if let Some(one) = named(body, "processor").and_then(|key| since.get_mut(&key)) {
                    one.crashes = serde_json::from_value(body["crashes_in_a_row"].clone()).unwrap();
                }
            }
            "processor_released" => drop(since.remove(&named(body, "processor").unwrap())),
            _ => {}
        }
    }
    since.into_values().collect()
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_rows_are_what_the_log_says(calls in calls()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = SqliteStore::in_memory(&namespace()).unwrap();
            let mut history = History::default();
            for call in calls {
                history.call(&store, call).await;
            }
            log_is_whole(&store).await;
        });
    }
}
