//! The facts of the log, one after the other.

use jiff::Timestamp;
use orbit_core::digest::Digest;
use rusqlite::Connection;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::super::columns::{Json, Length};
use super::super::fault::{Attempt, Fault};
use super::super::record;
use super::{Progress, at_position};

/// Records between two calls of the progress.
const PROGRESS_RECORDS: u64 = 4096;

/// A fact as the fold reads it.
pub(super) struct Entry {
    /// Where it stands.
    pub(super) position: u64,
    /// When it was decided.
    pub(super) at: Timestamp,
    /// Its kind.
    pub(super) kind: String,
    cycle_id: Option<Uuid>,
    run_id: Option<Uuid>,
    profile_id: Option<Uuid>,
    snapshot: Option<Digest>,
    /// Its body.
    pub(super) body: Value,
}

#[derive(Deserialize)]
struct Header {
    at: Timestamp,
    kind: String,
    body_class: String,
    cycle_id: Option<Uuid>,
    run_id: Option<Uuid>,
    profile_id: Option<Uuid>,
    snapshot: Option<Digest>,
}

impl Entry {
    /// A field of the body that must be there.
    pub(super) fn field<T: DeserializeOwned>(&self, name: &str) -> Attempt<T> {
        T::deserialize(&self.body[name])
            .map_err(|error| Fault::contradiction(format!("`{name}` cannot be read: {error}")))
    }

    /// A field of the body, if it is there and not null.
    pub(super) fn optional<T: DeserializeOwned>(&self, name: &str) -> Attempt<Option<T>> {
        if self.body[name].is_null() { Ok(None) } else { self.field(name).map(Some) }
    }

    /// A text of the body that must be there.
    pub(super) fn text(&self, name: &str) -> Attempt<&str> {
        self.body[name]
            .as_str()
            .ok_or_else(|| Fault::contradiction(format!("`{name}` is no text: {}", self.body[name])))
    }

    /// The cycle that it is about.
    pub(super) fn cycle_id(&self) -> Attempt<Uuid> {
        named("cycle_id", self.cycle_id)
    }

    /// The run that it is about.
    pub(super) fn run_id(&self) -> Attempt<Uuid> {
        named("run_id", self.run_id)
    }

    /// The profile that it is about.
    pub(super) fn profile_id(&self) -> Attempt<Uuid> {
        named("profile_id", self.profile_id)
    }

    /// The snapshot under which it was decided.
    pub(super) fn snapshot(&self) -> Attempt<Digest> {
        named("snapshot", self.snapshot)
    }
}

fn named<T>(name: &str, value: Option<T>) -> Attempt<T> {
    value.ok_or_else(|| Fault::contradiction(format!("its header names no `{name}`")))
}

/// Does this with every fact in order; how many records there are, those that were not read included.
pub(super) fn each(
    tx: &Connection,
    progress: &Progress,
    mut act: impl FnMut(&Entry) -> Attempt<()>,
) -> Attempt<u64> {
    let total = record::count(tx)?;
    progress(0, total);
    let sql = "SELECT position, header, body FROM log_records LEFT JOIN log_bodies USING (position) ORDER BY position";
    let mut statement = tx.prepare(sql)?;
    let mut rows = statement.query(())?;
    let mut done = 0;
    while let Some(row) = rows.next()? {
        let position = row.get::<_, Length>("position")?.0;
        if position != done {
            return Err(Fault::contradiction(format!("the log has no record at position {done}")));
        }
        done += 1;
        if done.is_multiple_of(PROGRESS_RECORDS) {
            progress(done, total);
        }
        let header: Header = row.get::<_, Json<_>>("header")?.0;
        if header.body_class != "fact" {
            continue;
        }
        let Some(Json(body)) = row.get::<_, Option<Json<Value>>>("body")? else {
            return Err(Fault::contradiction(format!(
                "the body of the record at position {position} is gone"
            )));
        };
        let Header { at, kind, body_class: _, cycle_id, run_id, profile_id, snapshot } = header;
        let entry = Entry { position, at, kind, cycle_id, run_id, profile_id, snapshot, body };
        act(&entry).map_err(|fault| at_position(&entry, fault))?;
    }
    progress(total, total);
    Ok(done)
}
