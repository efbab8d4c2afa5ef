//! What may start is claimed by priority and age as far as there is room, and tells what held it.

use std::sync::Arc;

use std::collections::BTreeMap;

use orbit_core::run::{AfterFailure, Step};
use orbit_core::tiers::{Fullness, Lane, Limit, Room, Waits};
use orbit_store::contract::selection::NewRun;
use orbit_store::contract::tiers::Free;
use serde_json::json;
use uuid::Uuid;

use super::world::{OPEN, RUN_PROFILE, World, at, failed, run, settings, succeeded};

/// Names the processors of the three tiers.
fn through(mut run: NewRun, processors: [&str; 3]) -> NewRun {
    let steps = ["tier1", "tier2", "tier3"].into_iter().zip(processors);
    let steps = steps.map(
        |(step, name)| json!({ "step": step, "processor": { "name": name, "settings": settings(name) } }),
    );
    run.request["steps"] = steps.collect();
    run
}

/// One run a profile, each through processors of these names; their ids.
async fn admit(world: &World<'_>, cycle: u32, runs: &[[&str; 3]]) -> Vec<Uuid> {
    world.fire(cycle, at(0)).await;
    let claimed = world.claim_cycle(at(0)).await;
    let runs: Vec<_> = (0..).zip(runs).map(|(n, names)| through(run(&claimed, n, at(0)), *names)).collect();
    let ids = runs.iter().map(|run| run.run_id).collect();
    assert!(world.store.admit(claimed.claim, runs, at(0)).await.unwrap());
    ids
}

fn room(runs: u32, processors: &[(&str, u32)]) -> Room {
    let processors = processors.iter().map(|(name, free)| ((*name).to_owned(), *free)).collect();
    Room { processors, ..Room::of(runs) }
}

async fn claim(world: &World<'_>, room: Room, second: i64) -> Vec<Uuid> {
    let free = Free { room, ..Free::of(0, OPEN) };
    let steps = world.store.claim_steps(free, at(second)).await.unwrap();
    steps.into_iter().map(|step| step.claim.id).collect()
}

fn profile(number: u128) -> Uuid {
    Uuid::from_u128(number + 1)
}

pub(crate) async fn a_full_limit_is_passed_over(world: &World<'_>) {
    let all = [["slow", "a", "a"], ["slow", "a", "a"], ["quick", "a", "a"], ["other", "a", "a"]];
    let ids = admit(world, 1, &all).await;
    let startable = world.store.startable(9, OPEN, at(1)).await.unwrap();
    assert_eq!((startable.lanes.len(), startable.next_due), (4, None));
    let mut narrow = room(9, &[("slow", 0)]);
    narrow.profiles = BTreeMap::from([(profile(3), 0)]);
    assert_eq!(claim(world, narrow, 1).await, [ids[2]]);
    let mut none = room(9, &[]);
    none.run_profiles = BTreeMap::from([(RUN_PROFILE, 0)]);
    assert!(claim(world, none, 1).await.is_empty());
    let mut others = room(9, &[("slow", 5)]);
    others.other_processors = 0;
    assert_eq!(claim(world, others, 1).await, [ids[0], ids[1]]);
    assert_eq!(claim(world, room(9, &[]), 1).await, [ids[3]]);
    assert!(world.store.startable(9, OPEN, at(1)).await.unwrap().lanes.is_empty());
}

