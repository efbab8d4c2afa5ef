//! Evidence and payloads that are too old leave.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::Snapshot;
use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Subject};
use rusqlite::{Connection, Row, params};
use serde::Deserialize;
use serde_json::json;

use super::SqliteStore;
use super::columns::{self, Json, Length, Micros, Text};
use super::fault::Attempt;
use super::record::{fact, facts};
use super::tx::Tx;
use crate::StoreError;
use crate::contract::retention::{Amount, DroppedPayload, Older, RetentionStore};
use crate::rows::retention::{OldBody, ranges};

#[async_trait]
impl RetentionStore for SqliteStore {
    async fn drop_evidence(&self, older: Older, now: Timestamp) -> Result<Amount, StoreError> {
        // A reader can tell that there is nothing to do, which is so nearly always.
        if self.read(move |tx| evidence(tx, Older { limit: 1, ..older })).await?.is_empty() {
            return Ok(Amount::default());
        }
        self.write(move |tx| drop_evidence(tx, older, now)).await
    }

    async fn drop_payloads(&self, older: Older, now: Timestamp) -> Result<Vec<DroppedPayload>, StoreError> {
        if self.read(move |tx| payloads(tx, Older { limit: 1, ..older })).await?.is_empty() {
            return Ok(Vec::new());
        }
        self.write(move |tx| drop_payloads(tx, older, now)).await
    }

    async fn droppable(
        &self,
        of_evidence: Older,
        of_payloads: Older,
    ) -> Result<(Amount, Amount), StoreError> {
        self.read(move |tx| {
            let (mut bodies, mut bytes) = (Amount::default(), Amount::default());
            evidence(tx, of_evidence)?.iter().for_each(|body| bodies.add(body.bytes));
            payloads(tx, of_payloads)?.iter().for_each(|payload| bytes.add(payload.bytes));
            Ok((bodies, bytes))
        })
        .await
    }

    async fn unnamed(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, StoreError> {
        self.read(move |tx| unnamed(tx, digests)).await
    }

    async fn give_back(&self, pages: u32) -> Result<u64, StoreError> {
        let incremental: bool = self
            .read(|tx| Ok(tx.query_row("PRAGMA auto_vacuum", (), |row| row.get::<_, i64>(0))? == 2))
            .await?;
        if !incremental || self.read(free_pages).await? == 0 {
            return Ok(0);
        }
        self.write(move |tx| {
            // A row a page: whoever reads only the first gives back only that.
            let mut vacuum = tx.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
            let mut rows = vacuum.query(())?;
            while rows.next()?.is_some() {}
            free_pages(tx)
        })
        .await
    }
}

fn free_pages(tx: &Connection) -> Attempt<u64> {
    Ok(tx.query_row("PRAGMA freelist_count", (), |row| row.get::<_, Length>(0))?.0)
}

#[derive(Deserialize)]
struct When {
    at: Timestamp,
}

/// Bodies of settled evidence in the order of the log, up to the first that is young enough: records are made in order, nearly.
fn evidence(tx: &Connection, older: Older) -> Attempt<Vec<OldBody>> {
    let sql = "SELECT b.position, r.header, octet_length(b.body) AS bytes
        FROM log_bodies b INDEXED BY log_bodies_evidence JOIN log_records r USING (position)
        WHERE b.salt IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM runs WHERE run_id = r.run_id AND state <> 'finished')
            AND NOT EXISTS (SELECT 1 FROM cycles WHERE cycle_id = r.cycle_id AND state <> 'finished')
        ORDER BY b.position";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let header: When = row.get::<_, Json<_>>("header")?.0;
        if header.at >= older.than || found.len() >= older.limit as usize {
            break;
        }
        let position = row.get::<_, Length>("position")?.0;
        found.push(OldBody { position, bytes: row.get::<_, Length>("bytes")?.0 });
    }
    Ok(found)
}

fn drop_evidence(tx: &Tx<'_>, older: Older, now: Timestamp) -> Attempt<Amount> {
    let bodies = evidence(tx, older)?;
    let mut dropped = Amount::default();
    if bodies.is_empty() {
        return Ok(dropped);
    }
    let told_at = Length(tx.next_position());
    let mut bury = tx.prepare_cached("INSERT INTO log_tombstones (position, told_at) VALUES (?1, ?2)")?;
    let mut delete = tx.prepare_cached("DELETE FROM log_bodies WHERE position = ?1")?;
    for body in &bodies {
        bury.execute(params![Length(body.position), told_at])?;
        delete.execute([Length(body.position)])?;
        dropped.add(body.bytes);
    }
    let body = json!({
        "positions": ranges(&bodies),
        "count": dropped.count,
        "bytes": dropped.bytes,
        "older_than": older.than,
        "rule": "retention.evidence",
    });
    fact(tx, now, Kind::BodiesDropped, Subject::default(), facts(body))?;
    Ok(dropped)
}

