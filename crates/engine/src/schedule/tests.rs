//! The scheduler over a real store whose calls are counted and fail when they are told to. Its clock stands until it is set.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use orbit_core::config::{NamespaceName, SecretRef, Snapshot};
use orbit_store::Store;
use orbit_store::blobs::{Blobs, FolderBlobs};
use orbit_store::contract::governance::Halt;
use orbit_store::contract::record::{RecordFilter, StoredRecord};
use orbit_store::contract::view::PageRequest;
use orbit_testkit::cluster::TestDatabase;
use orbit_testkit::fault::{Effect, Ended, Fault, Plan, Point, When};
use orbit_testkit::faulty::FaultyStore;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Scheduler;
use crate::clock::Clock;
use crate::gate::{Cell, SystemDisk};
use crate::http::Client;
use crate::layout::Layout;
use crate::lease::LEASE;
use crate::namespace::Namespace;
use crate::node::Shared;
use crate::permits::NodePermits;
use crate::secrets::Secrets;
use crate::service::{POLL_MAX, Service as _, Turn, TurnError};
use crate::supervisor::Launcher;

struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _: &NamespaceName, _: &SecretRef) -> Option<String> {
        None
    }
}

/// The time of day, and how long ago that began.
struct Hand(Mutex<(Timestamp, Duration)>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap().0
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().1
    }

    fn random(&self) -> [u8; 32] {
        [7; 32]
    }
}

/// A node's scheduler.
struct Node {
    _home: tempfile::TempDir,
    clock: Arc<Hand>,
    plan: Arc<Plan>,
    namespace: Arc<Namespace>,
    scheduler: Scheduler,
    /// Calls that were looked at.
    seen: Mutex<usize>,
}

/// A store, and how much of its log was looked at.
struct World {
    store: Arc<dyn Store>,
    read: Mutex<usize>,
    _database: Option<TestDatabase>,
}

impl World {
    async fn new() -> Self {
        let (store, database) = orbit_testkit::backend::store(&name()).await;
        Self { store, read: Mutex::default(), _database: database }
    }

    /// A node that starts at midnight, with this fault.
    async fn node(&self, fault: Option<Fault>) -> Node {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::new(home.path());
        std::fs::create_dir_all(layout.data(&name())).unwrap();
        let blobs = Arc::new(Blobs::from(FolderBlobs::open(&layout.blobs(&name())).unwrap()));
        let clock = Arc::new(Hand(Mutex::new((at("00:00"), Duration::ZERO))));
        let shared = Shared {
            node: "test".to_owned(),
            lease: LEASE,
            layout,
            clock: Arc::<Hand>::clone(&clock),
            disk: Arc::new(SystemDisk),
            launcher: Launcher { program: "/nowhere".into(), args: Vec::new() },
            client: Client::system(),
            secrets: Arc::new(NoSecrets),
            paused: Cell::default(),
            halted: Cell::default(),
            reopened_at: Cell::default(),
            superseded: crate::lease::Superseded::default(),
            stopping: CancellationToken::new(),
            runs: NodePermits::new(1, Arc::<Hand>::clone(&clock)),
            embedded: BTreeMap::new(),
        };
        let plan = Arc::new(fault.map_or_else(Plan::default, Plan::with));
        let store = FaultyStore::new(Arc::clone(&self.store), Arc::clone(&plan), Ended::new());
        let opened = Namespace::open(name(), Arc::new(shared), Arc::new(store), blobs).await.unwrap();
        let namespace = Arc::new(opened);
        let scheduler = Scheduler::new(Arc::clone(&namespace));
        Node { _home: home, clock, plan, namespace, scheduler, seen: Mutex::default() }
    }

    /// A node with these run profiles, all of which it has looked at.
    async fn running(&self, run_profiles: &[(&str, Value)], fault: Option<Fault>) -> Node {
        let node = self.node(fault).await;
        node.namespace.activate(snapshot(run_profiles)).await.unwrap();
        node.turns().await;
        self.news().await;
        node.calls();
        node
    }

    /// What fired, what did not, and what failed since it was last asked for.
    async fn news(&self) -> Vec<String> {
        let records = self.store.records(RecordFilter::default(), u32::MAX).await.unwrap();
        let read = std::mem::replace(&mut *self.read.lock().unwrap(), records.len());
        records[read..].iter().filter_map(word).collect()
    }
}

