//! A cycle gets its initiation, which is new in its scope, and then its runs.

use orbit_core::digest::Digest;
use orbit_core::limits::SELECTION_KEPT_MAX;
use orbit_core::run::{AfterFailure, Step};
use orbit_store::contract::dispatch::Settle;
use orbit_store::contract::schedule::NewCycle;
use orbit_store::contract::selection::{Admitting, NewRun, Start, TakeRule, Taken};
use orbit_store::contract::tiers::Free;
use orbit_store::contract::view::PageRequest;
use serde_json::{Value, json};

use super::world::{
    OPEN, World, answer, artifact, at, choice, cycle, cycle_id, done, failed, rule, run, snapshot,
};

async fn take(
    world: &World<'_>,
    number: u32,
    labels: &[&str],
    rule: TakeRule,
    second: i64,
) -> Option<String> {
    world.fire(number, at(second)).await;
    let cycle = world.claim_cycle(at(second)).await;
    let taken =
        world.store.take_initiation(cycle.claim, choice(&cycle, labels, rule), at(second)).await.unwrap();
    match taken {
        Taken::Initiation(initiation) => {
            assert!(
                world.store.admit(cycle.claim, vec![run(&cycle, 0, at(second))], at(second)).await.unwrap()
            );
            Some(initiation.label)
        }
        Taken::Exhausted => None,
        Taken::Admitted { .. } => panic!("no runs were given"),
        Taken::Outrun => panic!("there were too many candidates"),
        Taken::Lost => panic!("lost"),
    }
}

pub(crate) async fn the_oldest_waiting_cycle_is_claimed(world: &World<'_>) {
    assert_eq!(world.store.claim_cycle(at(0)).await.unwrap(), None);
    world.fire(1, at(0)).await;
    world.fire(2, at(1)).await;
    let one = world.claim_cycle(at(2)).await;
    assert_eq!((one.claim.id, &*one.trigger, one.nominal), (cycle_id(1), "manual:1", at(0)));
    assert_eq!((one.snapshot, &one.preset, &one.initiation), (snapshot(), &Value::Null, &None));
    let two = world.claim_cycle(at(2)).await;
    assert_eq!(two.claim.id, cycle_id(2));
    assert_ne!(one.claim.token, two.claim.token);
    assert_eq!(world.store.claim_cycle(at(2)).await.unwrap(), None);
    world.store.unclaim_cycle(one.claim).await.unwrap();
    let again = world.claim_cycle(at(3)).await;
    assert_eq!(again.claim.id, cycle_id(1));
    assert_ne!(again.claim.token, one.claim.token);
}

pub(crate) async fn a_lost_claim_changes_nothing(world: &World<'_>) {
    world.fire(1, at(0)).await;
    let lost = world.claim_cycle(at(1)).await;
    world.store.unclaim_cycle(lost.claim).await.unwrap();
    let before = world.log().await.len();
    let check = async || {
        let taken =
            world.store.take_initiation(lost.claim, choice(&lost, &["a"], rule()), at(2)).await.unwrap();
        assert_eq!(taken, Taken::Lost);
        assert!(!world.store.admit(lost.claim, vec![run(&lost, 0, at(2))], at(2)).await.unwrap());
        assert!(!world.store.fail_selection(lost.claim, "no", at(2)).await.unwrap());
        assert_eq!(world.log().await.len(), before);
    };
    check().await;
    let held = world.claim_cycle(at(3)).await;
    check().await;
    world.store.unclaim_cycle(lost.claim).await.unwrap();
    assert!(
        world.store.fail_selection(held.claim, "no", at(4)).await.unwrap(),
        "the other claim still holds"
    );
    assert_eq!(take(world, 2, &["a"], rule(), 5).await.as_deref(), Some("a"), "the lost claim holds nothing");
}

