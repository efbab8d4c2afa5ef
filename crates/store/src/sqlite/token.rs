//! Fencing tokens: no two claims of a store have the same one, across restarts too.

use rusqlite::{Connection, OptionalExtension};

use super::fault::{Attempt, Fault};
use crate::rows::claim;

/// A token that no claim has had: the epoch in the upper half, the number of the claim within it in the lower. Only a node has one.
pub(super) fn next(tx: &Connection) -> Attempt<i64> {
    let sql = "UPDATE store SET claims = claims + 1 WHERE epoch = (SELECT max(epoch) FROM nodes) RETURNING epoch, claims";
    let mut statement = tx.prepare_cached(sql)?;
    let numbers = statement.query_row((), |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    numbers.and_then(|(epoch, number)| claim::token(epoch, number)).ok_or(Fault::NotJoined)
}

/// A new epoch; its number.
pub(super) fn raise_epoch(tx: &Connection) -> Attempt<i64> {
    let sql = "UPDATE store SET epoch = epoch + 1, claims = 0 RETURNING epoch";
    Ok(tx.prepare_cached(sql)?.query_row((), |row| row.get(0))?)
}
