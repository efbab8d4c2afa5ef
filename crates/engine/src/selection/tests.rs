//! Tests of selection and admission against the real store.

use std::collections::BTreeMap;
use std::sync::Arc;

use orbit_core::config::{NamespaceName, RunProfile, SecretRef, Snapshot};
use orbit_core::id::{Trigger, cycle_id};
use orbit_store::blobs::{Blobs, FolderBlobs};
use orbit_store::contract::record::RecordFilter;
use orbit_store::contract::schedule::NewCycle;
use orbit_store::contract::selection::{ClaimedCycle, Taken};
use orbit_store::contract::view::PageRequest;
use orbit_testkit::cluster::TestDatabase;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::admission::{AdmissionError, select_and_admit};
use super::{Selector, dry_run, pass};
use crate::clock::SystemClock;
use crate::gate::{Cell, SystemDisk};
use crate::http::Client;
use crate::layout::Layout;
use crate::namespace::Namespace;
use crate::node::Shared;
use crate::permits::NodePermits;
use crate::running::Cut;
use crate::secrets::Secrets;
use crate::service::Service;
use crate::supervisor::Launcher;

struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _: &NamespaceName, secret: &SecretRef) -> Option<String> {
        assert_ne!(secret.name(), "POISON");
        None
    }
}

/// A namespace in a home of its own.
struct World {
    home: tempfile::TempDir,
    namespace: Arc<Namespace>,
    _database: Option<TestDatabase>,
}

impl World {
    async fn new(change: impl FnOnce(&mut Value)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let name = NamespaceName::parse("studio").unwrap();
        let layout = Layout::new(home.path());
        std::fs::create_dir_all(layout.namespace(&name)).unwrap();
        std::fs::create_dir_all(layout.data(&name)).unwrap();
        let blobs = Arc::new(Blobs::from(FolderBlobs::open(&layout.blobs(&name)).unwrap()));
        let shared = Shared {
            node: "test".to_owned(),
            lease: crate::lease::LEASE,
            layout,
            clock: Arc::new(SystemClock),
            disk: Arc::new(SystemDisk),
            launcher: Launcher { program: "/nowhere".into(), args: Vec::new() },
            client: Client::system(),
            secrets: Arc::new(NoSecrets),
            paused: Cell::default(),
            halted: Cell::default(),
            reopened_at: Cell::default(),
            superseded: crate::lease::Superseded::default(),
            stopping: CancellationToken::new(),
            runs: NodePermits::new(1, Arc::new(SystemClock)),
            embedded: BTreeMap::new(),
        };
        let (store, database) = orbit_testkit::backend::store(&name).await;
        let namespace = Namespace::open(name, Arc::new(shared), store, blobs).await.unwrap();
        namespace.store.join(&namespace.shared.joining(), namespace.shared.clock.now()).await.unwrap();
        let world = Self { home, namespace: Arc::new(namespace), _database: database };
        world.configure(change).await;
        world
    }

    /// Activates the standard configuration with a change.
    async fn configure(&self, change: impl FnOnce(&mut Value)) {
        self.namespace.activate(snapshot(change)).await.unwrap();
    }

    fn active(&self) -> (Arc<Snapshot>, RunProfile) {
        let snapshot = self.namespace.active().unwrap();
        let run_profile = snapshot.run_profiles["daily"].clone();
        (snapshot, run_profile)
    }

    /// A cycle that has been fired by hand under the active snapshot and claimed.
    async fn claimed(&self, key: &str, preset: Value) -> ClaimedCycle {
        let (snapshot, run_profile) = self.active();
        let trigger = Trigger::Manual { key: key.to_owned() };
        let now = self.namespace.shared.clock.now();
        let cycle = NewCycle {
            cycle_id: cycle_id(&self.namespace.name, run_profile.run_profile_id, &trigger, now),
            run_profile_id: run_profile.run_profile_id,
            run_profile: run_profile.label.to_string(),
            trigger: trigger.to_string(),
            nominal: now,
            snapshot: snapshot.digest(),
            queued: false,
            preset,
            detail: json!({}),
        };
        assert!(self.namespace.store.fire(cycle, now).await.unwrap());
        self.namespace.store.claim_cycle(now).await.unwrap().unwrap()
    }

