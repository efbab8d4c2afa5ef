//! Cycles come into being, wait for one another and are cancelled.

use orbit_core::record::{Kind, Record, Subject};
use orbit_core::run::Step;
use orbit_store::contract::schedule::{CycleLoad, NewCycle, ScheduleCommit, ScheduleCursor, Standing};
use serde_json::json;
use uuid::Uuid;

use super::world::{RUN_PROFILE, World, at, cycle, cycle_id, done, run, succeeded};

async fn load(world: &World<'_>) -> (u32, u32) {
    let CycleLoad { active, queued } = standing(world, RUN_PROFILE).await.load;
    (active, queued)
}

async fn standing(world: &World<'_>, run_profile_id: Uuid) -> Standing {
    world.store.standing(&[run_profile_id]).await.unwrap().remove(&run_profile_id).unwrap()
}

pub(crate) async fn a_cycle_fires_once(world: &World<'_>) {
    assert!(world.fire(1, at(0)).await);
    assert!(!world.fire(1, at(5)).await);
    let log = world.log_of("cycle_fired").await;
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].cycle_id, Some(cycle_id(1)));
    assert_eq!((&log[0].body["trigger"], &log[0].body["reason"]), (&json!("manual:1"), &json!("by hand")));
    let view = world.store.cycle(cycle_id(1)).await.unwrap().unwrap();
    assert_eq!((view.fired_at, &*view.state, &*view.namespace), (at(0), "waiting", "studio"));
}

/// A commit that fires and tells.
fn commit(run_profile_id: Uuid, base: Option<i64>, through: i64, fire: Vec<NewCycle>) -> ScheduleCommit {
    let body = json!({ "run_profile_id": run_profile_id });
    ScheduleCommit {
        run_profile_id,
        base: base.map(at),
        cursor: cursor(through),
        fire,
        records: vec![Record::fact(at(0), Kind::ScheduleDecided, Subject::default(), body)],
    }
}

fn cursor(through: i64) -> ScheduleCursor {
    ScheduleCursor { decided_through: at(through), open_decisions: json!({ "count": 2 }) }
}

pub(crate) async fn a_cursor_that_moved_refuses_the_commit(world: &World<'_>) {
    let decide = async |base, through, fire| {
        let commit = commit(RUN_PROFILE, base, through, fire);
        let answers = world.store.commit_schedules(vec![commit], at(0)).await.unwrap();
        let [answer] = <[_; 1]>::try_from(answers).unwrap();
        answer
    };
    assert_eq!(decide(Some(1), 2, vec![cycle(1)]).await, None);
    assert_eq!(standing(world, RUN_PROFILE).await, Standing::default());
    assert!(world.log().await.is_empty());
    assert_eq!(decide(None, 1, vec![cycle(1), cycle(1)]).await, Some(vec![cycle_id(1)]));
    assert_eq!(decide(None, 2, vec![cycle(2)]).await, None);
    assert_eq!(decide(Some(1), 2, vec![cycle(1), cycle(2)]).await, Some(vec![cycle_id(2)]));
    assert_eq!(standing(world, RUN_PROFILE).await.cursor, Some(cursor(2)));
    assert_eq!(world.log_of("schedule_decided").await.len(), 2);
    assert_eq!(world.log_of("cycle_fired").await.len(), 2);
}

pub(crate) async fn of_several_decisions_each_stands_for_itself(world: &World<'_>) {
    let id = |number| Uuid::from_u128(0xa0 + number);
    let fired = |number: u128| {
        let number = u32::try_from(number).unwrap();
        vec![NewCycle { run_profile_id: id(number.into()), ..cycle(number) }]
    };
    let commit_all = async |commits| world.store.commit_schedules(commits, at(0)).await.unwrap();
    assert_eq!(commit_all(Vec::new()).await, []);
    let of = |base, through, fire: fn(u128) -> Vec<NewCycle>| {
        [1, 2, 3].map(|number| commit(id(number), base, through, fire(number))).to_vec()
    };
    // The second is decided by somebody else meanwhile; the third fires nothing.
    assert_eq!(commit_all(vec![commit(id(2), None, 1, Vec::new())]).await, [Some(Vec::new())]);
    let mut first = of(None, 2, |_| Vec::new());
    first[0].fire = fired(1);
    first[1].fire = fired(2);
    assert_eq!(commit_all(first.clone()).await, [Some(vec![cycle_id(1)]), None, Some(Vec::new())]);
    // Told once more, because the answer was lost, nothing is done twice.
    assert_eq!(commit_all(first).await, [None, None, None]);
    // One that is there twice stands on the cursor of the one before it.
    let twice = vec![
        commit(id(3), Some(2), 3, Vec::new()),
        commit(id(3), Some(2), 4, fired(3)),
        commit(id(3), Some(3), 5, fired(3)),
    ];
    assert_eq!(commit_all(twice).await, [Some(Vec::new()), None, Some(vec![cycle_id(3)])]);

    let ids = [1, 2, 3, 4].map(id);
    let load = |active| CycleLoad { active, queued: 0 };
    let stands = |through: i64, active| Standing { cursor: Some(cursor(through)), load: load(active) };
    let expected = [stands(2, 1), stands(1, 0), stands(5, 1), Standing::default()];
    assert_eq!(world.store.standing(&ids).await.unwrap(), ids.into_iter().zip(expected).collect());
    assert!(world.store.standing(&[]).await.unwrap().is_empty());
    let told = world.log().await.into_iter().map(|record| record.kind).collect::<Vec<_>>();
    let decided = "schedule_decided";
    assert_eq!(told, [decided, decided, "cycle_fired", decided, decided, decided, "cycle_fired"]);
}

