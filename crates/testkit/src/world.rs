//! What outlives a process: the home, the receiver, the clock, and the configuration of the cycle. How far the script is and what time it is
//! lie in files of the home, so that it also goes on after a real process has died.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use jiff::Timestamp;
use orbit_core::config::{NamespaceName, SecretRef, Snapshot};
use orbit_engine::clock::Clock;
use orbit_engine::layout::Layout;
use orbit_engine::secrets::Secrets;
use orbit_store::Store;
use orbit_store::contract::record::{RecordFilter, StoredRecord};
use orbit_store::contract::view::Counts;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::backend::{Place, is_postgres};
use crate::cluster::{TestDatabase, blocking};
use crate::receiver::{Receiver, Request};

/// More records than a cycle has.
const RECORDS_MAX: u32 = 10_000;
/// The one run profile.
pub const RUN_PROFILE: Uuid = Uuid::from_u128(9);

/// The namespace of every world.
pub fn namespace() -> NamespaceName {
    NamespaceName::parse("lab").unwrap()
}

/// A clock that stands until it is set, and is read from a file after a start.
pub struct Standing {
    now: Mutex<Timestamp>,
    file: PathBuf,
}

impl Standing {
    fn open(file: PathBuf) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_else(|_| "2026-01-01T00:00:00Z".to_owned());
        Self { now: Mutex::new(text.parse().unwrap()), file }
    }

    /// It shows this from now on.
    pub fn set(&self, now: Timestamp) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
        fs::write(&self.file, now.to_string()).unwrap();
    }

    /// It shows what another process set.
    pub fn read(&self) {
        let again = Self::open(self.file.clone()).now();
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = again;
    }
}

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn random(&self) -> [u8; 32] {
        [7; 32]
    }
}

/// There are none.
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _: &NamespaceName, _: &SecretRef) -> Option<String> {
        None
    }
}

/// The store of the process that is alive, for those outside of it whose answer hangs on what is durable.
#[derive(Clone)]
pub struct Alive {
    store: Arc<RwLock<Option<Weak<dyn Store>>>>,
    place: Place,
}

impl Alive {
    /// This process is alive from now on.
    pub fn set(&self, store: &Arc<dyn Store>) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::downgrade(store));
    }

    /// How much of everything there is.
    pub async fn counts(&self) -> Counts {
        let store =
            self.store.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Weak::upgrade);
        store.unwrap().counts().await.unwrap()
    }

    /// The durable records.
    pub async fn records(&self) -> Vec<StoredRecord> {
        let store =
            self.store.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Weak::upgrade);
        let filter = RecordFilter::default();
        let Some(store) = store else {
            // The one that is alive is another process.
            let store = self.place.open(&namespace()).await.unwrap();
            return store.records(filter, RECORDS_MAX).await.unwrap();
        };
        store.records(filter, RECORDS_MAX).await.unwrap_or_default()
    }
}

/// See the module.
pub struct World {
    home: PathBuf,
    _folder: Option<tempfile::TempDir>,
    /// Another world may have it after this one.
    _database: Option<TestDatabase>,
    receiver: Option<Receiver>,
    /// Where the endpoints are.
    pub address: String,
    /// The time.
    pub clock: Arc<Standing>,
    /// The process that is alive.
    pub alive: Alive,
}

