//! `orbit doctor --rebuild`: the derived tables of every store are compared with its log and made from it again.
//!
//! The home is held meanwhile, so that no claim of a serving process can be in the way; the machine is not examined. Rows in a database are copied into a file first, where they are compared;
//! to make them again takes a database on which no node works, and the role that owns its tables.

use std::fmt::Write;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use orbit_engine::layout::Layout;
use orbit_store::StoreError;
use orbit_store::contract::rebuild::{RebuildMode, Rebuilt};
use orbit_store::sqlite::SqliteStore;
use orbit_store::transfer::{self, Progress, TransferError};
use serde::Serialize;

use crate::control::{HomeLock, LockError};
use crate::render::Terminal;
use crate::render::text::pad;
use crate::render::units::counted;
use crate::stores::Whole;

/// What a rebuild found in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamespaceRebuilt {
    /// The namespace.
    pub namespace: String,
    /// Whether its rows are what its log says now; else they were only compared.
    pub applied: bool,
    /// What was found.
    #[serde(flatten)]
    pub found: Rebuilt,
}

/// Why nothing more was rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The home is another process's.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A store could not be read or written, or its log contradicts itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The same of a database, or somebody works on it.
    #[error(transparent)]
    Database(#[from] TransferError),
}

/// Does it for every namespace that has a store, and for the node's own.
pub async fn rebuild(
    (layout, stores): (&Layout, &Whole),
    mode: RebuildMode,
    out: &Terminal,
) -> Result<Vec<NamespaceRebuilt>, RebuildError> {
    let _held = HomeLock::take(layout)?;
    let mut all = Vec::new();
    for namespace in stores.names(layout).await? {
        let bar = bar(namespace.as_str(), out.progress);
        let shown = bar.clone();
        let progress = move |done, total| {
            shown.set_length(total);
            shown.set_position(done);
        };
        let found = match stores {
            Whole::Files => {
                let store = SqliteStore::open(&layout.database(&namespace), &namespace)?;
                store.rebuild(mode, out.now, Arc::new(progress)).await.map_err(RebuildError::from)
            }
            Whole::Database(url) => {
                let copying = progress.clone();
                let mut copying = move |progress: Progress| copying(progress.done, progress.total);
                let (rows, copy) = ((url.expose(), &namespace), layout.scratch(&namespace));
                transfer::rebuild(rows, &copy, (mode, out.now), &mut copying, Arc::new(progress))
                    .await
                    .map_err(RebuildError::from)
            }
        };
        bar.finish_and_clear();
        let namespace = namespace.as_str().to_owned();
        all.push(NamespaceRebuilt { namespace, applied: mode == RebuildMode::Apply, found: found? });
    }
    Ok(all)
}

/// A bar over the records of a log, or the rows that are copied before; hidden unless standard error is a terminal.
fn bar(namespace: &str, is_shown: bool) -> ProgressBar {
    let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{prefix}  {wide_bar} {human_pos}/{human_len}  {eta}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), target).with_style(style).with_prefix(namespace.to_owned())
}

/// A line for each namespace, and below one for each table whose rows differed.
pub fn render(all: &[NamespaceRebuilt]) -> String {
    let mut shown = String::new();
    for NamespaceRebuilt { namespace, applied, found } in all {
        let differing = usize::try_from(found.differing()).unwrap_or(usize::MAX);
        let rows = usize::try_from(found.tables.iter().map(|table| table.rows).sum::<u64>());
        let rows = counted(rows.unwrap_or(usize::MAX), "row");
        let word = match (differing, applied) {
            (0, _) => "every one is what the log says".to_owned(),
            (_, true) => format!("{} made again from the log", counted(differing, "row")),
            (_, false) => format!("{} not what the log says", counted(differing, "row")),
        };
        _ = writeln!(shown, "{namespace}  {}, {rows}: {word}", counted_records(found.records));
        let widest = found.tables.iter().map(|table| table.table.len()).max().unwrap_or(0);
        for table in found.tables.iter().filter(|table| table.differing() > 0) {
            _ = writeln!(
                shown,
                "    {}  {} missing, {} changed, {} unknown, of {}",
                pad(table.table, widest),
                table.missing,
                table.changed,
                table.unknown,
                table.rows
            );
        }
    }
    if all.is_empty() {
        shown.push_str("there is no store yet\n");
    }
    shown
}

fn counted_records(records: u64) -> String {
    counted(usize::try_from(records).unwrap_or(usize::MAX), "record")
}

#[cfg(test)]
mod tests {
    use orbit_store::contract::rebuild::TableFound;

    use super::*;

    #[test]
    fn what_was_found_as_it_is_shown() {
        let table = |table, missing, unknown| TableFound { table, rows: 4, missing, changed: 0, unknown };
        let found = Rebuilt { records: 9, tables: vec![table("runs", 1, 2), table("halts", 0, 0)] };
        let whole = Rebuilt { records: 1, tables: vec![table("halts", 0, 0)] };
        let one = |name: &str, applied, found: &Rebuilt| NamespaceRebuilt {
            namespace: name.to_owned(),
            applied,
            found: found.clone(),
        };
        let expected = "\
studio  9 records, 8 rows: 3 rows made again from the log
    runs   1 missing, 0 changed, 2 unknown, of 4
studio  9 records, 8 rows: 3 rows not what the log says
    runs   1 missing, 0 changed, 2 unknown, of 4
system  1 record, 4 rows: every one is what the log says
";
        let all = [one("studio", true, &found), one("studio", false, &found), one("system", true, &whole)];
        assert_eq!(render(&all), expected);
        assert_eq!(render(&[]), "there is no store yet\n");
    }
}
