//! Nodes whose lease has ended are taken over: by one of the others, and nothing of theirs is true afterwards. Leases end here by a statement of the owner,
//! who sets the clock back for one of them; nobody sleeps.

use std::sync::Arc;

use orbit_core::run::Step;
use orbit_store::StoreError;
use orbit_store::contract::Recovered;
use orbit_store::contract::dispatch::{DispatchStore as _, Settle};
use orbit_store::contract::node::{Load, NodeStore as _, Renewal, TakenOver};
use orbit_store::contract::selection::SelectionStore as _;
use orbit_store::contract::tiers::{Free, RunStore as _, StepCommitted};
use orbit_store::postgres::PostgresStore;
use serde_json::json;
use tokio_postgres::Client;

use super::cluster::{TestDatabase, connect};
use super::nodes::nodes;
use crate::conformance::world::{OPEN, World, answer, at, joining, log_is_whole, succeeded};

/// A year, by which clocks may be wrong.
const YEAR: i64 = 365 * 24 * 3600;

async fn two() -> ([Arc<PostgresStore>; 2], [i64; 2], Client, TestDatabase) {
    let ([one, two], database) = nodes::<2>().await;
    let first = one.join(&joining("one"), at(0)).await.unwrap();
    let second = two.join(&joining("two"), at(0)).await.unwrap();
    assert_eq!((first.expires, second.recovered), (true, Recovered::default()));
    let owner = connect(&database.owner()).await;
    ([one, two], [first.epoch, second.epoch], owner, database)
}

