//! Migrations: numbered SQL, each in one transaction, each remembered with its checksum. Forward only.
//!
//! Before the first one that a file lacks, the file is copied beside itself as `orbit.db.before-N` and the copy stays: it is what an older
//! binary can go back to.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use orbit_core::digest::Digest;
use rusqlite::{Connection, OpenFlags, params};

use super::backup;
use super::columns::Text;
use super::fault::{Attempt, Fault};
use crate::StoreError;

/// Every migration in order; the first is number 1.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../migrations/sqlite/0002_log.sql"),
];
/// The schema of a store that this binary has opened.
pub const SCHEMA: u32 = 2;
/// Space that must be left when a copy was made and the file has been changed, which may write all of it once more.
const SPACE_TIMES: u64 = 2;

/// The schema is the newest that this binary knows, or nothing has changed: a newer store is refused, and so is one whose migrations
/// were other ones.
pub(super) fn migrate(connection: &Connection, place: &str) -> Result<(), StoreError> {
    migrate_by(connection, place, None, &MIGRATIONS)
}

/// As `migrate`, for a file, which is copied before it is changed.
pub(super) fn migrate_file(connection: &Connection, place: &str, file: &Path) -> Result<(), StoreError> {
    migrate_by(connection, place, Some(file), &MIGRATIONS)
}

fn migrate_by(
    connection: &Connection,
    place: &str,
    file: Option<&Path>,
    migrations: &[&str],
) -> Result<(), StoreError> {
    let found = known_version_of(connection, place, migrations)?;
    let missing = migrations.get(usize::try_from(found).unwrap_or(usize::MAX)..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let kept = match file {
        Some(file) if found > 0 => Some(keep(connection, file, found + 1)?),
        Some(_) | None => None,
    };
    for (number, sql) in (found + 1..).zip(missing) {
        apply(connection, number, sql).map_err(|fault| fault.at(place))?;
    }
    if let Some(kept) = kept {
        let schema = migrations.len();
        tracing::info!(
            "`{place}` has schema {schema} now; as it was before, with schema {found}, it is kept in `{}`",
            kept.display()
        );
    }
    Ok(())
}

/// A database in memory as the first so many migrations make it.
pub(super) fn made_by(number: u32) -> Attempt<Connection> {
    let connection = Connection::open_in_memory()?;
    for (number, sql) in (1..=number).zip(MIGRATIONS) {
        apply(&connection, number, sql)?;
    }
    Ok(connection)
}

/// The number of the newest migration of a store, 0 of an empty file. One that is newer than this binary is refused, and so is one whose migrations
/// were other ones.
pub(super) fn known_version(connection: &Connection, place: &str) -> Result<u32, StoreError> {
    known_version_of(connection, place, &MIGRATIONS)
}

fn known_version_of(connection: &Connection, place: &str, migrations: &[&str]) -> Result<u32, StoreError> {
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    let found = version(connection).map_err(|fault| fault.at(place))?;
    if found > known {
        return Err(StoreError::Newer { place: place.to_owned(), found, known });
    }
    let applied = migrations.iter().take(usize::try_from(found).unwrap_or(usize::MAX));
    for (number, sql) in (1..).zip(applied) {
        is_same(connection, number, sql).map_err(|fault| fault.at(place))?;
    }
    Ok(found)
}

fn version(connection: &Connection) -> Attempt<u32> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'migrations')";
    if !connection.query_row(exists, (), |row| row.get(0))? {
        return Ok(0);
    }
    Ok(connection.query_row("SELECT coalesce(max(number), 0) FROM migrations", (), |row| row.get(0))?)
}

fn is_same(connection: &Connection, number: u32, sql: &str) -> Attempt<()> {
    let applied = "SELECT checksum FROM migrations WHERE number = ?1";
    let applied = connection.query_row(applied, [number], |row| row.get::<_, Text<Digest>>(0))?.0;
    if applied == Digest::of(sql.as_bytes()) {
        return Ok(());
    }
    Err(Fault::contradiction(format!(
        "its migration {number} is not the one of this binary: another build of the same version wrote it"
    )))
}

fn apply(connection: &Connection, number: u32, sql: &str) -> Attempt<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, checksum TEXT NOT NULL) STRICT",
    )?;
    transaction.execute_batch(sql)?;
    transaction.execute(
        "INSERT INTO migrations (number, checksum) VALUES (?1, ?2)",
        params![number, Text(Digest::of(sql.as_bytes()))],
    )?;
    Ok(transaction.commit()?)
}

