//! Which runs belong together, until when they wait for each other, and the line that tells a program of one of them.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::canonical;
use crate::config::BatchRule;
use crate::digest::Digest;

/// A ready run's place among those that wait for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPlace {
    /// What it has in common with the others: the digest of the processor's settings and of the rule.
    pub key: Digest,
    /// A batch of so many starts at once.
    pub items_max: u32,
    /// When it has waited long enough.
    pub due_at: Timestamp,
}

/// What a program is told of one item: a line of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManifestItem {
    /// The item's name: the idempotency key of its step, the same for every attempt.
    pub item: String,
    /// Where its bytes lie.
    pub input: String,
    /// Where its output is expected.
    pub output: String,
    /// The declared media type of the input.
    pub media_type: String,
}

/// The place of a run whose normalize step is ready now. It waits for `wait_max`, but never longer than half of what is left to its deadline, so
/// that there is time for the work.
pub fn place(settings: Digest, rule: &BatchRule, now: Timestamp, deadline_at: Timestamp) -> BatchPlace {
    let key = Digest::of(canonical::to_string(&json!({ "settings": settings, "batch": rule })).as_bytes());
    let half = deadline_at.duration_since(now).max(SignedDuration::ZERO) / 2;
    let wait = SignedDuration::try_from(rule.wait_max.to_duration()).unwrap_or(half).min(half);
    let due = now.checked_add(wait).unwrap_or(now);
    // Whole microseconds, which is what a store keeps.
    let due_at = Timestamp::from_microsecond(due.as_microsecond()).unwrap_or(due);
    BatchPlace { key, items_max: rule.items_max, due_at }
}

impl ManifestItem {
    /// One line of canonical JSON with its line end.
    pub fn line(&self) -> String {
        canonical::to_string(self) + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Millis;

    fn second(n: i64) -> Timestamp {
        Timestamp::from_second(n).unwrap()
    }

    #[test]
    fn a_run_waits_no_longer_than_its_rule_and_half_its_time() {
        let check = |wait_max: Millis, deadline: i64, expected: i64| {
            let rule = BatchRule { items_max: 3, wait_max };
            let place = place(Digest::of(b"p"), &rule, second(100), second(deadline));
            assert_eq!((place.items_max, place.due_at), (3, second(expected)));
        };
        check(Millis::seconds(30), 1_000, 130);
        check(Millis::seconds(0), 1_000, 100);
        check(Millis::seconds(30), 120, 110);
        check(Millis::seconds(30), 90, 100);
    }

    #[test]
    fn the_same_settings_and_rule_belong_together() {
        let key = |settings: &[u8], items_max: u32, wait: i64| {
            let rule = BatchRule { items_max, wait_max: Millis::seconds(wait.unsigned_abs()) };
            place(Digest::of(settings), &rule, second(0), second(1_000)).key
        };
        assert_eq!(key(b"p", 3, 5), key(b"p", 3, 5));
        assert_ne!(key(b"p", 3, 5), key(b"q", 3, 5));
        assert_ne!(key(b"p", 3, 5), key(b"p", 4, 5));
        assert_ne!(key(b"p", 3, 5), key(b"p", 3, 6));
    }

    #[test]
    fn a_line_of_the_manifest() {
        let item = ManifestItem {
            item: "k".to_owned(),
            input: "item-1/input".to_owned(),
            output: "item-1/output.txt".to_owned(),
            media_type: "text/plain".to_owned(),
        };
        let expected = "{\"input\":\"item-1/input\",\"item\":\"k\",\"media_type\":\"text/plain\",\"output\":\"item-1/output.txt\"}\n";
        assert_eq!(item.line(), expected);
    }
}
