//! Crashes are counted against processors, and too many in a row quarantine one.

use orbit_core::limits::PROCESSOR_CRASHES_MAX;
use orbit_core::run::{AfterFailure, Interruption, RunEvent, Step};
use orbit_store::contract::tiers::{ClaimedStep, Free};
use serde_json::json;

use super::world::{OPEN, World, at, commit, failed, settings, succeeded};

/// A step of tier 1 that was claimed when the engine died, this often; each in a run of its own.
async fn crash(world: &World<'_>, times: u32, first_number: u32) {
    for number in first_number..first_number + times {
        let run_id = world.admitted(number, 1, at(0)).await[0];
        world.claim_step(at(1)).await;
        world.join(at(2)).await;
        world.store.cancel_run(run_id, "enough", at(3)).await.unwrap();
    }
}

async fn next(world: &World<'_>, number: u32) -> ClaimedStep {
    world.admitted(number, 1, at(4)).await;
    world.claim_step(at(4)).await
}

pub(crate) async fn crashes_in_a_row_quarantine_a_processor(world: &World<'_>) {
    crash(world, PROCESSOR_CRASHES_MAX - 1, 1).await;
    assert!(world.store.quarantined().await.unwrap().is_empty());
    assert!(world.log_of("processor_quarantined").await.is_empty());
    crash(world, 1, 50).await;
    let quarantined = world.store.quarantined().await.unwrap();
    assert_eq!(quarantined.len(), 1);
    let first = &quarantined[0];
    assert_eq!(
        (&*first.processor, first.settings, first.crashes),
        ("first", settings("first"), PROCESSOR_CRASHES_MAX)
    );
    let record = world.log_of("processor_quarantined").await.remove(0);
    assert_eq!(record.body["processor"], "first");
    // Whoever claims is told, and fails the step.
    let step = next(world, 60).await;
    assert_eq!(step.quarantine.as_ref(), Some(first));
    world.commit(&step, failed(step.step, AfterFailure::GiveUp), at(5)).await;
    // Lifted, and counted anew.
    assert!(world.store.release_processor("second", at(6)).await.unwrap().is_empty());
    assert_eq!(world.store.release_processor("first", at(6)).await.unwrap(), quarantined);
    assert_eq!(world.log_of("processor_released").await.len(), 1);
    assert_eq!(next(world, 61).await.quarantine, None);
    world.join(at(7)).await;
    assert!(world.store.quarantined().await.unwrap().is_empty());
}

pub(crate) async fn a_step_that_is_done_takes_crashes_back(world: &World<'_>) {
    crash(world, PROCESSOR_CRASHES_MAX - 1, 1).await;
    let step = next(world, 50).await;
    world.commit(&step, succeeded(Step::Tier1, Step::Tier2), at(5)).await;
    let step = world.claim_step(at(5)).await;
    // A failure that the engine survives takes nothing back, and counts for nothing.
    world.commit(&step, failed(Step::Tier2, AfterFailure::GiveUp), at(5)).await;
    crash(world, PROCESSOR_CRASHES_MAX - 1, 60).await;
    assert!(world.store.quarantined().await.unwrap().is_empty());
    let step = next(world, 70).await;
    world.commit(&step, failed(Step::Tier1, AfterFailure::GiveUp), at(5)).await;
    crash(world, 1, 80).await;
    assert_eq!(world.store.quarantined().await.unwrap().len(), 1);
}

pub(crate) async fn a_crash_counts_once_and_only_what_was_under_way(world: &World<'_>) {
    // Three steps of one processor under way: one crash. A halt or stop is none, a lost supervisor is one.
    world.admitted(1, 3, at(0)).await;
    assert_eq!(world.store.claim_steps(Free::of(3, OPEN), at(1)).await.unwrap().len(), 3);
    world.join(at(2)).await;
    let interrupted = world.log_of("step_interrupted").await;
    assert_eq!(interrupted.len(), 3);
    for record in &interrupted {
        assert_eq!(
            (&record.body["processor"], &record.body["crashes_in_a_row"]),
            (&json!("first"), &json!(1))
        );
    }
    for (cause, counted) in [
        (Interruption::Halt, json!(null)),
        (Interruption::Stop, json!(null)),
        (Interruption::Crash, json!(2)),
    ] {
        let step = world.claim_step(at(3)).await;
        let event = RunEvent::StepInterrupted { step: step.step, cause };
        world.commit(&step, commit(event), at(3)).await;
        let last = world.log_of("step_interrupted").await.pop().unwrap();
        assert_eq!(last.body["crashes_in_a_row"], counted, "{cause:?}");
    }
}
