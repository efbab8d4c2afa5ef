//! The log for those who verify it: proofs over its tree, and its entries page by page.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::record::proof;
use orbit_core::record::{Begin, Signer};
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{Length, Row, params};
use super::fault::Attempt;
use super::tail::Tail;
use super::tree::{self, proven};
use super::tx::{Connection, positioned, reading};
use super::{record, sequencer, signing};
use crate::StoreError;
use crate::contract::log::{
    Entry, Inclusion, LogSigner, LogState, LogStore, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, Page, StoredCheckpoint,
};

#[async_trait]
impl LogStore for PostgresStore {
    async fn signers(&self) -> Result<Vec<LogSigner>, StoreError> {
        reading!(self, |tx| signing::signers(tx).await)
    }

    async fn restored_at(&self) -> Result<Option<Timestamp>, StoreError> {
        reading!(self, |tx| signing::restored_at(tx).await)
    }

    async fn begin_signing(&self, begin: Begin, now: Timestamp) -> Result<LogSigner, StoreError> {
        positioned!(self, |tx| signing::begin(tx, &begin, now).await)
    }

    async fn checkpoint(&self, signer: &Signer) -> Result<Option<StoredCheckpoint>, StoreError> {
        positioned!(self, |tx| signing::checkpoint(tx, signer).await)
    }

    async fn log_state(&self) -> Result<LogState, StoreError> {
        sequencer::run(&self.database).await?;
        let witness = &self.database.witness;
        // Both before the transaction begins: what others commit after that it does not see.
        let (before, known) = (witness.mark(), witness.known());
        let (state, waiting) = reading!(self, |tx| {
            // What others have given positions to is seen too.
            tx.ends_at(Tail::load(tx, known.clone()).await?)?;
            let first = "SELECT min(seq) FROM log_pending";
            let waiting = tx.query_row(first, params![], |row| row.get::<_, Option<i64>>(0)).await?;
            Ok((signing::state(tx).await?, waiting))
        })?;
        witness.positioned(before, waiting);
        Ok(state)
    }

    fn witness(&self, size: u64, root: Digest) {
        self.database.witness.tell(size, root);
    }

    async fn checkpoint_numbered(&self, number: u64) -> Result<Option<StoredCheckpoint>, StoreError> {
        let found = reading!(self, |tx| signing::checkpoints(tx, number, 1).await)?;
        Ok(found.into_iter().find(|checkpoint| checkpoint.number == number))
    }

    async fn checkpoints(&self, from: u64, limit: u32) -> Result<Vec<StoredCheckpoint>, StoreError> {
        reading!(self, |tx| signing::checkpoints(tx, from, limit).await)
    }

    async fn inclusion(&self, position: u64) -> Result<Option<Inclusion>, StoreError> {
        reading!(self, |tx| inclusion(tx, position).await)
    }

    async fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Digest>>, StoreError> {
        sequencer::run(&self.database).await?;
        reading!(self, |tx| {
            if new > record::count(tx).await? {
                return Ok(None);
            }
            let tree = tree::for_walk(tx, |nodes| proof::consistency(nodes, old, new)).await?;
            proven(proof::consistency(&tree, old, new))
        })
    }

    async fn page(&self, from: u64, to: u64) -> Result<Page, StoreError> {
        sequencer::run(&self.database).await?;
        reading!(self, |tx| page(tx, from, to).await)
    }

    async fn last_of_run(&self, run_id: Uuid) -> Result<Option<u64>, StoreError> {
        sequencer::run(&self.database).await?;
        reading!(self, |tx| {
            let sql = "SELECT max(position) FROM log_records WHERE run_id = $1";
            let last =
                tx.query_row(sql, params![run_id.to_string()], |row| row.get::<_, Option<Length>>(0)).await?;
            Ok(last.map(|last| last.0))
        })
    }
}

async fn inclusion(tx: &Connection, position: u64) -> Attempt<Option<Inclusion>> {
    let Some(checkpoint) = signing::newest(tx).await? else { return Ok(None) };
    let tree = tree::for_walk(tx, |nodes| proof::inclusion(nodes, position, checkpoint.size)).await?;
    let Some(path) = proven(proof::inclusion(&tree, position, checkpoint.size))? else {
        return Ok(None);
    };
    let sql = "SELECT position, header, body, salt FROM log_records LEFT JOIN log_bodies USING (position)
        WHERE position = $1";
    let entry = tx.query_row(sql, params![Length(position)], entry).await?;
    Ok(Some(Inclusion { entry, checkpoint, path }))
}

async fn page(tx: &Connection, from: u64, to: u64) -> Attempt<Page> {
    let position = |position| i64::try_from(position).unwrap_or(i64::MAX);
    // The server counts bytes, because everything that it finds is sent; an entry has its place if those before it leave room.
    let sql = "SELECT position, header, body, salt FROM (
            SELECT position, header, body, salt,
                sum(octet_length(header) + coalesce(octet_length(body), 0)) OVER (ORDER BY position)
                    - octet_length(header) - coalesce(octet_length(body), 0) AS bytes_before
            FROM log_records LEFT JOIN log_bodies USING (position)
            WHERE position >= $1 AND position < $2 ORDER BY position LIMIT $3) AS page
        WHERE bytes_before < $4 ORDER BY position";
    let bytes = Length(PAGE_BYTES_MAX as u64);
    let parameters = params![position(from), position(to), PAGE_ENTRIES_MAX, bytes];
    let entries = tx.query_all(sql, parameters, entry).await?;
    Ok(Page { entries, size: record::count(tx).await? })
}

fn entry(row: &Row) -> Attempt<Entry> {
    Ok(Entry {
        position: row.get::<_, Length>("position")?.0,
        header: row.get("header")?,
        body: row.get("body")?,
        salt: row.get("salt")?,
    })
}
