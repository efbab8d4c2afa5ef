//! Bodies of records, and records as they are read back.

use jiff::Timestamp;
use orbit_core::record::{Body, Kind, Record, Subject};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::contract::Evidence;
use crate::contract::record::StoredRecord;

/// The fields of a record's body.
pub(crate) type Facts = Map<String, Value>;

/// The fields of an object; anything else has none.
pub(crate) fn facts(value: Value) -> Facts {
    match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Facts::new(),
    }
}

/// Evidence that is part of a commit, with what it belongs to.
pub(crate) struct Seen<'a> {
    /// What was seen.
    pub(crate) evidence: &'a Evidence,
    /// The kind of its record.
    pub(crate) kind: Kind,
    /// Names the attempt; added to the evidence if it is an object, else the evidence is its `value`.
    pub(crate) of: Facts,
}

impl Seen<'_> {
    /// Its record.
    pub(crate) fn record(self, at: Timestamp, subject: Subject) -> Record {
        let Self { evidence, kind, of: mut fields } = self;
        if let Value::Object(own) = &evidence.value {
            fields.extend(own.clone());
        } else {
            fields.insert("value".to_owned(), evidence.value.clone());
        }
        let body = Body::Evidence { salt: evidence.salt, value: Value::Object(fields) };
        Record { at, kind, subject, body }
    }
}

/// The header as it is read back.
#[derive(Deserialize)]
pub(crate) struct Header {
    at: Timestamp,
    kind: String,
    cycle_id: Option<Uuid>,
    run_id: Option<Uuid>,
    body_class: String,
}

impl Header {
    /// The record at this position; `told` is the header of the record that tells of a body that is gone.
    pub(crate) fn stored(self, position: u64, body: Option<Value>, told: Option<Self>) -> StoredRecord {
        StoredRecord {
            position,
            at: self.at,
            kind: self.kind,
            cycle_id: self.cycle_id,
            run_id: self.run_id,
            body_class: self.body_class,
            body: body.unwrap_or(Value::Null),
            dropped_at: told.map(|told| told.at),
        }
    }
}
