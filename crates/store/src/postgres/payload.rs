//! Payloads in rows.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use orbit_core::digest::Digest;

use super::PostgresStore;
use super::columns::{self, Length, Micros, Row, Text, params};
use super::fault::Attempt;
use super::tx::{Connection, Mode, transaction, writing};
use crate::StoreError;
use crate::contract::payload::{NewPayload, PayloadStore, StoredPayload};

#[async_trait]
impl PayloadStore for PostgresStore {
    fn payload(&self, digest: Digest) -> Result<Option<StoredPayload>, StoreError> {
        self.blocking.ask(move |database| {
            Box::pin(async move { transaction!(database, Mode::Reading, |tx| find(tx, digest).await) })
        })
    }

    async fn keep_payload(&self, payload: NewPayload, now: Timestamp) -> Result<(), StoreError> {
        writing!(self, |tx| keep(tx, (payload.digest, payload.bytes, payload.content.as_deref()), now).await)
    }
}

/// The payload counts as made now; its bytes are these, or where they were before.
pub(super) async fn keep(
    tx: &Connection,
    (digest, bytes, content): (Digest, u64, Option<&[u8]>),
    now: Timestamp,
) -> Attempt<()> {
    // Bytes that are there are not written again.
    let upsert = "INSERT INTO payloads (digest, bytes, kept_at, content) VALUES ($1, $2, $3, $4)
        ON CONFLICT (namespace, digest) DO UPDATE SET kept_at = greatest(payloads.kept_at, excluded.kept_at), dropped_at = NULL,
            content = coalesce(payloads.content, excluded.content)";
    tx.send(upsert, params![Text(digest), Length(bytes), Micros(now), content]).await?;
    Ok(())
}

async fn find(tx: &Connection, digest: Digest) -> Attempt<Option<StoredPayload>> {
    let sql = "SELECT bytes, content, dropped_at FROM payloads WHERE digest = $1";
    let read = |row: &Row| {
        Ok(StoredPayload {
            bytes: row.get::<_, Length>("bytes")?.0,
            content: row.get::<_, Option<Vec<u8>>>("content")?.map(Bytes::from),
            dropped_at: columns::instant_or_null(row, "dropped_at")?,
        })
    };
    tx.query_optional(sql, params![Text(digest)], read).await
}
