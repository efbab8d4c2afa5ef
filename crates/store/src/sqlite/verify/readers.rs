//! Threads that read the log and look at each record by itself. Each takes the next range of positions that nobody has, so that a page is hashed by the
//! thread that read it; what they read is placed in the order of the log.

use std::num::NonZero;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use rusqlite::Connection;

use super::open;
use super::pages::{POSITIONS_END, Page, Pages, ROWS_MAX};
use crate::sqlite::fault::{Attempt, Fault};

/// More of them would wait for whoever places what they have read.
const READERS_MAX: usize = 4;
/// Ranges that are given out behind the one that is placed: each reader can have one.
const RANGES_WAITING_MAX: usize = READERS_MAX - 1;
/// Pages of one range that wait to be placed; a range has several where its records are long.
const PAGES_WAITING_MAX: usize = 1;

/// What readers share. When none of them is left, there is no next range either.
struct Log {
    ranges: Mutex<Ranges>,
    /// Pages go round, so that not each of them has to fault in new memory.
    used: Arc<Mutex<Vec<Page>>>,
}

struct Ranges {
    /// The first position that is not given out.
    next: i64,
    /// Takes what will come of each range, in order.
    order: SyncSender<Receiver<Attempt<Page>>>,
}

/// Hands page after page to `place`, in order, of every record that is there when it comes to the end. The first that fails ends
/// it.
pub(super) fn read(database: &Path, mut place: impl FnMut(&Page) -> Attempt<()>) -> Attempt<()> {
    let (order, ranges) = sync_channel(RANGES_WAITING_MAX);
    let used = Arc::default();
    let shared = Mutex::new(Ranges { next: 0, order });
    let log = Arc::new(Log { ranges: shared, used: Arc::clone(&used) });
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        for _ in 0..available_parallelism().map_or(1, NonZero::get).min(READERS_MAX) {
            let (log, connection) = (Arc::clone(&log), open(database)?);
            readers.push(scope.spawn(move || log.read(&connection)));
        }
        drop(log);
        for page in ranges.into_iter().flatten() {
            let page = page?;
            place(&page)?;
            locked(&used).push(page);
        }
        let panicked = readers.into_iter().any(|reader| reader.join().is_err());
        if panicked { Err(Fault::contradiction("a thread that reads the log panicked")) } else { Ok(()) }
    })
}

impl Log {
    /// Reads range after range, as long as there is one and somebody who places it.
    fn read(&self, connection: &Connection) {
        loop {
            let (to_place, pages) = sync_channel(PAGES_WAITING_MAX);
            let range = {
                let mut ranges = locked(&self.ranges);
                if ranges.order.send(pages).is_err() {
                    return;
                }
                ranges.take(connection)
            };
            let read = range.and_then(|range| match range {
                Some(range) => self.range(Pages::of(connection, range), &to_place),
                None => Ok(false),
            });
            match read {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => {
                    _ = to_place.send(Err(fault));
                    return;
                }
            }
        }
    }

    /// Whether somebody still places what is read.
    fn range(&self, mut pages: Pages<'_>, to_place: &SyncSender<Attempt<Page>>) -> Attempt<bool> {
        loop {
            let used = locked(&self.used).pop().unwrap_or_default();
            let Some(page) = pages.next(used)? else { return Ok(true) };
            if to_place.send(Ok(page)).is_err() {
                return Ok(false);
            }
        }
    }
}

impl Ranges {
    /// As many positions as a page has records, from the next one at which there is a record. None at the end.
    fn take(&mut self, connection: &Connection) -> Attempt<Option<Range<i64>>> {
        let sql = "SELECT min(position) FROM log_records WHERE position >= ?1 AND position < ?2";
        let first: Option<i64> =
            connection.prepare_cached(sql)?.query_row([self.next, POSITIONS_END], |row| row.get(0))?;
        let Some(first) = first else { return Ok(None) };
        self.next = first.saturating_add(i64::try_from(ROWS_MAX).unwrap_or(i64::MAX));
        Ok(Some(first..self.next))
    }
}

