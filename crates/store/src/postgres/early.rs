//! Payloads that go ahead of the transactions that name them.
//!
//! Bytes are the dearest thing that the commit of a step writes, and nothing of it depends on them: whoever waits for the turn of the namespace has time to write them over
//! another connection, together with all others that wait. The transaction that names one then demands that it is there, as another server
//! may have taken over meanwhile, or somebody may have thrown it away. What nobody names after all leaves by its age, as a file does that a crash has left.
//!
//! It is not waited for until it is durable: who names it comes later in the WAL, and is durable only with everything before.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use tokio::sync::oneshot;

use super::fault::Attempt;
use super::tx::Mode;
use super::{Database, payload};
use crate::contract::tiers::StepCommit;

/// What is shorter is written by who names it: the server keeps it within its row, which costs no more than to demand that it is there.
const BYTES_MIN: usize = 2048;
/// How long it waits for others who write the same payload, which is less than after what time the server looks for those who wait for each other.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_millis(200);
/// Bytes of one transaction; one payload is written whatever it has.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// The payloads of one namespace in one process that go ahead.
#[derive(Default)]
pub(super) struct Early {
    waiting: Mutex<Vec<Waiting>>,
    /// Who has it writes for all that wait.
    turn: tokio::sync::Mutex<()>,
}

/// A payload to be written, for somebody who waits for it.
struct Waiting {
    digest: Digest,
    content: Bytes,
    now: Timestamp,
    tell: oneshot::Sender<()>,
}

impl Early {
    /// Whether the payload is there now. Where it is not, for whatever reason, whoever names it writes it.
    async fn keep(&self, database: &Database, (digest, content): (Digest, Bytes), now: Timestamp) -> bool {
        let (tell, mut told) = oneshot::channel();
        self.waiting().push(Waiting { digest, content, now, tell });
        loop {
            let _turn = self.turn.lock().await;
            match told.try_recv() {
                Ok(()) => return true,
                Err(oneshot::error::TryRecvError::Closed) => return false,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let group = self.next_group();
            if write(database, &group).await.is_err() {
                // Whoever is told nothing writes for itself.
                continue;
            }
            for waiting in group {
                // Who no longer waits needs it no more.
                _ = waiting.tell.send(());
            }
        }
    }

    /// The oldest that wait, as many as go together.
    fn next_group(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        let mut bytes = 0;
        let fits = waiting.iter().take_while(|one| {
            bytes += one.content.len();
            bytes <= GROUP_BYTES
        });
        let count = fits.count().max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The commit's payload, if its bytes went ahead of it. They do not where it would have its turn at once.
pub(super) async fn keep(database: &Database, commit: &StepCommit, now: Timestamp) -> Option<Digest> {
    let digest = commit.artifact.as_ref()?.digest;
    let content = commit.content.as_ref().filter(|content| content.len() >= BYTES_MIN)?;
    let goes_ahead = database.turns.is_taken();
    (goes_ahead && database.early.keep(database, (digest, content.clone()), now).await).then_some(digest)
}

async fn write(database: &Database, group: &[Waiting]) -> Attempt<()> {
    let tx = database.begin(Mode::Early, false).await?;
    let payloads = group.iter().map(|one| (one.digest, (&one.content, one.now))).collect();
    let kept = payload::keep_all(&tx, payloads).await;
    tx.end(kept).await
}
