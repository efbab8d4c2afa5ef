//! What is to be told: gathered once, owed once, delivered as everything else.

use orbit_core::config::{NotifyEvent, Snapshot};
use orbit_core::id;
use orbit_core::limits::NOTICE_EXAMPLES_MAX;
use orbit_store::contract::config::Base;
use orbit_store::contract::dispatch::{RedriveFilter, Settle};
use orbit_store::contract::notify::{ClaimedNotice, DueNotice, NewTold, NotifyCommit, OwedNotice};
use serde_json::json;

use super::world::{World, answer, at, dead, namespace};

const LIMIT: u32 = 10;

pub(crate) fn snapshot(rules: bool) -> Snapshot {
    let rule = json!([{ "endpoint": "operator", "on": ["cycle_failed"] }]);
    let notify = if rules { rule } else { json!([]) };
    serde_json::from_value(json!({
        "namespace": "studio", "config": { "notify": notify }, "sources": {}, "processors": {}, "endpoints": {},
        "profiles": {}, "run_profiles": {}, "assets": {},
    }))
    .unwrap()
}

pub(crate) fn told(endpoint: &str, event: NotifyEvent, position: u64, second: i64) -> NewTold {
    NewTold {
        notice_id: id::notice_id(&namespace(), endpoint, event.name(), (position, at(second))),
        endpoint: endpoint.to_owned(),
        event: event.name(),
        count: 2,
        at: at(second),
        example: json!({ "position": position }),
    }
}

/// The rules are there, and these events are told at `second`; due 5 s later.
pub(crate) async fn tell(world: &World<'_>, events: &[NewTold], second: i64) {
    world.store.activate(&snapshot(true), Base::Any, at(0)).await.unwrap();
    let base = world.store.notify_cursor().await.unwrap().unwrap();
    let commit = NotifyCommit { base, cursor: base + 1, told: events.to_vec(), due_at: at(second + 5) };
    assert!(world.store.commit_notices(commit).await.unwrap());
}

pub(crate) async fn owe(world: &World<'_>, due: DueNotice, second: i64) -> bool {
    let owed = OwedNotice {
        delivery_id: id::notice_delivery_id(due.notice.notice_id),
        url: "https://operator.example.net/".to_owned(),
        snapshot: snapshot(true).digest(),
        body: due.notice.body("studio", "node"),
        due,
    };
    world.store.owe_notice(owed, at(second)).await.unwrap()
}

pub(crate) async fn due(world: &World<'_>, second: i64) -> Vec<DueNotice> {
    world.store.due_notices(LIMIT, at(second)).await.unwrap()
}

/// Tells of one failed cycle, owes it and claims its first attempt.
async fn claimed(world: &World<'_>, second: i64) -> ClaimedNotice {
    tell(world, &[told("operator", NotifyEvent::CycleFailed, 1, second)], second).await;
    for notice in due(world, second + 5).await {
        assert!(owe(world, notice, second + 5).await);
    }
    world.store.claim_notices("operator", LIMIT, at(second + 5)).await.unwrap().remove(0)
}

/// Three notices of one failed cycle each: the first is accepted, the second given up, the third waits.
pub(crate) async fn accepted_dead_and_waiting(world: &World<'_>) {
    world.join(at(0)).await;
    for (second, settle) in [(10, Some(Settle::Accepted)), (20, Some(dead())), (30, None)] {
        tell(world, &[told("operator", NotifyEvent::CycleFailed, 1, second)], second).await;
        for notice in due(world, second + 5).await {
            assert!(owe(world, notice, second + 5).await);
        }
        let Some(settle) = settle else { continue };
        let claimed = world.store.claim_notices("operator", LIMIT, at(second + 5)).await.unwrap().remove(0);
        assert!(
            world.store.commit_attempt(claimed.claim, answer("told", settle), at(second + 6)).await.unwrap()
        );
    }
}

