//! Why a transaction could not be done, before the file it happened to is named.

use orbit_core::run::IllegalEvent;
use rusqlite::ErrorCode;

use crate::StoreError;
use crate::rows::Contradiction;

/// See the module.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database refused.
    Sqlite(rusqlite::Error),
    /// A row or an argument that contradicts the rules: a defect, or a file that was changed.
    Contradiction(String),
}

/// What a transaction gives.
pub(crate) type Attempt<T> = Result<T, Fault>;

impl Fault {
    /// A contradiction in these words.
    pub(crate) fn contradiction(message: impl Into<String>) -> Self {
        Self::Contradiction(message.into())
    }

    /// As the callers of the store see it.
    pub(crate) fn at(self, place: &str) -> StoreError {
        let place = place.to_owned();
        match self {
            Self::Contradiction(message) => StoreError::Corrupt { place, message },
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => StoreError::Full { place },
                Some(
                    ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation,
                ) => StoreError::Corrupt { place, message: error.to_string() },
                None if is_conversion(&error) => StoreError::Corrupt { place, message: error.to_string() },
                Some(_) | None => StoreError::Io { place, message: error.to_string() },
            },
        }
    }
}

/// Whether the disk was full.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

fn is_conversion(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::QueryReturnedNoRows
    )
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
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