    async fn admit(&self, key: &str, preset: Value) -> Result<Uuid, AdmissionError> {
        let cycle = self.claimed(key, preset).await;
        let id = cycle.claim.id;
        // While somebody looks at the permits nothing starts: this is about what waits for it.
        let _looking = self.namespace.permits.admit().await;
        select_and_admit(&self.namespace, cycle).await.map(|_| id)
    }

    /// Profile and state of each run of a cycle, by profile, and what the cycle is about.
    async fn story(&self, cycle_id: Uuid) -> (Vec<(String, String)>, String) {
        let page = PageRequest { cursor: None, limit: 100 };
        let runs = self.namespace.store.runs(Some(cycle_id), page).await.unwrap().items;
        let about = runs.first().map(|run| run.initiation.clone()).unwrap_or_default();
        let mut story: Vec<_> =
            runs.into_iter().map(|run| (run.profile, run.outcome.unwrap_or(run.state))).collect();
        story.sort();
        (story, about)
    }

    /// The body of the last record of a kind about a cycle.
    async fn record(&self, cycle_id: Uuid, kind: &str) -> Option<Value> {
        let filter = RecordFilter { cycle_id: Some(cycle_id), ..RecordFilter::default() };
        let records = self.namespace.store.records(filter, 1000).await.unwrap();
        records.into_iter().rev().find(|record| record.kind == kind).map(|record| record.body)
    }
}

fn snapshot(change: impl FnOnce(&mut Value)) -> Snapshot {
    let profile = |n: u128, label: &str, template: &str| {
        json!({
            "profile_id": Uuid::from_u128(n),
            "label": label,
            "execution_rules": {
                "synthesis": {"template": template},
                "tiers": [{"processor": "copy"}, {"processor": "copy"}, {"processor": "copy"}],
            },
        })
    };
    let mut whole = json!({
        "namespace": "studio",
        "config": {"disk_floor": "0 B"},
        "sources": {"list": {"kind": "inline", "name": "list", "items": [{"label": "a"}, {"label": "b"}]}},
        "processors": {"copy": {"kind": "exec", "name": "copy", "argv": ["cat"]}},
        "endpoints": {},
        "profiles": {
            "tall": profile(1, "tall", "{{ initiation.label }}"),
            "wide": profile(2, "wide", "{{ initiation.label }}"),
        },
        "run_profiles": {"daily": {
            "run_profile_id": Uuid::from_u128(9),
            "label": "daily",
            "execution_policy": {
                "selection": {"source": "list", "choose": "in_order"},
                "profiles": ["tall", "wide", Uuid::from_u128(1)],
            },
        }},
        "assets": {},
    });
    change(&mut whole);
    serde_json::from_value(whole).unwrap()
}

fn ran(states: [(&str, &str); 2]) -> Vec<(String, String)> {
    states.map(|(profile, state)| (profile.to_owned(), state.to_owned())).to_vec()
}

#[tokio::test]
async fn each_cycle_has_a_new_initiation_until_none_is_new() {
    let world = World::new(|_| ()).await;
    let both = ran([("tall", "ready"), ("wide", "ready")]);
    let first = world.admit("1", Value::Null).await.unwrap();
    assert_eq!(world.story(first).await, (both.clone(), "a".to_owned()));
    let second = world.admit("2", Value::Null).await.unwrap();
    assert_eq!(world.story(second).await, (both, "b".to_owned()));
    let report = &world.record(second, "initiation_selected").await.unwrap()["report"];
    assert_eq!(
        (&report["taken"], &report["kept"], &report["source"]["name"]),
        (&json!(1), &json!(1), &json!("list"))
    );
    let third = world.admit("3", Value::Null).await.unwrap();
    assert_eq!(world.story(third).await.0, []);
    assert_eq!(world.record(third, "cycle_finished").await.unwrap()["outcome"], "skipped");
    let error = {
        let (snapshot, run_profile) = world.active();
        dry_run(&world.namespace, &snapshot, &run_profile, Uuid::nil()).await.unwrap_err()
    };
    assert!(error.to_string().contains("2 candidates"), "{error}");
}

