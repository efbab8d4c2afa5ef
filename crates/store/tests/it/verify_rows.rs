//! What runs leave in rows: whatever is changed there by hand, verification names.

use crate::verify::{check, whole};

/// A run that nobody admitted.
pub(crate) const STRANGER: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn steps_are_held_to_the_log() {
    let whole = whole().await;
    let check = async |sql: &str, expected: &[&str]| check(&whole, sql, expected).await;
    let step = "steps, step tier1 of run ";
    let of = |ordinal: u8| format!("run_id = (SELECT run_id FROM runs WHERE ordinal = {ordinal})");
    for changed in [
        "attempts = 7",
        "state = 'failed'",
        "started_at = started_at + 1",
        "finished_at = NULL",
        "bytes = bytes + 1",
        "media_type = 'text/html'",
        "failure = 'none'",
        "place = 2",
        "digest = NULL",
    ] {
        check(&format!("UPDATE steps SET {changed} WHERE {}", of(1)), &[step]).await;
        check(&format!("UPDATE steps SET {changed} WHERE {}", of(4)), &[step]).await;
    }
    check(&format!("DELETE FROM steps WHERE {}", of(2)), &[step]).await;
    check(
        "INSERT INTO steps (run_id, step, place, state, attempts, started_at)
            SELECT run_id, 'tier2', 1, 'working', 1, 0 FROM runs WHERE ordinal = 3",
        &["steps, step tier2 of run "],
    )
    .await;
    check(
        &format!(
            "INSERT INTO steps (run_id, step, place, state, attempts, started_at) VALUES ('{STRANGER}', 'tier2', 1, 'working', 1, 0)"
        ),
        &["steps, step tier2 of run 00000000-0000-4000-8000-000000000000: no record tells of it"],
    )
    .await;
}

#[tokio::test]
async fn deliveries_are_held_to_the_log() {
    let whole = whole().await;
    let check = async |sql: &str, expected: &[&str]| check(&whole, sql, expected).await;
    for changed in [
        "state = 'cancelled'",
        "url = 'https://other.example.net/'",
        "endpoint = 'mirror'",
        "reason = 'by hand'",
        "attempts = attempts + 1",
        "round_attempts = round_attempts + 1",
        "due_at = coalesce(due_at, 0) + 1",
        "created_at = created_at + 1",
        "settled_at = coalesce(settled_at, 0) + 1",
    ] {
        // One that was accepted, one that was given up, and one that waits.
        for ordinal in [1, 2, 4] {
            let sql = format!("UPDATE deliveries SET {changed} WHERE ordinal = {ordinal}");
            check(&sql, &["deliveries, delivery "]).await;
        }
    }
    check("DELETE FROM deliveries WHERE ordinal = 4", &["deliveries, delivery "]).await;
    let insert = |id: &str, run_id: &str| {
        format!(
            "INSERT INTO deliveries (delivery_id, run_id, endpoint, url, state, created_at)
            SELECT '{id}', {run_id}, 'archive', 'https://archive.example.net/', 'waiting', 0 FROM runs WHERE ordinal = 1"
        )
    };
    let unknown = "deliveries, delivery 00000000-0000-4000-8000-000000000000: no record tells of it";
    check(&insert(STRANGER, "run_id"), &[unknown]).await;
    check(&insert(STRANGER, &format!("'{STRANGER}'")), &[unknown]).await;
    check(
        &format!("UPDATE deliveries SET delivery_id = '{STRANGER}' WHERE ordinal = 4"),
        &["deliveries, delivery ", unknown],
    )
    .await;
}

#[tokio::test]
async fn attempts_are_held_to_the_log() {
    let whole = whole().await;
    let check = async |sql: &str, expected: &[&str]| check(&whole, sql, expected).await;
    let of =
        |ordinal: u8| format!("delivery_id = (SELECT delivery_id FROM deliveries WHERE ordinal = {ordinal})");
    for changed in [
        "started_at = started_at + 1",
        "answered_at = answered_at + 1",
        "receipt = NULL",
        "receipt = '{}'",
        "receipt = 'no JSON'",
        "receipt = replace(receipt, 'accepted', 'refused')",
    ] {
        check(
            &format!("UPDATE attempts SET {changed} WHERE {}", of(1)),
            &["attempts, attempt 1 of delivery "],
        )
        .await;
    }
    check(&format!("DELETE FROM attempts WHERE {}", of(2)), &["attempts, attempt 1 of delivery "]).await;
    check(
        "INSERT INTO attempts (delivery_id, attempt, started_at) SELECT delivery_id, 9, 0 FROM deliveries WHERE ordinal = 4",
        &["attempts, attempt 9 of delivery "],
    ).await;
    check(
        &format!("INSERT INTO attempts (delivery_id, attempt, started_at) VALUES ('{STRANGER}', 1, 0)"),
        &["attempts, attempt 1 of delivery 00000000-0000-4000-8000-000000000000: there is no such delivery"],
    )
    .await;
    check(
        &format!("UPDATE attempts SET attempt = 2 WHERE {}", of(1)),
        &["attempts, attempt 1 of delivery ", "attempts, attempt 2 of delivery "],
    )
    .await;
}
