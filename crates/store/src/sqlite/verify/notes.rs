//! Checkpoints that were kept elsewhere, however many: they lie in a temporary file, in the order of what they cover, rather than in memory.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use orbit_core::config::NamespaceName;
use orbit_core::record::audit::{Fault, Faults};
use orbit_core::record::checkpoint::Checkpoint;
use orbit_core::record::note::Note;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::StoreError;
use crate::sqlite::fault::{Attempt, Fault as StoreFault};

/// Where the file is made, in an error's words.
const PLACE: &str = "a temporary file for checkpoints";
/// Pages of the file that are in memory, in KiB; what is more is written out.
const CACHE_KIB: i64 = 2048;

/// `namespace` is empty where a note names none; `size` is null where it is no checkpoint.
const TABLE: &str =
    "CREATE TABLE notes (namespace TEXT NOT NULL, size INTEGER, name TEXT NOT NULL, text TEXT NOT NULL)";
/// Made when all are there, which sorts them at once.
const INDEX: &str = "CREATE INDEX in_order ON notes (namespace, size, name)";
const NEXT: &str = "SELECT size, name, text FROM (
        SELECT * FROM (SELECT size, name, text FROM notes WHERE namespace = ?1 AND (size, name) > (?2, ?3) ORDER BY size, name LIMIT 1)
        UNION ALL
        SELECT * FROM (SELECT size, name, text FROM notes WHERE namespace = '' AND (size, name) > (?2, ?3) ORDER BY size, name LIMIT 1))
    ORDER BY size, name LIMIT 1";
const BROKEN: &str =
    "SELECT name, text FROM notes WHERE namespace IN (?1, '') AND size IS NULL ORDER BY name";

/// See the module.
#[derive(Debug)]
pub struct Notes {
    connection: Mutex<Connection>,
    count: u64,
}

/// Those that a namespace's log is held against.
#[derive(Clone, Copy, Debug)]
pub struct Against<'a> {
    /// Of all namespaces.
    pub notes: &'a Notes,
    /// The one.
    pub namespace: &'a NamespaceName,
}

/// A checkpoint from elsewhere.
pub(super) struct Outside {
    pub(super) from: String,
    pub(super) note: Note,
    pub(super) claim: Checkpoint,
}

/// Takes a note: where it comes from, and its text.
pub type Taking<'a> = dyn FnMut(&str, &str) -> Result<(), StoreError> + 'a;

impl Notes {
    /// All that `fill` hands over, in any order.
    pub fn gather<E: From<StoreError>>(
        fill: impl FnOnce(&mut Taking<'_>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let failed = |fault: rusqlite::Error| StoreFault::from(fault).at(PLACE);
        let begin = || {
            // A path of nothing is a file that only this connection knows, and that goes with it.
            let connection = Connection::open("")?;
            for (name, value) in
                [("journal_mode", "OFF"), ("synchronous", "OFF"), ("locking_mode", "EXCLUSIVE")]
            {
                connection.pragma_update(None, name, value)?;
            }
            connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
            connection.execute_batch(TABLE)?;
            connection.execute_batch("BEGIN")?;
            Ok(connection)
        };
        let connection = begin().map_err(failed)?;
        let mut count = 0;
        fill(&mut |name, text| {
            let size = read(text).ok().map(|(_, claim)| i64::try_from(claim.size).unwrap_or(i64::MAX));
            let insert = "INSERT INTO notes (namespace, size, name, text) VALUES (?1, ?2, ?3, ?4)";
            let row = params![namespace_of(text), size, name, text];
            connection.prepare_cached(insert).and_then(|mut insert| insert.execute(row)).map_err(failed)?;
            count += 1;
            Ok(())
        })?;
        connection.execute_batch("COMMIT").and_then(|()| connection.execute_batch(INDEX)).map_err(failed)?;
        Ok(Self { connection: Mutex::new(connection), count })
    }

    /// How many there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The namespace whose log a note is of, by its first line; nothing if it names none.
fn namespace_of(text: &str) -> &str {
    let origin = text.lines().next().and_then(|origin| origin.strip_prefix("orbit/"));
    origin.and_then(|rest| rest.split('/').next()).unwrap_or_default()
}

fn read(text: &str) -> Result<(Note, Checkpoint), String> {
    fn words(error: impl Display) -> String {
        error.to_string()
    }
    let note = Note::parse(text).map_err(words)?;
    let claim = Checkpoint::from_text(note.text()).map_err(words)?;
    Ok((note, claim))
}

/// The checkpoints of a log, one after the other as it grows.
#[derive(Default)]
pub(super) struct InOrder<'a> {
    against: Option<Against<'a>>,
    next: Option<Outside>,
    /// Where that one stands.
    at: (i64, String),
}

impl<'a> InOrder<'a> {
    /// From the first on. What is no checkpoint is named.
    pub(super) fn begin(against: Option<Against<'a>>, faults: &mut Faults) -> Attempt<Self> {
        if let Some(Against { notes, namespace }) = against {
            let connection = notes.lock();
            let mut statement = connection.prepare(BROKEN)?;
            let mut rows = statement.query([namespace.as_str()])?;
            while let Some(row) = rows.next()? {
                let (name, text): (String, String) = (row.get(0)?, row.get(1)?);
                if let Err(error) = read(&text) {
                    faults.add(Fault::of("outside checkpoint", name, error));
                }
            }
        }
        let mut all = Self { against, next: None, at: (i64::MIN, String::new()) };
        all.step()?;
        Ok(all)
    }

