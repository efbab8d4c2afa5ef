//! The SQLite backend: one file a namespace, one writer, a few readers.
//!
//! Every method of the contract is one closure over a connection: those that change something go through `writer`, the others
//! through `reader`. `transition` is the only place where a run changes. A file a stage follows, with the names of the contract.

pub mod backup;
mod columns;
pub mod compact;
mod fault;
mod flusher;
pub mod inspect;
mod migrate;
mod reader;
mod tail;
mod tx;
mod writer;
mod written;

mod config;
mod cycle;
mod dispatch;
mod endpoint;
mod governance;
mod lanes;
mod log;
mod node;
mod normalize;
mod notice;
mod notify;
mod payload;
mod quarantine;
pub mod rebuild;
mod reclaim;
mod record;
mod redrive;
mod retention;
mod schedule;
mod selection;
mod settle;
mod signing;
#[cfg(test)]
mod tests_backlog;
mod tiers;
mod token;
mod transition;
mod tree;
pub mod verify;
mod view;
mod view_delivery;
mod view_run;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orbit_core::config::NamespaceName;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::contract::node::Load;
use crate::{Store, StoreError, transfer};
pub(crate) use fault::Attempt;
use fault::Fault;
pub use migrate::{SCHEMA, schema_of};
use reader::{Location, Readers};
use tail::Tail;
use tx::Tx;
use writer::{Rules, Writer};

pub use written::Written;

/// How long a connection waits for another process that holds the file, such as a shell that looks into it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements that a connection keeps prepared.
const STATEMENTS_KEPT: usize = 512;
/// The write-ahead log is cut down to this when it is reset.
const WAL_BYTES_KEPT: i64 = 64 * 1024 * 1024;

/// Pages in the write-ahead log after which it is copied into the file, which takes two fsyncs: half of what is kept of it. With SQLite's own
/// thousand, a few commits of many payloads would be followed by one.
const CHECKPOINT_PAGES: u32 = 8192;
/// Kibibytes of pages that the writer holds; more of a transaction is written before it is committed. Negative is how SQLite counts in bytes.
const WRITER_CACHE_KIB: i32 = -8192;

/// The store of one namespace.
pub struct SqliteStore {
    namespace: NamespaceName,
    // Fields are dropped in this order: the writer closes last, so that it is the one that tidies the write-ahead log away.
    readers: Readers,
    writer: Writer,
    /// What the node has under way, for screens.
    load: Mutex<Load>,
}

impl Store for SqliteStore {}

impl SqliteStore {
    /// Opens the file, or makes it: owner-only, in folders that are owner-only where they are made. Afterwards its schema is the newest.
    pub fn open(path: &Path, namespace: &NamespaceName) -> Result<Self, StoreError> {
        Self::open_with(path, namespace, Rules::default())
    }

    /// As [`Self::open`], with every transaction in a commit of its own: what grouping them is compared with.
    #[doc(hidden)]
    pub fn open_ungrouped(path: &Path, namespace: &NamespaceName) -> Result<Self, StoreError> {
        Self::open_with(path, namespace, Rules { batch_max: 1, ..Rules::default() })
    }

    fn open_with(path: &Path, namespace: &NamespaceName, rules: Rules) -> Result<Self, StoreError> {
        let place: Arc<str> = path.display().to_string().into();
        let location = Location {
            name: path.to_owned(),
            flags: OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        };
        let connection = file(path, namespace)?;
        Self::start((connection, rules), location, namespace, &place)
    }

    /// What was committed since it was opened.
    pub fn written(&self) -> Written {
        self.writer.written()
    }

