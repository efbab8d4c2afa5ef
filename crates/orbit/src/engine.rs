//! A home that this process holds: the lock, the stores, the node, and the configuration as it was last read.

mod apply;
mod documents;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use orbit_core::config::{NamespaceName, NodeConfig, SecretRef, Snapshot, settings_digest};
use orbit_core::digest::Digest;
use orbit_core::record::signing::SigningError;
use orbit_core::record::{Kind, Record, Seeds, Subject};
use orbit_engine::ballast::Ballast;
use orbit_engine::clock::{Clock, SystemClock};
use orbit_engine::gate::{Cell, SystemDisk};
use orbit_engine::http::Client;
use orbit_engine::layout::Layout;
use orbit_engine::lease::{Former, LEASE, Mark};
use orbit_engine::namespace::Namespace;
use orbit_engine::node::{Duty, Node, Shared};
use orbit_engine::permits::NodePermits;
use orbit_engine::record;
use orbit_engine::secrets::Secrets;
use orbit_engine::supervisor::{self, Launcher};
use orbit_store::StoreError;
use orbit_store::contract::governance::Halt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::backup::Desk;
use crate::bucket::{Place, PlaceError};
use crate::config::{self, Diagnostic, Loaded, LoadedNamespace, load};
use crate::control::{HomeLock, LockError};
use crate::environment::{Environment, EnvironmentError};
use crate::signing;
use crate::stores::{DatabaseError, Stores, backend_of};

pub use apply::{Applied, Difference, Outcome};

/// See the module.
pub struct Engine {
    /// Where things lie.
    pub layout: Layout,
    /// The node.
    pub node: Node,
    /// `orbit.yaml` as it was read at the start.
    pub config: NodeConfig,
    /// When this process took the home.
    pub started_at: Timestamp,
    /// Which services run.
    pub duty: Duty,
    /// The backup that is being made, or was made last.
    pub backups: Arc<Desk>,
    /// The address that health is served on.
    pub listening: Cell<Option<String>>,
    /// Where the rows are.
    pub stores: Stores,
    /// Where larger payloads lie.
    pub place: Place,
    seeds: Option<Seeds>,
    environment: Arc<Cell<Environment>>,
    preview: Cell<Option<Arc<Preview>>>,
    /// What the documents of each namespace came to when they were last read.
    documents: Mutex<BTreeMap<NamespaceName, Digest>>,
    lock: HomeLock,
}

/// The documents as they are, for questions about what they would do.
struct Preview {
    node: NodeConfig,
    snapshots: BTreeMap<NamespaceName, Arc<Snapshot>>,
}

/// Why a home could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// See [`LockError`].
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The configuration has problems.
    #[error("the configuration has {} problem(s)", problems.len())]
    Config {
        /// All of them.
        problems: Vec<Diagnostic>,
    },
    /// `.env` or the environment cannot be used.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// A log cannot be signed, so nothing may be written to it.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The seed of the logs' keys is gone.
    #[error("`ORBIT_LOG_SEED` is not set, but the logs of this home are signed")]
    SeedGone,
    /// Nobody has begun to sign a namespace's log, or nobody can.
    #[error(
        "its log is not signed, and nothing is written to it before a node starts in it: `orbit serve`, or `orbit run`"
    )]
    NotSigned,
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The place of larger payloads cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A store or the blobs cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or folder cannot be read or written.
    #[error("cannot use `{path}`: {message}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        message: String,
    },
}

struct LiveSecrets(Arc<Cell<Environment>>);

impl Secrets for LiveSecrets {
    fn get(&self, namespace: &NamespaceName, secret: &SecretRef) -> Option<String> {
        self.0.get().secret(namespace, secret).map(|secret| secret.expose().to_owned())
    }
}