pub(crate) async fn a_queued_cycle_waits_for_the_active_one(world: &World<'_>) {
    let queued = |number| NewCycle { queued: true, ..cycle(number) };
    world.store.fire(cycle(1), at(0)).await.unwrap();
    world.store.fire(queued(2), at(1)).await.unwrap();
    world.store.fire(queued(3), at(2)).await.unwrap();
    // Another run profile is not held up.
    let other = NewCycle { run_profile_id: Uuid::from_u128(77), ..queued(4) };
    world.store.fire(other, at(3)).await.unwrap();
    assert_eq!(load(world).await, (1, 2));
    let first = world.claim_cycle(at(4)).await;
    assert_eq!(first.claim.id, cycle_id(1));
    assert_eq!(world.claim_cycle(at(4)).await.claim.id, cycle_id(4));
    assert_eq!(world.store.claim_cycle(at(4)).await.unwrap(), None);
    world.store.admit(first.claim, vec![run(&first, 0, at(5))], at(5)).await.unwrap();
    assert_eq!(load(world).await, (1, 2));
    assert_eq!(world.store.claim_cycle(at(5)).await.unwrap(), None);
    // With its artifact the run no longer counts, although it still owes a delivery.
    let step = world.claim_step(at(6)).await;
    world.commit(&step, done(&step, &["archive"]), at(6)).await;
    assert_eq!(load(world).await, (0, 2));
    let second = world.claim_cycle(at(7)).await;
    assert_eq!(second.claim.id, cycle_id(2));
    assert_eq!(world.store.claim_cycle(at(7)).await.unwrap(), None);
    world.store.unclaim_cycle(second.claim).await.unwrap();
    assert_eq!(load(world).await, (0, 2));
    assert_eq!(world.claim_cycle(at(8)).await.claim.id, cycle_id(2));
}

pub(crate) async fn only_runs_without_an_artifact_count(world: &World<'_>) {
    world.admitted(1, 2, at(0)).await;
    let check = async |expected: (u32, u32)| assert_eq!(load(world).await, expected);
    check((1, 0)).await;
    let one = world.claim_step(at(1)).await;
    let two = world.claim_step(at(1)).await;
    check((1, 0)).await;
    world.commit(&one, done(&one, &["archive"]), at(2)).await;
    check((1, 0)).await;
    world.commit(&two, succeeded(Step::Tier1, Step::Tier2), at(2)).await;
    check((1, 0)).await;
    let two = world.claim_step(at(3)).await;
    world.commit(&two, done(&two, &["archive"]), at(3)).await;
    check((0, 0)).await;
    world.fire(2, at(4)).await;
    check((1, 0)).await;
}

pub(crate) async fn cycles_are_cancelled_with_their_runs(world: &World<'_>) {
    let dispatching = world.dispatching(1, &["archive"], at(0)).await;
    let runs = world.admitted(2, 3, at(1)).await;
    let working = world.claim_step(at(2)).await;
    let with_artifact = world.claim_step(at(2)).await;
    world.commit(&with_artifact, done(&with_artifact, &["archive"]), at(2)).await;
    world.fire(3, at(3)).await;
    world.store.fire(NewCycle { queued: true, ..cycle(4) }, at(3)).await.unwrap();
    let ended = world.store.cancel_cycles(RUN_PROFILE, "overlap", at(4)).await.unwrap();
    assert_eq!(ended, [working.claim.id]);
    for run_id in &runs {
        let expected = if *run_id == with_artifact.claim.id { "dispatching" } else { "finished" };
        assert_eq!(world.state_of_run(*run_id).await.0, expected);
    }
    assert_eq!(world.state_of_run(dispatching).await.0, "dispatching");
    assert_eq!(world.outcome_of_cycle(2).await, None);
    for number in [3, 4] {
        let cycle = world.store.cycle(cycle_id(number)).await.unwrap().unwrap();
        assert_eq!((cycle.outcome.as_deref(), cycle.reason.as_deref()), (Some("cancelled"), Some("overlap")));
    }
    assert_eq!(load(world).await, (0, 0));
    assert!(world.store.cancel_cycles(RUN_PROFILE, "again", at(5)).await.unwrap().is_empty());
    let stale =
        world.store.commit_step(working.claim, succeeded(Step::Tier1, Step::Tier2), at(6)).await.unwrap();
    assert_eq!(stale, orbit_store::contract::tiers::StepCommitted::Lost);
}