pub(crate) async fn the_log_is_followed_while_there_are_rules(world: &World<'_>) {
    let store = world.store;
    store.halt("before", at(0)).await.unwrap();
    assert_eq!(store.notify_cursor().await.unwrap(), None);
    store.activate(&snapshot(true), Base::Any, at(1)).await.unwrap();
    assert_eq!(store.notify_cursor().await.unwrap(), Some(1));
    let commit = NotifyCommit { base: 1, cursor: 2, told: Vec::new(), due_at: at(9) };
    assert!(store.commit_notices(commit.clone()).await.unwrap());
    assert!(!store.commit_notices(commit).await.unwrap(), "the cursor has moved");
    store.activate(&snapshot(true), Base::Any, at(2)).await.unwrap();
    assert_eq!(store.notify_cursor().await.unwrap(), Some(2), "a restart begins where it was");
    store.activate(&snapshot(false), Base::Any, at(3)).await.unwrap();
    assert_eq!(store.notify_cursor().await.unwrap(), None);
    store.resume(at(4)).await.unwrap();
    store.activate(&snapshot(true), Base::Any, at(5)).await.unwrap();
    let end = world.log().await.len() as u64;
    assert_eq!(store.notify_cursor().await.unwrap(), Some(end - 1), "what was before is not told");
}

pub(crate) async fn events_gather_in_one_notice(world: &World<'_>) {
    let failed = |position: u64| told("operator", NotifyEvent::CycleFailed, position, position.cast_signed());
    let events: Vec<_> = (1..=15).map(failed).collect();
    let other = told("pager", NotifyEvent::CycleFailed, 1, 1);
    let halted = told("operator", NotifyEvent::Halted, 1, 1);
    tell(world, &[&events[..], &[other, halted]].concat(), 1).await;
    assert!(due(world, 5).await.is_empty());
    assert_eq!(world.store.next_notice_due().await.unwrap(), Some(at(6)));
    let gathered = due(world, 6).await;
    assert_eq!(gathered.len(), 3);
    let notice = &gathered[0].notice;
    assert_eq!((notice.notice_id, notice.count), (events[0].notice_id, 30));
    assert_eq!((notice.first_at, notice.last_at), (at(1), at(15)));
    let examples = notice.examples.as_array().unwrap();
    assert_eq!((examples.len(), &examples[1]), (NOTICE_EXAMPLES_MAX, &json!({ "position": 2 })));
    assert_eq!(world.store.notices_waiting().await.unwrap(), 3);
    world.store.forget_notice(notice.notice_id).await.unwrap();
    assert_eq!(due(world, 6).await.len(), 2);
}

pub(crate) async fn a_notice_is_owed_once_and_the_next_waits_for_it(world: &World<'_>) {
    let first = told("operator", NotifyEvent::CycleFailed, 1, 1);
    tell(world, std::slice::from_ref(&first), 1).await;
    let before = due(world, 6).await.remove(0);
    tell(world, &[told("operator", NotifyEvent::CycleFailed, 2, 2)], 2).await;
    assert!(!owe(world, before, 6).await, "it was raised meanwhile");
    let raised = due(world, 6).await.remove(0);
    assert!(owe(world, raised.clone(), 6).await);
    assert!(!owe(world, raised, 6).await, "it is owed already");
    tell(world, &[told("operator", NotifyEvent::CycleFailed, 3, 7)], 7).await;
    assert!(due(world, 100).await.is_empty(), "an earlier one is under way");
    assert_eq!(world.store.next_notice_due().await.unwrap(), None);
    let claimed = world.store.claim_notices("operator", LIMIT, at(20)).await.unwrap().remove(0);
    assert_eq!((claimed.notice_id, claimed.attempt), (first.notice_id, 1));
    assert!(claimed.body.contains("\"count\":4"), "{}", claimed.body);
    let accepted = answer("accepted", Settle::Accepted);
    assert!(world.store.commit_attempt(claimed.claim, accepted, at(21)).await.unwrap());
    assert_eq!(due(world, 100).await.len(), 1);
    for kind in ["delivery_created", "attempt_started", "receipt_captured", "delivery_settled"] {
        let records = world.log_of(kind).await;
        assert_eq!(records.len(), 1, "{kind}");
        assert_eq!(records[0].body["notice_id"], json!(first.notice_id), "{kind}");
        assert_eq!((records[0].run_id, records[0].cycle_id), (None, None), "{kind}");
    }
}

