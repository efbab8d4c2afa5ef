//! What must be true in the end, as the log tells it and as the receiver saw it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orbit_core::record::tree::{Frontier, leaf_hash};
use orbit_core::run::fold::{Folded, Told};
use orbit_core::run::{Ending, RunState};
use serde_json::Value;

use super::kit::{VICTIM, World};

/// Of a body, a word.
pub fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What the record of the takeover says; there is one.
pub fn taken_over(records: &[Value]) -> Value {
    let mut found: Vec<_> = records.iter().filter(|record| record["kind"] == "node_taken_over").collect();
    assert_eq!(found.len(), 1, "{found:?}");
    let body = found.remove(0)["body"].clone();
    assert_eq!(body["node"], VICTIM);
    body
}

/// Everything that is wrong.
pub fn judge(world: &World, records: &[Value]) -> Vec<String> {
    let mut wrong = runs_are_legal(records, world.runs());
    wrong.extend(one_success_a_step(records, world.runs()));
    wrong.extend(deliveries(world, records));
    wrong.extend(the_tree_is_the_records(world));
    wrong
}

/// Each run's records, in their order, are a way through the spine to its end.
fn runs_are_legal(records: &[Value], expected: usize) -> Vec<String> {
    let (mut runs, mut wrong) = (BTreeMap::<String, Folded>::new(), Vec::new());
    for record in records.iter().filter(|record| record["run_id"].is_string()) {
        let (id, kind, body) = (word(&record["run_id"]), word(&record["kind"]), &record["body"]);
        if kind == "run_admitted" {
            if runs.insert(id.clone(), Folded::admit(body).unwrap()).is_some() {
                wrong.push(format!("run {id} was admitted twice"));
            }
            continue;
        }
        let applied = Told::read(&kind, body).and_then(|told| runs.get_mut(&id).unwrap().apply(&kind, told));
        wrong.extend(applied.err().map(|error| format!("run {id}: {error}")));
    }
    let succeeded = RunState::Finished { ending: Ending::Succeeded };
    let without = runs.iter().filter(|(_, run)| run.state != succeeded);
    wrong.extend(without.map(|(id, run)| format!("run {id} is {:?}", run.state)));
    if runs.len() != expected {
        wrong.push(format!("{} runs of {expected}", runs.len()));
    }
    wrong
}

/// How often each of these is there.
fn counts(
    records: &[Value],
    kind: &str,
    of: impl Fn(&Value) -> (String, String),
) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for record in records.iter().filter(|record| record["kind"] == kind) {
        *counts.entry(of(record)).or_default() += 1;
    }
    counts
}

/// One artifact a step of a run, and so one a run at its end.
fn one_success_a_step(records: &[Value], runs: usize) -> Vec<String> {
    let step = |record: &Value| (word(&record["run_id"]), word(&record["body"]["event"]["step"]));
    let succeeded = counts(records, "step_succeeded", step);
    let mut wrong: Vec<_> = succeeded
        .iter()
        .filter(|(_, count)| **count != 1)
        .map(|(of, count)| format!("{of:?} has succeeded {count} times"))
        .collect();
    let steps: BTreeSet<_> = succeeded.keys().map(|(_, step)| step.clone()).collect();
    if steps.len() < 3 || succeeded.len() != runs * steps.len() {
        wrong.push(format!("{} successes of {steps:?} in {runs} runs", succeeded.len()));
    }
    wrong
}

/// One receipt an attempt, one end a delivery, and one key, with the same bytes, for as many requests as there are attempts at most.
fn deliveries(world: &World, records: &[Value]) -> Vec<String> {
    let attempt =
        |record: &Value| (word(&record["body"]["delivery_id"]), record["body"]["attempt"].to_string());
    let whole = |record: &Value| (word(&record["body"]["delivery_id"]), String::new());
    let (started, answered) =
        (counts(records, "attempt_started", attempt), counts(records, "receipt_captured", attempt));
    let settled = counts(records, "delivery_settled", whole);
    let attempts = counts(records, "attempt_started", whole);
    let mut wrong = Vec::new();
    if started != answered || started.values().chain(settled.values()).any(|count| *count != 1) {
        wrong.push(format!(
            "{} attempts, {} receipts, {} ends",
            started.len(),
            answered.len(),
            settled.len()
        ));
    }
    let mut arrived = BTreeMap::<String, Vec<Vec<u8>>>::new();
    for request in world.receiver.requests() {
        arrived.entry(request.headers["idempotency-key"].clone()).or_default().push(request.body);
    }
    if arrived.len() != world.runs() || settled.len() != world.runs() {
        wrong.push(format!("{} keys arrived of {} deliveries", arrived.len(), settled.len()));
    }
    for (key, bodies) in arrived {
        let most = attempts.get(&(key.clone(), String::new())).copied().unwrap_or_default();
        if bodies.len() > most || bodies.iter().any(|body| *body != bodies[0]) {
            wrong.push(format!("{key} arrived {} times in {most} attempts", bodies.len()));
        }
    }
    wrong
}

/// A second computation over what is exported comes to the root that is signed.
fn the_tree_is_the_records(world: &World) -> Vec<String> {
    let exported = world.witness().run(&["log", "export", "-n", "lab"]);
    let note = world.witness().run(&["log", "checkpoint", "-n", "lab"]);
    let mut lines = note.stdout.lines().skip(1);
    let size: usize = lines.next().unwrap().parse().unwrap();
    let mut frontier = Frontier::new();
    for line in exported.stdout.lines().take(size) {
        let line: Value = serde_json::from_str(line).unwrap();
        frontier.push(leaf_hash(line["leaf"].as_str().unwrap().as_bytes()), |_, _, _| {});
    }
    let signed = lines.next().unwrap();
    let decoded = STANDARD.decode(signed).unwrap();
    if (frontier.size(), frontier.root().0.to_vec()) == (size as u64, decoded) {
        Vec::new()
    } else {
        vec![format!("the checkpoint of size {size} has another root than the records")]
    }
}
