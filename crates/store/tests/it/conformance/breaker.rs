//! An endpoint that seems to be down is left alone, and a single attempt finds out when it is back.

use orbit_store::contract::dispatch::{AttemptCommit, RedriveFilter, Settle};
use orbit_store::contract::view::EndpointView;
use serde_json::json;

use super::world::{OPEN, World, answer, at, dead};

fn down(until: i64) -> AttemptCommit {
    answer("unavailable", Settle::Retry { until: at(until) })
}

/// So many runs that owe one delivery each.
async fn owing(world: &World<'_>, runs: u32, endpoints: &[&str]) {
    for number in 1..=runs {
        world.dispatching(number, endpoints, at(0)).await;
    }
}

async fn view(world: &World<'_>, endpoint: &str) -> EndpointView {
    world.store.counts().await.unwrap().endpoints.remove(endpoint).unwrap_or_default()
}

async fn claims(world: &World<'_>, endpoint: &str, now: i64) -> usize {
    world.store.claim_deliveries(endpoint, 9, OPEN, at(now)).await.unwrap().len()
}

pub(crate) async fn a_breaker_opens_and_one_attempt_probes(world: &World<'_>) {
    owing(world, 4, &["archive", "mirror"]).await;
    world.attempt("archive", down(1), at(1)).await;
    assert_eq!((&*view(world, "archive").await.state, view(world, "archive").await.failures), ("closed", 1));
    world.attempt("archive", down(2), at(2)).await;
    assert_eq!(view(world, "archive").await.open_until, Some(at(12)));
    assert_eq!(claims(world, "archive", 11).await, 0, "open");
    assert_eq!(world.due_endpoints(at(11)).await, ["mirror"], "and slows no other");
    assert_eq!(claims(world, "mirror", 11).await, 4);
    // The pause is over: one goes through, whatever is asked for.
    assert_eq!(world.due_endpoints(at(12)).await, ["archive"]);
    let mut probe = world.store.claim_deliveries("archive", 9, OPEN, at(12)).await.unwrap();
    assert_eq!(probe.len(), 1);
    assert_eq!(view(world, "archive").await.state, "half_open");
    assert_eq!((claims(world, "archive", 99).await, world.due_endpoints(at(99)).await.len()), (0, 0));
    let probe = probe.remove(0);
    assert!(world.store.commit_attempt(probe.claim, down(13), at(13)).await.unwrap());
    assert_eq!(view(world, "archive").await.open_until, Some(at(33)), "twice the pause");
    let probe = world.claim_delivery("archive", at(40)).await;
    assert!(
        world.store.commit_attempt(probe.claim, answer("accepted", Settle::Accepted), at(41)).await.unwrap()
    );
    assert_eq!(view(world, "archive").await, EndpointView::default(), "nothing is left to tell");
    assert_eq!(claims(world, "archive", 41).await, 3);
    for (kind, count) in [("breaker_opened", 2), ("breaker_half_opened", 2), ("breaker_closed", 1)] {
        assert_eq!(world.log_of(kind).await.len(), count, "{kind}");
    }
    let opened = world.log_of("breaker_opened").await;
    assert_eq!(
        (&opened[1].body["endpoint"], &opened[1].body["pause_ms"]),
        (&json!("archive"), &json!(20_000))
    );
}

pub(crate) async fn a_lost_probe_is_made_again(world: &World<'_>) {
    owing(world, 3, &["archive"]).await;
    world.attempt("archive", down(1), at(1)).await;
    world.attempt("archive", down(2), at(2)).await;
    let probe = world.claim_delivery("archive", at(20)).await;
    world.join(at(21)).await;
    assert_eq!(view(world, "archive").await.state, "open");
    let again = world.claim_delivery("archive", at(22)).await;
    assert_ne!(again.claim.token, probe.claim.token);
    assert_eq!(claims(world, "archive", 22).await, 0);
    // Cut short by a halt it tells nothing either.
    let cut = answer("interrupted", Settle::Retry { until: at(23) });
    assert!(world.store.commit_attempt(again.claim, cut, at(23)).await.unwrap());
    assert_eq!(view(world, "archive").await.state, "open");
    assert_eq!(claims(world, "archive", 23).await, 1);
}

