//! Rows of runs, cycles, initiations, endpoints and notices: whatever is changed there by hand, verification names.

use std::path::Path;

use orbit_core::run::{AfterFailure, Step};
use orbit_store::blobs::FolderBlobs;
use orbit_store::contract::schedule::{NewCycle, ScheduleStore as _};
use orbit_store::sqlite::SqliteStore;

use crate::conformance::normalize::{place, waits};
use crate::conformance::notices;
use crate::conformance::world::{World, at, cycle, failed, namespace, succeeded};
use crate::verify::{check, copy, found, tamper, verified, whole};
use crate::verify_rows::STRANGER;

/// Checks a copy of a store in a file.
fn check_file(folder: &Path, sql: &str, expected: &[&str]) {
    let copied = tempfile::tempdir().unwrap();
    copy(folder, copied.path());
    tamper(copied.path(), sql);
    let found = found(&verified(copied.path()));
    assert_eq!(found.len(), expected.len(), "{sql}: {found:#?}");
    for expected in expected {
        assert!(found.iter().any(|fault| fault.starts_with(expected)), "{sql}: {found:#?}");
    }
}

#[tokio::test]
async fn every_column_of_runs_is_held_to_the_log() {
    let whole = whole().await;
    let check = async |sql: &str, expected: &[&str]| check(&whole, sql, expected).await;
    let run = "runs, run ";
    for changed in [
        "cycle_id = '00000000-0000-4000-8000-000000000000'",
        "profile_id = '00000000-0000-4000-8000-000000000000'",
        "profile = 'another'",
        "initiation = 'another'",
        "state = 'working'",
        "state_json = '{}'",
        "attempt = attempt + 1",
        "due_at = 1",
        "lane = (SELECT min(lane) FROM lanes)",
        "priority = priority / 2",
        "deadline_at = deadline_at + 1",
        "artifact_digest = NULL",
        "artifact_bytes = artifact_bytes + 1",
        "artifact_media_type = 'text/html'",
        "retry_of = run_id",
        "start_step = 'tier2'",
        "started_at = started_at + 1",
        "finished_at = coalesce(finished_at, 0) + 1",
        "batch_key = 'together'",
        "batch_items_max = 2",
        "batch_due_at = 1",
    ] {
        // One that is over, and one that dispatches.
        check(&format!("UPDATE runs SET {changed} WHERE ordinal IN (1, 4)"), &[run, run]).await;
    }
    check("DELETE FROM runs WHERE ordinal IN (2, 3)", &[run, run]).await;
    for state in ["ready", "finished"] {
        let columns = "cycle_id, profile_id, profile, initiation, state_json, attempt, priority, deadline_at, started_at";
        let insert = format!(
            "INSERT INTO runs (run_id, state, {columns}) SELECT '{STRANGER}', '{state}', {columns} FROM runs WHERE ordinal = 1"
        );
        let unknown = "runs, run 00000000-0000-4000-8000-000000000000: no record tells of it";
        check(&insert, &[unknown]).await;
        // As many as there were.
        check(&format!("DELETE FROM runs WHERE ordinal = 2; {insert}"), &[run, unknown]).await;
    }
}

#[tokio::test]
async fn cycles_are_held_to_the_log() {
    let whole = whole().await;
    let check = async |sql: &str, expected: &[&str]| check(&whole, sql, expected).await;
    let cycle = "cycles, cycle ";
    for changed in [
        "run_profile_id = '00000000-0000-4000-8000-000000000000'",
        "run_profile = 'another'",
        "trigger = 'manual:9'",
        "nominal = nominal + 1",
        "snapshot = 'sha256:00'",
        "queued = (1 = 1)",
        "state = 'selecting'",
        "outcome = 'skipped'",
        "reason = 'by hand'",
        "fired_at = fired_at + 1",
        "finished_at = coalesce(finished_at, 0) + 1",
        "preset = '[]'",
    ] {
        check(&format!("UPDATE cycles SET {changed} WHERE ordinal IN (1, 4)"), &[cycle, cycle]).await;
    }
    check("DELETE FROM cycles WHERE ordinal IN (2, 3)", &[cycle, cycle]).await;
    let unknown = "cycles, cycle 00000000-0000-4000-8000-000000000000: no record tells of it";
    for state in ["waiting", "finished"] {
        let columns = "run_profile_id, run_profile, trigger, nominal, snapshot, queued, fired_at, preset";
        let insert = format!(
            "INSERT INTO cycles (cycle_id, state, {columns}) SELECT '{STRANGER}', '{state}', {columns} FROM cycles WHERE ordinal = 1"
        );
        check(&insert, &[unknown]).await;
    }
    check(&format!("UPDATE cycles SET cycle_id = '{STRANGER}' WHERE ordinal = 1"), &[cycle, unknown]).await;
}

