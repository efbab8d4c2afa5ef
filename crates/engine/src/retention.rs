//! What is older than the namespace keeps it leaves: evidence, payloads, files that nobody names; then free pages go back to the disk.
//!
//! Everything happens in small steps that are whole by themselves. A crash between two of them, or between the commit that drops a payload
//! and the removal of its file, leaves nothing but a file without a name, which a later sweep removes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_store::StoreError;
use orbit_store::blobs::{BlobError, Blobs};
use orbit_store::contract::retention::{Amount, Older};
use serde::{Deserialize, Serialize};

use crate::gate::Cell;
use crate::namespace::Namespace;
use crate::service::{Service, Turn, TurnError};

/// Bodies, and payloads, that one step drops at most.
const STEP_MAX: u32 = 500;
/// What a dry run counts of each at most.
const COUNTED_MAX: u32 = 1_000_000;
/// Free pages that one step gives back at most.
const PAGES_MAX: u32 = 1024;
/// Folders of blobs.
const SHARDS: u16 = 256;
/// Folders that one step of a whole pass looks through.
const SHARDS_A_STEP: u16 = 16;
/// A file that nobody names is removed no earlier: who put it may be about to name it.
const FILE_AGE_MIN: Duration = Duration::from_hours(24);
/// What was moved to the trash of a bucket is judged no earlier, for the same reason.
const TRASH_AGE_MIN: Duration = FILE_AGE_MIN;
/// The pause between two rounds that find nothing.
const PAUSE: Duration = Duration::from_mins(1);

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Bodies of evidence.
    pub evidence: Amount,
    /// Payloads.
    pub artifacts: Amount,
    /// Files that nobody named.
    pub files: Amount,
}

impl Dropped {
    /// Counts all of another one.
    pub const fn extend(&mut self, other: Self) {
        self.evidence.extend(other.evidence);
        self.artifacts.extend(other.artifacts);
        self.files.extend(other.files);
    }
}

/// One step of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it dropped, or would drop.
    pub dropped: Dropped,
    /// Where the next one goes on; none after the last.
    pub next: Option<u16>,
}

/// What is too old now; none before the first activation.
fn older(namespace: &Namespace, limit: u32) -> Option<(Older, Older)> {
    let active = namespace.active()?;
    let retention = &active.config.retention;
    let now = namespace.shared.clock.now();
    let than = |kept: Duration| now.checked_sub(kept).unwrap_or(Timestamp::MIN);
    let evidence = Older { than: than(retention.evidence.to_duration()), limit };
    Some((evidence, Older { than: than(retention.artifacts.to_duration()), limit }))
}

/// One step of a whole pass, which begins with 0.
pub async fn step(namespace: &Namespace, from: u16) -> Result<Step, StoreError> {
    let _dropping = namespace.dropping.lock().await;
    let dropped = drop_old(namespace).await?;
    if dropped != Dropped::default() {
        return Ok(Step { dropped, next: Some(from) });
    }
    if from == 0 {
        of_blobs(namespace, Blobs::abort_left).await;
    }
    if from < SHARDS {
        let end = from.saturating_add(SHARDS_A_STEP);
        let files = sweep(namespace, from, end).await?;
        return Ok(Step { dropped: Dropped { files, ..dropped }, next: Some(end) });
    }
    let left = namespace.store.give_back(PAGES_MAX).await?;
    Ok(Step { dropped, next: (left > 0).then_some(from) })
}

/// What a pass would drop. Changes nothing; files that nobody names are not looked for.
pub async fn preview(namespace: &Namespace) -> Result<Step, StoreError> {
    let Some((evidence, payloads)) = older(namespace, COUNTED_MAX) else { return Ok(Step::default()) };
    let (evidence, artifacts) = namespace.store.droppable(evidence, payloads).await?;
    Ok(Step { dropped: Dropped { evidence, artifacts, files: Amount::default() }, next: None })
}

async fn drop_old(namespace: &Namespace) -> Result<Dropped, StoreError> {
    let Some((evidence, payloads)) = older(namespace, STEP_MAX) else { return Ok(Dropped::default()) };
    let now = namespace.shared.clock.now();
    let mut dropped =
        Dropped { evidence: namespace.store.drop_evidence(evidence, now).await?, ..Dropped::default() };
    let mut files = Vec::new();
    for payload in namespace.store.drop_payloads(payloads, now).await? {
        namespace.payloads.forget(payload.digest);
        dropped.artifacts.add(payload.bytes);
        if payload.is_file {
            files.push(payload.digest);
        }
    }
    remove(namespace, files).await;
    Ok(dropped)
}