/// What a thread that panicked has left is as good as what it had found: it holds no half of anything.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use orbit_core::record::{Kind, Record, Subject};
    use rusqlite::params;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    /// A log with records at these positions; those at the second are of a run, and longer than half a page.
    fn log(folder: &Path, positions: &[i64], long: Range<i64>) {
        let connection = Connection::open(folder).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE log_records (position INTEGER PRIMARY KEY, header, leaf);
                CREATE TABLE log_bodies (position INTEGER PRIMARY KEY, body, salt);
                CREATE TABLE log_tombstones (position INTEGER PRIMARY KEY, told_at)",
            )
            .unwrap();
        let transaction = connection.unchecked_transaction().unwrap();
        for position in positions {
            let is_long = long.contains(position);
            let run_id = is_long.then(Uuid::nil);
            let body =
                json!({ "text": if is_long { "a".repeat(3 * 1024 * 1024) } else { position.to_string() } });
            let subject = Subject { run_id, ..Subject::default() };
            let sealed = Record::fact(Timestamp::UNIX_EPOCH, Kind::ServiceFailed, subject, body).seal();
            let sql = "INSERT INTO log_records (position, header) VALUES (?1, ?2)";
            transaction.prepare_cached(sql).unwrap().execute(params![position, sealed.header]).unwrap();
            let sql = "INSERT INTO log_bodies (position, body) VALUES (?1, ?2)";
            transaction.prepare_cached(sql).unwrap().execute(params![position, sealed.body]).unwrap();
        }
        transaction.commit().unwrap();
    }

    #[test]
    fn every_record_comes_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("orbit.db");
        let ranges = i64::try_from(ROWS_MAX).unwrap();
        let far = POSITIONS_END - 2;
        let positions: Vec<i64> =
            (0..=3 * ranges).chain(9 * ranges..9 * ranges + 7).chain(far..=far + 1).collect();
        log(&database, &positions, 5000..5006);
        let (mut found, mut pages, mut rows) = (Vec::new(), 0, 0);
        read(&database, |page| {
            pages += 1;
            for (seen, row) in page.seen() {
                assert!(seen.faults.is_empty(), "{}: {:?}", seen.position, seen.faults);
                assert_eq!(row.is_some(), (5000..5006).contains(&seen.position), "{}", seen.position);
                rows += row.map_or(0, |row| row.body.unwrap().len());
                found.push(i64::try_from(seen.position).unwrap());
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(found, positions);
        // Four ranges without a gap, one behind each gap, and two more pages as six long records fill three.
        assert_eq!(pages, 4 + 2 + 3);
        assert!(rows > 6 * 3 * 1024 * 1024, "{rows}");
    }

    #[test]
    fn what_fails_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("orbit.db");
        let records = i64::try_from(40 * ROWS_MAX).unwrap();
        log(&database, &(0..records).collect::<Vec<_>>(), 0..0);
        let mut pages = 0;
        let placed = read(&database, |_| {
            pages += 1;
            if pages < 3 { Ok(()) } else { Err(Fault::contradiction("no place")) }
        });
        assert!(matches!(placed, Err(Fault::Contradiction(message)) if message == "no place"));
        assert_eq!(pages, 3);
        let connection = Connection::open(&database).unwrap();
        connection.execute("UPDATE log_records SET header = 7 WHERE position = 20000", ()).unwrap();
        let mut placed = 0;
        let read = read(&database, |page| {
            placed += page.seen().count();
            Ok(())
        });
        assert!(
            matches!(read, Err(Fault::Contradiction(message)) if message.starts_with("a number in the place"))
        );
        assert_eq!(placed, 20000 / ROWS_MAX * ROWS_MAX, "what lies before it");
    }
}
