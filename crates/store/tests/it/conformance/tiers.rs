//! Steps are claimed, done and committed; deadlines and operators end runs.

use std::sync::Arc;

use orbit_core::id;
use orbit_core::run::{AfterFailure, Interruption, RunEvent, RunState, Step};
use orbit_store::StoreError;
use orbit_store::contract::OpenDoors;
use orbit_store::contract::tiers::{Free, StepCommitted};
use serde_json::json;
use uuid::Uuid;

use super::world::{DEADLINE, OPEN, World, artifact, at, commit, cycle_id, done, failed, run, succeeded};

pub(crate) async fn a_run_goes_through_its_steps(world: &World<'_>) {
    let run_id = world.admitted(1, 1, at(0)).await[0];
    let one = world.claim_step(at(1)).await;
    assert_eq!((one.claim.id, one.cycle_id, one.step), (run_id, cycle_id(1), Step::Tier1));
    assert_eq!((one.attempt, one.failed, &one.input), (1, 0, &None));
    assert_eq!((&one.request["number"], one.deadline_at), (&json!(0), at(DEADLINE)));
    assert!(world.store.claim_steps(Free::of(5, OPEN), at(1)).await.unwrap().is_empty());
    let mut first = succeeded(Step::Tier1, Step::Tier2);
    first.claim_next = Some(Arc::clone(&one.request));
    let StepCommitted::Done { state, next: Some(two), .. } =
        world.store.commit_step(one.claim, first, at(2)).await.unwrap()
    else {
        panic!("the next step can start")
    };
    assert_eq!(state.name(), "working");
    assert_eq!((two.step, two.attempt, &two.input), (Step::Tier2, 1, &Some(artifact("tier1"))));
    assert_ne!(two.claim.token, one.claim.token);
    world.commit(&two, succeeded(Step::Tier2, Step::Tier3), at(3)).await;
    let three = world.claim_step(at(4)).await;
    assert_eq!(three.input, Some(artifact("tier2")));
    let state = world.commit(&three, done(&three, &["archive", "mirror"]), at(5)).await;
    assert_eq!(state, RunState::Dispatching { open: 2, accepted: 0, lost: 0 });
    let expected = [
        "run_admitted",
        "step_started",
        "step_succeeded",
        "step_started",
        "step_succeeded",
        "step_started",
        "step_succeeded",
        "delivery_created",
        "delivery_created",
    ];
    assert_eq!(world.story(run_id).await, expected);
    let records = world.log_of("step_succeeded").await;
    let body = &records[0].body;
    assert_eq!((&body["digest"], &body["bytes"]), (&json!(artifact("tier1").digest), &json!(5)));
    assert_eq!((&body["usage"], &body["attempt"]), (&json!({ "cpu_ms": 7 }), &json!(1)));
    assert_eq!(body["idempotency_key"], json!(id::step_key(run_id, Step::Tier1)));
}

pub(crate) async fn claims_follow_priority_and_doors(world: &World<'_>) {
    world.fire(1, at(0)).await;
    let cycle = world.claim_cycle(at(0)).await;
    let mut runs: Vec<_> = (0..4).map(|number| run(&cycle, number, at(0))).collect();
    runs[2].priority = 0.9;
    let ids: Vec<_> = runs.iter().map(|run| run.run_id).collect();
    world.store.admit(cycle.claim, runs, at(0)).await.unwrap();
    let claim = async |limit, doors, second| -> Vec<Uuid> {
        let steps = world.store.claim_steps(Free::of(limit, doors), at(second)).await.unwrap();
        let interrupted = |step: &orbit_store::contract::tiers::ClaimedStep| {
            commit(RunEvent::StepInterrupted { step: step.step, cause: Interruption::Stop })
        };
        for step in &steps {
            world.commit(step, interrupted(step), at(second)).await;
        }
        steps.iter().map(|step| step.claim.id).collect()
    };
    let (first, retry) = (OpenDoors { first: true, retry: false }, OpenDoors { first: false, retry: true });
    assert!(claim(9, OpenDoors { first: false, retry: false }, 1).await.is_empty());
    assert!(claim(9, retry, 1).await.is_empty());
    assert!(claim(0, OPEN, 1).await.is_empty());
    assert_eq!(claim(2, first, 1).await, [ids[2], ids[0]]);
    assert_eq!(claim(9, retry, 2).await, [ids[2], ids[0]]);
    assert_eq!(claim(9, first, 3).await, [ids[1], ids[3]]);
    assert_eq!(claim(9, OPEN, 4).await, [ids[2], ids[0], ids[1], ids[3]]);
}