/// `a fired 01:00 due`, `a skipped 3`, `failed …`.
fn word(record: &StoredRecord) -> Option<String> {
    let text = |key: &str| record.body[key].as_str().unwrap().to_owned();
    match &*record.kind {
        "cycle_fired" => {
            let nominal: Timestamp = text("nominal").parse().unwrap();
            let time = nominal.strftime("%H:%M");
            Some(format!("{} fired {time} {}", text("run_profile"), text("cause")))
        }
        "schedule_decided" => {
            Some(format!("{} {} {}", text("run_profile"), text("decision"), record.body["count"]))
        }
        "service_failed" => Some(format!("failed {}", text("message"))),
        _ => None,
    }
}

impl Node {
    fn set(&self, time: &str) {
        self.clock.0.lock().unwrap().0 = at(time);
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        self.scheduler.turn().await
    }

    /// Turns until there is nothing to do: how many did something.
    async fn turns(&self) -> usize {
        let mut count = 0;
        while self.turn().await.unwrap().done > 0 {
            count += 1;
            assert!(count < 100, "the scheduler comes to no end");
        }
        count
    }

    /// The calls about schedules since it was last asked for.
    fn calls(&self) -> Vec<&'static str> {
        let calls = self.plan.calls();
        let seen = std::mem::replace(&mut *self.seen.lock().unwrap(), calls.len());
        let about = ["standing", "commit_schedules", "cancel_cycles"];
        calls[seen..].iter().map(|(point, _)| point.name).filter(|name| about.contains(name)).collect()
    }
}

fn name() -> NamespaceName {
    NamespaceName::parse("studio").unwrap()
}

fn at(time: &str) -> Timestamp {
    format!("2026-01-01T{time}{}Z", if time.len() == 5 { ":00" } else { "" }).parse().unwrap()
}

/// Fires at these minutes of every hour, with this in its policy.
fn hourly(minutes: u32, more: Value) -> Value {
    let mut policy = json!({
        "schedule": { "every": "1h", "offset": format!("{minutes}m") }, "overlap": "allow",
        "selection": { "source": "nothing" }, "profiles": ["plain"],
    });
    let Value::Object(more) = more else { panic!("{more} is no object") };
    policy.as_object_mut().unwrap().extend(more);
    policy
}

/// Run profiles by label and policy; a label is their id, too.
fn snapshot(run_profiles: &[(&str, Value)]) -> Snapshot {
    let of = |(label, policy): &(&str, Value)| {
        let id = Uuid::from_u128(u128::from_str_radix(label, 36).unwrap());
        let run_profile = json!({ "run_profile_id": id, "label": label, "execution_policy": policy });
        ((*label).to_owned(), run_profile)
    };
    let tier = json!({ "processor": "fill" });
    let rules = json!({ "tiers": [tier, tier, tier], "normalize": tier });
    serde_json::from_value(json!({
        "namespace": "studio", "config": { "disk_floor": "0 B" },
        "sources": { "nothing": { "kind": "inline", "name": "nothing", "items": [] } },
        "processors": { "fill": { "kind": "exec", "name": "fill", "argv": ["fill"] } },
        "endpoints": {},
        "profiles": { "plain": { "profile_id": Uuid::from_u128(7), "label": "plain", "execution_rules": rules } },
        "run_profiles": run_profiles.iter().map(of).collect::<Map<_, _>>(), "assets": {},
    }))
    .unwrap()
}