pub(crate) async fn the_first_new_candidate_is_taken(world: &World<'_>) {
    assert_eq!(take(world, 1, &["a", "b"], rule(), 0).await.as_deref(), Some("a"));
    assert_eq!(take(world, 2, &["a", "b"], rule(), 1).await.as_deref(), Some("b"));
    assert_eq!(take(world, 3, &["a", "b"], rule(), 2).await, None);
    assert_eq!(take(world, 4, &[], rule(), 3).await, None);
    let ended = world.store.cycle(cycle_id(3)).await.unwrap().unwrap();
    assert_eq!((&*ended.state, ended.outcome.as_deref()), ("finished", Some("skipped")));
    assert_eq!(ended.finished_at, Some(at(2)));
    assert_eq!(world.log_of("selection_exhausted").await[0].body["report"], json!({ "seen": 2 }));
    let selected = world.log_of("initiation_selected").await;
    assert_eq!(selected[1].body["initiation"]["label"], "b");
    assert_eq!(selected[1].cycle_id, Some(cycle_id(2)));
    let page = PageRequest { cursor: None, limit: 10 };
    let history = world.store.initiations(page).await.unwrap().items;
    let labels: Vec<_> = history.iter().map(|one| (&*one.label, one.selected_at, one.released_at)).collect();
    assert_eq!(labels, [("b", at(1), None), ("a", at(0), None)]);
    assert_eq!(world.store.cycle(cycle_id(1)).await.unwrap().unwrap().initiation.as_deref(), Some("a"));
}

pub(crate) async fn scopes_and_windows(world: &World<'_>) {
    let scope =
        |scope: &str, since| TakeRule { scope: scope.to_owned(), taken_since: since, release_on: vec![] };
    let check = async |scope: &TakeRule, expected: bool| {
        assert_eq!(world.store.is_taken(scope, Digest::of(b"a")).unwrap(), expected, "{scope:?}");
    };
    check(&scope("one", None), false).await;
    assert!(take(world, 1, &["a"], scope("one", None), 10).await.is_some());
    check(&scope("one", None), true).await;
    check(&scope("two", None), false).await;
    check(&scope("one", Some(at(10))), true).await;
    check(&scope("one", Some(at(11))), false).await;
    assert!(take(world, 2, &["a"], scope("two", None), 20).await.is_some());
    assert!(take(world, 3, &["a"], scope("one", Some(at(10))), 30).await.is_none());
    assert!(take(world, 4, &["a"], scope("one", Some(at(11))), 40).await.is_some());
    // The newest holder counts, also for a rule with a window.
    check(&scope("one", Some(at(40))), true).await;
    assert!(take(world, 5, &["a"], scope("one", Some(at(35))), 50).await.is_none());
}

pub(crate) async fn an_outcome_in_release_on_frees_the_candidate(world: &World<'_>) {
    let releasing = || TakeRule { release_on: vec!["failed".to_owned()], ..rule() };
    let fail = async |second| {
        let step = world.claim_step(at(second)).await;
        world.commit(&step, failed(Step::Tier1, AfterFailure::GiveUp), at(second)).await;
    };
    assert!(take(world, 1, &["kept"], rule(), 0).await.is_some());
    fail(1).await;
    assert_eq!(world.outcome_of_cycle(1).await.as_deref(), Some("failed"));
    assert!(take(world, 2, &["kept"], releasing(), 2).await.is_none());
    assert!(take(world, 3, &["freed"], releasing(), 3).await.is_some());
    assert!(world.store.is_taken(&rule(), Digest::of(b"freed")).unwrap());
    fail(4).await;
    assert!(!world.store.is_taken(&rule(), Digest::of(b"freed")).unwrap());
    let released = world.log_of("initiation_released").await;
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].cycle_id, Some(cycle_id(3)));
    assert!(take(world, 4, &["freed"], rule(), 5).await.is_some());
    let history = world.store.initiations(PageRequest { cursor: None, limit: 10 }).await.unwrap().items;
    let released: Vec<_> = history.iter().map(|one| one.released_at).collect();
    assert_eq!(released, [None, Some(at(4)), None]);
    // Freed by a window, then released by its newer holder: the older one still counts for ever.
    let windowed = TakeRule { taken_since: Some(at(60)), ..releasing() };
    assert!(take(world, 5, &["kept"], windowed, 60).await.is_some());
    let cancelled =
        world.store.cancel_run(world.claim_step(at(61)).await.claim.id, "x", at(61)).await.unwrap();
    assert!(cancelled.is_some());
    fail(62).await;
    assert!(world.store.is_taken(&rule(), Digest::of(b"kept")).unwrap());
}

