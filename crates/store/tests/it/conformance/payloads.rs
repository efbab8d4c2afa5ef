//! Payloads are kept with what names them.

use bytes::Bytes;
use orbit_core::digest::Digest;
use orbit_core::run::Step;
use orbit_store::StoreError;
use orbit_store::contract::Artifact;
use orbit_store::contract::payload::{NewPayload, StoredPayload};
use orbit_store::contract::tiers::StepCommit;

use super::world::{World, at, succeeded};

fn made(content: &'static [u8], bytes: u64) -> StepCommit {
    let media_type = "text/plain".to_owned();
    StepCommit {
        artifact: Some(Artifact { digest: Digest::of(content), bytes, media_type }),
        content: Some(Bytes::from_static(content)),
        ..succeeded(Step::Tier1, Step::Tier2)
    }
}

pub(crate) async fn a_payload_is_committed_with_its_step(world: &World<'_>) {
    world.admitted(1, 1, at(0)).await;
    let step = world.claim_step(at(1)).await;
    let digest = Digest::of(b"made");
    assert_eq!(world.store.payload(digest).unwrap(), None);
    world.commit(&step, made(b"made", 4), at(2)).await;
    let expected = StoredPayload { bytes: 4, content: Some(Bytes::from_static(b"made")), dropped_at: None };
    assert_eq!(world.store.payload(digest).unwrap(), Some(expected));
    // A commit that is lost keeps nothing.
    let lost = world.store.commit_step(step.claim, made(b"other", 5), at(3)).await.unwrap();
    assert_eq!(lost, orbit_store::contract::tiers::StepCommitted::Lost);
    assert_eq!(world.store.payload(Digest::of(b"other")).unwrap(), None);
    // Of one that is a file there is a row all the same.
    let step = world.claim_step(at(4)).await;
    world.commit(&step, succeeded(Step::Tier2, Step::Tier3), at(5)).await;
    let digest = super::world::artifact("tier2").digest;
    assert!(world.store.payload(digest).unwrap().is_some_and(|found| found.content.is_none()));
}

pub(crate) async fn a_payload_that_is_made_again_counts_from_then(world: &World<'_>) {
    let digest = Digest::of(b"made");
    let of = |content: Option<&'static [u8]>| NewPayload {
        digest,
        bytes: 4,
        content: content.map(Bytes::from_static),
    };
    world.store.keep_payload(of(Some(b"made")), at(5)).await.unwrap();
    // Neither who names it as a file nor who comes late takes the bytes away.
    world.store.keep_payload(of(None), at(1)).await.unwrap();
    let found = world.store.payload(digest).unwrap().unwrap();
    assert_eq!((found.bytes, found.content.as_deref()), (4, Some(&b"made"[..])));
}

pub(crate) async fn bytes_of_another_length_are_refused(world: &World<'_>) {
    world.admitted(1, 1, at(0)).await;
    let step = world.claim_step(at(1)).await;
    let no_artifact = StepCommit { artifact: None, ..made(b"made", 4) };
    for contradiction in [made(b"made", 5), no_artifact] {
        let refused = world.store.commit_step(step.claim, contradiction, at(2)).await;
        assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "{refused:?}");
    }
    world.commit(&step, made(b"made", 4), at(2)).await;
}
