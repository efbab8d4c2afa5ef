//! Where the rows of a home are kept: in files of the home, or in the database that `ORBIT_DATABASE_URL` names.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use orbit_core::config::{NamespaceName, StorageBackend};
use orbit_engine::layout::Layout;
use orbit_store::postgres::{self, Server};
use orbit_store::sqlite::{self, SqliteStore};
use orbit_store::transfer::is_there;
use orbit_store::{Store, StoreError};

use crate::config::{Diagnostic, load_node};
use crate::environment::{Environment, Secret};

/// What to do where the log that answers is not the one that was seen.
pub const REWOUND_HINT: &str = "an older state of the database answers, as after a failover or a restored backup: bring back the server that has everything, and work goes on by itself; nothing is written meanwhile";

/// What to do where the store of a running node does not answer as it should, if somebody can do something.
pub fn hint_of(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Rewound { .. } => Some(REWOUND_HINT),
        StoreError::Io { place, .. } | StoreError::Full { place } | StoreError::Unknown { place, .. } => {
            is_database(place).then_some(
                "the server must run, and have room for its data and for `pg_wal`: its own log says what it lacks; nothing acknowledged is lost, and nodes go on by themselves",
            )
        }
        StoreError::Newer { .. }
        | StoreError::Older { .. }
        | StoreError::NoRoom { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Refused { .. }
        | StoreError::NotJoined { .. }
        | StoreError::Closed { .. } => None,
    }
}

/// Whether what is called so is a database rather than a file.
fn is_database(place: &str) -> bool {
    place.starts_with("postgres ")
}

/// See the module.
pub enum Stores {
    /// A file a namespace.
    Files(Layout),
    /// One database for all.
    Database(Layout, Box<Server>),
}

/// Why the database cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// Nobody says where it is.
    #[error("`storage: {{ backend: postgres }}` needs `ORBIT_DATABASE_URL`, which is not set")]
    Unset,
    /// It cannot be reached, or must not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DatabaseError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unset => {
                "set it in `.env`, as in ORBIT_DATABASE_URL='postgres://orbit_runtime:PASSWORD@HOST/DATABASE'"
            }
            Self::Store(StoreError::Io { message, .. }) if message.contains("TLS") => {
                "to another machine TLS is required: give the server a certificate for its name, name the authority with `sslrootcert=FILE` in the URL, or say `sslmode=disable`"
            }
            Self::Store(StoreError::Io { .. }) => {
                "the server must run and take the role, password and database of `ORBIT_DATABASE_URL`; `orbit doctor` tries again"
            }
            Self::Store(StoreError::Older { .. }) => {
                "`orbit database migrate`, with the owner's URL in `ORBIT_DATABASE_OWNER_URL`, brings it up to date"
            }
            Self::Store(StoreError::Newer { .. }) => "use the newer `orbit` that migrated it",
            Self::Store(StoreError::Refused { .. }) => {
                "`ORBIT_DATABASE_URL` must name the role `orbit_runtime`, which `orbit database migrate` makes; the owner's URL is for that alone"
            }
            Self::Store(StoreError::Rewound { .. }) => REWOUND_HINT,
            Self::Store(
                StoreError::Full { .. }
                | StoreError::NoRoom { .. }
                | StoreError::Corrupt { .. }
                | StoreError::Unknown { .. }
                | StoreError::NotJoined { .. }
                | StoreError::Closed { .. },
            ) => "look at what the server says; `orbit doctor` tries again",
        }
    }
}

impl Stores {
    /// Finds out where they are; a database is reached, and refused if it must not be used.
    pub async fn find(
        layout: &Layout,
        backend: StorageBackend,
        environment: &Environment,
    ) -> Result<Self, DatabaseError> {
        match backend {
            StorageBackend::Sqlite => Ok(Self::Files(layout.clone())),
            StorageBackend::Postgres => {
                let url = environment.database_url().ok_or(DatabaseError::Unset)?;
                let server = Server::connect(url.expose()).await?;
                if server.is_unprotected() {
                    tracing::warn!(
                        database = server.place(),
                        "everything goes to the database unprotected: its URL says `sslmode=disable`"
                    );
                }
                Ok(Self::Database(layout.clone(), Box::new(server)))
            }
        }
    }

