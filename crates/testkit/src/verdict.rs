//! What must be true of a world when its cycle is over, whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use orbit_core::digest::Digest;
use orbit_core::record::tree::{Frontier, is_kept, leaf_hash};
use orbit_core::run::{RunEvent, RunState};
use orbit_store::Store;
use orbit_store::blobs::FolderBlobs;
use orbit_store::contract::record::{RecordFilter, RecordStore as _, StoredRecord};
use orbit_store::contract::view::PageRequest;
use orbit_store::payloads::Payloads;
use orbit_store::sqlite::SqliteStore;
use serde_json::Value;
use uuid::Uuid;

use crate::world::{World, namespace};

/// More than a cycle has of anything.
const MANY: u32 = 1_000;

/// What a history came to, as far as two of them can be compared: how often each thing was told.
pub type Story = BTreeMap<String, usize>;

/// Records that a fault may add, and why. Nothing else may differ.
pub const MAY_BE_MORE: [(&str, &str); 9] = [
    ("node_started", "every process tells of its start"),
    ("step_started", "a step that was interrupted starts again"),
    ("step_interrupted", "a process died in the middle of a step"),
    ("attempt_started", "an attempt without an answer is made again"),
    ("receipt_captured unknown", "a process died before it wrote the answer down"),
    ("receipt_captured interrupted", "an attempt was not made after all"),
    ("receipt_captured failed local", "the store failed before anything was sent"),
    ("gate_closed", "a new process looks at the gate for the first time"),
    ("service_failed", "a part of the engine was told that the store failed"),
];

/// Records of which there may be fewer, one for each attempt that got no answer: that counts as one of the attempts of its endpoint.
pub const MAY_BE_FEWER: [&str; 2] = ["receipt_captured failed 503", "receipt_body"];

