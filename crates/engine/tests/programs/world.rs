//! A namespace over a real store with one admitted run, whose steps are done by calling the step runner.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use orbit_core::config::{DocName, NamespaceName, SecretRef, Snapshot, settings_digest};
use orbit_core::id::{Trigger, cycle_id, initiation_id, run_id};
use orbit_engine::clock::Clock;
use orbit_engine::gate::{Cell, SystemDisk};
use orbit_engine::http::Client;
use orbit_engine::layout::Layout;
use orbit_engine::namespace::Namespace;
use orbit_engine::node::Shared;
use orbit_engine::permits::NodePermits;
use orbit_engine::secrets::Secrets;
use orbit_engine::tiers::{Processor, step};
use orbit_store::blobs::{Blobs, FolderBlobs};
use orbit_store::contract::OpenDoors;
use orbit_store::contract::record::{RecordFilter, StoredRecord};
use orbit_store::contract::schedule::NewCycle;
use orbit_store::contract::selection::{Choice, Initiation, NewRun, TakeRule};
use orbit_store::contract::tiers::{ClaimedStep, Free};
use orbit_store::contract::view::RunView;
use orbit_testkit::cluster::TestDatabase;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fixture::launcher;

/// Steps that one run may be given before a test has gone wrong.
const STEPS_MAX: usize = 20;

/// A clock that stands until it is set.
struct Standing(Mutex<Timestamp>);

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn random(&self) -> [u8; 32] {
        [7; 32]
    }
}

struct OneSecret;

impl Secrets for OneSecret {
    fn get(&self, _: &NamespaceName, secret: &SecretRef) -> Option<String> {
        (secret.name() == "KEY").then(|| "s3cret-value".to_owned())
    }
}

/// What a test says about the run: a processor document for each step, without its name and kind.
pub(crate) struct Plan {
    pub(crate) processors: Vec<Value>,
    pub(crate) embedded: BTreeMap<DocName, Arc<dyn Processor>>,
    pub(crate) label: &'static str,
    pub(crate) deadline: SignedDuration,
    /// Owed to an endpoint with this address.
    pub(crate) url: Option<&'static str>,
    /// The node's; cancelled to stop it.
    pub(crate) stopping: CancellationToken,
}

/// See the module.
pub(crate) struct World {
    _home: tempfile::TempDir,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) run_id: Uuid,
    clock: Arc<Standing>,
    _database: Option<TestDatabase>,
}

impl Plan {
    /// Three steps; each processor is a shell script, and its name `p` and the step's number.
    pub(crate) fn scripts(scripts: [&str; 3]) -> Self {
        Self::of(scripts.into_iter().map(|script| json!({ "argv": ["sh", "-c", script] })).collect())
    }

    pub(crate) fn of(processors: Vec<Value>) -> Self {
        Self {
            processors,
            embedded: BTreeMap::new(),
            label: "a label",
            deadline: SignedDuration::from_hours(1),
            url: None,
            stopping: CancellationToken::new(),
        }
    }

    /// Only the first step matters: the others repeat their input.
    pub(crate) fn first(processor: Value) -> Self {
        let cat = json!({ "argv": ["cat"], "input": "stdin" });
        Self::of(vec![processor, cat.clone(), cat])
    }

    fn snapshot(&self, asset: &orbit_store::blobs::Blob) -> Snapshot {
        let mut processors = Map::new();
        for (index, body) in self.processors.iter().enumerate() {
            let name = format!("p{}", index + 1);
            let mut document = json!({ "kind": "exec", "name": name });
            document.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
            processors.insert(name, document);
        }
        let endpoints =
            self.url.map_or(json!({}), |url| json!({ "archive": { "name": "archive", "url": url } }));
        serde_json::from_value(json!({
            "namespace": "studio", "config": { "disk_floor": "0 B" }, "sources": {}, "processors": processors,
            "endpoints": endpoints, "profiles": {}, "run_profiles": {},
            "assets": { "assets/a.bin": { "digest": asset.digest, "bytes": asset.bytes } },
        }))
        .unwrap()
    }

