//! A node: what its namespaces share, and the services that it runs for each of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use orbit_core::config::{DocName, Heartbeat, NamespaceName};
use orbit_core::record::{Kind, Record, Signer, Subject};
use orbit_store::contract::governance::Halt;
use orbit_store::contract::node::Joining;
use orbit_store::{Store, StoreError};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ballast::Ballast;
use crate::clock::Clock;
use crate::gate::{Cell, Disk};
use crate::http::Client;
use crate::layout::Layout;
use crate::namespace::Namespace;
use crate::notify::{self, Vitals};
use crate::permits::NodePermits;
use crate::record::{Place, Sequencer};
use crate::running::Cut;
use crate::secrets::Secrets;
use crate::service::{self, Service};
use crate::supervisor::Launcher;
use crate::tiers::Processor;
use crate::{dispatch, follow, keeper, lease, normalize, retention, schedule, selection, surveyor, tiers};

/// Programs that are cut get this long beyond their own grace before the node goes without them; their supervisors end them all the same.
const HARD_STOP: Duration = Duration::from_secs(15);

/// What all namespaces of a node share.
pub struct Shared {
    /// The node's name.
    pub node: String,
    /// How long the node is believed to be alive without a word of it, where leases end: [`lease::LEASE`] but for tests.
    pub lease: Duration,
    /// Where things lie.
    pub layout: Layout,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
    /// Measures free space.
    pub disk: Arc<dyn Disk>,
    /// Starts programs.
    pub launcher: Launcher,
    /// Sends requests.
    pub client: Client,
    /// Looks secrets up.
    pub secrets: Arc<dyn Secrets>,
    /// Whether `ORBIT_PAUSED` is set.
    pub paused: Cell<bool>,
    /// The halt of the whole node.
    pub halted: Cell<Option<Halt>>,
    /// When a halt or pause of the whole node was last lifted while this process ran.
    pub reopened_at: Cell<Option<jiff::Timestamp>>,
    /// Cancelled when the node is to stop: what is under way is finished, and nothing else begins.
    pub stopping: CancellationToken,
    /// Whether a store was migrated beyond what this binary knows.
    pub superseded: lease::Superseded,
    /// Permits for runs at work, handed to the namespaces in turn.
    pub runs: Arc<NodePermits>,
    /// Processors that live in this process; they win over a document of the same name.
    pub embedded: BTreeMap<DocName, Arc<dyn Processor>>,
}

impl Shared {
    /// How long leases are.
    pub fn lease(&self) -> Duration {
        self.lease.max(lease::LEASE_MIN)
    }

    /// What the node says of itself when it joins a store.
    pub fn joining(&self) -> Joining {
        Joining {
            former: None,
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            lease: self.lease(),
        }
    }

    /// Space that is set aside for a full disk.
    pub fn ballast(&self) -> Ballast {
        Ballast::of(&self.layout)
    }
}

/// See the module.
pub struct Node {
    /// What its namespaces share.
    pub shared: Arc<Shared>,
    /// The store of the `system` namespace.
    pub system: Arc<dyn Store>,
    /// Whether it is alive.
    pub vitals: Arc<Vitals>,
    /// Where checkpoints are copied to, unless a namespace says something else.
    pub anchor: Cell<Option<PathBuf>>,
    /// Held by who takes over the halt of the whole node from the store, or decides it.
    deciding: Arc<tokio::sync::Mutex<()>>,
    namespaces: RwLock<BTreeMap<NamespaceName, Arc<Namespace>>>,
    sequencers: RwLock<BTreeMap<NamespaceName, Arc<Sequencer>>>,
    services: TaskTracker,
    /// What keeps leases. They outlast the services: what is under way while the node stops needs them.
    leases: TaskTracker,
    /// Cancelled when nothing is under way any more.
    released: CancellationToken,
    /// Namespaces whose stores it has joined.
    joined: Mutex<Vec<Arc<Namespace>>>,
}

