//! The fold of a log that is in a database: on a copy of its rows in a file, and what differs is carried over.
//!
//! The copy is a store as any in a file, so that what makes rows of the log is the same code (`sqlite::rebuild`). Then both sides are walked through in the order of their
//! keys, table by table, and rows of the database become those of the copy, in one transaction, with the record that tells of it. From before the copy is made until that is committed
//! this session has the lock under which every other change of the namespace is made, so that nothing comes between.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use orbit_core::config::NamespaceName;
use orbit_core::record::{Kind, Record, Subject};
use serde_json::json;

use super::side::{Side, Standing, Which, key_of};
use super::table::Table;
use super::value::{Row, Value};
use super::{Frozen, PAGE_ROWS_MAX, Progress, TransferError, postgres, sqlite};
use crate::StoreError;
use crate::contract::rebuild::{RebuildMode, Rebuilt};
use crate::postgres::owner_session;
use crate::sqlite::SqliteStore;
use crate::sqlite::rebuild as fold;

const fn table(name: &'static str, key: &'static [&'static str], counted: bool) -> Table {
    Table { name, key, counted }
}

/// Derived tables, those that others refer to first, and what tells their rows apart whatever number the database gave them.
const DERIVED: [Table; 16] = [
    table("schedule_cursors", &["run_profile_id"], false),
    table("cycles", &["cycle_id"], true),
    table("initiations", &["initiation_id"], true),
    table("initiation_holds", &["scope", "hash"], false),
    table("lanes", &["lane"], true),
    table("runs", &["run_id"], true),
    table("run_requests", &["run_id"], false),
    table("steps", &["run_id", "place"], false),
    table("work_done", &["key"], false),
    table("notify_cursor", &["position"], false),
    table("notices", &["notice_id"], true),
    table("deliveries", &["delivery_id"], true),
    table("attempts", &["delivery_id", "attempt"], false),
    table("endpoints", &["endpoint"], false),
    table("halts", &["ordinal"], true),
    table("processor_crashes", &["processor", "settings"], false),
];

/// What is done to rows that differ. Those that nobody knows of go first, so that none is in the way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Remove,
    Put,
}

/// Folds the log of a namespace and compares; with [`RebuildMode::Apply`] its rows are what the log says afterwards. `config` is of the role that owns the tables then; to compare it may be of the one
/// that serves stores. The copy lies at this path meanwhile. No node may work there while rows are made again.
pub async fn rebuild(
    (config, namespace): (&str, &NamespaceName),
    path: &Path,
    (mode, now): (RebuildMode, Timestamp),
    copying: &mut (dyn FnMut(Progress) + Send),
    folding: Arc<fold::Progress>,
) -> Result<Rebuilt, TransferError> {
    let there = match mode {
        RebuildMode::Compare => None,
        RebuildMode::Apply => Some(alone(config, namespace).await?),
    };
    let _copy = Frozen::of(config, namespace, path, copying).await?;
    let store = SqliteStore::open(path, namespace)?;
    let found = store.rebuild_copy(mode, now, folding).await?;
    drop(store);
    if let Some(there) = there {
        let copy = Side::Sqlite(sqlite::File::open(path, namespace)?);
        there.batch("BEGIN").await?;
        let there = Side::Postgres(Box::new(there));
        carry_over((&copy, &there), &found, now).await?;
        if let Side::Postgres(there) = &there {
            there.batch("COMMIT").await?;
        }
    }
    Ok(found)
}

/// A session that alone may change the namespace, where no node works.
async fn alone(config: &str, namespace: &NamespaceName) -> Result<postgres::Namespace, TransferError> {
    let (session, place) = owner_session(config, namespace).await?;
    let there = postgres::Namespace::over(session, namespace.to_string(), place);
    there.hold().await?;
    there.hold_writers().await?;
    if let Some(node) = there.worker().await? {
        return Err(TransferError::Worked { place: there.place().to_owned(), node });
    }
    Ok(there)
}

