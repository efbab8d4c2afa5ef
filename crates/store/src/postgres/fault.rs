//! Why a transaction could not be done, before the database it happened in is named; and whether it is worth doing again.

use std::fmt::Display;

use deadpool_postgres::PoolError;
use orbit_core::run::IllegalEvent;
use tokio_postgres::error::SqlState;

use super::SCHEMA;
use crate::StoreError;
use crate::rows::Contradiction;

/// See the module.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database refused, or the connection to it was lost.
    Postgres(tokio_postgres::Error),
    /// Nobody knows whether it is true: the connection was lost between COMMIT and its answer. What was said.
    Unknown(String),
    /// Another one failed in the same transaction of the server, which was undone.
    Undone,
    /// There was no connection to be had.
    Unreachable(String),
    /// A row or an argument that contradicts the rules: a defect, or a table that was changed.
    Contradiction(String),
    /// Whoever claims has not joined, or was taken over.
    NotJoined,
    /// The log is not the one that was seen; how it differs.
    Rewound(String),
    /// The database has this schema, which is newer than the one that this binary knows.
    Newer(u32),
    /// What is asked for must not be done as things are; why.
    Refused(String),
}

/// What a transaction gives.
pub(crate) type Attempt<T> = Result<T, Fault>;

impl Fault {
    /// A contradiction in these words.
    pub(crate) fn contradiction(message: impl Into<String>) -> Self {
        Self::Contradiction(message.into())
    }

    /// A value that is not what its column holds.
    pub(super) fn unreadable(error: impl Display) -> Self {
        Self::Contradiction(error.to_string())
    }

    /// Whether nothing of the transaction is true and the same may succeed: it met another one, or lost its connection before COMMIT, or demanded what is not so
    /// (see `begun`). A key that exists may be one that the other transaction has just made; where it was there before, the last try says so.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Postgres(error) => match error.code() {
                Some(code) => {
                    let met = [
                        SqlState::T_R_SERIALIZATION_FAILURE,
                        SqlState::T_R_DEADLOCK_DETECTED,
                        SqlState::UNIQUE_VIOLATION,
                        SqlState::DIVISION_BY_ZERO,
                    ];
                    met.contains(code) || is_shutdown(code)
                }
                None => error.is_closed(),
            },
            Self::Undone => true,
            Self::Unknown(_)
            | Self::Unreachable(_)
            | Self::Contradiction(_)
            | Self::NotJoined
            | Self::Rewound(_)
            | Self::Newer(_)
            | Self::Refused(_) => false,
        }
    }

    /// As the callers of the store see it.
    pub(crate) fn at(self, place: &str) -> StoreError {
        let place = place.to_owned();
        match self {
            Self::Contradiction(message) => StoreError::Corrupt { place, message },
            Self::NotJoined => StoreError::NotJoined { place },
            Self::Rewound(message) => StoreError::Rewound { place, message },
            Self::Newer(found) => StoreError::Newer { place, found, known: SCHEMA },
            Self::Refused(message) => StoreError::Refused { place, message },
            Self::Unreachable(message) => StoreError::Io { place, message },
            Self::Unknown(message) => StoreError::Unknown { place, message },
            Self::Undone => {
                StoreError::Io { place, message: "its transaction was undone with others".to_owned() }
            }
            Self::Postgres(error) => match error.code() {
                Some(&SqlState::DISK_FULL) => StoreError::Full { place },
                Some(code) if is_corrupt(code) => StoreError::Corrupt { place, message: words(&error) },
                Some(_) | None => StoreError::Io { place, message: words(&error) },
            },
        }
    }
}

/// The server ends sessions, or is not ready for them yet.
fn is_shutdown(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ]
    .contains(code)
}

/// Of a violated constraint or of damaged data, as far as SQLite would say so too.
fn is_corrupt(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    matches!(class, "22" | "23") || [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code)
}

/// What the server said, which the error alone does not repeat.
pub(super) fn words(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Unreachable(words(&error)),
            PoolError::Timeout(_)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_) => Self::Unreachable(error.to_string()),
        }
    }
}

impl From<Contradiction> for Fault {
    fn from(Contradiction(message): Contradiction) -> Self {
        Self::Contradiction(message)
    }
}

impl From<IllegalEvent> for Fault {
    fn from(error: IllegalEvent) -> Self {
        Self::Contradiction(error.to_string())
    }
}
