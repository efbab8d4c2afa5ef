//! A node takes a store over: everything that was under way is known to be.

use orbit_core::limits::STEP_INTERRUPTIONS_MAX;
use orbit_core::run::Step;
use orbit_store::contract::Recovered;
use orbit_store::contract::dispatch::Settle;
use orbit_store::contract::tiers::StepCommitted;
use serde_json::json;

use super::world::{World, answer, at, cycle_id, succeeded};

pub(crate) async fn work_under_way_is_taken_over(world: &World<'_>) {
    let dispatching = world.dispatching(1, &["archive", "mirror"], at(0)).await;
    let sending = world.claim_delivery("archive", at(1)).await;
    let run_id = world.admitted(2, 1, at(1)).await[0];
    let working = world.claim_step(at(1)).await;
    world.fire(3, at(1)).await;
    world.claim_cycle(at(1)).await;
    let recovered = world.join(at(2)).await;
    let expected = Recovered { steps_interrupted: 1, attempts_unknown: 1, cycles_reclaimed: 1 };
    assert_eq!(recovered, expected);
    let last = world.log().await.pop().unwrap();
    assert_eq!((&*last.kind, &last.body["node"]), ("node_started", &json!("vps-1")));
    assert_eq!(last.body["recovered"], json!(expected));
    // The old claims are worth nothing.
    let answer_late = answer("accepted", Settle::Accepted);
    assert!(!world.store.commit_attempt(sending.claim, answer_late, at(3)).await.unwrap());
    let late =
        world.store.commit_step(working.claim, succeeded(Step::Tier1, Step::Tier2), at(3)).await.unwrap();
    assert_eq!(late, StepCommitted::Lost);
    // The work goes on, with the same keys.
    let again = world.claim_step(at(4)).await;
    assert_eq!((again.claim.id, again.attempt, again.failed), (run_id, 2, 0));
    assert!(again.claim.token > working.claim.token);
    let retried = world.claim_delivery("archive", at(4)).await;
    assert_eq!((retried.claim.id, retried.attempt), (sending.claim.id, 2));
    assert_eq!(world.claim_cycle(at(4)).await.claim.id, cycle_id(3));
    let receipts = world.store.delivery(sending.claim.id).await.unwrap().unwrap().receipts;
    assert_eq!((receipts.len(), &receipts[0].receipt["outcome"]), (1, &json!("unknown")));
    assert_eq!(world.state_of_delivery(dispatching, "mirror").await, "waiting");
}

pub(crate) async fn a_step_may_be_interrupted_so_often(world: &World<'_>) {
    let run_id = world.admitted(1, 1, at(0)).await[0];
    for crash in 0..=STEP_INTERRUPTIONS_MAX {
        assert_eq!(world.claim_step(at(1)).await.attempt, crash + 1);
        world.join(at(2)).await;
    }
    assert_eq!(world.state_of_run(run_id).await.1.as_deref(), Some("failed"));
    assert_eq!(world.outcome_of_cycle(1).await.as_deref(), Some("failed"));
}

pub(crate) async fn a_finished_world_recovers_nothing(world: &World<'_>) {
    let run_id = world.dispatching(1, &["archive"], at(0)).await;
    let sending = world.claim_delivery("archive", at(1)).await;
    world.store.cancel_run(run_id, "by hand", at(2)).await.unwrap();
    // The attempt under way still gets its one receipt, but what was cancelled stays so.
    let recovered = world.join(at(3)).await;
    assert_eq!(recovered.attempts_unknown, 1);
    assert_eq!(world.state_of_delivery(run_id, "archive").await, "cancelled");
    let view = world.store.delivery(sending.claim.id).await.unwrap().unwrap();
    assert_eq!((view.receipts.len(), &view.receipts[0].receipt["outcome"]), (1, &json!("unknown")));
    assert_eq!(world.join(at(4)).await, Recovered::default());
}