/// Which services a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// All of them.
    Serve,
    /// All but the scheduler: nothing fires by itself.
    RunOnly,
    /// None: stores are only read, or changed by an operator.
    None,
}

impl Node {
    /// A node without namespaces.
    pub async fn open(shared: Shared, system: Arc<dyn Store>) -> Result<Self, StoreError> {
        shared.halted.set(system.halted().await?);
        let vitals = Arc::new(Vitals::default());
        vitals.watch(&NamespaceName::system(), Arc::clone(&system));
        Ok(Self {
            shared: Arc::new(shared),
            system,
            vitals,
            anchor: Cell::default(),
            deciding: Arc::default(),
            namespaces: RwLock::default(),
            sequencers: RwLock::default(),
            services: TaskTracker::new(),
            leases: TaskTracker::new(),
            released: CancellationToken::new(),
            joined: Mutex::default(),
        })
    }

    /// Adds a namespace, joins its store and starts its services. What nobody works on any more is free first. Without a duty it is only added.
    pub async fn add(&self, namespace: Namespace, duty: Duty) -> Result<Arc<Namespace>, StoreError> {
        let namespace = Arc::new(namespace);
        if duty != Duty::None {
            let asked = self.shared.clock.monotonic();
            let joined = lease::join(&namespace, &*namespace.store).await?;
            tracing::debug!(namespace = %namespace.name, ?joined, "joined");
            if joined.expires {
                namespace.trust.granted(asked, self.shared.lease());
            }
            self.keep_lease(&namespace);
            self.joined.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&namespace));
            self.spawn_services(&namespace, duty);
            if joined.expires {
                // Leases end only where there may be others.
                let node = (Arc::clone(&self.system), Arc::clone(&self.deciding));
                let follower = Arc::new(follow::Follower::new(Arc::clone(&namespace), node));
                self.spawn(&namespace.name, follower, Arc::default());
            }
        }
        self.write().insert(namespace.name.clone(), Arc::clone(&namespace));
        Ok(namespace)
    }

    /// Every namespace, by name.
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.namespaces.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A namespace by name.
    pub fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces().into_iter().find(|namespace| namespace.name.as_str() == name)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<NamespaceName, Arc<Namespace>>> {
        self.namespaces.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews the lease of a namespace from now on, and ends what is under way in it when that fails for too long.
    fn keep_lease(&self, namespace: &Arc<Namespace>) {
        let holder: Arc<dyn Service> = Arc::new(lease::Holder::new(Arc::clone(namespace)));
        let pulse = self.vitals.pulse(&namespace.name, holder.name());
        let (clock, lost) = (Arc::clone(&self.shared.clock), Arc::clone(&namespace.claims.lost));
        self.leases.spawn(service::run(holder, lost, clock, pulse, self.released.clone()));
        self.leases.spawn(lease::guard(Arc::clone(namespace), self.released.clone()));
    }

    fn spawn_services(&self, namespace: &Arc<Namespace>, duty: Duty) {
        let nudges = &namespace.nudges;
        self.vitals.watch(&namespace.name, Arc::clone(&namespace.store));
        let spawn = |service: Arc<dyn Service>, nudge: &Arc<Notify>| {
            self.spawn(&namespace.name, service, Arc::clone(nudge));
        };
        let of = |namespace: &Arc<Namespace>| Arc::clone(namespace);
        if duty == Duty::Serve {
            spawn(Arc::new(schedule::Scheduler::new(of(namespace))), &nudges.schedule);
        }
        spawn(Arc::new(selection::Selector::new(of(namespace))), &nudges.selection);
        spawn(Arc::new(tiers::Workers::new(of(namespace))), &nudges.tiers);
        spawn(Arc::new(normalize::Batches::new(of(namespace))), &nudges.normalize);
        spawn(Arc::new(dispatch::Dispatcher::new(of(namespace))), &nudges.dispatch);
        spawn(Arc::new(keeper::Keeper::new(of(namespace))), &nudges.keeper);
        spawn(Arc::new(lease::Watch::new(of(namespace))), &Arc::default());
        spawn(Arc::new(retention::Collector::new(of(namespace))), &Arc::default());
        spawn(Arc::new(surveyor::Surveyor::new(of(namespace))), &Arc::default());
        spawn(Arc::new(notify::Notifier::new(of(namespace))), &Arc::default());
        if let Some(signer) = namespace.signer.clone() {
            let (own, node) = (of(namespace), self.anchor.get());
            let place = move || {
                let own = own.active().and_then(|snapshot| snapshot.config.log.anchor.clone());
                own.map(PathBuf::from).or_else(|| node.clone())
            };
            let log = (namespace.name.clone(), Arc::clone(&namespace.store));
            self.start_sequencer(log, signer, Box::new(place));
        }
    }

    /// Makes checkpoints of the node's own log from now on.
    pub fn sign_own_log(&self, signer: Signer) {
        let node = self.anchor.get();
        let log = (NamespaceName::system(), Arc::clone(&self.system));
        self.start_sequencer(log, signer, Box::new(move || node.clone()));
    }

    fn start_sequencer(&self, log: (NamespaceName, Arc<dyn Store>), signer: Signer, place: Place) {
        let name = log.0.clone();
        let sequencer = Arc::new(Sequencer::new(log, signer, Arc::clone(&self.shared.clock), place));
        let service: Arc<dyn Service> = Arc::clone(&sequencer) as _;
        self.spawn(&name, service, Arc::default());
        self.sequencers.write().unwrap_or_else(PoisonError::into_inner).insert(name, sequencer);
    }

    /// What makes checkpoints of this log; none if nothing is written to it.
    pub fn sequencer(&self, name: &NamespaceName) -> Option<Arc<Sequencer>> {
        self.sequencers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn spawn(&self, namespace: &NamespaceName, service: Arc<dyn Service>, nudge: Arc<Notify>) {
        let pulse = self.vitals.pulse(namespace, service.name());
        let (clock, stop) = (Arc::clone(&self.shared.clock), self.shared.stopping.clone());
        self.services.spawn(service::run(service, nudge, clock, pulse, stop));
    }

    /// Tells a watcher from now on that the node is alive.
    pub fn start_heartbeat(&self, config: Heartbeat) {
        let (shared, vitals) = (Arc::clone(&self.shared), Arc::clone(&self.vitals));
        let heartbeat = notify::Heartbeat::new(config, shared, Arc::clone(&self.system), vitals);
        self.spawn(&NamespaceName::system(), Arc::new(heartbeat), Arc::default());
    }

    /// `ORBIT_PAUSED` was read anew.
    pub fn set_paused(&self, paused: bool) {
        if self.shared.paused.get() == paused {
            return;
        }
        self.shared.paused.set(paused);
        if !paused {
            self.shared.reopened_at.set(Some(self.shared.clock.now()));
        }
        self.namespaces().iter().for_each(|namespace| namespace.wake());
    }

    /// Halts the whole node: durable first, then everything under way is ended. True if it was not halted before.
    pub async fn halt(&self, reason: &str) -> Result<bool, StoreError> {
        let _alone = self.deciding.lock().await;
        let halt = || self.system.halt(reason, self.shared.clock.now());
        let new = self.shared.ballast().relieve(halt).await?;
        self.shared.halted.set(self.system.halted().await?);
        for namespace in self.namespaces() {
            namespace.running.cut_all(Cut::Halt);
            namespace.wake();
        }
        Ok(new)
    }

    /// Lifts the halt of the whole node. True if there was one.
    pub async fn resume(&self) -> Result<bool, StoreError> {
        let _alone = self.deciding.lock().await;
        let resume = || self.system.resume(self.shared.clock.now());
        let lifted = self.shared.ballast().relieve(resume).await?;
        self.shared.halted.set(None);
        if lifted {
            self.shared.reopened_at.set(Some(self.shared.clock.now()));
        }
        self.namespaces().iter().for_each(|namespace| namespace.wake());
        Ok(lifted)
    }

    /// Halts one namespace. True if it was not halted before.
    pub async fn halt_namespace(&self, namespace: &Namespace, reason: &str) -> Result<bool, StoreError> {
        let _alone = namespace.deciding.lock().await;
        let halt = || namespace.store.halt(reason, self.shared.clock.now());
        let new = self.shared.ballast().relieve(halt).await?;
        namespace.set_halted(namespace.store.halted().await?);
        namespace.running.cut_all(Cut::Halt);
        Ok(new)
    }

    /// Lifts the halt of one namespace. True if there was one.
    pub async fn resume_namespace(&self, namespace: &Namespace) -> Result<bool, StoreError> {
        let _alone = namespace.deciding.lock().await;
        let resume = || namespace.store.resume(self.shared.clock.now());
        let lifted = self.shared.ballast().relieve(resume).await?;
        namespace.set_halted(None);
        Ok(lifted)
    }

    /// Stops: nothing new is started; what is under way gets `drain`, or until `hard`, and is then cut. What was cut continues at the next start.
    /// On a store that was migrated beyond what this binary knows nothing is recorded of it.
    pub async fn stop(&self, drain: Duration, hard: CancellationToken) {
        self.shared.stopping.cancel();
        self.services.close();
        let all_done = async {
            self.services.wait().await;
            for namespace in self.namespaces() {
                for tasks in [&namespace.runs, &namespace.tasks] {
                    tasks.close();
                    tasks.wait().await;
                }
            }
        };
        tokio::pin!(all_done);
        let drained = tokio::select! {
            () = &mut all_done => true,
            () = tokio::time::sleep(drain) => false,
            () = hard.cancelled() => false,
        };
        if !drained {
            self.namespaces().iter().for_each(|namespace| _ = namespace.running.cut_all(Cut::Stop));
            if tokio::time::timeout(HARD_STOP, all_done).await.is_err() {
                tracing::warn!("acts under way did not end in time; they count as interrupted");
            }
        }
        if self.shared.superseded.error().is_some() {
            // Nothing is written there any more, and nobody waits for leases that have ended.
            self.released.cancel();
            return;
        }
        for namespace in self.namespaces().into_iter().filter(|namespace| namespace.signer.is_some()) {
            let body = json!({ "node": self.shared.node, "drained": drained });
            namespace.record(Kind::NodeStopped, Subject::default(), body).await;
        }
        self.leave().await;
        self.end_logs(drained).await;
    }

    /// The node is none any more in any namespace, so that nobody has to wait until its leases have ended.
    async fn leave(&self) {
        self.released.cancel();
        self.leases.close();
        self.leases.wait().await;
        let joined = std::mem::take(&mut *self.joined.lock().unwrap_or_else(PoisonError::into_inner));
        for namespace in joined {
            match namespace.store.leave().await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(namespace = %namespace.name, "something is still claimed; it is free when the lease has ended");
                }
                Err(error) => tracing::warn!(namespace = %namespace.name, %error, "the node could not leave"),
            }
        }
    }

    /// The node's own log ends too, and every log with a checkpoint.
    async fn end_logs(&self, drained: bool) {
        let sequencers: Vec<_> =
            self.sequencers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        if self.sequencer(&NamespaceName::system()).is_some() {
            let body = json!({ "node": self.shared.node, "drained": drained });
            let record = Record::fact(self.shared.clock.now(), Kind::NodeStopped, Subject::default(), body);
            if let Err(error) = self.system.append(vec![record]).await {
                tracing::error!(%error, "a record could not be appended");
            }
        }
        let ends = sequencers.into_iter().map(|sequencer| async move { sequencer.finish().await });
        futures_util::future::join_all(ends).await;
    }
}
