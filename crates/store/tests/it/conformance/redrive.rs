//! Many at once: redrives, what waits for a disabled endpoint, and deadlines, a bounded number in a transaction.

use orbit_core::id::delivery_id;
use orbit_store::contract::BATCH_MAX;
use orbit_store::contract::dispatch::{AttemptCommit, RedriveFilter, Settle};
use orbit_store::contract::tiers::Free;
use uuid::Uuid;

use super::world::{DEADLINE, OPEN, World, answer, at, dead, done};

/// More runs than one batch takes, of one cycle.
const MANY: u32 = BATCH_MAX + 20;

fn gone() -> AttemptCommit {
    AttemptCommit { disable_endpoint: Some("status 410".to_owned()), ..answer("gone", dead()) }
}

fn of_archive() -> RedriveFilter {
    RedriveFilter { endpoint: Some("archive".to_owned()), ..RedriveFilter::default() }
}

/// [`MANY`] runs that each owe one delivery.
async fn many(world: &World<'_>) {
    world.admitted(1, MANY, at(0)).await;
    for step in world.store.claim_steps(Free::of(MANY, OPEN), at(0)).await.unwrap() {
        world.commit(&step, done(&step, &["archive"]), at(0)).await;
    }
}

pub(crate) async fn much_that_waits_is_given_up_in_batches(world: &World<'_>) {
    many(world).await;
    world.attempt("archive", gone(), at(1)).await;
    assert_eq!(world.store.give_up_disabled(at(2)).await.unwrap(), BATCH_MAX);
    // A crash in between loses nothing, and nothing is handed out meanwhile.
    world.join(at(3)).await;
    assert!(world.store.claim_deliveries("archive", 9, OPEN, at(3)).await.unwrap().is_empty());
    assert_eq!(world.store.give_up_disabled(at(4)).await.unwrap(), MANY - 1 - BATCH_MAX);
    assert_eq!(world.outcome_of_cycle(1).await.as_deref(), Some("partial"));
}

pub(crate) async fn a_redrive_is_made_in_batches(world: &World<'_>) {
    many(world).await;
    world.attempt("archive", gone(), at(1)).await;
    while world.store.give_up_disabled(at(2)).await.unwrap() > 0 {}
    assert_eq!(world.store.count_redrivable(of_archive()).await.unwrap(), u64::from(MANY));
    let first = world.store.redrive(of_archive(), None, at(3)).await.unwrap();
    assert_eq!(first.ids.len(), BATCH_MAX as usize);
    // What is given up meanwhile is no longer part of it.
    let again = world.attempt("archive", answer("refused", dead()), at(4)).await;
    let second = world.store.redrive(of_archive(), first.next, at(5)).await.unwrap();
    assert_eq!((second.ids.len(), second.next), ((MANY - BATCH_MAX) as usize, None));
    assert!(!second.ids.contains(&again.claim.id));
    assert_eq!(world.store.count_redrivable(RedriveFilter::default()).await.unwrap(), 1);
    assert_eq!(world.outcome_of_cycle(1).await, None);
}

pub(crate) async fn deadlines_end_runs_in_batches(world: &World<'_>) {
    world.admitted(1, MANY, at(0)).await;
    assert_eq!(world.store.expire_runs(at(DEADLINE)).await.unwrap(), BATCH_MAX);
    assert_eq!(world.outcome_of_cycle(1).await, None);
    assert_eq!(world.store.expire_runs(at(DEADLINE)).await.unwrap(), MANY - BATCH_MAX);
    assert_eq!(world.store.expire_runs(at(DEADLINE)).await.unwrap(), 0);
    assert_eq!(world.outcome_of_cycle(1).await.as_deref(), Some("failed"));
}

/// Runs 1, 2, … whose delivery to `archive` is given up at 10, 20, ….
async fn dead_letters(world: &World<'_>, runs: u32) -> Vec<Uuid> {
    let mut all = Vec::new();
    for number in 1..=runs {
        let second = i64::from(number) * 10;
        all.push(world.dispatching(number, &["archive"], at(second)).await);
        world.attempt("archive", answer("refused", dead()), at(second)).await;
    }
    all
}

