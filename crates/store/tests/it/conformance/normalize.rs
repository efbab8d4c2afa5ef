//! Runs wait for a batch and are claimed together; work is found again.

use std::sync::Arc;

use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::normalize::BatchPlace;
use orbit_core::run::{AfterFailure, Interruption, RunEvent, RunState, Step};
use orbit_store::Store;
use orbit_store::contract::OpenDoors;
use orbit_store::contract::normalize::ClaimedBatch;
use orbit_store::contract::tiers::{ClaimedStep, Free, StepCommit, StepCommitted};
use serde_json::json;
use uuid::Uuid;

use super::world::{DEADLINE, OPEN, World, artifact, at, commit, done, failed, succeeded};

/// A batch of whichever processor has one.
pub(crate) async fn claim_batch(store: &dyn Store, doors: OpenDoors, now: Timestamp) -> Option<ClaimedBatch> {
    let ready = store.batches_ready(now).await.unwrap();
    let claimed = store.claim_batch(ready.first()?, doors, now).await.unwrap();
    assert_eq!(claimed.is_some(), doors.first, "who is said to be ready can be claimed");
    claimed
}

/// The place of a run in the group of this name, whose batches have two items.
pub(crate) fn place(group: &str, due: i64) -> BatchPlace {
    BatchPlace { key: Digest::of(group.as_bytes()), items_max: 2, due_at: at(due) }
}

/// The step before normalize has succeeded, and the run waits for a batch.
pub(crate) fn waits(step: Step, place: BatchPlace) -> StepCommit {
    StepCommit { batch: Some(place), claim_next: Some(Arc::default()), ..succeeded(step, Step::Normalize) }
}

/// A cycle whose runs wait for a batch; the runs.
async fn waiting(world: &World<'_>, number: u32, runs: u32, place: BatchPlace) -> Vec<Uuid> {
    let ids = world.admitted(number, runs, at(0)).await;
    for _ in &ids {
        let step = world.claim_step(at(0)).await;
        let answer = world.store.commit_step(step.claim, waits(Step::Tier1, place), at(0)).await.unwrap();
        // It was asked to go on at once, and waits nevertheless.
        let StepCommitted::Done { state: RunState::Ready { .. }, next: None, .. } = answer else {
            panic!("{answer:?}")
        };
    }
    assert!(world.store.claim_steps(Free::of(9, OPEN), at(0)).await.unwrap().is_empty());
    ids
}

async fn claimed(world: &World<'_>, now: i64) -> Vec<ClaimedStep> {
    claim_batch(world.store, OPEN, at(now)).await.map_or_else(Vec::new, |batch| batch.items)
}

pub(crate) async fn a_batch_starts_when_it_is_full_or_has_waited(world: &World<'_>) {
    let first = waiting(world, 1, 1, place("a", 30)).await[0];
    assert_eq!(world.store.next_batch_due().await.unwrap(), Some(at(30)));
    assert!(claimed(world, 29).await.is_empty());
    let more = waiting(world, 2, 2, place("a", 40)).await;
    let closed = OpenDoors { first: false, retry: true };
    assert_eq!(claim_batch(world.store, closed, at(29)).await, None);
    let batch = claim_batch(world.store, OPEN, at(29)).await.expect("it is full");
    let runs: Vec<_> = batch.items.iter().map(|item| item.claim.id).collect();
    assert_eq!(runs, [first, more[0]], "who has waited longest comes first");
    for item in &batch.items {
        assert_eq!((item.step, item.attempt, item.failed), (Step::Normalize, 1, 0));
        assert_eq!(item.input, Some(artifact("tier1")));
    }
    assert_ne!(batch.items[0].claim.token, batch.items[1].claim.token);
    for record in &world.log_of("step_started").await[3..] {
        assert_eq!(record.body["batch_id"], json!(batch.batch_id));
        assert_eq!(record.body["batch_items"], json!(2));
    }
    assert!(claimed(world, 39).await.is_empty(), "one alone waits");
    assert_eq!(world.store.next_batch_due().await.unwrap(), Some(at(40)));
    assert_eq!(claimed(world, 40).await.len(), 1);
    assert_eq!(world.store.next_batch_due().await.unwrap(), None);
    // Each is committed by itself.
    assert!(matches!(
        world.commit(&batch.items[0], done(&batch.items[0], &[]), at(41)).await,
        RunState::Finished { .. }
    ));
    assert_eq!(world.state_of_run(more[0]).await.0, "working");
}

