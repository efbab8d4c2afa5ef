//! The sequencer: a signed checkpoint at most once a second while the log grows, one more when the node stops, and a copy of each
//! in the anchor.
//!
//! A log that nobody writes to gets none, and nothing is written anywhere. The anchor holds nothing up: what cannot be copied is told
//! in `status` and tried again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use orbit_core::config::NamespaceName;
use orbit_core::record::{Kind, Record, Signer, Subject};
use orbit_store::contract::log::StoredCheckpoint;
use orbit_store::{Store, StoreError};
use serde_json::json;
use tokio::sync::Mutex;

use super::anchor::{self, Anchored, Put};
use crate::clock::Clock;
use crate::gate::Cell;
use crate::service::{Service, Turn, TurnError};

/// The shortest time from one checkpoint to the next.
const PACE: SignedDuration = SignedDuration::from_secs(1);
/// Checkpoints that one turn copies to the anchor.
const COPIES_MAX: u32 = 64;
/// How long the anchor may take for one of them, or for being looked into.
const ANCHOR_ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Says which folder is the anchor now; none if there is none.
pub type Place = Box<dyn Fn() -> Option<PathBuf> + Send + Sync>;

/// See the module.
pub struct Sequencer {
    namespace: NamespaceName,
    store: Arc<dyn Store>,
    signer: Signer,
    clock: Arc<dyn Clock>,
    place: Place,
    last: Cell<Option<Timestamp>>,
    anchored: Cell<Option<Anchored>>,
    copying: Mutex<Copying>,
}

/// Where copying goes on.
#[derive(Default)]
struct Copying {
    /// The folder and the first number that is not there; none until it was looked into.
    next: Option<(PathBuf, u64)>,
    /// Whether a call has not come back from the anchor.
    hangs: Arc<AtomicBool>,
}