#[tokio::test]
async fn initiations_are_held_to_the_log() {
    let whole = whole().await;
    let check = async |sql: &str, expected: &[&str]| check(&whole, sql, expected).await;
    let about = "initiations, initiation ";
    for changed in [
        "label = 'another'",
        "weight = weight / 2",
        "metadata = '{\"more\":1}'",
        "hash = 'sha256:00'",
        "scope = 'another'",
        "release_on = '[\"failed\",\"skipped\"]'",
        "selected_at = selected_at + 1",
        "released_at = 1",
    ] {
        check(&format!("UPDATE initiations SET {changed} WHERE ordinal IN (1, 4)"), &[about, about]).await;
    }
    check("DELETE FROM initiations WHERE ordinal IN (2, 3)", &[about, about]).await;
    let unknown = "initiations, initiation 00000000-0000-4000-8000-000000000000";
    check(
        &format!("UPDATE initiations SET initiation_id = '{STRANGER}' WHERE ordinal = 1"),
        &[about, unknown],
    )
    .await;
    check(
        &format!("UPDATE initiations SET cycle_id = '{STRANGER}' WHERE ordinal = 1"),
        &[about, "initiations, initiation "],
    )
    .await;
    check(
        &format!(
            "INSERT INTO initiations (initiation_id, cycle_id, label, weight, metadata, hash, scope, release_on, selected_at)
            SELECT '{STRANGER}', '{STRANGER}', label, weight, metadata, hash, scope, release_on, selected_at FROM initiations WHERE ordinal = 1"
        ),
        &[&format!("{unknown}: no record tells of it")],
    )
    .await;
}

#[tokio::test]
async fn endpoints_are_held_to_the_log() {
    let whole = whole().await;
    let check = async |sql: &str, expected: &[&str]| check(&whole, sql, expected).await;
    let endpoint = "endpoints, endpoint archive: ";
    for changed in
        ["state = 'disabled'", "open_until = 1", "health = '{}'", "health = replace(health, 'false', 'true')"]
    {
        check(&format!("UPDATE endpoints SET {changed}"), &[endpoint]).await;
    }
    check("DELETE FROM endpoints", &["endpoints, endpoint archive: its records are there"]).await;
    let unknown = "endpoints, endpoint mirror: no record tells of it";
    check("UPDATE endpoints SET endpoint = 'mirror'", &[endpoint, unknown]).await;
    check(
        "INSERT INTO endpoints (endpoint, state, health) SELECT 'mirror', state, health FROM endpoints",
        &[unknown],
    )
    .await;
}

#[tokio::test]
async fn what_is_told_is_held_to_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("orbit.db"), &namespace()).unwrap();
    FolderBlobs::open(&folder.path().join("blobs")).unwrap();
    notices::accepted_dead_and_waiting(&World::new(&store)).await;
    assert_eq!(found(&verified(folder.path())), Vec::<String>::new());
    let check = |sql: &str, expected: &[&str]| check_file(folder.path(), sql, expected);
    let (delivery, notice) = ("deliveries, delivery ", "notices, notice ");
    for ordinal in 1..=3 {
        let of = format!("delivery_id = (SELECT delivery_id FROM deliveries WHERE ordinal = {ordinal})");
        check(&format!("UPDATE deliveries SET state = 'sending' WHERE {of}"), &[delivery]);
        check(&format!("UPDATE deliveries SET notice_id = '{STRANGER}' WHERE {of}"), &[delivery]);
        check(&format!("DELETE FROM deliveries WHERE {of}"), &[delivery]);
        if ordinal < 3 {
            check(&format!("UPDATE attempts SET answered_at = 0 WHERE {of}"), &["attempts, attempt "]);
        }
        for changed in [
            "endpoint = 'pager'",
            "event = 'halted'",
            "count = count + 1",
            "first_at = first_at - 1",
            "last_at = last_at + 1",
            "examples = '[]'",
            "due_at = due_at + 1",
            "snapshot = 'sha256:00'",
            "body = replace(body, 'cycle_failed', 'halted')",
        ] {
            check(&format!("UPDATE notices SET {changed} WHERE ordinal = {ordinal}"), &[notice]);
        }
        check(&format!("DELETE FROM notices WHERE ordinal = {ordinal}"), &[notice]);
    }
    check(
        &format!(
            "INSERT INTO deliveries (delivery_id, notice_id, endpoint, url, state, created_at)
            SELECT '{STRANGER}', notice_id, endpoint, url, 'waiting', 0 FROM deliveries WHERE ordinal = 1"
        ),
        &["deliveries, delivery 00000000-0000-4000-8000-000000000000: no record tells of it"],
    );
    let unknown = "notices, notice 00000000-0000-4000-8000-000000000000: no record tells of it";
    check(
        &format!(
            "INSERT INTO notices (notice_id, endpoint, event, count, first_at, last_at, examples, due_at, snapshot, body)
            SELECT '{STRANGER}', endpoint, event, count, first_at, last_at, examples, due_at, snapshot, body FROM notices WHERE ordinal = 1"
        ),
        &[unknown],
    );
    check(&format!("UPDATE notices SET notice_id = '{STRANGER}' WHERE ordinal = 1"), &[notice, unknown]);
}

