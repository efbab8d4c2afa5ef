//! Deliveries: attempts are recorded before they are made, and each has one receipt.

use orbit_core::id::delivery_id;
use orbit_store::contract::dispatch::{FreeAttempts, RedriveFilter, Settle};
use orbit_store::contract::tiers::{StepCommit, StepCommitted};
use orbit_store::contract::{Evidence, OpenDoors};
use serde_json::json;
use uuid::Uuid;

use super::world::{OPEN, World, answer, artifact, at, cycle_id, dead, delivery, done, snapshot};

pub(crate) async fn a_delivery_is_accepted(world: &World<'_>) {
    assert_eq!(world.next_delivery_due().await, None);
    let run_id = world.dispatching(1, &["archive"], at(0)).await;
    assert_eq!(world.next_delivery_due().await, Some(at(0)));
    assert_eq!(world.due_endpoints(at(0)).await, ["archive"]);
    assert!(world.store.claim_deliveries("mirror", 9, OPEN, at(1)).await.unwrap().is_empty());
    let claimed = world.claim_delivery("archive", at(1)).await;
    let new = delivery(run_id, "archive");
    assert_eq!((claimed.claim.id, &claimed.url, claimed.run_id), (new.delivery_id, &new.url, run_id));
    assert_eq!(
        (claimed.cycle_id, claimed.snapshot, &claimed.artifact),
        (cycle_id(1), snapshot(), &artifact("result"))
    );
    assert_eq!((claimed.attempt, claimed.attempt_in_round), (1, 1));
    assert_eq!(claimed.request["number"], 0);
    assert_eq!(world.log_of("attempt_started").await[0].body["idempotency_key"], json!(new.delivery_id));
    assert!(world.store.claim_deliveries("archive", 9, OPEN, at(1)).await.unwrap().is_empty());
    assert_eq!(world.next_delivery_due().await, None);
    let mut commit = answer("accepted", Settle::Accepted);
    commit.evidence = Some(Evidence { salt: [3; 16], value: json!({ "text": "ok" }) });
    assert!(world.store.commit_attempt(claimed.claim, commit.clone(), at(2)).await.unwrap());
    assert!(!world.store.commit_attempt(claimed.claim, commit, at(3)).await.unwrap());
    assert_eq!(world.state_of_run(run_id).await, ("finished".to_owned(), Some("succeeded".to_owned())));
    assert_eq!(world.outcome_of_cycle(1).await.as_deref(), Some("succeeded"));
    let story = world.story(run_id).await;
    let expected = ["attempt_started", "receipt_captured", "receipt_body", "delivery_settled"];
    assert_eq!(story[story.len() - 4..], expected);
    let view = world.store.delivery(new.delivery_id).await.unwrap().unwrap();
    assert_eq!((&*view.state, view.settled_at, view.due_at), ("accepted", Some(at(2)), None));
    let receipt = &view.receipts[0];
    assert_eq!((receipt.attempt, receipt.started_at, receipt.at), (1, at(1), at(2)));
    assert_eq!(receipt.receipt, json!({ "outcome": "accepted" }));
}

pub(crate) async fn a_retry_waits_and_keeps_its_key(world: &World<'_>) {
    let run_id = world.dispatching(1, &["archive"], at(0)).await;
    let again = || answer("unavailable", Settle::Retry { until: at(60) });
    let first = world.attempt("archive", again(), at(1)).await;
    assert_eq!(world.next_delivery_due().await, Some(at(60)));
    assert!(world.due_endpoints(at(59)).await.is_empty());
    assert!(world.store.claim_deliveries("archive", 1, OPEN, at(59)).await.unwrap().is_empty());
    let doors = OpenDoors { first: true, retry: false };
    assert!(world.store.claim_deliveries("archive", 1, doors, at(60)).await.unwrap().is_empty());
    let second = world.claim_delivery("archive", at(60)).await;
    assert_eq!((second.claim.id, second.attempt, second.attempt_in_round), (first.claim.id, 2, 2));
    assert_ne!(second.claim.token, first.claim.token);
    assert!(!world.store.commit_attempt(first.claim, again(), at(61)).await.unwrap());
    assert!(
        world.store.commit_attempt(second.claim, answer("accepted", Settle::Accepted), at(62)).await.unwrap()
    );
    let view = world.store.delivery(delivery_id(run_id, "archive")).await.unwrap().unwrap();
    assert_eq!((view.attempts, view.receipts.len()), (2, 2));
}

