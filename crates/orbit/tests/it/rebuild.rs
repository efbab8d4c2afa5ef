//! `orbit doctor --rebuild`: a store whose rows were damaged is what its log says again, and work goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use serde_json::Value;

use crate::home::{Home, until};
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
    let home = Home::lab(3);
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