impl Engine {
    /// Takes the home. With a duty, the configuration must be valid: it is activated, and the services start.
    pub async fn open(layout: Layout, duty: Duty) -> Result<Arc<Self>, OpenError> {
        let lock = HomeLock::take(&layout)?;
        Ballast::of(&layout).release_to_start(&SystemDisk);
        let (environment, _) = Environment::load(layout.home())?;
        let paused = environment.paused()?;
        let loaded = match duty {
            Duty::None => None,
            Duty::Serve | Duty::RunOnly => Some(valid(load(layout.home()))?),
        };
        let config = loaded.as_ref().map(|loaded| loaded.node.clone()).unwrap_or_default();
        let backend = match &loaded {
            Some(loaded) => loaded.node.storage.backend,
            None => backend_of(&layout).map_err(|problems| OpenError::Config { problems })?,
        };
        let stores = Stores::find(&layout, backend, &environment).await?;
        let artifacts = match &loaded {
            Some(loaded) => loaded.node.artifacts.clone(),
            None => config::node(layout.home()).artifacts,
        };
        let place = Place::new(&artifacts, &environment)?;
        let environment = Arc::new(Cell::new(environment));
        if duty != Duty::None {
            // Whoever survived a crash of the last process works for nobody.
            supervisor::sweep(&supervisor::marker(layout.home()));
        }
        let system = stores.open(&NamespaceName::system()).await?;
        let seeds = match duty {
            Duty::None => None,
            Duty::Serve | Duty::RunOnly => {
                Some(signing::seeds(layout.home(), &environment.get(), &*system).await?)
            }
        };
        let shared = shared(&layout, &config, Arc::clone(&environment), paused)?;
        let node = Node::open(shared, system).await?;
        let engine = Arc::new(Self {
            started_at: node.shared.clock.now(),
            layout,
            node,
            config,
            duty,
            stores,
            place,
            seeds,
            backups: Arc::default(),
            listening: Cell::default(),
            environment,
            preview: Cell::default(),
            documents: Mutex::default(),
            lock,
        });
        match loaded {
            Some(loaded) => engine.start(loaded).await?,
            None => engine.open_what_exists().await?,
        }
        Ok(engine)
    }

