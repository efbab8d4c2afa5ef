//! Payloads in rows.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use orbit_core::digest::Digest;

use super::PostgresStore;
use super::columns::{self, Length, Micros, Parameter, Row, Text, params};
use super::fault::Attempt;
use super::tx::{Connection, Mode, transaction, writing};
use crate::StoreError;
use crate::contract::payload::{NewPayload, PayloadStore, StoredPayload};

/// What becomes of a payload that is known. Bytes that are there are not written again.
macro_rules! kept {
    () => {
        "ON CONFLICT (namespace, digest) DO UPDATE SET kept_at = greatest(payloads.kept_at, excluded.kept_at), dropped_at = NULL,
            content = coalesce(payloads.content, excluded.content)"
    };
}

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
    let sql =
        concat!("INSERT INTO payloads (digest, bytes, kept_at, content) VALUES ($1, $2, $3, $4) ", kept!());
    tx.send(sql, params![Text(digest), Length(bytes), Micros(now), content]).await
}

/// The same of several, each with its bytes and when it was made.
pub(super) async fn keep_all(
    tx: &Connection,
    payloads: BTreeMap<Digest, (&Bytes, Timestamp)>,
) -> Attempt<()> {
    let sql = concat!(
        "INSERT INTO payloads (digest, bytes, kept_at, content)
        SELECT digest, length(content), kept_at, content
        FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS given (digest, kept_at, content) ",
        kept!()
    );
    let (mut digests, mut kept_at, mut contents) = (Vec::new(), Vec::new(), Vec::new());
    for (digest, (content, now)) in payloads {
        digests.push(digest.to_string());
        kept_at.push(now.as_microsecond());
        contents.push(Some(content.to_vec()));
    }
    let parameters =
        vec![Parameter::Texts(digests), Parameter::Integers(kept_at), Parameter::ByteStrings(contents)];
    tx.send(sql, Ok(parameters)).await
}

/// The payload is there, or nothing of the transaction is true; see `begun`.
pub(super) async fn demand(tx: &Connection, digest: Digest) -> Attempt<()> {
    let sql = "SELECT 1 / count(*) FROM payloads WHERE digest = $1 AND dropped_at IS NULL";
    tx.send(sql, params![Text(digest)]).await
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
