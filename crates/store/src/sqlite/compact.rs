//! A database that nobody has open gives back all the space that it does not need.
//!
//! One that was made before free pages went back to the disk by themselves never shrinks otherwise; afterwards it does. It is written anew beside
//! itself, looked at, and only then takes the place of the old file, so that whatever ends it leaves one of the two whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::fault::{Attempt, Fault};
use super::{backup, inspect, migrate, prepare_connection};
use crate::StoreError;

/// Steps of SQLite's virtual machine between two reports.
const REPORT_STEPS: i32 = 1_000_000;

/// What it came to, in bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Before.
    pub bytes_before: u64,
    /// Now.
    pub bytes_after: u64,
}

/// See the module. Told meanwhile are the bytes written so far, of how many at most. Refused where another process has the file open, where there is no
/// room for a second one, and where a newer version has written it; nothing has changed then.
pub fn compact(
    database: &Path,
    mut progress: impl FnMut(u64, u64) + Send + 'static,
) -> Result<Compacted, StoreError> {
    let place = database.display().to_string();
    let failed = |error: io::Error| StoreError::Io { place: place.clone(), message: error.to_string() };
    let half = half_of(database);
    let mut connection = open(database).map_err(|fault| fault.at(&place))?;
    if migrate::known_version(&connection, &place)? == 0 {
        return Err(Fault::contradiction("it is no store").at(&place));
    }
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    migrate::has_room(&connection, database, 1)?;
    alone(&connection).map_err(|fault| fault.at(&place))?;
    let bytes_before = length(database).map_err(failed)?;
    backup::make_new(&half).map_err(failed)?;
    let growing = half.clone();
    let report = move || {
        progress(length(&growing).unwrap_or(0), bytes_before);
        false
    };
    let written = write_anew(&mut connection, &half, report).map_err(|fault| fault.at(&place));
    drop(connection);
    let replaced = written.and_then(|()| {
        File::open(&half).and_then(|half| half.sync_all()).map_err(failed)?;
        fs::rename(&half, database).map_err(failed)?;
        let folder = database.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    });
    if replaced.is_err() {
        _ = fs::remove_file(&half);
    }
    replaced?;
    Ok(Compacted { bytes_before, bytes_after: length(database).map_err(failed)? })
}

fn half_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".compact");
    PathBuf::from(name)
}

fn length(file: &Path) -> io::Result<u64> {
    fs::metadata(file).map(|found| found.len())
}

fn open(database: &Path) -> Attempt<Connection> {
    let connection = backup::open_plain(database)?;
    prepare_connection(&connection)?;
    Ok(connection)
}

/// The write-ahead log is gone, all of it in the file: beside another file of the same name it would be its ruin. It stays where anybody else has the file
/// open.
fn alone(connection: &Connection) -> Attempt<()> {
    let mode: String = connection.query_row("PRAGMA journal_mode = delete", (), |row| row.get(0))?;
    if mode == "delete" {
        return Ok(());
    }
    Err(Fault::contradiction("another process has it open; nothing was changed"))
}

fn write_anew(
    connection: &mut Connection,
    half: &Path,
    report: impl FnMut() -> bool + Send + 'static,
) -> Attempt<()> {
    // What the new file is made with.
    connection.pragma_update(None, "auto_vacuum", "incremental")?;
    connection.progress_handler(REPORT_STEPS, Some(report))?;
    connection.execute("VACUUM INTO ?1", [half.display().to_string()])?;
    connection.progress_handler(0, None::<fn() -> bool>)?;
    inspect::is_sound(&backup::open_plain(half)?)
}