pub(crate) async fn a_dead_letter_is_redriven_to_success(world: &World<'_>) {
    let run_id = world.dispatching(1, &["archive", "mirror"], at(0)).await;
    world.attempt("archive", answer("refused", dead()), at(1)).await;
    assert_eq!(world.state_of_run(run_id).await.0, "dispatching");
    world.attempt("mirror", answer("accepted", Settle::Accepted), at(2)).await;
    assert_eq!(world.outcome_of_cycle(1).await.as_deref(), Some("partial"));
    let view = world.store.delivery(delivery_id(run_id, "archive")).await.unwrap().unwrap();
    assert_eq!((&*view.state, view.reason.as_deref()), ("dead", Some("status 400")));
    let redrive = async |filter| world.redrive(filter, at(3)).await;
    let none = RedriveFilter { run_id: Some(Uuid::from_u128(404)), ..RedriveFilter::default() };
    assert!(redrive(none).await.is_empty());
    let accepted = RedriveFilter { endpoint: Some("mirror".to_owned()), ..RedriveFilter::default() };
    assert!(redrive(accepted).await.is_empty());
    let one = RedriveFilter {
        delivery_id: Some(view.delivery_id),
        run_id: Some(run_id),
        endpoint: Some("archive".to_owned()),
        ..RedriveFilter::default()
    };
    assert_eq!(redrive(one.clone()).await, [view.delivery_id]);
    assert!(redrive(one).await.is_empty());
    assert_eq!(world.state_of_run(run_id).await, ("dispatching".to_owned(), None));
    assert_eq!(world.outcome_of_cycle(1).await, None);
    let claimed = world.attempt("archive", answer("accepted", Settle::Accepted), at(4)).await;
    assert_eq!((claimed.attempt, claimed.attempt_in_round), (2, 1));
    assert_eq!(world.state_of_run(run_id).await.1.as_deref(), Some("succeeded"));
    assert_eq!(world.outcome_of_cycle(1).await.as_deref(), Some("succeeded"));
    let outcomes: Vec<_> =
        world.log_of("cycle_finished").await.iter().map(|record| record.body["outcome"].clone()).collect();
    assert_eq!(outcomes, ["partial", "succeeded"]);
    assert_eq!(world.log_of("redriven").await.len(), 1);
}

pub(crate) async fn a_cancelled_run_owes_nothing_and_keeps_the_receipt(world: &World<'_>) {
    let run_id = world.dispatching(1, &["archive", "mirror", "third"], at(0)).await;
    world.attempt("third", answer("refused", dead()), at(1)).await;
    let sending = world.claim_delivery("archive", at(1)).await;
    world.store.cancel_run(run_id, "by hand", at(2)).await.unwrap();
    for (endpoint, expected) in [("archive", "cancelled"), ("mirror", "cancelled"), ("third", "dead")] {
        assert_eq!(world.state_of_delivery(run_id, endpoint).await, expected);
    }
    assert_eq!(world.next_delivery_due().await, None);
    let commit = answer("accepted", Settle::Accepted);
    assert!(!world.store.commit_attempt(sending.claim, commit, at(3)).await.unwrap());
    let view = world.store.delivery(sending.claim.id).await.unwrap().unwrap();
    assert_eq!((&*view.state, view.receipts.len()), ("cancelled", 1));
    assert_eq!(view.receipts[0].receipt["outcome"], "accepted");
    assert!(world.redrive(RedriveFilter::default(), at(4)).await.is_empty());
    assert_eq!(world.state_of_run(run_id).await.1.as_deref(), Some("cancelled"));
}

pub(crate) async fn a_step_that_owes_sends_at_once(world: &World<'_>) {
    let older = world.dispatching(1, &["archive"], at(0)).await;
    let run_id = world.admitted(2, 1, at(1)).await[0];
    let step = world.claim_step(at(1)).await;
    let free = |doors| {
        let endpoints = [("archive", 1), ("mirror", 3)].map(|(name, count)| (name.to_owned(), count));
        Some(FreeAttempts { endpoints: endpoints.into(), doors })
    };
    let commit = StepCommit { send: free(OPEN), ..done(&step, &["archive", "mirror"]) };
    let committed = world.store.commit_step(step.claim, commit, at(1)).await.unwrap();
    let StepCommitted::Done { sending, .. } = committed else { panic!("{committed:?}") };
    // What waits longer at an endpoint is first there.
    let runs: Vec<_> = sending.iter().map(|one| (one.endpoint.as_str(), one.run_id)).collect();
    assert_eq!(runs, [("archive", older), ("mirror", run_id)]);
    assert_eq!(world.claim_delivery("archive", at(1)).await.run_id, run_id);
    assert!(world.store.claim_deliveries("mirror", 9, OPEN, at(1)).await.unwrap().is_empty());
    for one in sending {
        assert!(
            world.store.commit_attempt(one.claim, answer("accepted", Settle::Accepted), at(2)).await.unwrap()
        );
    }
    // With its door closed, nothing leaves.
    world.admitted(3, 1, at(3)).await;
    let step = world.claim_step(at(3)).await;
    let closed = OpenDoors { first: false, retry: true };
    let commit = StepCommit { send: free(closed), ..done(&step, &["mirror"]) };
    let committed = world.store.commit_step(step.claim, commit, at(3)).await.unwrap();
    assert!(matches!(&committed, StepCommitted::Done { sending, .. } if sending.is_empty()), "{committed:?}");
}

pub(crate) async fn deliveries_are_claimed_oldest_first(world: &World<'_>) {
    let mut runs = Vec::new();
    for number in 1..=3 {
        runs.push(world.dispatching(number, &["archive"], at(i64::from(number))).await);
    }
    let claimed = world.store.claim_deliveries("archive", 2, OPEN, at(9)).await.unwrap();
    assert_eq!(claimed.iter().map(|one| one.run_id).collect::<Vec<_>>(), runs[..2]);
    let retry_only = OpenDoors { first: false, retry: true };
    assert!(world.store.claim_deliveries("archive", 2, retry_only, at(9)).await.unwrap().is_empty());
    assert_eq!(world.claim_delivery("archive", at(9)).await.run_id, runs[2]);
}
