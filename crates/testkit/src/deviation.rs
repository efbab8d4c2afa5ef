//! In what a history with a fault may differ from the one without, and in nothing else.
//!
//! Each allowance is a count that follows from the fault: what was lost with a process or with an answer, and was therefore done again.

use std::collections::{BTreeMap, BTreeSet};

use orbit_store::contract::record::StoredRecord;
use serde_json::Value;

/// What a history came to, as far as two of them can be compared: how often each thing was told.
pub type Story = BTreeMap<String, usize>;

/// What happened to a history.
#[derive(Clone, Copy, Debug)]
pub struct Aftermath {
    /// Processes that it took.
    pub processes: usize,
    /// Whether a call was told of an error.
    pub failed: bool,
    /// Whether that came after something may have been claimed.
    pub lost_claim: bool,
    /// Whether that came after a record was appended, which is therefore appended again: a record is an event.
    pub told_again: bool,
}

/// What differs and may not.
pub fn differences(golden: &[StoredRecord], found: &[StoredRecord], after: Aftermath) -> Vec<String> {
    let unanswered = unanswered(found);
    let comparison = Comparison {
        golden: story(golden, &unanswered),
        found: story(found, &unanswered),
        unanswered: &unanswered,
        after,
        gate_is_told: gate_is_told(found),
    };
    let keys: BTreeSet<_> = comparison.golden.keys().chain(comparison.found.keys()).collect();
    let wrong = keys.into_iter().filter(|key| !comparison.may_be(key));
    let tell = |key: &String| {
        format!("`{key}`: {} times, expected {}", comparison.found(key), of(&comparison.golden, key))
    };
    wrong.map(tell).collect()
}

/// How many attempts at each delivery have no answer.
pub fn unanswered(records: &[StoredRecord]) -> BTreeMap<String, usize> {
    let mut unanswered = BTreeMap::new();
    for record in records.iter().filter(|record| record.kind == "receipt_captured") {
        if record.body["receipt"]["outcome"] == "unknown"
            || record.body["receipt"]["outcome"] == "interrupted"
        {
            *unanswered.entry(text(&record.body["delivery_id"])).or_default() += 1;
        }
    }
    unanswered
}

struct Comparison<'a> {
    golden: Story,
    found: Story,
    unanswered: &'a BTreeMap<String, usize>,
    after: Aftermath,
    gate_is_told: bool,
}

impl Comparison<'_> {
    fn found(&self, key: &str) -> usize {
        of(&self.found, key)
    }

    fn more(&self, key: &str) -> isize {
        self.found(key).cast_signed() - of(&self.golden, key).cast_signed()
    }

    fn may_be(&self, key: &str) -> bool {
        let (more, ends) = (self.more(key), self.after.processes - 1);
        if key.contains("endpoint=\"operator\"") {
            return self.may_be_of_notice(key);
        }
        if more == 0 {
            return true;
        }
        let up_to = |most: usize| more > 0 && more <= most.cast_signed();
        let down_to = |most: usize| more < 0 && -more <= most.cast_signed();
        match key.split_whitespace().next().unwrap_or_default() {
            // Every process tells of its start, once, and where there are leases of the one before it, which ended without a word; one that was told that it
            // failed may have told all the same.
            "node_started" | "node_taken_over" => up_to(ends),
            // A step that was interrupted starts again: it ended with a process, or the answer to its claim was lost.
            "step_started" => more == self.more(&key.replacen("step_started", "step_interrupted", 1)),
            "step_interrupted" => up_to(ends + usize::from(self.after.lost_claim)),
            // An attempt without an answer is made again.
            "attempt_started" => up_to(self.unanswered_of(key)),
            "receipt_captured" if key.starts_with("receipt_captured unknown") => up_to(ends),
            "receipt_captured" if key.starts_with("receipt_captured interrupted") => {
                up_to(usize::from(self.after.lost_claim))
            }
            // It counts as one of the attempts of its endpoint, which is therefore given up after fewer refusals.
            "receipt_captured" if key.starts_with("receipt_captured failed 503") => {
                down_to(self.unanswered_of(key))
            }
            "receipt_body" => down_to(self.unanswered_of(key)),
            // A new process takes the gate for open until it has looked, and so tells anew of one that is closed.
            "gate_closed" => (ends > 0 && self.gate_is_told) || (self.after.told_again && up_to(1)),
            // A part of the engine was told that the store failed, which happened once.
            "service_failed" => self.after.failed && up_to(1),
            _ => false,
        }
    }

    /// What is told together or apart hangs on when it happened: two dead letters and a halt are two notices or three. Each is sent and settled
    /// once all the same, and how much they tell is compared by `everything_arrived`.
    fn may_be_of_notice(&self, key: &str) -> bool {
        let notices = self
            .found
            .iter()
            .filter(|(key, _)| key.starts_with("delivery_settled") && key.contains("endpoint=\"operator\""));
        let notices: usize = notices.map(|(_, count)| count).sum();
        let ids = |found: &(&String, &usize)| !self.found.keys().any(|key| key.contains(found.0.as_str()));
        // Those of runs are named in the story, and those of notices are not.
        let unanswered: usize = self.unanswered.iter().filter(ids).map(|(_, count)| count).sum();
        let expected = match key.split_whitespace().next().unwrap_or_default() {
            "attempt_started" => notices + unanswered,
            "receipt_captured" if key.contains(" unknown ") || key.contains(" interrupted ") => {
                return self.found(key) <= unanswered;
            }
            _ => notices,
        };
        (2..=3).contains(&notices) && self.found(key) == expected
    }

    fn unanswered_of(&self, key: &str) -> usize {
        let of_key = self.unanswered.iter().filter(|(id, _)| key.contains(id.as_str()));
        of_key.map(|(_, count)| count).sum()
    }
}

fn of(story: &Story, key: &str) -> usize {
    story.get(key).copied().unwrap_or_default()
}

/// Since each start the gate is told as closed, open, and so on in turn; at the end it is open.
fn gate_is_told(records: &[StoredRecord]) -> bool {
    let mut is_open = true;
    for record in records {
        match record.kind.as_str() {
            "node_started" => is_open = true,
            "gate_closed" if record.body["open"] == !is_open => is_open = !is_open,
            "gate_closed" => return false,
            _ => {}
        }
    }
    is_open
}

/// Every record by its kind, what it is about, and the fields of its body that do not hang on times or attempts. Why a delivery is given up is
/// what it was answered last, which for these may be the loss of an answer.
pub fn story(records: &[StoredRecord], unanswered: &BTreeMap<String, usize>) -> Story {
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
            let is_of_loss = field == "reason"
                && record.kind == "delivery_settled"
                && unanswered.contains_key(&text(&body["delivery_id"]));
            // A notice is named after the record that began it, which has another position in another history.
            let of_notice = field == "delivery_id" || field == "digest" || field == "bytes";
            let is_left_out = of_notice && record.run_id.is_none();
            if !body[field].is_null() && !is_left_out && !is_of_loss {
                words.push(format!("{field}={}", body[field]));
            }
        }
        *story.entry(words.join(" ")).or_default() += 1;
    }
    story
}

/// The text of a value that is one.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
