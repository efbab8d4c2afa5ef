//! Snapshots and which one is active.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::Snapshot;
use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Subject};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;

use super::columns::{self, Json, Length, Micros, Text};
use super::fault::Attempt;
use super::record::{self, fact, facts};
use super::tx::Tx;
use super::view::PAGE_MAX;
use super::{SqliteStore, notify};
use crate::StoreError;
use crate::contract::config::{Activated, ActivationView, Base, ConfigStore};
use crate::contract::view::{Page, PageRequest};
use crate::rows::activation::{ACTIVATED, Looking};

#[async_trait]
impl ConfigStore for SqliteStore {
    async fn activate(
        &self,
        snapshot: &Snapshot,
        base: Base,
        now: Timestamp,
    ) -> Result<Activated, StoreError> {
        let snapshot = snapshot.clone();
        self.write(move |tx| activate(tx, &snapshot, base, now)).await
    }

    async fn active(&self) -> Result<Option<Snapshot>, StoreError> {
        self.read(|tx| match active_digest(tx)? {
            Some(digest) => find(tx, digest),
            None => Ok(None),
        })
        .await
    }

    async fn active_digest(&self) -> Result<Option<Digest>, StoreError> {
        self.read(active_digest).await
    }

    async fn snapshot(&self, digest: Digest) -> Result<Option<Snapshot>, StoreError> {
        self.read(move |tx| find(tx, digest)).await
    }

    async fn activations(&self, page: PageRequest) -> Result<Page<ActivationView>, StoreError> {
        let records = self.read(record::count).await?;
        let Some(mut looking) = Looking::of(&page, page.limit.clamp(1, PAGE_MAX), records) else {
            return Ok(Page::until(Vec::new(), 0, |_| String::new()));
        };
        while let Some(window) = looking.window() {
            let look = move |tx: &Connection| {
                looking.saw(window, activated(tx, window)?, active_digest(tx)?)?;
                Ok(looking)
            };
            looking = self.read(look).await?;
        }
        Ok(looking.page())
    }
}

fn activate(tx: &Tx<'_>, snapshot: &Snapshot, base: Base, now: Timestamp) -> Attempt<Activated> {
    let digest = snapshot.digest();
    let active = active_digest(tx)?;
    if active != Some(digest) && !base.allows(active) {
        return Ok(Activated::Conflict { active });
    }
    if snapshot.config.notify.is_empty() {
        notify::end(tx)?;
    } else {
        notify::begin(tx)?;
    }
    if active == Some(digest) {
        return Ok(Activated::Already);
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
    fact(tx, now, Kind::ConfigActivated, subject, facts(json!({ "digest": digest, "base": active })))?;
    Ok(Activated::New { base: active })
}

fn active_digest(tx: &Connection) -> Attempt<Option<Digest>> {
    let sql = "SELECT active_snapshot FROM store";
    Ok(tx.prepare_cached(sql)?.query_row((), |row| columns::digest_or_null(row, "active_snapshot"))?)
}

/// Positions and headers of activations within these positions, newest first.
fn activated(tx: &Connection, (begin, end, limit): (u64, u64, u32)) -> Attempt<Vec<(u64, String)>> {
    let sql =
        "SELECT position, header FROM log_records WHERE position >= ?1 AND position < ?2 AND header LIKE ?3
        ORDER BY position DESC LIMIT ?4";
    let mut statement = tx.prepare_cached(sql)?;
    let read = |row: &Row<'_>| Ok((row.get::<_, Length>("position")?.0, row.get("header")?));
    let rows = statement.query_map(params![Length(begin), Length(end), ACTIVATED, limit], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A snapshot that was active once.
pub(super) fn find(tx: &Connection, digest: Digest) -> Attempt<Option<Snapshot>> {
    let mut statement = tx.prepare_cached("SELECT document FROM snapshots WHERE digest = ?1")?;
    Ok(statement.query_row([Text(digest)], |row| columns::json(row, "document")).optional()?)
}