/// One that was only admitted, one that waits for another attempt, one for a batch, one for its second step; and cycles that wait, one of them claimed.
async fn waiting(folder: &Path) {
    let store = SqliteStore::open(&folder.join("orbit.db"), &namespace()).unwrap();
    let blobs = FolderBlobs::open(&folder.join("blobs")).unwrap();
    for made in ["tier1", "tier2"] {
        blobs.put_bytes(made.as_bytes()).unwrap();
    }
    let world = World::new(&store);
    world.join(at(0)).await;
    for number in 1..=3 {
        world.admitted(number, 1, at(0)).await;
        let step = world.claim_step(at(1)).await;
        match number {
            1 => {
                let retry = failed(Step::Tier1, AfterFailure::Retry { until: at(60) });
                world.commit(&step, retry, at(2)).await;
            }
            2 => {
                world.commit(&step, succeeded(Step::Tier1, Step::Tier2), at(2)).await;
                let step = world.claim_step(at(2)).await;
                world.commit(&step, waits(Step::Tier2, place("any", 90)), at(3)).await;
            }
            _ => drop(world.commit(&step, succeeded(Step::Tier1, Step::Tier2), at(3)).await),
        }
    }
    world.admitted(4, 1, at(4)).await;
    for number in 5..=6 {
        store.fire(NewCycle { queued: number == 6, ..cycle(number) }, at(5)).await.unwrap();
    }
    world.claim_cycle(at(5)).await;
}

#[tokio::test]
async fn who_waits_is_held_to_the_log() {
    let folder = tempfile::tempdir().unwrap();
    waiting(folder.path()).await;
    assert_eq!(found(&verified(folder.path())), Vec::<String>::new());
    let check = |sql: &str, expected: &[&str]| check_file(folder.path(), sql, expected);
    let run = "runs, run ";
    for ordinal in 1..=4 {
        for changed in [
            "lane = NULL",
            "lane = (SELECT lane FROM lanes l WHERE l.lane <> runs.lane)",
            "due_at = coalesce(due_at, 0) + 1",
            "attempt = attempt + 1",
            "batch_key = coalesce(batch_key, '') || 'x'",
            "batch_items_max = coalesce(batch_items_max, 0) + 1",
            "batch_due_at = coalesce(batch_due_at, 0) + 1",
            "finished_at = 1",
        ] {
            check(&format!("UPDATE runs SET {changed} WHERE ordinal = {ordinal}"), &[run]);
        }
    }
    check("UPDATE lanes SET processor = 'another' WHERE processor = 'first'", &[run, run]);
    check("DELETE FROM lanes WHERE processor = 'first'", &["lanes, lane ", "lanes, lane "]);
    let cycle = "cycles, cycle ";
    check("UPDATE cycles SET state = 'running' WHERE ordinal = 5", &[cycle]);
    check("UPDATE cycles SET state = 'waiting' WHERE ordinal = 6", &[cycle]);
    check("UPDATE cycles SET queued = 1 - queued WHERE ordinal >= 5", &[cycle, cycle]);
}
