//! Halts.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::record::{Kind, Subject};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;

use super::SqliteStore;
use super::columns::{self, Micros};
use super::fault::Attempt;
use super::record::{fact, facts};
use super::signing;
use super::tx::Tx;
use crate::StoreError;
use crate::contract::governance::{GovernanceStore, Halt};

#[async_trait]
impl GovernanceStore for SqliteStore {
    async fn halt(&self, reason: &str, now: Timestamp) -> Result<bool, StoreError> {
        let reason = reason.to_owned();
        self.write(move |tx| halt(tx, &reason, now)).await
    }

    async fn resume(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.write(move |tx| resume(tx, now)).await
    }

    async fn halted(&self) -> Result<Option<Halt>, StoreError> {
        self.read(in_force).await
    }

    async fn resumed_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|tx| {
            let sql = "SELECT max(lifted_at) AS lifted_at FROM halts";
            Ok(tx.prepare_cached(sql)?.query_row((), |row| columns::instant_or_null(row, "lifted_at"))?)
        })
        .await
    }
}

fn in_force(tx: &Connection) -> Attempt<Option<Halt>> {
    let mut statement = tx.prepare_cached("SELECT at, reason FROM halts WHERE lifted_at IS NULL")?;
    let halt =
        |row: &rusqlite::Row<'_>| Ok(Halt { at: columns::instant(row, "at")?, reason: row.get("reason")? });
    Ok(statement.query_row((), halt).optional()?)
}

fn halt(tx: &Tx<'_>, reason: &str, now: Timestamp) -> Attempt<bool> {
    let insert = "INSERT INTO halts (at, reason) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    if tx.prepare_cached(insert)?.execute(params![Micros(now), reason])? == 0 {
        return Ok(false);
    }
    fact(tx, now, Kind::Halted, Subject::default(), facts(json!({ "reason": reason })))?;
    Ok(true)
}

/// The halt that a restore put into force is recorded. The restore could not: the first new record is the one of the log's new name.
pub(super) fn tell_restored(tx: &Tx<'_>, restored_at: Option<Timestamp>) -> Attempt<()> {
    match in_force(tx)? {
        Some(halt) if Some(halt.at) == restored_at => {
            fact(tx, halt.at, Kind::Halted, Subject::default(), facts(json!({ "reason": halt.reason })))
        }
        Some(_) | None => Ok(()),
    }
}

fn resume(tx: &Tx<'_>, now: Timestamp) -> Attempt<bool> {
    let Some(halt) = in_force(tx)? else { return Ok(false) };
    // Lifted before the home was ever started.
    tell_restored(tx, signing::restored_at(tx)?)?;
    tx.prepare_cached("UPDATE halts SET lifted_at = ?1 WHERE lifted_at IS NULL")?.execute([Micros(now)])?;
    let body = facts(json!({ "halted_at": halt.at, "reason": halt.reason }));
    fact(tx, now, Kind::Resumed, Subject::default(), body)?;
    Ok(true)
}