pub(crate) async fn several_cycles_are_claimed_at_once(world: &World<'_>) {
    for number in 1..=3 {
        world.fire(number, at(0)).await;
    }
    let queued = |number| NewCycle { queued: true, ..cycle(number) };
    assert!(world.store.fire(queued(4), at(0)).await.unwrap());
    let claimed = world.store.claim_cycles(2, at(1)).await.unwrap();
    let ids: Vec<_> = claimed.iter().map(|one| one.claim.id).collect();
    assert_eq!(ids, [cycle_id(1), cycle_id(2)]);
    assert_ne!(claimed[0].claim.token, claimed[1].claim.token);
    // The queued one waits for what was claimed in the same call too.
    let rest = world.store.claim_cycles(9, at(1)).await.unwrap();
    assert_eq!(rest.iter().map(|one| one.claim.id).collect::<Vec<_>>(), [cycle_id(3)]);
    assert!(world.store.claim_cycles(9, at(1)).await.unwrap().is_empty());
}

pub(crate) async fn a_cycle_gets_its_first_candidate_and_its_runs_at_once(world: &World<'_>) {
    let take = async |number: u32, labels: &[&str]| {
        world.fire(number, at(0)).await;
        let cycle = world.claim_cycle(at(1)).await;
        let runs = vec![run(&cycle, 0, at(1))];
        let choice = choice(&cycle, labels, rule());
        let taken = world
            .store
            .take_and_admit(cycle.claim, choice, Admitting { runs, free: None }, at(1))
            .await
            .unwrap();
        (taken, world.store.cycle(cycle.claim.id).await.unwrap().unwrap(), cycle)
    };
    let (taken, view, cycle) = take(1, &["a", "b"]).await;
    assert_eq!(
        (taken, view.state.as_str(), view.initiation.as_deref()),
        (Taken::Admitted { started: Vec::new() }, "running", Some("a"))
    );
    assert!(world.store.run(run(&cycle, 0, at(1)).run_id).await.unwrap().is_some());
    // The runs were made for another candidate than the one that is left.
    let (taken, view, cycle) = take(2, &["a", "b"]).await;
    assert!(matches!(&taken, Taken::Initiation(initiation) if initiation.label == "b"), "{taken:?}");
    assert_eq!(view.state, "selecting");
    assert!(world.store.run(run(&cycle, 0, at(1)).run_id).await.unwrap().is_none());
    // Asked again, it is given what it has; its runs are still the caller's to make.
    let choice = choice(&cycle, &["c"], rule());
    let again = world
        .store
        .take_and_admit(cycle.claim, choice, Admitting { runs: Vec::new(), free: None }, at(2))
        .await
        .unwrap();
    assert_eq!(again, taken);
    let (_, view, _) = take(90, &["c"]).await;
    assert_eq!(view.initiation.as_deref(), Some("c"), "what it was asked for again is not held");
    let (taken, view, _) = take(3, &["a"]).await;
    assert_eq!((taken, view.outcome.as_deref()), (Taken::Exhausted, Some("skipped")));
    // As many as a pass keeps, and none of them new: the source may have more.
    let before = world.log().await.len();
    let (taken, view, _) = take(4, &["a"; SELECTION_KEPT_MAX]).await;
    assert_eq!((taken, view.state.as_str()), (Taken::Outrun, "selecting"));
    let kinds: Vec<_> = world.log().await.into_iter().skip(before).map(|record| record.kind).collect();
    assert_eq!(kinds, ["cycle_fired"]);
}

pub(crate) async fn runs_start_with_their_admission(world: &World<'_>) {
    let older = world.admitted(1, 1, at(0)).await;
    world.fire(2, at(1)).await;
    let cycle = world.claim_cycle(at(1)).await;
    let runs: Vec<_> = [0, 1].map(|number| run(&cycle, number, at(1))).into();
    let ids: Vec<_> = runs.iter().map(|run| run.run_id).collect();
    let admitting = Admitting { runs, free: Some(Free::of(2, OPEN)) };
    let choice = choice(&cycle, &["b"], rule());
    let taken = world.store.take_and_admit(cycle.claim, choice, admitting, at(1)).await.unwrap();
    let Taken::Admitted { started } = taken else { panic!("{taken:?}") };
    // There is room for two, and who waits longer comes first, if not here.
    let begun: Vec<_> = started.iter().map(|step| step.claim.id).collect();
    assert_eq!(begun, [ids[0]]);
    assert_eq!(world.claim_step(at(2)).await.claim.id, older[0]);
    assert_eq!(world.claim_step(at(2)).await.claim.id, ids[1]);
    for step in started {
        world.commit(&step, done(&step, &[]), at(2)).await;
    }
}