pub(crate) async fn a_redrive_takes_what_was_dead_when_it_began(world: &World<'_>) {
    let runs = dead_letters(world, 3).await;
    let redriven = world.redrive(RedriveFilter::default(), at(25)).await;
    assert_eq!(redriven, [delivery_id(runs[0], "archive"), delivery_id(runs[1], "archive")]);
}

pub(crate) async fn a_redrive_takes_what_matches(world: &World<'_>) {
    let runs = dead_letters(world, 5).await;
    world.dispatching(9, &["archive", "mirror"], at(60)).await;
    world.attempt("mirror", answer("refused", dead()), at(60)).await;
    let cancelled = world.attempt("archive", answer("refused", dead()), at(60)).await.run_id;
    let all = RedriveFilter::default;
    let check = async |filter: RedriveFilter, expected: &[usize]| {
        let expected: Vec<_> = expected.iter().map(|run| delivery_id(runs[*run], "archive")).collect();
        assert_eq!(world.store.count_redrivable(filter.clone()).await.unwrap(), expected.len() as u64);
        assert_eq!(world.redrive(filter.clone(), at(100)).await, expected, "{filter:?}");
        for _ in expected {
            world.attempt("archive", answer("refused", dead()), at(100)).await;
        }
    };
    check(RedriveFilter { since: Some(at(20)), until: Some(at(40)), ..all() }, &[1, 2]).await;
    check(RedriveFilter { run_id: Some(runs[4]), endpoint: Some("archive".to_owned()), ..all() }, &[4]).await;
    check(RedriveFilter { run_id: Some(runs[4]), endpoint: Some("mirror".to_owned()), ..all() }, &[]).await;
    check(
        RedriveFilter { delivery_id: Some(delivery_id(runs[0], "archive")), until: Some(at(10)), ..all() },
        &[],
    )
    .await;
    check(RedriveFilter { delivery_id: Some(delivery_id(runs[0], "archive")), ..all() }, &[0]).await;
    let of_run = RedriveFilter { run_id: Some(cancelled), ..all() };
    assert_eq!(world.redrive(of_run.clone(), at(100)).await.len(), 2, "of one run, to two endpoints");
    world.attempt("mirror", answer("refused", dead()), at(101)).await;
    world.store.cancel_run(cancelled, "by hand", at(102)).await.unwrap();
    assert_eq!(world.store.count_redrivable(of_run.clone()).await.unwrap(), 0, "a cancelled run stays so");
    assert!(world.redrive(of_run, at(103)).await.is_empty());
}

pub(crate) async fn a_redrive_does_not_ask_again_who_said_no(world: &World<'_>) {
    many(world).await;
    world.attempt("archive", gone(), at(1)).await;
    while world.store.give_up_disabled(at(2)).await.unwrap() > 0 {}
    let first = world.store.redrive(of_archive(), None, at(3)).await.unwrap();
    world.attempt("archive", gone(), at(4)).await;
    let second = world.store.redrive(of_archive(), first.next, at(5)).await.unwrap();
    assert_eq!((second.ids, second.next), (Vec::new(), None));
    assert_eq!(world.store.counts().await.unwrap().endpoints["archive"].state, "disabled");
    // Whoever asks anew means it; and a breaker that is open is closed.
    while world.store.give_up_disabled(at(6)).await.unwrap() > 0 {}
    assert_eq!(world.redrive(of_archive(), at(7)).await.len(), MANY as usize);
    let down = || answer("unavailable", Settle::Retry { until: at(8) });
    world.attempt("archive", down(), at(8)).await;
    world.attempt("archive", down(), at(8)).await;
    assert!(world.store.claim_deliveries("archive", 9, OPEN, at(9)).await.unwrap().is_empty());
    world.redrive(of_archive(), at(9)).await;
    assert_eq!(world.store.claim_deliveries("archive", 9, OPEN, at(9)).await.unwrap().len(), 9);
    assert_eq!(world.log_of("breaker_closed").await[0].body["reason"], "redriven");
}
