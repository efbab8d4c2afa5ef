//! The log for those who verify it: proofs over its tree, and its entries page by page.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::record::proof::{self, ProofError};
use orbit_core::record::{Begin, Signer};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::SqliteStore;
use super::columns::Length;
use super::fault::{Attempt, Fault};
use super::tree::Tree;
use super::{record, signing};
use crate::StoreError;
use crate::contract::log::{
    Entry, Inclusion, LogSigner, LogState, LogStore, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, Page, StoredCheckpoint,
};

#[async_trait]
impl LogStore for SqliteStore {
    async fn signers(&self) -> Result<Vec<LogSigner>, StoreError> {
        self.read(signing::signers).await
    }

    async fn restored_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(signing::restored_at).await
    }

    async fn begin_signing(&self, begin: Begin, now: Timestamp) -> Result<LogSigner, StoreError> {
        self.write(move |tx| signing::begin(tx, &begin, now)).await
    }

    async fn checkpoint(&self, signer: &Signer) -> Result<Option<StoredCheckpoint>, StoreError> {
        let signer = signer.clone();
        self.write(move |tx| signing::checkpoint(tx, &signer)).await
    }

    fn witness(&self, _: u64, _: Digest) {}

    async fn log_state(&self) -> Result<LogState, StoreError> {
        self.read(signing::state).await
    }

    async fn checkpoint_numbered(&self, number: u64) -> Result<Option<StoredCheckpoint>, StoreError> {
        let found = self.read(move |tx| signing::checkpoints(tx, number, 1)).await?;
        Ok(found.into_iter().find(|checkpoint| checkpoint.number == number))
    }

    async fn checkpoints(&self, from: u64, limit: u32) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.read(move |tx| signing::checkpoints(tx, from, limit)).await
    }

    async fn inclusion(&self, position: u64) -> Result<Option<Inclusion>, StoreError> {
        self.read(move |tx| inclusion(tx, position)).await
    }

    async fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Digest>>, StoreError> {
        self.read(move |tx| {
            if new > record::count(tx)? {
                return Ok(None);
            }
            proven(proof::consistency(&Tree(tx), old, new))
        })
        .await
    }

    async fn page(&self, from: u64, to: u64) -> Result<Page, StoreError> {
        self.read(move |tx| page(tx, from, to)).await
    }

    async fn last_of_run(&self, run_id: Uuid) -> Result<Option<u64>, StoreError> {
        self.read(move |tx| {
            let sql = "SELECT max(position) FROM log_records WHERE run_id = ?1";
            let last = tx
                .prepare_cached(sql)?
                .query_row([run_id.to_string()], |row| row.get::<_, Option<Length>>(0))?;
            Ok(last.map(|last| last.0))
        })
        .await
    }
}

fn inclusion(tx: &Connection, position: u64) -> Attempt<Option<Inclusion>> {
    let Some(checkpoint) = signing::newest(tx)? else { return Ok(None) };
    let Some(path) = proven(proof::inclusion(&Tree(tx), position, checkpoint.size))? else { return Ok(None) };
    let sql = "SELECT position, header, body, salt FROM log_records LEFT JOIN log_bodies USING (position)
        WHERE position = ?1";
    let entry = tx.prepare_cached(sql)?.query_row([Length(position)], entry)?;
    Ok(Some(Inclusion { entry, checkpoint, path }))
}

/// None where the tree has not grown so far.
fn proven(path: Result<Vec<Digest>, ProofError<Fault>>) -> Attempt<Option<Vec<Digest>>> {
    match path {
        Ok(path) => Ok(Some(path)),
        Err(ProofError::Outside { .. } | ProofError::Shrunk { .. }) => Ok(None),
        Err(ProofError::Read(fault)) => Err(fault),
    }
}

fn page(tx: &Connection, from: u64, to: u64) -> Attempt<Page> {
    let position = |position| i64::try_from(position).unwrap_or(i64::MAX);
    let sql = "SELECT position, header, body, salt FROM log_records LEFT JOIN log_bodies USING (position)
        WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT ?3";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params![position(from), position(to), PAGE_ENTRIES_MAX])?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let entry = entry(row)?;
        bytes += entry.header.len() + entry.body.as_ref().map_or(0, String::len);
        entries.push(entry);
        if bytes >= PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(Page { entries, size: record::count(tx)? })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        position: row.get::<_, Length>("position")?.0,
        header: row.get("header")?,
        body: row.get("body")?,
        salt: row.get("salt")?,
    })
}