    fn request(&self, snapshot: &Snapshot, cycle: Uuid, run: Uuid) -> Value {
        let words = ["tier1", "tier2", "tier3", "normalize"];
        let steps = words.iter().zip(snapshot.processors.values()).map(|(word, processor)| {
            let reference = json!({ "name": processor.name(), "settings": settings_digest(processor) });
            let mut step = json!({ "step": word, "processor": reference });
            if *word == "tier3" {
                step["reference"] = json!("backdrop");
            }
            step
        });
        let targets = snapshot.endpoints.iter();
        let targets =
            targets.map(|(name, endpoint)| json!({ "name": name, "settings": settings_digest(endpoint) }));
        let asset = &snapshot.assets["assets/a.bin"];
        json!({
            "namespace": "studio", "snapshot": snapshot.digest(),
            "cycle": { "id": cycle, "trigger": "manual:1", "nominal": "2026-01-01T00:00:00Z" },
            "run": { "run_id": run },
            "run_profile": { "id": Uuid::nil(), "label": "daily" },
            "profile": { "id": Uuid::nil(), "label": "explainer", "style_vector": { "width": 7 } },
            "initiation": { "id": initiation_id(cycle), "label": self.label, "weight": 1.0, "metadata": {} },
            "instruction": { "instruction_id": Uuid::nil(), "context_blob": "", "constraints": {}, "priority": 0.5 },
            "steps": steps.collect::<Vec<_>>(),
            "assets": { "backdrop": { "path": "assets/a.bin", "digest": asset.digest, "bytes": asset.bytes } },
            "targets": targets.collect::<Vec<_>>(), "value_tags": [], "deadline": "1h",
        })
    }
}

impl World {
    pub(crate) async fn new(plan: Plan) -> Self {
        let home = tempfile::tempdir().unwrap();
        let name = NamespaceName::parse("studio").unwrap();
        let layout = Layout::new(home.path());
        std::fs::create_dir_all(layout.namespace(&name)).unwrap();
        std::fs::create_dir_all(layout.data(&name)).unwrap();
        let blobs = Arc::new(Blobs::from(FolderBlobs::open(&layout.blobs(&name)).unwrap()));
        let asset = blobs.put_bytes(b"<asset>").unwrap();
        let clock = Arc::new(Standing(Mutex::new("2026-01-01T00:00:00Z".parse().unwrap())));
        let snapshot = plan.snapshot(&asset);
        let shared = Shared {
            node: "test".to_owned(),
            lease: orbit_engine::lease::LEASE,
            layout,
            clock: Arc::<Standing>::clone(&clock),
            disk: Arc::new(SystemDisk),
            launcher: launcher(),
            client: Client::system(),
            secrets: Arc::new(OneSecret),
            paused: Cell::default(),
            halted: Cell::default(),
            reopened_at: Cell::default(),
            superseded: orbit_engine::lease::Superseded::default(),
            stopping: plan.stopping.clone(),
            runs: NodePermits::new(1, Arc::<Standing>::clone(&clock)),
            embedded: plan.embedded.clone(),
        };
        let (store, database) = orbit_testkit::backend::store(&name).await;
        let namespace = Arc::new(Namespace::open(name, Arc::new(shared), store, blobs).await.unwrap());
        namespace.store.join(&namespace.shared.joining(), namespace.shared.clock.now()).await.unwrap();
        namespace.activate(snapshot.clone()).await.unwrap();
        let run_id = admit(&namespace, &plan, &snapshot).await;
        Self { _home: home, namespace, run_id, clock, _database: database }
    }

    /// The step that may start now, if there is one.
    pub(crate) async fn claim(&self) -> Option<ClaimedStep> {
        let doors = OpenDoors { first: true, retry: true };
        self.namespace.store.claim_steps(Free::of(1, doors), self.clock.now()).await.unwrap().pop()
    }

    /// Does the step and those that follow it, with the permits that it needs.
    pub(crate) async fn work(&self, claimed: ClaimedStep) {
        let admission = self.namespace.permits.admit().await;
        let node = admission.node(1).permits.pop().unwrap();
        let (run, processor) = admission.take(&claimed.lane, node);
        drop(admission);
        step::run(&self.namespace, claimed, processor).await;
        drop(run);
    }

