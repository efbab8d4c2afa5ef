//! A folder elsewhere that holds a copy of every checkpoint, one file each, written durably and never again.
//!
//! `ANCHOR/NAMESPACE/ID/NUMBER.note`, where `ID` is the last part of the log's origin: a log that goes on under another name after a
//! restore has another folder. Whoever rewrites a log cannot make the copies agree, so what disagrees is an alarm.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use orbit_core::limits::NOTE_BYTES_MAX;
use orbit_store::contract::log::StoredCheckpoint;

/// What copies are called after their number.
const EXTENSION: &str = "note";

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
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut highest = None;
    for entry in entries {
        let name = PathBuf::from(entry?.file_name());
        if name.extension().is_some_and(|extension| extension == EXTENSION) {
            let number = name.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            highest = highest.max(number);
        }
    }
    Ok(highest)
}

/// The copy with the highest number.
pub(super) fn newest(folder: &Path) -> io::Result<Option<String>> {
    match highest(folder)? {
        Some(number) => read(&folder.join(format!("{number}.{EXTENSION}"))),
        None => Ok(None),
    }
}

/// The copy is there durably, unless another checkpoint is there under its number.
pub(super) fn put(folder: &Path, checkpoint: &StoredCheckpoint) -> io::Result<Put> {
    let path = folder.join(format!("{}.{EXTENSION}", checkpoint.number));
    if let Some(found) = read(&path)? {
        return Ok(if found == checkpoint.note { Put::There } else { Put::Conflict { found } });
    }
    make_folder(folder)?;
    let unfinished = folder.join(format!(".{}.unfinished", checkpoint.number));
    let mut file = File::create(&unfinished)?;
    file.write_all(checkpoint.note.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    File::open(folder)?.sync_all()?;
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
        assert_eq!(fs::read_to_string(folder.join("9.note")).unwrap(), "nine\n");
        fs::write(folder.join("readme.note"), "").unwrap();
        fs::write(folder.join("77.txt"), "").unwrap();
        assert_eq!(highest(&folder).unwrap(), Some(10));
        let names = fs::read_dir(&folder).unwrap().count();
        assert_eq!(names, 4, "nothing unfinished is left");
    }

    #[test]
    fn a_copy_that_was_not_finished_is_made_again() {
        let anchor = tempfile::tempdir().unwrap();
        fs::write(anchor.path().join(".3.unfinished"), "thr").unwrap();
        assert_eq!(highest(anchor.path()).unwrap(), None);
        assert_eq!(put(anchor.path(), &checkpoint(3, "three\n")).unwrap(), Put::There);
        assert_eq!(fs::read_to_string(anchor.path().join("3.note")).unwrap(), "three\n");
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
