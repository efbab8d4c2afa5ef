//! Several nodes at one store at once: what the isolation of transactions and the sequencer are for.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use orbit_core::record::{Kind, Record, Subject};
use orbit_core::run::{AfterFailure, Interruption, RunEvent, Step};
use orbit_store::contract::log::LogStore as _;
use orbit_store::contract::record::{RecordFilter, RecordStore as _};
use orbit_store::contract::selection::{Admitting, SelectionStore as _, Taken};
use orbit_store::contract::tiers::{ClaimedStep, Free, RunStore as _, StepCommitted};
use orbit_store::postgres::PostgresStore;
use serde_json::json;
use tokio_postgres::Client;

use super::cluster::{TestDatabase, connect, store};
use crate::conformance::world::{
    OPEN, World, at, choice, commit, failed, log_is_whole, namespace, rule, run,
};

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_mins(1);

/// Nodes of one store, each with connections of its own.
pub(super) async fn nodes<const N: usize>() -> ([Arc<PostgresStore>; N], TestDatabase) {
    let (first, database) = store().await;
    let mut nodes = vec![Arc::new(first)];
    while nodes.len() < N {
        nodes.push(Arc::new(PostgresStore::open(&database.runtime(), &namespace()).await.unwrap()));
    }
    (nodes.try_into().unwrap_or_else(|_| unreachable!()), database)
}

/// The same, each of which has joined.
async fn joined<const N: usize>() -> ([Arc<PostgresStore>; N], TestDatabase) {
    let (nodes, database) = nodes().await;
    for node in &nodes {
        World::new(&**node).join(at(0)).await;
    }
    (nodes, database)
}

