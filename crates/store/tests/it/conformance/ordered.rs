//! Deliveries that go in order: one at a time, and none before those made earlier.

use orbit_core::id::delivery_id;
use orbit_store::contract::OpenDoors;
use orbit_store::contract::dispatch::{AttemptCommit, RedriveFilter, Settle};
use uuid::Uuid;

use super::world::{OPEN, World, answer, at, dead};

/// The run whose delivery is claimed next, if one is.
async fn next(world: &World<'_>, now: i64) -> Option<(Uuid, orbit_store::contract::Claim)> {
    let claimed = world.store.claim_next_in_order("archive", OPEN, at(now)).await.unwrap()?;
    Some((claimed.run_id, claimed.claim))
}

async fn attempt(world: &World<'_>, run_id: Uuid, commit: AttemptCommit, now: i64) {
    let (found, claim) = next(world, now).await.expect("one can be claimed");
    assert_eq!(found, run_id);
    assert_eq!(next(world, now).await, None, "one at a time");
    assert!(world.store.commit_attempt(claim, commit, at(now)).await.unwrap());
}

async fn three(world: &World<'_>) -> [Uuid; 3] {
    let mut runs = [Uuid::nil(); 3];
    for (number, run) in (1..).zip(&mut runs) {
        *run = world.dispatching(number, &["archive"], at(0)).await;
    }
    runs
}

pub(crate) async fn the_head_of_the_queue_holds_the_rest(world: &World<'_>) {
    let [one, two, three] = three(world).await;
    attempt(world, one, answer("refused", Settle::Retry { until: at(60) }), 1).await;
    assert_eq!(next(world, 59).await, None, "the others are due, and wait for the first");
    assert_eq!(world.store.waiting_endpoints().await.unwrap()[0].head_due_at, at(60));
    let doors = OpenDoors { first: true, retry: false };
    assert!(world.store.claim_next_in_order("archive", doors, at(60)).await.unwrap().is_none());
    attempt(world, one, answer("accepted", Settle::Accepted), 60).await;
    // A crash while the second is sent: it is again the first in the queue.
    let (sending, _) = next(world, 61).await.unwrap();
    assert_eq!(sending, two);
    world.join(at(62)).await;
    attempt(world, two, answer("accepted", Settle::Accepted), 62).await;
    attempt(world, three, answer("accepted", Settle::Accepted), 62).await;
    assert_eq!(next(world, 99).await, None);
}

pub(crate) async fn a_dead_letter_lets_the_next_go(world: &World<'_>) {
    let [one, two, three] = three(world).await;
    attempt(world, one, answer("refused", dead()), 1).await;
    world.store.cancel_run(two, "by hand", at(2)).await.unwrap();
    attempt(world, three, answer("accepted", Settle::Accepted), 3).await;
}

pub(crate) async fn a_redriven_one_keeps_its_place(world: &World<'_>) {
    let [one, two, three] = three(world).await;
    attempt(world, one, answer("refused", dead()), 1).await;
    let (sending, claim) = next(world, 2).await.unwrap();
    assert_eq!(sending, two);
    let filter = RedriveFilter { delivery_id: Some(delivery_id(one, "archive")), ..RedriveFilter::default() };
    assert_eq!(world.redrive(filter, at(3)).await.len(), 1);
    assert_eq!(next(world, 3).await, None, "one is being sent, though not the first");
    assert!(world.store.commit_attempt(claim, answer("accepted", Settle::Accepted), at(4)).await.unwrap());
    attempt(world, one, answer("accepted", Settle::Accepted), 5).await;
    attempt(world, three, answer("accepted", Settle::Accepted), 5).await;
}