    /// A store that is gone when it is dropped, for tests.
    pub fn in_memory(namespace: &NamespaceName) -> Result<Self, StoreError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // A name that begins with `/` is one database for every connection of this process.
        let name = PathBuf::from(format!("file:/orbit-{number}?vfs=memdb"));
        let place: Arc<str> = format!("memory {number}").into();
        let flags = OpenFlags::SQLITE_OPEN_URI;
        let connection = open_for_writing(&name, flags | OpenFlags::SQLITE_OPEN_CREATE)
            .map_err(|fault| fault.at(&place))?;
        let location = Location {
            name,
            flags: flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        };
        migrate::migrate(&connection, &place)?;
        belongs_to(&connection, namespace).map_err(|fault| fault.at(&place))?;
        Self::start((connection, Rules::default()), location, namespace, &place)
    }

    fn start(
        (connection, rules): (Connection, Rules),
        location: Location,
        namespace: &NamespaceName,
        place: &Arc<str>,
    ) -> Result<Self, StoreError> {
        let moved: Option<String> = connection
            .query_row("SELECT moved FROM store", (), |row| row.get(0))
            .map_err(|error| Fault::from(error).at(place))?;
        if let Some(moved) = moved {
            return Err(StoreError::Refused { place: place.to_string(), message: transfer::refusal(&moved) });
        }
        let tail = Tail::load(&connection).map_err(|fault| fault.at(place))?;
        let writer = Writer::start((connection, tail), place, rules)?;
        Ok(Self {
            namespace: namespace.clone(),
            readers: Readers::new(location, place, Arc::clone(writer.horizon())),
            writer,
            load: Mutex::default(),
        })
    }

    /// A transaction that changes something; true and durable when the answer is there.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnMut(&Tx<'_>) -> Attempt<T> + Send + 'static,
        T: Send + 'static,
    {
        self.writer.write(work).await
    }

    /// The same, where it need not be durable before anything else is that comes of it.
    async fn write_unflushed<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnMut(&Tx<'_>) -> Attempt<T> + Send + 'static,
        T: Send + 'static,
    {
        self.writer.write_unflushed(work).await
    }

    /// A transaction that changes nothing.
    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Attempt<T> + Send + 'static,
        T: Send + 'static,
    {
        self.readers.read(work).await
    }

    /// As [`Self::read`], where a few rows are found by an index, on the caller's thread.
    async fn look<T>(&self, work: impl FnOnce(&Connection) -> Attempt<T>) -> Result<T, StoreError> {
        self.readers.look(work).await
    }
}

/// The file, which is made if it is not there, with the newest schema. Whether it may be served is not looked at.
pub(crate) fn file(path: &Path, namespace: &NamespaceName) -> Result<Connection, StoreError> {
    let place = path.display().to_string();
    let failed = |error: io::Error| StoreError::Io { place: place.clone(), message: error.to_string() };
    make_file(path).map_err(failed)?;
    let connection = open_for_writing(path, OpenFlags::empty()).map_err(|fault| fault.at(&place))?;
    migrate::migrate_file(&connection, &place, path)?;
    belongs_to(&connection, namespace).map_err(|fault| fault.at(&place))?;
    Ok(connection)
}

fn make_file(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            file.sync_all()?;
            File::open(folder)?.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn open_for_writing(name: &Path, flags: OpenFlags) -> Attempt<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(name, flags)?;
    prepare_connection(&connection)?;
    configure_writer(&connection)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// How a connection that writes is durable, and when; the writer's is by its flusher. What a store is compared with has to be the same.
#[doc(hidden)]
pub fn configure_writer(connection: &Connection) -> rusqlite::Result<()> {
    // Before the first page is written: free pages can then go back to the disk in small steps. An older file keeps what it was made with.
    connection.pragma_update(None, "auto_vacuum", "incremental")?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    // What a statement would need to be undone alone is a copy of every page that it changes: no file for that.
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "cache_size", WRITER_CACHE_KIB)
}

/// What every connection has in common.
fn prepare_connection(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // Else a statement is prepared anew whenever other values are bound to it that might change its plan: an eighth of the writer's time.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// A file that was moved to another namespace would give its log another name.
fn belongs_to(connection: &Connection, namespace: &NamespaceName) -> Attempt<()> {
    let mine = "INSERT INTO store (one, namespace) VALUES (1, ?1) ON CONFLICT (one) DO NOTHING";
    connection.execute(mine, [namespace.as_str()])?;
    let found: String = connection.query_row("SELECT namespace FROM store", (), |row| row.get(0))?;
    if found != namespace.as_str() {
        return Err(Fault::contradiction(format!("it belongs to namespace `{found}`, not to `{namespace}`")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_statement_is_prepared_once_whatever_is_bound_to_it() {
        let connection = Connection::open_in_memory().unwrap();
        prepare_connection(&connection).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (state TEXT, due INTEGER); CREATE INDEX w ON t (due) WHERE state = 'waiting'",
            )
            .unwrap();
        let mut statement = connection.prepare("SELECT due FROM t WHERE state = ?1 AND due < ?2").unwrap();
        for state in ["waiting", "sending", "waiting"] {
            assert!(!statement.exists((state, 7)).unwrap());
        }
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }
}
