//! The fold of the whole log for a store in PostgreSQL: over a copy in a file, whose derived tables then take the place of those in the database.
//!
//! What folds is [`crate::sqlite::rebuild`], so that both backends have one. The derived rows of the database are replaced in one transaction, together with the record that
//! tells of it, and only if nothing has happened since the copy was made.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use orbit_core::config::NamespaceName;

use super::frozen::Frozen;
use super::postgres::Namespace;
use super::side::{Which, key_of, of};
use super::table::{TABLES, Table};
use super::value::Value;
use super::{Progress, sqlite};
use crate::StoreError;
use crate::contract::rebuild::{RebuildMode, Rebuilt};
use crate::postgres::{owner_session, position_everything};
use crate::sqlite::SqliteStore;
use crate::sqlite::rebuild::Progress as Folding;

/// Compares the derived tables with the log or makes them again, as the store in a file does. `config` may be of the role that serves stores; no node may work on
/// the namespace. The copy is made at `path`, which must be nobody else's.
pub async fn rebuild(
    (config, namespace): (&str, &NamespaceName),
    path: &Path,
    (mode, now): (RebuildMode, Timestamp),
    (copying, folding): (&mut (dyn FnMut(Progress) + Send), Arc<Folding>),
) -> Result<Rebuilt, StoreError> {
    let (session, place) = owner_session(config, namespace).await?;
    let rows = Namespace::over(session, namespace.to_string(), place);
    if let Some(node) = rows.worker().await? {
        let message = format!(
            "node `{node}` works on it: stop every node; the lease of one that was killed ends after 15 s"
        );
        return Err(StoreError::Refused { place: rows.place().to_owned(), message });
    }
    position_everything(config, namespace).await?;
    let frozen = Frozen::of(config, namespace, path, copying).await?;
    let store = SqliteStore::open(frozen.path(), namespace)?;
    let rebuilt = store.rebuild(mode, now, folding).await?;
    drop(store);
    if mode == RebuildMode::Apply {
        let copy = sqlite::File::open(frozen.path(), namespace)?;
        rows.batch("BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE").await?;
        put_back(&copy, &rows, (&frozen, rebuilt.differing() > 0)).await?;
        rows.batch("COMMIT").await?;
    }
    Ok(rebuilt)
}

/// Tables that are not derived: the log, and what is known by its digest.
fn is_primary(table: Table) -> bool {
    table.name.starts_with("log_") || matches!(table.name, "snapshots" | "payloads")
}

async fn put_back(
    copy: &sqlite::File,
    rows: &Namespace,
    (frozen, differs): (&Frozen, bool),
) -> Result<(), StoreError> {
    if !rows.is_still(frozen.positioned()).await? {
        let message = "something happened while its log was folded, so nothing was changed".to_owned();
        return Err(StoreError::Refused { place: rows.place().to_owned(), message });
    }
    if differs {
        for table in TABLES.into_iter().rev().filter(|table| !is_primary(*table)) {
            rows.clear(table).await?;
        }
        for table in TABLES.into_iter().filter(|table| !is_primary(*table)) {
            let (columns, mut which) = (rows.columns(table).await?, Which::All);
            loop {
                let page = copy.page(table, &columns, &which)?;
                let Some(last) = page.last() else { break };
                which = Which::After(key_of(table, &columns, last));
                rows.insert(table, &columns, &page).await?;
            }
        }
        rows.set_active(copy.standing()?.active_snapshot.as_ref()).await?;
    }
    let [records, bodies, ..] = TABLES;
    let text = |table: Table, name: &str| {
        let columns = vec![name.to_owned(), "position".to_owned()];
        let last = copy.last(table, &columns)?;
        match last.as_ref().and_then(|row| of(&columns, row, name)) {
            Some(Value::Text(text)) => Ok(text.clone()),
            Some(Value::Null | Value::Integer(_) | Value::Real(_) | Value::Bytes(_)) | None => {
                Err(StoreError::Corrupt {
                    place: copy.place().to_owned(),
                    message: "the record of the rebuild is not at the end of the log".to_owned(),
                })
            }
        }
    };
    rows.add_fact(&text(records, "header")?, &text(bodies, "body")?).await
}