    /// Opens the store of a namespace, or makes it. Afterwards there is a folder for what lies beside it.
    pub async fn open(&self, name: &NamespaceName) -> Result<Arc<dyn Store>, StoreError> {
        match self {
            Self::Files(layout) => {
                SqliteStore::open(&layout.database(name), name).map(|store| Arc::new(store) as Arc<dyn Store>)
            }
            Self::Database(layout, server) => {
                let folder = layout.data(name);
                let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
                made.map_err(|error| StoreError::Io {
                    place: folder.display().to_string(),
                    message: error.to_string(),
                })?;
                server.store(name).await.map(|store| Arc::new(store) as Arc<dyn Store>)
            }
        }
    }

    /// The schema that they have.
    pub const fn schema(&self) -> u32 {
        match self {
            Self::Files(_) => sqlite::SCHEMA,
            Self::Database(..) => postgres::SCHEMA,
        }
    }

    /// Which backend that is.
    pub const fn backend(&self) -> StorageBackend {
        match self {
            Self::Files(_) => StorageBackend::Sqlite,
            Self::Database(..) => StorageBackend::Postgres,
        }
    }
}

/// Namespaces that the home has documents or data of, and the node's own. Which of them have a store in a database, only that tells.
pub fn named(layout: &Layout) -> BTreeSet<NamespaceName> {
    let mut names = BTreeSet::from([NamespaceName::system()]);
    for folder in ["data", "namespaces"] {
        let entries = std::fs::read_dir(layout.home().join(folder)).into_iter().flatten().flatten();
        names.extend(entries.filter_map(|entry| NamespaceName::parse(entry.file_name().to_str()?).ok()));
    }
    names
}

/// Where whole stores are read.
pub enum Whole {
    /// In files.
    Files,
    /// In the database at this address.
    Database(Secret),
}

impl Whole {
    /// Finds out; a database must be fit to be served, though nothing of it is.
    pub async fn find(
        layout: &Layout,
        backend: StorageBackend,
        environment: &Environment,
    ) -> Result<Self, DatabaseError> {
        Stores::find(layout, backend, environment).await?;
        Ok(match backend {
            StorageBackend::Sqlite => Self::Files,
            StorageBackend::Postgres => {
                Self::Database(environment.database_url().ok_or(DatabaseError::Unset)?)
            }
        })
    }

    /// Namespaces that have a store there, by name.
    pub async fn names(&self, layout: &Layout) -> Result<Vec<NamespaceName>, StoreError> {
        let mut names = Vec::new();
        for name in named(layout) {
            let is_there = match self {
                Self::Files => layout.database(&name).is_file(),
                Self::Database(url) => is_there(url.expose(), &name).await?,
            };
            if is_there {
                names.push(name);
            }
        }
        Ok(names)
    }
}

/// Work that is done on the files of a home, and what to do instead where its rows are in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileWork {
    /// `orbit backup`.
    Backup,
    /// `orbit gc --compact`.
    Compact,
}

impl FileWork {
    /// What to say where it cannot be done, and what to do instead.
    pub const fn refusal(self) -> (&'static str, &'static str) {
        match self {
            Self::Backup => (
                "`orbit backup` copies files, and the rows of this home are in PostgreSQL",
                "back up the database first (`pg_dump --format=custom`, or base backups with the WAL archived), then `.env` and the folder `data/`",
            ),
            Self::Compact => (
                "`orbit gc --compact` rewrites files, and the rows of this home are in PostgreSQL",
                "autovacuum reuses the space there; `VACUUM (FULL)` as the owner gives it back, and holds up everything meanwhile",
            ),
        }
    }
}

/// Where the rows of a home are kept by its documents. Where `orbit.yaml` is wrong, what lies in the home tells, and else its problems are the answer: nothing
/// is opened that might be the wrong one.
pub fn backend_of(layout: &Layout) -> Result<StorageBackend, Vec<Diagnostic>> {
    let (node, problems) = load_node(layout.home());
    if !problems.iter().any(Diagnostic::is_error) {
        return Ok(node.storage.backend);
    }
    if layout.database(&NamespaceName::system()).exists() {
        Ok(StorageBackend::Sqlite)
    } else {
        Err(problems)
    }
}
