//! Snapshots and which one is active.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::Snapshot;
use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Subject};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;

use super::columns::{self, Json, Micros, Text};
use super::fault::Attempt;
use super::record::{fact, facts};
use super::tx::Tx;
use super::{SqliteStore, notify};
use crate::StoreError;
use crate::contract::config::ConfigStore;

#[async_trait]
impl ConfigStore for SqliteStore {
    async fn activate(&self, snapshot: &Snapshot, now: Timestamp) -> Result<bool, StoreError> {
        let snapshot = snapshot.clone();
        self.write(move |tx| activate(tx, &snapshot, now)).await
    }

    async fn active(&self) -> Result<Option<Snapshot>, StoreError> {
        self.read(|tx| match active_digest(tx)? {
            Some(digest) => find(tx, digest),
            None => Ok(None),
        })
        .await
    }

    async fn snapshot(&self, digest: Digest) -> Result<Option<Snapshot>, StoreError> {
        self.read(move |tx| find(tx, digest)).await
    }
}

fn activate(tx: &Tx<'_>, snapshot: &Snapshot, now: Timestamp) -> Attempt<bool> {
    let digest = snapshot.digest();
    let base = active_digest(tx)?;
    if snapshot.config.notify.is_empty() {
        notify::end(tx)?;
    } else {
        notify::begin(tx)?;
    }
    if base == Some(digest) {
        return Ok(false);
    }
    tx.prepare_cached(
        "INSERT INTO snapshots (digest, document, activated_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?
    .execute(params![Text(digest), Json(snapshot), Micros(now)])?;
    // What was dropped as an artifact may have come back as a file.
    let again =
        "UPDATE payloads SET dropped_at = NULL, kept_at = ?2 WHERE digest = ?1 AND dropped_at IS NOT NULL";
    for asset in snapshot.assets.values() {
        tx.prepare_cached(again)?.execute(params![Text(asset.digest), Micros(now)])?;
    }
    tx.prepare_cached("UPDATE store SET active_snapshot = ?1")?.execute([Text(digest)])?;
    let subject = Subject { snapshot: Some(digest), ..Subject::default() };
    fact(tx, now, Kind::ConfigActivated, subject, facts(json!({ "digest": digest, "base": base })))?;
    Ok(true)
}

fn active_digest(tx: &Connection) -> Attempt<Option<Digest>> {
    let sql = "SELECT active_snapshot FROM store";
    Ok(tx.prepare_cached(sql)?.query_row((), |row| columns::digest_or_null(row, "active_snapshot"))?)
}

fn find(tx: &Connection, digest: Digest) -> Attempt<Option<Snapshot>> {
    let mut statement = tx.prepare_cached("SELECT document FROM snapshots WHERE digest = ?1")?;
    Ok(statement.query_row([Text(digest)], |row| columns::json(row, "document")).optional()?)
}
