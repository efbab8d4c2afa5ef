//! A real engine over a real store on the measured disk: one namespace, processors of this process, one endpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use orbit_core::config::{DocName, NamespaceName, RunProfile, SecretRef, Snapshot};
use orbit_core::digest::Digest;
use orbit_core::id::{Trigger, cycle_id};
use orbit_core::record::Signer;
use orbit_engine::clock::{Clock as _, SystemClock};
use orbit_engine::gate::{Cell, SystemDisk};
use orbit_engine::http::Client;
use orbit_engine::layout::Layout;
use orbit_engine::lease::LEASE;
use orbit_engine::namespace::Namespace;
use orbit_engine::node::{Duty, Node, Shared};
use orbit_engine::permits::NodePermits;
use orbit_engine::secrets::Secrets;
use orbit_engine::supervisor::Launcher;
use orbit_engine::tiers::Processor;
use orbit_store::Store;
use orbit_store::blobs::{Blobs, FolderBlobs};
use orbit_store::contract::dispatch::RedriveFilter;
use orbit_store::contract::schedule::NewCycle;
use orbit_store::sqlite::{SqliteStore, Written};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::payload::{Filling, SMALL_BYTES, fill};
use crate::receiver::Receiver;
use crate::runs::bytes_written;

/// The only namespace.
pub(crate) const NAMESPACE: &str = "bench";
/// Steps of the processor at once: more than there are runs in flight.
const WIDE: u32 = 4096;
/// Attempts at the endpoint at once, for each run in flight: more than are under way.
pub(crate) const ATTEMPTS_EACH: usize = 4;
/// How often it is looked whether something has ended.
const LOOK: Duration = Duration::from_micros(200);
/// How often it is looked although nothing was told.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A measurement that takes longer has gone wrong.
const PATIENCE: Duration = Duration::from_hours(1);

/// How the store commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commits {
    /// As it does.
    Grouped,
    /// Every transaction of the domain by itself.
    Single,
}

/// What a node opens.
pub(crate) struct Stores {
    /// The namespace.
    pub(crate) name: NamespaceName,
    /// Its store.
    pub(crate) own: Arc<dyn Store>,
    /// Of the node.
    pub(crate) system: Arc<dyn Store>,
    /// Signs the log, where its records have no position before somebody asks for one.
    pub(crate) signer: Option<Signer>,
}

/// See the module. `S` is what measures the store.
pub(crate) struct World<S = Arc<SqliteStore>> {
    folder: tempfile::TempDir,
    nodes: Vec<(Node, Arc<Namespace>)>,
    /// What measures the store.
    pub(crate) store: S,
    receiver: Receiver,
    free: Arc<Semaphore>,
    run_profiles: Vec<RunProfile>,
    snapshot: Digest,
    fired: AtomicU64,
}

/// What deliveries took that were sent again.
pub(crate) struct Redriven {
    /// Until the last of them was settled.
    pub(crate) took: Duration,
    /// What the store wrote for them.
    pub(crate) own: Written,
    /// What this process wrote meanwhile.
    pub(crate) bytes: u64,
}

struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _: &NamespaceName, _: &SecretRef) -> Option<String> {
        None
    }
}

