//! A folder elsewhere that holds a copy of every checkpoint, one file each, written durably and never again.
//!
//! `ANCHOR/NAMESPACE/ID/SHELF/NUMBER.note`, where `ID` is the last part of the log's origin: a log that goes on under another name after a
//! restore has another folder. A shelf holds [`SHELF_NOTES`] numbers, so that no folder grows with the age of the log; its name is the number divided by
//! that. Copies that lie beside the shelves, as earlier versions put them, count as those on a shelf. Whoever rewrites a log cannot make the copies agree,
//! so what disagrees is an alarm.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use orbit_core::limits::NOTE_BYTES_MAX;
use orbit_store::contract::log::StoredCheckpoint;

/// What copies are called after their number.
const EXTENSION: &str = "note";

/// Numbers of a shelf: a log that is signed every second fills nine of them a day.
const SHELF_NOTES: u64 = 10_000;

/// How far copying has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Anchored {
    /// The folder.
    pub folder: PathBuf,
    /// The newest checkpoint that is there.
    pub number: Option<u64>,
    /// Why the last attempt failed; it is tried again.
    pub failure: Option<String>,
    /// What disagreed; work goes on, and somebody has to look.
    pub conflict: Option<String>,
}

/// What became of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is there, durably.
    There,
    /// Another checkpoint is there under the number, and stays.
    Conflict {
        /// The beginning of what is there.
        found: String,
    },
}

/// The folder of a log whose origin is `orbit/NAMESPACE/ID`.
pub(super) fn folder_of(anchor: &Path, origin: &str) -> PathBuf {
    origin.split('/').skip(1).fold(anchor.to_owned(), |folder, part| folder.join(part))
}

/// The highest number of which there is a copy. The folder need not be there yet.
pub(super) fn highest(folder: &Path) -> io::Result<Option<u64>> {
    let Listed { highest: beside, mut shelves } = list(folder)?;
    shelves.sort_unstable();
    // A crash may leave a shelf on which nothing lies yet.
    while let Some((_, shelf)) = shelves.pop() {
        if let Some(highest) = list(&shelf)?.highest {
            return Ok(Some(highest).max(beside));
        }
    }
    Ok(beside)
}

/// What lies in a folder.
#[derive(Default)]
struct Listed {
    /// The highest number of a copy.
    highest: Option<u64>,
    /// Folders that are named by a number.
    shelves: Vec<(u64, PathBuf)>,
}

fn list(folder: &Path) -> io::Result<Listed> {
    let mut listed = Listed::default();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(listed),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        let Some(number) = name.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()) else {
            continue;
        };
        if name.extension().is_some_and(|extension| extension == EXTENSION) {
            listed.highest = listed.highest.max(Some(number));
        } else if name.extension().is_none() && entry.file_type()?.is_dir() {
            listed.shelves.push((number, entry.path()));
        }
    }
    Ok(listed)
}

/// The copy with the highest number.
pub(super) fn newest(folder: &Path) -> io::Result<Option<String>> {
    match highest(folder)? {
        Some(number) => find(folder, number),
        None => Ok(None),
    }
}

fn shelf_of(folder: &Path, number: u64) -> PathBuf {
    folder.join((number / SHELF_NOTES).to_string())
}

/// The copy of this number, on its shelf or beside the shelves.
fn find(folder: &Path, number: u64) -> io::Result<Option<String>> {
    let name = format!("{number}.{EXTENSION}");
    match read(&shelf_of(folder, number).join(&name))? {
        Some(found) => Ok(Some(found)),
        None => read(&folder.join(name)),
    }
}

/// The copy is there durably, unless another checkpoint is there under its number.
pub(super) fn put(folder: &Path, checkpoint: &StoredCheckpoint) -> io::Result<Put> {
    if let Some(found) = find(folder, checkpoint.number)? {
        return Ok(if found == checkpoint.note { Put::There } else { Put::Conflict { found } });
    }
    let shelf = shelf_of(folder, checkpoint.number);
    make_folder(&shelf)?;
    let unfinished = shelf.join(format!(".{}.unfinished", checkpoint.number));
    let mut file = File::create(&unfinished)?;
    file.write_all(checkpoint.note.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, shelf.join(format!("{}.{EXTENSION}", checkpoint.number)))?;
    File::open(&shelf)?.sync_all()?;
    Ok(Put::There)
}

