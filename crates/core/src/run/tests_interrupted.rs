//! What cuts an attempt short, and how often it may.

use proptest::prelude::*;

use super::*;

fn working(step: Step, started: u32, interrupted: u32) -> RunState {
    RunState::Working { progress: Progress { step, started, failed: 0, interrupted } }
}

#[test]
fn interruptions() {
    let check = |step: Step, started: u32, cause: Interruption, expected: Option<u32>| {
        let next = working(step, started, 0).next(&RunEvent::StepInterrupted { step, cause });
        let ready =
            |interrupted| RunState::Ready { progress: Progress { step, started, failed: 0, interrupted } };
        assert_eq!(next.ok(), expected.map(ready), "{step:?} {started} {cause:?}");
    };
    check(Step::Tier2, 1, Interruption::Crash, Some(1));
    check(Step::Tier2, 1, Interruption::Halt, Some(0));
    check(Step::Tier2, 1, Interruption::Stop, Some(0));
    check(Step::Tier2, 1, Interruption::Unclaimed, Some(0));
    check(Step::Normalize, 1, Interruption::Batch, Some(0));
    // Only the first attempt of a normalize step is part of a batch.
    check(Step::Normalize, 2, Interruption::Batch, None);
    check(Step::Tier1, 1, Interruption::Batch, None);
    check(Step::Tier3, 1, Interruption::Batch, None);
}

#[test]
fn words_of_interruptions() {
    let check = |cause: Interruption, expected: &str| {
        assert_eq!(serde_json::to_value(cause).unwrap(), serde_json::json!(expected));
    };
    check(Interruption::Crash, "crash");
    check(Interruption::Halt, "halt");
    check(Interruption::Stop, "stop");
    check(Interruption::Batch, "batch");
    check(Interruption::Unclaimed, "unclaimed");
}

proptest! {
    /// However attempts of a normalize step end, a batch fails it at most once and a crash at most so often.
    #[test]
    fn a_step_is_not_interrupted_for_ever(causes in proptest::collection::vec(0..4_u8, 1..40)) {
        let step = Step::Normalize;
        let mut state = RunState::Ready { progress: Progress::new(step) };
        let (mut crashes, mut batches) = (0, 0);
        for (attempt, cause) in (1..).zip(causes) {
            let Ok(started) = state.next(&RunEvent::StepStarted { step, attempt }) else { break };
            let cause = match cause {
                0 => Interruption::Crash,
                1 => Interruption::Halt,
                2 => Interruption::Stop,
                _ => Interruption::Batch,
            };
            let next = started.next(&RunEvent::StepInterrupted { step, cause });
            prop_assert_eq!(next.is_err(), cause == Interruption::Batch && attempt > 1);
            crashes += u32::from(cause == Interruption::Crash);
            batches += u32::from(cause == Interruption::Batch && next.is_ok());
            let Ok(next) = next else { break };
            prop_assert_eq!(next.ending().is_some(), crashes > STEP_INTERRUPTIONS_MAX);
            state = next;
        }
        prop_assert!(batches <= 1);
    }
}