    async fn start(&self, loaded: Loaded) -> Result<(), OpenError> {
        self.node.anchor.set(self.config.log.anchor.as_ref().map(PathBuf::from));
        self.start_own_log().await?;
        let mut started = 0;
        let mut last_error = None;
        for namespace in loaded.namespaces {
            let name = namespace.name.clone();
            match self.add(namespace).await {
                Ok(()) => started += 1,
                Err(error) => {
                    // One namespace that cannot start leaves the others running.
                    self.report(&name, &error.to_string()).await;
                    if matches!(error, OpenError::Signing(_)) {
                        self.add_for_reading(&name, &error.to_string()).await?;
                    }
                    last_error = Some(error);
                }
            }
        }
        if let Some(heartbeat) = self.config.heartbeat.clone().filter(|_| self.duty == Duty::Serve) {
            self.node.start_heartbeat(heartbeat);
        }
        match last_error {
            Some(error) if started == 0 => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    /// What concerns the whole node is a record in a log of its own, which is signed like every other.
    async fn start_own_log(&self) -> Result<(), OpenError> {
        let Some(seeds) = &self.seeds else { return Ok(()) };
        let (store, shared) = (&*self.node.system, &self.node.shared);
        let signer = signing::begin(store, &NamespaceName::system(), seeds, &*shared.clock).await?;
        self.claim_place().await?;
        if let Some(anchor) = self.node.anchor.get() {
            record::witness(store, &signer, anchor).await;
            // A server that came back with older data is refused here, before anything is written.
            store.log_state().await?;
        }
        let body = json!({
            "node": shared.node,
            "version": env!("CARGO_PKG_VERSION"),
            "config": settings_digest(&self.config),
        });
        self.record(Kind::NodeStarted, body).await;
        self.node.sign_own_log(signer);
        Ok(())
    }

    /// The place of larger payloads is this store's, which the first name of the node's own log tells from every other, over restores and new keys. Nothing is
    /// claimed for a log without a name.
    async fn claim_place(&self) -> Result<(), OpenError> {
        match self.node.system.signers().await?.into_iter().next() {
            Some(first) => Ok(self.place.works_for(&first.origin).await?),
            None => Ok(()),
        }
    }

    /// A namespace whose log cannot be signed can be looked at, and nothing else: no service runs, and every door is closed.
    async fn add_for_reading(&self, name: &NamespaceName, why: &str) -> Result<(), OpenError> {
        let namespace = self.open_namespace(name).await?;
        namespace.set_halted(Some(Halt { at: self.started_at, reason: why.to_owned() }));
        self.node.add(namespace, Duty::None).await?;
        Ok(())
    }

    async fn add(&self, loaded: LoadedNamespace) -> Result<(), OpenError> {
        let mut namespace = self.open_namespace(&loaded.name).await?;
        if let Some(seeds) = &self.seeds {
            let clock = &*self.node.shared.clock;
            let signer = signing::begin(&*namespace.store, &loaded.name, seeds, clock).await?;
            let active = if self.documents_rule() { None } else { namespace.active() };
            let config = &active.as_deref().unwrap_or(&loaded.snapshot).config;
            let own = config.log.anchor.as_ref().map(PathBuf::from);
            if let Some(anchor) = own.or_else(|| self.node.anchor.get()) {
                record::witness(&*namespace.store, &signer, anchor).await;
            }
            namespace.signer = Some(signer);
        }
        self.settle(&namespace, loaded).await?;
        self.node.add(namespace, self.duty).await?;
        Ok(())
    }

    async fn open_namespace(&self, name: &NamespaceName) -> Result<Namespace, OpenError> {
        let store = self.stores.open(name).await?;
        let folder = self.layout.blobs(name);
        let blobs = self.place.open(&self.layout, name).map_err(|error| OpenError::Io {
            path: folder.display().to_string(),
            message: error.to_string(),
        })?;
        let shared = Arc::clone(&self.node.shared);
        let mut namespace = Namespace::open(name.clone(), shared, store, Arc::new(blobs)).await?;
        let mark = Mark::of(self.lock.file()).ok();
        namespace.former = mark.map(|mark| Former::new(self.layout.incarnation(name), mark));
        Ok(namespace)
    }

    /// Every namespace that has a folder of documents or of data, for reading.
    async fn open_what_exists(&self) -> Result<(), OpenError> {
        let mut names = BTreeSet::new();
        for folder in ["data", "namespaces"] {
            for entry in std::fs::read_dir(self.layout.home().join(folder)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_str().and_then(|name| NamespaceName::parse(name).ok());
                names.extend(name.filter(|name| *name != NamespaceName::system()));
            }
        }
        for name in names {
            let namespace = self.open_namespace(&name).await?;
            self.node.add(namespace, Duty::None).await?;
        }
        Ok(())
    }

    /// What cannot be read, or not as yes or no, counts as paused: the safe side. Secrets stay as they were until the file can be read.
    async fn reload_environment(&self) {
        let environment = match Environment::load(self.layout.home()) {
            Ok((environment, _)) => environment,
            Err(error) => {
                tracing::warn!(%error, "paused until the environment can be read");
                self.node.set_paused(true);
                return;
            }
        };
        let paused = environment.paused().unwrap_or(true);
        let changed = environment.changed_names(&self.environment.get());
        self.environment.set(environment);
        self.node.set_paused(paused);
        if !changed.is_empty() {
            self.record(Kind::SecretsChanged, json!({ "names": changed })).await;
        }
    }

    fn lock_documents(&self) -> MutexGuard<'_, BTreeMap<NamespaceName, Digest>> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn report(&self, namespace: &NamespaceName, message: &str) {
        tracing::error!(%namespace, "{message}");
        self.record(Kind::ServiceFailed, json!({ "namespace": namespace, "message": message })).await;
    }

    /// Records what concerns the whole node.
    async fn record(&self, kind: Kind, body: serde_json::Value) {
        let record = Record::fact(self.node.shared.clock.now(), kind, Subject::default(), body);
        if let Err(error) = self.node.system.append(vec![record]).await {
            tracing::error!(kind = kind.name(), %error, "a record could not be appended");
        }
    }
}

fn valid(loaded: Loaded) -> Result<Loaded, OpenError> {
    if loaded.problems.iter().any(Diagnostic::is_error) {
        return Err(OpenError::Config { problems: loaded.problems });
    }
    Ok(loaded)
}

fn shared(
    layout: &Layout,
    config: &NodeConfig,
    environment: Arc<Cell<Environment>>,
    paused: bool,
) -> Result<Shared, OpenError> {
    let program = std::env::current_exe().map_err(|error| OpenError::Io {
        path: "the running program".to_owned(),
        message: error.to_string(),
    })?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(Shared {
        node: config.node.name.clone(),
        lease: LEASE,
        layout: layout.clone(),
        clock: Arc::clone(&clock),
        disk: Arc::new(SystemDisk),
        launcher: Launcher { program, args: vec![crate::SUPERVISE.into()] },
        client: Client::system(),
        secrets: Arc::new(LiveSecrets(environment)),
        paused: Cell::new(paused),
        halted: Cell::default(),
        reopened_at: Cell::default(),
        superseded: orbit_engine::lease::Superseded::default(),
        stopping: CancellationToken::new(),
        runs: NodePermits::new(config.limits.runs_concurrent, clock),
        embedded: BTreeMap::new(),
    })
}
