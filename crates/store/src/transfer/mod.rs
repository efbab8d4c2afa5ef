//! A namespace's store moves from one backend to the other, whole: every row of every table, with ordinals, positions, nodes, checkpoints and small
//! payloads as they are. Nothing is decided or made anew, so that every proof that held before holds after.
//!
//! Nobody may serve either side meanwhile. The move can be broken off at any moment and begun again:
//!
//! 1. The target, which must be empty, is **marked** as arriving, with the size and root of the source's log. No store that is marked is opened.
//! 2. Tables are **copied** in the order of `table::TABLES`, each in the order of its key, a page a transaction. What is there of a table is therefore
//!    a beginning of it: a later try compares its last row with the source's and goes on after it.
//! 3. Both sides are **compared**, every row and column of every table by one digest, and the target's log is hashed anew as the audit does it: its
//!    root must be the source's.
//! 4. The target's mark is taken away, in the transaction that also says which snapshot is active and which epoch was the last. From here on the target
//!    is the store.
//! 5. The source is marked as gone, so that it is never served beside its copy: two logs of one name would fork. If the end comes before
//!    that, the next try finds a whole target with the same log and only does this. A try after that finds a source that is gone, and only looks
//!    whether the target's log begins with what it was.

mod error;
mod frozen;
mod look;
mod postgres;
mod rebuilt;
mod side;
mod sqlite;
mod table;
mod value;

use std::path::Path;

use orbit_core::config::NamespaceName;
use orbit_core::digest::{Digest, Hasher};
use orbit_core::record::audit::Sequence;
use orbit_core::record::tree::leaf_hash;

use crate::StoreError;
pub use error::TransferError;
pub use frozen::Frozen;
pub use look::{Found, is_there, look, set_aside};
pub use rebuilt::rebuild;
use side::{Side, Standing, Which, key_of, of};
use table::{TABLES, Table};
use value::Value;

