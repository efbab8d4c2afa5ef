//! Payloads in rows.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use super::columns::{self, Length, Micros, Text};
use super::fault::Attempt;
use super::tx::Tx;
use crate::StoreError;
use crate::contract::payload::{NewPayload, PayloadStore, StoredPayload};

#[async_trait]
impl PayloadStore for SqliteStore {
    fn payload(&self, digest: Digest) -> Result<Option<StoredPayload>, StoreError> {
        self.readers.read_blocking(|tx| find(tx, digest))
    }

    async fn keep_payload(&self, payload: NewPayload, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| keep(tx, (payload.digest, payload.bytes, payload.content.as_deref()), now)).await
    }
}

/// The payload counts as made now; its bytes are these, or where they were before.
pub(super) fn keep(
    tx: &Tx<'_>,
    (digest, bytes, content): (Digest, u64, Option<&[u8]>),
    now: Timestamp,
) -> Attempt<()> {
    // Bytes that are there are not written again.
    let upsert = "INSERT INTO payloads (digest, bytes, kept_at, content) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (digest) DO UPDATE SET kept_at = max(kept_at, excluded.kept_at), dropped_at = NULL,
            content = coalesce(content, excluded.content)";
    tx.prepare_cached(upsert)?.execute(params![Text(digest), Length(bytes), Micros(now), content])?;
    tx.weighs(content.map_or(0, <[u8]>::len));
    Ok(())
}

fn find(tx: &Connection, digest: Digest) -> Attempt<Option<StoredPayload>> {
    let sql = "SELECT bytes, content, dropped_at FROM payloads WHERE digest = ?1";
    let read = |row: &Row<'_>| {
        Ok(StoredPayload {
            bytes: row.get::<_, Length>("bytes")?.0,
            content: row.get::<_, Option<Vec<u8>>>("content")?.map(Bytes::from),
            dropped_at: columns::instant_or_null(row, "dropped_at")?,
        })
    };
    Ok(tx.prepare_cached(sql)?.query_row([Text(digest)], read).optional()?)
}
