//! Who signs the log, and its checkpoints.

use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::record::{Begin, Checkpoint, Kind, Rotation, Signer, Subject};
use serde_json::{Value, json};

use super::columns::{self, Length, Row, params};
use super::fault::{Attempt, Fault};
use super::governance;
use super::record::{self, facts};
use super::tx::{Connection, Tx};
use crate::contract::log::{LogSigner, LogState, StoredCheckpoint};
use crate::rows::signing::{is_in_force, unsigned};

/// All that ever signed.
pub(super) async fn signers(tx: &Connection) -> Attempt<Vec<LogSigner>> {
    let sql = "SELECT number, origin, vkey, size FROM log_signers ORDER BY number";
    tx.query_all(sql, params![], signer).await
}

async fn in_force(tx: &Connection) -> Attempt<Option<LogSigner>> {
    let sql = "SELECT number, origin, vkey, size FROM log_signers ORDER BY number DESC LIMIT 1";
    tx.query_optional(sql, params![], signer).await
}

fn signer(row: &Row) -> Attempt<LogSigner> {
    Ok(LogSigner {
        number: row.get::<_, Length>("number")?.0,
        origin: row.get("origin")?,
        vkey: row.get("vkey")?,
        size: row.get::<_, Length>("size")?.0,
    })
}

/// When a backup became this store.
pub(super) async fn restored_at(tx: &Connection) -> Attempt<Option<Timestamp>> {
    let sql = "SELECT restored_at FROM store";
    tx.query_row(sql, params![], |row| columns::instant_or_null(row, "restored_at")).await
}

/// The signer is in force, and a record says so.
pub(super) async fn begin(tx: &Tx, begin: &Begin, now: Timestamp) -> Attempt<LogSigner> {
    let before = in_force(tx).await?;
    let restored_at = restored_at(tx).await?;
    let size = tx.next_position()?;
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
            let old = restored(tx, before.as_ref()).await?;
            (Kind::LogRestored, signer, old)
        }
    };
    let (origin, vkey) = (signer.verifier().name().to_owned(), signer.verifier().to_string());
    let row = LogSigner { number: before.map_or(0, |before| before.number + 1), origin, vkey, size };
    let sql = "INSERT INTO log_signers (number, origin, vkey, size) VALUES ($1, $2, $3, $4)";
    tx.send(sql, params![Length(row.number), row.origin, row.vkey, Length(row.size)]).await?;
    let mut body = facts(body);
    body.insert("origin".to_owned(), Value::from(row.origin.clone()));
    body.insert("vkey".to_owned(), Value::from(row.vkey.clone()));
    record::fact(tx, now, kind, Subject::default(), body)?;
    governance::tell_restored(tx, restored_at).await?;
    Ok(row)
}

/// What a restored log was called, and where it ended; it goes on under a new name from here.
async fn restored(tx: &Tx, before: Option<&LogSigner>) -> Attempt<Value> {
    let Some(restored_at) = restored_at(tx).await? else {
        return Err(Fault::contradiction("it was not restored from a backup"));
    };
    tx.send("UPDATE store SET restored_at = NULL", params![]).await?;
    let tail = tx.tail()?;
    Ok(json!({
        "restored_at": restored_at,
        "old_origin": before.map(|before| &before.origin),
        "old_size": tail.size(),
        "old_root": tail.root(),
    }))
}

/// A checkpoint of everything that was durable before this transaction, if there is none of that size.
pub(super) async fn checkpoint(tx: &Tx, signer: &Signer) -> Attempt<Option<StoredCheckpoint>> {
    let in_force = is_in_force(in_force(tx).await?.as_ref(), signer)?;
    let before = newest(tx).await?;
    let tail = tx.tail()?;
    let size = tail.size();
    if size <= in_force.size || before.as_ref().is_some_and(|before| size <= before.size) {
        return Ok(None);
    }
    let (number, root) = (before.map_or(0, |before| before.number + 1), tail.root());
    let note = Checkpoint::new(in_force.origin, size, root).sign(signer).map_err(unsigned)?.to_string();
    let sql = "INSERT INTO log_checkpoints (number, size, root, note) VALUES ($1, $2, $3, $4)";
    tx.send(sql, params![Length(number), Length(size), root.0.as_slice(), note]).await?;
    Ok(Some(StoredCheckpoint { number, size, root, note }))
}

/// The newest checkpoint.
pub(super) async fn newest(tx: &Connection) -> Attempt<Option<StoredCheckpoint>> {
    let sql = "SELECT number, size, root, note FROM log_checkpoints ORDER BY number DESC LIMIT 1";
    tx.query_optional(sql, params![], stored).await
}

/// Checkpoints from this number on.
pub(super) async fn checkpoints(tx: &Connection, from: u64, limit: u32) -> Attempt<Vec<StoredCheckpoint>> {
    let sql =
        "SELECT number, size, root, note FROM log_checkpoints WHERE number >= $1 ORDER BY number LIMIT $2";
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    tx.query_all(sql, params![from, limit], stored).await
}

fn stored(row: &Row) -> Attempt<StoredCheckpoint> {
    Ok(StoredCheckpoint {
        number: row.get::<_, Length>("number")?.0,
        size: row.get::<_, Length>("size")?.0,
        root: Digest(row.get("root")?),
        note: row.get("note")?,
    })
}

/// How far the log is signed.
pub(super) async fn state(tx: &Connection) -> Attempt<LogState> {
    let newest = newest(tx).await?;
    let last = newest.as_ref().and_then(|newest| newest.size.checked_sub(1));
    let sql = "SELECT header::json ->> 'at' FROM log_records WHERE position = $1";
    let at: Option<String> = match last {
        Some(last) => tx.query_optional(sql, params![Length(last)], |row| row.get(0)).await?,
        None => None,
    };
    let covered_until = at.and_then(|at| at.parse().ok());
    Ok(LogState { size: record::count(tx).await?, newest, covered_until })
}
