//! What must be true of a world when its cycle is over, whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orbit_core::digest::Digest;
use orbit_core::record::tree::{Frontier, is_kept, leaf_hash};
use orbit_core::run::{RunEvent, RunState};
use orbit_store::Store;
use orbit_store::blobs::FolderBlobs;
use orbit_store::contract::record::{RecordFilter, StoredRecord};
use orbit_store::contract::view::PageRequest;
use orbit_store::payloads::Payloads;
use uuid::Uuid;

use crate::cluster::blocking;
use crate::deviation::text;
use crate::fault::Acknowledged;
use crate::stored::{self, Stored};
use crate::world::{World, namespace};

/// More than a cycle has of anything.
const MANY: u32 = 1_000;

/// The records of a world, and everything that is wrong in it.
pub fn judge(world: &World) -> (Vec<StoredRecord>, Vec<String>) {
    let mut wrong = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let records = runtime.block_on(async {
        wrong.extend(log_is_whole(&stored::read(world.place()).await));
        let store = match world.place().open(&namespace()).await {
            Ok(store) => store,
            Err(error) => {
                wrong.push(format!("the store does not open: {error}"));
                return Vec::new();
            }
        };
        let filter = RecordFilter::default();
        let records = store.records(filter, 10 * MANY).await.unwrap();
        wrong.extend(rows_are_the_fold(&*store, &records).await);
        wrong.extend(one_end_a_step(&records));
        wrong.extend(one_receipt_an_attempt(&*store, &records).await);
        wrong.extend(artifacts_are_there(world, Arc::clone(&store), &records));
        wrong.extend(everything_arrived(world, &*store).await);
        records
    });
    (records, wrong)
}

/// Positions without gaps, leaves that are what the headers hash to, and every stored node as a second computation has it.
fn log_is_whole(stored: &Stored) -> Vec<String> {
    let mut wrong = stored.damage.clone();
    let (mut frontier, mut expected) = (Frontier::new(), BTreeMap::new());
    for (index, (position, header, _, leaf)) in stored.records.iter().enumerate() {
        if i64::try_from(index).unwrap() != *position || leaf_hash(header.as_bytes()).0 != leaf.as_slice() {
            wrong.push(format!("the record at {position} is out of place"));
        }
        frontier.push(leaf_hash(header.as_bytes()), |level, index, hash| {
            if is_kept(level) {
                expected.insert((i64::from(level), i64::try_from(index).unwrap()), hash.0.to_vec());
            }
        });
    }
    if stored.nodes != expected {
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

/// Every attempt of a step that began has one end.
fn one_end_a_step(records: &[StoredRecord]) -> Vec<String> {
    let mut open = BTreeMap::<(Option<Uuid>, String), isize>::new();
    for record in records {
        let change = match record.kind.as_str() {
            "step_started" => 1,
            "step_succeeded" | "step_failed" | "step_interrupted" => -1,
            _ => continue,
        };
        *open.entry((record.run_id, text(&record.body["step"]))).or_default() += change;
    }
    open.retain(|_, count| *count != 0);
    open.into_iter().map(|(of, count)| format!("{count} attempts of {of:?} have no end")).collect()
}

/// What was durable when a call was answered is there as it was.
pub fn lost(world: &World, acknowledged: &[Acknowledged]) -> Vec<String> {
    let stored = blocking(stored::read(world.place()));
    let mut wrong = Vec::new();
    for one in acknowledged {
        let found = stored.records.get(usize::try_from(one.position).unwrap());
        let found = found.map(|(_, header, body, _)| Acknowledged::digest_of(header, body.as_deref()));
        if found != Some(one.digest) {
            wrong.push(format!(
                "`{}` was answered, and the record at {} is not what it was",
                one.call, one.position
            ));
        }
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
    let payloads = Payloads::new(store, Arc::new(blobs.into()));
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
