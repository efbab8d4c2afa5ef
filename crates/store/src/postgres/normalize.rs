//! Runs wait for a batch and are claimed together; work is remembered by its key.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::normalize::BatchPlace;
use serde_json::json;
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{self, Length, Micros, Row, Text, params};
use super::fault::Attempt;
use super::record::facts;
use super::tiers::{Told, ids, start_all};
use super::tx::{Connection, Tx, reading, writing};
use crate::StoreError;
use crate::contract::normalize::{ClaimedBatch, DoneBefore, NormalizeStore};
use crate::contract::{Artifact, OpenDoors};
use crate::rows::step::Done;

#[async_trait]
impl NormalizeStore for PostgresStore {
    async fn batches_ready(&self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        reading!(self, |tx| {
            let mut processors = Vec::new();
            for Group { processor, .. } in ready(tx, now).await? {
                if !processors.contains(&processor) {
                    processors.push(processor);
                }
            }
            Ok(processors)
        })
    }

    async fn claim_batch(
        &self,
        processor: &str,
        doors: OpenDoors,
        now: Timestamp,
    ) -> Result<Option<ClaimedBatch>, StoreError> {
        let processor = processor.to_owned();
        writing!(self, |tx| if doors.first { claim(tx, &processor, now).await } else { Ok(None) })
    }

    async fn next_batch_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT min(batch_due_at) AS least FROM runs WHERE batch_key IS NOT NULL";
        reading!(self, |tx| {
            tx.query_row(sql, params![], |row| columns::instant_or_null(row, "least")).await
        })
    }

    async fn done_before(&self, key: Digest) -> Result<Option<DoneBefore>, StoreError> {
        let sql = "SELECT digest, bytes, media_type, run_id, step, made_at FROM work_done WHERE key = $1";
        reading!(self, |tx| tx.query_optional(sql, params![Text(key)], read_done).await)
    }
}

/// Runs that can share a program.
struct Group {
    key: String,
    /// How many of it one batch takes.
    items_max: u32,
    /// The name of what does it.
    processor: String,
}

/// Groups that are full or have waited long enough, those that have waited longest first.
async fn ready(tx: &Connection, now: Timestamp) -> Attempt<Vec<Group>> {
    // Every run with a key is ready: whatever happens to a run takes its key away. A key is of one processor.
    let sql = "SELECT batch_key, items_max, processor FROM (
            SELECT batch_key, max(batch_items_max) AS items_max, min(batch_due_at) AS due_at, max(lane) AS lane
            FROM runs WHERE batch_key IS NOT NULL AND deadline_at > $1
            GROUP BY batch_key HAVING count(*) >= max(batch_items_max) OR min(batch_due_at) <= $1) AS groups
        JOIN lanes USING (lane) ORDER BY due_at";
    let read = |row: &Row| {
        let (key, items_max, processor) =
            (row.get("batch_key")?, row.get("items_max")?, row.get("processor")?);
        Ok(Group { key, items_max, processor })
    };
    tx.query_all(sql, params![Micros(now)], read).await
}

async fn claim(tx: &Tx, processor: &str, now: Timestamp) -> Attempt<Option<ClaimedBatch>> {
    let group = ready(tx, now).await?.into_iter().find(|group| group.processor == processor);
    let Some(Group { key, items_max, .. }) = group else { return Ok(None) };
    let sql = "SELECT run_id FROM runs WHERE batch_key = $1 AND deadline_at > $2
        ORDER BY priority DESC, batch_due_at, ordinal LIMIT $3";
    let run_ids = ids(tx, sql, params![key, Micros(now), items_max]).await?;
    let Some(first) = run_ids.first() else { return Ok(None) };
    let token = super::token::next(tx).await?;
    let batch_id = orbit_core::id::batch_id(*first, token);
    let more = facts(json!({ "batch_id": batch_id, "batch_items": run_ids.len() }));
    let runs = run_ids.into_iter().map(|run_id| (run_id, None)).collect();
    let items = start_all(tx, runs, &Told { more, ..Told::default() }, now).await?;
    Ok(Some(ClaimedBatch { batch_id, items }))
}

/// The run, which is ready, waits for a batch.
pub(super) async fn wait(tx: &Connection, run_id: Uuid, place: &BatchPlace) -> Attempt<()> {
    let update = "UPDATE runs SET batch_key = $2, batch_items_max = $3, batch_due_at = $4
        WHERE run_id = $1 AND state = 'ready'";
    let parameters = params![Text(run_id), Text(place.key), place.items_max, Micros(place.due_at)];
    tx.send(update, parameters).await?;
    Ok(())
}

/// The work has been done; the newest output of a key counts.
pub(super) async fn remember(tx: &Connection, done: &Done<'_>, now: Timestamp) -> Attempt<()> {
    let upsert = "INSERT INTO work_done (key, digest, bytes, media_type, run_id, step, made_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (namespace, key) DO UPDATE SET digest = excluded.digest,
        bytes = excluded.bytes, media_type = excluded.media_type, run_id = excluded.run_id, step = excluded.step,
        made_at = excluded.made_at";
    let Artifact { digest, bytes, media_type } = done.artifact;
    tx.send(
        upsert,
        params![
            Text(done.key),
            Text(*digest),
            Length(*bytes),
            media_type,
            Text(done.run_id),
            columns::Json(done.step),
            Micros(now)
        ],
    )
    .await?;
    Ok(())
}

fn read_done(row: &Row) -> Attempt<DoneBefore> {
    let digest = columns::digest(row, "digest")?;
    let bytes = row.get::<_, Length>("bytes")?.0;
    Ok(DoneBefore {
        artifact: Artifact { digest, bytes, media_type: row.get("media_type")? },
        run_id: columns::id(row, "run_id")?,
        step: columns::json(row, "step")?,
        made_at: columns::instant(row, "made_at")?,
    })
}