#[tokio::test]
async fn a_run_starts_with_its_admission_where_nobody_looks_at_the_permits() {
    let world = World::new(|_| ()).await;
    let cycle = world.claimed("1", Value::Null).await;
    let id = cycle.claim.id;
    assert!(select_and_admit(&world.namespace, cycle).await.unwrap());
    // There are no workers here.
    assert!(world.record(id, "step_started").await.is_some());
    let waiting = world.admit("2", Value::Null).await.unwrap();
    assert!(world.record(waiting, "run_admitted").await.is_some());
    assert!(world.record(waiting, "step_started").await.is_none());
}

#[tokio::test]
async fn a_surface_without_a_request_is_rejected_alone() {
    let template = "/profiles/wide/execution_rules/synthesis/template";
    let world = World::new(|whole| *whole.pointer_mut(template).unwrap() = json!("{{ absent }}")).await;
    let cycle = world.admit("1", Value::Null).await.unwrap();
    assert_eq!(world.story(cycle).await.0, ran([("tall", "ready"), ("wide", "failed")]));
    let message = world.record(cycle, "synthesis_failed").await.unwrap().to_string();
    assert!(message.contains("profile `wide`") && message.contains("undefined"), "{message}");
}

#[tokio::test]
async fn what_is_paused_after_the_firing_does_not_start() {
    let world = World::new(|_| ()).await;
    let cycle = world.claimed("1", Value::Null).await;
    world.configure(|whole| whole["profiles"]["wide"]["state"] = json!("paused")).await;
    let id = cycle.claim.id;
    select_and_admit(&world.namespace, cycle).await.unwrap();
    assert_eq!(world.story(id).await.0, [("tall".to_owned(), "ready".to_owned())]);
    assert_eq!(world.record(id, "gate_closed").await.unwrap()["reason"], "profile `wide` is paused");

    let check = async |key: &str, change: fn(&mut Value), reason: &str| {
        world.configure(change).await;
        let id = world.admit(key, Value::Null).await.unwrap();
        assert_eq!(world.story(id).await.0, []);
        assert_eq!(world.record(id, "selection_exhausted").await.unwrap()["report"]["reason"], reason);
        let cycle = world.namespace.store.cycle(id).await.unwrap().unwrap();
        assert_eq!((cycle.outcome.as_deref(), cycle.reason.as_deref()), (Some("skipped"), Some(reason)));
    };
    check(
        "2",
        |whole| whole["run_profiles"]["daily"]["state"] = json!("archived"),
        "run profile `daily` is archived",
    )
    .await;
    check(
        "3",
        |whole| {
            for label in ["tall", "wide"] {
                whole["profiles"][label]["state"] = json!("paused");
            }
        },
        "profile `tall` is paused",
    )
    .await;
    world.configure(|_| ()).await;
    assert_eq!(
        world.story(world.admit("4", Value::Null).await.unwrap()).await.1,
        "b",
        "nothing was taken meanwhile"
    );
}

#[tokio::test]
async fn a_closed_gate_or_a_cut_leaves_the_cycle_as_it_was() {
    let world = World::new(|_| ()).await;
    let cycle = world.claimed("1", Value::Null).await;
    world.namespace.shared.paused.set(true);
    let answer = select_and_admit(&world.namespace, cycle.clone()).await;
    assert!(matches!(answer, Err(AdmissionError::Cut)), "{answer:?}");
    world.namespace.shared.paused.set(false);
    // A halt that comes while the source is read.
    let (snapshot, run_profile) = world.active();
    let act = world.namespace.running.begin(cycle.claim.id);
    world.namespace.running.cut_all(Cut::Halt);
    let reading = pass::Reading {
        snapshot: &snapshot,
        run_profile: &run_profile,
        cycle_id: cycle.claim.id,
        act_id: cycle.claim.id,
        cancel: &act.token,
    };
    let answer = pass::read(&world.namespace, &reading).await;
    assert!(matches!(answer, Err(AdmissionError::Cut)), "{answer:?}");
    drop(act);
    let id = cycle.claim.id;
    select_and_admit(&world.namespace, cycle).await.unwrap();
    assert_eq!(world.story(id).await.1, "a");
}