/// The rows of the database are those of the copy, and a record tells of it.
async fn carry_over(
    (copy, there): (&Side, &Side),
    found: &Rebuilt,
    now: Timestamp,
) -> Result<(), StoreError> {
    let differs =
        |table: &&Table| found.tables.iter().any(|one| one.table == table.name && one.differing() > 0);
    for table in DERIVED.iter().rev().filter(differs) {
        each(*table, (copy, there), Act::Remove).await?;
    }
    for table in DERIVED.iter().filter(differs) {
        each(*table, (copy, there), Act::Put).await?;
    }
    let standing =
        Standing { active_snapshot: copy.standing().await?.active_snapshot, ..there.standing().await? };
    there.stand(&standing).await?;
    if let Side::Postgres(there) = there {
        let body = json!({ "records": found.records, "tables": found.tables });
        there.add(Record::fact(now, Kind::TablesRebuilt, Subject::default(), body).seal()).await?;
    }
    Ok(())
}

/// Does it to every row of the table that differs.
async fn each(table: Table, (copy, there): (&Side, &Side), act: Act) -> Result<(), StoreError> {
    let Side::Postgres(database) = there else { return Ok(()) };
    let columns = copy.columns(table).await?;
    let (mut from, mut to) = (Walk::of(copy, table, &columns), Walk::of(there, table, &columns));
    let (mut missing, mut changed, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let order = match (from.first().await?, to.first().await?) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(here), Some(there)) => {
                compare(&key_of(table, &columns, here), &key_of(table, &columns, there))
            }
        };
        match order {
            Ordering::Less => missing.extend(from.take()),
            Ordering::Greater => unknown.extend(to.take().map(|row| key_of(table, &columns, &row))),
            Ordering::Equal => changed.extend(from.take().filter(|row| to.take().as_ref() != Some(row))),
        }
        if missing.len().max(changed.len()).max(unknown.len()) >= PAGE_ROWS_MAX {
            write(database, (table, &columns), act, [&mut missing, &mut changed, &mut unknown]).await?;
        }
    }
    write(database, (table, &columns), act, [&mut missing, &mut changed, &mut unknown]).await
}

async fn write(
    database: &postgres::Namespace,
    (table, columns): (Table, &[String]),
    act: Act,
    [missing, changed, unknown]: [&mut Vec<Row>; 3],
) -> Result<(), StoreError> {
    match act {
        Act::Remove => database.remove(table, unknown).await?,
        Act::Put => {
            database.change(table, columns, changed).await?;
            if !missing.is_empty() {
                database.insert(table, columns, missing).await?;
            }
        }
    }
    for rows in [missing, changed, unknown] {
        rows.clear();
    }
    Ok(())
}

/// Keys are numbers and texts, which both backends order alike.
fn compare(one: &[Value], other: &[Value]) -> Ordering {
    let each = one.iter().zip(other).map(|(one, other)| match (one, other) {
        (Value::Integer(one), Value::Integer(other)) => one.cmp(other),
        (Value::Text(one), Value::Text(other)) => one.as_bytes().cmp(other.as_bytes()),
        (Value::Null | Value::Integer(_) | Value::Real(_) | Value::Text(_) | Value::Bytes(_), _) => {
            Ordering::Equal
        }
    });
    each.fold(Ordering::Equal, Ordering::then)
}

/// The rows of a table in order, a page at a time.
struct Walk<'a> {
    side: &'a Side,
    table: Table,
    columns: &'a [String],
    page: std::vec::IntoIter<Row>,
    which: Option<Which>,
}

impl<'a> Walk<'a> {
    fn of(side: &'a Side, table: Table, columns: &'a [String]) -> Self {
        Self { side, table, columns, page: Vec::new().into_iter(), which: Some(Which::All) }
    }

    /// The next row, which stays the next one.
    async fn first(&mut self) -> Result<Option<&Row>, StoreError> {
        if self.page.as_slice().is_empty()
            && let Some(which) = self.which.take()
        {
            let page = self.side.page(self.table, self.columns, &which).await?;
            self.which = page.last().map(|last| Which::After(key_of(self.table, self.columns, last)));
            self.page = page.into_iter();
        }
        Ok(self.page.as_slice().first())
    }

    fn take(&mut self) -> Option<Row> {
        self.page.next()
    }
}
