//! The log: records are added, and read in order of the positions that the sequencer gives them.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::record::{Kind, Record, Subject};
use serde_json::Value;

use super::columns::{Json, Length, Parameter, Row, params};
use super::fault::Attempt;
use super::tx::{Connection, Tx, reading, writing};
use super::{PostgresStore, sequencer};
use crate::StoreError;
use crate::contract::record::{RecordFilter, RecordStore, StoredRecord};
use crate::rows::record::Header;
pub(super) use crate::rows::record::{Facts, Seen, facts};

/// The record is part of the transaction.
pub(super) fn append(tx: &Tx, record: &Record) -> Attempt<()> {
    tx.append(record.seal())
}

/// Appends one fact.
pub(super) fn fact(tx: &Tx, at: Timestamp, kind: Kind, subject: Subject, body: Facts) -> Attempt<()> {
    append(tx, &Record::fact(at, kind, subject, Value::Object(body)))
}

/// Appends evidence.
pub(super) fn evidence(tx: &Tx, at: Timestamp, subject: Subject, seen: Seen<'_>) -> Attempt<()> {
    append(tx, &seen.record(at, subject))
}

#[async_trait]
impl RecordStore for PostgresStore {
    async fn append(&self, records: Vec<Record>) -> Result<(), StoreError> {
        writing!(self, |tx| records.iter().try_for_each(|record| append(tx, record)))
    }

    async fn records(&self, filter: RecordFilter, limit: u32) -> Result<Vec<StoredRecord>, StoreError> {
        sequencer::run(&self.database).await?;
        reading!(self, |tx| select(tx, &filter, limit).await)
    }
}

async fn select(tx: &Connection, filter: &RecordFilter, limit: u32) -> Attempt<Vec<StoredRecord>> {
    let mut sql = "SELECT position, header, body, CASE WHEN body IS NULL THEN (
            SELECT told.header FROM log_tombstones t JOIN log_records told ON told.position = t.told_at
            WHERE t.position = log_records.position) END AS told
        FROM log_records LEFT JOIN log_bodies USING (position) WHERE position > $1"
        .to_owned();
    let after = filter.after.map_or(Ok(-1), i64::try_from).unwrap_or(i64::MAX);
    let mut parameters = vec![Parameter::from(after), Parameter::from(i64::from(limit))];
    for (column, id) in [("run_id", filter.run_id), ("cycle_id", filter.cycle_id)] {
        if let Some(id) = id {
            parameters.push(Parameter::from(id.to_string()));
            // Naming the column without a doubt that it is not null lets the partial index serve.
            sql = format!("{sql} AND log_records.{column} = ${}", parameters.len());
        }
    }
    sql.push_str(" ORDER BY position LIMIT $2");
    tx.query_all(&sql, Ok(parameters), stored).await
}

fn stored(row: &Row) -> Attempt<StoredRecord> {
    let header: Json<Header> = row.get("header")?;
    let body: Option<Json<Value>> = row.get("body")?;
    let told: Option<Json<Header>> = row.get("told")?;
    let position: Length = row.get("position")?;
    Ok(header.0.stored(position.0, body.map(|body| body.0), told.map(|told| told.0)))
}

/// How many records there are.
pub(super) async fn count(tx: &Connection) -> Attempt<u64> {
    let sql = "SELECT max(position) FROM log_records";
    let last: Option<i64> = tx.query_row(sql, params![], |row| row.get(0)).await?;
    Ok(last.map_or(0, |last| u64::try_from(last).unwrap_or(0) + 1))
}
