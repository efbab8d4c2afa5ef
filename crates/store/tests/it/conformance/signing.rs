//! Signers, checkpoints, proofs and pages of the log.

use orbit_core::digest::Digest;
use orbit_core::record::proof::{verify_consistency, verify_inclusion};
use orbit_core::record::tree::leaf_hash;
use orbit_core::record::{
    Begin, Body, Checkpoint, Kind, Record, Rotation, Seed, Signer, Subject, Verifier, body_digest,
};
use orbit_store::StoreError;
use orbit_store::contract::log::{Entry, LogSigner, StoredCheckpoint};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::world::{World, at};

const ORIGIN: &str = "orbit/studio/0123456789abcdef";

fn signer(seed: u8, origin: &str) -> Signer {
    Seed::new([seed; 32]).signer("studio", origin).unwrap()
}

async fn grow(world: &World<'_>, records: u32) {
    let fact = |n| Record::fact(at(0), Kind::NodeStopped, Subject::default(), json!({ "n": n }));
    world.store.append((0..records).map(fact).collect()).await.unwrap();
}

async fn begin(world: &World<'_>, begin: Begin) -> LogSigner {
    world.store.begin_signing(begin, at(1)).await.unwrap()
}

async fn entries(world: &World<'_>) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let page = world.store.page(all.len() as u64, u64::MAX).await.unwrap();
        if page.entries.is_empty() {
            assert_eq!(page.size, all.len() as u64);
            return all;
        }
        all.extend(page.entries);
    }
}

/// The root of these leaves by the definition in RFC 6962, section 2.1, with no line shared with the code under test.
fn root_by_definition(leaves: &[&str]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest(b"").into(),
        [leaf] => Sha256::digest([b"\x00", leaf.as_bytes()].concat()).into(),
        leaves => {
            let mut half = 1;
            while half * 2 < leaves.len() {
                half *= 2;
            }
            let (left, right) = leaves.split_at(half);
            let (left, right) = (root_by_definition(left), root_by_definition(right));
            Sha256::digest([&b"\x01"[..], &left, &right].concat()).into()
        }
    }
}

async fn is_true(world: &World<'_>, checkpoint: &StoredCheckpoint, key: &Verifier) {
    let all = entries(world).await;
    let leaves: Vec<_> =
        all.iter().take(usize::try_from(checkpoint.size).unwrap()).map(|entry| &*entry.header).collect();
    assert_eq!(checkpoint.root.0, root_by_definition(&leaves));
    let told = Checkpoint::open(&checkpoint.note, key).unwrap();
    assert_eq!((told.size, told.root), (checkpoint.size, checkpoint.root));
}

