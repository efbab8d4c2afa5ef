//! The log: records are added, and read in order of the positions that the sequencer gives them.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::record::{Body, Kind, Record, Subject};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::columns::{Json, Length, Parameter, Row, params};
use super::fault::Attempt;
use super::tx::{Connection, Tx, reading, writing};
use super::{PostgresStore, sequencer};
use crate::StoreError;
use crate::contract::Evidence;
use crate::contract::record::{RecordFilter, RecordStore, StoredRecord};

/// The fields of a record's body.
pub(super) type Facts = Map<String, Value>;

/// The fields of an object; anything else has none.
pub(super) fn facts(value: Value) -> Facts {
    match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Facts::new(),
    }
}

/// The record is part of the transaction.
pub(super) fn append(tx: &Tx, record: &Record) -> Attempt<()> {
    tx.append(record.seal())
}

/// Appends one fact.
pub(super) fn fact(tx: &Tx, at: Timestamp, kind: Kind, subject: Subject, body: Facts) -> Attempt<()> {
    append(tx, &Record::fact(at, kind, subject, Value::Object(body)))
}

/// Evidence that is part of a commit, with what it belongs to.
pub(super) struct Seen<'a> {
    /// What was seen.
    pub(super) evidence: &'a Evidence,
    /// The kind of its record.
    pub(super) kind: Kind,
    /// Names the attempt; added to the evidence if it is an object, else the evidence is its `value`.
    pub(super) of: Facts,
}

/// Appends evidence.
pub(super) fn evidence(tx: &Tx, at: Timestamp, subject: Subject, seen: Seen<'_>) -> Attempt<()> {
    let Seen { evidence, kind, of: mut fields } = seen;
    if let Value::Object(own) = &evidence.value {
        fields.extend(own.clone());
    } else {
        fields.insert("value".to_owned(), evidence.value.clone());
    }
    let body = Body::Evidence { salt: evidence.salt, value: Value::Object(fields) };
    append(tx, &Record { at, kind, subject, body })
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

/// The header as it is read back.
#[derive(Deserialize)]
struct Header {
    at: Timestamp,
    kind: String,
    cycle_id: Option<Uuid>,
    run_id: Option<Uuid>,
    body_class: String,
}

fn stored(row: &Row) -> Attempt<StoredRecord> {
    let header: Header = row.get::<_, Json<_>>("header")?.0;
    Ok(StoredRecord {
        position: row.get::<_, Length>("position")?.0,
        at: header.at,
        kind: header.kind,
        cycle_id: header.cycle_id,
        run_id: header.run_id,
        body_class: header.body_class,
        body: row.get::<_, Option<Json<Value>>>("body")?.map_or(Value::Null, |body| body.0),
        dropped_at: row.get::<_, Option<Json<Header>>>("told")?.map(|told| told.0.at),
    })
}

/// How many records there are.
pub(super) async fn count(tx: &Connection) -> Attempt<u64> {
    let sql = "SELECT max(position) FROM log_records";
    let last: Option<i64> = tx.query_row(sql, params![], |row| row.get(0)).await?;
    Ok(last.map_or(0, |last| u64::try_from(last).unwrap_or(0) + 1))
}
