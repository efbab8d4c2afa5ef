//! Those that wait to change a namespace become one transaction of the server: what they share, and what they do not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Record, Subject};
use orbit_core::run::{AfterFailure, Step};
use orbit_store::StoreError;
use orbit_store::contract::Artifact;
use orbit_store::contract::payload::PayloadStore as _;
use orbit_store::contract::record::{RecordFilter, RecordStore as _};
use orbit_store::contract::schedule::ScheduleStore as _;
use orbit_store::contract::tiers::{ClaimedStep, Free, RunStore as _, StepCommit, StepCommitted};
use orbit_store::postgres::PostgresStore;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::cluster::{TestDatabase, connect, store};
use crate::conformance::world::{
    OPEN, World, artifact, at, cycle, failed, log_is_whole, namespace, succeeded,
};

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_mins(1);
/// The key of whoever changes something in a namespace.
const KEY: &str = "x'6f7277'::int, hashtext('studio')";

/// Somebody else who changes the namespace for as long as a test likes.
struct Other(Client);

impl Other {
    async fn has_the_namespace(database: &TestDatabase) -> Self {
        assert_eq!(namespace().as_str(), "studio");
        let client = connect(&database.owner()).await;
        client.batch_execute(&format!("SELECT pg_advisory_lock({KEY})")).await.unwrap();
        Self(client)
    }