fn refused<T: std::fmt::Debug>(answer: Result<T, StoreError>, expected: &str) {
    let error = answer.unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

pub(crate) async fn a_log_is_signed_from_where_a_record_says_so(world: &World<'_>) {
    let store = world.store;
    let key = signer(1, ORIGIN);
    refused(store.checkpoint(&key).await, "is not signed yet");
    grow(world, 3).await;
    let begun = begin(world, Begin::First(key.clone())).await;
    let vkey = key.verifier().to_string();
    assert_eq!(begun, LogSigner { number: 0, origin: ORIGIN.to_owned(), vkey: vkey.clone(), size: 3 });
    assert_eq!(store.signers().await.unwrap(), [begun]);
    refused(store.begin_signing(Begin::First(key.clone()), at(2)).await, "is signed already");
    refused(store.begin_signing(Begin::Restored(key.clone()), at(2)).await, "was not restored");
    let told = world.log_of("log_opened").await;
    assert_eq!((told[0].position, &told[0].body), (3, &json!({ "origin": ORIGIN, "vkey": vkey })));
    refused(store.checkpoint(&signer(2, ORIGIN)).await, "is signed with");
}

pub(crate) async fn checkpoints_are_numbered_and_cover_what_is_durable(world: &World<'_>) {
    let store = world.store;
    let key = signer(1, ORIGIN);
    begin(world, Begin::First(key.clone())).await;
    let mut made = Vec::new();
    // Sizes around every power of two up to the third level of nodes that are kept.
    for records in [0, 1, 1, 13, 1, 1, 238, 1, 2, 3838, 1, 5] {
        grow(world, records).await;
        let checkpoint = store.checkpoint(&key).await.unwrap().unwrap();
        assert_eq!(checkpoint.number, made.len() as u64);
        is_true(world, &checkpoint, key.verifier()).await;
        assert_eq!(store.checkpoint(&key).await.unwrap(), None, "the log has not grown");
        made.push(checkpoint);
    }
    let sizes: Vec<_> = made.iter().map(|one| one.size).collect();
    assert_eq!(sizes, [1, 2, 3, 16, 17, 18, 256, 257, 259, 4097, 4098, 4103]);
    assert_eq!(store.checkpoints(0, u32::MAX).await.unwrap(), made);
    assert_eq!(store.checkpoints(3, 2).await.unwrap(), made[3..5]);
    assert_eq!(store.checkpoint_numbered(4).await.unwrap().as_ref(), Some(&made[4]));
    assert_eq!(store.checkpoint_numbered(99).await.unwrap(), None);
    let state = store.log_state().await.unwrap();
    assert_eq!((state.size, state.newest.as_ref()), (4103, made.last()));
    assert_eq!(state.covered_until, Some(at(0)));
    for old in &made {
        for new in &made[usize::try_from(old.number).unwrap()..] {
            let path = store.consistency(old.size, new.size).await.unwrap().unwrap();
            verify_consistency((old.size, &old.root), (new.size, &new.root), &path).unwrap();
        }
    }
    assert_eq!(store.consistency(1, 4104).await.unwrap(), None);
}

pub(crate) async fn every_record_below_a_checkpoint_is_proven(world: &World<'_>) {
    let store = world.store;
    let key = signer(1, ORIGIN);
    assert_eq!(store.inclusion(0).await.unwrap(), None);
    begin(world, Begin::First(key.clone())).await;
    grow(world, 776).await;
    let checkpoint = store.checkpoint(&key).await.unwrap().unwrap();
    grow(world, 5).await;
    for position in (0..777).step_by(7).chain([255, 256, 511, 512, 767, 768, 776]) {
        let proof = store.inclusion(position).await.unwrap().unwrap();
        assert_eq!((proof.entry.position, &proof.checkpoint), (position, &checkpoint));
        let leaf = leaf_hash(proof.entry.header.as_bytes());
        verify_inclusion(&leaf, position, &proof.path, checkpoint.size, &checkpoint.root).unwrap();
    }
    assert_eq!(store.inclusion(777).await.unwrap(), None, "no checkpoint covers it");
    assert_eq!(store.inclusion(u64::MAX).await.unwrap(), None);
}

pub(crate) async fn a_key_is_replaced_by_a_statement_of_both(world: &World<'_>) {
    let store = world.store;
    let (old, new) = (signer(1, ORIGIN), signer(2, ORIGIN));
    begin(world, Begin::First(old.clone())).await;
    grow(world, 4).await;
    let before = store.checkpoint(&old).await.unwrap().unwrap();
    let rotate = |old: &Signer, new: &Signer| Begin::Rotated {
        old: Box::new(old.clone()),
        new: Box::new(new.clone()),
    };
    refused(store.begin_signing(rotate(&new, &old), at(2)).await, "is signed with");
    let begun = begin(world, rotate(&old, &new)).await;
    assert_eq!((begun.number, begun.size), (1, 5));
    refused(store.checkpoint(&old).await, "is signed with");
    let told = world.log_of("log_key_rotated").await.pop().unwrap();
    assert_eq!(told.position, 5);
    let statement = told.body["statement"].as_str().unwrap();
    let rotation = Rotation::open(statement, old.verifier()).unwrap();
    assert_eq!((rotation.new.to_string(), rotation.size), (begun.vkey, 5));
    let after = store.checkpoint(&new).await.unwrap().unwrap();
    assert_eq!((after.number, after.size), (1, 6));
    is_true(world, &before, old.verifier()).await;
    is_true(world, &after, new.verifier()).await;
}

pub(crate) async fn pages_hold_what_is_hashed(world: &World<'_>) {
    let body = Body::Evidence { salt: [7; 16], value: json!({ "b": "\u{202e}", "a": 1.5 }) };
    let run = Uuid::from_u128(5);
    let subject = Subject { run_id: Some(run), ..Subject::default() };
    let evidence = Record { at: at(0), kind: Kind::StepOutput, subject, body };
    grow(world, 2).await;
    world.store.append(vec![evidence]).await.unwrap();
    grow(world, 2000).await;
    let large = json!({ "large": "x".repeat(5 << 20) });
    let fact = |body| Record::fact(at(0), Kind::NodeStopped, Subject::default(), body);
    world.store.append(vec![fact(large.clone()), fact(large)]).await.unwrap();
    let all = entries(world).await;
    assert_eq!(all.len(), 2005);
    for (position, entry) in all.iter().enumerate() {
        assert_eq!(entry.position, position as u64);
        let header: Value = serde_json::from_str(&entry.header).unwrap();
        let digest = body_digest(entry.salt.as_ref(), entry.body.as_ref().unwrap().as_bytes());
        assert_eq!(header["body_digest"], json!(digest));
    }
    assert_eq!((all[2].salt, all[3].salt), (Some([7; 16]), None));
    let count = async |from, to| world.store.page(from, to).await.unwrap().entries.len();
    assert_eq!((count(0, u64::MAX).await, count(5, 7).await, count(7, 7).await), (1000, 2, 0));
    assert_eq!(count(2003, u64::MAX).await, 1, "one that is too large for a page has it alone");
    assert_eq!(world.store.last_of_run(run).await.unwrap(), Some(2));
    assert_eq!(world.store.last_of_run(Uuid::nil()).await.unwrap(), None);
    assert_eq!(Digest::of(b"").0, root_by_definition(&[]));
}
