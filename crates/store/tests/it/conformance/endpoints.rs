//! An endpoint that is disabled takes nothing until it is enabled.

use orbit_core::id::delivery_id;
use orbit_store::contract::dispatch::{AttemptCommit, RedriveFilter, Settle};

use super::world::{OPEN, World, answer, at, dead};

fn gone() -> AttemptCommit {
    AttemptCommit { disable_endpoint: Some("status 410".to_owned()), ..answer("gone", dead()) }
}

pub(crate) async fn a_disabled_endpoint_gives_up_what_waits(world: &World<'_>) {
    let one = world.dispatching(1, &["archive", "mirror"], at(0)).await;
    let two = world.dispatching(2, &["archive"], at(1)).await;
    world.attempt("archive", gone(), at(2)).await;
    assert_eq!(world.state_of_delivery(two, "archive").await, "waiting");
    assert!(world.store.claim_deliveries("archive", 9, OPEN, at(2)).await.unwrap().is_empty());
    assert_eq!(world.due_endpoints(at(2)).await, ["mirror"]);
    assert_eq!(world.store.give_up_disabled(at(3)).await.unwrap(), 1);
    assert_eq!(world.store.give_up_disabled(at(3)).await.unwrap(), 0);
    for run_id in [one, two] {
        assert_eq!(world.state_of_delivery(run_id, "archive").await, "dead");
    }
    assert_eq!(world.state_of_delivery(one, "mirror").await, "waiting");
    assert_eq!(world.outcome_of_cycle(2).await.as_deref(), Some("partial"));
    let reason = world.store.delivery(delivery_id(two, "archive")).await.unwrap().unwrap().reason;
    assert_eq!(reason.as_deref(), Some("the endpoint is disabled: status 410"));
    let counts = world.store.counts().await.unwrap();
    assert_eq!(counts.disabled(), [("archive", "status 410")].into());
    assert_eq!(world.log_of("endpoint_disabled").await.len(), 1);
}

pub(crate) async fn a_disabled_endpoint_takes_nothing_new(world: &World<'_>) {
    world.dispatching(1, &["archive"], at(0)).await;
    world.attempt("archive", gone(), at(1)).await;
    let run_id = world.dispatching(2, &["archive", "mirror"], at(2)).await;
    assert_eq!(world.state_of_delivery(run_id, "archive").await, "dead");
    assert_eq!(world.state_of_run(run_id).await.0, "dispatching");
    world.attempt("mirror", answer("accepted", Settle::Accepted), at(3)).await;
    assert_eq!(world.outcome_of_cycle(2).await.as_deref(), Some("partial"));
    let run_id = world.dispatching(3, &["archive"], at(4)).await;
    assert_eq!(world.state_of_run(run_id).await.1.as_deref(), Some("partial"));
    assert!(world.due_endpoints(at(9)).await.is_empty());
}

pub(crate) async fn a_redrive_enables_the_endpoint(world: &World<'_>) {
    let check = async |number: u32, filter: RedriveFilter, expected: usize| {
        let second = i64::from(number) * 10;
        world.dispatching(number, &["archive"], at(second)).await;
        world.attempt("archive", gone(), at(second)).await;
        assert_eq!(world.redrive(filter, at(second)).await.len(), expected);
        assert!(world.store.counts().await.unwrap().disabled().is_empty());
        for _ in 0..expected {
            world.attempt("archive", answer("accepted", Settle::Accepted), at(second)).await;
        }
        assert_eq!(world.outcome_of_cycle(number).await.as_deref(), Some("succeeded"));
    };
    check(1, RedriveFilter::default(), 1).await;
    check(2, RedriveFilter { endpoint: Some("archive".to_owned()), ..RedriveFilter::default() }, 1).await;
    assert_eq!(world.log_of("endpoint_enabled").await.len(), 2);
    world.dispatching(3, &["archive"], at(40)).await;
    world.attempt("archive", gone(), at(40)).await;
    let mirror = RedriveFilter { endpoint: Some("mirror".to_owned()), ..RedriveFilter::default() };
    assert!(world.redrive(mirror, at(41)).await.is_empty());
    assert_eq!(world.store.counts().await.unwrap().disabled().len(), 1);
}

pub(crate) async fn a_retry_at_a_disabled_endpoint_is_dead(world: &World<'_>) {
    let one = world.dispatching(1, &["archive"], at(0)).await;
    let two = world.dispatching(2, &["archive"], at(0)).await;
    let sending = world.store.claim_deliveries("archive", 2, OPEN, at(1)).await.unwrap();
    assert!(world.store.commit_attempt(sending[0].claim, gone(), at(2)).await.unwrap());
    assert_eq!(world.state_of_delivery(two, "archive").await, "sending");
    let retry = answer("unavailable", Settle::Retry { until: at(9) });
    assert!(world.store.commit_attempt(sending[1].claim, retry, at(3)).await.unwrap());
    assert_eq!(world.state_of_delivery(two, "archive").await, "dead");
    assert_eq!(world.state_of_delivery(one, "archive").await, "dead");
}
