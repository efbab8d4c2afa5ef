//! One process over a world: from opening the store to its end. Its services are driven turn by turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::run::Step;
use orbit_core::tiers::Failure;
use orbit_engine::clock::Clock as _;
use orbit_engine::gate::{Cell, SystemDisk};
use orbit_engine::http::Client;
use orbit_engine::keeper::Keeper;
use orbit_engine::lease::LEASE;
use orbit_engine::namespace::Namespace;
use orbit_engine::node::{Duty, Node, Shared};
use orbit_engine::notify::Notifier;
use orbit_engine::permits::NodePermits;
use orbit_engine::service::Service;
use orbit_engine::supervisor::Launcher;
use orbit_engine::tiers::{Job, Processed, Processor, Workers};
use orbit_engine::{dispatch, normalize, selection};
use orbit_store::StoreError;
use orbit_store::blobs::{BlobError, FolderBlobs};
use orbit_store::contract::earlier;
use orbit_store::payloads::INLINE_BYTES_MAX;
use orbit_store::sqlite::SqliteStore;
use tokio_util::sync::CancellationToken;

use crate::fault::{Ended, Plan};
use crate::faulty::FaultyStore;
use crate::files::FaultyFiles;
use crate::world::{Alive, NoSecrets, Standing, World, namespace};

/// Passes over all services without an end: a test that has gone wrong.
const PASSES_MAX: usize = 400;

/// See the module.
pub struct Incarnation {
    /// Its node.
    pub node: Node,
    /// Its namespace, over the store that obeys the plan.
    pub namespace: Arc<Namespace>,
    /// Reads that are no calls.
    pub alive: Alive,
    services: Vec<Arc<dyn Service>>,
    clock: Arc<Standing>,
}

impl Incarnation {
    /// Opens everything, joins, and takes over what the process before left. An error is a process that could not start.
    pub async fn start(world: &World, plan: &Arc<Plan>, ended: &Ended) -> Result<Self, StoreError> {
        let name = namespace();
        world.place().leases_end().await;
        let inner = world.place().open(&name).await?;
        world.alive.set(&inner);
        let store = Arc::new(FaultyStore::new(inner, Arc::clone(plan), ended.clone()));
        let files = Arc::new(FaultyFiles::new(Arc::clone(plan), ended.clone()));
        let blobs = FolderBlobs::open_over(&world.layout().blobs(&name), files);
        let of_files =
            |error: BlobError| StoreError::Io { place: "blobs".to_owned(), message: error.to_string() };
        let blobs = Arc::new(blobs.map_err(of_files)?.into());
        let system = Arc::new(SqliteStore::in_memory(&name)?);
        let node = Node::open(shared(world), system).await?;
        let opened = Namespace::open(name, Arc::clone(&node.shared), store, blobs).await?;
        let namespace = node.add(opened, Duty::None).await?;
        namespace.store.join(&namespace.shared.joining(), world.clock.now()).await?;
        let of = || Arc::clone(&namespace);
        let services: Vec<Arc<dyn Service>> = vec![
            Arc::new(selection::Selector::new(of())),
            Arc::new(Workers::new(of())),
            Arc::new(normalize::Batches::new(of())),
            Arc::new(dispatch::Dispatcher::new(of())),
            Arc::new(Keeper::new(of())),
            Arc::new(Notifier::new(of())),
        ];
        Ok(Self { node, namespace, alive: world.alive.clone(), services, clock: Arc::clone(&world.clock) })
    }

    /// A turn of every service, and the end of what they started: how much was done, and when there is something to do again.
    pub async fn pass(&self) -> (usize, Option<Timestamp>) {
        let (mut done, mut next) = (0, None);
        for service in &self.services {
            match service.turn().await {
                Ok(turn) => {
                    done += turn.done;
                    next = earlier(next, turn.next);
                }
                Err(error) => {
                    service.failed(&error).await;
                    done += 1;
                }
            }
            for tasks in [&self.namespace.runs, &self.namespace.tasks] {
                tasks.close();
                tasks.wait().await;
                tasks.reopen();
            }
        }
        (done, next)
    }

    /// Passes until nothing is left to do, or it holds. Time passes only where it is `patient`.
    pub async fn go(&self, patient: bool, until: impl AsyncFn(&Self) -> bool) {
        for _ in 0..PASSES_MAX {
            if until(self).await {
                return;
            }
            let (done, next) = self.pass().await;
            if done > 0 {
                continue;
            }
            match next.filter(|next| patient && *next > self.clock.now()) {
                Some(next) => self.clock.set(next),
                None => return,
            }
        }
        panic!("the services come to no end");
    }
}

fn shared(world: &World) -> Shared {
    let clock = || Arc::<Standing>::clone(&world.clock);
    let embedded =
        [("one", Step::Tier1), ("two", Step::Tier2), ("three", Step::Tier3)].map(|(name, step)| {
            let processor: Arc<dyn Processor> = Arc::new(Adds { step, alive: world.alive.clone() });
            (name.parse().unwrap(), processor)
        });
    Shared {
        node: "test".to_owned(),
        lease: LEASE,
        layout: world.layout(),
        clock: clock(),
        disk: Arc::new(SystemDisk),
        launcher: Launcher { program: std::env::current_exe().unwrap(), args: vec!["__supervise".into()] },
        client: Client::system(),
        secrets: Arc::new(NoSecrets),
        paused: Cell::default(),
        halted: Cell::default(),
        reopened_at: Cell::default(),
        superseded: orbit_engine::lease::Superseded::default(),
        stopping: CancellationToken::new(),
        // One run after the other, so that the calls of two histories can be compared.
        runs: NodePermits::new(1, clock()),
        embedded: BTreeMap::from(embedded),
    }
}

/// Adds the word of its step. The second tier fails until its failure is durable.
struct Adds {
    step: Step,
    alive: Alive,
}

#[async_trait]
impl Processor for Adds {
    async fn process(&self, job: &Job, _: &CancellationToken) -> Processed {
        if self.step == Step::Tier2 {
            let run = Some(job.request.run.run_id);
            let records = self.alive.records().await;
            if !records.iter().any(|record| record.kind == "step_failed" && record.run_id == run) {
                return Processed::of(Err(Failure::Exit { code: 3 }));
            }
        }
        let mut bytes = job.input.to_vec();
        bytes.extend_from_slice(format!("\n{}", self.step.name()).as_bytes());
        if self.step == Step::Tier3 {
            // Small payloads are part of a commit, larger ones are files: there are both.
            bytes.resize(bytes.len() + usize::try_from(INLINE_BYTES_MAX).unwrap(), b'.');
        }
        Processed::of(Ok(bytes.into()))
    }
}
