//! What follows for a run when an attempt has failed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Failure, Verdict, classify, delay};
use crate::config::StepRetry;
use crate::limits::{RETRY_AFTER_SECONDS_MAX, STEP_ATTEMPTS_MAX};
use crate::run::{AfterFailure, Interruption, RunEvent, Step};

/// An attempt that failed.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt<'a> {
    /// Of this step.
    pub step: Step,
    /// Attempts that failed before it.
    pub failed_before: u32,
    /// The document's rule.
    pub retry: &'a StepRetry,
    /// When it failed.
    pub now: Timestamp,
    /// When the run must have an artifact.
    pub deadline_at: Timestamp,
    /// Uniform over the whole range.
    pub random: u64,
}

/// The event that a failed attempt is for its run.
///
/// A failure after the deadline is the deadline's, unless it would have ended the run by itself. An end from outside is an interruption by a
/// stop here; who knows better, because a halt was ordered, says so instead. A service's `Retry-After` can only lengthen the wait.
pub fn after_failure(attempt: FailedAttempt<'_>, failure: &Failure) -> RunEvent {
    let FailedAttempt { step, failed_before, retry, now, deadline_at, random } = attempt;
    let failed_with = |then| RunEvent::StepFailed { step, failure: failure.to_string(), then };
    match classify(Err(failure)) {
        Verdict::Cancelled => RunEvent::StepInterrupted { step, cause: Interruption::Stop },
        Verdict::Lost => RunEvent::StepInterrupted { step, cause: Interruption::Crash },
        Verdict::Fail => failed_with(AfterFailure::GiveUp),
        Verdict::Done | Verdict::Retry => {
            let failed = failed_before.saturating_add(1);
            if now >= deadline_at {
                RunEvent::DeadlinePassed { step }
            } else if failed >= retry.attempts.min(STEP_ATTEMPTS_MAX) {
                failed_with(AfterFailure::GiveUp)
            } else {
                let wait = delay(&retry.backoff, failed, random).max(asked_for(failure));
                let wait = SignedDuration::try_from(wait);
                let until = wait.ok().and_then(|wait| now.checked_add(wait).ok()).unwrap_or(Timestamp::MAX);
                failed_with(AfterFailure::Retry { until })
            }
        }
    }
}

/// The wait that a service asked for.
fn asked_for(failure: &Failure) -> Duration {
    let seconds = if let Failure::Remote { remote } = failure { remote.retry_after_seconds() } else { None };
    Duration::from_secs(seconds.unwrap_or_default().min(RETRY_AFTER_SECONDS_MAX).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backoff, Jitter, Millis};
    use crate::tiers::RemoteFailure;

    #[test]
    fn events() {
        let second = |n: i64| Timestamp::from_second(n).unwrap();
        let retry = StepRetry {
            attempts: 3,
            backoff: Backoff {
                initial: Millis(1_000),
                factor: 2.0,
                max: Millis(60_000),
                jitter: Jitter::None,
            },
        };
        let exit = Failure::Exit { code: 1 };
        let check = |failure: &Failure, failed_before: u32, now: i64, expected: RunEvent| {
            let attempt = FailedAttempt {
                step: Step::Tier2,
                failed_before,
                retry: &retry,
                now: second(now),
                deadline_at: second(1_000),
                random: 0,
            };
            assert_eq!(after_failure(attempt, failure), expected);
        };
        let failed = |failure: &Failure, then| RunEvent::StepFailed {
            step: Step::Tier2,
            failure: failure.to_string(),
            then,
        };
        let retry_at = |at| AfterFailure::Retry { until: second(at) };
        check(&exit, 0, 100, failed(&exit, retry_at(101)));
        check(&exit, 1, 100, failed(&exit, retry_at(102)));
        check(&exit, 2, 100, failed(&exit, AfterFailure::GiveUp));
        check(&exit, 9, 100, failed(&exit, AfterFailure::GiveUp));
        check(&exit, 0, 1_000, RunEvent::DeadlinePassed { step: Step::Tier2 });
        let option = Failure::OptionRefused { index: 2 };
        check(&option, 0, 100, failed(&option, AfterFailure::GiveUp));
        check(&option, 0, 1_000, failed(&option, AfterFailure::GiveUp));
        let busy = |seconds| Failure::Remote {
            remote: RemoteFailure::Status { status: 503, retry_after_seconds: Some(seconds) },
        };
        check(&busy(30), 0, 100, failed(&busy(30), retry_at(130)));
        check(&busy(0), 0, 100, failed(&busy(0), retry_at(101)));
        check(&busy(30), 2, 100, failed(&busy(30), AfterFailure::GiveUp));
        let longest = i64::from(RETRY_AFTER_SECONDS_MAX);
        check(&busy(u32::MAX), 0, 100, failed(&busy(u32::MAX), retry_at(100 + longest)));
        let cut = |cause| RunEvent::StepInterrupted { step: Step::Tier2, cause };
        check(&Failure::Cancelled, 0, 100, cut(Interruption::Stop));
        check(&Failure::Lost { message: String::new() }, 2, 2_000, cut(Interruption::Crash));
    }
}
