//! Fencing tokens: no two claims of a store have the same one, across restarts too.

use rusqlite::Connection;

use super::fault::Attempt;

/// A token that no claim has had: the epoch in the upper half, the number of the claim within it in the lower.
pub(super) fn next(tx: &Connection) -> Attempt<i64> {
    let sql = "UPDATE store SET claims = claims + 1 RETURNING (epoch << 32) + claims";
    Ok(tx.prepare_cached(sql)?.query_row((), |row| row.get(0))?)
}

/// A new epoch; its number.
pub(super) fn raise_epoch(tx: &Connection) -> Attempt<i64> {
    let sql = "UPDATE store SET epoch = epoch + 1, claims = 0 RETURNING epoch";
    Ok(tx.prepare_cached(sql)?.query_row((), |row| row.get(0))?)
}
