//! `orbit doctor --rebuild`: a store whose rows were damaged is what its log says again, and work goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use serde_json::Value;

use orbit_testkit::cluster::{Session, blocking, connect};

use crate::home::{Answer, Home, until};
use crate::receiver::{Receiver, Reply};

fn damage(home: &Home, sql: &str) {
    let connection = Connection::open(home.path("data/lab/orbit.db")).unwrap();
    connection.execute_batch(&format!("PRAGMA foreign_keys = off; {sql}")).unwrap();
}

fn found<'a>(answer: &'a Value, namespace: &str, table: &str) -> &'a Value {
    let of = answer["items"].as_array().unwrap().iter().find(|one| one["namespace"] == namespace).unwrap();
    of["tables"].as_array().unwrap().iter().find(|found| found["table"] == table).unwrap()
}

#[test]
fn damaged_rows_come_back_and_what_is_owed_is_delivered() {
    let up = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&up);
    let receiver = Receiver::start(move |_, _| {
        Reply::Status(if answers.load(Ordering::SeqCst) { 200 } else { 503 }, "", "")
    });
    let home = Home::lab_on_files(3);
    home.endpoint("archive", &receiver.url("/in"), "");
    home.profile("plain", 1, "distribution_map: [{ endpoint: archive }]\n");
    let ran = home.json(&["run", "--wait", "60s"], 3);
    let run_id = ran["runs"][0]["run_id"].as_str().unwrap().to_owned();
    let before = home.json(&["runs", "show", &run_id], 0);
    assert_eq!(home.json(&["doctor", "--rebuild", "--dry-run"], 0)["items"][0]["applied"], false);

    damage(
        &home,
        "UPDATE runs SET state = 'ready', state_json = '{}'; DELETE FROM attempts; DELETE FROM deliveries",
    );
    let seen = home.json(&["doctor", "--rebuild", "--dry-run"], 1);
    assert_eq!(found(&seen, "lab", "deliveries")["missing"], 1);
    let told = home.run(&["doctor", "--rebuild"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stdout.contains("5 rows made again from the log"), "{told:?}");
    assert!(
        told.stdout.contains("    runs               0 missing, 1 changed, 0 unknown, of 1\n"),
        "{told:?}"
    );
    assert_eq!(home.json(&["runs", "show", &run_id], 0), before);
    assert!(home.kinds().contains(&"tables_rebuilt".to_owned()));
    assert_eq!(home.run(&["status"]).code, 0);

    up.store(true, Ordering::SeqCst);
    let serving = home.serve();
    let delivery_id = before["deliveries"][0]["delivery_id"].as_str().unwrap();
    assert_eq!(home.json(&["deliveries", "redrive", delivery_id], 0)["redriven"][0], delivery_id);
    until("the redriven delivery to be accepted", || {
        home.json(&["runs", "show", &run_id], 0)["outcome"] == "succeeded"
    });
    // Nobody may serve the home meanwhile.
    let refused = home.run(&["doctor", "--rebuild"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("holds this home\n  hint: stop `orbit serve` first"), "{refused:?}");
    assert_eq!(serving.stop(), 0);
    assert_eq!(home.run(&["doctor", "--rebuild", "--dry-run"]).code, 0);
    let usage = home.run(&["doctor", "--dry-run"]);
    assert_eq!(usage.code, 2, "{usage:?}");
}

/// As [`damage`], in a database, which checks and refuses as little then.
fn damage_database(home: &Home, sql: &str) {
    let sql = format!("SET session_replication_role = replica; SET orbit.namespace = 'lab'; {sql}");
    blocking(async { connect(&home.database_owner()).await.batch_execute(&sql).await.unwrap() });
}

fn rebuild_database(home: &Home) -> Answer {
    let mut command = home.command(&["doctor", "--rebuild", "--json"]);
    Answer::of(command.env("ORBIT_DATABASE_OWNER_URL", home.database_owner()).output().unwrap())
}

/// Everything that is derived, by SQL.
fn derived(home: &Home) -> String {
    let tables = [
        "schedule_cursors",
        "cycles",
        "initiations",
        "initiation_holds",
        "lanes",
        "runs",
        "run_requests",
        "steps",
        "work_done",
        "deliveries",
        "attempts",
        "endpoints",
        "halts",
    ];
    let rows = tables.map(|table| {
        format!("(SELECT coalesce(string_agg(t::text, '|' ORDER BY t::text), '') FROM {table} t WHERE namespace = 'lab')")
    });
    Session::new(&home.database_owner()).ask(&format!("SELECT {}", rows.join(" || '#' || ")))
}

#[test]
fn damaged_rows_of_a_database_come_back_as_they_were() {
    let receiver = Receiver::start(|_, _| Reply::Status(200, "", ""));
    let home = Home::on_postgres().furnished(9);
    home.endpoint("archive", &receiver.url("/in"), "");
    home.profile("plain", 1, "distribution_map: [{ endpoint: archive }]\n");
    home.profile("other", 2, "");
    home.run_profile("daily", 1, "[plain, other]", "");
    for _ in 0..4 {
        home.json(&["run"], 0);
    }
    home.json(&["halt"], 0);
    home.json(&["resume"], 0);
    // Numbers of another namespace come between.
    damage_database(&home, "SELECT setval(pg_get_serial_sequence('runs', 'ordinal'), 1000)");
    home.json(&["run"], 0);
    let (before, size) = (derived(&home), home.records().len());
    let seen = home.json(&["doctor", "--rebuild", "--dry-run"], 0);
    let of_lab = |answer: &Value, of: &str| -> u64 {
        let items = answer["items"].as_array().unwrap();
        let lab = items.iter().find(|one| one["namespace"] == "lab").unwrap();
        lab["tables"].as_array().unwrap().iter().map(|table| table[of].as_u64().unwrap()).sum()
    };
    assert_eq!(["missing", "changed", "unknown"].map(|of| of_lab(&seen, of)), [0; 3], "{seen}");
    assert_eq!(home.records().len(), size, "nothing is written to compare");

    damage_database(
        &home,
        "UPDATE runs SET state = 'ready', state_json = '{}' WHERE ordinal = (SELECT min(ordinal) FROM runs);
        UPDATE cycles SET outcome = 'failed', run_profile = 'another';
        UPDATE deliveries SET state = 'waiting', due_at = 0;
        UPDATE store SET active_snapshot = NULL;
        INSERT INTO halts (at, reason) VALUES (1, 'never')",
    );
    let seen = home.json(&["doctor", "--rebuild", "--dry-run"], 1);
    assert_eq!(found(&seen, "lab", "cycles")["changed"], 5, "{seen}");
    assert_eq!(found(&seen, "lab", "halts")["unknown"], 1, "{seen}");
    let unset = home.run(&["doctor", "--rebuild"]);
    assert!(unset.code == 2 && unset.stderr.contains("`ORBIT_DATABASE_OWNER_URL` is not set"), "{unset:?}");
    let told = rebuild_database(&home);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(derived(&home) == before, "every row is what it was, with its number");
    home.json(&["doctor", "--rebuild", "--dry-run"], 0);
    home.json(&["log", "verify"], 0);
    assert_eq!(home.kinds().last().unwrap(), "tables_rebuilt");

    // Rows that are gone come back, after all others.
    damage_database(
        &home,
        "DELETE FROM attempts; DELETE FROM deliveries; DELETE FROM steps; DELETE FROM run_requests; DELETE FROM runs;
        DELETE FROM initiation_holds; DELETE FROM halts;
        UPDATE lanes SET processor = processor || '-gone' WHERE lane = (SELECT min(lane) FROM lanes)",
    );
    let told = rebuild_database(&home);
    assert_eq!(told.code, 0, "{told:?}");
    home.json(&["doctor", "--rebuild", "--dry-run"], 0);
    home.json(&["log", "verify"], 0);
    for _ in 0..4 {
        home.json(&["run"], 0);
    }
    assert_eq!(home.run(&["run"]).code, 5, "no item twice");
    assert_eq!(receiver.requests().len(), 9, "nothing is sent twice");

    // Nobody may work on the database meanwhile, at whatever home.
    let other = Home::on_postgres_of(&home);
    let serving = other.serve();
    let refused = rebuild_database(&home);
    assert!(refused.code == 1 && refused.stderr.contains("works on the store"), "{refused:?}");
    assert_eq!(serving.stop(), 0);
    assert!(!home.path("data/lab/copy.db").exists());
}