pub(crate) async fn a_failed_step_waits_and_gives_up(world: &World<'_>) {
    let run_id = world.admitted(1, 1, at(0)).await[0];
    assert_eq!(world.store.next_step_due().await.unwrap(), Some(at(DEADLINE)));
    let step = world.claim_step(at(1)).await;
    assert_eq!(world.store.next_step_due().await.unwrap(), None);
    let state = world.commit(&step, failed(Step::Tier1, AfterFailure::Retry { until: at(9) }), at(2)).await;
    assert_eq!(state.name(), "waiting");
    assert_eq!(world.store.next_step_due().await.unwrap(), Some(at(9)));
    assert!(world.store.claim_steps(Free::of(1, OPEN), at(8)).await.unwrap().is_empty());
    let doors = OpenDoors { first: true, retry: false };
    assert!(world.store.claim_steps(Free::of(1, doors), at(9)).await.unwrap().is_empty());
    let step = world.claim_step(at(9)).await;
    assert_eq!((step.attempt, step.failed), (2, 1));
    world.commit(&step, failed(Step::Tier1, AfterFailure::GiveUp), at(10)).await;
    let view = world.store.run(run_id).await.unwrap().unwrap();
    assert_eq!((view.outcome.as_deref(), view.reason.as_deref()), (Some("failed"), Some("exit 1")));
    assert_eq!(
        (view.finished_at, world.outcome_of_cycle(1).await.as_deref()),
        (Some(at(10)), Some("failed"))
    );
    let step = &view.steps[0];
    assert_eq!((&*step.state, step.attempts, step.failure.as_deref()), ("failed", 2, Some("exit 1")));
    assert_eq!((step.started_at, step.finished_at), (at(1), Some(at(10))));
    assert_eq!(world.store.next_step_due().await.unwrap(), None);
}

pub(crate) async fn a_stale_token_is_lost(world: &World<'_>) {
    world.admitted(1, 1, at(0)).await;
    let stale = world.claim_step(at(1)).await;
    let stop = || commit(RunEvent::StepInterrupted { step: Step::Tier1, cause: Interruption::Halt });
    world.commit(&stale, stop(), at(2)).await;
    let lost = async || {
        let before = world.log().await.len();
        let answer =
            world.store.commit_step(stale.claim, succeeded(Step::Tier1, Step::Tier2), at(3)).await.unwrap();
        assert_eq!(answer, StepCommitted::Lost);
        assert_eq!(world.log().await.len(), before);
    };
    lost().await;
    let held = world.claim_step(at(3)).await;
    lost().await;
    world.commit(&held, succeeded(Step::Tier1, Step::Tier2), at(4)).await;
    let mut unknown = held.claim;
    unknown.id = Uuid::from_u128(404);
    let answer = world.store.commit_step(unknown, stop(), at(5)).await.unwrap();
    assert_eq!(answer, StepCommitted::Lost);
}