impl World {
    /// A node at work on files, for so many runs in flight, whose outputs after tier 1 have so many bytes.
    pub(crate) async fn start(below: &Path, work: (usize, usize), commits: Commits) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(below)?;
        let (store, stores) = files(folder.path(), commits)?;
        Self::over(folder, vec![stores], work, store).await
    }

    /// What the store has written since it was opened.
    pub(crate) fn written(&self) -> Written {
        self.store.written()
    }

    /// Does so many runs whose deliveries are given up, and then sends those again; what that takes until the last one is settled.
    pub(crate) async fn redrive(&self, runs: u64) -> anyhow::Result<Redriven> {
        self.receiver.refuses.store(true, Ordering::SeqCst);
        self.run(runs).await?;
        self.receiver.refuses.store(false, Ordering::SeqCst);
        let expected = self.received() + runs;
        let namespace = &self.nodes[0].1;
        let (began, before, written) = (Instant::now(), self.written(), bytes_written()?);
        let mut from = None;
        loop {
            let batch = namespace.store.redrive(RedriveFilter::default(), from, SystemClock.now()).await?;
            namespace.nudges.dispatch.notify_one();
            from = batch.next;
            if from.is_none() {
                break;
            }
        }
        while self.received() < expected {
            tokio::time::sleep(LOOK).await;
        }
        self.settled().await?;
        let (took, own) = (began.elapsed(), before.until(self.written()));
        let bytes = bytes_written()? - written;
        // Nobody fired them, or took a permit for them.
        self.receiver.received.fetch_sub(runs, Ordering::SeqCst);
        self.free.forget_permits(usize::try_from(runs)?);
        Ok(Redriven { took, own, bytes })
    }

    /// The length of its database.
    pub(crate) fn bytes(&self) -> anyhow::Result<u64> {
        let connection = rusqlite::Connection::open_with_flags(
            self.database(),
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
        )?;
        let of = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
        Ok(u64::from(of("page_count")?) * u64::from(of("page_size")?))
    }

    /// Where its database is.
    pub(crate) fn database(&self) -> PathBuf {
        let layout = Layout::new(self.folder.path());
        layout.database(&self.nodes[0].1.name)
    }

    /// Where the payloads are that are files.
    pub(crate) fn blobs(&self) -> PathBuf {
        Layout::new(self.folder.path()).blobs(&self.nodes[0].1.name)
    }
}

impl<S> World<S> {
    /// As many nodes at work as there are stores; all of them are views of one. Together they have so many runs in flight.
    pub(crate) async fn over(
        folder: tempfile::TempDir,
        stores: Vec<Stores>,
        (in_flight, large): (usize, usize),
        store: S,
    ) -> anyhow::Result<Self> {
        let name = stores.first().context("no node")?.name.clone();
        let blobs = blobs(folder.path(), &name)?;
        let free = Arc::new(Semaphore::new(in_flight));
        let receiver = Receiver::start(Arc::clone(&free)).await?;
        let snapshot = snapshot(&name, in_flight, &receiver.url)?;
        let mut nodes = Vec::new();
        for (number, stores) in stores.into_iter().enumerate() {
            let home = if number == 0 {
                folder.path().to_owned()
            } else {
                folder.path().join(format!("node-{number}"))
            };
            let work = (snapshot.clone(), large);
            nodes.push(node((&home, number), stores, Arc::clone(&blobs), work, Duty::RunOnly).await?);
        }
        let run_profiles = snapshot.run_profiles.values().cloned().collect();
        let (snapshot, fired) = (snapshot.digest(), AtomicU64::new(0));
        Ok(Self { folder, nodes, store, receiver, free, run_profiles, snapshot, fired })
    }

    /// Does so many runs, with never more in flight than there is room for; in flight is a run from its trigger to its delivery.
    pub(crate) async fn run(&self, runs: u64) -> anyhow::Result<()> {
        let expected = self.receiver.received.load(Ordering::SeqCst) + runs;
        // None waits for another's trigger to be durable, as nobody would who has several.
        let mut firing = JoinSet::new();
        for _ in 0..runs {
            Arc::clone(&self.free).acquire_owned().await?.forget();
            let (namespace, cycle) = self.next_cycle()?;
            firing.spawn(async move { fire(&namespace, cycle).await });
            while let Some(fired) = firing.try_join_next() {
                fired??;
            }
        }
        while let Some(fired) = firing.join_next().await {
            fired??;
        }
        let received = async {
            while self.receiver.received.load(Ordering::SeqCst) < expected {
                tokio::time::sleep(LOOK).await;
            }
            self.all_finished().await
        };
        tokio::time::timeout(PATIENCE, received).await.context("the runs do not end")?
    }

    /// Fires one cycle of a run profile that has none in flight, and answers its id.
    pub(crate) async fn fire(&self) -> anyhow::Result<Uuid> {
        let (namespace, cycle) = self.next_cycle()?;
        fire(&namespace, cycle).await
    }

