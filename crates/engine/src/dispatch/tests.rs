//! Deliveries from the dispatcher's turn to the receipt, against the real store and a network in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use orbit_core::config::{NamespaceName, SecretRef, Snapshot, settings_digest};
use orbit_core::id::{Trigger, cycle_id, delivery_id, initiation_id, run_id};
use orbit_core::run::{RunEvent, Step, Then};
use orbit_store::blobs::{Blobs, FolderBlobs};
use orbit_store::contract::dispatch::NewDelivery;
use orbit_store::contract::record::RecordFilter;
use orbit_store::contract::schedule::NewCycle;
use orbit_store::contract::selection::{Choice, Initiation, NewRun, TakeRule};
use orbit_store::contract::tiers::{Free, StepCommit, StepCommitted};
use orbit_store::contract::view::DeliveryView;
use orbit_store::contract::{Artifact, OpenDoors};
use orbit_testkit::cluster::TestDatabase;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Dispatcher, compose};
use crate::clock::Clock;
use crate::gate::{Cell, SystemDisk};
use crate::http::tests::{Handler, Net, handler, read_request};
use crate::layout::Layout;
use crate::namespace::Namespace;
use crate::node::Shared;
use crate::permits::NodePermits;
use crate::running::Cut;
use crate::secrets::Secrets;
use crate::service::Service as _;
use crate::supervisor::Launcher;

const CONTENT: &[u8] = b"an artifact";
const SIGNING_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

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
        [0; 32]
    }
}

struct Two;

impl Secrets for Two {
    fn get(&self, _: &NamespaceName, secret: &SecretRef) -> Option<String> {
        let value = match secret.name() {
            "TOKEN" => "s3cret",
            "KEY" => SIGNING_KEY,
            _ => return None,
        };
        Some(value.to_owned())
    }
}

/// A run whose artifact is owed to the endpoint `archive`.
struct World {
    _home: tempfile::TempDir,
    clock: Arc<Standing>,
    net: Arc<Net>,
    namespace: Arc<Namespace>,
    dispatcher: Dispatcher,
    run_id: Uuid,
    delivery_id: Uuid,
    _database: Option<TestDatabase>,
}

impl World {
    async fn new(endpoint: Value, serve: Handler) -> Self {
        let home = tempfile::tempdir().unwrap();
        let name = NamespaceName::parse("studio").unwrap();
        let layout = Layout::new(home.path());
        std::fs::create_dir_all(layout.data(&name)).unwrap();
        let blobs = Arc::new(Blobs::from(FolderBlobs::open(&layout.blobs(&name)).unwrap()));
        let clock = Arc::new(Standing(Mutex::new("2026-01-01T00:00:00Z".parse().unwrap())));
        let net = Net::new(serve);
        let shared = Shared {
            node: "test".to_owned(),
            lease: crate::lease::LEASE,
            layout,
            clock: Arc::<Standing>::clone(&clock),
            disk: Arc::new(SystemDisk),
            launcher: Launcher { program: "/nowhere".into(), args: Vec::new() },
            client: net.client(),
            secrets: Arc::new(Two),
            paused: Cell::default(),
            halted: Cell::default(),
            reopened_at: Cell::default(),
            superseded: crate::lease::Superseded::default(),
            stopping: CancellationToken::new(),
            runs: NodePermits::new(1, Arc::<Standing>::clone(&clock)),
            embedded: BTreeMap::new(),
        };
        let (store, database) = orbit_testkit::backend::store(&name).await;
        let namespace = Arc::new(Namespace::open(name, Arc::new(shared), store, blobs).await.unwrap());
        namespace.store.join(&namespace.shared.joining(), namespace.shared.clock.now()).await.unwrap();
        namespace.activate(snapshot(&endpoint)).await.unwrap();
        let (run_id, delivery_id) = owe(&namespace).await;
        let dispatcher = Dispatcher::new(Arc::clone(&namespace));
        Self { _home: home, clock, net, namespace, dispatcher, run_id, delivery_id, _database: database }
    }

    /// One turn of the dispatcher; what was started in it is done.
    async fn turn(&self) -> usize {
        let done = self.dispatcher.turn().await.unwrap().done;
        self.namespace.tasks.close();
        self.namespace.tasks.wait().await;
        self.namespace.tasks.reopen();
        done
    }

    fn pass(&self, seconds: i64) {
        *self.clock.0.lock().unwrap() += SignedDuration::from_secs(seconds);
    }

