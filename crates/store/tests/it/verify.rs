//! Whatever is changed in a store by hand, verification names: table, row and difference.

use std::path::Path;

use orbit_store::blobs::FolderBlobs;
use orbit_store::contract::Evidence;
use orbit_store::contract::tiers::StepCommit;
use orbit_store::sqlite::SqliteStore;
use orbit_store::sqlite::verify::{Report, Request, verify};
use rusqlite::Connection;
use serde_json::json;

use crate::conformance::world::{World, answer, at, dead, done, namespace};
use orbit_store::contract::dispatch::Settle;

/// A home's data: a log of well over sixteen records, evidence, runs in different states.
async fn fill(folder: &Path) {
    let store = SqliteStore::open(&folder.join("orbit.db"), &namespace()).unwrap();
    FolderBlobs::open(&folder.join("blobs")).unwrap().put_bytes(b"result").unwrap();
    let world = World::new(&store);
    for number in 1..=4 {
        world.admitted(number, 1, at(0)).await;
        let step = world.claim_step(at(1)).await;
        let value = json!({ "stderr": format!("warning {number}") });
        let evidence = Some(Evidence { salt: [7; 16], value });
        world.commit(&step, StepCommit { evidence, ..done(&step, &["archive"]) }, at(2)).await;
    }
    world.attempt("archive", answer("accepted", Settle::Accepted), at(3)).await;
    world.attempt("archive", answer("refused", dead()), at(3)).await;
}

fn verified(folder: &Path) -> Report {
    let (database, blobs) = (folder.join("orbit.db"), folder.join("blobs"));
    let request = Request { database: &database, blobs: &blobs, against: Vec::new(), key: None };
    verify(&request, &mut |_| ()).unwrap()
}

/// Changes a store as somebody would who knows how it is protected: the triggers are away meanwhile, and back after it.
fn tamper(folder: &Path, sql: &str) {
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

fn copy(from: &Path, to: &Path) {
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
fn found(report: &Report) -> Vec<String> {
    let faults = report.faults.kept.iter();
    faults.map(|fault| format!("{}, {}: {}", fault.table, fault.row, fault.difference)).collect()
}

#[tokio::test]
async fn whatever_is_changed_by_hand_is_named() {
    let whole = tempfile::tempdir().unwrap();
    fill(whole.path()).await;
    let report = verified(whole.path());
    assert_eq!(found(&report), Vec::<String>::new());
    assert!(report.size > 32 && report.runs == 4 && report.payloads == 1, "{report:?}");
    let check = |sql: &str, expected: &[&str]| {
        let copied = tempfile::tempdir().unwrap();
        copy(whole.path(), copied.path());
        tamper(copied.path(), sql);
        let found = found(&verified(copied.path()));
        assert_eq!(found.len(), expected.len(), "{sql}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{sql}\n{found}\n{expected}");
        }
    };
    let node = "log_nodes, level 4, index 1 (positions 16 to 31): is not the hash";
    check(
        "UPDATE log_records SET header = replace(header, '2023', '2022') WHERE position = 20",
        &["log_records, position 20: the header is not the one that was hashed", node],
    );
    check("UPDATE log_records SET leaf = zeroblob(32) WHERE position = 20", &["log_records, position 20: "]);
    check(
        "DELETE FROM log_records WHERE position = 20",
        &["log_records, position 20: the record at position 20 is missing"],
    );
    check(
        "INSERT INTO log_records (position, header) SELECT -1, header FROM log_records WHERE position = 3",
        &["log_records, position -1: no record can have this position"],
    );
    check(
        "INSERT INTO log_records (position, header) SELECT max(position) + 1, header FROM log_records",
        &["log_bodies, position"],
    );
    let swapped = |column: &str, table: &str| {
        format!(
            "CREATE TEMP TABLE t AS SELECT position, {column} AS v FROM {table} WHERE position IN (20, 21);
            UPDATE {table} SET {column} = (SELECT v FROM t WHERE t.position = 41 - {table}.position) WHERE position IN (20, 21)"
        )
    };
    let bodies =
        ["log_bodies, position 20: body and salt have", "log_bodies, position 21: body and salt have"];
    check(&swapped("body", "log_bodies"), &bodies);
    check(
        &format!("{}; DROP TABLE t; {}", swapped("header", "log_records"), swapped("body", "log_bodies")),
        &["log_records, position 20: the header", "log_records, position 21: the header", node],
    );
    check(
        "UPDATE log_bodies SET body = replace(body, '2', '3') WHERE position = 20",
        &["log_bodies, position 20: body and salt have the digest"],
    );
    check("DELETE FROM log_bodies WHERE position = (SELECT min(position) FROM log_bodies WHERE salt IS NOT NULL)", &["log_bodies, position"]);
    check(
        "UPDATE log_bodies SET salt = zeroblob(16) WHERE position = (SELECT min(position) FROM log_bodies WHERE salt IS NOT NULL)",
        &["log_bodies, position"],
    );
    check(
        "INSERT INTO log_bodies (position, body) VALUES (100000, '{}')",
        &["log_bodies, position 100000: there is no such record"],
    );
    check("UPDATE log_nodes SET hash = zeroblob(32) WHERE idx = 1", &[node]);
    check(
        "DELETE FROM log_nodes WHERE idx = 1",
        &["log_nodes, level 4, index 1 (positions 16 to 31): is missing"],
    );
    check("INSERT INTO log_nodes VALUES (4, 9, zeroblob(32))", &["log_nodes, level 4: "]);
    check("INSERT INTO log_nodes VALUES (3, 0, zeroblob(32))", &["log_nodes, level 3: 1 nodes"]);
    check(
        "INSERT INTO log_tombstones SELECT position, 1 FROM log_bodies WHERE position = 20",
        &["log_bodies, position 20: the body is there", "log_tombstones, all rows: 1 rows"],
    );
    let run = "runs, run ";
    check("UPDATE runs SET state = 'ready' WHERE ordinal = 3", &[run]);
    check(
        "UPDATE runs SET state_json = replace(state_json, '\"open\":1', '\"open\":2') WHERE ordinal = 4",
        &[run],
    );
    check("DELETE FROM runs WHERE ordinal = 1", &[run, "runs, all rows: 3 rows"]);
    check(
        "INSERT INTO runs (run_id, cycle_id, profile_id, profile, initiation, state, state_json, attempt, priority, deadline_at, started_at)
            SELECT replace(run_id, '-', '-'), cycle_id, profile_id, profile, initiation, 'finished', state_json, 0, 0, 0, 0 FROM runs WHERE 0;
            UPDATE runs SET run_id = '00000000-0000-4000-8000-000000000000' WHERE ordinal = 2",
        &[run, "runs, run 00000000-0000-4000-8000-000000000000"],
    );
    check("UPDATE payloads SET bytes = 7", &["blobs, sha256:"]);
    check("UPDATE payloads SET content = x'00'", &["payloads, sha256:"]);
    check("DELETE FROM payloads", &["payloads, sha256:"]);
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
    let blobs = FolderBlobs::at(&folder.path().join("blobs"));
    let path = blobs.path(orbit_core::digest::Digest::of(b"result"));
    std::fs::remove_file(&path).unwrap();
    assert!(found(&verified(folder.path()))[0].contains("there is no blob"));
    std::fs::write(&path, b"resulT").unwrap();
    assert!(found(&verified(folder.path()))[0].contains("is damaged"));
}