pub(crate) async fn runs_start_with_their_admission_where_nobody_waits(world: &World<'_>) {
    world.fire(1, at(0)).await;
    let cycle = world.claim_cycle(at(0)).await;
    let later = Start { step: Step::Tier3, input: artifact("of an older run") };
    let runs = vec![
        run(&cycle, 0, at(0)),
        NewRun { start: Some(later.clone()), ..run(&cycle, 1, at(0)) },
        NewRun { rejected: Some("no processor".to_owned()), ..run(&cycle, 2, at(0)) },
    ];
    let admitting = Admitting { runs: runs.clone(), free: Some(Free::of(3, OPEN)) };
    let choice = choice(&cycle, &["a"], rule());
    let taken = world.store.take_and_admit(cycle.claim, choice, admitting, at(0)).await.unwrap();
    let Taken::Admitted { started } = taken else { panic!("{taken:?}") };
    let told: Vec<_> =
        started.iter().map(|one| (one.claim.id, one.step, one.attempt, one.input.clone())).collect();
    let expected =
        [(runs[0].run_id, Step::Tier1, 1, None), (runs[1].run_id, Step::Tier3, 1, Some(later.input))];
    assert_eq!(told, expected);
    let lanes: Vec<_> = started.iter().map(|one| (one.lane.profile_id, &*one.lane.processor)).collect();
    assert_eq!(lanes, [(runs[0].profile_id, "first"), (runs[1].profile_id, "second")]);
    assert_eq!(*started[0].request, runs[0].request);
}

pub(crate) async fn the_last_receipt_ends_the_cycle(world: &World<'_>) {
    // What the first of three runs comes to makes the outcome, and frees the candidate or not.
    for (number, fails, outcome, is_freed) in [(1, true, "partial", true), (2, false, "succeeded", false)] {
        let begins = i64::from(number) * 10;
        let releasing = TakeRule { release_on: vec!["partial".to_owned()], ..rule() };
        world.admitted_under(number, 3, releasing, at(begins)).await;
        for is_first in [true, false, false] {
            let step = world.claim_step(at(begins)).await;
            let commit = if is_first && fails {
                failed(Step::Tier1, AfterFailure::GiveUp)
            } else {
                done(&step, &["cabinet"])
            };
            world.commit(&step, commit, at(begins)).await;
        }
        for _ in usize::from(fails)..3 {
            assert_eq!(world.outcome_of_cycle(number).await, None, "{outcome}");
            world.attempt("cabinet", answer("accepted", Settle::Accepted), at(begins + 1)).await;
        }
        assert_eq!(world.outcome_of_cycle(number).await.as_deref(), Some(outcome));
        let candidate = Digest::of(format!("candidate {number}").as_bytes());
        assert_eq!(world.store.is_taken(&rule(), candidate).unwrap(), !is_freed, "{outcome}");
    }
}

pub(crate) async fn a_crash_between_taking_and_admitting(world: &World<'_>) {
    world.fire(1, at(0)).await;
    let first = world.claim_cycle(at(1)).await;
    let taken =
        world.store.take_initiation(first.claim, choice(&first, &["a"], rule()), at(1)).await.unwrap();
    let Taken::Initiation(initiation) = taken else { panic!("{taken:?}") };
    assert_eq!(world.join(at(2)).await.cycles_reclaimed, 1);
    assert!(!world.store.admit(first.claim, vec![run(&first, 0, at(2))], at(2)).await.unwrap());
    let second = world.claim_cycle(at(3)).await;
    assert_eq!(second.initiation, Some(initiation.clone()));
    let again =
        world.store.take_initiation(second.claim, choice(&second, &["b"], rule()), at(3)).await.unwrap();
    assert_eq!(again, Taken::Initiation(initiation));
    assert!(world.store.admit(second.claim, vec![run(&second, 0, at(3))], at(3)).await.unwrap());
    assert_eq!(world.log_of("initiation_selected").await.len(), 1);
}

pub(crate) async fn a_failed_selection_ends_the_cycle(world: &World<'_>) {
    world.fire(1, at(0)).await;
    let cycle = world.claim_cycle(at(1)).await;
    assert!(world.store.fail_selection(cycle.claim, "no such file", at(2)).await.unwrap());
    assert!(!world.store.fail_selection(cycle.claim, "no such file", at(3)).await.unwrap());
    let view = world.store.cycle(cycle_id(1)).await.unwrap().unwrap();
    assert_eq!((view.outcome.as_deref(), view.reason.as_deref()), (Some("failed"), Some("no such file")));
    let kinds: Vec<_> = world.log().await.into_iter().map(|record| record.kind).collect();
    assert_eq!(kinds, ["node_started", "cycle_fired", "selection_failed", "cycle_finished"]);
}

