//! The log: records get their positions here, and are read in order.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::record::{Kind, Record, Subject};
use rusqlite::types::Value as Parameter;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde_json::Value;

use super::SqliteStore;
use super::columns::{Json, Length};
use super::fault::Attempt;
use super::tx::Tx;
use crate::StoreError;
use crate::contract::record::{RecordFilter, RecordStore, StoredRecord};
use crate::rows::record::Header;
pub(super) use crate::rows::record::{Facts, Seen, facts};

/// The record is part of the transaction.
pub(super) fn append(tx: &Tx<'_>, record: &Record) -> Attempt<()> {
    tx.append(record.seal())
}

/// Appends one fact.
pub(super) fn fact(tx: &Tx<'_>, at: Timestamp, kind: Kind, subject: Subject, body: Facts) -> Attempt<()> {
    append(tx, &Record::fact(at, kind, subject, Value::Object(body)))
}

/// Appends evidence.
pub(super) fn evidence(tx: &Tx<'_>, at: Timestamp, subject: Subject, seen: Seen<'_>) -> Attempt<()> {
    append(tx, &seen.record(at, subject))
}

#[async_trait]
impl RecordStore for SqliteStore {
    async fn append(&self, records: Vec<Record>) -> Result<(), StoreError> {
        self.write(move |tx| records.iter().try_for_each(|record| append(tx, record))).await
    }

    async fn records(&self, filter: RecordFilter, limit: u32) -> Result<Vec<StoredRecord>, StoreError> {
        self.read(move |tx| select(tx, &filter, limit)).await
    }
}

fn select(tx: &Connection, filter: &RecordFilter, limit: u32) -> Attempt<Vec<StoredRecord>> {
    let mut sql = "SELECT position, header, body, CASE WHEN body IS NULL THEN (
            SELECT told.header FROM log_tombstones t JOIN log_records told ON told.position = t.told_at
            WHERE t.position = log_records.position) END AS told
        FROM log_records LEFT JOIN log_bodies USING (position) WHERE position > ?1"
        .to_owned();
    let after = filter.after.map_or(Ok(-1), i64::try_from).unwrap_or(i64::MAX);
    let mut parameters = vec![Parameter::from(after), Parameter::from(i64::from(limit))];
    for (column, id) in [("run_id", filter.run_id), ("cycle_id", filter.cycle_id)] {
        if let Some(id) = id {
            parameters.push(Parameter::from(id.to_string()));
            // Naming the column without a doubt that it is not null lets the partial index serve.
            sql = format!("{sql} AND log_records.{column} = ?{}", parameters.len());
        }
    }
    sql.push_str(" ORDER BY position LIMIT ?2");
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(parameters), stored)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredRecord> {
    let header: Header = row.get::<_, Json<_>>("header")?.0;
    let body = row.get::<_, Option<Json<Value>>>("body")?.map(|body| body.0);
    let told = row.get::<_, Option<Json<Header>>>("told")?.map(|told| told.0);
    Ok(header.stored(row.get::<_, Length>("position")?.0, body, told))
}

/// How many records there are.
pub(super) fn count(tx: &Connection) -> Attempt<u64> {
    let last: Option<i64> =
        tx.query_row("SELECT max(position) FROM log_records", (), |row| row.get(0)).optional()?.flatten();
    Ok(last.map_or(0, |last| u64::try_from(last).unwrap_or(0) + 1))
}