    async fn delivery(&self) -> DeliveryView {
        self.namespace.store.delivery(self.delivery_id).await.unwrap().unwrap()
    }

    async fn outcome(&self) -> Option<String> {
        self.namespace.store.run(self.run_id).await.unwrap().unwrap().outcome
    }
}

fn snapshot(endpoint: &Value) -> Snapshot {
    let mut document = json!({"name": "archive", "url": "http://receiver.test/in"});
    document.as_object_mut().unwrap().append(endpoint.clone().as_object_mut().unwrap());
    serde_json::from_value(json!({
        "namespace": "studio", "config": {"disk_floor": "0 B"}, "sources": {}, "processors": {},
        "endpoints": {"archive": document}, "profiles": {}, "run_profiles": {}, "assets": {},
    }))
    .unwrap()
}

/// A cycle with one run that has done its steps.
async fn owe(namespace: &Namespace) -> (Uuid, Uuid) {
    let (store, now) = (&namespace.store, namespace.shared.clock.now());
    let snapshot = namespace.active().unwrap();
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
        label: "a".to_owned(),
        weight: 1.0,
        metadata: serde_json::Map::new(),
        hash: snapshot.digest(),
    };
    let rule = TakeRule { scope: "namespace".to_owned(), taken_since: None, release_on: Vec::new() };
    let choice = Choice { candidates: vec![candidate], rule, report: json!({}) };
    store.take_initiation(claimed.claim, choice, now).await.unwrap();
    let profile_id = Uuid::from_u128(4);
    let (run, owed) = (run_id(cycle, profile_id), delivery_id(run_id(cycle, profile_id), "archive"));
    let mut request = compose::tests::delivery().request;
    request["snapshot"] = json!(snapshot.digest());
    request["run"]["run_id"] = json!(run);
    request["targets"] =
        json!([{"name": "archive", "settings": settings_digest(&snapshot.endpoints["archive"])}]);
    let new = NewRun {
        run_id: run,
        profile_id,
        profile: "explainer".to_owned(),
        priority: 0.5,
        deadline_at: now + SignedDuration::from_hours(24 * 365),
        request,
        rejected: None,
        retry_of: None,
        start: None,
    };
    assert!(store.admit(claimed.claim, vec![new], now).await.unwrap());
    finish_steps(namespace, owed).await;
    (run, owed)
}

/// Every step of the run gives the artifact, and the last one the delivery.
async fn finish_steps(namespace: &Namespace, owed: Uuid) {
    let (store, now) = (&namespace.store, namespace.shared.clock.now());
    let blob = namespace.blobs.put_bytes(CONTENT).unwrap();
    let artifact = Artifact { digest: blob.digest, bytes: blob.bytes, media_type: "text/plain".to_owned() };
    for step in [Step::Tier1, Step::Tier2, Step::Tier3] {
        let doors = OpenDoors { first: true, retry: true };
        let claimed = store.claim_steps(Free::of(1, doors), now).await.unwrap().remove(0);
        let (then, deliveries) = match step {
            Step::Tier1 => (Then::Step { step: Step::Tier2 }, Vec::new()),
            Step::Tier2 => (Then::Step { step: Step::Tier3 }, Vec::new()),
            Step::Tier3 | Step::Normalize => {
                let url = namespace.active().unwrap().endpoints["archive"].url.clone();
                let owed = NewDelivery { delivery_id: owed, endpoint: "archive".to_owned(), url };
                (Then::Dispatch { deliveries: 1 }, vec![owed])
            }
        };
        let commit = StepCommit {
            event: RunEvent::StepSucceeded { step, then },
            detail: json!({}),
            evidence: None,
            artifact: Some(artifact.clone()),
            content: None,
            deliveries,
            batch: None,
            work: None,
            send: None,
            claim_next: None,
        };
        assert!(matches!(
            store.commit_step(claimed.claim, commit, now).await,
            Ok(StepCommitted::Done { .. })
        ));
    }
}

/// Heads and bodies of requests in their order.
type Received = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Answers the n-th request with the n-th answer, of which the last repeats; notes what arrived.
fn receiving(answers: &'static [&'static [u8]]) -> (Received, Handler) {
    let received = Received::default();
    let notes = Arc::clone(&received);
    let serve = handler(move |mut stream| {
        let notes = Arc::clone(&notes);
        async move {
            let request = read_request(&mut stream).await;
            let number = {
                let mut notes = notes.lock().unwrap();
                notes.push(request);
                notes.len() - 1
            };
            let _ = stream.write_all(answers[number.min(answers.len() - 1)]).await;
            let _ = stream.shutdown().await;
        }
    });
    (received, serve)
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\nthanks, s3cret!";
const NO: &[u8] = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n";
const GONE: &[u8] = b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n";
const LATER: &[u8] = b"HTTP/1.1 503 Later\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n";

fn line<'a>(head: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    head.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("no {name} in {head}"))
}

