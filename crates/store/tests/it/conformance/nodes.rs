//! A process joins, claims under its number, leaves.

use orbit_store::StoreError;
use orbit_store::contract::node::{Load, Renewal};
use orbit_store::contract::tiers::Free;

use super::world::{OPEN, World, at, done, joining};

/// The incarnation of a token.
fn epoch_of(token: i64) -> i64 {
    token >> 32
}

fn is_refused<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::NotJoined { .. }))
}

pub(crate) async fn a_claim_says_whose_it_is(world: &World<'_>) {
    world.fire(1, at(0)).await;
    let cycle = world.claim_cycle(at(0)).await;
    let first = world.store.nodes(at(5)).await.unwrap().remove(0);
    assert_eq!((epoch_of(cycle.claim.token), first.node.as_str()), (first.epoch, "vps-1"));
    world.store.unclaim_cycle(cycle.claim).await.unwrap();
    let joined = world.store.join(&joining("vps-2"), at(1)).await.unwrap();
    assert!(joined.epoch > first.epoch);
    assert_eq!(epoch_of(world.claim_cycle(at(2)).await.claim.token), joined.epoch);
    let run_id = world.dispatching(2, &["archive"], at(2)).await;
    let sending = world.claim_delivery("archive", at(3)).await;
    assert_eq!((sending.run_id, epoch_of(sending.claim.token)), (run_id, joined.epoch));
    // What this process was before is no more.
    let nodes = world.store.nodes(at(9)).await.unwrap();
    let [node] = &nodes[..] else { panic!("one node, and not {nodes:?}") };
    assert_eq!((node.epoch, node.node.as_str(), node.version.as_str()), (joined.epoch, "vps-2", "1.2.3"));
    assert_eq!(node.expires_in_ms.is_some(), joined.expires);
}

pub(crate) async fn a_node_is_renewed_with_what_it_does(world: &World<'_>) {
    let load = Load { runs: 3, tasks: 5 };
    assert_eq!(world.store.renew(load).await.unwrap(), Renewal::Renewed);
    assert_eq!(world.store.nodes(at(1)).await.unwrap()[0].load, load);
    // Nobody takes itself over.
    assert_eq!(world.store.take_over(at(2)).await.unwrap().taken, []);
}

pub(crate) async fn who_has_left_claims_nothing(world: &World<'_>) {
    let store = world.store;
    world.admitted(1, 1, at(0)).await;
    world.fire(2, at(0)).await;
    assert!(store.leave().await.unwrap());
    assert!(store.leave().await.unwrap(), "once more changes nothing");
    assert_eq!(store.nodes(at(1)).await.unwrap(), []);
    assert!(is_refused(&store.claim_cycle(at(1)).await));
    assert!(is_refused(&store.claim_steps(Free::of(1, OPEN), at(1)).await));
    assert_eq!(store.counts().await.unwrap().runs["ready"], 1);
    assert_eq!(world.join(at(2)).await.steps_interrupted, 0);
    let step = world.claim_step(at(3)).await;
    world.commit(&step, done(&step, &["archive"]), at(3)).await;
    assert!(store.leave().await.unwrap());
    assert!(is_refused(&store.claim_deliveries("archive", 1, OPEN, at(4)).await));
    assert!(is_refused(&store.claim_next_in_order("archive", OPEN, at(4)).await));
}

pub(crate) async fn what_is_under_way_when_a_node_leaves_is_not_free(world: &World<'_>) {
    let run_id = world.admitted(1, 1, at(0)).await[0];
    let step = world.claim_step(at(1)).await;
    assert!(!world.store.leave().await.unwrap());
    assert_eq!(world.state_of_run(run_id).await.0, "working");
    // What is finished after all counts.
    world.commit(&step, done(&step, &["archive"]), at(2)).await;
    assert_eq!(world.join(at(3)).await.steps_interrupted, 0);
    world.claim_delivery("archive", at(4)).await;
    assert!(!world.store.leave().await.unwrap());
    assert_eq!(world.join(at(5)).await.attempts_unknown, 1);
    world.fire(2, at(6)).await;
    world.claim_cycle(at(6)).await;
    assert!(!world.store.leave().await.unwrap());
    assert_eq!(world.join(at(7)).await.cycles_reclaimed, 1);
}

pub(crate) async fn what_this_process_does_not_hold_is_freed_and_nothing_else(world: &World<'_>) {
    let runs = world.admitted(1, 2, at(0)).await;
    let steps = world.store.claim_steps(Free::of(2, OPEN), at(1)).await.unwrap();
    assert_eq!(steps.len(), 2);
    assert_eq!(world.store.reclaim(&[runs[0]], at(2)).await.unwrap(), 1);
    assert_eq!(world.state_of_run(runs[0]).await.0, "working");
    assert_eq!(world.state_of_run(runs[1]).await.0, "ready");
    assert!(world.store.leave().await.is_ok_and(|all_free| !all_free));
}