pub(crate) async fn a_batch_holds_one_group(world: &World<'_>) {
    let a = waiting(world, 1, 1, place("a", 30)).await;
    let b = waiting(world, 2, 1, place("b", 20)).await;
    assert!(claimed(world, 19).await.is_empty());
    let runs: Vec<_> = claimed(world, 31).await.iter().map(|item| item.claim.id).collect();
    assert_eq!(runs, b, "the group that has waited longest");
    let runs: Vec<_> = claimed(world, 31).await.iter().map(|item| item.claim.id).collect();
    assert_eq!(runs, a);
}

pub(crate) async fn after_a_batch_a_step_is_alone(world: &World<'_>) {
    let runs = waiting(world, 1, 2, place("a", 30)).await;
    let batch = claimed(world, 1).await;
    let whole = commit(RunEvent::StepInterrupted { step: Step::Normalize, cause: Interruption::Batch });
    world.commit(&batch[0], whole.clone(), at(2)).await;
    world.commit(&batch[1], failed(Step::Normalize, AfterFailure::Retry { until: at(5) }), at(2)).await;
    assert_eq!(world.store.next_batch_due().await.unwrap(), None);
    assert!(claimed(world, 60).await.is_empty());
    let again = world.claim_step(at(3)).await;
    assert_eq!((again.claim.id, again.attempt, again.failed), (batch[0].claim.id, 2, 0));
    // A batch fails as a whole once at most.
    assert!(world.store.commit_step(again.claim, whole, at(4)).await.is_err());
    let other = world.claim_step(at(5)).await;
    assert_eq!((other.claim.id, other.attempt, other.failed), (batch[1].claim.id, 2, 1));
    assert!(runs.contains(&other.claim.id));
}

pub(crate) async fn who_waits_for_a_batch_can_be_ended(world: &World<'_>) {
    let runs = waiting(world, 1, 3, place("a", 30)).await;
    world.store.cancel_run(runs[0], "by hand", at(1)).await.unwrap();
    let batch = claimed(world, 1).await;
    let ids: Vec<_> = batch.iter().map(|item| item.claim.id).collect();
    assert_eq!(ids, runs[1..]);
    // A crash: both were under way, and go on alone.
    assert_eq!(world.join(at(2)).await.steps_interrupted, 2);
    assert!(claimed(world, 60).await.is_empty());
    assert_eq!(world.store.claim_steps(Free::of(9, OPEN), at(3)).await.unwrap().len(), 2);
    // One that waits when the engine dies still waits for its batch.
    let late = waiting(world, 2, 1, place("a", 90)).await[0];
    world.join(at(4)).await;
    assert_eq!(world.store.next_batch_due().await.unwrap(), Some(at(90)));
    assert!(claimed(world, DEADLINE).await.is_empty(), "it has passed its deadline");
    // The other two were interrupted by the second crash, and wait too.
    assert_eq!(world.store.expire_runs(at(DEADLINE)).await.unwrap(), 3);
    assert_eq!(world.state_of_run(late).await.1.as_deref(), Some("failed"));
    assert_eq!(world.store.next_batch_due().await.unwrap(), None);
}

pub(crate) async fn work_is_found_by_its_key(world: &World<'_>) {
    let key = Digest::of(b"work");
    assert_eq!(world.store.done_before(key).await.unwrap(), None);
    world.admitted(1, 2, at(0)).await;
    for second in [1, 2] {
        let step = world.claim_step(at(0)).await;
        let end = StepCommit { work: Some(key), ..done(&step, &[]) };
        world.commit(&step, end, at(second)).await;
        let found = world.store.done_before(key).await.unwrap().expect("it was done");
        let expected = (artifact("result"), step.claim.id, Step::Tier1, at(second));
        assert_eq!((found.artifact, found.run_id, found.step, found.made_at), expected);
    }
    assert_eq!(world.store.done_before(Digest::of(b"other")).await.unwrap(), None);
    let records = world.log_of("step_succeeded").await;
    assert_eq!(records[0].body["work"], json!(key));
    // What contradicts itself is refused.
    world.admitted(2, 1, at(0)).await;
    let step = world.claim_step(at(3)).await;
    let gave_up = failed(Step::Tier1, AfterFailure::GiveUp);
    for end in [
        StepCommit { work: Some(key), ..gave_up.clone() },
        StepCommit { batch: Some(place("a", 9)), ..gave_up },
        StepCommit { batch: Some(place("a", 9)), ..succeeded(Step::Tier1, Step::Tier2) },
    ] {
        assert!(world.store.commit_step(step.claim, end, at(4)).await.is_err());
    }
}
