//! The sequencer gives records their positions, so that whoever reads the log sees them in order and without gaps, always.
//!
//! **Why.** Many transactions add records at once, on any number of nodes. A position is an index of a tree without gaps, so it cannot be drawn
//! from a counter: a transaction that drew one and was rolled back would leave a gap, and one that drew 7 and commits before the one with 6
//! would show a reader 7 without 6.
//!
//! **What a transaction does.** It adds its records to `log_pending`, each with a number (`seq`) that a sequence gives out, right before it commits. With
//! its COMMIT they are durable. They have no position yet, and no reader of positions sees them.
//!
//! **What the sequencer does**, in one transaction of READ COMMITTED:
//!
//! 1. It takes the lock of the namespace (`pg_try_advisory_xact_lock`), which the end of the transaction gives back, whatever end that is. Whoever does not
//!    get it has nothing to do: somebody else is at it.
//! 2. It reads where the log ends: its size, and the right edge of the tree (kept in memory, where the size is still the same).
//! 3. It reads the oldest pending records by `seq`, [`TAKEN_MAX`] at most.
//! 4. They become `log_records` and `log_bodies` at the next positions, the nodes that they complete become `log_nodes`, and they leave `log_pending`.
//! 5. COMMIT: all of it is true, or nothing.
//!
//! **Why it is right.**
//!
//! - *Without gaps, in order.* Positions begin at the size and are counted up by one within the transaction; a trigger of the table refuses any other.
//!   They become visible together, so that a reader, whose snapshot is of one instant, sees a beginning of the log and nothing else.
//! - *One tree.* The lock makes two at once rare; it is not what protects the log. If it were lost in the middle (the session ends, so the
//!   transaction does too) or two had it, both would move the same records, which one of them finds gone, or insert the same position, of which the primary key lets
//!   one through. The other is rolled back whole and begins anew with the new size.
//! - *Causes come first.* If a transaction B could see what A did, A had committed before B began to read, so A's `seq` are smaller and visible wherever
//!   B's are: A's records are never behind B's. Where neither could see the other, either order is true.
//! - *Nothing is lost.* A record leaves `log_pending` in the transaction that makes it a `log_record`. A crash anywhere leaves it in exactly one of them.
//!
//! **Who runs it.** Whoever wants positions (the log's readers, checkpoints) asks first, so that a caller reads what it has written; the node's
//! service asks once a second by making its checkpoint. Nothing waits for it: a transaction is durable without.
//!
//! **Transactions that must know their position** (a signer that begins at a size, a tombstone that names the record which tells of it, a cursor set to the
//! end of the log, a checkpoint) do the sequencer's work themselves: they wait for the lock, give positions to everything that is durable, then
//! do what they are for, and at the end their own records get the positions that follow ([`super::tx::Mode::Positioned`]).

use orbit_core::record::Sealed;

use super::columns::{Parameter, Row, params};
use super::connection::Answer;
use super::fault::{Attempt, Fault};
use super::tail::{Pending, Tail};
use super::tx::{Connection, Mode};
use super::{Database, tx};
use crate::StoreError;

/// Records that one transaction gives positions to.
const TAKEN_MAX: u32 = 1000;
/// The first key of the advisory locks of all namespaces; the second one is a hash of the namespace. Two namespaces with one hash only wait for each other.
const LOCK: i64 = 0x006f_7262;

/// Waits until nobody else gives positions in this namespace, up to the end of the transaction.
pub(super) async fn lock(tx: &Connection) -> Attempt<()> {
    let sql = format!("SELECT pg_advisory_xact_lock({LOCK}, hashtext(current_setting('orbit.namespace')))");
    tx.send(&sql, params![]).await?;
    Ok(())
}

/// The same if it can be had at once.
async fn try_lock(tx: &Connection) -> Attempt<bool> {
    let sql =
        format!("SELECT pg_try_advisory_xact_lock({LOCK}, hashtext(current_setting('orbit.namespace')))");
    tx.query_row(&sql, params![], |row| row.get(0)).await
}

/// The oldest pending records.
async fn pending(tx: &Connection) -> Attempt<Vec<Pending>> {
    let sql = "SELECT seq, header FROM log_pending ORDER BY seq LIMIT $1";
    let read = |row: &Row| Ok(Pending { seq: row.get("seq")?, header: row.get("header")? });
    tx.query_all(sql, params![TAKEN_MAX], read).await
}

/// Everything that is durable has its position; the end of the log. The caller holds the lock.
pub(super) async fn take_all(tx: &Connection, known: Tail) -> Attempt<Tail> {
    let mut tail = Tail::load(tx, known).await?;
    loop {
        let records = pending(tx).await?;
        tail.take(tx, &records).await?;
        if records.len() < TAKEN_MAX as usize {
            return Ok(tail);
        }
    }
}

/// Adds records, numbered in their order.
const ADD: &str = "INSERT INTO log_pending (header, body, salt)
    SELECT header, body, salt FROM unnest($1::text[], $2::text[], $3::bytea[]) WITH ORDINALITY AS given (header, body, salt, n)
    ORDER BY n";

fn columns(records: Vec<Sealed>) -> Vec<Parameter> {
    let (mut headers, mut bodies, mut salts) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        headers.push(record.header);
        bodies.push(record.body);
        salts.push(record.salt.map(|salt| salt.to_vec()));
    }
    vec![Parameter::Texts(headers), Parameter::Texts(bodies), Parameter::ByteStrings(salts)]
}

/// The records are on their way to be pending; the answer is their numbers, as `seq`.
pub(super) async fn send(tx: &Connection, records: Vec<Sealed>) -> Attempt<Answer> {
    tx.asks(&format!("{ADD} RETURNING seq"), Ok(columns(records))).await
}

/// The records are pending.
pub(super) async fn add(tx: &Connection, records: Vec<Sealed>) -> Attempt<Vec<Pending>> {
    let sql = format!("{ADD} RETURNING seq, header");
    let read = |row: &Row| Ok(Pending { seq: row.get("seq")?, header: row.get("header")? });
    let mut added = tx.query_all(&sql, Ok(columns(records)), read).await?;
    added.sort_by_key(|pending| pending.seq);
    Ok(added)
}

/// One turn of the sequencer; whether there may be more to do.
async fn turn(tx: &tx::Tx) -> Attempt<bool> {
    let any = "SELECT EXISTS (SELECT 1 FROM log_pending)";
    if !tx.query_row(any, params![], |row| row.get::<_, bool>(0)).await? || !try_lock(tx).await? {
        return Ok(false);
    }
    let mut tail = Tail::load(tx, tx.known_tail()).await?;
    let records = pending(tx).await?;
    tail.take(tx, &records).await?;
    tx.ends_at(tail)?;
    Ok(records.len() == TAKEN_MAX as usize)
}

/// What this process has committed has its position, unless somebody else is just giving it, or the server's disk is full: what has one can be read all the same.
pub(super) async fn run(database: &Database) -> Result<(), StoreError> {
    loop {
        match tx::transaction!(database, Mode::Sequencing, |tx| turn(tx).await) {
            Ok(true) => {}
            Ok(false) | Err(StoreError::Full { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Of a lock that is poisoned: it guards a value that is whole after any panic.
pub(super) fn poisoned<T>(_: T) -> Fault {
    Fault::contradiction("a transaction panicked")
}
