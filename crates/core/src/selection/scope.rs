//! Where and for how long a candidate must be new: the words that a store compares.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::config::{Dedupe, DedupeScope, DedupeWindow, DocName, ReleaseOutcome};

/// `run_profile:<id>`, `source:<name>` or `namespace`.
pub fn scope_text(scope: DedupeScope, run_profile_id: Uuid, source: &DocName) -> String {
    match scope {
        DedupeScope::RunProfile => format!("run_profile:{run_profile_id}"),
        DedupeScope::Source => format!("source:{source}"),
        DedupeScope::Namespace => "namespace".to_owned(),
    }
}

/// A candidate that was taken before this instant is new again; none if it stays taken for good. A window that reaches back before all
/// time begins with it.
pub fn taken_since(window: DedupeWindow, now: Timestamp) -> Option<Timestamp> {
    match window {
        DedupeWindow::Forever => None,
        DedupeWindow::For(span) => {
            let span = SignedDuration::from_millis(i64::try_from(span.0).unwrap_or(i64::MAX));
            Some(now.checked_sub(span).unwrap_or(Timestamp::MIN))
        }
    }
}

/// The outcomes that free a candidate, as words, without repeats.
pub fn release_words(dedupe: &Dedupe) -> Vec<String> {
    let word = |outcome: &ReleaseOutcome| match outcome {
        ReleaseOutcome::Failed => "failed",
        ReleaseOutcome::Partial => "partial",
        ReleaseOutcome::Cancelled => "cancelled",
    };
    let mut outcomes = dedupe.release_on.clone();
    outcomes.sort_unstable();
    outcomes.dedup();
    outcomes.iter().map(|outcome| word(outcome).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Millis;

    #[test]
    fn words() {
        let source = DocName::parse("topics").unwrap();
        let check = |scope, expected: &str| assert_eq!(scope_text(scope, Uuid::nil(), &source), expected);
        check(DedupeScope::RunProfile, "run_profile:00000000-0000-0000-0000-000000000000");
        check(DedupeScope::Source, "source:topics");
        check(DedupeScope::Namespace, "namespace");
        let release_on = vec![ReleaseOutcome::Cancelled, ReleaseOutcome::Failed, ReleaseOutcome::Cancelled];
        assert_eq!(release_words(&Dedupe { release_on, ..Dedupe::default() }), ["failed", "cancelled"]);
    }

    #[test]
    fn windows() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let check = |window, expected: Option<Timestamp>| assert_eq!(taken_since(window, now), expected);
        check(DedupeWindow::Forever, None);
        check(DedupeWindow::For(Millis::seconds(1000)), Some(Timestamp::from_second(999_000).unwrap()));
        check(DedupeWindow::For(Millis(u64::MAX)), Some(Timestamp::MIN));
    }
}
