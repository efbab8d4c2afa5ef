//! What was changed of single records and of their bodies is named.

use crate::verify::{NODE, check, whole};

#[tokio::test]
async fn records_are_held_to_their_leaves() {
    let whole = whole().await;
    let check = async |sql: &str, expected: &[&str]| check(&whole, sql, expected).await;
    check(
        "UPDATE log_records SET header = replace(header, '2023', '2022') WHERE position = 20",
        &["log_records, position 20: the header is not the one that was hashed", NODE],
    )
    .await;
    check("UPDATE log_records SET leaf = zeroblob(32) WHERE position = 20", &["log_records, position 20: "])
        .await;
    check(
        "DELETE FROM log_records WHERE position = 20",
        &["log_records, position 20: the record at position 20 is missing", "runs, run "],
    )
    .await;
    check(
        "INSERT INTO log_records (position, header) SELECT -1, header FROM log_records WHERE position = 3",
        &["log_records, position -1: no record can have this position"],
    )
    .await;
    // As far away as a position can be, which takes no longer than next to where it was, and one further.
    let missing = "log_records, position 20: the record at position 20 is missing";
    check(
        "UPDATE log_records SET position = 9223372036854775806 WHERE position = 20",
        &[
            missing,
            "log_bodies, position 9223372036854775806: the body is missing",
            "log_records, position 38: the records from position 38 to 9223372036854775805 are missing",
        ],
    )
    .await;
    check(
        "UPDATE log_records SET position = 9223372036854775807 WHERE position = 20",
        &["log_records, position 9223372036854775807: no record can have this position", missing],
    )
    .await;
    check(
        "INSERT INTO log_records (position, header) SELECT position + 1, header FROM log_records ORDER BY position DESC LIMIT 1",
        &["log_bodies, position"],
    ).await;
}

#[tokio::test]
async fn bodies_are_held_to_their_headers() {
    let whole = whole().await;
    let check = async |sql: &str, expected: &[&str]| check(&whole, sql, expected).await;
    let swapped = |column: &str, table: &str| {
        format!(
            "CREATE TEMP TABLE t AS SELECT position, {column} AS v FROM {table} WHERE position IN (20, 21);
            UPDATE {table} SET {column} = (SELECT v FROM t WHERE t.position = 41 - {table}.position) WHERE position IN (20, 21)"
        )
    };
    let bodies =
        ["log_bodies, position 20: body and salt have", "log_bodies, position 21: body and salt have"];
    check(&swapped("body", "log_bodies"), &bodies).await;
    check(
        &[("header", "log_records"), ("body", "log_bodies"), ("salt", "log_bodies")]
            .map(|(column, table)| swapped(column, table))
            .join("; DROP TABLE t; "),
        &["log_records, position 20: the header", "log_records, position 21: the header", NODE],
    )
    .await;
    check(
        "UPDATE log_bodies SET body = replace(body, '2', '3') WHERE position = 20",
        &[
            "log_bodies, position 20: body and salt have the digest",
            "log_records, position 20: `step_succeeded` cannot follow the records before it: its body cannot be read",
        ],
    )
    .await;
    check(
        "DELETE FROM log_bodies WHERE position = (SELECT min(position) FROM log_bodies WHERE salt IS NOT NULL)",
        &["log_bodies, position"],
    ).await;
    check(
        "UPDATE log_bodies SET salt = zeroblob(16) WHERE position = (SELECT min(position) FROM log_bodies WHERE salt IS NOT NULL)",
        &["log_bodies, position"],
    ).await;
    check(
        "INSERT INTO log_bodies (position, body) VALUES (100000, '{}')",
        &["log_bodies, position 100000: there is no such record"],
    )
    .await;
}
