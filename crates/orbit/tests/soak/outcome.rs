//! Holds every run, delivery and record against the plan.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::faults::{Expected, Fault};
use crate::world::World;

/// Differences that are shown.
const SHOWN_MAX: usize = 20;

pub fn check(world: &World, total: usize) {
    let runs = runs(world);
    assert_eq!(runs.len(), total, "one run a profile and cycle");
    let mut sent: BTreeMap<String, u64> = BTreeMap::new();
    for request in world.receiver.requests() {
        *sent.entry(request.headers["idempotency-key"].clone()).or_default() += 1;
    }
    let mut wrong = Vec::new();
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for run in &runs {
        let text = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
        let fault = world.plan.faults.get(&(text("initiation"), text("profile"))).copied();
        let expected = Fault::expected(fault);
        let found = found(run, &sent);
        *outcomes.entry(text("outcome")).or_default() += 1;
        if found.as_ref() != Ok(&expected) {
            wrong.push(format!("{fault:?}: expected {expected:?}, found {found:?}: {run}"));
        }
    }
    eprintln!("{outcomes:?}, {} with a fault", world.plan.faults.len());
    let shown = wrong.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {total} runs:\n{shown}", wrong.len());
    one_receipt_an_attempt(world);
}

/// What came of the run, if what it says of itself agrees with what the receiver saw.
fn found(run: &Value, sent: &BTreeMap<String, u64>) -> Result<Expected, String> {
    let outcome = match run["outcome"].as_str() {
        Some("succeeded") => "succeeded",
        Some("partial") => "partial",
        Some("failed") => "failed",
        other => return Err(format!("the outcome is {other:?}")),
    };
    let mut attempts = [0; 3];
    for (step, place) in run["steps"].as_array().unwrap().iter().zip(&mut attempts) {
        *place = step["attempts"].as_u64().unwrap();
    }
    let mut deliveries = 0;
    for delivery in run["deliveries"].as_array().unwrap() {
        let count = delivery["attempts"].as_u64().unwrap();
        let receipts = delivery["receipts"].as_array().unwrap().len();
        let arrived = sent.get(delivery["delivery_id"].as_str().unwrap()).copied().unwrap_or_default();
        if u64::try_from(receipts) != Ok(count) || arrived != count {
            return Err(format!("{count} attempts, {receipts} receipts, {arrived} requests arrived"));
        }
        deliveries += count;
    }
    Ok(Expected { outcome, attempts, deliveries })
}

/// Every attempt that has a record has exactly one receipt in the log, and the other way round.
fn one_receipt_an_attempt(world: &World) {
    let mut attempts: BTreeMap<(String, u64), (u32, u32)> = BTreeMap::new();
    for record in world.home.records() {
        let place = match record["kind"].as_str() {
            Some("attempt_started") => 0,
            Some("receipt_captured") => 1,
            _ => continue,
        };
        let delivery = record["body"]["delivery_id"].as_str().unwrap().to_owned();
        let counts = attempts.entry((delivery, record["body"]["attempt"].as_u64().unwrap())).or_default();
        if place == 0 { counts.0 += 1 } else { counts.1 += 1 }
    }
    for (attempt, counts) in attempts {
        assert_eq!(counts, (1, 1), "{attempt:?}: records of a start, receipts");
    }
}

fn runs(world: &World) -> Vec<Value> {
    let (mut runs, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut args = vec!["runs", "list", "--limit", "1000"];
        if let Some(cursor) = &cursor {
            args.extend(["--cursor", cursor]);
        }
        let page = world.home.json(&args, 0);
        runs.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return runs,
        }
    }
}