/// The story of a world, and everything that is wrong in it.
pub fn judge(world: &World) -> (Story, Vec<String>) {
    let mut wrong = Vec::new();
    wrong.extend(log_is_whole(&world.database()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let story = runtime.block_on(async {
        let store = match SqliteStore::open(&world.database(), &namespace()) {
            Ok(store) => Arc::new(store),
            Err(error) => {
                wrong.push(format!("the store does not open: {error}"));
                return Story::new();
            }
        };
        let filter = RecordFilter::default();
        let records = store.records(filter, 10 * MANY).await.unwrap();
        wrong.extend(rows_are_the_fold(&*store, &records).await);
        wrong.extend(one_receipt_an_attempt(&*store, &records).await);
        wrong.extend(artifacts_are_there(world, Arc::clone(&store) as _, &records));
        wrong.extend(everything_arrived(world, &*store).await);
        story(&records)
    });
    (story, wrong)
}

/// What differs between a history and the one without a fault, but for what a fault may add.
pub fn differences(golden: &Story, found: &Story) -> Vec<String> {
    let keys: BTreeSet<_> = golden.keys().chain(found.keys()).collect();
    let of = |story: &Story, key: &String| story.get(key).copied().unwrap_or_default();
    let may_be_more = |key: &str| MAY_BE_MORE.iter().any(|(one, _)| key.starts_with(one));
    let unanswered = ["receipt_captured unknown", "receipt_captured failed local"];
    let lost = found.iter().filter(|(key, _)| unanswered.iter().any(|one| key.starts_with(one)));
    let lost: usize = lost.map(|(_, count)| count).sum();
    let may_be_fewer =
        |key: &str, by: usize| by <= lost && MAY_BE_FEWER.iter().any(|one| key.starts_with(one));
    // What is told together or apart hangs on when it happened. How much was told is compared elsewhere.
    let of_notice = |key: &str| key.ends_with("endpoint=\"operator\"");
    // What the gate looked like is remembered by the process: one that ended before it saw the change does not tell of it.
    let started = |story: &Story| story.get("node_started").copied().unwrap_or_default();
    let of_gate = |key: &str| key.starts_with("gate_closed") && started(found) > started(golden);
    let differ = keys.into_iter().filter(|key| {
        if of_notice(key) || of_gate(key) {
            return false;
        }
        let (expected, found) = (of(golden, key), of(found, key));
        (found < expected && !may_be_fewer(key, expected - found)) || (found > expected && !may_be_more(key))
    });
    differ.map(|key| format!("`{key}`: {} times, expected {}", of(found, key), of(golden, key))).collect()
}

/// Every record by its kind, what it is about, and the fields of its body that do not hang on times or attempts.
pub fn story(records: &[StoredRecord]) -> Story {
    let mut story = Story::new();
    for record in records {
        let body = &record.body;
        let mut words = vec![record.kind.clone()];
        if record.kind == "receipt_captured" {
            words.push(text(&body["receipt"]["outcome"]));
            if body["receipt"]["status"].is_null() && body["receipt"]["outcome"] == "failed" {
                words.push("local".to_owned());
            }
            words.push(body["receipt"]["status"].to_string());
        }
        let ids = [record.cycle_id, record.run_id];
        words.extend(ids.into_iter().flatten().map(|id| id.to_string()));
        for field in ["endpoint", "delivery_id", "step", "outcome", "reason", "digest", "bytes", "initiation"]
        {
            // Why an endpoint is given up is what it answered last, which may be the loss of an answer.
            if field == "reason" && record.kind == "delivery_settled" {
                continue;
            }
            // A notice is named after the record that began it, which has another position in another history.
            let of_notice = field == "delivery_id" || field == "digest" || field == "bytes";
            let is_left_out = of_notice && record.run_id.is_none();
            if !body[field].is_null() && !is_left_out {
                words.push(format!("{field}={}", body[field]));
            }
        }
        *story.entry(words.join(" ")).or_default() += 1;
    }
    story
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Positions without gaps, leaves that are what the headers hash to, and every stored node as a second computation has it.
fn log_is_whole(database: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    let connection = rusqlite::Connection::open(database).unwrap();
    let integrity: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    if integrity != "ok" {
        wrong.push(format!("the database is damaged: {integrity}"));
    }
    let mut statement =
        connection.prepare("SELECT position, header, leaf FROM log_records ORDER BY position").unwrap();
    let rows = statement
        .query_map((), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, [u8; 32]>(2)?))
        })
        .unwrap();
    let (mut frontier, mut expected) = (Frontier::new(), BTreeMap::new());
    for (index, row) in rows.enumerate() {
        let (position, header, leaf) = row.unwrap();
        if i64::try_from(index).unwrap() != position || leaf_hash(header.as_bytes()) != Digest(leaf) {
            wrong.push(format!("the record at {position} is out of place"));
        }
        frontier.push(leaf_hash(header.as_bytes()), |level, index, hash| {
            if is_kept(level) {
                expected.insert((i64::from(level), i64::try_from(index).unwrap()), hash.0);
            }
        });
    }
    let mut statement = connection.prepare("SELECT level, idx, hash FROM log_nodes").unwrap();
    let nodes = statement.query_map((), |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?))).unwrap();
    let nodes: BTreeMap<(i64, i64), [u8; 32]> = nodes.map(Result::unwrap).collect();
    if nodes != expected {
        wrong.push("the nodes of the tree are not those of the records".to_owned());
    }
    wrong
}

async fn rows_are_the_fold(store: &dyn Store, records: &[StoredRecord]) -> Vec<String> {
    let mut states = BTreeMap::<Uuid, RunState>::new();
    for record in records {
        let Some(run_id) = record.run_id else { continue };
        if record.kind == "run_admitted" {
            states.insert(run_id, RunState::admitted());
        }
        let Some(event) = record.body.get("event") else { continue };
        let event: RunEvent = serde_json::from_value(event.clone()).unwrap();
        let next = states[&run_id].next(&event).unwrap();
        states.insert(run_id, next);
    }
    let mut wrong = Vec::new();
    let page = PageRequest { cursor: None, limit: MANY };
    for run in store.runs(None, page).await.unwrap().items {
        match states.remove(&run.run_id) {
            Some(state) if state.name() == run.state => {}
            other => wrong.push(format!("run {} is {}, its log says {other:?}", run.run_id, run.state)),
        }
        if run.outcome.as_deref() != Some("succeeded") {
            wrong.push(format!("run {} ended as {:?}: {:?}", run.run_id, run.outcome, run.reason));
        }
    }
    if !states.is_empty() {
        wrong.push(format!("{} runs of the log have no row", states.len()));
    }
    wrong
}