/// Rows of a page.
const PAGE_ROWS_MAX: usize = 1000;
/// A page is not begun anew before so many bytes, but for its last row.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One side of a move.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// A file, which is made if it is not there.
    Sqlite(&'a Path),
    /// A database, by a URL or key=value list of a role that owns its tables.
    Postgres(&'a str),
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is done: `hash`, `copy` or `compare`.
    pub stage: &'static str,
    /// The table.
    pub table: &'static str,
    /// Its rows so far.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

/// The mark of a store whose rows are not all there.
const ARRIVING: &str = "arriving";
/// The mark of a store whose copy is the store now.
const GONE: &str = "gone";

/// What was moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Moved {
    /// Rows in the target, of all tables.
    pub rows: u64,
    /// Rows that this try has copied.
    pub copied: u64,
    /// Records in the log.
    pub size: u64,
    /// The root of the tree over them, computed from the target's rows.
    pub root: Option<Digest>,
    /// Whether an earlier try had come to its end, so that this one only looked.
    pub before: bool,
}

/// What a store that is marked says to who would serve it.
pub(crate) fn refusal(moved: &str) -> String {
    if moved.starts_with(ARRIVING) {
        format!("it is {moved}: it is not whole before its move has been made again, to its end")
    } else {
        format!(
            "it is {moved}: it lives in the other backend now, which `storage` in `orbit.yaml` has to name"
        )
    }
}

/// What a move has found out before it copies anything.
struct Begun {
    source: Side,
    target: Side,
    standing: Standing,
    log: Log,
    /// Whether the target has all of it and only the source's mark is missing.
    is_whole: bool,
}

/// How a move begins.
enum Begin {
    /// There is something to move, or at least to compare.
    Now(Box<Begun>),
    /// An earlier try had come to its end.
    Before(Moved),
}

/// Nothing stands in the way of a move, and the target is marked: nobody makes a store of its own there. So the stores of a home are all announced before
/// the first one is moved.
pub async fn announce(
    from: End<'_>,
    to: End<'_>,
    namespace: &NamespaceName,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), TransferError> {
    begin(from, to, namespace, progress).await.map(drop)
}

/// Moves a namespace's store. The source must be whole and served by nobody; the target empty, or what an earlier try has left of the same move. A move
/// that came to its end before is answered as one.
pub async fn transfer(
    from: End<'_>,
    to: End<'_>,
    namespace: &NamespaceName,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Moved, TransferError> {
    let Begun { source, target, standing, log, is_whole } = match begin(from, to, namespace, progress).await?
    {
        Begin::Now(begun) => *begun,
        Begin::Before(moved) => return Ok(moved),
    };
    let mut copied = 0;
    if !is_whole {
        for table in TABLES {
            copied += copy(table, (&source, &target), progress).await?;
        }
    }
    let rows = compare((&source, &target), progress).await?;
    let found = log_of(&target, None, progress).await?;
    if found != log {
        return Err(target.differs("its log has another root than the source's"));
    }
    target.stand(&Standing { moved: None, ..standing.clone() }).await?;
    source.stand(&Standing { moved: Some(mark(GONE, &log)), ..standing }).await?;
    Ok(Moved { rows, copied, size: found.size, root: Some(found.root), before: false })
}

async fn begin(
    from: End<'_>,
    to: End<'_>,
    namespace: &NamespaceName,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Begin, TransferError> {
    let (source, target) = (Side::open(from, namespace).await?, Side::open(to, namespace).await?);
    for side in [&source, &target] {
        side.hold().await?;
    }
    let standing = source.standing().await?;
    if let Some(moved) = &standing.moved {
        return came_to_its_end(&source, &target, moved, progress).await.map(Begin::Before);
    }
    if let (Side::Postgres(rows), End::Postgres(config)) = (&source, from) {
        rows.settle(config, namespace).await?;
    }
    let log = log_of(&source, None, progress).await?;
    let arriving = mark(ARRIVING, &log);
    let mut is_whole = false;
    match target.standing().await?.moved {
        None if target.is_empty().await? => {
            target.stand(&Standing { moved: Some(arriving), ..Standing::default() }).await?;
        }
        None if log_of(&target, None, progress).await? == log => is_whole = true,
        None => return Err(target.occupied()),
        Some(moved) if moved == arriving => {}
        Some(moved) if moved.starts_with(GONE) => return Err(target.left(&moved)),
        Some(_) => return Err(target.changed()),
    }
    Ok(Begin::Now(Box::new(Begun { source, target, standing, log, is_whole })))
}

fn mark(word: &str, log: &Log) -> String {
    format!("{word}: {} records, root {}", log.size, log.root)
}

/// What a mark says of the log.
fn log_in(moved: &str) -> Option<Log> {
    let (size, root) = moved.split_once(": ")?.1.split_once(" records, root ")?;
    Some(Log { size: size.parse().ok()?, root: root.parse().ok()? })
}

/// The source has a mark: of a move that has come to its end, if the target's log begins with what the source was.
async fn came_to_its_end(
    source: &Side,
    target: &Side,
    moved: &str,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Moved, TransferError> {
    let gone = log_in(moved).filter(|_| moved.starts_with(GONE));
    let (Some(gone), None) = (gone, target.standing().await?.moved) else {
        return Err(source.marked(moved));
    };
    let begins = log_of(target, Some(gone.size), progress).await?;
    if begins != gone {
        return Err(source.marked(moved));
    }
    Ok(Moved { rows: 0, copied: 0, size: begins.size, root: Some(begins.root), before: true })
}

/// Copies what the target lacks of a table; how many rows that were.
async fn copy(
    table: Table,
    (source, target): (&Side, &Side),
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<u64, TransferError> {
    let columns = source.columns(table).await?;
    if target.columns(table).await? != columns {
        return Err(target.differs(format!("`{}` has other columns than the source's", table.name)));
    }
    let total = source.count(table).await?;
    let mut done = target.count(table).await?;
    let mut after = target.last(table, &columns).await?;
    if let Some(last) = &after {
        let same = source.page(table, &columns, &Which::At(key_of(table, &columns, last))).await?;
        if same.first() != Some(last) {
            return Err(
                target.differs(format!("the last row of `{}` is not one of the source's", table.name))
            );
        }
    }
    let before = done;
    loop {
        let which = after.as_ref().map_or(Which::All, |row| Which::After(key_of(table, &columns, row)));
        let page = source.page(table, &columns, &which).await?;
        let Some(last) = page.last() else { return Ok(done - before) };
        target.insert(table, &columns, &page).await?;
        done += page.len() as u64;
        after = Some(last.clone());
        progress(Progress { stage: "copy", table: table.name, done, total: total.max(done) });
    }
}

/// Compares every row of every table; how many there are.
async fn compare(
    (source, target): (&Side, &Side),
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<u64, TransferError> {
    let mut rows = 0;
    for table in TABLES {
        let (here, there) = (digest(table, source, progress).await?, digest(table, target, progress).await?);
        if here != there {
            let (name, here, there) = (table.name, here.1, there.1);
            return Err(target.differs(format!("`{name}` differs: {there} rows, and {here} in the source")));
        }
        rows += there.1;
    }
    Ok(rows)
}

/// The digest of a table's rows in order, and how many there are.
async fn digest(
    table: Table,
    side: &Side,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(Digest, u64), StoreError> {
    let columns = side.columns(table).await?;
    let (mut hasher, mut done, mut which) = (Hasher::default(), 0, Which::All);
    let total = side.count(table).await?;
    loop {
        let page = side.page(table, &columns, &which).await?;
        let Some(last) = page.last() else { return Ok((hasher.finish(), done)) };
        which = Which::After(key_of(table, &columns, last));
        for value in page.iter().flatten() {
            value.hash(&mut hasher);
        }
        done += page.len() as u64;
        progress(Progress { stage: "compare", table: table.name, done, total: total.max(done) });
    }
}

/// What a log is: its size and root.
#[derive(PartialEq, Eq)]
struct Log {
    size: u64,
    root: Digest,
}

/// Hashes the log anew, or so many of its first records.
async fn log_of(
    side: &Side,
    first: Option<u64>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Log, StoreError> {
    let [records, ..] = TABLES;
    let end = first.unwrap_or(u64::MAX);
    let (total, columns) = (side.count(records).await?, side.columns(records).await?);
    let (mut sequence, mut which) = (Sequence::default(), Which::All);
    loop {
        let page = side.page(records, &columns, &which).await?;
        let Some(last) = page.last() else { break };
        which = Which::After(key_of(records, &columns, last));
        for row in &page {
            let (Some(Value::Integer(position)), Some(Value::Text(header))) =
                (of(&columns, row, "position"), of(&columns, row, "header"))
            else {
                return Err(side.corrupt("a record without position or header"));
            };
            let leaf = leaf_hash(header.as_bytes());
            if sequence.size() == end {
                break;
            }
            if let Some(fault) = sequence.take(position.unsigned_abs(), leaf, |_, _, _| ()) {
                return Err(side.corrupt(fault.difference));
            }
        }
        let done = sequence.size();
        if done == end {
            break;
        }
        progress(Progress { stage: "hash", table: records.name, done, total: total.max(done) });
    }
    Ok(Log { size: sequence.size(), root: sequence.root() })
}
