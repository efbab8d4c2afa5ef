//! Snapshots and which one is active.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::Snapshot;
use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Subject};
use serde_json::json;

use super::columns::{self, Json, Length, Micros, Row, Text, params};
use super::fault::{Attempt, Fault};
use super::record::{self, fact, facts};
use super::tx::{Connection, Tx, positioned, reading};
use super::view::PAGE_MAX;
use super::{PostgresStore, notify};
use crate::StoreError;
use crate::contract::config::{Activated, ActivationView, Base, ConfigStore};
use crate::contract::view::{Page, PageRequest};
use crate::rows::activation::{ACTIVATED, Looking};

#[async_trait]
impl ConfigStore for PostgresStore {
    async fn activate(
        &self,
        snapshot: &Snapshot,
        base: Base,
        now: Timestamp,
    ) -> Result<Activated, StoreError> {
        // Following the log from its end on takes knowing where that is. And whoever holds the sequencer's lock is the only one who activates.
        positioned!(self, |tx| activate(tx, snapshot, base, now).await)
    }

    async fn active(&self) -> Result<Option<Snapshot>, StoreError> {
        reading!(self, |tx| match active_digest(tx).await? {
            Some(digest) => find(tx, digest).await,
            None => Ok(None),
        })
    }

    async fn active_digest(&self) -> Result<Option<Digest>, StoreError> {
        reading!(self, |tx| active_digest(tx).await)
    }

    async fn snapshot(&self, digest: Digest) -> Result<Option<Snapshot>, StoreError> {
        reading!(self, |tx| find(tx, digest).await)
    }

    async fn activations(&self, page: PageRequest) -> Result<Page<ActivationView>, StoreError> {
        let records = reading!(self, |tx| record::count(tx).await)?;
        let Some(mut looking) = Looking::of(&page, page.limit.clamp(1, PAGE_MAX), records) else {
            return Ok(Page::until(Vec::new(), 0, |_| String::new()));
        };
        while let Some(window) = looking.window() {
            let (rows, active) =
                reading!(self, |tx| Ok((activated(tx, window).await?, active_digest(tx).await?)))?;
            looking.saw(window, rows, active).map_err(|error| Fault::from(error).at(&self.database.place))?;
        }
        Ok(looking.page())
    }
}

async fn activate(tx: &Tx, snapshot: &Snapshot, base: Base, now: Timestamp) -> Attempt<Activated> {
    let digest = snapshot.digest();
    let active = active_digest(tx).await?;
    if active != Some(digest) && !base.allows(active) {
        return Ok(Activated::Conflict { active });
    }
    if snapshot.config.notify.is_empty() {
        notify::end(tx).await?;
    } else {
        notify::begin(tx).await?;
    }
    if active == Some(digest) {
        return Ok(Activated::Already);
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
    fact(tx, now, Kind::ConfigActivated, subject, facts(json!({ "digest": digest, "base": active })))?;
    Ok(Activated::New { base: active })
}

/// None too where there is no store yet.
pub(super) async fn active_digest(tx: &Connection) -> Attempt<Option<Digest>> {
    let sql = "SELECT active_snapshot FROM store";
    let active = tx.query_optional(sql, params![], |row| columns::digest_or_null(row, "active_snapshot"));
    Ok(active.await?.flatten())
}

/// Positions and headers of activations within these positions, newest first.
async fn activated(tx: &Connection, (begin, end, limit): (u64, u64, u32)) -> Attempt<Vec<(u64, String)>> {
    let sql =
        "SELECT position, header FROM log_records WHERE position >= $1 AND position < $2 AND header LIKE $3
        ORDER BY position DESC LIMIT $4";
    let read = |row: &Row| Ok((row.get::<_, Length>("position")?.0, row.get("header")?));
    let parameters = params![Length(begin), Length(end), ACTIVATED.to_owned(), i64::from(limit)];
    tx.query_all(sql, parameters, read).await
}

/// A snapshot that was active once.
pub(super) async fn find(tx: &Connection, digest: Digest) -> Attempt<Option<Snapshot>> {
    let sql = "SELECT document FROM snapshots WHERE digest = $1";
    tx.query_optional(sql, params![Text(digest)], |row| columns::json(row, "document")).await
}