fn fault(name: &'static str, nth: u32, when: When) -> Fault {
    Fault { point: Point { name, nth }, when, effect: Effect::Io }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

const LOOKED: [&str; 2] = ["standing", "commit_schedules"];

#[tokio::test]
async fn only_who_is_due_is_looked_at_and_all_of_them_at_once() {
    let world = World::new().await;
    let node = world.node(None).await;
    assert_eq!(node.turn().await.unwrap(), Turn::default(), "without a snapshot there is nothing");
    let all = [("a", hourly(0, json!({}))), ("b", hourly(10, json!({}))), ("c", hourly(10, json!({})))];
    node.namespace.activate(snapshot(&all)).await.unwrap();
    assert_eq!(node.turn().await.unwrap(), Turn::idle(Some(at("00:10"))));
    assert_eq!(world.news().await, ["a first_seen 0", "b first_seen 0", "c first_seen 0"]);
    assert_eq!(node.calls(), LOOKED);
    for quiet in ["00:00", "00:05", "00:09"] {
        node.set(quiet);
        assert_eq!(node.turn().await.unwrap(), Turn::idle(Some(at("00:10"))));
        assert_eq!(node.calls(), [""; 0], "at {quiet}");
    }
    node.set("00:10");
    assert_eq!(node.turn().await.unwrap(), Turn::did(2, Some(at("01:00"))));
    assert_eq!(world.news().await, ["b fired 00:10 due", "c fired 00:10 due"]);
    assert_eq!(node.calls(), LOOKED, "one read and one commit");
    // The round finds whatever was missed, without anything being due.
    node.clock.0.lock().unwrap().1 = POLL_MAX;
    node.turns().await;
    assert_eq!(node.calls(), ["standing"]);
}

#[tokio::test]
async fn more_than_a_turn_looks_at_are_all_decided_once() {
    let world = World::new().await;
    let many: Vec<String> = (0..1_200).map(|number| format!("n{number}")).collect();
    let policy = hourly(0, json!({}));
    let all: Vec<_> = many.iter().map(|label| (&**label, policy.clone())).collect();
    let node = world.running(&all, None).await;
    node.set("01:00");
    assert_eq!(node.turns().await, 3);
    assert_eq!(node.calls(), [LOOKED, LOOKED, LOOKED].concat());
    let mut news = world.news().await;
    news.sort();
    let mut expected: Vec<_> = many.iter().map(|label| format!("{label} fired 01:00 due")).collect();
    expected.sort();
    assert_eq!(news, expected);
}

#[tokio::test]
async fn when_the_gate_closes_and_opens_everybody_is_looked_at() {
    let world = World::new().await;
    let last = json!({ "resume": { "policy": "last" } });
    let all = [("a", hourly(0, last)), ("b", hourly(0, json!({}))), ("c", hourly(40, json!({})))];
    let node = world.running(&all, None).await;
    let halt = Halt { reason: "x".to_owned(), at: at("00:50") };
    let check = async |time: &str, calls: &[&str], news: &[&str]| {
        node.set(time);
        node.turns().await;
        assert_eq!((node.calls(), world.news().await), (calls.to_vec(), owned(news)), "at {time}");
    };
    node.set("00:40");
    node.turns().await;
    assert_eq!(world.news().await, ["c fired 00:40 due"]);
    node.calls();
    node.namespace.shared.paused.set(true);
    check("00:50", &LOOKED, &[]).await;
    check("00:51", &[], &[]).await;
    // One is held and the other noted.
    check("01:00", &LOOKED, &[]).await;
    // Closed for another reason, which is news to everybody.
    node.namespace.set_halted(Some(halt.clone()));
    check("01:10", &LOOKED, &[]).await;
    node.namespace.set_halted(None);
    node.namespace.shared.paused.set(false);
    node.namespace.shared.reopened_at.set(Some(at("01:20")));
    check("01:20", &LOOKED, &["a fired 01:00 resumed", "b paused 1"]).await;
    check("01:21", &[], &[]).await;
    // Between two turns nobody notices, and nothing came due.
    node.namespace.set_halted(Some(halt));
    node.namespace.set_halted(None);
    check("01:22", &[], &[]).await;
    check("01:40", &LOOKED, &["c fired 01:40 due"]).await;
}

#[tokio::test]
async fn a_node_whose_lease_has_lapsed_decides_nothing_until_it_is_held_again() {
    let world = World::new().await;
    let all = [("a", hourly(0, json!({}))), ("b", hourly(30, json!({})))];
    let node = world.running(&all, None).await;
    node.namespace.trust.lost();
    node.set("01:00");
    assert_eq!(node.turn().await.unwrap(), Turn::default());
    assert_eq!(node.calls(), [""; 0]);
    node.namespace.trust.granted(node.clock.monotonic(), LEASE);
    node.turns().await;
    assert_eq!(node.calls(), LOOKED);
    // What came due meanwhile is late.
    assert_eq!(world.news().await, ["b fired 00:30 caught_up", "a fired 01:00 due"]);
}

#[tokio::test]
async fn what_is_due_while_the_snapshot_changes_is_decided_by_the_new_one() {
    let world = World::new().await;
    let all = ["a", "b", "c"].map(|label| (label, hourly(0, json!({}))));
    let node = world.running(&all, None).await;
    node.set("01:00");
    // One is unchanged, one is changed, one is gone, and one is new.
    let two_hours = json!({ "schedule": { "every": "2h" } });
    let others = [("a", hourly(0, json!({}))), ("b", hourly(0, two_hours)), ("d", hourly(0, json!({})))];
    node.namespace.activate(snapshot(&others)).await.unwrap();
    node.turns().await;
    assert_eq!(world.news().await, ["a fired 01:00 due", "d first_seen 0"]);
    assert_eq!(node.calls(), LOOKED);
    node.set("02:00");
    node.turns().await;
    assert_eq!(node.calls(), LOOKED);
    assert_eq!(world.news().await, ["a fired 02:00 due", "b fired 02:00 due", "d fired 02:00 due"]);
    let cycles = world.store.cycles(PageRequest { cursor: None, limit: 10 }).await.unwrap().items;
    let active = node.namespace.active().unwrap().digest();
    assert!(cycles.len() == 4 && cycles.iter().all(|cycle| cycle.snapshot == active), "{cycles:?}");
}

#[tokio::test]
async fn a_clock_that_jumps_loses_nothing_and_fires_nothing_twice() {
    let world = World::new().await;
    let catch_up = json!({ "catch_up": { "policy": "all" } });
    let all = [("a", hourly(0, catch_up)), ("b", hourly(30, json!({})))];
    let node = world.running(&all, None).await;
    let check = async |time: &str, calls: &[&str], news: &[&str]| {
        node.set(time);
        node.turns().await;
        assert_eq!((node.calls(), world.news().await), (calls.to_vec(), owned(news)), "at {time}");
    };
    check("00:30", &LOOKED, &["b fired 00:30 due"]).await;
    check("01:00", &LOOKED, &["a fired 01:00 due"]).await;
    // Backwards everybody is looked at, and told once.
    check("00:10", &LOOKED, &["a clock_back 0", "b clock_back 0"]).await;
    check("00:20", &[], &[]).await;
    check("00:15", &["standing"], &[]).await;
    // What is decided stays decided when its instant comes again.
    check("00:30", &LOOKED, &[]).await;
    check("01:00", &LOOKED, &[]).await;
    check("01:30", &LOOKED, &["b fired 01:30 due"]).await;
    // Forward, all that came due meanwhile is decided.
    let forward =
        ["a fired 02:00 caught_up", "a fired 03:00 caught_up", "b coalesced 1", "b fired 03:30 caught_up"];
    check("03:45", &LOOKED, &forward).await;
    check("04:00", &LOOKED, &["a fired 04:00 due"]).await;
}

#[tokio::test]
async fn a_run_of_equal_decisions_is_recorded_in_time_though_nothing_is_due() {
    let world = World::new().await;
    let skip = json!({ "schedule": { "every": "3h" }, "overlap": "skip" });
    let node = world.running(&[("a", hourly(0, skip))], None).await;
    node.set("03:00");
    node.turns().await;
    node.set("06:00");
    node.turns().await;
    assert_eq!(world.news().await, ["a fired 03:00 due"]);
    assert_eq!(node.turn().await.unwrap().next, Some(at("07:00")));
    node.set("07:00");
    node.turns().await;
    assert_eq!(world.news().await, ["a skipped 1"]);
}

#[tokio::test]
async fn what_fails_is_reported_once_and_tried_again() {
    let world = World::new().await;
    // The first commit is the first sight.
    let node =
        world.running(&[("a", hourly(0, json!({})))], Some(fault("commit_schedules", 2, When::Before))).await;
    node.set("01:00");
    assert_eq!(node.turn().await.unwrap(), Turn::idle(Some(at("01:00:01"))));
    let [failed] = <[String; 1]>::try_from(world.news().await).unwrap();
    assert!(failed.starts_with("failed run profile `") && failed.ends_with("failed to order"), "{failed}");
    node.set("01:00:01");
    node.turns().await;
    assert_eq!(world.news().await, ["a fired 01:00 due"]);

    // A lasting failure of one leaves the others alone.
    let world = World::new().await;
    let nowhere = json!({ "schedule": { "cron": "0 * * * *", "timezone": "Nowhere/Else" } });
    let node = world.node(None).await;
    let all = [("a", hourly(0, nowhere)), ("b", hourly(0, json!({})))];
    node.namespace.activate(snapshot(&all)).await.unwrap();
    node.turns().await;
    let news = world.news().await;
    assert_eq!((news.len(), &*news[0]), (2, "b first_seen 0"), "{news:?}");
    for time in ["00:00:01", "00:00:02", "00:00:03"] {
        node.calls();
        node.set(time);
        node.turns().await;
        assert_eq!(node.calls(), ["standing"], "it is tried again");
    }
    node.set("01:00");
    node.turns().await;
    assert_eq!(world.news().await, ["b fired 01:00 due"]);
}

#[tokio::test]
async fn a_turn_that_fails_is_done_again() {
    let world = World::new().await;
    let all = ["a", "b"].map(|label| (label, hourly(0, json!({}))));
    let node = world.running(&all, Some(fault("standing", 2, When::Before))).await;
    node.set("01:00");
    assert!(matches!(node.turn().await, Err(TurnError::Store(_))));
    node.turns().await;
    assert_eq!(world.news().await, ["a fired 01:00 due", "b fired 01:00 due"]);
}

#[tokio::test]
async fn who_was_outrun_looks_again() {
    // The commit is true and nobody is told, so that each for itself is refused: as after another node.
    let world = World::new().await;
    let all = ["a", "b"].map(|label| (label, hourly(0, json!({}))));
    let node = world.running(&all, Some(fault("commit_schedules", 2, When::After))).await;
    node.set("01:00");
    assert_eq!(node.turn().await.unwrap(), Turn::did(1, Some(at("01:00"))));
    assert_eq!(node.calls(), ["standing", "commit_schedules", "commit_schedules", "commit_schedules"]);
    assert_eq!(node.turn().await.unwrap(), Turn::idle(Some(at("02:00"))));
    assert_eq!(node.calls(), ["standing"]);
    assert_eq!(world.news().await, ["a fired 01:00 due", "b fired 01:00 due"]);
}

#[tokio::test]
async fn of_two_nodes_one_decides() {
    let world = World::new().await;
    let all = ["a", "b"].map(|label| (label, hourly(0, json!({}))));
    let (one, two) = (world.running(&all, None).await, world.running(&all, None).await);
    // One after the other: the second reads who is due, and nothing else.
    for node in [&one, &two] {
        node.set("01:00");
    }
    one.turns().await;
    two.turns().await;
    assert_eq!((one.calls(), two.calls()), (LOOKED.to_vec(), vec!["standing"]));
    assert_eq!(world.news().await, ["a fired 01:00 due", "b fired 01:00 due"]);
    // At once: whoever is outrun has a commit refused at most, and looks again.
    for hour in 2..12 {
        let time = format!("{hour:02}:00");
        for node in [&one, &two] {
            node.set(&time);
        }
        tokio::join!(one.turns(), two.turns());
        for node in [&one, &two] {
            let calls = node.calls();
            assert!(calls.len() <= LOOKED.len() + 1, "{calls:?}");
        }
        let fired = [format!("a fired {time} due"), format!("b fired {time} due")];
        assert_eq!(world.news().await, fired);
    }
}

#[tokio::test]
async fn a_backlog_is_worked_off_in_bounded_commits() {
    let world = World::new().await;
    let all_of_it = json!({ "schedule": { "every": "10s" }, "catch_up": { "policy": "all" } });
    let all = ["a", "b"].map(|label| (label, hourly(0, all_of_it.clone())));
    let node = world.running(&all, None).await;
    node.set("03:00");
    node.turns().await;
    // A thousand at most of each fire late, and those that are not late besides.
    let fired = world.news().await.into_iter().filter(|word| word.contains("fired"));
    assert_eq!(fired.count(), 2 * (1_000 + 7));
    let commits = node.calls().into_iter().filter(|call| *call == "commit_schedules");
    assert_eq!(commits.count(), 3, "each thousand for itself, and the rest together");
    assert_eq!(
        node.turn().await.unwrap().next,
        Some(at("03:00").checked_add(SignedDuration::from_secs(10)).unwrap())
    );
}