    /// Does every step that may start, waiting for none.
    pub(crate) async fn go(&self) -> RunView {
        for _ in 0..STEPS_MAX {
            let Some(claimed) = self.claim().await else { return self.view().await };
            self.work(claimed).await;
            self.nothing_is_left();
        }
        panic!("the run does not come to an end");
    }

    /// As `go`, waiting for every attempt.
    pub(crate) async fn go_on(&self) -> RunView {
        for _ in 0..STEPS_MAX {
            let view = self.go().await;
            match self.namespace.store.next_step_due().await.unwrap() {
                Some(due) if view.state == "waiting" => *self.clock.0.lock().unwrap() = due,
                Some(_) | None => return view,
            }
        }
        panic!("the run waits for ever");
    }

    pub(crate) fn pass(&self, time: SignedDuration) {
        *self.clock.0.lock().unwrap() += time;
    }

    pub(crate) async fn view(&self) -> RunView {
        self.namespace.store.run(self.run_id).await.unwrap().unwrap()
    }

    /// The stored output of a step.
    pub(crate) fn bytes(&self, view: &RunView, step: usize) -> Vec<u8> {
        self.namespace.payloads.read(view.steps[step].digest.unwrap()).unwrap().to_vec()
    }

    /// Where it lies, if it is large.
    pub(crate) fn blob(&self, view: &RunView, step: usize) -> PathBuf {
        self.namespace.blobs.path(view.steps[step].digest.unwrap())
    }

    /// Records of one kind, in order.
    pub(crate) async fn records(&self, kind: &str) -> Vec<StoredRecord> {
        let filter = RecordFilter { run_id: Some(self.run_id), ..RecordFilter::default() };
        let records = self.namespace.store.records(filter, 1_000).await.unwrap();
        records.into_iter().filter(|record| record.kind == kind).collect()
    }

    /// Every work folder is gone.
    pub(crate) fn nothing_is_left(&self) {
        let work = self.namespace.shared.layout.work(&self.namespace.name);
        let left: Vec<_> =
            std::fs::read_dir(work).into_iter().flatten().flatten().map(|one| one.path()).collect();
        assert_eq!(left, Vec::<PathBuf>::new(), "work folders are left");
    }
}

async fn admit(namespace: &Namespace, plan: &Plan, snapshot: &Snapshot) -> Uuid {
    let (store, now) = (&namespace.store, namespace.shared.clock.now());
    let trigger = Trigger::Manual { key: "1".to_owned() };
    let cycle = cycle_id(&namespace.name, Uuid::nil(), &trigger, now);
    let new = NewCycle {
        cycle_id: cycle,
        run_profile_id: Uuid::nil(),
        run_profile: "daily".to_owned(),
        trigger: trigger.to_string(),
        nominal: now,
        snapshot: snapshot.digest(),
        queued: false,
        preset: Value::Null,
        detail: json!({}),
    };
    assert!(store.fire(new, now).await.unwrap());
    let claimed = store.claim_cycle(now).await.unwrap().unwrap();
    let candidate = Initiation {
        id: initiation_id(cycle),
        label: plan.label.to_owned(),
        weight: 1.0,
        metadata: Map::new(),
        hash: snapshot.digest(),
    };
    let rule = TakeRule { scope: "namespace".to_owned(), taken_since: None, release_on: Vec::new() };
    let choice = Choice { candidates: vec![candidate], rule, report: json!({}) };
    store.take_initiation(claimed.claim, choice, now).await.unwrap();
    let run = run_id(cycle, Uuid::nil());
    let new = NewRun {
        run_id: run,
        profile_id: Uuid::nil(),
        profile: "explainer".to_owned(),
        priority: 0.5,
        deadline_at: now + plan.deadline,
        request: plan.request(snapshot, cycle, run),
        rejected: None,
        retry_of: None,
        start: None,
    };
    assert!(store.admit(claimed.claim, vec![new], now).await.unwrap());
    run
}