/// The lease of the node of this name has ended.
async fn end_lease(owner: &Client, node: &str) {
    let update =
        "UPDATE nodes SET expires_at = (extract(epoch FROM now()) * 1000000)::bigint - 1 WHERE node = $1";
    assert_eq!(owner.execute(update, &[&node]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_node_is_left_alone_while_its_lease_lasts_whatever_the_clocks_of_others_say() {
    let ([one, two], [_, second], owner, _database) = two().await;
    let world = World::new(&*one);
    world.admitted(1, 1, at(0)).await;
    let step = world.claim_step(at(1)).await;
    for now in [at(-YEAR), at(YEAR)] {
        let watched = two.take_over(now).await.unwrap();
        assert_eq!(watched.taken, []);
        assert!(watched.next.is_some_and(|next| !next.is_zero() && next <= joining("one").lease));
        assert_eq!(two.join(&joining("two"), now).await.unwrap().recovered, Recovered::default());
        assert_eq!(two.renew(Load::default()).await.unwrap(), Renewal::Renewed);
    }
    // One that has ended and that nobody has taken over is renewed as if nothing had been.
    end_lease(&owner, "one").await;
    assert!(one.nodes(at(0)).await.unwrap()[0].expires_in_ms.is_some_and(|left| left <= 0));
    assert_eq!(one.renew(Load { runs: 1, tasks: 0 }).await.unwrap(), Renewal::Renewed);
    assert_eq!(two.take_over(at(2)).await.unwrap().taken, []);
    let nodes = two.nodes(at(YEAR)).await.unwrap();
    assert_eq!((nodes.len(), nodes[0].load, nodes[1].epoch), (2, Load { runs: 1, tasks: 0 }, second + 2));
    assert!(nodes.iter().all(|node| node.expires_in_ms > Some(0) && node.age_ms < 600_000), "{nodes:?}");
    world.commit(&step, succeeded(Step::Tier1, Step::Tier2), at(3)).await;
    log_is_whole(&*two).await;
}

#[tokio::test]
async fn who_is_taken_over_changes_nothing_more_and_joins_anew() {
    let ([one, two], [first, _], owner, _database) = two().await;
    let (world, other) = (World::new(&*one), World::new(&*two));
    world.dispatching(1, &["archive"], at(0)).await;
    let sending = world.claim_delivery("archive", at(1)).await;
    let run_id = world.admitted(2, 1, at(1)).await[0];
    let step = world.claim_step(at(1)).await;
    world.fire(3, at(1)).await;
    let cycle = world.claim_cycle(at(1)).await;
    // What the other does is no business of the takeover.
    let mine = other.admitted(4, 1, at(1)).await[0];
    let own = other.claim_step(at(1)).await;
    end_lease(&owner, "one").await;
    let recovered = Recovered { steps_interrupted: 1, attempts_unknown: 1, cycles_reclaimed: 1 };
    let taken = two.take_over(at(2)).await.unwrap();
    assert_eq!(taken.taken, [TakenOver { epoch: first, node: "one".to_owned(), recovered }]);
    assert_eq!(taken.next, None, "nobody else is left");
    let told = other.log_of("node_taken_over").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].body, json!({ "node": "one", "epoch": first, "recovered": recovered }));
    assert_eq!(other.state_of_run(mine).await.0, "working");

    assert_eq!(one.renew(Load::default()).await.unwrap(), Renewal::Lost);
    let late = one.commit_step(step.claim, succeeded(Step::Tier1, Step::Tier2), at(3)).await.unwrap();
    assert_eq!(late, StepCommitted::Lost);
    assert!(!one.commit_attempt(sending.claim, answer("accepted", Settle::Accepted), at(3)).await.unwrap());
    assert!(!one.fail_selection(cycle.claim, "late", at(3)).await.unwrap());
    assert_eq!(one.reclaim(&[], at(3)).await.unwrap(), 0);
    let refused = one.claim_steps(Free::of(1, OPEN), at(3)).await.unwrap_err();
    assert!(matches!(refused, StoreError::NotJoined { .. }), "{refused}");
    assert!(one.claim_deliveries("archive", 1, OPEN, at(3)).await.is_err());
    assert_eq!(world.state_of_run(run_id).await.0, "ready");

    assert_eq!(one.join(&joining("one"), at(4)).await.unwrap().recovered, Recovered::default());
    assert_eq!(one.renew(Load::default()).await.unwrap(), Renewal::Renewed);
    assert_eq!(world.claim_step(at(5)).await.claim.id, run_id);
    other.commit(&own, succeeded(Step::Tier1, Step::Tier2), at(5)).await;
    log_is_whole(&*two).await;
}

#[tokio::test]
async fn a_join_frees_what_nobody_has_and_leaves_the_others_theirs() {
    let ([one, two], [first, _], owner, database) = two().await;
    let world = World::new(&*one);
    let runs = world.admitted(1, 3, at(0)).await;
    let step = world.claim_step(at(1)).await;
    let held = World::new(&*two).claim_step(at(1)).await;
    end_lease(&owner, "one").await;
    let third =
        PostgresStore::open(&database.runtime(), &crate::conformance::world::namespace()).await.unwrap();
    let joined = third.join(&joining("three"), at(2)).await.unwrap();
    assert_eq!(joined.recovered, Recovered { steps_interrupted: 1, ..Recovered::default() });
    assert_eq!(world.log_of("node_taken_over").await[0].body["epoch"], first);
    assert_eq!(world.state_of_run(held.claim.id).await.0, "working");
    assert_eq!(world.state_of_run(step.claim.id).await.0, "ready");
    // A row whose node nobody knows, as after a table was lost.
    owner.execute("DELETE FROM nodes WHERE node = 'two'", &[]).await.unwrap();
    assert_eq!(third.take_over(at(3)).await.unwrap().taken, []);
    let again = third.join(&joining("three"), at(4)).await.unwrap();
    assert_eq!(again.recovered, Recovered { steps_interrupted: 1, ..Recovered::default() });
    assert_eq!(third.claim_steps(Free::of(3, OPEN), at(5)).await.unwrap().len(), runs.len());
    log_is_whole(&third).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_take_over_at_once_one_does() {
    let (nodes, database) = nodes::<5>().await;
    for node in &nodes {
        node.join(&joining("one of them"), at(0)).await.unwrap();
    }
    let lost = nodes[0].join(&joining("lost"), at(0)).await.unwrap();
    let world = World::new(&*nodes[0]);
    world.admitted(1, 2, at(0)).await;
    assert_eq!(nodes[0].claim_steps(Free::of(2, OPEN), at(1)).await.unwrap().len(), 2);
    end_lease(&connect(&database.owner()).await, "lost").await;
    let tries = nodes[1..]
        .iter()
        .cloned()
        .map(|node| tokio::spawn(async move { node.take_over(at(2)).await.unwrap().taken }));
    let mut taken = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        taken.extend(one.await.unwrap());
    }
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!((taken[0].epoch, taken[0].recovered.steps_interrupted), (lost.epoch, 2));
    assert_eq!(world.log_of("node_taken_over").await.len(), 1);
    log_is_whole(&*nodes[1]).await;
}

/// How far apart two calls begin, in turns of the runtime.
const APART: u32 = 9;

async fn after(turns: u32) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// The first node claims, or commits, while the second takes it over: whichever comes first, the other one finds that it did. Which one that is
/// the scheduler says, but in the first round and the last one.
async fn meet(commits: bool) {
    let ([one, two], _, owner, _database) = two().await;
    let (mut before, mut behind) = (0, 0);
    for round in 0..APART * 2 {
        let now = at(i64::from(round) * 10);
        let world = World::new(&*one);
        let run_id = world.admitted(round + 1, 1, now).await[0];
        let step = if commits { Some(world.claim_step(now).await) } else { None };
        end_lease(&owner, "one").await;
        let acting = async {
            after(round.saturating_sub(APART) * 3).await;
            match &step {
                Some(step) => {
                    let commit = succeeded(Step::Tier1, Step::Tier2);
                    one.commit_step(step.claim, commit, now).await.unwrap() != StepCommitted::Lost
                }
                None => match one.claim_steps(Free::of(1, OPEN), now).await {
                    Ok(claimed) => claimed.iter().any(|step| step.claim.id == run_id),
                    Err(StoreError::NotJoined { .. }) => false,
                    Err(error) => panic!("{error}"),
                },
            }
        };
        let taking = async {
            after(APART.saturating_sub(round) * 3).await;
            two.take_over(now).await.unwrap().taken
        };
        let (acted, taken) = if round == 0 {
            let taken = taking.await;
            (acting.await, taken)
        } else if round == APART * 2 - 1 {
            let acted = acting.await;
            (acted, taking.await)
        } else {
            tokio::join!(acting, taking)
        };
        let freed = taken.iter().map(|one| one.recovered.steps_interrupted).sum::<u32>();
        assert_eq!(taken.len(), 1);
        // A commit that came first leaves nothing to free, and a claim that came first is freed.
        assert_eq!(acted, (freed == 1) != commits, "round {round}");
        assert_eq!(world.state_of_run(run_id).await.0, "ready");
        if acted {
            before += 1;
        } else {
            behind += 1;
        }
        one.join(&joining("one"), now).await.unwrap();
        one.cancel_run(run_id, "the next round", now).await.unwrap();
    }
    assert!(before > 0 && behind > 0, "{before} and {behind}");
    log_is_whole(&*two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_and_a_takeover_cannot_both_be_first() {
    meet(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_and_a_takeover_cannot_both_be_first() {
    meet(true).await;
}