/// Removes files that nobody names any more; those that cannot be removed now are found again by a later sweep.
async fn remove(namespace: &Namespace, digests: Vec<Digest>) -> Amount {
    if digests.is_empty() {
        return Amount::default();
    }
    let removing = of_blobs(namespace, move |blobs| {
        let mut removed = Amount::default();
        for digest in digests {
            match blobs.remove_older(digest, FILE_AGE_MIN) {
                Ok(Some(bytes)) => removed.add(bytes),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a file that nobody needs could not be removed"),
            }
        }
        Ok(removed)
    });
    removing.await.unwrap_or_default()
}

async fn sweep(namespace: &Namespace, from: u16, end: u16) -> Result<Amount, StoreError> {
    let mut swept = Amount::default();
    for shard in (from..end).filter_map(|shard| u8::try_from(shard).ok()) {
        let mut after = None;
        loop {
            let Some(page) = of_blobs(namespace, move |blobs| blobs.page(shard, after)).await else { break };
            if !page.digests.is_empty() {
                let unnamed = namespace.store.unnamed(page.digests).await?;
                swept.extend(remove(namespace, unnamed).await);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        empty_trash(namespace, shard).await?;
    }
    Ok(swept)
}

/// Judges what was moved to the trash of a bucket long enough ago: what somebody has named since goes back.
async fn empty_trash(namespace: &Namespace, shard: u8) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let Some((trashed, next)) =
            of_blobs(namespace, move |blobs| blobs.trashed(shard, TRASH_AGE_MIN, after)).await
        else {
            return Ok(());
        };
        if !trashed.is_empty() {
            let digests = trashed.iter().map(|one| one.digest).collect();
            let unnamed: BTreeSet<_> = namespace.store.unnamed(digests).await?.into_iter().collect();
            let judging = of_blobs(namespace, move |blobs| {
                trashed.iter().try_for_each(|one| blobs.judge(one, !unnamed.contains(&one.digest)))
            });
            if judging.await.is_none() {
                return Ok(());
            }
        }
        after = next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Does what blocks; none where it failed, which a later pass does again.
async fn of_blobs<T: Send + 'static>(
    namespace: &Namespace,
    act: impl FnOnce(&Blobs) -> Result<T, BlobError> + Send + 'static,
) -> Option<T> {
    let blobs = Arc::clone(&namespace.blobs);
    match tokio::task::spawn_blocking(move || act(&blobs)).await {
        Ok(Ok(answer)) => return Some(answer),
        Ok(Err(error)) => tracing::warn!(%error, "payloads that nobody needs could not be looked for"),
        Err(error) => tracing::warn!(%error, "payloads that nobody needs could not be looked for"),
    }
    None
}

/// Does it all by itself, a step a minute, and one after the other while they find something.
pub struct Collector {
    namespace: Arc<Namespace>,
    shard: AtomicU16,
    due: Cell<Option<Timestamp>>,
}

impl Collector {
    /// The collector of a namespace.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace, shard: AtomicU16::new(0), due: Cell::default() }
    }
}

#[async_trait]
impl Service for Collector {
    fn name(&self) -> &'static str {
        "collector"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let now = self.namespace.shared.clock.now();
        if self.due.get().is_some_and(|due| due > now) {
            return Ok(Turn::idle(self.due.get()));
        }
        // A backup, which may take long, needs that nothing is dropped; the next turn asks again.
        let Ok(_dropping) = self.namespace.dropping.try_lock() else { return Ok(Turn::default()) };
        let dropped = drop_old(&self.namespace).await?;
        let mut done = dropped.evidence.count + dropped.artifacts.count;
        if done == 0 {
            of_blobs(&self.namespace, Blobs::abort_left).await;
            let shard = self.shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
            sweep(&self.namespace, shard, shard + 1).await?;
            // Pages that are left are used again; giving them back goes on while it has an end in sight.
            done = self.namespace.store.give_back(PAGES_MAX).await?;
        }
        if done == 0 {
            self.due.set(now.checked_add(PAUSE).ok());
        }
        Ok(Turn::did(usize::try_from(done).unwrap_or(usize::MAX), self.due.get()))
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}