    /// The next cycle, and the node that fires it: each in its turn.
    fn next_cycle(&self) -> anyhow::Result<(Arc<Namespace>, NewCycle)> {
        let number = self.fired.fetch_add(1, Ordering::Relaxed);
        let node = usize::try_from(number)? % self.nodes.len();
        let namespace = Arc::clone(&self.nodes[node].1);
        let count = u64::try_from(self.run_profiles.len())?;
        let run_profile = &self.run_profiles[usize::try_from(number % count)?];
        let cycle = cycle(&namespace.name, run_profile, self.snapshot);
        Ok((namespace, cycle))
    }

    /// Waits until a cycle has succeeded.
    pub(crate) async fn succeeded(&self, cycle: Uuid) -> anyhow::Result<()> {
        let namespace = &self.nodes[0].1;
        loop {
            let found = namespace.store.cycle(cycle).await?.context("the cycle is gone")?;
            match found.outcome.as_deref() {
                Some("succeeded") => return Ok(()),
                Some(outcome) => bail!("cycle {cycle} is {outcome}: {:?}", found.reason),
                // Told at the end of every run; in this duty nobody else listens.
                None => {
                    let told = namespace.nudges.schedule.notified();
                    _ = tokio::time::timeout(LOOK_AGAIN, told).await;
                }
            }
        }
    }

    /// Waits until nothing is under way, and looks whether everything came.
    async fn all_finished(&self) -> anyhow::Result<()> {
        self.settled().await?;
        let (fired, received) = (self.fired.load(Ordering::Relaxed), self.received());
        if fired != received {
            bail!("{fired} cycles were fired and {received} deliveries came");
        }
        Ok(())
    }

    async fn settled(&self) -> anyhow::Result<()> {
        while self.nodes[0].1.store.counts().await?.cycles.keys().any(|state| state != "finished") {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn received(&self) -> u64 {
        self.receiver.received.load(Ordering::SeqCst)
    }

    /// Ends it; the folder stays for as long as the answer does.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        for (node, _) in self.nodes {
            node.stop(Duration::from_secs(5), CancellationToken::new()).await;
        }
        self.folder
    }
}

/// Stores that are files of a home.
pub(crate) fn files(home: &Path, commits: Commits) -> anyhow::Result<(Arc<SqliteStore>, Stores)> {
    let name = NamespaceName::parse(NAMESPACE)?;
    let layout = Layout::new(home);
    std::fs::create_dir_all(layout.namespace(&name))?;
    let store = Arc::new(match commits {
        Commits::Grouped => SqliteStore::open(&layout.database(&name), &name)?,
        Commits::Single => SqliteStore::open_ungrouped(&layout.database(&name), &name)?,
    });
    let system = SqliteStore::open(&layout.database(&NamespaceName::system()), &NamespaceName::system())?;
    let own = Arc::<SqliteStore>::clone(&store);
    Ok((store, Stores { name, own, system: Arc::new(system), signer: None }))
}

/// A node over a home, at work as this says, whose outputs after tier 1 have so many bytes.
pub(crate) async fn node(
    (home, number): (&Path, usize),
    stores: Stores,
    blobs: Arc<Blobs>,
    (snapshot, large): (Snapshot, usize),
    duty: Duty,
) -> anyhow::Result<(Node, Arc<Namespace>)> {
    let (name, layout) = (stores.name, Layout::new(home));
    std::fs::create_dir_all(layout.namespace(&name))?;
    let node = Node::open(shared(layout, format!("bench-{number}"), large)?, stores.system).await?;
    let shared = Arc::clone(&node.shared);
    let mut namespace = Namespace::open(name, shared, stores.own, blobs).await?;
    namespace.signer = stores.signer;
    namespace.activate(snapshot).await?;
    let namespace = node.add(namespace, duty).await?;
    Ok((node, namespace))
}

/// Where the payloads of a home are that are files.
pub(crate) fn blobs(home: &Path, name: &NamespaceName) -> anyhow::Result<Arc<Blobs>> {
    Ok(Arc::new(FolderBlobs::open(&Layout::new(home).blobs(name))?.into()))
}

