//! Readers: a few connections that never write. Each read is one short transaction, so that it sees one state and the write-ahead log can be
//! reset after it.
//!
//! What reads a few rows by an index does so on the caller's thread (`look`), where it takes some microseconds: to wake another thread and be woken by
//! it takes several times as long. Everything else reads on a thread that may block.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::fault::Attempt;
use super::flusher::Horizon;
use super::prepare_connection;
use crate::StoreError;

/// Reads under way at once; more wait.
const READS_MAX: usize = 4;
/// Connections kept open between reads: those of the pool and of threads that ask whether a hash is taken.
const IDLE_MAX: usize = 8;

/// Where the connections of a store come from.
#[derive(Clone)]
pub(super) struct Location {
    /// The file, or the URI of a database in memory.
    pub(super) name: PathBuf,
    /// How it is opened for reading.
    pub(super) flags: OpenFlags,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Readers {
    location: Arc<Location>,
    place: Arc<str>,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    horizon: Arc<Horizon>,
}

impl Readers {
    /// Readers of a database that exists. Connections are opened when they are needed.
    pub(super) fn new(location: Location, place: &Arc<str>, horizon: Arc<Horizon>) -> Self {
        Self {
            location: Arc::new(location),
            place: Arc::clone(place),
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(READS_MAX)),
            horizon,
        }
    }

    /// Reads on a thread that may block. What the answer says is durable.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Attempt<T> + Send + 'static,
        T: Send + 'static,
    {
        let closed = || StoreError::Closed { place: self.place.to_string() };
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        let readers = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let answer = readers.read_blocking(work);
            drop(permit);
            answer
        });
        let answer = reading.await.map_err(|error| StoreError::Corrupt {
            place: self.place.to_string(),
            message: format!("a read failed: {error}"),
        })?;
        if self.horizon.reached().await { answer } else { Err(closed()) }
    }

    /// Reads a few rows by an index, on this thread. What the answer says is durable.
    pub(super) async fn look<T>(
        &self,
        work: impl FnOnce(&Connection) -> Attempt<T>,
    ) -> Result<T, StoreError> {
        let answer = self.read_blocking(work);
        let closed = || StoreError::Closed { place: self.place.to_string() };
        if self.horizon.reached().await { answer } else { Err(closed()) }
    }

    /// Reads on this thread, and does not wait until what it sees is durable: for an answer that only decides what is written next.
    pub(super) fn read_blocking<T>(
        &self,
        work: impl FnOnce(&Connection) -> Attempt<T>,
    ) -> Result<T, StoreError> {
        self.attempt(work).map_err(|fault| fault.at(&self.place))
    }

    fn attempt<T>(&self, work: impl FnOnce(&Connection) -> Attempt<T>) -> Attempt<T> {
        let idle = self.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let transaction = connection.unchecked_transaction()?;
        let answer = work(&transaction);
        transaction.finish()?;
        let mut idle = self.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        answer
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(&self.location.name, self.location.flags)?;
        prepare_connection(&connection)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // The list is whole after any panic: every change to it is a single call.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