    /// Waits until somebody waits for it.
    async fn is_waited_for(&self) -> i32 {
        let sql =
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
        let waited = async {
            loop {
                if let Some(row) = self.0.query_opt(sql, &[]).await.unwrap() {
                    return row.get::<_, i32>(0);
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.expect("somebody waits for the namespace")
    }

    async fn gives_it_back(&self) {
        self.0.batch_execute(&format!("SELECT pg_advisory_unlock({KEY})")).await.unwrap();
    }
}

/// So many runs of one cycle whose first steps are under way.
async fn at_work(runs: u32) -> (Arc<PostgresStore>, TestDatabase, Vec<ClaimedStep>) {
    let (store, database) = store().await;
    let world = World::new(&store);
    world.join(at(0)).await;
    world.admitted(1, runs, at(0)).await;
    let steps = store.claim_steps(Free::of(runs, OPEN), at(1)).await.unwrap();
    (Arc::new(store), database, steps)
}

fn append(store: &Arc<PostgresStore>, number: usize) -> JoinHandle<Result<(), StoreError>> {
    let store = Arc::clone(store);
    let body = json!({ "number": number }).as_object().unwrap().clone().into();
    let record = Record::fact(at(0), Kind::NodeStarted, Subject::default(), body);
    tokio::spawn(async move { store.append(vec![record]).await })
}

async fn numbers(store: &PostgresStore) -> Vec<u64> {
    let records = store.records(RecordFilter::default(), u32::MAX).await.unwrap();
    let mut numbers: Vec<_> = records.iter().filter_map(|record| record.body["number"].as_u64()).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn who_waits_goes_on_in_one_transaction_and_is_durable_with_one_flush() {
    const MANY: usize = 9;
    let (store, database) = store().await;
    let store = Arc::new(store);
    let other = Other::has_the_namespace(&database).await;
    let before = store.traffic();
    let first = append(&store, 0);
    other.is_waited_for().await;
    // They wait for the one whose turn it is, and come after its beginning: one further transaction of the server takes all of them.
    let more: Vec<_> = (1..MANY).map(|number| append(&store, number)).collect();
    tokio::task::yield_now().await;
    other.gives_it_back().await;
    for one in std::iter::once(first).chain(more) {
        one.await.unwrap().unwrap();
    }
    let traffic = before.until(store.traffic());
    assert_eq!((traffic.transactions, traffic.again), (MANY as u64, 0));
    assert!(traffic.flushes < MANY as u64 / 2, "{traffic:?}");
    assert_eq!(numbers(&store).await, (0..MANY as u64).collect::<Vec<_>>());
    log_is_whole(&*store).await;
}

#[tokio::test]
async fn one_that_fails_is_refused_alone() {
    const RUNS: u32 = 4;
    let (store, database, steps) = at_work(RUNS).await;
    let world = World::new(&*store);
    let other = Other::has_the_namespace(&database).await;
    let first = append(&store, 0);
    other.is_waited_for().await;
    let ends: Vec<_> = steps
        .into_iter()
        .enumerate()
        .map(|(number, step)| {
            let mut end = failed(Step::Tier1, AfterFailure::GiveUp);
            if number == 2 {
                // A step that failed has no artifact.
                end.artifact = Some(artifact("none"));
            }
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit_step(step.claim, end, at(2)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    other.gives_it_back().await;
    first.await.unwrap().unwrap();
    for (number, end) in ends.into_iter().enumerate() {
        let answer = end.await.unwrap();
        match number {
            2 => assert!(matches!(answer, Err(StoreError::Corrupt { .. })), "{answer:?}"),
            _ => assert!(answer.is_ok(), "{answer:?}"),
        }
    }
    assert_eq!(world.log_of("step_failed").await.len(), 3);
    log_is_whole(&*store).await;
}

#[tokio::test]
async fn who_has_lost_its_claim_learns_it_and_the_others_are_done_again() {
    const RUNS: u32 = 5;
    let (store, database, steps) = at_work(RUNS).await;
    let world = World::new(&*store);
    let is_cancelled = |number| matches!(number, 2 | 3);
    for (number, step) in steps.iter().enumerate() {
        if is_cancelled(number) {
            store.cancel_run(step.claim.id, "no longer wanted", at(1)).await.unwrap();
        }
    }
    let before = store.traffic();
    let other = Other::has_the_namespace(&database).await;
    let first = append(&store, 0);
    other.is_waited_for().await;
    // Two with the next step, of which one is lost, and three without, of which one is.
    let end = |number: usize, step: ClaimedStep| {
        let end = match number {
            0 | 2 => {
                let claim_next = Some(Arc::clone(&step.request));
                StepCommit { claim_next, ..succeeded(Step::Tier1, Step::Tier2) }
            }
            _ => failed(Step::Tier1, AfterFailure::GiveUp),
        };
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.commit_step(step.claim, end, at(2)).await.unwrap() })
    };
    let ends: Vec<_> = steps.into_iter().enumerate().map(|(number, step)| end(number, step)).collect();
    tokio::task::yield_now().await;
    other.gives_it_back().await;
    first.await.unwrap().unwrap();
    for (number, end) in ends.into_iter().enumerate() {
        let answer = end.await.unwrap();
        match answer {
            StepCommitted::Lost => assert!(is_cancelled(number), "{number}"),
            StepCommitted::Done { next, .. } => {
                assert_eq!((is_cancelled(number), next.is_some()), (false, number == 0), "{number}");
            }
        }
    }
    assert!(before.until(store.traffic()).again > 0);
    let told = (world.log_of("step_succeeded").await.len(), world.log_of("step_failed").await.len());
    assert_eq!(told, (1, 2));
    log_is_whole(&*store).await;
}

#[tokio::test]
async fn who_fires_what_was_fired_learns_it_and_the_others_are_done_again() {
    let (store, database) = store().await;
    let store = Arc::new(store);
    let world = World::new(&*store);
    assert!(world.fire(2, at(0)).await);
    let before = store.traffic();
    let other = Other::has_the_namespace(&database).await;
    let first = append(&store, 0);
    other.is_waited_for().await;
    let fires: Vec<_> = (1..=4)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.fire(cycle(number), at(1)).await.unwrap() })
        })
        .collect();
    tokio::task::yield_now().await;
    other.gives_it_back().await;
    first.await.unwrap().unwrap();
    for (number, fire) in (1..).zip(fires) {
        assert_eq!(fire.await.unwrap(), number != 2, "{number}");
    }
    assert!(before.until(store.traffic()).again > 0);
    assert_eq!(world.log_of("cycle_fired").await.len(), 4);
    // From then on it is asked, so that a key that is used again and again costs nobody else anything.
    let before = store.traffic();
    assert!(!world.fire(3, at(2)).await && world.fire(5, at(2)).await);
    assert_eq!(before.until(store.traffic()).again, 0);
    log_is_whole(&*store).await;
}

#[tokio::test]
async fn payloads_go_ahead_while_the_turn_is_waited_for_and_are_demanded() {
    // Of a run that does not go on at once, and of one that does.
    for thrown_away in [3, 4] {
        payloads_go_ahead(thrown_away).await;
    }
}

/// Somebody throws that run's payload away before it is named.
async fn payloads_go_ahead(thrown_away: usize) {
    const RUNS: u32 = 6;
    /// Of each run: the first has the turn, so that the others wait; two have the same, and the last is so short that it does not go ahead.
    const CONTENTS: [(u8, usize); 6] = [(0, 9000), (1, 4096), (1, 4096), (2, 16384), (3, 4096), (4, 100)];
    let (store, database, steps) = at_work(RUNS).await;
    let other = Other::has_the_namespace(&database).await;
    let first = append(&store, 0);
    other.is_waited_for().await;
    let before = store.traffic();
    let mut digests = Vec::new();
    let ends: Vec<_> = steps
        .into_iter()
        .zip(CONTENTS)
        .enumerate()
        .map(|(number, (step, (byte, length)))| {
            let content = vec![byte; length];
            let digest = Digest::of(&content);
            digests.push(digest);
            let made = Artifact { digest, bytes: length as u64, media_type: "text/plain".to_owned() };
            // Every other one goes on with the next step.
            let claim_next = number.is_multiple_of(2).then(|| Arc::clone(&step.request));
            let end = succeeded(Step::Tier1, Step::Tier2);
            let end = StepCommit { artifact: Some(made), content: Some(content.into()), claim_next, ..end };
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit_step(step.claim, end, at(2)).await.unwrap() })
        })
        .collect();
    let owner = connect(&database.owner()).await;
    owner.batch_execute("SET orbit.namespace = 'studio'").await.unwrap();
    let there = async || {
        let rows = owner.query("SELECT digest FROM payloads", &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<BTreeSet<_>>()
    };
    let long: BTreeSet<_> = digests[1..5].iter().map(Digest::to_string).collect();
    let all_are_there = async {
        while there().await != long {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all_are_there).await.expect("they go ahead");
    let sql = "UPDATE payloads SET dropped_at = 1, content = NULL WHERE digest = $1";
    assert_eq!(owner.execute(sql, &[&digests[thrown_away].to_string()]).await.unwrap(), 1);
    other.gives_it_back().await;
    first.await.unwrap().unwrap();
    for end in ends {
        assert!(matches!(end.await.unwrap(), StepCommitted::Done { .. }));
    }
    for (digest, (byte, length)) in digests.into_iter().zip(CONTENTS) {
        let store = Arc::clone(&store);
        let found =
            tokio::task::spawn_blocking(move || store.payload(digest)).await.unwrap().unwrap().unwrap();
        assert_eq!((found.content.as_deref(), found.dropped_at), (Some(&*vec![byte; length]), None));
    }
    assert!(before.until(store.traffic()).again > 0);
    log_is_whole(&*store).await;
}

#[tokio::test]
async fn who_is_dropped_takes_nobody_along() {
    let (store, database) = store().await;
    let store = Arc::new(store);
    let other = Other::has_the_namespace(&database).await;
    let first = append(&store, 0);
    other.is_waited_for().await;
    let more: Vec<_> = (1..5).map(|number| append(&store, number)).collect();
    tokio::task::yield_now().await;
    // The one that has the turn, and one that waits for it.
    first.abort();
    more[1].abort();
    other.gives_it_back().await;
    for (number, one) in more.into_iter().enumerate() {
        match one.await {
            Ok(answer) => answer.unwrap(),
            Err(error) => assert!(error.is_cancelled() && number == 1),
        }
    }
    let found = numbers(&store).await;
    assert!([1, 3, 4].iter().all(|number| found.contains(number)), "{found:?}");
    log_is_whole(&*store).await;
}

#[tokio::test]
async fn a_connection_that_is_lost_before_commit_costs_nobody_anything() {
    let (store, database) = store().await;
    let store = Arc::new(store);
    let other = Other::has_the_namespace(&database).await;
    let first = append(&store, 0);
    let waiting = other.is_waited_for().await;
    let more: Vec<_> = (1..5).map(|number| append(&store, number)).collect();
    tokio::task::yield_now().await;
    other.0.execute("SELECT pg_terminate_backend($1)", &[&waiting]).await.unwrap();
    other.gives_it_back().await;
    for one in std::iter::once(first).chain(more) {
        one.await.unwrap().unwrap();
    }
    assert_eq!(numbers(&store).await, [0, 1, 2, 3, 4]);
    log_is_whole(&*store).await;
}