#[tokio::test]
async fn a_delivery_is_signed_accepted_and_recorded() {
    let (received, serve) = receiving(&[OK]);
    let endpoint = json!({"auth": {"bearer": "${TOKEN}"}, "sign": {"standard_webhooks": ["${KEY}"]}});
    let world = World::new(endpoint, serve).await;
    assert_eq!(world.turn().await, 1);
    let found = world.delivery().await;
    assert_eq!((found.state.as_str(), found.attempts), ("accepted", 1));
    assert_eq!(world.outcome().await.as_deref(), Some("succeeded"));
    let receipt = &found.receipts[0].receipt;
    assert_eq!(
        (&receipt["outcome"], &receipt["status"], &receipt["bytes_sent"], &receipt["address"]),
        (&json!("accepted"), &json!(200), &json!(CONTENT.len()), &json!("93.184.216.34:80"))
    );
    let (head, content) = received.lock().unwrap()[0].clone();
    assert_eq!(content, CONTENT);
    assert_eq!(line(&head, "authorization"), "Bearer s3cret");
    let id = world.delivery_id.to_string();
    assert_eq!((line(&head, "idempotency-key"), line(&head, "webhook-id")), (id.as_str(), id.as_str()));
    let timestamp = line(&head, "webhook-timestamp").parse().unwrap();
    let oracle = standardwebhooks::Webhook::new(SIGNING_KEY).unwrap();
    assert_eq!(line(&head, "webhook-signature"), oracle.sign(&id, timestamp, CONTENT).unwrap());
    let records = world.namespace.store.records(RecordFilter::default(), 1000).await.unwrap();
    let seen = records.iter().find(|record| record.kind == "receipt_body").unwrap();
    assert!(seen.body.to_string().contains("thanks, [redacted]!"), "{}", seen.body);
    assert!(records.iter().all(|record| !record.body.to_string().contains("s3cret")));
    assert_eq!(world.namespace.running.count(), 0);
}

#[tokio::test]
async fn a_failed_delivery_waits_and_keeps_its_key() {
    let (received, serve) = receiving(&[NO, LATER, OK]);
    let world = World::new(json!({"retry": {"attempts": 3, "schedule": ["10s"]}}), serve).await;
    world.turn().await;
    let found = world.delivery().await;
    // The random number is 0, which is the shortest of ±20 %.
    let wait = |found: &DeliveryView, from: Timestamp| found.due_at.unwrap().duration_since(from).as_secs();
    assert_eq!((found.state.as_str(), wait(&found, world.clock.now())), ("waiting", 8));
    assert_eq!(world.turn().await, 0, "not due");
    world.pass(8);
    assert_eq!(world.turn().await, 1);
    let found = world.delivery().await;
    assert_eq!((found.state.as_str(), wait(&found, world.clock.now())), ("waiting", 60));
    world.pass(60);
    world.turn().await;
    let found = world.delivery().await;
    let outcomes: Vec<_> = found.receipts.iter().map(|receipt| receipt.receipt["outcome"].clone()).collect();
    assert_eq!(
        (found.state.as_str(), outcomes),
        ("accepted", vec![json!("failed"), json!("failed"), json!("accepted")])
    );
    let received = received.lock().unwrap();
    let heads = |name: &str| received.iter().map(|(head, _)| line(head, name).to_owned()).collect::<Vec<_>>();
    assert_eq!(heads("idempotency-key"), vec![world.delivery_id.to_string(); 3]);
    let spans = heads("traceparent");
    assert!(spans[0] != spans[1] && spans[0][..35] == spans[1][..35], "{spans:?}");
}

