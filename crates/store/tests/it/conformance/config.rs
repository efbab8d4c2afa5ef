//! Snapshots, halts, and the log itself.

use orbit_core::config::Snapshot;
use orbit_core::digest::Digest;
use orbit_core::record::{Body, Kind, Record, Subject};
use orbit_core::run::{AfterFailure, Step};
use orbit_store::contract::Evidence;
use orbit_store::contract::config::{Activated, Base};
use orbit_store::contract::record::RecordFilter;
use orbit_store::contract::view::PageRequest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::{World, at, failed};

fn snapshot(label: &str) -> Snapshot {
    serde_json::from_value(json!({
        "namespace": "studio", "config": { "label": label }, "sources": {}, "processors": {}, "endpoints": {},
        "profiles": {}, "run_profiles": {}, "assets": {},
    }))
    .unwrap()
}

pub(crate) async fn a_snapshot_is_activated_once_and_kept(world: &World<'_>) {
    let store = world.store;
    let (one, two) = (snapshot("one"), snapshot("two"));
    let (first, second) = (one.digest(), two.digest());
    assert_eq!(store.active().await.unwrap(), None);
    assert_eq!(store.active_digest().await.unwrap(), None);
    let check = async |which: &Snapshot, second: i64, expected: Activated| {
        assert_eq!(store.activate(which, Base::Any, at(second)).await.unwrap(), expected);
        assert_eq!(store.active().await.unwrap().as_ref(), Some(which));
        assert_eq!(store.active_digest().await.unwrap(), Some(which.digest()));
    };
    check(&one, 0, Activated::New { base: None }).await;
    check(&one, 1, Activated::Already).await;
    check(&two, 2, Activated::New { base: Some(first) }).await;
    check(&one, 3, Activated::New { base: Some(second) }).await;
    assert_eq!(store.snapshot(second).await.unwrap(), Some(two.clone()));
    assert_eq!(store.snapshot(Digest::of(b"other")).await.unwrap(), None);
    let bodies: Vec<_> =
        world.log_of("config_activated").await.into_iter().map(|record| record.body).collect();
    let expected = [
        json!({ "digest": first, "base": null }),
        json!({ "digest": second, "base": first }),
        json!({ "digest": first, "base": second }),
    ];
    assert_eq!(bodies, expected);
}

pub(crate) async fn a_snapshot_takes_the_place_of_its_base_alone(world: &World<'_>) {
    let store = world.store;
    let [one, two, three] = ["one", "two", "three"].map(snapshot);
    let (first, second) = (one.digest(), two.digest());
    let check = async |which: &Snapshot, base: Option<Digest>, expected: Activated| {
        assert_eq!(store.activate(which, Base::Only(base), at(0)).await.unwrap(), expected);
    };
    check(&one, Some(second), Activated::Conflict { active: None }).await;
    check(&one, None, Activated::New { base: None }).await;
    check(&two, None, Activated::Conflict { active: Some(first) }).await;
    check(&two, Some(first), Activated::New { base: Some(first) }).await;
    check(&three, Some(first), Activated::Conflict { active: Some(second) }).await;
    // Whoever lost the answer asks again.
    check(&two, Some(first), Activated::Already).await;
    assert_eq!(store.active_digest().await.unwrap(), Some(second));
    // What was refused is not kept, and leaves no record.
    assert_eq!(store.snapshot(three.digest()).await.unwrap(), None);
    assert_eq!(world.log_of("config_activated").await.len(), 2);
}

pub(crate) async fn of_many_at_once_with_one_base_one_has_its_way(world: &World<'_>) {
    let store = world.store;
    let base = snapshot("base");
    store.activate(&base, Base::Any, at(0)).await.unwrap();
    let many: Vec<_> = (0..8).map(|number| snapshot(&format!("number {number}"))).collect();
    let asked = many.iter().map(|one| store.activate(one, Base::Only(Some(base.digest())), at(1)));
    let answers = futures_util::future::try_join_all(asked).await.unwrap();
    let won = many.iter().zip(&answers).filter(|(_, answer)| matches!(answer, Activated::New { .. }));
    let won: Vec<_> = won.map(|(one, _)| one.digest()).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert_eq!(store.active_digest().await.unwrap(), Some(won[0]));
    for answer in answers {
        let expected =
            [Activated::New { base: Some(base.digest()) }, Activated::Conflict { active: Some(won[0]) }];
        assert!(expected.contains(&answer), "{answer:?}");
    }
}