    fn step(&mut self) -> Attempt<()> {
        let Some(Against { notes, namespace }) = self.against else { return Ok(()) };
        let connection = notes.lock();
        let mut statement = connection.prepare_cached(NEXT)?;
        let after = params![namespace.as_str(), self.at.0, self.at.1];
        let found = statement
            .query_row(after, |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })
            .optional()?;
        self.next = None;
        if let Some((size, from, text)) = found {
            let (note, claim) = read(&text).map_err(StoreFault::contradiction)?;
            self.at = (size, from.clone());
            self.next = Some(Outside { from, note, claim });
        }
        Ok(())
    }

    /// Whether there is one that covers no more than this.
    pub(super) fn is_due(&self, size: u64) -> bool {
        self.next.as_ref().is_some_and(|next| next.claim.size <= size)
    }

    /// The next one, if it covers no more than this.
    pub(super) fn take_up_to(&mut self, size: u64) -> Attempt<Option<Outside>> {
        let taken = self.next.take_if(|next| next.claim.size <= size);
        if taken.is_some() {
            self.step()?;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use orbit_core::digest::Digest;
    use orbit_core::record::Seed;

    use super::*;

    fn note(namespace: &str, size: u64) -> String {
        let origin = format!("orbit/{namespace}/0123456789abcdef");
        let signer = Seed::new([7; 32]).signer(namespace, &origin).unwrap();
        Checkpoint::new(origin, size, Digest::of(b"root")).sign(&signer).unwrap().to_string()
    }

    #[test]
    fn notes_come_in_the_order_of_what_they_cover() {
        let mut given: Vec<_> =
            (0..50).map(|number| (format!("{number}.note"), note("studio", 1 + number * 37 % 50))).collect();
        given.push(("twin.note".to_owned(), note("studio", 7)));
        given.push(("of another.note".to_owned(), note("lab", 3)));
        given.push(("notes.txt".to_owned(), "remember the milk\n".to_owned()));
        let notes = Notes::gather(|take| given.iter().try_for_each(|(name, text)| take(name, text))).unwrap();
        assert_eq!(notes.count(), 53);

        let (namespace, mut faults) = (NamespaceName::parse("studio").unwrap(), Faults::default());
        let against = Against { notes: &notes, namespace: &namespace };
        let mut in_order = InOrder::begin(Some(against), &mut faults).unwrap();
        assert_eq!(faults.kept.iter().map(|fault| &*fault.row).collect::<Vec<_>>(), ["notes.txt"]);
        let mut sizes = Vec::new();
        for size in 0..=40 {
            while let Some(outside) = in_order.take_up_to(size).unwrap() {
                assert_eq!((outside.claim.size, note("studio", size)), (size, outside.note.to_string()));
                sizes.push(size);
            }
        }
        assert_eq!(sizes.len(), 41);
        assert!(sizes.is_sorted());
        let mut beyond = 0;
        while in_order.take_up_to(u64::MAX).unwrap().is_some() {
            beyond += 1;
        }
        assert_eq!(beyond, 10);
    }

    #[test]
    fn nothing_is_given() {
        let mut in_order = InOrder::begin(None, &mut Faults::default()).unwrap();
        assert!(in_order.take_up_to(u64::MAX).unwrap().is_none());
    }
}