/// Why a copy was not made.
enum Stopped {
    /// The store failed.
    Store(StoreError),
    /// The anchor did.
    Anchor(String),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Sequencer {
    /// The sequencer of a log whose signer is in force.
    pub fn new(
        (namespace, store): (NamespaceName, Arc<dyn Store>),
        signer: Signer,
        clock: Arc<dyn Clock>,
        place: Place,
    ) -> Self {
        Self {
            namespace,
            store,
            signer,
            clock,
            place,
            last: Cell::default(),
            anchored: Cell::default(),
            copying: Mutex::default(),
        }
    }

    /// How far copying has come; none if there is no anchor, or it was not asked yet.
    pub fn anchored(&self) -> Option<Anchored> {
        self.anchored.get()
    }

    /// A checkpoint of all there is, whenever the last one was, and its copy: for a node that stops.
    pub async fn finish(&self) {
        if let Err(error) = self.finished().await {
            tracing::warn!(namespace = %self.namespace, %error, "the end of the log has no checkpoint; the next start makes one");
        }
    }

    async fn finished(&self) -> Result<(), StoreError> {
        self.store.checkpoint(&self.signer).await?;
        self.copy().await.map(|_| ())
    }

    /// A checkpoint, if the log has grown and it is time.
    async fn checkpoint(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let since = self.last.get().map(|last| now.duration_since(last));
        // A clock that was set back waits for nothing.
        if since.is_some_and(|since| !since.is_negative() && since < PACE) {
            return Ok(());
        }
        let state = self.store.log_state().await?;
        if state.newest.is_some_and(|newest| newest.size == state.size) {
            return Ok(());
        }
        if self.store.checkpoint(&self.signer).await?.is_some() {
            self.last.set(Some(now));
        }
        Ok(())
    }

    /// Copies what is not in the anchor yet, a bounded number; how many that were.
    async fn copy(&self) -> Result<usize, StoreError> {
        let Some(root) = (self.place)() else {
            self.anchored.set(None);
            return Ok(0);
        };
        let folder = anchor::folder_of(&root, self.signer.verifier().name());
        let mut told = self.anchored.get().filter(|told| told.folder == folder).unwrap_or_default();
        told.folder.clone_from(&folder);
        let mut copying = self.copying.lock().await;
        let copied = self.copy_to(folder, &mut copying, &mut told).await;
        let failure = match &copied {
            Err(Stopped::Anchor(failure)) => Some(failure.clone()),
            Err(Stopped::Store(_)) | Ok(_) => None,
        };
        if let Some(failure) = failure.as_ref().filter(|failure| told.failure.as_ref() != Some(*failure)) {
            tracing::warn!(namespace = %self.namespace, folder = %told.folder.display(), failure, "a checkpoint waits to be copied");
        }
        told.failure = failure;
        self.anchored.set(Some(told));
        match copied {
            Ok(count) => Ok(count),
            Err(Stopped::Anchor(_)) => Ok(0),
            Err(Stopped::Store(error)) => Err(error),
        }
    }

    async fn copy_to(
        &self,
        folder: PathBuf,
        copying: &mut Copying,
        told: &mut Anchored,
    ) -> Result<usize, Stopped> {
        let next = match &copying.next {
            Some((known, next)) if *known == folder => *next,
            Some(_) | None => self.begin(&folder, copying, told).await?,
        };
        let mut count = 0;
        for checkpoint in self.store.checkpoints(next, COPIES_MAX).await? {
            let (to, copy) = (folder.clone(), checkpoint.clone());
            match ask(&copying.hangs, move || anchor::put(&to, &copy)).await? {
                Put::There => told.number = Some(checkpoint.number),
                Put::Conflict { found } => self.alarm(told, &checkpoint, &found).await?,
            }
            copying.next = Some((folder.clone(), checkpoint.number + 1));
            count += 1;
        }
        Ok(count)
    }

    /// Looks into a folder for the first time: where to go on, and whether what is there is of this log. An empty one begins with the
    /// newest checkpoint, which commits to everything before it.
    async fn begin(
        &self,
        folder: &std::path::Path,
        copying: &mut Copying,
        told: &mut Anchored,
    ) -> Result<u64, Stopped> {
        let look = folder.to_owned();
        let highest = ask(&copying.hangs, move || anchor::highest(&look)).await?;
        let newest = self.store.log_state().await?.newest;
        let next = match highest {
            None => newest.map_or(0, |newest| newest.number),
            Some(highest) => {
                if newest.is_none_or(|newest| newest.number < highest) {
                    let message = format!(
                        "the anchor has checkpoint {highest}, which this log has not: it is an older state of it"
                    );
                    self.alarmed(told, message, json!({ "number": highest, "expected": null })).await?;
                    highest + 1
                } else {
                    // The highest once more: its content tells whether this is the log that was copied here.
                    highest
                }
            }
        };
        copying.next = Some((folder.to_owned(), next));
        Ok(next)
    }

    async fn alarm(
        &self,
        told: &mut Anchored,
        checkpoint: &StoredCheckpoint,
        found: &str,
    ) -> Result<(), StoreError> {
        let number = checkpoint.number;
        let message = format!("the anchor has another checkpoint under number {number}");
        self.alarmed(told, message, json!({ "number": number, "expected": checkpoint.note, "found": found }))
            .await
    }

    /// The first conflict is recorded; those that follow from it only say the same.
    async fn alarmed(
        &self,
        told: &mut Anchored,
        message: String,
        mut body: serde_json::Value,
    ) -> Result<(), StoreError> {
        if told.conflict.is_some() {
            return Ok(());
        }
        tracing::error!(namespace = %self.namespace, folder = %told.folder.display(), "{message}");
        body["folder"] = json!(told.folder);
        body["message"] = json!(message);
        told.conflict = Some(message);
        self.record(Kind::AnchorConflict, body).await
    }

    async fn record(&self, kind: Kind, body: serde_json::Value) -> Result<(), StoreError> {
        self.store.append(vec![Record::fact(self.clock.now(), kind, Subject::default(), body)]).await
    }
}

/// Asks the anchor on a thread of its own, one call at a time: a folder on a machine that is gone may never answer.
async fn ask<T: Send + 'static>(
    hangs: &Arc<AtomicBool>,
    call: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Stopped> {
    let silent = || Stopped::Anchor(format!("no answer within {} s", ANCHOR_ANSWERS_WITHIN.as_secs()));
    if hangs.swap(true, Ordering::AcqRel) {
        return Err(silent());
    }
    let (reply, answer) = tokio::sync::oneshot::channel();
    let back = Arc::clone(hangs);
    drop(tokio::task::spawn_blocking(move || {
        let answer = call();
        // Before the answer: whoever has it may ask again at once.
        back.store(false, Ordering::Release);
        _ = reply.send(answer);
    }));
    match tokio::time::timeout(ANCHOR_ANSWERS_WITHIN, answer).await {
        Ok(Ok(answer)) => answer.map_err(|error| Stopped::Anchor(error.to_string())),
        Ok(Err(_)) => Err(Stopped::Anchor("it was not asked: the process ends".to_owned())),
        Err(_) => Err(silent()),
    }
}

#[async_trait]
impl Service for Sequencer {
    fn name(&self) -> &'static str {
        "sequencer"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        self.checkpoint().await?;
        let copied = self.copy().await?;
        // Only a full hand means that another turn has something to copy.
        let done = if u32::try_from(copied).is_ok_and(|copied| copied < COPIES_MAX) { 0 } else { copied };
        Ok(Turn::did(done, self.clock.now().checked_add(PACE).ok()))
    }

    async fn failed(&self, error: &TurnError) {
        tracing::error!(namespace = %self.namespace, service = self.name(), "{error}");
        let body = json!({ "service": self.name(), "message": error.to_string() });
        if let Err(error) = self.record(Kind::ServiceFailed, body).await {
            tracing::error!(namespace = %self.namespace, %error, "a record could not be appended");
        }
    }
}
