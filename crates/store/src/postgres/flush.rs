//! What was committed reaches the disk: many transactions with one flush.
//!
//! A transaction that changes something is committed without waiting for the disk (`synchronous_commit = off` for it alone), so that the next one, which would get in its way if both
//! were open, begins at once. It is **not answered** before it is durable: whoever has committed waits for a flush that began afterwards, and one flush serves all who wait.
//! A flush is a transaction of one WAL record with `synchronous_commit` as the server has it, so that it waits for the disk and for the standbys that the server says. What is before it in the
//! WAL is durable with it.
//!
//! **A crash of the server** loses at most an end of the WAL. What is lost was answered to nobody, and everything that was decided by who saw it lies behind it, and is lost with it.
//! Others see a change a few milliseconds before it is durable.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::Database;
use super::fault::{Attempt, Fault};

/// One WAL record, whose transaction is flushed when it is committed.
const FLUSH: &str = "SELECT pg_logical_emit_message(true, 'orbit', '')";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    committed: AtomicU64,
    /// How many of the committed ones are durable. Held by who flushes.
    durable: Mutex<u64>,
}

/// A transaction has been committed, and everything up to it is durable when this is over.
pub(super) async fn flush(database: &Database) -> Attempt<()> {
    let Flusher { committed, durable } = &database.flusher;
    let own = committed.fetch_add(1, Ordering::SeqCst) + 1;
    let mut durable = durable.lock().await;
    if *durable >= own {
        return Ok(());
    }
    let before = committed.load(Ordering::SeqCst);
    let connection = database.pool.get().await.map_err(|error| Fault::Unflushed(error.to_string()))?;
    database.meter.flushes();
    let flushed = async {
        let statement = connection.prepare_cached(FLUSH).await?;
        connection.execute(&statement, &[]).await
    };
    flushed.await.map_err(Fault::Unknown)?;
    *durable = before;
    Ok(())
}
