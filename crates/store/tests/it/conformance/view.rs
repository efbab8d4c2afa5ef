//! Reads for screens.

use orbit_core::run::Step;
use orbit_store::contract::dispatch::Settle;
use orbit_store::contract::view::{Identified, Page, PageRequest};
use uuid::Uuid;

use super::world::{RUN_PROFILE, World, answer, artifact, at, cycle_id, done, snapshot, succeeded};

fn page(cursor: Option<&str>, limit: u32) -> PageRequest {
    PageRequest { cursor: cursor.map(str::to_owned), limit }
}

/// Follows the cursors to the end; how many items each page had.
async fn lengths<T>(read: impl AsyncFn(PageRequest) -> Page<T>, limit: u32) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut cursor = None;
    loop {
        let page = read(PageRequest { cursor, limit }).await;
        lengths.push(page.items.len());
        match page.next {
            Some(next) => cursor = Some(next),
            None => return lengths,
        }
    }
}

pub(crate) async fn pages_are_cut_where_the_cursor_says(world: &World<'_>) {
    for number in 1..=5 {
        world.dispatching(number, &["archive"], at(i64::from(number))).await;
    }
    let store = world.store;
    assert_eq!(lengths(async |page| store.cycles(page).await.unwrap(), 2).await, [2, 2, 1]);
    assert_eq!(lengths(async |page| store.runs(None, page).await.unwrap(), 5).await, [5]);
    assert_eq!(lengths(async |page| store.deliveries(None, page).await.unwrap(), 4).await, [4, 1]);
    assert_eq!(lengths(async |page| store.initiations(page).await.unwrap(), 0).await, [1; 5]);
    let first = store.cycles(page(None, 2)).await.unwrap();
    let ids: Vec<_> = first.items.iter().map(|cycle| cycle.cycle_id).collect();
    assert_eq!(ids, [cycle_id(5), cycle_id(4)]);
    let next = store.cycles(page(first.next.as_deref(), 1000)).await.unwrap();
    let ids: Vec<_> = next.items.iter().map(|cycle| cycle.cycle_id).collect();
    assert_eq!(ids, [cycle_id(3), cycle_id(2), cycle_id(1)]);
    for unknown in ["", "x", "-1", "99999999999999999999"] {
        let page = store.cycles(page(Some(unknown), 2)).await.unwrap();
        assert_eq!((page.items.len(), page.next), (0, None), "{unknown}");
    }
}

pub(crate) async fn counts_tell_states(world: &World<'_>) {
    assert_eq!(world.store.counts().await.unwrap().records, 1, "that of the join");
    world.dispatching(1, &["archive", "mirror"], at(0)).await;
    world.attempt("archive", answer("accepted", Settle::Accepted), at(1)).await;
    world.admitted(2, 2, at(2)).await;
    world.fire(3, at(3)).await;
    let counts = world.store.counts().await.unwrap();
    let of = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    assert_eq!(counts.cycles, of(&[("running", 2), ("waiting", 1)]));
    assert_eq!(counts.runs, of(&[("dispatching", 1), ("ready", 2)]));
    assert_eq!(counts.deliveries, of(&[("accepted", 1), ("waiting", 1)]));
    assert_eq!(counts.records, world.log().await.len() as u64);
}

pub(crate) async fn views_tell_the_story(world: &World<'_>) {
    let runs = world.admitted(1, 2, at(0)).await;
    let step = world.claim_step(at(1)).await;
    world.commit(&step, succeeded(Step::Tier1, Step::Tier2), at(2)).await;
    let run = world.store.run(step.claim.id).await.unwrap().unwrap();
    assert_eq!((run.cycle_id, run.run_profile_id, run.snapshot), (cycle_id(1), RUN_PROFILE, snapshot()));
    assert_eq!((&*run.namespace, &*run.run_profile, &*run.initiation), ("studio", "daily", "asked"));
    assert_eq!((run.nominal_time, run.started_at, run.finished_at), (at(0), at(0), None));
    assert_eq!(run.steps.len(), 1);
    let (step, expected) = (&run.steps[0], artifact("tier1"));
    assert_eq!((&*step.step, &*step.state, step.attempts), ("tier1", "succeeded", 1));
    assert_eq!((step.bytes, step.digest), (Some(expected.bytes), Some(expected.digest)));
    assert_eq!((step.media_type.as_deref(), step.failure.as_deref()), (Some("text/plain"), None));
    let cycle = world.store.cycle(cycle_id(1)).await.unwrap().unwrap();
    assert_eq!((cycle.runs, cycle.initiation.as_deref()), (runs.clone(), Some("candidate 1")));
    let second = world.claim_step(at(3)).await;
    world.commit(&second, done(&second, &["archive"]), at(3)).await;
    let of_first = world.store.runs(Some(cycle_id(1)), page(None, 10)).await.unwrap().items;
    assert_eq!(of_first.iter().map(|run| run.run_id).collect::<Vec<_>>(), [runs[1], runs[0]]);
    let state = |state: &str| Some(state.to_owned());
    let waiting = world.store.deliveries(state("waiting"), page(None, 10)).await.unwrap().items;
    assert_eq!((waiting.len(), waiting[0].due_at, waiting[0].created_at), (1, Some(at(3)), at(3)));
    assert!(world.store.deliveries(state("dead"), page(None, 10)).await.unwrap().items.is_empty());
    assert_eq!(world.store.run(Uuid::from_u128(404)).await.unwrap(), None);
    assert_eq!(world.store.delivery(Uuid::from_u128(404)).await.unwrap(), None);
    assert_eq!(world.store.cycle(Uuid::from_u128(404)).await.unwrap(), None);
}

pub(crate) async fn ids_are_found_by_how_they_begin(world: &World<'_>) {
    let run_id = world.dispatching(1, &["archive"], at(0)).await;
    let delivery_id = orbit_core::id::delivery_id(run_id, "archive");
    let all =
        [(Identified::Cycle, cycle_id(1)), (Identified::Run, run_id), (Identified::Delivery, delivery_id)];
    for (of, id) in all {
        let text = id.to_string();
        for length in [8, 13, 36] {
            assert_eq!(
                world.store.ids_that_begin(of, &text[..length], 9).await.unwrap(),
                [id],
                "{of:?} {length}"
            );
        }
        assert!(world.store.ids_that_begin(of, &text, 0).await.unwrap().is_empty());
        // The next text of the same length.
        let other = if text.starts_with('0') { "1" } else { "0" };
        assert!(world.store.ids_that_begin(of, other, 9).await.unwrap().is_empty(), "{of:?}");
    }
}