/// What the namespaces of a node share.
fn shared(layout: Layout, node: String, large: usize) -> anyhow::Result<Shared> {
    let processor: Arc<dyn Processor> = Arc::new(Filling { large });
    Ok(Shared {
        node,
        lease: LEASE,
        layout,
        clock: Arc::new(SystemClock),
        disk: Arc::new(SystemDisk),
        launcher: Launcher { program: PathBuf::from("/nonexistent"), args: Vec::new() },
        client: Client::system(),
        secrets: Arc::new(NoSecrets),
        paused: Cell::default(),
        halted: Cell::default(),
        reopened_at: Cell::default(),
        superseded: orbit_engine::lease::Superseded::default(),
        stopping: CancellationToken::new(),
        runs: NodePermits::new(WIDE, Arc::new(SystemClock)),
        embedded: BTreeMap::from([(DocName::parse("fill")?, processor)]),
    })
}

/// A cycle of a run profile that fires now.
pub(crate) fn cycle(namespace: &NamespaceName, run_profile: &RunProfile, snapshot: Digest) -> NewCycle {
    let (trigger, nominal) = (Trigger::Schedule, SystemClock.now());
    NewCycle {
        cycle_id: cycle_id(namespace, run_profile.run_profile_id, &trigger, nominal),
        run_profile_id: run_profile.run_profile_id,
        run_profile: run_profile.label.to_string(),
        trigger: trigger.to_string(),
        nominal,
        snapshot,
        queued: false,
        preset: Value::Null,
        detail: json!({ "reason": "due" }),
    }
}

/// Fires it, and answers its id.
pub(crate) async fn fire(namespace: &Namespace, cycle: NewCycle) -> anyhow::Result<Uuid> {
    let id = cycle.cycle_id;
    if !namespace.store.fire(cycle, SystemClock.now()).await? {
        bail!("cycle {id} was fired before");
    }
    namespace.nudges.selection.notify_one();
    Ok(id)
}

/// As many run profiles as there are runs in flight, each with candidates of its own, so that none waits for another's choice.
pub(crate) fn snapshot(name: &NamespaceName, in_flight: usize, url: &str) -> anyhow::Result<Snapshot> {
    let text = |n: usize| orbit_core::digest::hex(&fill(&Digest::of(&n.to_le_bytes()), SMALL_BYTES / 2));
    let items: Vec<_> = (0..4)
        .map(|n| json!({ "label": format!("candidate {n}"), "metadata": { "text": text(n) } }))
        .collect();
    let mut run_profiles = Map::new();
    for number in 0..in_flight {
        let label = format!("slot-{number}");
        let policy = json!({
            "selection": {
                "source": "candidates", "choose": "in_order",
                "dedupe": { "scope": "run_profile", "window": "1ms" },
            },
            "profiles": ["plain"],
        });
        let id = Uuid::from_u128(u128::try_from(number)? + 1);
        run_profiles.insert(
            label.clone(),
            json!({ "run_profile_id": id, "label": label, "execution_policy": policy }),
        );
    }
    let tier = json!({ "processor": "fill" });
    Ok(serde_json::from_value(json!({
        "namespace": name, "config": { "disk_floor": "0 B" },
        "sources": { "candidates": { "kind": "inline", "name": "candidates", "items": items } },
        "processors": { "fill": { "kind": "exec", "name": "fill", "argv": ["fill"], "concurrency": WIDE } },
        "endpoints": { "sink": {
            "name": "sink", "url": url, "concurrency": in_flight * ATTEMPTS_EACH, "retry": { "attempts": 1 },
            "addresses": { "allow": ["127.0.0.0/8"] },
        } },
        "profiles": { "plain": {
            "profile_id": Uuid::from_u128(7), "label": "plain",
            "execution_rules": { "tiers": [tier, tier, tier], "normalize": tier },
            "distribution_map": [{ "endpoint": "sink" }],
        } },
        "run_profiles": run_profiles, "assets": {},
    }))?)
}
