//! Whatever is changed in a store by hand, verification names: table, row and difference; in a file and in a database by one table.

use std::path::Path;

use orbit_core::record::{Begin, Seed, Signer, Verifier};
use orbit_store::blobs::{Blobs, FolderBlobs};
use orbit_store::contract::Evidence;
use orbit_store::contract::governance::GovernanceStore as _;
use orbit_store::contract::log::LogStore as _;
use orbit_store::contract::tiers::StepCommit;
use orbit_store::sqlite::SqliteStore;
use orbit_store::sqlite::verify::{Against, Notes, Report, Request, Vouched, verify};
use orbit_testkit::cluster::TestDatabase;
use rusqlite::Connection;
use serde_json::json;

use crate::conformance::world::{World, answer, at, dead, done, namespace};
use crate::verify_database::{in_postgres, tamper_in, verified_in};
use orbit_store::contract::dispatch::Settle;

/// A home's data: a log of well over sixteen records, evidence, runs in different states.
pub(crate) async fn fill(folder: &Path) {
    let store = SqliteStore::open(&folder.join("orbit.db"), &namespace()).unwrap();
    FolderBlobs::open(&folder.join("blobs")).unwrap().put_bytes(b"result").unwrap();
    store.begin_signing(Begin::First(signer(7)), at(0)).await.unwrap();
    // A node that has joined, without the record of it: the positions below are those of what follows.
    let joined = "UPDATE store SET epoch = 1;
        INSERT INTO nodes (epoch, node, version, schema, started_at, lease_ms) VALUES (1, 'vps-1', '1.2.3', 2, 0, 0)";
    Connection::open(folder.join("orbit.db")).unwrap().execute_batch(joined).unwrap();
    let world = World::new(&store);
    for number in 1..=4 {
        world.admitted(number, 1, at(0)).await;
        let step = world.claim_step(at(1)).await;
        let value = json!({ "stderr": format!("warning {number}") });
        let evidence = Some(Evidence { salt: [7; 16], value });
        world.commit(&step, StepCommit { evidence, ..done(&step, &["archive"]) }, at(2)).await;
        match number {
            1 => drop(store.checkpoint(&signer(7)).await.unwrap().unwrap()),
            2 => {
                let rotated = Begin::Rotated { old: Box::new(signer(7)), new: Box::new(signer(8)) };
                store.begin_signing(rotated, at(2)).await.unwrap();
            }
            _ => drop(store.checkpoint(&signer(8)).await.unwrap().unwrap()),
        }
    }
    world.attempt("archive", answer("accepted", Settle::Accepted), at(3)).await;
    world.attempt("archive", answer("refused", dead()), at(3)).await;
    store.checkpoint(&signer(8)).await.unwrap().unwrap();
}

pub(crate) fn signer(seed: u8) -> Signer {
    Seed::new([seed; 32]).signer("studio", "orbit/studio/0123456789abcdef").unwrap()
}