impl World {
    /// A home in which nothing has happened yet, and a receiver.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        fs::create_dir_all(layout.namespace(&namespace())).unwrap();
        fs::create_dir_all(layout.data(&namespace())).unwrap();
        let database = is_postgres().then(|| blocking(TestDatabase::lent()));
        if let Some(database) = &database {
            Place::write_note(folder.path(), database);
        }
        let mut world = Self::of_another(folder.path(), String::new());
        let mended = world.mended();
        let receiver = Receiver::start(move |request| answer(request, &mended));
        world.address = receiver.url("");
        Self { _folder: Some(folder), _database: database, receiver: Some(receiver), ..world }
    }

    /// The world of another process, which has the receiver at this address.
    pub fn of_another(home: &Path, address: String) -> Self {
        let place = Place::noted(home, Layout::new(home).database(&namespace()));
        let alive = Alive { store: Arc::default(), place };
        let clock = Arc::new(Standing::open(home.join("clock")));
        Self { home: home.to_owned(), _folder: None, _database: None, receiver: None, address, clock, alive }
    }

    /// The home; everything durable lies in it.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Everything that arrived.
    pub fn requests(&self) -> Vec<Request> {
        self.receiver.as_ref().map(Receiver::requests).unwrap_or_default()
    }

    /// Exists when `beta` takes what it refused before.
    pub fn mended(&self) -> PathBuf {
        self.home.join("mended")
    }

    /// Holds how far the script is.
    pub fn scene(&self) -> PathBuf {
        self.home.join("scene")
    }

    /// Where things lie.
    pub fn layout(&self) -> Layout {
        Layout::new(&self.home)
    }

    /// Where the store is.
    pub fn place(&self) -> &Place {
        &self.alive.place
    }

    /// Two profiles whose runs are normalized together and owed to two endpoints; a third endpoint is told of dead letters and halts.
    pub fn snapshot(&self) -> Snapshot {
        let names = |name: &str| (name.to_owned(), processor(name));
        let mut processors: BTreeMap<String, Value> = ["one", "two", "three"].map(names).into();
        processors.insert("pack".to_owned(), pack());
        let endpoints: BTreeMap<_, _> =
            ["alpha", "beta", "operator"].map(|name| (name, self.endpoint(name))).into();
        serde_json::from_value(json!({
            "namespace": "lab",
            "config": { "disk_floor": "0 B", "notify": [{ "endpoint": "operator", "on": ["dead_letter", "halted"] }] },
            "sources": { "words": { "kind": "inline", "name": "words", "items": [{ "label": "a" }] } },
            "processors": processors, "endpoints": endpoints,
            "profiles": { "p1": profile(1), "p2": profile(2) },
            "run_profiles": { "daily": {
                "run_profile_id": RUN_PROFILE, "label": "daily",
                "execution_policy": {
                    "selection": { "source": "words", "choose": "in_order" }, "profiles": ["p1", "p2"],
                },
            } },
            "assets": {},
        }))
        .unwrap()
    }

    fn endpoint(&self, name: &str) -> Value {
        json!({
            "name": name, "url": format!("{}/{name}", self.address), "timeout": "20s",
            "addresses": { "allow": ["127.0.0.0/8"] }, "retry": { "attempts": 2, "schedule": ["1s"] },
        })
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// `beta` refuses everything until it is mended; the others refuse nothing.
fn answer(request: &Request, mended: &Path) -> u16 {
    if request.path == "/beta" && !mended.exists() { 503 } else { 200 }
}

fn processor(name: &str) -> Value {
    json!({
        "kind": "exec", "name": name, "argv": ["cat"],
        "output": { "to": "file", "extension": "txt", "media_type": "text/plain" },
        "retry": { "attempts": 3, "backoff": { "initial": "1s" } },
    })
}

/// A real program: one start for all items of its manifest.
fn pack() -> Value {
    let script = "field() { printf '%s' \"$line\" | sed \"s/.*\\\"$1\\\":\\\"\\([^\\\"]*\\)\\\".*/\\1/\"; }\n\
        while IFS= read -r line; do item=$(field item); input=$(field input); output=$(field output)\n\
        { cat \"$input\"; echo packed; } > \"$output\"; printf '{\"item\":\"%s\",\"ok\":true}\\n' \"$item\"\n\
        done < \"$1\"";
    let mut document = processor("pack");
    document["argv"] = json!(["sh", "-c", script, "sh", "{{ manifest }}"]);
    document
}

fn profile(number: u128) -> Value {
    json!({
        "profile_id": Uuid::from_u128(number), "label": format!("p{number}"),
        "execution_rules": {
            "tiers": [{ "processor": "one" }, { "processor": "two" }, { "processor": "three" }],
            "normalize": { "processor": "pack", "batch": { "items_max": 2, "wait_max": "1m" } },
        },
        "distribution_map": [{ "endpoint": "alpha" }, { "endpoint": "beta" }],
    })
}
