//! The records in pages: rows of one short transaction, their bytes in one buffer.

use std::ops::Range;

use orbit_core::record::audit::{Fault, Faults, Row};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement};

use crate::sqlite::fault::{Attempt, Fault as StoreFault};

/// Records of a page.
const ROWS_MAX: usize = 1024;
/// A page is not begun anew before so many bytes, but for its last record.
const BYTES_MAX: usize = 4 * 1024 * 1024;

const SQL: &str = "SELECT position, header, leaf, body, salt, told_at
    FROM log_records LEFT JOIN log_bodies USING (position) LEFT JOIN log_tombstones USING (position)
    WHERE position >= ?1 ORDER BY position";

/// Reads page after page.
pub(super) struct Pages<'a> {
    connection: &'a Connection,
    next: i64,
}

/// Records as they lie in the tables.
#[derive(Default)]
pub(super) struct Page {
    bytes: Vec<u8>,
    rows: Vec<Stored>,
}

struct Stored {
    position: u64,
    header: Range<usize>,
    leaf: Option<Range<usize>>,
    body: Option<Range<usize>>,
    salt: Option<Range<usize>>,
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

    /// The next page, in a transaction of its own.
    pub(super) fn next(&mut self) -> Attempt<Option<Page>> {
        let transaction = self.connection.unchecked_transaction()?;
        let page = self.next_within(&transaction)?;
        transaction.finish()?;
        Ok(page)
    }

    /// The next page, in this transaction. None at the end.
    pub(super) fn next_within(&mut self, connection: &Connection) -> Attempt<Option<Page>> {
        let mut statement = connection.prepare_cached(SQL)?;
        let page = self.fill(&mut statement)?;
        Ok((!page.rows.is_empty()).then_some(page))
    }

    fn fill(&mut self, statement: &mut Statement<'_>) -> Attempt<Page> {
        let mut page = Page::default();
        let mut rows = statement.query([self.next])?;
        while page.rows.len() < ROWS_MAX && page.bytes.len() < BYTES_MAX {
            let Some(row) = rows.next()? else { break };
            let position: i64 = row.get(0)?;
            self.next = position + 1;
            let dropped_at: Option<i64> = row.get(5)?;
            let stored = Stored {
                position: whole(position)?,
                header: page.keep(row.get_ref(1)?)?.unwrap_or_default(),
                leaf: page.keep(row.get_ref(2)?)?,
                body: page.keep(row.get_ref(3)?)?,
                salt: page.keep(row.get_ref(4)?)?,
                dropped_at: dropped_at.map(whole).transpose()?,
            };
            page.rows.push(stored);
        }
        Ok(page)
    }
}

fn whole(number: i64) -> Attempt<u64> {
    u64::try_from(number).map_err(|_| StoreFault::contradiction(format!("the position {number} in the log")))
}

impl Page {
    /// Copies a text or a blob to the end of the buffer; nothing of null.
    fn keep(&mut self, value: ValueRef<'_>) -> Attempt<Option<Range<usize>>> {
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

    /// The records in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        // What is no text cannot be what was hashed: it differs all the same.
        let text = move |range: &Range<usize>| std::str::from_utf8(bytes(range)).unwrap_or("\u{fffd}");
        self.rows.iter().map(move |row| Row {
            position: row.position,
            header: text(&row.header),
            leaf: row.leaf.as_ref().map(bytes),
            body: row.body.as_ref().map(text),
            salt: row.salt.as_ref().map(bytes),
            dropped_at: row.dropped_at,
        })
    }
}

/// Bytes of a record that are hashed.
pub(super) fn bytes(row: &Row<'_>) -> u64 {
    u64::try_from(row.header.len() + row.body.map_or(0, str::len)).unwrap_or(u64::MAX)
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
