//! What a commit costs on this disk without ORBIT.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// More than a log ahead holds before it is copied into the file.
const GROWN_BYTES: i64 = 40 * 1024 * 1024;

/// A database in which one row is one commit.
pub(crate) struct Fsyncs {
    connection: Connection,
    _folder: tempfile::TempDir,
}

impl Fsyncs {
    /// A new one.
    pub(crate) fn start(below: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(below)?;
        let connection = crate::bare::database(&folder.path().join("fsyncs.db"))?;
        connection.execute_batch("CREATE TABLE t (content BLOB NOT NULL) STRICT")?;
        // The log ahead has grown as far as it will.
        connection.execute("INSERT INTO t VALUES (zeroblob(?1))", [GROWN_BYTES])?;
        Ok(Self { connection, _folder: folder })
    }

    /// Commits so many bytes; how long that took.
    pub(crate) fn commit(&self, bytes: u64) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.connection
            .prepare_cached("INSERT INTO t VALUES (zeroblob(?1))")?
            .execute([i64::try_from(bytes)?])?;
        Ok(began.elapsed())
    }
}