#[tokio::test]
async fn a_cycle_that_has_an_initiation_keeps_it() {
    let world = World::new(|_| ()).await;
    let cycle = world.claimed("1", Value::Null).await;
    let (snapshot, run_profile) = world.active();
    let act = world.namespace.running.begin(cycle.claim.id);
    let reading = pass::Reading {
        snapshot: &snapshot,
        run_profile: &run_profile,
        cycle_id: cycle.claim.id,
        act_id: cycle.claim.id,
        cancel: &act.token,
    };
    let choice = pass::read(&world.namespace, &reading).await.unwrap();
    let now = world.namespace.shared.clock.now();
    let taken = world.namespace.store.take_initiation(cycle.claim, choice, now).await.unwrap();
    assert!(matches!(taken, Taken::Initiation(_)));
    // As after a crash: the claim is given anew, now with the initiation.
    world.namespace.store.unclaim_cycle(cycle.claim).await.unwrap();
    let again = world.namespace.store.claim_cycle(now).await.unwrap().unwrap();
    assert_eq!(again.initiation.as_ref().map(|one| one.label.as_str()), Some("a"));
    let id = again.claim.id;
    select_and_admit(&world.namespace, again).await.unwrap();
    let (story, about) = world.story(id).await;
    assert_eq!((story.len(), about.as_str()), (2, "a"));
    // The claim of before is worth nothing now.
    select_and_admit(&world.namespace, cycle).await.unwrap();
    assert_eq!(world.story(id).await.0.len(), 2);
}

#[tokio::test]
async fn given_requests_run_as_given_even_if_their_initiation_is_taken() {
    let world = World::new(|_| ()).await;
    let (snapshot, run_profile) = world.active();
    let requests = dry_run(&world.namespace, &snapshot, &run_profile, Uuid::nil()).await.unwrap();
    assert_eq!(requests.len(), 2);
    assert!(world.namespace.running.count() == 0);
    let both = ran([("tall", "ready"), ("wide", "ready")]);
    for key in ["1", "2"] {
        let cycle = world.admit(key, json!(requests)).await.unwrap();
        assert_eq!(world.story(cycle).await, (both.clone(), "a".to_owned()));
        let run = world.record(cycle, "run_admitted").await.unwrap();
        assert_eq!(run["request"]["cycle"]["id"], json!(cycle));
    }
    // The first of the two took it for everybody.
    assert_eq!(world.story(world.admit("3", Value::Null).await.unwrap()).await.1, "b");
    let one = world.admit("4", json!([requests[1]])).await.unwrap();
    assert_eq!(world.story(one).await.0, [("wide".to_owned(), "ready".to_owned())]);
}

