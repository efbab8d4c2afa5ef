//! A namespace at work: its store, its blobs, its active snapshot, what runs in it. Nothing crosses from one to another but the
//! node's permits.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use orbit_core::config::{DocState, NamespaceName, Snapshot};
use orbit_core::digest::Digest;
use orbit_core::governance::{Closed, Door, GateFacts, gate};
use orbit_core::record::{Kind, Record, Signer, Subject};
use orbit_store::blobs::Blobs;
use orbit_store::contract::config::{Activated, Base};
use orbit_store::contract::governance::Halt;
use orbit_store::payloads::Payloads;
use orbit_store::{Store, StoreError};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use crate::claims::Claims;
use crate::dispatch::lanes::Lanes;
use crate::gate::{Cell, GateView};
use crate::lease::{Former, Trust};
use crate::node::Shared;
use crate::permits::Permits;
use crate::running::{Cut, Running};
use crate::tiers::CheckedRequests;

/// Snapshots that are kept in memory besides the active one.
const PINNED_MAX: usize = 16;

/// Sources outside of the process that are read at once.
const READINGS_MAX: usize = 4;

/// Wakes the services of a namespace.
#[derive(Default)]
pub struct Nudges {
    /// The scheduler.
    pub schedule: Arc<Notify>,
    /// The selector.
    pub selection: Arc<Notify>,
    /// The run workers.
    pub tiers: Arc<Notify>,
    /// The normalizer's batches.
    pub normalize: Arc<Notify>,
    /// The dispatcher.
    pub dispatch: Arc<Notify>,
    /// The keeper.
    pub keeper: Arc<Notify>,
}

/// See the module.
pub struct Namespace {
    /// Its name.
    pub name: NamespaceName,
    /// What all namespaces of the node share.
    pub shared: Arc<Shared>,
    /// What it remembers.
    pub store: Arc<dyn Store>,
    /// Its larger payloads and its assets.
    pub blobs: Arc<Blobs>,
    /// Its payloads, wherever they are.
    pub payloads: Arc<Payloads>,
    /// Wakes its services.
    pub nudges: Nudges,
    /// Until when this process may act in it.
    pub trust: Trust,
    /// What is under way in it.
    pub running: Running,
    /// What is claimed in it.
    pub claims: Claims,
    /// What is at work in it, counted against every limit.
    pub permits: Permits,
    /// What bounds the attempts at each of its endpoints.
    pub lanes: Lanes,
    /// The tasks of runs at work.
    pub runs: TaskTracker,
    /// The tasks of cycles and deliveries.
    pub tasks: TaskTracker,
    /// Signs its log; none where nothing is written to it: where it is only read, or the seeds do not fit.
    pub signer: Option<Signer>,
    /// Which incarnation the home was last in it; none where nobody remembers.
    pub former: Option<Former>,
    /// Held by who drops evidence and payloads, and by who needs that none is dropped meanwhile.
    pub dropping: tokio::sync::Mutex<()>,
    /// What runs at work were asked, as far as it was checked.
    pub(crate) requests: CheckedRequests,
    /// Held by who reads a source that is not in the snapshot.
    pub(crate) readings: Semaphore,
    active: Cell<Option<Arc<Snapshot>>>,
    /// Held by who takes over what the store has decided, the active snapshot and the halt, or decides it: so it is never older than that.
    pub(crate) deciding: tokio::sync::Mutex<()>,
    halted: Cell<Option<Halt>>,
    pinned: Mutex<BTreeMap<Digest, Arc<Snapshot>>>,
}

impl Namespace {
    /// A namespace over an open store.
    pub async fn open(
        name: NamespaceName,
        shared: Arc<Shared>,
        store: Arc<dyn Store>,
        blobs: Arc<Blobs>,
    ) -> Result<Self, StoreError> {
        let active = store.active().await?.map(Arc::new);
        let halted = store.halted().await?;
        let nudges = Nudges::default();
        let (clock, node) = (Arc::clone(&shared.clock), Arc::clone(&shared.runs));
        let permits =
            Permits::new(name.clone(), clock, [&nudges.tiers, &nudges.normalize].map(Arc::clone), node);
        if let Some(snapshot) = &active {
            permits.limits_of(Arc::clone(snapshot));
        }
        Ok(Self {
            name,
            shared,
            payloads: Arc::new(Payloads::new(Arc::clone(&store), Arc::clone(&blobs))),
            store,
            blobs,
            nudges,
            trust: Trust::default(),
            running: Running::default(),
            claims: Claims::default(),
            permits,
            lanes: Lanes::default(),
            runs: TaskTracker::new(),
            tasks: TaskTracker::new(),
            signer: None,
            former: None,
            dropping: tokio::sync::Mutex::default(),
            requests: CheckedRequests::default(),
            readings: Semaphore::new(READINGS_MAX),
            active: Cell::new(active),
            deciding: tokio::sync::Mutex::default(),
            halted: Cell::new(halted),
            pinned: Mutex::default(),
        })
    }

    /// The folder of its documents and programs.
    pub fn folder(&self) -> PathBuf {
        self.shared.layout.namespace(&self.name)
    }

    /// The active snapshot; none before the first activation.
    pub fn active(&self) -> Option<Arc<Snapshot>> {
        self.active.get()
    }