pub(crate) async fn a_dead_notice_is_redriven(world: &World<'_>) {
    let store = world.store;
    let notice = claimed(world, 1).await;
    let retry = answer("unavailable", Settle::Retry { until: at(30) });
    assert!(store.commit_attempt(notice.claim, retry, at(7)).await.unwrap());
    assert!(store.claim_notices("operator", LIMIT, at(29)).await.unwrap().is_empty());
    assert_eq!(store.notice_endpoints(at(29)).await.unwrap(), Vec::<String>::new());
    assert_eq!(store.notice_endpoints(at(30)).await.unwrap(), ["operator"]);
    let again = store.claim_notices("operator", LIMIT, at(30)).await.unwrap().remove(0);
    assert_eq!((again.attempt, again.attempt_in_round, &again.body), (2, 2, &notice.body));
    assert!(store.commit_attempt(again.claim, answer("refused", dead()), at(31)).await.unwrap());
    let view = store.delivery(again.claim.id).await.unwrap().unwrap();
    assert_eq!((view.run_id, view.state.as_str(), view.receipts.len()), (None, "dead", 2));
    assert_eq!(view.notice.map(|notice| notice.event).as_deref(), Some("cycle_failed"));
    assert_eq!(store.notices_waiting().await.unwrap(), 0);
    let filter = RedriveFilter { delivery_id: Some(again.claim.id), ..RedriveFilter::default() };
    assert_eq!(store.count_redrivable(filter.clone()).await.unwrap(), 1);
    assert_eq!(store.redrive(filter, None, at(40)).await.unwrap().ids, [again.claim.id]);
    let third = store.claim_notices("operator", LIMIT, at(41)).await.unwrap().remove(0);
    assert_eq!((third.attempt, third.attempt_in_round), (3, 1));
    assert!(store.commit_attempt(third.claim, answer("accepted", Settle::Accepted), at(42)).await.unwrap());
}

pub(crate) async fn a_notice_under_way_outlives_a_crash(world: &World<'_>) {
    let store = world.store;
    let notice = claimed(world, 1).await;
    let recovered = world.join(at(10)).await;
    assert_eq!(recovered.attempts_unknown, 1);
    let stale = answer("accepted", Settle::Accepted);
    assert!(!store.commit_attempt(notice.claim, stale, at(11)).await.unwrap());
    let again = store.claim_notices("operator", LIMIT, at(11)).await.unwrap().remove(0);
    assert_eq!((again.claim.id, again.attempt, &again.body), (notice.claim.id, 2, &notice.body));
    assert!(store.commit_attempt(again.claim, answer("accepted", Settle::Accepted), at(12)).await.unwrap());
}

pub(crate) async fn a_notice_to_a_disabled_endpoint_is_dead_at_once(world: &World<'_>) {
    let store = world.store;
    let notice = claimed(world, 1).await;
    let mut gone = answer("gone", dead());
    gone.disable_endpoint = Some("status 410".to_owned());
    assert!(store.commit_attempt(notice.claim, gone, at(7)).await.unwrap());
    let disabled = world.log_of("endpoint_disabled").await;
    assert_eq!(disabled[0].body["notice_id"], json!(notice.notice_id), "so that it makes no notice");
    tell(world, &[told("operator", NotifyEvent::CycleFailed, 9, 8)], 8).await;
    let next = due(world, 20).await.remove(0);
    let delivery_id = id::notice_delivery_id(next.notice.notice_id);
    assert!(owe(world, next, 20).await);
    assert_eq!(store.delivery(delivery_id).await.unwrap().unwrap().state, "dead");
}