/// Payloads that nothing needs, oldest first. What a snapshot names is needed as long as a run may be done again under it, so for good.
fn payloads(tx: &Connection, older: Older) -> Attempt<Vec<DroppedPayload>> {
    let sql = "SELECT digest, bytes, content IS NULL AS is_file FROM payloads p INDEXED BY payloads_kept
        WHERE dropped_at IS NULL AND kept_at < ?1 AND digest NOT IN (
            SELECT artifact_digest FROM runs INDEXED BY runs_by_state
            WHERE state IN ('ready', 'working', 'waiting') AND artifact_digest IS NOT NULL
        ) AND NOT EXISTS (
            SELECT 1 FROM runs r INDEXED BY runs_of_artifact
            WHERE r.artifact_digest = p.digest AND r.state IN ('dispatching', 'finished') AND (
                r.state <> 'finished' OR EXISTS (SELECT 1 FROM deliveries d WHERE d.run_id = r.run_id
                    AND (d.state IN ('waiting', 'sending') OR (d.state = 'dead' AND d.settled_at >= ?1)))))
        ORDER BY kept_at, digest LIMIT ?2";
    let read = |row: &Row<'_>| {
        Ok(DroppedPayload {
            digest: columns::digest(row, "digest")?,
            bytes: row.get::<_, Length>("bytes")?.0,
            is_file: row.get("is_file")?,
        })
    };
    let mut statement = tx.prepare_cached(sql)?;
    // Assets are taken out afterwards, so there must be room for all of them besides those that go.
    let mut rows = statement.query_map(params![Micros(older.than), i64::MAX], read)?;
    let Some(first) = rows.next().transpose()? else { return Ok(Vec::new()) };
    let assets = assets(tx)?;
    let mut found = Vec::new();
    for payload in std::iter::once(Ok(first)).chain(rows) {
        let payload = payload?;
        if !assets.contains(&payload.digest) {
            found.push(payload);
        }
        if found.len() >= older.limit as usize {
            break;
        }
    }
    Ok(found)
}

fn assets(tx: &Connection) -> Attempt<BTreeSet<Digest>> {
    let mut assets = BTreeSet::new();
    let mut statement = tx.prepare_cached("SELECT document FROM snapshots")?;
    for snapshot in statement.query_map((), |row| columns::json::<Snapshot>(row, "document"))? {
        assets.extend(snapshot?.assets.values().map(|asset| asset.digest));
    }
    Ok(assets)
}

fn drop_payloads(tx: &Tx<'_>, older: Older, now: Timestamp) -> Attempt<Vec<DroppedPayload>> {
    let payloads = payloads(tx, older)?;
    if payloads.is_empty() {
        return Ok(payloads);
    }
    let mut update =
        tx.prepare_cached("UPDATE payloads SET dropped_at = ?2, content = NULL WHERE digest = ?1")?;
    let mut forget = tx.prepare_cached("DELETE FROM work_done WHERE digest = ?1")?;
    let mut dropped = Amount::default();
    for payload in &payloads {
        update.execute(params![Text(payload.digest), Micros(now)])?;
        forget.execute([Text(payload.digest)])?;
        dropped.add(payload.bytes);
    }
    let body = json!({
        "digests": payloads.iter().map(|payload| payload.digest).collect::<Vec<_>>(),
        "count": dropped.count,
        "bytes": dropped.bytes,
        "older_than": older.than,
        "rule": "retention.artifacts",
    });
    fact(tx, now, Kind::ArtifactsDropped, Subject::default(), facts(body))?;
    Ok(payloads)
}

fn unnamed(tx: &Connection, digests: Vec<Digest>) -> Attempt<Vec<Digest>> {
    let sql = "SELECT EXISTS (SELECT 1 FROM payloads WHERE digest = ?1 AND dropped_at IS NULL)";
    let mut named = tx.prepare_cached(sql)?;
    let assets = assets(tx)?;
    let mut found = Vec::new();
    for digest in digests {
        if !assets.contains(&digest) && !named.query_row([Text(digest)], |row| row.get::<_, bool>(0))? {
            found.push(digest);
        }
    }
    Ok(found)
}