pub(crate) fn notes(folder: &Path) -> Vec<(String, String)> {
    let connection = Connection::open(folder.join("orbit.db")).unwrap();
    let mut statement =
        connection.prepare("SELECT number, note FROM log_checkpoints ORDER BY number").unwrap();
    let rows =
        statement.query_map((), |row| Ok((format!("{}.note", row.get::<_, i64>(0)?), row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

pub(crate) fn verified(folder: &Path) -> Report {
    verified_against(folder, &[], None)
}

/// As they are handed over.
pub(crate) fn gathered(notes: &[(String, String)]) -> Notes {
    Notes::gather(|take| notes.iter().try_for_each(|(name, text)| take(name, text))).unwrap()
}

fn verified_against(folder: &Path, against: &[(String, String)], key: Option<Verifier>) -> Report {
    let (database, blobs) = (folder.join("orbit.db"), folder.join("blobs"));
    let blobs = Blobs::from(FolderBlobs::reading(&blobs));
    let (notes, namespace) = (gathered(against), namespace());
    let against = Some(Against { notes: &notes, namespace: &namespace });
    let request = Request { database: &database, blobs: Some(&blobs), against, key, positioned: None };
    verify(&request, &mut |_| ()).unwrap()
}

/// Changes a store as somebody would who knows how it is protected: the triggers are away meanwhile, and back after it.
pub(crate) fn tamper(folder: &Path, sql: &str) {
    let connection = Connection::open(folder.join("orbit.db")).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    let mut statement =
        connection.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").unwrap();
    let triggers = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let triggers: Vec<(String, String)> = triggers.collect::<Result<_, _>>().unwrap();
    for (name, _) in &triggers {
        connection.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    connection.execute_batch(sql).unwrap();
    assert!(connection.changes() > 0, "nothing changed: {sql}");
    for (_, sql) in &triggers {
        connection.execute_batch(sql).unwrap();
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every fault as `table, row: difference`.
pub(crate) fn found(report: &Report) -> Vec<String> {
    let faults = report.faults.kept.iter();
    faults.map(|fault| format!("{}, {}: {}", fault.table, fault.row, fault.difference)).collect()
}

/// Everything from position 16 on is gone.
pub(crate) const CUT: &str =
    "DELETE FROM log_bodies WHERE position >= 16; DELETE FROM log_records WHERE position >= 16;
    DELETE FROM log_nodes WHERE idx > 0; DELETE FROM log_signers WHERE size >= 16;
    DELETE FROM log_checkpoints WHERE size > 16; DELETE FROM runs WHERE ordinal > 2";

pub(crate) const NODE: &str = "log_nodes, level 4, index 1 (positions 16 to 31): is not the hash";

/// The same store on both backends.
pub(crate) struct Whole {
    folder: tempfile::TempDir,
    database: TestDatabase,
}

pub(crate) async fn whole() -> Whole {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let report = verified(folder.path());
    assert_eq!(found(&report), Vec::<String>::new());
    assert!(report.size > 32 && report.runs == 4 && report.payloads == 1, "{report:?}");
    let database = in_postgres(folder.path()).await;
    assert_eq!(verified_in(&database, folder.path(), &[]).await, report);
    Whole { folder, database }
}

/// The faults of copies in which this was done, in a file and in a database; those that only follow from others are left out where none is expected.
pub(crate) async fn check(whole: &Whole, sql: &str, expected: &[&str]) {
    let copied = tempfile::tempdir().unwrap();
    copy(whole.folder.path(), copied.path());
    tamper(copied.path(), sql);
    let database = whole.database.copied().await;
    tamper_in(&database, sql).await;
    let in_database = verified_in(&database, whole.folder.path(), &[]).await;
    for (backend, report) in [("sqlite", verified(copied.path())), ("postgres", in_database)] {
        let mut found = found(&report);
        // Whatever changes a header changes every root above it, and the fold of its run may be another.
        for (table, follows) in [
            ("log_checkpoints", "its root is not that of"),
            ("cycles, ", "cycles, cycle "),
            ("initiations, ", "initiations, initiation "),
            ("runs, ", "runs, run "),
            ("steps, ", "steps, step "),
            ("deliveries, ", "deliveries, delivery "),
            ("attempts, ", "attempts, attempt "),
            ("endpoints, ", "endpoints, endpoint "),
        ] {
            if !expected.iter().any(|fault| fault.starts_with(table)) {
                found.retain(|fault| !fault.contains(follows));
            }
        }
        assert_eq!(found.len(), expected.len(), "{backend}: {sql}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{backend}: {sql}\n{found}\n{expected}");
        }
    }
}

#[tokio::test]
async fn nodes_and_tombstones_are_held_to_the_records() {
    let whole = whole().await;
    let check = async |sql: &str, expected: &[&str]| check(&whole, sql, expected).await;
    check("UPDATE log_nodes SET hash = zeroblob(32) WHERE idx = 1", &[NODE]).await;
    check(
        "DELETE FROM log_nodes WHERE idx = 1",
        &["log_nodes, level 4, index 1 (positions 16 to 31): is missing"],
    )
    .await;
    check("INSERT INTO log_nodes (level, idx, hash) VALUES (4, 9, zeroblob(32))", &["log_nodes, level 4: "])
        .await;
    check(
        "INSERT INTO log_nodes (level, idx, hash) VALUES (3, 0, zeroblob(32))",
        &["log_nodes, level 3: 1 nodes"],
    )
    .await;
    check(
        "INSERT INTO log_tombstones (position, told_at) SELECT position, 1 FROM log_bodies WHERE position = 20",
        &["log_bodies, position 20: the body is there", "log_tombstones, all rows: 1 rows"],
    ).await;
}

#[tokio::test]
async fn runs_and_payloads_are_held_to_the_log() {
    let whole = whole().await;
    let check = async |sql: &str, expected: &[&str]| check(&whole, sql, expected).await;
    let run = "runs, run ";
    check("UPDATE runs SET state = 'ready' WHERE ordinal = 3", &[run]).await;
    check(
        "UPDATE runs SET state_json = replace(state_json, '\"open\":1', '\"open\":2') WHERE ordinal = 4",
        &[run],
    )
    .await;
    check("DELETE FROM runs WHERE ordinal = 1", &[run]).await;
    check(
        "UPDATE runs SET run_id = '00000000-0000-4000-8000-000000000000' WHERE ordinal = 2",
        &[run, "runs, run 00000000-0000-4000-8000-000000000000"],
    )
    .await;
    check("UPDATE payloads SET bytes = 7", &["blobs, sha256:"]).await;
    check("UPDATE payloads SET content = zeroblob(1)", &["payloads, sha256:"]).await;
    check("DELETE FROM payloads", &["payloads, sha256:"]).await;
}

#[tokio::test]
async fn checkpoints_and_signers_are_held_to_the_log() {
    let whole = whole().await;
    let check = async |sql: &str, expected: &[&str]| check(&whole, sql, expected).await;
    check(
        "UPDATE log_checkpoints SET root = zeroblob(32) WHERE number = 1",
        &["log_checkpoints, number 1: its root", "log_checkpoints, number 1: its note says"],
    )
    .await;
    check(
        "UPDATE log_checkpoints SET size = size - 1 WHERE number = 2",
        &["log_checkpoints, number 2: its root", "log_checkpoints, number 2: its note says"],
    )
    .await;
    check("UPDATE log_checkpoints SET note = note || 'x' WHERE number = 3", &["log_checkpoints, number 3: "])
        .await;
    check(
        "UPDATE log_checkpoints SET number = 9 WHERE number = 3",
        &["log_checkpoints, number 3: is missing"],
    )
    .await;
    check("DELETE FROM log_checkpoints WHERE number = 1", &["log_checkpoints, number 1: is missing"]).await;
    check(
        "INSERT INTO log_checkpoints (number, size, root, note) SELECT 4, size + 100, root, note FROM log_checkpoints WHERE number = 3",
        &["log_checkpoints, number 4: it covers"],
    ).await;
    check(
        "UPDATE log_signers SET vkey = (SELECT vkey FROM log_signers WHERE number = 0) WHERE number = 1",
        &[
            "log_signers, position",
            "log_checkpoints, number 1: ",
            "log_checkpoints, number 2: ",
            "log_checkpoints, number 3: ",
        ],
    )
    .await;
    check(
        "UPDATE log_signers SET origin = 'orbit/other/1' WHERE number = 0",
        &["log_signers, position 0: ", "log_checkpoints, number 0: "],
    )
    .await;
    check(
        "DELETE FROM log_signers WHERE number = 1",
        &[
            "log_signers, position",
            "log_checkpoints, number 1: ",
            "log_checkpoints, number 2: ",
            "log_checkpoints, number 3: ",
        ],
    )
    .await;
    check(
        "INSERT INTO log_signers (number, origin, vkey, size) SELECT 2, origin, vkey, 30 FROM log_signers WHERE number = 1",
        &["log_signers, number 2: no record"],
    ).await;
}

#[tokio::test]
async fn a_schema_that_protects_nothing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let connection = Connection::open(folder.path().join("orbit.db")).unwrap();
    connection
        .execute_batch("DROP TRIGGER log_records_no_update; CREATE TABLE log_more (n INTEGER)")
        .unwrap();
    let found = found(&verified(folder.path()));
    assert_eq!(
        found,
        [
            "sqlite_schema, trigger `log_records_no_update`: is missing",
            "sqlite_schema, table `log_more`: was added"
        ]
    );
}

#[tokio::test]
async fn a_changed_or_missing_payload_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let blobs = FolderBlobs::reading(&folder.path().join("blobs"));
    let path = blobs.path(orbit_core::digest::Digest::of(b"result"));
    std::fs::remove_file(&path).unwrap();
    assert!(found(&verified(folder.path()))[0].contains("there is no blob"));
    std::fs::write(&path, b"resulT").unwrap();
    assert!(found(&verified(folder.path()))[0].contains("is damaged"));
}

/// Rewrites everything that hashes can show: the header of what no row follows from, its leaf, and every node above it.
pub(crate) fn rewrite(folder: &Path) {
    tamper(
        folder,
        "UPDATE log_records SET header = replace(header, '2023', '2022'), leaf = NULL
            WHERE position = (SELECT max(position) FROM log_bodies WHERE salt IS NOT NULL AND position < 23); DELETE FROM log_nodes",
    );
    drop(SqliteStore::open(&folder.join("orbit.db"), &namespace()).unwrap());
}

#[tokio::test]
async fn what_was_removed_or_written_anew_is_named_by_a_checkpoint_from_elsewhere() {
    let whole = tempfile::tempdir().unwrap();
    fill(whole.path()).await;
    let notes = notes(whole.path());
    let report = verified_against(whole.path(), &notes, Some(signer(8).verifier().clone()));
    assert_eq!((found(&report), report.outside), (vec![], 4));
    let stranger = verified_against(whole.path(), &[], Some(signer(9).verifier().clone()));
    assert!(found(&stranger)[0].starts_with("log_signers, all rows: no row has the key"));

    let rewritten = tempfile::tempdir().unwrap();
    copy(whole.path(), rewritten.path());
    rewrite(rewritten.path());
    let own = found(&verified(rewritten.path()));
    assert_eq!(own.len(), 1, "the checkpoints of the store itself show it: {own:?}");
    assert!(own.iter().all(|fault| fault.starts_with("log_checkpoints, number ")), "{own:?}");
    tamper(rewritten.path(), "DELETE FROM log_checkpoints WHERE number > 0");
    assert_eq!(found(&verified(rewritten.path())), Vec::<String>::new(), "nobody can tell without one");
    let found_against = found(&verified_against(rewritten.path(), &notes, None));
    assert!(
        found_against[0].starts_with("outside checkpoint, 1.note: the log was rewritten below"),
        "{found_against:?}"
    );

    let cut = tempfile::tempdir().unwrap();
    copy(whole.path(), cut.path());
    tamper(cut.path(), CUT);
    let last = notes.last().cloned().unwrap();
    let found = found(&verified_against(cut.path(), &[last], None));
    assert!(
        found
            .iter()
            .any(|fault| fault.starts_with("log_records, position 16: the records from position 16 to")),
        "{found:?}"
    );
}

/// A key vouches for what it has signed, and for what keys have signed that rotations tie to it; a restore ends that.
#[tokio::test]
async fn a_key_from_elsewhere_is_followed_over_rotations_and_not_over_a_restore() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let database = folder.path().join("orbit.db");
    let before = notes(folder.path());
    let whole = verified(folder.path()).size;
    let vouched = |seed: &Signer| {
        let report = verified_against(folder.path(), &before, Some(seed.verifier().clone()));
        assert_eq!((found(&report), report.outside), (vec![], 4), "what was kept still agrees");
        report.vouched.unwrap()
    };
    let keys = |signers: &[&Signer]| signers.iter().map(|one| one.verifier().to_string()).collect::<Vec<_>>();
    let (first, second) = (signer(7), signer(8));
    let tied = Vouched { keys: keys(&[&first, &second]), size: whole, other: None };
    assert_eq!((vouched(&first), vouched(&second)), (tied.clone(), tied.clone()));

    orbit_store::sqlite::backup::mark_restored(&database, at(9), None).unwrap();
    let third = Seed::new([9; 32]).signer("studio", "orbit/studio/fedcba9876543210").unwrap();
    let store = SqliteStore::open(&database, &namespace()).unwrap();
    store.begin_signing(Begin::Restored(third.clone()), at(10)).await.unwrap();
    store.halt("a test", at(11)).await.unwrap();
    store.checkpoint(&third).await.unwrap().unwrap();
    let fourth = Seed::new([10; 32]).signer("studio", "orbit/studio/fedcba9876543210").unwrap();
    let rotated = Begin::Rotated { old: Box::new(third.clone()), new: Box::new(fourth.clone()) };
    store.begin_signing(rotated, at(12)).await.unwrap();
    let newest = store.checkpoint(&fourth).await.unwrap().unwrap();
    drop(store);

    let over = Vouched { other: Some((whole, third.verifier().to_string())), ..tied };
    assert_eq!((vouched(&first), vouched(&second)), (over.clone(), over));
    let all = Vouched { keys: keys(&[&third, &fourth]), size: newest.size, other: None };
    assert_eq!((vouched(&third), vouched(&fourth)), (all.clone(), all));

    // Who holds the disk, and no seed, can write the old key into a log of another one.
    tamper(
        folder.path(),
        "DELETE FROM log_checkpoints WHERE number < 4; UPDATE log_checkpoints SET number = number - 4",
    );
    let report = verified_against(folder.path(), &[], Some(first.verifier().clone()));
    let expected = "log_checkpoints, all rows: none is signed by the key that was given";
    assert!(found(&report).iter().any(|fault| fault.starts_with(expected)), "{:?}", found(&report));
    assert_eq!(report.vouched.map(|vouched| vouched.size), Some(0));
}

#[tokio::test]
async fn an_older_copy_of_the_store_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("orbit.db"), &namespace()).unwrap();
    store.begin_signing(Begin::First(signer(7)), at(0)).await.unwrap();
    World::new(&store).join(at(0)).await;
    World::new(&store).admitted(1, 1, at(0)).await;
    store.checkpoint(&signer(7)).await.unwrap().unwrap();
    drop(store);
    let old = tempfile::tempdir().unwrap();
    copy(folder.path(), old.path());
    let store = SqliteStore::open(&folder.path().join("orbit.db"), &namespace()).unwrap();
    World::new(&store).admitted(2, 1, at(1)).await;
    let newest = store.checkpoint(&signer(7)).await.unwrap().unwrap();
    assert_eq!(found(&verified(old.path())), Vec::<String>::new());
    let found = found(&verified_against(old.path(), &[("kept".to_owned(), newest.note)], None));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("are gone: the checkpoint `kept` covers them"), "{found:?}");
}