/// Waits until the server counts so many.
async fn until(client: &Client, count: &str, is_expected: impl Fn(i64) -> bool) {
    let counted = async {
        while !is_expected(client.query_one(count, &[]).await.unwrap().get(0)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("the server counts so many in time");
}

fn record(writer: usize, number: usize) -> Record {
    let body = json!({ "writer": writer, "number": number }).as_object().unwrap().clone().into();
    Record::fact(at(0), Kind::NodeStarted, Subject::default(), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_the_log_in_order_and_without_gaps_while_many_write() {
    const WRITERS: usize = 6;
    const EACH: usize = 12;
    let (nodes, _database) = nodes::<3>().await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (node, done) = (Arc::clone(&nodes[0]), Arc::clone(&done));
        tokio::spawn(async move {
            let mut before = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let entries = node.page(0, u64::MAX).await.unwrap().entries;
                let positions: Vec<_> = entries.iter().map(|entry| entry.position).collect();
                assert_eq!(positions, (0..entries.len() as u64).collect::<Vec<_>>());
                assert!(entries.starts_with(&before), "what was read once stays what it was");
                before = entries;
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let node = Arc::clone(&nodes[writer % nodes.len()]);
            tokio::spawn(async move {
                for number in 0..EACH {
                    node.append(vec![record(writer, 2 * number), record(writer, 2 * number + 1)])
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    let records = nodes[1].records(RecordFilter::default(), u32::MAX).await.unwrap();
    assert_eq!(records.len(), WRITERS * EACH * 2);
    for writer in 0..WRITERS {
        let mine = records.iter().filter(|record| record.body["writer"] == writer);
        let numbers: Vec<_> = mine.map(|record| record.body["number"].as_u64().unwrap()).collect();
        assert_eq!(
            numbers,
            (0..EACH as u64 * 2).collect::<Vec<_>>(),
            "the records of one writer are in its order"
        );
    }
    log_is_whole(&*nodes[2]).await;
    // One tree: every node proves the same consistency of two sizes.
    let size = records.len() as u64;
    let proofs =
        [nodes[0].consistency(17, size).await.unwrap(), nodes[2].consistency(17, size).await.unwrap()];
    assert!(proofs[0].is_some() && proofs[0] == proofs[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_cycle_and_step_is_claimed_by_one_node() {
    const CYCLES: u32 = 6;
    let (nodes, _database) = joined::<3>().await;
    for number in 0..CYCLES {
        World::new(&*nodes[0]).fire(number, at(0)).await;
    }
    let claims = nodes.iter().map(|node| {
        let node = Arc::clone(node);
        tokio::spawn(async move {
            let mut claimed = Vec::new();
            while let Some(cycle) = node.claim_cycle(at(1)).await.unwrap() {
                claimed.push(cycle.claim);
            }
            claimed
        })
    });
    let mut all = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        all.extend(claim.await.unwrap());
    }
    let unique = |of: &mut Vec<_>| {
        of.sort_unstable();
        of.dedup();
        of.len()
    };
    assert_eq!(all.len(), CYCLES as usize);
    assert_eq!(unique(&mut all.iter().map(|claim| claim.id.as_u128()).collect()), CYCLES as usize);
    assert_eq!(
        unique(&mut all.iter().map(|claim| u128::from(claim.token.unsigned_abs())).collect()),
        CYCLES as usize
    );
}

#[tokio::test]
async fn what_a_node_remembers_of_a_run_is_what_stands_or_is_forgotten() {
    let (nodes, _database) = joined::<2>().await;
    let [here, there] = &nodes;
    let world = World::new(&**here);
    world.fire(1, at(0)).await;
    let cycle = world.claim_cycle(at(0)).await;
    let runs: Vec<_> = (0..3).map(|number| run(&cycle, number, at(0))).collect();
    let ids: Vec<_> = runs.iter().map(|run| run.run_id).collect();
    let (choice, admitting) = (choice(&cycle, &["a"], rule()), Admitting { runs, free: None });
    let taken = here.take_and_admit(cycle.claim, choice, admitting, at(0)).await.unwrap();
    assert_eq!(taken, Taken::Admitted { started: Vec::new() });
    let claim = async |node: &PostgresStore, now| {
        let mut claimed = node.claim_steps(Free::of(1, OPEN), now).await.unwrap();
        claimed.pop().expect("a run waits")
    };
    // Of the first one everything is remembered, the second time nothing.
    let before = here.traffic();
    let remembered = claim(here, at(1)).await;
    let once = before.until(here.traffic());
    let cut = commit(RunEvent::StepInterrupted { step: Step::Tier1, cause: Interruption::Stop });
    world.commit(&remembered, cut, at(1)).await;
    let before = here.traffic();
    let read = claim(here, at(1)).await;
    let again = before.until(here.traffic());
    assert_eq!(
        ClaimedStep { claim: read.claim, attempt: 1, ..remembered },
        ClaimedStep { attempt: 1, ..read }
    );
    assert!(once.statements < again.statements, "{once:?} {again:?}");
    // The second one fails elsewhere.
    let second = claim(there, at(1)).await;
    let retry = failed(Step::Tier1, AfterFailure::Retry { until: at(2) });
    World::new(&**there).commit(&second, retry, at(1)).await;
    let mut rest = here.claim_steps(Free::of(2, OPEN), at(2)).await.unwrap();
    rest.sort_by_key(|step| step.attempt);
    let told: Vec<_> = rest.iter().map(|step| (step.claim.id, step.attempt, step.failed)).collect();
    assert_eq!(told, [(ids[2], 1, 0), (second.claim.id, 2, 1)]);
    log_is_whole(&**here).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cycle_ends_once_when_its_runs_end_at_once() {
    const RUNS: u32 = 4;
    let (nodes, database) = joined::<2>().await;
    let world = World::new(&*nodes[0]);
    world.admitted(1, RUNS, at(0)).await;
    let steps = nodes[0].claim_steps(Free::of(RUNS, OPEN), at(1)).await.unwrap();
    assert_eq!(steps.len(), RUNS as usize);
    // Records are the last thing that a transaction writes: the first of one node waits there, and of the other one for the namespace.
    let owner = connect(&database.owner()).await;
    owner.batch_execute("BEGIN; LOCK log_pending").await.unwrap();
    let commits = steps.into_iter().enumerate().map(|(number, step)| {
        let node = Arc::clone(&nodes[number % nodes.len()]);
        tokio::spawn(async move {
            let given_up = failed(Step::Tier1, AfterFailure::GiveUp);
            let answer = node.commit_step(step.claim, given_up.clone(), at(2)).await.unwrap();
            assert!(matches!(answer, StepCommitted::Done { .. }), "{answer:?}");
            // A commit that is made again, as after a lost answer, finds its claim used up.
            let again = node.commit_step(step.claim, commit(given_up.event), at(2)).await.unwrap();
            assert_eq!(again, StepCommitted::Lost);
        })
    });
    let commits = commits.collect::<Vec<_>>();
    // Another session, because one sees the others as they were when its transaction first looked.
    let watcher = connect(&database.owner()).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until(&watcher, waiting, |count| count >= 2).await;
    owner.batch_execute("COMMIT").await.unwrap();
    for commit in commits {
        commit.await.unwrap();
    }
    assert_eq!(world.outcome_of_cycle(1).await.as_deref(), Some("failed"));
    assert_eq!(world.log_of("cycle_finished").await.len(), 1);
    log_is_whole(&*nodes[0]).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_halfway_leaves_nothing_open() {
    let (store, database) = store().await;
    for polls in 0..40 {
        let mut call = pin!(store.append(vec![record(0, polls), record(1, polls)]));
        for _ in 0..polls {
            let mut context = Context::from_waker(Waker::noop());
            if call.as_mut().poll(&mut context).is_ready() {
                break;
            }
            // The connection's task goes on, and what has come from the server is taken in.
            tokio::task::yield_now().await;
        }
    }
    let records = store.records(RecordFilter::default(), u32::MAX).await.unwrap();
    for pair in records.chunks(2) {
        assert_eq!(pair[0].body["number"], pair[1].body["number"], "both records of a call, or none");
    }
    // What was thrown away ends by itself.
    let owner = connect(&database.owner()).await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    until(&owner, open, |count| count == 0).await;
    store.append(vec![record(2, 0)]).await.unwrap();
    log_is_whole(&store).await;
}
