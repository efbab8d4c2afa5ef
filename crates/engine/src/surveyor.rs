//! The surveyor: notes by the hour how much space is free where a namespace's data lies, so that it can be told when the disk will be full, and
//! keeps the ballast.
//!
//! The notes are a small file beside the store. They are a hint and no record: a file that is missing, damaged or older than what counts means only
//! that less is known. What follows from them is decided in `orbit_core::governance::forecast`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::governance::forecast::{Sample, next_sample, with_sample};
use orbit_core::limits::FREE_SPACE_EVERY;

use crate::gate::Cell;
use crate::namespace::Namespace;
use crate::service::{Service, Turn, TurnError};

/// Largest file of samples that is read, in bytes: far more than a week of them has.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What is known, oldest first; nothing where it cannot be read.
pub fn samples(file: &Path) -> Vec<Sample> {
    let small = fs::metadata(file).is_ok_and(|found| found.len() <= FILE_BYTES_MAX);
    let text = if small { fs::read(file).unwrap_or_default() } else { Vec::new() };
    serde_json::from_slice(&text).unwrap_or_default()
}

/// The file holds these samples, or those that it held before.
fn keep(file: &Path, samples: &[Sample]) -> io::Result<()> {
    let half = file.with_extension("half");
    let write = || {
        let mut made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
        made.write_all(&serde_json::to_vec(samples)?)?;
        File::sync_all(&made)?;
        fs::rename(&half, file)
    };
    let written = write();
    if written.is_err() {
        _ = fs::remove_file(&half);
    }
    written
}

/// See the module.
pub struct Surveyor {
    namespace: Arc<Namespace>,
    due: Cell<Option<Timestamp>>,
}

impl Surveyor {
    /// The surveyor of a namespace.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace, due: Cell::default() }
    }

    /// What was given up on a full disk is set aside again once there is space.
    async fn keep_ballast(&self) {
        let shared = Arc::clone(&self.namespace.shared);
        let keeping = move || shared.ballast().keep(&*shared.disk);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(keeping).await {
            tracing::debug!(%error, "no space could be set aside");
        }
    }

    /// Takes a sample if one is due; when the next one is.
    async fn survey(&self, now: Timestamp) -> Timestamp {
        let shared = Arc::clone(&self.namespace.shared);
        let name = self.namespace.name.clone();
        let surveying = tokio::task::spawn_blocking(move || {
            let file = shared.layout.free_space(&name);
            let known = samples(&file);
            let next = next_sample(&known, now);
            let free = shared.disk.free_bytes(&shared.layout.data(&name)).filter(|_| next <= now);
            let Some(free_bytes) = free else { return Some(next).filter(|next| *next > now) };
            // On a full disk nothing can be noted, and the next hour is soon enough.
            if let Err(error) = keep(&file, &with_sample(known, Sample { at: now, free_bytes })) {
                tracing::debug!(%error, "free space could not be noted");
            }
            None
        });
        let in_an_hour = now.checked_add(FREE_SPACE_EVERY.to_duration()).unwrap_or(now);
        surveying.await.ok().flatten().unwrap_or(in_an_hour)
    }
}

#[async_trait]
impl Service for Surveyor {
    fn name(&self) -> &'static str {
        "surveyor"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        self.keep_ballast().await;
        let now = self.namespace.shared.clock.now();
        // One that is further away than an hour was set before the clock was put back.
        let horizon = now.checked_add(FREE_SPACE_EVERY.to_duration()).unwrap_or(now);
        let due = self.due.get().filter(|due| *due > now && *due <= horizon);
        let next = match due {
            Some(due) => due,
            None => self.survey(now).await,
        };
        self.due.set(Some(next));
        Ok(Turn::idle(Some(next)))
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_known_and_what_is_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("free-space.json");
        assert!(samples(&file).is_empty());
        let sample = |second, free_bytes| Sample { at: Timestamp::from_second(second).unwrap(), free_bytes };
        let known = vec![sample(1, 5), sample(2, u64::MAX)];
        keep(&file, &known).unwrap();
        assert_eq!(samples(&file), known);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        for damaged in ["", "[{\"at\":", "[{\"at\": 5}]"] {
            fs::write(&file, damaged).unwrap();
            assert!(samples(&file).is_empty(), "{damaged}");
        }
        fs::write(&file, " ".repeat(usize::try_from(FILE_BYTES_MAX).unwrap()) + "[]").unwrap();
        assert!(samples(&file).is_empty());
        keep(&file, &known).unwrap();
        assert_eq!(samples(&file), known);
        keep(&folder.path().join("nowhere/free-space.json"), &known).unwrap_err();
    }
}
