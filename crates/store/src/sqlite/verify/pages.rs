//! The records in pages: rows of one short transaction, their bytes in one buffer.

use std::ops::Range;

use orbit_core::digest::Digest;
use orbit_core::record::audit::{Examined, Fault, Faults, Header, Row, examine};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Rows};

use crate::sqlite::fault::{Attempt, Fault as StoreFault};

/// Records of a page.
const ROWS_MAX: usize = 1024;
/// A page is not begun anew before so many bytes, but for its last record.
const BYTES_MAX: usize = 4 * 1024 * 1024;

const RECORDS: &str = "SELECT position, header, leaf FROM log_records WHERE position >= ?1 ORDER BY position";
const BODIES: &str = "SELECT position, body, salt FROM log_bodies WHERE position >= ?1 ORDER BY position";
const TOMBSTONES: &str =
    "SELECT position, told_at FROM log_tombstones WHERE position >= ?1 ORDER BY position";

/// Reads page after page.
pub(super) struct Pages<'a> {
    connection: &'a Connection,
    next: i64,
}

/// Records as they lie in the tables.
#[derive(Default)]
pub(super) struct Page {
    seen: Vec<Seen>,
    bytes: Vec<u8>,
    rows: Vec<Stored>,
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
    /// Whether more is to be done with it than to give it its place.
    pub(super) is_followed: bool,
}

struct Stored {
    position: u64,
    header: Range<usize>,
    leaf: Part,
    body: Part,
    salt: Part,
    dropped_at: Option<u64>,
}

impl<'a> Pages<'a> {
    /// From the first record.
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, next: 0 }
    }

    /// From this position on.
    pub(super) fn after(connection: &'a Connection, size: u64) -> Self {
        Self { connection, next: i64::try_from(size).unwrap_or(i64::MAX) }
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
        let mut records = records.query([self.next])?;
        // Three walks side by side, rather than a join that looks up each record's body.
        let (mut bodies, mut tombstones) =
            (connection.prepare_cached(BODIES)?, connection.prepare_cached(TOMBSTONES)?);
        let mut bodies = Walk::begin(bodies.query([self.next])?, &mut page, body)?;
        let mut tombstones = Walk::begin(tombstones.query([self.next])?, &mut page, told_at)?;
        while page.rows.len() < ROWS_MAX && page.bytes.len() < BYTES_MAX {
            let Some(row) = records.next()? else { break };
            let position: i64 = row.get(0)?;
            let (header, leaf) =
                (page.keep(row.get_ref(1)?)?.unwrap_or_default(), page.keep(row.get_ref(2)?)?);
            let (body, salt) = bodies.take(position, &mut page)?.unwrap_or_default();
            let dropped_at = tombstones.take(position, &mut page)?;
            page.rows.push(Stored { position: whole(position)?, header, leaf, body, salt, dropped_at });
            self.next = position + 1;
        }
        Ok((!page.rows.is_empty()).then_some(page))
    }
}

/// Rows of a table beside the records, by position.
struct Walk<'s, T> {
    rows: Rows<'s>,
    read: fn(&rusqlite::Row<'_>, &mut Page) -> Attempt<T>,
    /// The row that is next.
    next: Option<(i64, T)>,
}

impl<'s, T> Walk<'s, T> {
    fn begin(
        rows: Rows<'s>,
        page: &mut Page,
        read: fn(&rusqlite::Row<'_>, &mut Page) -> Attempt<T>,
    ) -> Attempt<Self> {
        let mut walk = Self { rows, read, next: None };
        walk.step(page)?;
        Ok(walk)
    }

    fn step(&mut self, page: &mut Page) -> Attempt<()> {
        self.next = match self.rows.next()? {
            Some(row) => Some((row.get(0)?, (self.read)(row, page)?)),
            None => None,
        };
        Ok(())
    }

    /// What the table has at this position, which is above the one before; where there is no record, rows are passed over.
    fn take(&mut self, position: i64, page: &mut Page) -> Attempt<Option<T>> {
        while self.next.as_ref().is_some_and(|(next, _)| *next < position) {
            self.step(page)?;
        }
        let Some((_, found)) = self.next.take_if(|(next, _)| *next == position) else { return Ok(None) };
        self.step(page)?;
        Ok(Some(found))
    }
}

type Part = Option<Range<usize>>;

fn body(row: &rusqlite::Row<'_>, page: &mut Page) -> Attempt<(Part, Part)> {
    Ok((page.keep(row.get_ref(1)?)?, page.keep(row.get_ref(2)?)?))
}

fn told_at(row: &rusqlite::Row<'_>, _: &mut Page) -> Attempt<u64> {
    whole(row.get(1)?)
}

fn whole(number: i64) -> Attempt<u64> {
    u64::try_from(number).map_err(|_| StoreFault::contradiction(format!("the position {number} in the log")))
}

impl Page {
    fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
        self.seen.clear();
    }

    /// Copies a text or a blob to the end of the buffer; nothing of null.
    fn keep(&mut self, value: ValueRef<'_>) -> Attempt<Part> {
        let bytes = match value {
            ValueRef::Null => return Ok(None),
            // Texts are read as such below; SQLite itself does not check them.
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
            ValueRef::Integer(_) | ValueRef::Real(_) => {
                return Err(StoreFault::contradiction("a number in the place of a text in the log"));
            }
        };
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Ok(Some(begin..self.bytes.len()))
    }

    /// Looks at every record by itself, which `is_followed` says more of.
    pub(super) fn examine(&mut self, is_followed: fn(&Header<'_>) -> bool) {
        let mut seen = std::mem::take(&mut self.seen);
        seen.extend(self.rows.iter().map(|stored| {
            let row = self.row_of(stored);
            let Examined { header, leaf, faults } = examine(&row);
            let bytes = u64::try_from(row.header.len() + row.body.map_or(0, str::len)).unwrap_or(u64::MAX);
            let is_followed = header.as_ref().is_some_and(is_followed);
            Seen { position: row.position, bytes, leaf, faults, is_followed }
        }));
        self.seen = seen;
    }

    /// The records in order, as they were seen, with their rows for whom it follows.
    pub(super) fn seen(&self) -> impl Iterator<Item = (&Seen, Option<Row<'_>>)> {
        let rows = self.rows.iter().zip(&self.seen);
        rows.map(|(stored, seen)| (seen, seen.is_followed.then(|| self.row_of(stored))))
    }

    fn row_of(&self, row: &Stored) -> Row<'_> {
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        // What is no text cannot be what was hashed: it differs all the same.
        let text = |range: &Range<usize>| std::str::from_utf8(bytes(range)).unwrap_or("\u{fffd}");
        Row {
            position: row.position,
            header: text(&row.header),
            leaf: row.leaf.as_ref().map(bytes),
            body: row.body.as_ref().map(text),
            salt: row.salt.as_ref().map(bytes),
            dropped_at: row.dropped_at,
        }
    }
}

/// Rows at places that no position can be, or beyond the last record.
pub(super) fn strays(connection: &Connection, faults: &mut Faults) -> Attempt<()> {
    let stray = "no record can have this position";
    for (table, difference) in [("log_records", stray), ("log_bodies", stray), ("log_tombstones", stray)] {
        let sql = format!("SELECT position FROM {table} WHERE position < 0 LIMIT 10");
        let mut statement = connection.prepare(&sql)?;
        for position in statement.query_map((), |row| row.get::<_, i64>(0))? {
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
