//! On which backend tests run: SQLite, unless `ORBIT_TEST_BACKEND` says `postgres`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use orbit_core::config::NamespaceName;
use orbit_store::postgres::PostgresStore;
use orbit_store::sqlite::SqliteStore;
use orbit_store::{Store, StoreError};

use crate::cluster::{TestDatabase, connect};

/// Names the backend.
const VARIABLE: &str = "ORBIT_TEST_BACKEND";

/// Whether tests run on PostgreSQL.
pub fn is_postgres() -> bool {
    match std::env::var(VARIABLE).as_deref() {
        Ok("postgres") => true,
        Ok("sqlite" | "") | Err(_) => false,
        Ok(other) => panic!("`{VARIABLE}` is `{other}`, expected `sqlite` or `postgres`"),
    }
}

/// A store of its own in which nothing has happened yet, and the database that it is in, if it is: another test gets that one when it is dropped.
pub async fn store(name: &NamespaceName) -> (Arc<dyn Store>, Option<TestDatabase>) {
    if is_postgres() {
        let (store, database) = crate::cluster::store(name).await;
        return (Arc::new(store), Some(database));
    }
    (Arc::new(SqliteStore::in_memory(name).unwrap()), None)
}

/// Where a store is that outlives its process.
#[derive(Clone)]
pub enum Place {
    /// In a file.
    File(PathBuf),
    /// In a database.
    Database {
        /// How the engine reaches it.
        runtime: String,
        /// How its owner does, who sees everything.
        owner: String,
    },
}

impl Place {
    /// The place that a note in this folder names, or else a file.
    pub fn noted(folder: &Path, file: PathBuf) -> Self {
        match std::fs::read_to_string(Self::note(folder)) {
            Ok(text) => {
                let (runtime, owner) = text.split_once('\n').unwrap();
                Self::Database { runtime: runtime.to_owned(), owner: owner.to_owned() }
            }
            Err(_) => Self::File(file),
        }
    }

    /// Notes the place of a database in this folder, for other processes.
    pub fn write_note(folder: &Path, database: &TestDatabase) {
        std::fs::write(Self::note(folder), format!("{}\n{}", database.runtime(), database.owner())).unwrap();
    }

    fn note(folder: &Path) -> PathBuf {
        folder.join("database")
    }

    /// As long as a lease passes without a word of any node: who ended is no more. A file has no leases.
    pub async fn leases_end(&self) {
        if let Self::Database { owner, .. } = self {
            connect(owner).await.batch_execute("UPDATE nodes SET expires_at = 0").await.unwrap();
        }
    }

    /// Opens the store.
    pub async fn open(&self, name: &NamespaceName) -> Result<Arc<dyn Store>, StoreError> {
        match self {
            Self::File(file) => Ok(Arc::new(SqliteStore::open(file, name)?)),
            Self::Database { runtime, .. } => Ok(Arc::new(PostgresStore::open(runtime, name).await?)),
        }
    }
}