pub(crate) async fn room_is_counted_down(world: &World<'_>) {
    let mut expected = Vec::new();
    for cycle in 1..4 {
        let ids = admit(world, cycle, &[["slow", "a", "a"], ["slow", "a", "a"], ["quick", "a", "a"]]).await;
        expected.extend(ids);
    }
    // Of the processor there are two, and of the last profile one: the oldest of each.
    let mut free = room(9, &[("slow", 2)]);
    free.profiles = BTreeMap::from([(profile(2), 1)]);
    assert_eq!(claim(world, free, 1).await, [expected[0], expected[1], expected[2]]);
    let startable = world.store.startable(1, OPEN, at(1)).await.unwrap();
    assert!(startable.lanes.iter().all(|one| one.runs == 1), "counted no further than asked");
    assert_eq!(claim(world, room(2, &[("slow", 9)]), 1).await, [expected[3], expected[4]]);
    let mut free = room(9, &[]);
    free.run_profiles = BTreeMap::from([(RUN_PROFILE, 3)]);
    assert_eq!(claim(world, free, 1).await, [expected[5], expected[6], expected[7]]);
}

pub(crate) async fn a_run_waits_in_the_lane_of_its_next_step(world: &World<'_>) {
    let id = admit(world, 1, &[["one", "two", "three"]]).await[0];
    let lane = async |second: i64| -> Vec<Lane> {
        let found = world.store.startable(9, OPEN, at(second)).await.unwrap();
        found.lanes.into_iter().map(|one| one.lane).collect()
    };
    let of = |processor: &str| Lane {
        profile_id: profile(0),
        run_profile_id: RUN_PROFILE,
        processor: processor.to_owned(),
    };
    assert_eq!(lane(1).await, [of("one")]);
    let step = world.claim_step(at(1)).await;
    assert_eq!((step.claim.id, &step.lane), (id, &of("one")));
    assert!(lane(1).await.is_empty());
    world.commit(&step, succeeded(Step::Tier1, Step::Tier2), at(2)).await;
    assert_eq!(lane(2).await, [of("two")]);
    let step = world.claim_step(at(2)).await;
    assert_eq!(step.lane, of("two"));
    world.commit(&step, failed(Step::Tier2, AfterFailure::Retry { until: at(9) }), at(3)).await;
    let found = world.store.startable(9, OPEN, at(8)).await.unwrap();
    assert_eq!((found.lanes.len(), found.next_due), (0, Some(at(9))));
    let found = world.store.startable(9, OPEN, at(9)).await.unwrap();
    assert_eq!((found.lanes.len(), found.next_due), (1, None));
    assert!(claim(world, room(9, &[("two", 0)]), 9).await.is_empty());
    assert_eq!(claim(world, room(9, &[("two", 1)]), 9).await, [id]);
}

pub(crate) async fn the_first_step_tells_what_held_the_run(world: &World<'_>) {
    admit(world, 1, &[["slow", "two", "three"]]).await;
    let mut waits = Waits::new(at(1));
    let mut full = Fullness::default();
    full.note(true, at(2));
    full.note(false, at(5));
    waits.full.insert(Limit::Processor("slow".to_owned()), full);
    let free = Free { waits, ..Free::of(1, OPEN) };
    let step = world.store.claim_steps(free, at(6)).await.unwrap().remove(0);
    let again = failed(Step::Tier1, AfterFailure::Retry { until: at(7) });
    world.commit(&step, again, at(7)).await;
    let mut second = world.claim_step(at(8)).await;
    for next in [Step::Tier2, Step::Tier3] {
        let mut commit = succeeded(second.step, next);
        commit.claim_next = Some(Arc::clone(&second.request));
        let answer = world.store.commit_step(second.claim, commit, at(9)).await.unwrap();
        let orbit_store::contract::tiers::StepCommitted::Done { next: Some(next), .. } = answer else {
            panic!("the next step can start")
        };
        second = *next;
    }
    let started = world.log_of("step_started").await;
    assert_eq!(started.len(), 4);
    assert_eq!(started[0].body["waited_ms"], json!(6000));
    let expected = json!([
        { "limit": "restart", "ms": 1000 },
        { "limit": "processor", "name": "slow", "ms": 3000 },
        { "limit": "turn", "ms": 2000 },
    ]);
    assert_eq!(started[0].body["held"], expected);
    assert!(started[1..].iter().all(|record| record.body.get("waited_ms").is_none()), "once a run");
}
