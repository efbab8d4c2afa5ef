//! Snapshots and which one is active.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::Snapshot;
use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Subject};
use serde_json::json;

use super::columns::{self, Json, Micros, Text, params};
use super::fault::Attempt;
use super::record::{fact, facts};
use super::tx::{Connection, Tx, positioned, reading};
use super::{PostgresStore, notify};
use crate::StoreError;
use crate::contract::config::ConfigStore;

#[async_trait]
impl ConfigStore for PostgresStore {
    async fn activate(&self, snapshot: &Snapshot, now: Timestamp) -> Result<bool, StoreError> {
        // Following the log from its end on takes knowing where that is.
        positioned!(self, |tx| activate(tx, snapshot, now).await)
    }

    async fn active(&self) -> Result<Option<Snapshot>, StoreError> {
        reading!(self, |tx| match active_digest(tx).await? {
            Some(digest) => find(tx, digest).await,
            None => Ok(None),
        })
    }

    async fn snapshot(&self, digest: Digest) -> Result<Option<Snapshot>, StoreError> {
        reading!(self, |tx| find(tx, digest).await)
    }
}

async fn activate(tx: &Tx, snapshot: &Snapshot, now: Timestamp) -> Attempt<bool> {
    let digest = snapshot.digest();
    let base = active_digest(tx).await?;
    if snapshot.config.notify.is_empty() {
        notify::end(tx).await?;
    } else {
        notify::begin(tx).await?;
    }
    if base == Some(digest) {
        return Ok(false);
    }
    tx.send(
        "INSERT INTO snapshots (digest, document, activated_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        params![Text(digest), Json(snapshot), Micros(now)],
    )
    .await?;
    // What was dropped as an artifact may have come back as a file.
    let again =
        "UPDATE payloads SET dropped_at = NULL, kept_at = $2 WHERE digest = $1 AND dropped_at IS NOT NULL";
    for asset in snapshot.assets.values() {
        tx.send(again, params![Text(asset.digest), Micros(now)]).await?;
    }
    tx.send("UPDATE store SET active_snapshot = $1", params![Text(digest)]).await?;
    let subject = Subject { snapshot: Some(digest), ..Subject::default() };
    fact(tx, now, Kind::ConfigActivated, subject, facts(json!({ "digest": digest, "base": base })))?;
    Ok(true)
}

async fn active_digest(tx: &Connection) -> Attempt<Option<Digest>> {
    let sql = "SELECT active_snapshot FROM store";
    tx.query_row(sql, params![], |row| columns::digest_or_null(row, "active_snapshot")).await
}

/// A snapshot that was active once.
pub(super) async fn find(tx: &Connection, digest: Digest) -> Attempt<Option<Snapshot>> {
    let sql = "SELECT document FROM snapshots WHERE digest = $1";
    tx.query_optional(sql, params![Text(digest)], |row| columns::json(row, "document")).await
}
