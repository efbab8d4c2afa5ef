//! The records in pages: what was found in the rows of one short transaction, and in one buffer the bytes of those that are followed.

use std::ops::Range;

use orbit_core::digest::Digest;
use orbit_core::record::audit::{Examined, Fault, Faults, Row, examine};
use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Rows};

use super::is_followed;
use crate::sqlite::fault::{Attempt, Fault as StoreFault};

/// Behind the last position that a record can have: there is a number behind each.
pub(super) const POSITIONS_END: i64 = i64::MAX;
/// Records of a page.
pub(super) const ROWS_MAX: usize = 4096;
/// Bytes that a page keeps: the record that reaches them is its last one.
const BYTES_MAX: usize = 4 * 1024 * 1024;

const RECORDS: &str =
    "SELECT position, header, leaf FROM log_records WHERE position >= ?1 AND position < ?2 ORDER BY position";
const BODIES: &str = "SELECT position, body, salt FROM log_bodies WHERE position >= ?1 ORDER BY position";
const TOMBSTONES: &str =
    "SELECT position, told_at FROM log_tombstones WHERE position >= ?1 ORDER BY position";

/// Reads page after page.
pub(super) struct Pages<'a> {
    connection: &'a Connection,
    /// Positions that were not read yet.
    left: Range<i64>,
}

/// Records of a page.
#[derive(Default)]
pub(super) struct Page {
    seen: Vec<Seen>,
    /// Of those that are followed.
    bytes: Vec<u8>,
}

/// What was found in a record by itself.
pub(super) struct Seen {
    /// Where it stands.
    pub(super) position: u64,
    /// Bytes of it that were hashed.
    pub(super) bytes: u64,
    /// What its header hashes to.
    pub(super) leaf: Digest,
    /// What is wrong with it.
    pub(super) faults: Vec<Fault>,
    /// The row, if more is to be done with it than to give it its place.
    kept: Option<Kept>,
}

/// Where the page has a row's bytes.
struct Kept {
    header: Range<usize>,
    leaf: Part,
    body: Part,
    salt: Part,
    dropped_at: Option<u64>,
}

type Part = Option<Range<usize>>;

impl<'a> Pages<'a> {
    /// Of the records at these positions.
    pub(super) const fn of(connection: &'a Connection, positions: Range<i64>) -> Self {
        Self { connection, left: positions }
    }

    /// From this position on.
    pub(super) fn after(connection: &'a Connection, size: u64) -> Self {
        Self::of(connection, i64::try_from(size).unwrap_or(POSITIONS_END)..POSITIONS_END)
    }

    /// The next page, in a transaction of its own. What lay in the one that is given is gone, but for its room.
    pub(super) fn next(&mut self, used: Page) -> Attempt<Option<Page>> {
        let transaction = self.connection.unchecked_transaction()?;
        let page = self.next_within(&transaction, used)?;
        transaction.finish()?;
        Ok(page)
    }

    /// The next page, in this transaction. None at the end.
    pub(super) fn next_within(&mut self, connection: &Connection, mut page: Page) -> Attempt<Option<Page>> {
        page.clear();
        let mut records = connection.prepare_cached(RECORDS)?;
        let mut records = records.query([self.left.start, self.left.end])?;
        // Three walks side by side, rather than a join that looks up each record's body.
        let (mut bodies, mut tombstones) =
            (connection.prepare_cached(BODIES)?, connection.prepare_cached(TOMBSTONES)?);
        let mut bodies = Walk::begin(bodies.query([self.left.start])?)?;
        let mut tombstones = Walk::begin(tombstones.query([self.left.start])?)?;
        while page.seen.len() < ROWS_MAX && page.bytes.len() < BYTES_MAX {
            let Some(record) = records.next()? else { break };
            let position: i64 = record.get(0)?;
            let (body, tombstone) = (bodies.at(position)?, tombstones.at(position)?);
            page.take(&Row {
                position: whole(position)?,
                header: text(record, 1)?.unwrap_or_default(),
                leaf: bytes(record, 2)?,
                body: body.map(|body| text(body, 1)).transpose()?.flatten(),
                salt: body.map(|body| bytes(body, 2)).transpose()?.flatten(),
                dropped_at: tombstone.map(|tombstone| whole(tombstone.get(1)?)).transpose()?,
            });
            self.left.start = position + 1;
        }
        Ok((!page.seen.is_empty()).then_some(page))
    }
}

