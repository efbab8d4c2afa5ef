//! Evidence and payloads leave by age, and nothing that is needed does.

use jiff::{SignedDuration, Timestamp};
use orbit_core::digest::Digest;
use orbit_core::record::{Body, Kind, Record, Subject};
use orbit_core::run::Step;
use orbit_store::contract::payload::NewPayload;
use orbit_store::contract::retention::{Amount, Older};
use serde_json::{Value, json};

use super::world::{World, artifact, at, succeeded};

const LIMIT: u32 = 100;

fn older(than: Timestamp) -> Older {
    Older { than, limit: LIMIT }
}

fn seen(at: Timestamp, subject: Subject, text: &str) -> Record {
    let body = Body::Evidence { salt: [7; 16], value: json!({ "text": text }) };
    Record { at, kind: Kind::StepOutput, subject, body }
}

fn kept(bytes: &'static [u8]) -> NewPayload {
    NewPayload { digest: Digest::of(bytes), bytes: bytes.len() as u64, content: Some(bytes.into()) }
}

pub(crate) async fn old_evidence_leaves_and_says_so(world: &World<'_>) {
    let none = Subject::default();
    let records = vec![
        seen(at(0), none, "a"),
        seen(at(1), none, "b"),
        Record::fact(at(1), Kind::Halted, none, json!({ "reason": "x" })),
        seen(at(2), none, "c"),
        seen(at(9), none, "young"),
    ];
    world.store.append(records).await.unwrap();
    let before = world.log().await;
    let first = Older { limit: 2, ..older(at(5)) };
    let (expected, _) = world.store.droppable(first, older(at(5))).await.unwrap();
    assert_eq!(expected.count, 2);
    assert_eq!(world.store.drop_evidence(first, at(10)).await.unwrap(), expected);
    assert_eq!(world.store.drop_evidence(first, at(11)).await.unwrap().count, 1);
    // Nothing is left to drop, and that is no news.
    assert_eq!(world.store.drop_evidence(first, at(12)).await.unwrap(), Amount::default());
    let told = world.log_of("bodies_dropped").await;
    let positions = |number: usize| told[number].body["positions"].clone();
    assert_eq!((told.len(), positions(0), positions(1)), (2, json!([[0, 1]]), json!([[3, 3]])));
    let after = world.log().await;
    for (old, new) in before.iter().zip(&after) {
        let gone = match new.position {
            0 | 1 => Some(at(10)),
            3 => Some(at(11)),
            _ => None,
        };
        assert_eq!(new.dropped_at, gone, "{new:?}");
        assert_eq!(new.body, if gone.is_some() { Value::Null } else { old.body.clone() });
    }
}

pub(crate) async fn evidence_of_what_is_not_finished_stays(world: &World<'_>) {
    let run_id = world.admitted(1, 1, at(0)).await[0];
    let subject = Subject { run_id: Some(run_id), ..Subject::default() };
    world.store.append(vec![seen(at(1), subject, "of the run")]).await.unwrap();
    assert_eq!(world.store.drop_evidence(older(at(100)), at(100)).await.unwrap().count, 0);
    world.store.cancel_run(run_id, "enough", at(2)).await.unwrap();
    assert_eq!(world.store.drop_evidence(older(at(100)), at(100)).await.unwrap().count, 1);
}

pub(crate) async fn old_payloads_leave_and_say_so(world: &World<'_>) {
    for (bytes, second) in [(&b"old"[..], 0), (b"older", 1), (b"young", 9)] {
        world.store.keep_payload(kept(bytes), at(second)).await.unwrap();
    }
    let dropped = world.store.drop_payloads(older(at(5)), at(10)).await.unwrap();
    assert_eq!(dropped.iter().map(|one| one.bytes).collect::<Vec<_>>(), [3, 5]);
    assert!(world.store.drop_payloads(older(at(5)), at(11)).await.unwrap().is_empty());
    let found = world.store.payload(Digest::of(b"old")).unwrap().unwrap();
    assert_eq!((found.bytes, found.content, found.dropped_at), (3, None, Some(at(10))));
    let told = world.log_of("artifacts_dropped").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].body["digests"], json!([Digest::of(b"old"), Digest::of(b"older")]));
    // What is made again is there again.
    world.store.keep_payload(kept(b"old"), at(12)).await.unwrap();
    let found = world.store.payload(Digest::of(b"old")).unwrap().unwrap();
    assert_eq!((found.content.as_deref(), found.dropped_at), (Some(&b"old"[..]), None));
    let asked = vec![Digest::of(b"old"), Digest::of(b"older"), Digest::of(b"nobody's")];
    let unnamed = world.store.unnamed(asked).await.unwrap();
    assert_eq!(unnamed, [Digest::of(b"older"), Digest::of(b"nobody's")]);
}

pub(crate) async fn a_payload_that_is_needed_stays(world: &World<'_>) {
    let run_id = world.admitted(1, 1, at(0)).await[0];
    let step = world.claim_step(at(1)).await;
    world.commit(&step, succeeded(Step::Tier1, Step::Tier2), at(2)).await;
    let later = at(0) + SignedDuration::from_hours(24 * 100);
    assert!(world.store.drop_payloads(older(later), later).await.unwrap().is_empty());
    world.store.cancel_run(run_id, "enough", at(3)).await.unwrap();
    let dropped = world.store.drop_payloads(older(later), later).await.unwrap();
    assert_eq!(dropped.iter().map(|one| one.digest).collect::<Vec<_>>(), [artifact("tier1").digest]);
}

pub(crate) async fn free_pages_go_back(world: &World<'_>) {
    let bytes: &'static [u8] = vec![1; 60_000].leak();
    world.store.keep_payload(kept(bytes), at(0)).await.unwrap();
    world.store.drop_payloads(older(at(1)), at(2)).await.unwrap();
    let left = world.store.give_back(1).await.unwrap();
    assert!(left > 0, "one page of many");
    assert_eq!(world.store.give_back(u32::MAX >> 1).await.unwrap(), 0);
}