/// The file as it is has a durable copy that is named after the migration to come. A copy of that name from an earlier try gives way to it.
fn keep(connection: &Connection, file: &Path, number: u32) -> Result<PathBuf, StoreError> {
    let failed = |error: io::Error| StoreError::Io {
        place: file.display().to_string(),
        message: format!("it could not be copied before its schema changes, and is unchanged: {error}"),
    };
    has_room(connection, file, SPACE_TIMES)?;
    let beside = |suffix: String| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (half, whole) = (beside(format!(".before-{number}.half")), beside(format!(".before-{number}")));
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    backup::copy(file, &half, &mut |_, _| ControlFlow::Continue(()))?;
    fs::rename(&half, &whole).map_err(failed)?;
    let folder = file.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(whole)
}

/// So many times the size of the file are free beside it.
pub(super) fn has_room(connection: &Connection, file: &Path, times: u64) -> Result<(), StoreError> {
    let place = file.display().to_string();
    let bytes: i64 = connection
        .query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", (), |row| {
            row.get(0)
        })
        .map_err(|error| Fault::from(error).at(&place))?;
    let needed = u64::try_from(bytes).unwrap_or(0).saturating_mul(times);
    let folder = file.parent().unwrap_or(Path::new("."));
    // Where it cannot be told, the copy itself finds out.
    let Ok(space) = nix::sys::statvfs::statvfs(folder) else { return Ok(()) };
    let free = space.blocks_available().saturating_mul(space.fragment_size());
    if free >= needed { Ok(()) } else { Err(StoreError::NoRoom { place, needed, free }) }
}

/// The schema of a file, which is not changed by this; none if there is no such file or it is no store.
pub fn schema_of(file: &Path) -> Option<u32> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags).ok()?;
    version(&connection).ok().filter(|found| *found > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (1);";
    const SECOND: &str = "ALTER TABLE a ADD COLUMN y INTEGER; UPDATE a SET y = 2;";
    /// Fails after it has changed something.
    const BROKEN: &str = "DROP TABLE a; CREATE TABLE b (x INTEGER) STRICT; INSERT INTO nowhere VALUES (1);";

    fn open(file: &Path) -> Connection {
        let connection = Connection::open(file).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_number_is_that_of_the_last_migration() {
        assert_eq!(u32::try_from(MIGRATIONS.len()).unwrap(), SCHEMA);
    }

    #[test]
    fn a_migration_that_fails_leaves_the_old_schema_and_its_copy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s.db");
        let connection = open(&file);
        migrate_by(&connection, "s", Some(&file), &[FIRST]).unwrap();
        let dump = || connection.query_row("SELECT * FROM a", (), |row| row.get::<_, i64>(0)).unwrap();
        for _ in 0..2 {
            // Again, with what the first try left: the same.
            migrate_by(&connection, "s", Some(&file), &[FIRST, BROKEN]).unwrap_err();
            assert_eq!((version(&connection).unwrap(), dump()), (1, 1));
            assert!(connection.is_autocommit());
        }
        drop(connection);
        assert_eq!(names(folder.path()), ["s.db", "s.db.before-2"]);
        // The older binary goes on with the file as it is.
        let connection = open(&file);
        migrate_by(&connection, "s", Some(&file), &[FIRST]).unwrap();
        // One that works takes both steps, or those before the one that fails.
        migrate_by(&connection, "s", Some(&file), &[FIRST, SECOND, BROKEN]).unwrap_err();
        assert_eq!(version(&connection).unwrap(), 2);
        migrate_by(&connection, "s", Some(&file), &[FIRST, SECOND]).unwrap();
        assert_eq!(connection.query_row("SELECT y FROM a", (), |row| row.get::<_, i64>(0)).unwrap(), 2);
    }

    #[test]
    fn the_copy_is_the_store_as_it_was() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s.db");
        let connection = open(&file);
        migrate_by(&connection, "s", Some(&file), &[FIRST]).unwrap();
        assert_eq!(
            names(folder.path()).iter().filter(|name| name.contains("before")).count(),
            0,
            "a new file"
        );
        migrate_by(&connection, "s", Some(&file), &[FIRST, SECOND]).unwrap();
        let kept = folder.path().join("s.db.before-2");
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!((schema_of(&kept), schema_of(&file)), (Some(1), Some(2)));
        let copy = Connection::open(&kept).unwrap();
        assert_eq!(copy.query_row("SELECT x FROM a", (), |row| row.get::<_, i64>(0)), Ok(1));
        let check: String = copy.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        assert_eq!(schema_of(&folder.path().join("nothing")), None);
    }

    #[test]
    fn without_a_copy_nothing_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s.db");
        let connection = open(&file);
        migrate_by(&connection, "s", Some(&file), &[FIRST]).unwrap();
        // A folder that lies where the copy should go.
        fs::create_dir_all(folder.path().join("s.db.before-2/x")).unwrap();
        let error = migrate_by(&connection, "s", Some(&file), &[FIRST, SECOND]).unwrap_err().to_string();
        assert!(error.contains("could not be copied before its schema changes"), "{error}");
        assert_eq!(version(&connection).unwrap(), 1);
    }
}