    /// Activates the snapshot whatever is active, for everything that is fired from now on. Its assets must be among the blobs. True if it was not
    /// the active one before.
    pub async fn activate(&self, snapshot: Snapshot) -> Result<bool, StoreError> {
        let activated = self.apply(snapshot, Base::Any).await?;
        Ok(matches!(activated, Activated::New { .. }))
    }

    /// The same if the base allows it.
    pub async fn apply(&self, snapshot: Snapshot, base: Base) -> Result<Activated, StoreError> {
        let _alone = self.deciding.lock().await;
        let activated = self.store.activate(&snapshot, base, self.shared.clock.now()).await?;
        match activated {
            Activated::New { .. } | Activated::Already => self.take(Arc::new(snapshot)),
            Activated::Conflict { .. } => {}
        }
        Ok(activated)
    }

    /// Takes the store's active snapshot, which another node may have activated. True if it is another one than before.
    pub async fn follow(&self) -> Result<bool, StoreError> {
        let _alone = self.deciding.lock().await;
        let active = self.store.active_digest().await?;
        if active == self.active().map(|snapshot| snapshot.digest()) {
            return Ok(false);
        }
        let Some(digest) = active else { return Ok(false) };
        let Some(snapshot) = self.snapshot(digest).await? else { return Ok(false) };
        self.take(snapshot);
        Ok(true)
    }

    /// Notes the store's halt, or that it is lifted, which another node may have decided. True if there is one that was not known: then what is under way is ended.
    pub async fn follow_halt(&self) -> Result<bool, StoreError> {
        let _alone = self.deciding.lock().await;
        let halt = self.store.halted().await?;
        if halt == self.halted() {
            return Ok(false);
        }
        let is_new = halt.is_some();
        self.set_halted(halt);
        if is_new {
            self.running.cut_all(Cut::Halt);
        }
        Ok(is_new)
    }

    fn take(&self, snapshot: Arc<Snapshot>) {
        self.permits.limits_of(Arc::clone(&snapshot));
        self.active.set(Some(snapshot));
        self.nudges.schedule.notify_one();
        // A limit may have been raised.
        self.nudges.tiers.notify_one();
        self.nudges.normalize.notify_one();
    }

    /// A snapshot that something is pinned to.
    pub async fn snapshot(&self, digest: Digest) -> Result<Option<Arc<Snapshot>>, StoreError> {
        // Nearly everything is pinned to the active one, and many who ask at once would each read a copy of it.
        if let Some(active) = self.active().filter(|active| active.digest() == digest) {
            return Ok(Some(active));
        }
        if let Some(found) = self.lock_pinned().get(&digest) {
            return Ok(Some(Arc::clone(found)));
        }
        let Some(found) = self.store.snapshot(digest).await?.map(Arc::new) else { return Ok(None) };
        let mut pinned = self.lock_pinned();
        if pinned.len() >= PINNED_MAX {
            pinned.pop_first();
        }
        pinned.insert(digest, Arc::clone(&found));
        Ok(Some(found))
    }

    /// Asks the gate at a door.
    pub fn ask(&self, door: Door, documents: &[(&str, DocState)]) -> Result<(), Closed> {
        gate(door, &self.gate_facts(), documents)
    }

    /// What the gate looks at, as it is now.
    pub fn gate_facts(&self) -> GateFacts {
        let snapshot = self.active();
        GateView {
            lease_lapsed: !self.trust.is_given(self.shared.clock.monotonic()),
            halted_global: self.shared.halted.get(),
            halted_namespace: self.halted.get(),
            paused: self.shared.paused.get(),
            disk: &*self.shared.disk,
            data: &self.shared.layout.data(&self.name),
            snapshot: snapshot.as_deref(),
        }
        .facts()
    }

    /// The halt of this namespace alone.
    pub fn halted(&self) -> Option<Halt> {
        self.halted.get()
    }

    /// Notes a halt that the store holds already, or that it is lifted.
    pub fn set_halted(&self, halt: Option<Halt>) {
        self.halted.set(halt);
        self.wake();
    }

    /// Wakes every service.
    pub fn wake(&self) {
        for nudge in
            [&self.nudges.schedule, &self.nudges.selection, &self.nudges.tiers, &self.nudges.dispatch]
        {
            nudge.notify_one();
        }
        self.nudges.normalize.notify_one();
        self.nudges.keeper.notify_one();
    }

    /// Records a part of the engine that failed and goes on. Best effort: the store may be what failed.
    pub async fn record_failure(&self, service: &str, message: &str) {
        tracing::error!(namespace = %self.name, service, "{message}");
        let body = json!({ "service": service, "message": message });
        self.record(Kind::ServiceFailed, Subject::default(), body).await;
    }

    /// Appends one fact. Best effort, for what is told besides the work itself.
    pub async fn record(&self, kind: Kind, subject: Subject, body: Value) {
        let record = Record::fact(self.shared.clock.now(), kind, subject, body);
        if let Err(error) = self.store.append(vec![record]).await {
            tracing::error!(namespace = %self.name, kind = kind.name(), %error, "a record could not be appended");
        }
    }

    fn lock_pinned(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Arc<Snapshot>>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