async fn one_receipt_an_attempt(store: &dyn Store, records: &[StoredRecord]) -> Vec<String> {
    let of = |kind: &str| {
        let mut counts = BTreeMap::<(String, u64), usize>::new();
        for record in records.iter().filter(|record| record.kind == kind) {
            let body = &record.body;
            *counts.entry((text(&body["delivery_id"]), body["attempt"].as_u64().unwrap())).or_default() += 1;
        }
        counts
    };
    let (started, answered) = (of("attempt_started"), of("receipt_captured"));
    let mut wrong = Vec::new();
    if started != answered || started.values().any(|count| *count != 1) {
        wrong.push(format!("attempts {started:?} and receipts {answered:?} do not match"));
    }
    let page = PageRequest { cursor: None, limit: MANY };
    for delivery in store.deliveries(None, page).await.unwrap().items {
        if usize::try_from(delivery.attempts).unwrap() != delivery.receipts.len() {
            wrong.push(format!("delivery {} has an attempt without a receipt", delivery.delivery_id));
        }
    }
    wrong
}

fn artifacts_are_there(world: &World, store: Arc<dyn Store>, records: &[StoredRecord]) -> Vec<String> {
    let blobs = FolderBlobs::open(&world.layout().blobs(&namespace())).unwrap();
    let payloads = Payloads::new(store, Arc::new(blobs));
    let mut wrong = Vec::new();
    let mut seen = 0;
    for record in records.iter().filter(|record| record.kind == "step_succeeded") {
        let digest: Option<Digest> = serde_json::from_value(record.body["digest"].clone()).ok();
        let digest =
            digest.or_else(|| serde_json::from_value(record.body["artifact"]["digest"].clone()).ok());
        match digest.map(|digest| payloads.verify(digest)) {
            Some(Ok(_)) => seen += 1,
            Some(Err(error)) => wrong.push(error.to_string()),
            None => wrong.push(format!("an artifact has no digest: {}", record.body)),
        }
    }
    if seen < 8 {
        wrong.push(format!("{seen} artifacts, expected those of four steps of two runs"));
    }
    wrong
}

/// Every delivery arrived under its key; what arrived again has the same place and bytes.
async fn everything_arrived(world: &World, store: &dyn Store) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut told = BTreeMap::<String, u64>::new();
    let mut arrived = BTreeMap::<String, BTreeSet<(String, Vec<u8>)>>::new();
    for request in world.requests() {
        arrived.entry(request.key().to_owned()).or_default().insert((request.path, request.body));
    }
    let page = PageRequest { cursor: None, limit: MANY };
    for delivery in store.deliveries(None, page).await.unwrap().items {
        if let Some(notice) = &delivery.notice {
            *told.entry(notice.event.clone()).or_default() += notice.count;
        }
        if delivery.state != "accepted" {
            wrong.push(format!(
                "delivery {} to {} is {}",
                delivery.delivery_id, delivery.endpoint, delivery.state
            ));
        }
        match arrived.remove(&delivery.delivery_id.to_string()) {
            Some(forms) if forms.len() == 1 => {}
            Some(_) => wrong.push(format!("delivery {} arrived in two forms", delivery.delivery_id)),
            None => wrong.push(format!("delivery {} never arrived", delivery.delivery_id)),
        }
    }
    if told != BTreeMap::from([("dead_letter".to_owned(), 2), ("halted".to_owned(), 1)]) {
        wrong.push(format!("notices tell of {told:?}, expected two dead letters and a halt"));
    }
    if !arrived.is_empty() {
        wrong.push(format!("arrived without being owed: {:?}", arrived.keys()));
    }
    wrong
}
