//! Evidence and payloads that are too old leave.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::Snapshot;
use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Subject};
use serde::Deserialize;
use serde_json::json;

use super::columns::{self, Json, Length, Micros, Row, Text, params};
use super::fault::Attempt;
use super::record::{fact, facts};
use super::tx::{Connection, Tx, positioned, reading, writing};
use super::{PostgresStore, sequencer};
use crate::StoreError;
use crate::contract::retention::{Amount, DroppedPayload, Older, RetentionStore};
use crate::rows::retention::{OldBody, ranges};

#[async_trait]
impl RetentionStore for PostgresStore {
    async fn drop_evidence(&self, older: Older, now: Timestamp) -> Result<Amount, StoreError> {
        // Only a body with a position can have a tombstone.
        sequencer::run(&self.database).await?;
        // A reader can tell that there is nothing to do, which is so nearly always.
        if reading!(self, |tx| evidence(tx, Older { limit: 1, ..older }).await)?.is_empty() {
            return Ok(Amount::default());
        }
        // A tombstone names the position of the record that tells of it.
        positioned!(self, |tx| drop_evidence(tx, older, now).await)
    }

    async fn drop_payloads(&self, older: Older, now: Timestamp) -> Result<Vec<DroppedPayload>, StoreError> {
        if reading!(self, |tx| payloads(tx, Older { limit: 1, ..older }).await)?.is_empty() {
            return Ok(Vec::new());
        }
        writing!(self, |tx| drop_payloads(tx, older, now).await)
    }

    async fn droppable(
        &self,
        of_evidence: Older,
        of_payloads: Older,
    ) -> Result<(Amount, Amount), StoreError> {
        sequencer::run(&self.database).await?;
        reading!(self, |tx| {
            let (mut bodies, mut bytes) = (Amount::default(), Amount::default());
            evidence(tx, of_evidence).await?.iter().for_each(|body| bodies.add(body.bytes));
            payloads(tx, of_payloads).await?.iter().for_each(|payload| bytes.add(payload.bytes));
            Ok((bodies, bytes))
        })
    }

    async fn unnamed(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, StoreError> {
        reading!(self, |tx| unnamed(tx, &digests).await)
    }

    /// PostgreSQL keeps the space of rows that are gone for new ones; `autovacuum` finds it.
    async fn give_back(&self, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }
}

#[derive(Deserialize)]
struct When {
    at: Timestamp,
}

/// Bodies of settled evidence in the order of the log, up to the first that is young enough: records are made in order, nearly.
async fn evidence(tx: &Connection, older: Older) -> Attempt<Vec<OldBody>> {
    let sql = "SELECT b.position, r.header, octet_length(b.body)::bigint AS bytes
        FROM log_bodies b JOIN log_records r USING (position)
        WHERE b.salt IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM runs WHERE run_id = r.run_id AND state <> 'finished')
            AND NOT EXISTS (SELECT 1 FROM cycles WHERE cycle_id = r.cycle_id AND state <> 'finished')
        ORDER BY b.position LIMIT $1";
    let read = |row: &Row| {
        let position = row.get::<_, Length>("position")?.0;
        let header: When = row.get::<_, Json<_>>("header")?.0;
        Ok((header.at, OldBody { position, bytes: row.get::<_, Length>("bytes")?.0 }))
    };
    let found = tx.query_all(sql, params![older.limit], read).await?;
    Ok(found.into_iter().take_while(|(at, _)| *at < older.than).map(|(_, body)| body).collect())
}

async fn drop_evidence(tx: &Tx, older: Older, now: Timestamp) -> Attempt<Amount> {
    let bodies = evidence(tx, older).await?;
    let mut dropped = Amount::default();
    if bodies.is_empty() {
        return Ok(dropped);
    }
    let told_at = Length(tx.next_position()?);
    let bury = "INSERT INTO log_tombstones (position, told_at) VALUES ($1, $2)";
    let delete = "DELETE FROM log_bodies WHERE position = $1";
    for body in &bodies {
        tx.send(bury, params![Length(body.position), told_at]).await?;
        tx.send(delete, params![Length(body.position)]).await?;
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
async fn payloads(tx: &Connection, older: Older) -> Attempt<Vec<DroppedPayload>> {
    let sql = "SELECT digest, bytes, content IS NULL AS is_file FROM payloads p
        WHERE dropped_at IS NULL AND kept_at < $1 AND digest NOT IN (
            SELECT artifact_digest FROM runs
            WHERE state IN ('ready', 'working', 'waiting') AND artifact_digest IS NOT NULL
        ) AND NOT EXISTS (
            SELECT 1 FROM runs r
            WHERE r.artifact_digest = p.digest AND r.state IN ('dispatching', 'finished') AND (
                r.state <> 'finished' OR EXISTS (SELECT 1 FROM deliveries d WHERE d.run_id = r.run_id
                    AND (d.state IN ('waiting', 'sending') OR (d.state = 'dead' AND d.settled_at >= $1)))))
        ORDER BY kept_at, digest LIMIT $2";
    let read = |row: &Row| {
        Ok(DroppedPayload {
            digest: columns::digest(row, "digest")?,
            bytes: row.get::<_, Length>("bytes")?.0,
            is_file: row.get("is_file")?,
        })
    };
    // Assets are taken out afterwards, so there must be room for all of them besides those that go.
    let assets = assets(tx).await?;
    let limit = u64::from(older.limit).saturating_add(assets.len() as u64);
    let mut found = tx.query_all(sql, params![Micros(older.than), Length(limit)], read).await?;
    found.retain(|payload| !assets.contains(&payload.digest));
    found.truncate(older.limit as usize);
    Ok(found)
}

async fn assets(tx: &Connection) -> Attempt<BTreeSet<Digest>> {
    let mut assets = BTreeSet::new();
    let sql = "SELECT document FROM snapshots";
    for snapshot in tx.query_all(sql, params![], |row| columns::json::<Snapshot>(row, "document")).await? {
        assets.extend(snapshot.assets.values().map(|asset| asset.digest));
    }
    Ok(assets)
}

async fn drop_payloads(tx: &Tx, older: Older, now: Timestamp) -> Attempt<Vec<DroppedPayload>> {
    let payloads = payloads(tx, older).await?;
    if payloads.is_empty() {
        return Ok(payloads);
    }
    let update = "UPDATE payloads SET dropped_at = $2, content = NULL WHERE digest = $1";
    let forget = "DELETE FROM work_done WHERE digest = $1";
    let mut dropped = Amount::default();
    for payload in &payloads {
        tx.send(update, params![Text(payload.digest), Micros(now)]).await?;
        tx.send(forget, params![Text(payload.digest)]).await?;
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

async fn unnamed(tx: &Connection, digests: &[Digest]) -> Attempt<Vec<Digest>> {
    let named = "SELECT EXISTS (SELECT 1 FROM payloads WHERE digest = $1 AND dropped_at IS NULL)";
    let assets = assets(tx).await?;
    let mut found = Vec::new();
    for digest in digests {
        if !assets.contains(digest)
            && !tx.query_row(named, params![Text(digest)], |row| row.get::<_, bool>(0)).await?
        {
            found.push(*digest);
        }
    }
    Ok(found)
}