#[tokio::test]
async fn given_requests_that_do_not_fit_are_refused() {
    let world = World::new(|_| ()).await;
    let (snapshot, run_profile) = world.active();
    let requests = dry_run(&world.namespace, &snapshot, &run_profile, Uuid::nil()).await.unwrap();
    let check = async |key: &str, preset: Value, expected: &str| {
        let error = world.admit(key, preset).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let edited = |pointer: &str, value: Value| {
        let mut edited = json!(requests);
        *edited.pointer_mut(pointer).unwrap() = value;
        edited
    };
    check("1", json!({"items": []}), "expected a list").await;
    check("2", json!([]), "0 requests").await;
    check("3", json!([requests[0], requests[0]]), "request 2 is of profile `tall`").await;
    check("4", edited("/1/initiation/label", json!("z")), "request 2 has another initiation").await;
    check(
        "5",
        edited("/0/steps/0/processor/name", json!("absent")),
        "request 1: the snapshot has no processor `absent`",
    )
    .await;
    check("6", edited("/1/run_profile/id", json!(Uuid::nil())), "request 2 is of run profile").await;
    check("7", edited("/0/profile/id", json!(Uuid::nil())), "request 1 is of a profile").await;
    let unnamed = json!([edited("/0/initiation/label", json!(""))[0]]);
    check("8", unnamed, "`label` has 0 bytes").await;
    world.configure(|whole| whole["processors"]["copy"]["argv"] = json!(["cat", "-"])).await;
    check("10", json!(requests), "request 1: the request belongs to").await;
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_told_with_its_name() {
    let world = World::new(|whole| {
        whole["sources"]["list"] = json!({"kind": "file", "name": "list", "path": "list.jsonl"});
    })
    .await;
    let error = world.admit("1", Value::Null).await.unwrap_err().to_string();
    assert!(error.starts_with("source `list`: cannot open `") && error.contains("list.jsonl"), "{error}");
    std::fs::write(world.home.path().join("namespaces/studio/list.jsonl"), "{\"label\":\"x\"}\noops\n")
        .unwrap();
    let cycle = world.admit("2", Value::Null).await.unwrap();
    assert_eq!(world.story(cycle).await.1, "x");
    let report = &world.record(cycle, "initiation_selected").await.unwrap()["report"];
    assert_eq!((&report["malformed"], &report["content"]["bytes"]), (&json!(1), &json!(19)));

    world
        .configure(|whole| {
            let env = json!({"KEY": "${LIST_KEY}"});
            whole["sources"]["list"] = json!({"kind": "exec", "name": "list", "argv": ["true"], "env": env});
        })
        .await;
    let error = world.admit("3", Value::Null).await.unwrap_err().to_string();
    assert!(error.contains("`ORBIT_SECRET_STUDIO_LIST_KEY` is not set"), "{error}");
}

#[tokio::test]
async fn a_panic_fails_its_own_cycle_and_no_other() {
    let poisoned = |whole: &mut Value| {
        whole["sources"]["list"] =
            json!({ "name": "list", "kind": "exec", "argv": ["true"], "env": { "A": "${POISON}" } });
    };
    let world = World::new(poisoned).await;
    let first = world.claimed("1", Value::Null).await.claim;
    world.configure(|_| ()).await;
    let second = world.claimed("2", Value::Null).await.claim;
    for claim in [first, second] {
        world.namespace.store.unclaim_cycle(claim).await.unwrap();
    }
    let selector = Selector::new(Arc::clone(&world.namespace));
    while selector.turn().await.unwrap().done > 0 {}
    world.namespace.tasks.close();
    world.namespace.tasks.wait().await;
    let cycle = async |id| world.namespace.store.cycle(id).await.unwrap().unwrap();
    let failed = cycle(first.id).await;
    assert_eq!(failed.outcome.as_deref(), Some("failed"));
    assert!(failed.reason.as_deref().is_some_and(|reason| reason.contains("panicked")), "{failed:?}");
    assert_eq!(cycle(second.id).await.state, "running");
}

/// More cycles at once than a pass keeps candidates: who comes late to all of his looks again.
#[tokio::test(flavor = "multi_thread")]
async fn many_cycles_at_once_share_a_source_out() {
    const CYCLES: usize = 48;
    let items: Vec<_> = (0..CYCLES).map(|n| json!({ "label": format!("item {n:02}") })).collect();
    let world = World::new(|whole| whole["sources"]["list"]["items"] = json!(items)).await;
    let mut selecting = tokio::task::JoinSet::new();
    let mut cycles = Vec::new();
    for number in 0..CYCLES {
        let cycle = world.claimed(&number.to_string(), Value::Null).await;
        cycles.push(cycle.claim.id);
        let namespace = Arc::clone(&world.namespace);
        selecting.spawn(async move { select_and_admit(&namespace, cycle).await });
    }
    while let Some(done) = selecting.join_next().await {
        done.unwrap().unwrap();
    }
    let mut about = Vec::new();
    for cycle in cycles {
        about.push(world.story(cycle).await.1);
    }
    about.sort();
    let expected: Vec<_> = items.iter().map(|item| item["label"].as_str().unwrap()).collect();
    assert_eq!(about, expected);
}
