//! The words of the log: one for each kind of record, with what it tells.

use serde::Serialize;

use crate::run::RunEvent;

/// Makes the enum, its list, its words and its sentences out of one table, so that none can be forgotten.
macro_rules! kinds {
    ($($kind:ident = $word:literal: $tells:literal,)*) => {
        /// What a record tells.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Kind {
            $(#[doc = $tells] #[serde(rename = $word)] $kind,)*
        }

        impl Kind {
            /// Every kind, in the order of the flow.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The word in the header.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }

            /// What it tells, in a sentence.
            pub const fn describe(self) -> &'static str {
                match self {
                    $(Self::$kind => $tells,)*
                }
            }
        }
    };
}

kinds! {
    NodeStarted = "node_started": "A node opened the store; names its version and what it found unfinished.",
    NodeTakenOver = "node_taken_over": "A node was not heard of until its lease had ended; names it, how long ago that was (`ended_ms`, by the clock of the database), and what it had under way, which is free again.",
    NodeStopped = "node_stopped": "A node closed the store in good order.",
    LogOpened = "log_opened": "From here on the log is signed; names its origin and public key.",
    LogKeyRotated = "log_key_rotated": "Another key signs the log; holds the statement that both keys signed.",
    LogRestored = "log_restored": "The store was a backup and its log goes on under a new origin; names the old one, its size and root.",
    AnchorConflict = "anchor_conflict": "An alarm: the anchor holds another checkpoint under a number of this log, or newer ones; names both.",
    ConfigActivated = "config_activated": "A snapshot became the active one; names its digest and base.",
    ConfigRefused = "config_refused": "A changed configuration was invalid and changed nothing; holds every problem.",
    SecretsChanged = "secrets_changed": "Values in `.env` changed; holds names only.",
    ScheduleDecided = "schedule_decided": "Firings that did not fire, equal ones as one record with count and reason.",
    CycleFired = "cycle_fired": "A cycle exists; names its trigger and nominal instant.",
    CycleFinished = "cycle_finished": "Every run of a cycle is terminal; names the outcome.",
    InitiationSelected = "initiation_selected": "A candidate was new and is now this cycle's; holds the pass report.",
    SelectionExhausted = "selection_exhausted": "No candidate was new; holds the pass report.",
    SelectionFailed = "selection_failed": "The source could not be read.",
    InitiationReleased = "initiation_released": "The cycle's outcome freed its candidate.",
    RunAdmitted = "run_admitted": "A run exists; holds its execution request.",
    StepStarted = "step_started": "A worker took a step; names attempt and idempotency key.",
    StepSucceeded = "step_succeeded": "A step's output is durable; holds digest, bytes, usage.",
    StepFailed = "step_failed": "An attempt failed; holds the typed failure, usage and what follows.",
    StepInterrupted = "step_interrupted": "An attempt was cut short by a crash, a halt, a stop, or by its batch failing as a whole.",
    StepOutput = "step_output": "What an attempt wrote to standard error (the tail), or what a service answered in the place of an output (the head).",
    ProcessorQuarantined = "processor_quarantined": "The engine died too often during its steps; they fail at once now.",
    ProcessorReleased = "processor_released": "An operator lifted a quarantine.",
    ProcessorTested = "processor_tested": "An operator tried a processor outside of any run; holds what came of it.",
    SynthesisFailed = "synthesis_failed": "The instruction or the execution request could not be made.",
    DeliverySettled = "delivery_settled": "A delivery was accepted or given up.",
    Redriven = "redriven": "Deliveries that were given up are tried again.",
    Cancelled = "cancelled": "A run was ended from outside.",
    DeadlinePassed = "deadline_passed": "A run took longer than its run profile allows.",
    DeliveryCreated = "delivery_created": "Something is owed to an endpoint; names the address and the key.",
    AttemptStarted = "attempt_started": "A delivery attempt is about to send its first byte.",
    ReceiptCaptured = "receipt_captured": "The answer to one attempt, or why there is none.",
    ReceiptBody = "receipt_body": "The first bytes of an answer's body.",
    BreakerOpened = "breaker_opened": "An endpoint seems to be down: nothing is sent to it before `until`.",
    BreakerHalfOpened = "breaker_half_opened": "One delivery finds out whether an endpoint is back.",
    BreakerClosed = "breaker_closed": "An endpoint is sent to again.",
    EndpointFailing = "endpoint_failing": "A warning: nothing was accepted for half of `disable_after`; names when the endpoint will be disabled.",
    EndpointDisabled = "endpoint_disabled": "An endpoint takes nothing more until it is enabled.",
    EndpointEnabled = "endpoint_enabled": "An endpoint takes deliveries again.",
    TestStarted = "test_started": "An operator's test of an endpoint is about to send its first byte.",
    EndpointTested = "endpoint_tested": "What came of a test: the receipt. Nothing that is owed changed.",
    HeartbeatFailed = "heartbeat_failed": "The node's sign of life was not heard.",
    HeartbeatResumed = "heartbeat_resumed": "The node's sign of life is heard again.",
    BackupMade = "backup_made": "A backup was made: up to which size of the log, with which root.",
    Halted = "halted": "Work was stopped by an operator.",
    Resumed = "resumed": "A halt was lifted.",
    GateClosed = "gate_closed": "A door of the gate closed or opened; holds the reason.",
    BodiesDropped = "bodies_dropped": "Bodies of evidence were older than `retention.evidence` and are gone; names their positions as first and last of each stretch.",
    ArtifactsDropped = "artifacts_dropped": "Payloads were older than `retention.artifacts`, nothing needed them, and they are gone; names their digests.",
    TablesRebuilt = "tables_rebuilt": "Rows were made again from the log; holds how many of each table differed from it.",
    ServiceFailed = "service_failed": "A part of the engine failed and was started again.",
}

impl From<&RunEvent> for Kind {
    fn from(event: &RunEvent) -> Self {
        match event {
            RunEvent::StepStarted { .. } => Self::StepStarted,
            RunEvent::StepSucceeded { .. } => Self::StepSucceeded,
            RunEvent::StepFailed { .. } => Self::StepFailed,
            RunEvent::StepInterrupted { .. } => Self::StepInterrupted,
            RunEvent::SynthesisFailed { .. } => Self::SynthesisFailed,
            RunEvent::DeliverySettled { .. } => Self::DeliverySettled,
            RunEvent::Redriven { .. } => Self::Redriven,
            RunEvent::Cancelled { .. } => Self::Cancelled,
            RunEvent::DeadlinePassed { .. } => Self::DeadlinePassed,
        }
    }
}