#[tokio::test]
async fn what_ends_a_delivery() {
    for (endpoint, answers, reason, disabled) in [
        (
            json!({"retry": {"attempts": 1}}),
            &[NO][..],
            "answered 500: it failed itself; that was the last of 1",
            false,
        ),
        (json!({}), &[GONE][..], "answered 410", true),
        (json!({"headers": {"X-A": "{{ nothing }}"}}), &[OK][..], "header `X-A`", false),
    ] {
        let (_, serve) = receiving(answers);
        let world = World::new(endpoint, serve).await;
        world.turn().await;
        let found = world.delivery().await;
        assert_eq!((found.state.as_str(), found.receipts.len()), ("dead", 1));
        assert!(found.reason.as_deref().is_some_and(|found| found.contains(reason)), "{:?}", found.reason);
        let counts = world.namespace.store.counts().await.unwrap();
        assert_eq!(counts.disabled().contains_key("archive"), disabled, "{reason}");
        assert_eq!(world.outcome().await.as_deref(), Some("partial"));
    }
}

#[tokio::test]
async fn nothing_is_sent_that_cannot_be_sent_right() {
    for (endpoint, state, failure) in [
        (json!({"auth": {"bearer": "${ABSENT}"}}), "waiting", "`ORBIT_SECRET_STUDIO_ABSENT` is not set"),
        (json!({"url": "http://127.0.0.1/"}), "waiting", "refused to connect to `127.0.0.1`"),
        (json!({"url": "http://panic.test/"}), "waiting", "the attempt panicked"),
    ] {
        let (_, serve) = receiving(&[OK]);
        let world = World::new(endpoint, serve).await;
        world.turn().await;
        let found = world.delivery().await;
        assert_eq!((found.state.as_str(), found.receipts.len()), (state, 1), "{failure}");
        let receipt = &found.receipts[0].receipt;
        assert!(receipt["failure"].as_str().unwrap().contains(failure), "{receipt}");
        assert!(world.net.dialed().is_empty(), "{failure}");
    }
}

#[tokio::test]
async fn a_changed_or_missing_artifact_is_never_sent() {
    for missing in [false, true] {
        let (_, serve) = receiving(&[OK]);
        let world = World::new(json!({}), serve).await;
        let path = world.namespace.blobs.path(world.delivery().await.digest);
        std::fs::remove_file(&path).unwrap();
        if !missing {
            std::fs::write(&path, b"an artefact").unwrap();
        }
        world.turn().await;
        let found = world.delivery().await;
        assert_eq!(found.state, "dead");
        let part = if missing { "is not stored" } else { "are not those of its digest" };
        assert!(found.reason.as_deref().is_some_and(|reason| reason.contains(part)), "{:?}", found.reason);
        assert!(world.net.dialed().is_empty());
    }
}

#[tokio::test]
async fn a_halt_interrupts_and_the_delivery_is_made_again() {
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let number = AtomicUsize::new(0);
    let serve = handler(move |mut stream| {
        let (arrived, first) = (arrived.clone(), number.fetch_add(1, Ordering::SeqCst) == 0);
        async move {
            read_request(&mut stream).await;
            arrived.send(()).unwrap();
            if first {
                std::future::pending::<()>().await;
            }
            stream.write_all(OK).await.unwrap();
        }
    });
    let world = World::new(json!({"retry": {"attempts": 2, "schedule": ["1h"]}}), serve).await;
    let halt = async {
        arrivals.recv().await.unwrap();
        world.namespace.running.cut_all(Cut::Halt);
    };
    tokio::join!(world.turn(), halt);
    let found = world.delivery().await;
    assert_eq!((found.state.as_str(), found.due_at), ("waiting", Some(world.clock.now())));
    assert_eq!(found.receipts[0].receipt["outcome"], "interrupted");
    assert_eq!(world.turn().await, 1);
    assert_eq!(world.delivery().await.state, "accepted");
}

#[tokio::test]
async fn a_breaker_that_opened_is_waited_for_and_then_probed() {
    let (received, serve) = receiving(&[NO, NO, OK]);
    let breaker = json!({"failures": 1, "pause": "60s", "pause_max": "90s"});
    let world = World::new(json!({"breaker": breaker, "retry": {"schedule": ["10s"]}}), serve).await;
    world.turn().await;
    for (pause, requests) in [(60, 2), (90, 3)] {
        let turn = world.dispatcher.turn().await.unwrap();
        let until = world.clock.now() + SignedDuration::from_secs(pause);
        assert_eq!((turn.done, turn.next), (0, Some(until)), "it wakes for the probe, not for the retry");
        world.pass(pause - 1);
        assert_eq!(world.turn().await, 0);
        world.pass(1);
        assert_eq!(world.turn().await, 1);
        assert_eq!(received.lock().unwrap().len(), requests);
    }
    assert_eq!(world.delivery().await.state, "accepted");
    assert!(world.namespace.store.counts().await.unwrap().endpoints.is_empty());
}
