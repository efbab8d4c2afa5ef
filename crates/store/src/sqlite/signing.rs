//! Who signs the log, and its checkpoints.

use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::record::{Begin, Checkpoint, Kind, Rotation, Signer, Subject};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::columns::{self, Length};
use super::fault::{Attempt, Fault};
use super::governance;
use super::record::{self, facts};
use super::tx::Tx;
use crate::contract::log::{LogSigner, LogState, StoredCheckpoint};
use crate::rows::signing::{is_in_force, unsigned};

/// All that ever signed.
pub(super) fn signers(tx: &Connection) -> Attempt<Vec<LogSigner>> {
    let sql = "SELECT number, origin, vkey, size FROM log_signers ORDER BY number";
    let mut statement = tx.prepare_cached(sql)?;
    Ok(statement.query_map((), signer)?.collect::<Result<_, _>>()?)
}

fn in_force(tx: &Connection) -> Attempt<Option<LogSigner>> {
    let sql = "SELECT number, origin, vkey, size FROM log_signers ORDER BY number DESC LIMIT 1";
    Ok(tx.prepare_cached(sql)?.query_row((), signer).optional()?)
}

fn signer(row: &Row<'_>) -> rusqlite::Result<LogSigner> {
    Ok(LogSigner {
        number: row.get::<_, Length>("number")?.0,
        origin: row.get("origin")?,
        vkey: row.get("vkey")?,
        size: row.get::<_, Length>("size")?.0,
    })
}

/// When a backup became this store.
pub(super) fn restored_at(tx: &Connection) -> Attempt<Option<Timestamp>> {
    let sql = "SELECT restored_at FROM store";
    Ok(tx.prepare_cached(sql)?.query_row((), |row| columns::instant_or_null(row, "restored_at"))?)
}

/// The signer is in force, and a record says so.
pub(super) fn begin(tx: &Tx<'_>, begin: &Begin, now: Timestamp) -> Attempt<LogSigner> {
    let before = in_force(tx)?;
    let restored_at = restored_at(tx)?;
    let size = tx.next_position();
    let (kind, signer, body) = match begin {
        Begin::First(signer) => {
            if before.is_some() || restored_at.is_some() {
                return Err(Fault::contradiction("its log is signed already"));
            }
            (Kind::LogOpened, signer, json!({}))
        }
        Begin::Rotated { old, new } => {
            is_in_force(before.as_ref(), old)?;
            let statement = Rotation::sign(old, new, size).map_err(unsigned)?.to_string();
            (Kind::LogKeyRotated, &**new, json!({ "statement": statement }))
        }
        Begin::Restored(signer) => {
            let old = restored(tx, before.as_ref())?;
            (Kind::LogRestored, signer, old)
        }
    };
    let (origin, vkey) = (signer.verifier().name().to_owned(), signer.verifier().to_string());
    let row = LogSigner { number: before.map_or(0, |before| before.number + 1), origin, vkey, size };
    let sql = "INSERT INTO log_signers (number, origin, vkey, size) VALUES (?1, ?2, ?3, ?4)";
    tx.prepare_cached(sql)?.execute(params![Length(row.number), row.origin, row.vkey, Length(row.size)])?;
    let mut body = facts(body);
    body.insert("origin".to_owned(), Value::from(row.origin.clone()));
    body.insert("vkey".to_owned(), Value::from(row.vkey.clone()));
    record::fact(tx, now, kind, Subject::default(), body)?;
    governance::tell_restored(tx, restored_at)?;
    Ok(row)
}

/// What a restored log was called, and where it ended; it goes on under a new name from here.
fn restored(tx: &Tx<'_>, before: Option<&LogSigner>) -> Attempt<Value> {
    let Some(restored_at) = restored_at(tx)? else {
        return Err(Fault::contradiction("it was not restored from a backup"));
    };
    tx.prepare_cached("UPDATE store SET restored_at = NULL")?.execute(())?;
    Ok(json!({
        "restored_at": restored_at,
        "old_origin": before.map(|before| &before.origin),
        "old_size": tx.tail().size(),
        "old_root": tx.tail().root(),
    }))
}

/// A checkpoint of the log as it was before this physical transaction, if there is none of that size.
pub(super) fn checkpoint(tx: &Tx<'_>, signer: &Signer) -> Attempt<Option<StoredCheckpoint>> {
    let in_force = is_in_force(in_force(tx)?.as_ref(), signer)?;
    let before = newest(tx)?;
    let size = tx.tail().size();
    if size <= in_force.size || before.as_ref().is_some_and(|before| size <= before.size) {
        return Ok(None);
    }
    let (number, root) = (before.map_or(0, |before| before.number + 1), tx.tail().root());
    let note = Checkpoint::new(in_force.origin, size, root).sign(signer).map_err(unsigned)?.to_string();
    let sql = "INSERT INTO log_checkpoints (number, size, root, note) VALUES (?1, ?2, ?3, ?4)";
    tx.prepare_cached(sql)?.execute(params![Length(number), Length(size), root.0.as_slice(), note])?;
    Ok(Some(StoredCheckpoint { number, size, root, note }))
}

/// The newest checkpoint.
pub(super) fn newest(tx: &Connection) -> Attempt<Option<StoredCheckpoint>> {
    let sql = "SELECT number, size, root, note FROM log_checkpoints ORDER BY number DESC LIMIT 1";
    Ok(tx.prepare_cached(sql)?.query_row((), stored).optional()?)
}

/// Checkpoints from this number on.
pub(super) fn checkpoints(tx: &Connection, from: u64, limit: u32) -> Attempt<Vec<StoredCheckpoint>> {
    let sql =
        "SELECT number, size, root, note FROM log_checkpoints WHERE number >= ?1 ORDER BY number LIMIT ?2";
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let mut statement = tx.prepare_cached(sql)?;
    Ok(statement.query_map(params![from, limit], stored)?.collect::<Result<_, _>>()?)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredCheckpoint> {
    Ok(StoredCheckpoint {
        number: row.get::<_, Length>("number")?.0,
        size: row.get::<_, Length>("size")?.0,
        root: Digest(row.get("root")?),
        note: row.get("note")?,
    })
}

/// How far the log is signed.
pub(super) fn state(tx: &Connection) -> Attempt<LogState> {
    let newest = newest(tx)?;
    let last = newest.as_ref().and_then(|newest| newest.size.checked_sub(1));
    let sql = "SELECT header ->> '$.at' FROM log_records WHERE position = ?1";
    let at: Option<String> = match last {
        Some(last) => tx.prepare_cached(sql)?.query_row([Length(last)], |row| row.get(0)).optional()?,
        None => None,
    };
    let covered_until = at.and_then(|at| at.parse().ok());
    Ok(LogState { size: record::count(tx)?, newest, covered_until })
}
