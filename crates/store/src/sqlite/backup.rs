//! A copy of a database while it is written to: one state of it, in a file that is complete by itself.
//!
//! The online backup API begins again when somebody else has written between two steps, and under load it would never end. So the
//! source is read in one transaction that lasts as long as the copy: the writer is not held up by it, and the pauses between steps leave it the
//! disk. What it costs is that the write-ahead log grows meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::columns::Micros;
use super::fault::{Attempt, Fault};
use super::prepare_connection;
use crate::StoreError;

/// Pages that are copied at once; a page has 4 KiB.
const STEP_PAGES: i32 = 256;
/// The pause between two steps.
const PAUSE: Duration = Duration::from_millis(1);
/// How often a step that finds the source busy is tried again.
const BUSY_TRIES: u32 = 1000;

/// Told how many pages of how many are copied; may end the copy.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// The target, which must not exist, is a durable and owner-only copy of one state of the database. False if it was ended; then, and after an
/// error, there is no target.
pub fn copy(database: &Path, target: &Path, progress: Progress<'_>) -> Result<bool, StoreError> {
    let place = target.display().to_string();
    make_new(target).map_err(|error| StoreError::Io { place: place.clone(), message: error.to_string() })?;
    let copied = copy_pages(database, target, progress)
        .and_then(|whole| if whole { make_plain(target).map(|()| true) } else { Ok(false) })
        .map_err(|fault| fault.at(&place));
    if !matches!(copied, Ok(true)) {
        _ = fs::remove_file(target);
    }
    copied
}

/// An empty file that only its owner may read.
pub(super) fn make_new(target: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).map(drop)
}

fn copy_pages(database: &Path, target: &Path, progress: Progress<'_>) -> Attempt<bool> {
    let source = Connection::open_with_flags(
        database,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    prepare_connection(&source)?;
    let mut copy = open_plain(target)?;
    // It is made durable as a whole.
    copy.pragma_update(None, "synchronous", "off")?;
    let reading = source.unchecked_transaction()?;
    // The state is chosen by the first read.
    reading.query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(()))?;
    let backup = Backup::new(&source, &mut copy)?;
    let mut busy = 0;
    loop {
        let step = backup.step(STEP_PAGES)?;
        let so_far = backup.progress();
        let [all, rest] = [so_far.pagecount, so_far.remaining].map(|pages| u64::try_from(pages).unwrap_or(0));
        if progress(all.saturating_sub(rest), all).is_break() {
            return Ok(false);
        }
        match step {
            StepResult::Done => break,
            StepResult::More => {}
            StepResult::Busy | StepResult::Locked if busy < BUSY_TRIES => busy += 1,
            StepResult::Busy | StepResult::Locked | _ => {
                return Err(Fault::contradiction("its database stays busy"));
            }
        }
        std::thread::sleep(PAUSE);
    }
    drop(backup);
    reading.finish()?;
    Ok(true)
}

/// Without a write-ahead log, so that the copy can be read where nothing may be written.
fn make_plain(target: &Path) -> Attempt<()> {
    let connection = open_plain(target)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = delete", (), |row| row.get(0))?;
    if mode != "delete" {
        return Err(Fault::contradiction(format!("the copy stays in journal mode `{mode}`")));
    }
    drop(connection);
    let durable = File::open(target).and_then(|file| file.sync_all());
    durable.map_err(|error| Fault::contradiction(format!("the copy is not durable: {error}")))
}

/// A connection that changes no setting of the file.
pub(super) fn open_plain(target: &Path) -> Attempt<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(target, flags)?)
}

/// The copy is a store that was restored at this instant: its log goes on under a new name from the next start. With a reason it is halted too,
/// unless it was; the record of that comes after the one of the new name.
pub fn mark_restored(copy: &Path, at: Timestamp, halt: Option<&str>) -> Result<(), StoreError> {
    let mark = || -> Attempt<()> {
        let connection = open_plain(copy)?;
        let transaction = connection.unchecked_transaction()?;
        transaction.execute("UPDATE store SET restored_at = ?1", [Micros(at)])?;
        if let Some(reason) = halt {
            let insert = "INSERT INTO halts (at, reason) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            transaction.execute(insert, rusqlite::params![Micros(at), reason])?;
        }
        Ok(transaction.commit()?)
    };
    mark().map_err(|fault| fault.at(&copy.display().to_string()))
}