pub(crate) async fn a_commit_that_contradicts_itself_is_refused(world: &World<'_>) {
    world.admitted(1, 1, at(0)).await;
    let step = world.claim_step(at(1)).await;
    let before = world.log().await.len();
    let check = async |commit| {
        let answer = world.store.commit_step(step.claim, commit, at(2)).await;
        assert!(matches!(answer, Err(StoreError::Corrupt { .. })), "{answer:?}");
        assert_eq!(world.log().await.len(), before);
    };
    let mut without_artifact = succeeded(Step::Tier1, Step::Tier2);
    without_artifact.artifact = None;
    check(without_artifact).await;
    let mut too_few = done(&step, &["archive", "mirror"]);
    too_few.deliveries.pop();
    check(too_few).await;
    check(failed(Step::Tier2, AfterFailure::GiveUp)).await;
    check(succeeded(Step::Tier2, Step::Tier3)).await;
    world.commit(&step, succeeded(Step::Tier1, Step::Tier2), at(3)).await;
}

pub(crate) async fn a_deadline_ends_what_waits(world: &World<'_>) {
    let runs = world.admitted(1, 3, at(0)).await;
    let working = world.claim_step(at(1)).await;
    let waiting = world.claim_step(at(1)).await;
    world.commit(&waiting, failed(Step::Tier1, AfterFailure::Retry { until: at(9) }), at(2)).await;
    assert_eq!(world.store.expire_runs(at(DEADLINE - 1)).await.unwrap(), 0);
    assert!(world.store.claim_steps(Free::of(9, OPEN), at(DEADLINE)).await.unwrap().is_empty());
    assert_eq!(world.store.expire_runs(at(DEADLINE)).await.unwrap(), 2);
    assert_eq!(world.store.expire_runs(at(DEADLINE)).await.unwrap(), 0);
    assert_eq!(world.state_of_run(working.claim.id).await.0, "working");
    let ended = runs.iter().find(|run| ![working.claim.id, waiting.claim.id].contains(run)).unwrap();
    for run_id in [*ended, waiting.claim.id] {
        let view = world.store.run(run_id).await.unwrap().unwrap();
        let reason = "the deadline passed before `tier1` was done";
        assert_eq!((view.outcome.as_deref(), view.reason.as_deref()), (Some("failed"), Some(reason)));
    }
    // Its worker ends the one that works; it was not given another step meanwhile.
    let mut late = succeeded(Step::Tier1, Step::Tier2);
    late.claim_next = Some(Arc::clone(&working.request));
    let answer = world.store.commit_step(working.claim, late, at(DEADLINE)).await.unwrap();
    assert!(matches!(answer, StepCommitted::Done { next: None, .. }), "{answer:?}");
    assert_eq!(world.store.expire_runs(at(DEADLINE)).await.unwrap(), 1);
    assert_eq!(world.outcome_of_cycle(1).await.as_deref(), Some("failed"));
}

pub(crate) async fn a_run_is_cancelled_once(world: &World<'_>) {
    let run_id = world.admitted(1, 1, at(0)).await[0];
    assert_eq!(world.store.cancel_run(Uuid::from_u128(404), "x", at(1)).await.unwrap(), None);
    let step = world.claim_step(at(1)).await;
    let before = world.store.cancel_run(run_id, "by hand", at(2)).await.unwrap().unwrap();
    assert_eq!(before.name(), "working");
    assert_eq!(world.store.cancel_run(run_id, "again", at(3)).await.unwrap(), None);
    let answer =
        world.store.commit_step(step.claim, succeeded(Step::Tier1, Step::Tier2), at(4)).await.unwrap();
    assert_eq!(answer, StepCommitted::Lost);
    let view = world.store.run(run_id).await.unwrap().unwrap();
    assert_eq!((view.outcome.as_deref(), view.reason.as_deref()), (Some("cancelled"), Some("by hand")));
    assert_eq!((&*view.steps[0].state, view.steps[0].finished_at), ("cancelled", Some(at(2))));
    assert_eq!(world.outcome_of_cycle(1).await.as_deref(), Some("cancelled"));
    assert_eq!(world.log_of("cancelled").await[0].body["attempt"], json!(1));
}
