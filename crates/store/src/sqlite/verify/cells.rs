//! Rows as they must be beside rows as they are.

use std::fmt;

use jiff::Timestamp;
use orbit_core::canonical;
use orbit_core::record::audit::Fault;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::Serialize;
use serde_json::Value;

use crate::sqlite::columns::Text;
use crate::sqlite::fault::Attempt;

/// A value in a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// Nothing.
    Null,
    /// A number, or an instant in microseconds.
    Integer(i64),
    /// A number with a fraction.
    Real(f64),
    /// A text, an id, a digest.
    Text(String),
    /// JSON: another spelling of a number is no difference.
    Json(String),
    /// What no record tells.
    Untold,
    /// Of another type than any column here has.
    Other,
}

/// Values in the order of a table's columns; the first says which row it is.
pub(super) type Row = Vec<Cell>;

/// Rows of a table that belong together.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [&'static str],
    /// Finds them by what they belong to.
    pub(super) sql: &'static str,
}

impl Cell {
    pub(super) fn text(text: impl fmt::Display) -> Self {
        Self::Text(text.to_string())
    }

    pub(super) fn text_or_null(text: Option<impl fmt::Display>) -> Self {
        text.map_or(Self::Null, Self::text)
    }

    pub(super) fn at(at: Option<Timestamp>) -> Self {
        at.map_or(Self::Null, |at| Self::Integer(at.as_microsecond()))
    }

    pub(super) fn number(number: impl TryInto<i64>) -> Self {
        Self::Integer(number.try_into().unwrap_or(i64::MAX))
    }

    pub(super) fn json(value: &impl Serialize) -> Self {
        serde_json::to_string(value).map_or(Self::Other, Self::Json)
    }

    fn read(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(bytes) => Self::Text(String::from_utf8_lossy(bytes).into_owned()),
            ValueRef::Blob(_) => Self::Other,
        }
    }

    /// Whether a value that was found is this one.
    fn is(&self, found: &Self) -> bool {
        match (self, found) {
            (Self::Untold, _) => true,
            (Self::Json(json), Self::Text(text)) => json == text || same_json(json, text),
            (own, found) => own == found,
        }
    }
}

fn same_json(one: &str, other: &str) -> bool {
    let canonical = |text: &str| serde_json::from_str::<Value>(text).ok().map(|value| canonical::of(&value));
    canonical(one).is_some_and(|one| canonical(other) == Some(one))
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Integer(number) => number.fmt(f),
            Self::Real(number) => number.fmt(f),
            Self::Text(text) | Self::Json(text) => f.write_str(text),
            Self::Untold => f.write_str("anything"),
            Self::Other => f.write_str("a value of another type"),
        }
    }
}

impl Table {
    /// Those that belong to this.
    pub(super) fn rows(&self, connection: &Connection, of: impl fmt::Display) -> Attempt<Vec<Row>> {
        let mut statement = connection.prepare_cached(self.sql)?;
        let rows = statement.query_map([Text(of)], |row| {
            (0..self.columns.len())
                .map(|column| row.get_ref(column).map(Cell::read))
                .collect::<Result<Row, _>>()
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How rows differ from those that records come to; `named` says which one it is by its first value.
    pub(super) fn compare(
        &self,
        expected: Vec<Row>,
        mut found: Vec<Row>,
        named: impl Fn(&Cell) -> String,
    ) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |row: &Row, difference: String| {
            let row = row.first().map_or_else(String::new, &named);
            faults.push(Fault::of(self.name, row, difference));
        };
        for row in expected {
            let Some(place) = found.iter().position(|other| other.first() == row.first()) else {
                fault(&row, "its records are there, and the row is missing".to_owned());
                continue;
            };
            let other = found.swap_remove(place);
            let differing =
                self.columns.iter().zip(row.iter().zip(&other)).filter(|(_, (own, other))| !own.is(other));
            let told = differing.map(|(column, (own, other))| {
                format!("`{column}` is `{other}`, and its records come to `{own}`")
            });
            let told = told.collect::<Vec<_>>();
            if !told.is_empty() {
                fault(&row, told.join("; "));
            }
        }
        for row in &found {
            fault(row, "no record tells of it".to_owned());
        }
        faults
    }
}
