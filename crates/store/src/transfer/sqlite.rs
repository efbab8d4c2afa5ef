//! The rows of a file.

use std::path::Path;

use orbit_core::config::NamespaceName;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, ToSql, params_from_iter};

use super::side::{Standing, Which, places};
use super::table::Table;
use super::value::{Row, Value};
use super::{PAGE_BYTES_MAX, PAGE_ROWS_MAX};
use crate::StoreError;
use crate::sqlite::{Attempt, file};

/// See the module.
pub(super) struct File {
    connection: Connection,
    place: String,
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => rusqlite::types::Null.into(),
            Self::Integer(number) => (*number).into(),
            Self::Real(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Bytes(bytes) => bytes.as_slice().into(),
        })
    }
}

impl File {
    /// Opens it, or makes it, with the newest schema. Nobody else may have it open.
    pub(super) fn open(path: &Path, namespace: &NamespaceName) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        Ok(Self { connection: file(path, namespace)?, place })
    }

    /// One that takes rows as they are, also those that no store could have; it outlives no crash.
    pub(super) fn loose(path: &Path, namespace: &NamespaceName) -> Result<Self, StoreError> {
        let file = Self::open(path, namespace)?;
        file.with(|connection| {
            connection.pragma_update(None, "journal_mode", "OFF")?;
            connection.pragma_update(None, "synchronous", "OFF")?;
            connection.pragma_update(None, "foreign_keys", false)?;
            connection.pragma_update(None, "ignore_check_constraints", true)?;
            Ok(())
        })?;
        Ok(file)
    }

    /// The triggers are away; what makes them again.
    pub(super) fn without_triggers(&self) -> Result<Vec<String>, StoreError> {
        self.with(|connection| {
            let sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'";
            let mut statement = connection.prepare(sql)?;
            let found =
                statement.query_map((), |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            let found = found.collect::<Result<Vec<_>, _>>()?;
            for (name, _) in &found {
                connection.execute_batch(&format!("DROP TRIGGER {name}"))?;
            }
            Ok(found.into_iter().map(|(_, sql)| sql).collect())
        })
    }

    /// Statements without parameters or answers.
    pub(super) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        self.with(|connection| Ok(connection.execute_batch(sql)?))
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The columns that are kept, and not read out of others.
    pub(super) fn columns(&self, table: Table) -> Result<Vec<String>, StoreError> {
        self.with(|connection| {
            // `hidden` is 2 or 3 of a generated column.
            let sql =
                "SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0 AND name <> 'one' ORDER BY name";
            let mut statement = connection.prepare(sql)?;
            let names = statement.query_map([table.name], |row| row.get(0))?;
            Ok(names.collect::<Result<_, _>>()?)
        })
    }

    pub(super) fn count(&self, table: Table) -> Result<u64, StoreError> {
        self.with(|connection| {
            let sql = format!("SELECT count(*) FROM {}", table.name);
            Ok(connection.query_row(&sql, (), |row| row.get::<_, i64>(0))?.unsigned_abs())
        })
    }

    /// The rows within these bounds, in order, as many as are a page.
    pub(super) fn page(
        &self,
        table: Table,
        columns: &[String],
        which: &Which,
    ) -> Result<Vec<Row>, StoreError> {
        let key = table.key.join(", ");
        let bound =
            which.bound().map(|(is, values)| format!("WHERE ({key}) {is} ({})", places(values.len(), "?")));
        let sql = format!(
            "SELECT {} FROM {} {} ORDER BY {key} LIMIT {PAGE_ROWS_MAX}",
            columns.join(", "),
            table.name,
            bound.unwrap_or_default(),
        );
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows =
                statement.query(params_from_iter(which.bound().into_iter().flat_map(|(_, key)| key)))?;
            let (mut page, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let values = (0..columns.len()).map(|place| Ok(value(row.get_ref(place)?)));
                let values: Row = values.collect::<rusqlite::Result<_>>()?;
                bytes += values.iter().map(Value::bytes).sum::<usize>();
                page.push(values);
                if bytes >= PAGE_BYTES_MAX {
                    break;
                }
            }
            Ok(page)
        })
    }

    /// The last row by its key.
    pub(super) fn last(&self, table: Table, columns: &[String]) -> Result<Option<Row>, StoreError> {
        let order: Vec<_> = table.key.iter().map(|column| format!("{column} DESC")).collect();
        let sql = format!(
            "SELECT {} FROM {} ORDER BY {} LIMIT 1",
            columns.join(", "),
            table.name,
            order.join(", ")
        );
        self.with(|connection| {
            let read = |row: &rusqlite::Row<'_>| {
                (0..columns.len())
                    .map(|place| Ok(value(row.get_ref(place)?)))
                    .collect::<rusqlite::Result<Row>>()
            };
            Ok(connection.query_row(&sql, (), read).optional()?)
        })
    }

    /// Adds rows; all or none.
    pub(super) fn insert(&self, table: Table, columns: &[String], rows: &[Row]) -> Result<(), StoreError> {
        // The only column that PostgreSQL has not, where a table has one row.
        let (one, first) = if table.name == "notify_cursor" { ("one, ", "1, ") } else { ("", "") };
        let sql = format!(
            "INSERT INTO {} ({one}{}) VALUES ({first}{})",
            table.name,
            columns.join(", "),
            places(columns.len(), "?")
        );
        self.with(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let mut statement = transaction.prepare_cached(&sql)?;
            for row in rows {
                statement.execute(params_from_iter(row))?;
            }
            drop(statement);
            Ok(transaction.commit()?)
        })
    }

    pub(super) fn standing(&self) -> Result<Standing, StoreError> {
        self.with(|connection| {
            let sql = "SELECT moved, epoch, active_snapshot, restored_at FROM store";
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Standing {
                    moved: row.get(0)?,
                    epoch: row.get(1)?,
                    active_snapshot: row.get(2)?,
                    restored_at: row.get(3)?,
                })
            };
            Ok(connection.query_row(sql, (), read)?)
        })
    }

    pub(super) fn stand(&self, standing: &Standing) -> Result<(), StoreError> {
        self.with(|connection| {
            let sql = "UPDATE store SET moved = ?1, epoch = ?2, active_snapshot = ?3, restored_at = ?4";
            let Standing { moved, epoch, active_snapshot, restored_at } = standing;
            connection.execute(sql, (moved, epoch, active_snapshot, restored_at))?;
            Ok(())
        })
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> Attempt<T>) -> Result<T, StoreError> {
        work(&self.connection).map_err(|fault| fault.at(&self.place))
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::text(&String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}
