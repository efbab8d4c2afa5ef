//! Fencing tokens: no two claims have the same one, across restarts and nodes too.

use super::columns::params;
use super::fault::Attempt;
use super::tx::Connection;

/// A token that no claim has had. On SQLite it is made of the epoch and a counter in one row; here that row would let one claim wait for another.
pub(super) async fn next(tx: &Connection) -> Attempt<i64> {
    tx.query_row("SELECT nextval('claims')", params![], |row| row.get(0)).await
}

/// A new epoch; its number.
pub(super) async fn raise_epoch(tx: &Connection) -> Attempt<i64> {
    let sql = "UPDATE store SET epoch = epoch + 1 RETURNING epoch";
    tx.query_row(sql, params![], |row| row.get(0)).await
}
