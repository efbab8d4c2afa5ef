//! What can be asked of either side.

use orbit_core::config::NamespaceName;

use super::table::{TABLES, Table};
use super::value::{Row, Value};
use super::{End, TransferError, postgres, sqlite};
use crate::StoreError;

/// The row that a store has of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Null, or whether it is arriving or gone, and what its log is.
    pub(super) moved: Option<String>,
    pub(super) epoch: i64,
    pub(super) active_snapshot: Option<String>,
    pub(super) restored_at: Option<i64>,
}

/// Which rows of a table.
#[derive(Clone, Debug)]
pub(super) enum Which {
    /// From the first on.
    All,
    /// From the one after this key on.
    After(Row),
    /// The one with this key.
    At(Row),
}

impl Which {
    /// How the key compares with which one.
    pub(super) fn bound(&self) -> Option<(&'static str, &Row)> {
        match self {
            Self::All => None,
            Self::After(key) => Some((">", key)),
            Self::At(key) => Some(("=", key)),
        }
    }
}

/// So many of the same, separated by commas.
pub(super) fn places(count: usize, place: &str) -> String {
    vec![place; count].join(", ")
}

/// See the module.
pub(super) enum Side {
    Sqlite(sqlite::File),
    Postgres(Box<postgres::Namespace>),
}

impl Side {
    pub(super) async fn open(end: End<'_>, namespace: &NamespaceName) -> Result<Self, StoreError> {
        Ok(match end {
            End::Sqlite(path) => Self::Sqlite(sqlite::File::open(path, namespace)?),
            End::Postgres(config) => {
                Self::Postgres(Box::new(postgres::Namespace::open(config, namespace).await?))
            }
        })
    }

    /// Nobody else moves it meanwhile. Of a file the lock of the home sees to that.
    pub(super) async fn hold(&self) -> Result<(), TransferError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(namespace) => namespace.hold().await,
        }
    }

    /// The columns of a table, in an order that is the same on both sides.
    pub(super) async fn columns(&self, table: Table) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Sqlite(file) => file.columns(table),
            Self::Postgres(namespace) => namespace.columns(table).await,
        }
    }

    pub(super) async fn count(&self, table: Table) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(file) => file.count(table),
            Self::Postgres(namespace) => namespace.count(table).await,
        }
    }

    /// Some of these rows, in the order of their keys; none if there are no more.
    pub(super) async fn page(
        &self,
        table: Table,
        columns: &[String],
        which: &Which,
    ) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(file) => file.page(table, columns, which),
            Self::Postgres(namespace) => namespace.page(table, columns, which).await,
        }
    }

    /// The last row.
    pub(super) async fn last(&self, table: Table, columns: &[String]) -> Result<Option<Row>, StoreError> {
        match self {
            Self::Sqlite(file) => file.last(table, columns),
            Self::Postgres(namespace) => namespace.last(table, columns).await,
        }
    }

    /// Adds rows; all or none.
    pub(super) async fn insert(
        &self,
        table: Table,
        columns: &[String],
        rows: &[Row],
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(file) => file.insert(table, columns, rows),
            Self::Postgres(namespace) => namespace.insert(table, columns, rows).await,
        }
    }

    pub(super) async fn standing(&self) -> Result<Standing, StoreError> {
        match self {
            Self::Sqlite(file) => file.standing(),
            Self::Postgres(namespace) => namespace.standing().await,
        }
    }

    pub(super) async fn stand(&self, standing: &Standing) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(file) => file.stand(standing),
            Self::Postgres(namespace) => namespace.stand(standing).await,
        }
    }

    /// Whether there is no row but the store's own.
    pub(super) async fn is_empty(&self) -> Result<bool, StoreError> {
        for table in TABLES {
            if self.last(table, &self.columns(table).await?).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn place(&self) -> String {
        match self {
            Self::Sqlite(file) => file.place().to_owned(),
            Self::Postgres(namespace) => namespace.place().to_owned(),
        }
    }

    pub(super) fn marked(&self, moved: &str) -> TransferError {
        TransferError::Marked { place: self.place(), moved: moved.to_owned() }
    }

    pub(super) fn left(&self, moved: &str) -> TransferError {
        TransferError::Left { place: self.place(), moved: moved.to_owned() }
    }

    pub(super) fn occupied(&self) -> TransferError {
        TransferError::Occupied { place: self.place() }
    }

    pub(super) fn changed(&self) -> TransferError {
        TransferError::Changed { place: self.place() }
    }

    pub(super) fn differs(&self, difference: impl Into<String>) -> TransferError {
        TransferError::Differs { place: self.place(), difference: difference.into() }
    }

    pub(super) fn corrupt(&self, message: impl Into<String>) -> StoreError {
        StoreError::Corrupt { place: self.place(), message: message.into() }
    }
}

/// The value of a row's column.
pub(super) fn of<'a>(columns: &[String], row: &'a Row, name: &str) -> Option<&'a Value> {
    row.get(columns.iter().position(|column| column == name)?)
}

/// The key of a row.
pub(super) fn key_of(table: Table, columns: &[String], row: &Row) -> Row {
    table.key.iter().map(|name| of(columns, row, name).cloned().unwrap_or(Value::Null)).collect()
}
