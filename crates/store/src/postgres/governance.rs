//! Halts.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::record::{Kind, Subject};
use serde_json::json;

use super::PostgresStore;
use super::columns::{self, Micros, Row, params};
use super::fault::Attempt;
use super::record::{fact, facts};
use super::signing;
use super::tx::{Connection, Tx, reading, writing};
use crate::StoreError;
use crate::contract::governance::{GovernanceStore, Halt};

#[async_trait]
impl GovernanceStore for PostgresStore {
    async fn halt(&self, reason: &str, now: Timestamp) -> Result<bool, StoreError> {
        let reason = reason.to_owned();
        writing!(self, |tx| halt(tx, &reason, now).await)
    }

    async fn resume(&self, now: Timestamp) -> Result<bool, StoreError> {
        writing!(self, |tx| resume(tx, now).await)
    }

    async fn halted(&self) -> Result<Option<Halt>, StoreError> {
        reading!(self, |tx| in_force(tx).await)
    }

    async fn resumed_at(&self) -> Result<Option<Timestamp>, StoreError> {
        reading!(self, |tx| {
            let sql = "SELECT max(lifted_at) AS lifted_at FROM halts";
            tx.query_row(sql, params![], |row| columns::instant_or_null(row, "lifted_at")).await
        })
    }
}

pub(super) async fn in_force(tx: &Connection) -> Attempt<Option<Halt>> {
    let sql = "SELECT at, reason FROM halts WHERE lifted_at IS NULL";
    let halt = |row: &Row| Ok(Halt { at: columns::instant(row, "at")?, reason: row.get("reason")? });
    tx.query_optional(sql, params![], halt).await
}

async fn halt(tx: &Tx, reason: &str, now: Timestamp) -> Attempt<bool> {
    let insert = "INSERT INTO halts (at, reason) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    if tx.execute(insert, params![Micros(now), reason]).await? == 0 {
        return Ok(false);
    }
    fact(tx, now, Kind::Halted, Subject::default(), facts(json!({ "reason": reason })))?;
    Ok(true)
}

/// The halt that a restore put into force is recorded. The restore could not: the first new record is the one of the log's new name.
pub(super) async fn tell_restored(tx: &Tx, restored_at: Option<Timestamp>) -> Attempt<()> {
    match in_force(tx).await? {
        Some(halt) if Some(halt.at) == restored_at => {
            fact(tx, halt.at, Kind::Halted, Subject::default(), facts(json!({ "reason": halt.reason })))
        }
        Some(_) | None => Ok(()),
    }
}

async fn resume(tx: &Tx, now: Timestamp) -> Attempt<bool> {
    let Some(halt) = in_force(tx).await? else { return Ok(false) };
    // Lifted before the home was ever started.
    tell_restored(tx, signing::restored_at(tx).await?).await?;
    tx.send("UPDATE halts SET lifted_at = $1 WHERE lifted_at IS NULL", params![Micros(now)]).await?;
    let body = facts(json!({ "halted_at": halt.at, "reason": halt.reason }));
    fact(tx, now, Kind::Resumed, Subject::default(), body)?;
    Ok(true)
}
