//! Every act of keeping a payload fails in turn: nothing is acknowledged that is not durable, and the same bytes can be kept afterwards.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use super::*;

/// An act.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    Write,
    Sync,
    Rename,
    SyncFolder,
}

/// The nth act fails, with this error; a write that fails has written half. What was synced and named is noted.
#[derive(Debug, Default)]
struct Failing {
    acts: Mutex<Vec<Act>>,
    fails: Mutex<Option<(usize, io::ErrorKind)>>,
    renamed: Mutex<Vec<PathBuf>>,
    armed: AtomicBool,
}

impl Failing {
    fn act(&self, act: Act) -> io::Result<()> {
        if !self.armed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut acts = self.acts.lock().unwrap();
        acts.push(act);
        match *self.fails.lock().unwrap() {
            Some((nth, kind)) if nth + 1 == acts.len() => Err(kind.into()),
            Some(_) | None => Ok(()),
        }
    }
}

impl Files for Failing {
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.act(Act::Write) {
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.act(Act::Sync)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(Act::Rename)?;
        self.renamed.lock().unwrap().push(from.to_owned());
        fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.act(Act::SyncFolder)?;
        File::open(folder)?.sync_all()
    }
}

fn bench() -> (tempfile::TempDir, Arc<Failing>, FolderBlobs) {
    let folder = tempfile::tempdir().unwrap();
    let files = Arc::new(Failing::default());
    let blobs = FolderBlobs::open_over(folder.path(), Arc::<Failing>::clone(&files)).unwrap();
    files.armed.store(true, Ordering::SeqCst);
    (folder, files, blobs)
}

#[test]
fn every_act_fails_in_turn_and_nothing_is_acknowledged_or_lost() {
    let bytes = vec![5; CHUNK_BYTES + 1];
    let golden = {
        let (_folder, files, blobs) = bench();
        blobs.put_bytes(&bytes).unwrap();
        files.acts.lock().unwrap().clone()
    };
    // Two chunks; the new shard's name; the payload's.
    let expected = [Act::Write, Act::Write, Act::Sync, Act::SyncFolder, Act::Rename, Act::SyncFolder];
    assert_eq!(golden, expected);
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for nth in 0..golden.len() {
            let (_folder, files, blobs) = bench();
            *files.fails.lock().unwrap() = Some((nth, kind));
            let error = blobs.put_bytes(&bytes).unwrap_err();
            let full = matches!(error, BlobError::Full { .. });
            assert_eq!(full, kind == io::ErrorKind::StorageFull, "{:?}: {error}", golden[nth]);
            let incoming = fs::read_dir(blobs.folder.join(INCOMING)).unwrap().count();
            assert_eq!(incoming, 0, "{:?} leaves something half-written", golden[nth]);
            files.acts.lock().unwrap().clear();
            *files.fails.lock().unwrap() = None;
            let blob = blobs.put_bytes(&bytes).unwrap();
            assert_eq!(blobs.verify(blob.digest), Ok(blob.bytes));
            // Everything is done again, whatever had succeeded before: only the shard may have its name durably.
            let again = files.acts.lock().unwrap().clone();
            let shard_is_durable = nth > 3;
            assert_eq!(
                again.len(),
                golden.len() - usize::from(shard_is_durable),
                "{:?}: {again:?}",
                golden[nth]
            );
        }
    }
}

#[test]
fn after_a_failed_sync_the_payload_is_written_anew_under_another_name() {
    let (_folder, files, blobs) = bench();
    for nth in [1, 4] {
        // The file's own sync, then that of the name it has got.
        files.acts.lock().unwrap().clear();
        *files.fails.lock().unwrap() = Some((nth, io::ErrorKind::Other));
        blobs.put_bytes(&[u8::try_from(nth).unwrap(); 9]).unwrap_err();
        let mut names = files.renamed.lock().unwrap().drain(..).collect::<BTreeSet<_>>();
        let before = names.len();
        *files.fails.lock().unwrap() = None;
        let blob = blobs.put_bytes(&[u8::try_from(nth).unwrap(); 9]).unwrap();
        names.extend(files.renamed.lock().unwrap().drain(..));
        assert_eq!(names.len(), before + 1, "the bytes that are acknowledged are those of another file");
        assert_eq!(blobs.verify(blob.digest), Ok(9));
    }
}

#[test]
fn keeping_a_damaged_payload_again_mends_it_even_where_its_length_is_right() {
    let (_folder, _, blobs) = bench();
    let blob = blobs.put_bytes(b"whole").unwrap();
    let path = blobs.path(blob.digest);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, b"whOle").unwrap();
    blobs.put_bytes(b"whole").unwrap();
    assert_eq!(blobs.verify(blob.digest), Ok(5));
}