/// The text of a copy, as far as one can be long.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(u64::try_from(NOTE_BYTES_MAX).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Makes the folders that are missing, each durable in the one above.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(Path::new("/"));
    make_folder(above)?;
    match fs::create_dir(folder) {
        Ok(()) => File::open(above)?.sync_all(),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orbit_core::digest::Digest;

    fn checkpoint(number: u64, note: &str) -> StoredCheckpoint {
        StoredCheckpoint { number, size: number + 1, root: Digest::of(b""), note: note.to_owned() }
    }

    #[test]
    fn copies_are_made_once_and_stay() {
        let anchor = tempfile::tempdir().unwrap();
        let folder = folder_of(anchor.path(), "orbit/lab/0123456789abcdef");
        assert_eq!(folder, anchor.path().join("lab/0123456789abcdef"));
        assert_eq!(highest(&folder).unwrap(), None);
        assert_eq!(put(&folder, &checkpoint(9, "nine\n")).unwrap(), Put::There);
        assert_eq!(put(&folder, &checkpoint(10, "ten\n")).unwrap(), Put::There);
        assert_eq!(put(&folder, &checkpoint(9, "nine\n")).unwrap(), Put::There);
        let other = put(&folder, &checkpoint(9, "other\n")).unwrap();
        assert_eq!(other, Put::Conflict { found: "nine\n".to_owned() });
        assert_eq!(fs::read_to_string(folder.join("0/9.note")).unwrap(), "nine\n");
        for name in ["0/readme.note", "0/77.txt", "readme.note", "77.txt"] {
            fs::write(folder.join(name), "").unwrap();
        }
        assert_eq!(highest(&folder).unwrap(), Some(10));
        let names = fs::read_dir(folder.join("0")).unwrap().count();
        assert_eq!(names, 4, "nothing unfinished is left");
    }

    #[test]
    fn a_copy_that_was_not_finished_is_made_again() {
        let anchor = tempfile::tempdir().unwrap();
        fs::create_dir(anchor.path().join("0")).unwrap();
        fs::write(anchor.path().join("0/.3.unfinished"), "thr").unwrap();
        assert_eq!(highest(anchor.path()).unwrap(), None);
        assert_eq!(put(anchor.path(), &checkpoint(3, "three\n")).unwrap(), Put::There);
        assert_eq!(fs::read_to_string(anchor.path().join("0/3.note")).unwrap(), "three\n");
    }

    #[test]
    fn no_folder_holds_more_than_a_shelf_does() {
        let anchor = tempfile::tempdir().unwrap();
        let folder = anchor.path();
        for (number, shelf) in [(SHELF_NOTES - 1, "0"), (SHELF_NOTES, "1"), (25 * SHELF_NOTES + 7, "25")] {
            let note = format!("{number}\n");
            assert_eq!(put(folder, &checkpoint(number, &note)).unwrap(), Put::There);
            assert_eq!(fs::read_to_string(folder.join(shelf).join(format!("{number}.note"))).unwrap(), note);
            assert_eq!(highest(folder).unwrap(), Some(number));
            assert_eq!(newest(folder).unwrap(), Some(note));
        }
        // As a crash leaves it.
        fs::create_dir(folder.join("26")).unwrap();
        fs::write(folder.join("26/.260000.unfinished"), "26").unwrap();
        assert_eq!(highest(folder).unwrap(), Some(25 * SHELF_NOTES + 7));
    }

    #[test]
    fn copies_beside_the_shelves_count_as_those_on_one() {
        let anchor = tempfile::tempdir().unwrap();
        let folder = anchor.path();
        for number in [9, 10, 20_000] {
            fs::write(folder.join(format!("{number}.note")), format!("{number}\n")).unwrap();
        }
        assert_eq!(highest(folder).unwrap(), Some(20_000));
        assert_eq!(newest(folder).unwrap(), Some("20000\n".to_owned()));
        assert_eq!(put(folder, &checkpoint(9, "9\n")).unwrap(), Put::There);
        let other = put(folder, &checkpoint(10, "other\n")).unwrap();
        assert_eq!(other, Put::Conflict { found: "10\n".to_owned() });
        assert!(!folder.join("0").exists(), "what is there is not copied again");
        assert_eq!(put(folder, &checkpoint(20_001, "20001\n")).unwrap(), Put::There);
        assert!(folder.join("2/20001.note").exists());
        assert_eq!(
            (highest(folder).unwrap(), newest(folder).unwrap()),
            (Some(20_001), Some("20001\n".to_owned()))
        );
        fs::write(folder.join("30000.note"), "30000\n").unwrap();
        assert_eq!(highest(folder).unwrap(), Some(30_000), "an earlier version went on for a while");
    }

    #[test]
    fn what_is_no_folder_is_a_failure() {
        let anchor = tempfile::tempdir().unwrap();
        let file = anchor.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(highest(&file).is_err());
        assert!(put(&file.join("below"), &checkpoint(0, "x")).is_err());
    }
}
