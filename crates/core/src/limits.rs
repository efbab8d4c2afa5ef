//! Every bound of the pure core and of what the other crates hold, named once, with units.

/// Candidates that one selection pass keeps.
pub const SELECTION_KEPT_MAX: usize = 16;
/// Longest line that a source may have, in bytes; a longer one is skipped and counted.
pub const SOURCE_LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest label of an initiation, in bytes.
pub const LABEL_BYTES_MAX: usize = 4096;
/// Longest template source, in bytes.
pub const TEMPLATE_SOURCE_BYTES_MAX: usize = 64 * 1024;
/// Longest text that a template may render, in bytes.
pub const TEMPLATE_OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Instructions that one rendering may take.
pub const TEMPLATE_FUEL: u64 = 50_000;
/// Attempts that a step may have (`check` refuses more).
pub const STEP_ATTEMPTS_MAX: u32 = 3;
/// Attempts of one step that may be cut short by a crash before the run fails.
pub const STEP_INTERRUPTIONS_MAX: u32 = 3;
/// Attempts that a delivery may have.
pub const DELIVERY_ATTEMPTS_MAX: u32 = 20;
/// Bytes of an endpoint's answer that a receipt keeps.
pub const RECEIPT_BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an endpoint's answer headers that a receipt keeps.
pub const RECEIPT_HEADER_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a program's standard error that an attempt keeps: the last ones.
pub const STDERR_TAIL_BYTES_MAX: usize = 16 * 1024;
/// Cycles that may wait behind a running one under `overlap: queue_all`.
pub const OVERLAP_QUEUE_MAX: u32 = 1000;
/// Missed firings that one catch-up may fire.
pub const CATCH_UP_MAX: usize = 1000;
/// Surfaces of one cycle.
pub const SURFACES_MAX: usize = 64;
/// Endpoints of one run.
pub const TARGETS_MAX: usize = 64;