pub(crate) async fn activations_are_listed_newest_first(world: &World<'_>) {
    let store = world.store;
    let order = [0, 1, 2, 3, 4, 1];
    for number in order {
        // Two of them in one instant.
        let now = at(i64::from(number) / 2);
        store.activate(&snapshot(&format!("number {number}")), Base::Any, now).await.unwrap();
        // Nothing changes by it.
        store.activate(&snapshot(&format!("number {number}")), Base::Any, now).await.unwrap();
    }
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.activations(PageRequest { cursor, limit: 2 }).await.unwrap();
        assert!(page.items.len() <= 2);
        found.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let expected: Vec<_> = order
        .iter()
        .rev()
        .map(|number| (snapshot(&format!("number {number}")).digest(), at(i64::from(*number) / 2)))
        .collect();
    assert_eq!(found.iter().map(|one| (one.digest, one.activated_at)).collect::<Vec<_>>(), expected);
    let active: Vec<_> = found.iter().map(|one| one.active).collect();
    assert_eq!(active, [true, false, false, false, false, false], "the same snapshot was active before");
    assert!(found.is_sorted_by(|one, next| one.position > next.position));
    let unknown = PageRequest { cursor: Some("unknown".to_owned()), limit: 2 };
    assert!(store.activations(unknown).await.unwrap().items.is_empty());
}

pub(crate) async fn a_halt_is_in_force_until_it_is_lifted(world: &World<'_>) {
    let store = world.store;
    assert!(!store.resume(at(0)).await.unwrap());
    assert!(store.halt("fire", at(1)).await.unwrap());
    assert!(!store.halt("again", at(2)).await.unwrap());
    let halt = store.halted().await.unwrap().unwrap();
    assert_eq!((halt.at, &*halt.reason), (at(1), "fire"));
    assert_eq!(store.resumed_at().await.unwrap(), None);
    assert!(store.resume(at(3)).await.unwrap());
    assert_eq!(store.halted().await.unwrap(), None);
    assert_eq!(store.resumed_at().await.unwrap(), Some(at(3)));
    assert!(store.halt("more", at(4)).await.unwrap());
    assert!(store.resume(at(5)).await.unwrap());
    assert_eq!(store.resumed_at().await.unwrap(), Some(at(5)));
    let kinds: Vec<_> = world.log().await.into_iter().map(|record| record.kind).collect();
    assert_eq!(kinds, ["halted", "resumed", "halted", "resumed"]);
}

pub(crate) async fn records_are_read_in_order_and_by_subject(world: &World<'_>) {
    let run = |number| Subject {
        run_id: Some(Uuid::from_u128(number)),
        cycle_id: Some(Uuid::from_u128(9)),
        ..Subject::default()
    };
    let fact = |n: i64, subject| Record::fact(at(n), Kind::NodeStopped, subject, json!({ "n": n }));
    world.store.append(vec![fact(0, run(1)), fact(1, run(2)), fact(2, Subject::default())]).await.unwrap();
    world.store.append(vec![fact(3, run(1))]).await.unwrap();
    let all = RecordFilter::default();
    let check = async |filter: RecordFilter, limit: u32, expected: &[u64]| {
        let found = world.store.records(filter.clone(), limit).await.unwrap();
        let positions: Vec<_> = found.iter().map(|record| record.position).collect();
        assert_eq!(positions, expected, "{filter:?}");
        for record in found {
            assert_eq!(record.body, json!({ "n": record.position }));
            assert_eq!(record.at, at(i64::try_from(record.position).unwrap()));
        }
    };
    check(all.clone(), 10, &[0, 1, 2, 3]).await;
    check(all.clone(), 2, &[0, 1]).await;
    check(all.clone(), 0, &[]).await;
    check(RecordFilter { after: Some(1), ..all.clone() }, 10, &[2, 3]).await;
    check(RecordFilter { after: Some(u64::MAX), ..all.clone() }, 10, &[]).await;
    check(RecordFilter { run_id: Some(Uuid::from_u128(1)), ..all.clone() }, 10, &[0, 3]).await;
    check(RecordFilter { cycle_id: Some(Uuid::from_u128(9)), after: Some(0), ..all.clone() }, 10, &[1, 3])
        .await;
    let both =
        RecordFilter { cycle_id: Some(Uuid::from_u128(9)), run_id: Some(Uuid::from_u128(2)), after: None };
    check(both, 10, &[1]).await;
}

pub(crate) async fn evidence_is_salted_and_merged(world: &World<'_>) {
    let body = Body::Evidence { salt: [1; 16], value: json!("seen") };
    let record = Record { at: at(0), kind: Kind::StepOutput, subject: Subject::default(), body };
    world.store.append(vec![record]).await.unwrap();
    world.admitted(1, 1, at(1)).await;
    let check = async |value: Value, field: &str, expected: Value| {
        let step = world.claim_step(at(2)).await;
        let mut commit = failed(Step::Tier1, AfterFailure::Retry { until: at(2) });
        commit.evidence = Some(Evidence { salt: [2; 16], value });
        world.commit(&step, commit, at(2)).await;
        let last = world.log_of("step_output").await.pop().unwrap();
        assert_eq!(last.body_class, "evidence");
        assert_eq!((&last.body["step"], &last.body["attempt"]), (&json!("tier1"), &json!(step.attempt)));
        assert_eq!(last.body[field], expected);
    };
    check(json!({ "stderr": "oops" }), "stderr", json!("oops")).await;
    check(json!("text"), "value", json!("text")).await;
}