pub(crate) async fn a_rejected_run_fails_at_once(world: &World<'_>) {
    world.fire(1, at(0)).await;
    let cycle = world.claim_cycle(at(1)).await;
    let mut runs = vec![run(&cycle, 0, at(1)), run(&cycle, 1, at(1))];
    runs[0].rejected = Some("undefined value".to_owned());
    runs[0].request = Value::Null;
    let (rejected, other) = (runs[0].run_id, runs[1].run_id);
    assert!(world.store.admit(cycle.claim, runs, at(1)).await.unwrap());
    let view = world.store.run(rejected).await.unwrap().unwrap();
    assert_eq!((view.outcome.as_deref(), view.reason.as_deref()), (Some("failed"), Some("undefined value")));
    assert_eq!(world.story(rejected).await, ["run_admitted", "synthesis_failed"]);
    assert_eq!(world.outcome_of_cycle(1).await, None);
    let step = world.claim_step(at(2)).await;
    assert_eq!(step.claim.id, other);
    world.commit(&step, super::world::done(&step, &[]), at(3)).await;
    assert_eq!(world.outcome_of_cycle(1).await.as_deref(), Some("partial"));
    world.fire(2, at(4)).await;
    let empty = world.claim_cycle(at(4)).await;
    assert!(world.store.admit(empty.claim, vec![], at(4)).await.unwrap());
    assert_eq!(world.outcome_of_cycle(2).await.as_deref(), Some("skipped"));
}

pub(crate) async fn a_preset_needs_no_initiation(world: &World<'_>) {
    let mut preset = cycle(1);
    preset.preset = json!([{ "run": 1 }]);
    world.store.fire(preset, at(0)).await.unwrap();
    let claimed = world.claim_cycle(at(1)).await;
    assert_eq!(claimed.preset, json!([{ "run": 1 }]));
    assert!(world.store.admit(claimed.claim, vec![run(&claimed, 0, at(1))], at(1)).await.unwrap());
    let view = world.store.cycle(cycle_id(1)).await.unwrap().unwrap();
    assert_eq!((&*view.state, view.initiation.as_deref()), ("running", Some("asked")));
    let admitted = world.log_of("run_admitted").await;
    assert_eq!(admitted[0].body["request"]["number"], 0);
}

pub(crate) async fn a_retry_begins_where_it_is_told_and_cites_the_old_run(world: &World<'_>) {
    let old = world.admitted(1, 1, at(0)).await[0];
    world.store.cancel_run(old, "by hand", at(1)).await.unwrap();
    world.fire(2, at(2)).await;
    let claimed = world.claim_cycle(at(2)).await;
    world.store.take_initiation(claimed.claim, choice(&claimed, &["again"], rule()), at(2)).await.unwrap();
    let mut new = run(&claimed, 0, at(2));
    new.retry_of = Some(old);
    new.start = Some(Start { step: Step::Tier3, input: artifact("of tier 2") });
    let run_id = new.run_id;
    assert!(world.store.admit(claimed.claim, vec![new], at(2)).await.unwrap());
    let admitted = world.log_of("run_admitted").await.pop().unwrap();
    assert_eq!((&admitted.body["retry_of"], &admitted.body["start"]["step"]), (&json!(old), &json!("tier3")));
    let view = world.store.run(run_id).await.unwrap().unwrap();
    assert_eq!((view.retry_of, view.from, view.steps.len()), (Some(old), Some(Step::Tier3), 0));
    assert_eq!(world.store.run(old).await.unwrap().unwrap().retried_by, [run_id]);
    let step = world.claim_step(at(3)).await;
    assert_eq!(
        (step.step, step.attempt, step.input.as_ref()),
        (Step::Tier3, 1, Some(&artifact("of tier 2")))
    );
    world.commit(&step, done(&step, &[]), at(4)).await;
    assert_eq!(world.state_of_run(run_id).await.1.as_deref(), Some("succeeded"));
    let request = world.store.run_request(run_id).await.unwrap().unwrap();
    assert_eq!((&request.request["number"], &*request.initiation.unwrap().label), (&json!(0), "again"));
}