/// Rows of a table beside the records, by position.
struct Walk<'s> {
    rows: Rows<'s>,
    /// The position of the row at which it stands.
    next: Option<i64>,
}

impl<'s> Walk<'s> {
    fn begin(rows: Rows<'s>) -> Attempt<Self> {
        let mut walk = Self { rows, next: None };
        walk.step()?;
        Ok(walk)
    }

    fn step(&mut self) -> Attempt<()> {
        self.next = self.rows.next()?.map(|row| row.get(0)).transpose()?;
        Ok(())
    }

    /// The table's row at this position, which is above the one before; where there is no record, rows are passed over.
    fn at(&mut self, position: i64) -> Attempt<Option<&rusqlite::Row<'s>>> {
        while self.next.is_some_and(|next| next < position) {
            self.step()?;
        }
        Ok(self.rows.get().filter(|_| self.next == Some(position)))
    }
}

/// A column's text. What is no text cannot be what was hashed: it differs all the same.
fn text<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Attempt<Option<&'a str>> {
    Ok(bytes(row, column)?.map(|bytes| str::from_utf8(bytes).unwrap_or("\u{fffd}")))
}

/// A column's text or blob; nothing of null. SQLite itself does not check what it has as a text.
fn bytes<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Attempt<Option<&'a [u8]>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Some(bytes)),
        ValueRef::Integer(_) | ValueRef::Real(_) => {
            Err(StoreFault::contradiction("a number in the place of a text in the log"))
        }
    }
}

fn whole(number: i64) -> Attempt<u64> {
    u64::try_from(number).map_err(|_| StoreFault::contradiction(format!("the position {number} in the log")))
}

impl Page {
    fn clear(&mut self) {
        self.seen.clear();
        self.bytes.clear();
    }

    /// Looks at a record by itself, where it lies: only what more is to be looked at is copied.
    fn take(&mut self, row: &Row<'_>) {
        let Examined { header, leaf, faults } = examine(row);
        let bytes = u64::try_from(row.header.len() + row.body.map_or(0, str::len)).unwrap_or(u64::MAX);
        let kept = header.as_ref().is_some_and(is_followed).then(|| Kept {
            header: self.keep(row.header.as_bytes()),
            leaf: row.leaf.map(|leaf| self.keep(leaf)),
            body: row.body.map(|body| self.keep(body.as_bytes())),
            salt: row.salt.map(|salt| self.keep(salt)),
            dropped_at: row.dropped_at,
        });
        self.seen.push(Seen { position: row.position, bytes, leaf, faults, kept });
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        begin..self.bytes.len()
    }

    /// The records in order, as they were seen, with their rows for whom it follows; see [`is_followed`].
    pub(super) fn seen(&self) -> impl Iterator<Item = (&Seen, Option<Row<'_>>)> {
        self.seen.iter().map(|seen| (seen, seen.kept.as_ref().map(|kept| self.row_of(seen, kept))))
    }

    fn row_of(&self, seen: &Seen, kept: &Kept) -> Row<'_> {
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        let text = |range: &Range<usize>| str::from_utf8(bytes(range)).unwrap_or_default();
        Row {
            position: seen.position,
            header: text(&kept.header),
            leaf: kept.leaf.as_ref().map(bytes),
            body: kept.body.as_ref().map(text),
            salt: kept.salt.as_ref().map(bytes),
            dropped_at: kept.dropped_at,
        }
    }
}

/// Rows at places that no position can be, or beyond the last record.
pub(super) fn strays(connection: &Connection, faults: &mut Faults) -> Attempt<()> {
    let stray = "no record can have this position";
    for (table, difference) in [("log_records", stray), ("log_bodies", stray), ("log_tombstones", stray)] {
        let sql = format!("SELECT position FROM {table} WHERE position < 0 OR position >= ?1 LIMIT 10");
        let mut statement = connection.prepare(&sql)?;
        for position in statement.query_map([POSITIONS_END], |row| row.get::<_, i64>(0))? {
            faults.add(Fault::of(table, format!("position {}", position?), difference));
        }
    }
    for table in ["log_bodies", "log_tombstones"] {
        let sql = format!(
            "SELECT position FROM {table} WHERE position > (SELECT coalesce(max(position), -1) FROM log_records) LIMIT 10"
        );
        let mut statement = connection.prepare(&sql)?;
        for position in statement.query_map((), |row| row.get::<_, i64>(0))? {
            faults.add(Fault::of(table, format!("position {}", position?), "there is no such record"));
        }
    }
    Ok(())
}
