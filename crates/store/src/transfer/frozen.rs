//! The rows of a namespace in PostgreSQL as they are at one moment, in a file: for what reads a whole store and works on files.
//!
//! One transaction that only reads sees all of them, so nodes go on meanwhile. The file takes rows as they are, also those that no constraint would let through, so that
//! what was changed by hand is there to be found. Records that are durable and have no position yet follow those that have one, in their order: rows tell of them
//! already. Memory is bounded by a page; the file is as large as the rows, and goes with its owner.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use orbit_core::config::NamespaceName;
use orbit_core::digest::Digest;
use orbit_core::record::audit::{Faults, Sequence};
use orbit_core::record::key::Verifier;
use orbit_core::record::tree::{is_kept, leaf_hash};

use super::Progress;
use super::postgres::Namespace;
use super::side::{Which, key_of, of};
use super::sqlite;
use super::table::{TABLES, Table};
use super::value::{Row, Value};
use crate::StoreError;
use crate::blobs::Blobs;
use crate::postgres::owner_session;
use crate::sqlite::verify::{self, Against, Report, Request, verify};

/// See the module.
pub struct Frozen {
    path: PathBuf,
    positioned: u64,
    faults: Faults,
    /// Held so that nobody else writes the file.
    _file: File,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // What stays is overwritten by the next one.
        _ = std::fs::remove_file(&self.path);
        remove_beside(&self.path);
    }
}

/// The end of a log that is copied.
#[derive(Default)]
struct End {
    sequence: Sequence,
    nodes: Vec<(u8, u64, Digest)>,
}

impl End {
    fn take(&mut self, position: u64, header: &str) {
        let kept = &mut self.nodes;
        // What is missing here is found when the copy is verified.
        _ = self.sequence.take(position, leaf_hash(header.as_bytes()), |level, index, hash| {
            if is_kept(level) {
                kept.push((level, index, *hash));
            }
        });
    }
}

impl Frozen {
    /// Copies the namespace into a file at this path, which must be nobody else's. `config` may be of the role that serves stores: nothing is written.
    pub async fn of(
        config: &str,
        namespace: &NamespaceName,
        path: &Path,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Self, StoreError> {
        let file = take(path)?;
        let mut frozen =
            Self { path: path.to_owned(), positioned: 0, faults: Faults::default(), _file: file };
        let (session, place) = owner_session(config, namespace).await?;
        let source = Namespace::over(session, namespace.to_string(), place);
        source.batch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        frozen.faults.extend(source.unprotected().await?);
        let target = sqlite::File::loose(path, namespace)?;
        let triggers = target.without_triggers()?;
        let mut end = End::default();
        for table in TABLES {
            copy(table, (&source, &target), &mut end, progress).await?;
        }
        frozen.positioned = end.sequence.size();
        append(&source, &target, end).await?;
        target.stand(&source.standing().await?)?;
        target.batch(&triggers.join(";\n"))?;
        source.batch("ROLLBACK").await?;
        Ok(frozen)
    }

    /// Verifies the copy as a store in files is, and adds what protects the log and is not there in the database.
    pub fn verify(
        &self,
        blobs: Option<&Blobs>,
        (against, key): (Option<Against<'_>>, Option<Verifier>),
        progress: &mut dyn FnMut(verify::Progress),
    ) -> Result<Report, StoreError> {
        let positioned = Some(self.positioned);
        let mut report =
            verify(&Request { database: &self.path, blobs, against, key, positioned }, progress)?;
        let mut faults = self.faults.clone();
        let unkept = report.faults.count - u64::try_from(report.faults.kept.len()).unwrap_or(0);
        faults.extend(report.faults.kept);
        faults.count += unkept;
        report.faults = faults;
        Ok(report)
    }
}

/// The file, empty and this process's.
fn take(path: &Path) -> Result<File, StoreError> {
    let place = || path.display().to_string();
    let failed = |error: std::io::Error| StoreError::Io { place: place(), message: error.to_string() };
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let message = "another process has a copy there".to_owned();
            return Err(StoreError::Refused { place: place(), message });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).map_err(failed)?;
    remove_beside(path);
    Ok(file)
}

/// What SQLite keeps beside a file is gone.
fn remove_beside(path: &Path) {
    for beside in ["-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(beside);
        _ = std::fs::remove_file(PathBuf::from(name));
    }
}

async fn copy(
    table: Table,
    (source, target): (&Namespace, &sqlite::File),
    end: &mut End,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), StoreError> {
    let columns = source.columns(table).await?;
    let (total, mut done, mut which) = (source.count(table).await?, 0, Which::All);
    loop {
        let page = source.page(table, &columns, &which).await?;
        let Some(last) = page.last() else { return Ok(()) };
        which = Which::After(key_of(table, &columns, last));
        if table.name == "log_records" {
            for row in &page {
                note(&columns, row, end);
            }
        }
        target.insert(table, &columns, &page)?;
        done += page.len() as u64;
        progress(Progress { stage: "copy", table: table.name, done, total: total.max(done) });
    }
}

fn note(columns: &[String], row: &Row, end: &mut End) {
    if let (Some(Value::Integer(position)), Some(Value::Text(header))) =
        (of(columns, row, "position"), of(columns, row, "header"))
        && let Ok(position) = u64::try_from(*position)
    {
        end.take(position, header);
    }
    // Only what pending records complete has to be made here.
    end.nodes.clear();
}

/// Adds the records that wait for their positions.
async fn append(source: &Namespace, target: &sqlite::File, mut end: End) -> Result<(), StoreError> {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let [records, bodies, _, nodes, ..] = TABLES;
    let mut after = i64::MIN;
    loop {
        let page = source.pending(after).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.seq;
        let (mut of_records, mut of_bodies) = (Vec::new(), Vec::new());
        for pending in page {
            let position = end.sequence.size();
            let leaf = leaf_hash(pending.header.as_bytes());
            end.take(position, &pending.header);
            let position = Value::Integer(i64::try_from(position).unwrap_or(i64::MAX));
            let salt = pending.salt.map_or(Value::Null, Value::Bytes);
            of_records.push(vec![
                position.clone(),
                Value::Text(pending.header),
                Value::Bytes(leaf.0.to_vec()),
            ]);
            of_bodies.push(vec![position, Value::Text(pending.body), salt]);
        }
        target.insert(records, &names(&["position", "header", "leaf"]), &of_records)?;
        target.insert(bodies, &names(&["position", "body", "salt"]), &of_bodies)?;
        let made = end.nodes.drain(..).map(|(level, index, hash)| {
            let index = i64::try_from(index).unwrap_or(i64::MAX);
            vec![Value::Integer(level.into()), Value::Integer(index), Value::Bytes(hash.0.to_vec())]
        });
        target.insert(nodes, &names(&["level", "idx", "hash"]), &made.collect::<Vec<_>>())?;
    }
}