pub(crate) async fn a_cancelled_probe_still_tells(world: &World<'_>) {
    owing(world, 2, &["archive"]).await;
    world.attempt("archive", down(1), at(1)).await;
    world.attempt("archive", down(2), at(2)).await;
    let probe = world.claim_delivery("archive", at(20)).await;
    world.store.cancel_run(probe.run_id, "by hand", at(21)).await.unwrap();
    assert_eq!(claims(world, "archive", 22).await, 0);
    assert!(!world.store.commit_attempt(probe.claim, down(23), at(23)).await.unwrap());
    assert_eq!(view(world, "archive").await.open_until, Some(at(43)));
}

pub(crate) async fn an_endpoint_that_only_fails_is_disabled_after_a_warning(world: &World<'_>) {
    owing(world, 2, &["archive"]).await;
    let refused = |until| answer("refused", Settle::Retry { until: at(until) });
    world.attempt("archive", refused(100), at(0)).await;
    assert_eq!(view(world, "archive").await.failing_since, Some(at(0)));
    assert_eq!(view(world, "archive").await.failures, 0, "it answers, so the breaker is not its business");
    world.attempt("archive", refused(299), at(299)).await;
    assert!(world.log_of("endpoint_failing").await.is_empty());
    world.attempt("archive", refused(300), at(300)).await;
    let warning = world.log_of("endpoint_failing").await;
    assert_eq!((warning.len(), &warning[0].body["since"]), (1, &json!(at(0))));
    world.attempt("archive", refused(599), at(599)).await;
    assert_eq!(world.log_of("endpoint_failing").await.len(), 1);
    let last = world.attempt("archive", refused(601), at(600)).await;
    let found = world.store.delivery(last.claim.id).await.unwrap().unwrap();
    assert_eq!(found.state, "dead");
    assert!(found.reason.unwrap().starts_with("the endpoint is disabled: it has accepted nothing since"));
    assert_eq!(view(world, "archive").await.state, "disabled");
    assert_eq!(world.log_of("endpoint_disabled").await.len(), 1);
    assert_eq!(world.store.give_up_disabled(at(601)).await.unwrap(), 1);
    assert_eq!(world.redrive(RedriveFilter::default(), at(602)).await.len(), 2);
    world.attempt("archive", refused(700), at(700)).await;
    assert_eq!(view(world, "archive").await.failing_since, Some(at(700)), "it begins anew");
    let again = world.attempt("archive", answer("accepted", Settle::Accepted), at(701)).await;
    assert_eq!(world.state_of_delivery(again.run_id, "archive").await, "accepted");
    assert_eq!(view(world, "archive").await, EndpointView::default());
    world.attempt("archive", answer("refused", dead()), at(702)).await;
}

pub(crate) async fn each_endpoint_is_due_by_itself(world: &World<'_>) {
    owing(world, 2, &["archive", "mirror", "third"]).await;
    world.attempt("mirror", answer("refused", Settle::Retry { until: at(50) }), at(1)).await;
    world.attempt("mirror", answer("refused", Settle::Retry { until: at(40) }), at(1)).await;
    world.attempt("third", down(5), at(1)).await;
    world.attempt("third", down(5), at(2)).await;
    let waiting = world.store.waiting_endpoints().await.unwrap();
    let told: Vec<_> = waiting.iter().map(|one| (&*one.endpoint, one.due_at, one.head_due_at)).collect();
    let expected = [
        ("archive", at(0), at(0)),
        ("mirror", at(40), at(50)),
        // Not before the pause of its breaker is over.
        ("third", at(12), at(12)),
    ];
    assert_eq!(told, expected);
}
