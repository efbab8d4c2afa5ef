//! Every bound of the pure core and of what the other crates hold, named once, with units.

use crate::config::Millis;

/// Longest duration that a document may state: sums of a few stay far inside every clock.
pub const DURATION_MAX: Millis = Millis(3650 * 86_400_000);
/// Largest file of documents, in bytes.
pub const DOCUMENT_FILE_BYTES_MAX: u64 = 4 << 20;
/// Files of documents in one folder.
pub const DOCUMENT_FILES_MAX: usize = 4096;
/// Namespaces of a home.
pub const NAMESPACES_MAX: usize = 256;
/// Largest asset, in bytes.
pub const ASSET_BYTES_MAX: u64 = 1 << 30;
/// Assets of a namespace.
pub const ASSETS_MAX: usize = 1024;
/// Problems that one reading of a home reports.
pub const PROBLEMS_MAX: usize = 1000;
/// Differing values of one document that a comparison of two snapshots names.
pub const CHANGED_FIELDS_MAX: usize = 100;
/// Candidates that one selection pass keeps.
pub const SELECTION_KEPT_MAX: usize = 16;
/// Candidates of one selection pass that are asked about together, whether they are new.
pub const SELECTION_ASKED_MAX: usize = 64;
/// Longest line that a source may have, in bytes; a longer one is skipped and counted.
pub const SOURCE_LINE_BYTES_MAX: usize = 64 * 1024;
/// Malformed lines that one pass describes; further ones are only counted.
pub const SELECTION_MALFORMED_SHOWN_MAX: usize = 8;
/// Longest reason that a pass keeps of a malformed line, in bytes: a parser may repeat what it read.
pub const SELECTION_REASON_BYTES_MAX: usize = 200;
/// Columns that a CSV source may have; a record with more is skipped and counted.
pub const SOURCE_COLUMNS_MAX: usize = 256;
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
/// Items that one batch of a normalizer may hold.
pub const BATCH_ITEMS_MAX: u32 = 64;
/// Longest result line that a batch may print for one item, in bytes; all of them together may have this much for each item.
pub const BATCH_RESULT_BYTES_MAX: usize = 4 * 1024;
/// Longest `error` of an item that is kept, in bytes.
pub const BATCH_ERROR_BYTES_MAX: usize = 1024;
/// Crashes in a row during steps of one processor, none of them done in between, after which it is quarantined.
pub const PROCESSOR_CRASHES_MAX: u32 = 6;
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
/// Firings that one turn of the scheduler decides for one run profile; the next turn goes on from there.
pub const FIRINGS_PER_TURN_MAX: usize = 4096;
/// How late a firing may be decided and still be on time.
pub const FIRING_LATE_MAX: Millis = Millis::minutes(1);
/// How long a run of equal schedule decisions waits for more before it is recorded.
pub const DECISIONS_OPEN_MAX: Millis = Millis::hours(1);
/// Entries of one schedule.
pub const SCHEDULE_ENTRIES_MAX: usize = 32;
/// Exclusions of one schedule entry.
pub const EXCLUSIONS_MAX: usize = 256;
/// Longest repeated blackout.
pub const EXCLUSION_MAX: Millis = Millis::hours(366 * 24);
/// Blackouts that the search for a firing passes before it finds none.
pub const EXCLUSIONS_PASSED_MAX: usize = 2000;
/// Longest cron expression, in bytes.
pub const CRON_BYTES_MAX: usize = 256;
/// Days that the search for a cron match looks at before it finds none: fifty years, longer than any day of the calendar keeps away.
pub const CRON_DAYS_MAX: usize = 50 * 366;
/// Changes of a zone's offset that the search for a cron match passes before it finds none: centuries.
pub const ZONE_CHANGES_MAX: usize = 1000;
/// Shortest interval of a schedule.
pub const INTERVAL_MIN: Millis = Millis::seconds(1);
/// Longest interval of a schedule.
pub const INTERVAL_MAX: Millis = Millis::hours(366 * 24);
/// Largest jitter of a schedule.
pub const JITTER_MAX: Millis = Millis::hours(24);
/// Rows of a schedule preview.
pub const PREVIEW_MAX: usize = 1000;
/// Surfaces of one cycle.
pub const SURFACES_MAX: usize = 64;
/// Endpoints of one run.
pub const TARGETS_MAX: usize = 64;
/// Longest address of a delivery, in bytes.
pub const URL_BYTES_MAX: usize = 8 * 1024;
/// Longest value of one request header, in bytes.
pub const HEADER_VALUE_BYTES_MAX: usize = 8 * 1024;
/// Bytes that the head of an answer may have; a longer one is a failure.
pub const ANSWER_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest wait that an endpoint's `Retry-After` may ask for, in seconds; a longer one counts as this.
pub const RETRY_AFTER_SECONDS_MAX: u32 = 86_400;
/// Times that one attempt asks a service whether it has finished.
pub const POLLS_MAX: u32 = 10_000;
/// Shortest wait between two of these questions.
pub const POLL_EVERY_MIN: Millis = Millis(100);
/// Longest wait that a service's `Retry-After` may put between two of these questions; a longer one counts as this.
pub const POLL_WAIT_MAX: Millis = Millis::hours(1);
/// Questions without a usable answer that one attempt bears in a row.
pub const POLL_MISSES_MAX: u32 = 5;
/// Addresses of one name that one attempt dials.
pub const ADDRESSES_DIALED_MAX: usize = 4;
/// Rules of `notify` in a namespace.
pub const NOTIFY_RULES_MAX: usize = 64;
/// Events that a notice describes; further ones are only counted.
pub const NOTICE_EXAMPLES_MAX: usize = 10;
/// Longest text that a notice repeats of one event, in bytes.
pub const NOTICE_TEXT_BYTES_MAX: usize = 300;
/// How long a notice waits for more of its kind after the first.
pub const NOTICE_GATHERS: Millis = Millis::seconds(5);
/// Shortest time between two heartbeats.
pub const HEARTBEAT_EVERY_MIN: Millis = Millis::seconds(10);
/// How often it is noted how much space is free.
pub const FREE_SPACE_EVERY: Millis = Millis::hours(1);
/// Shortest history of free space from which a forecast is made: a day, after which most schedules repeat.
pub const FREE_SPACE_HISTORY_MIN: Millis = Millis::hours(24);
/// How far back the history of free space goes.
pub const FREE_SPACE_HISTORY_MAX: Millis = Millis::hours(7 * 24);
/// How far ahead a forecast of free space looks: ten years.
pub const FREE_SPACE_AHEAD_MAX: Millis = Millis::hours(3650 * 24);
/// Space that is set aside for a full disk: far more than some records need.
pub const BALLAST_BYTES: u64 = 16 << 20;
/// Space that must be left beside it when it is set aside: it is not what fills a disk.
pub const BALLAST_ROOM_BYTES: u64 = 48 << 20;
/// Less free space than this is not enough to open the stores of a home.
pub const START_FREE_BYTES_MIN: u64 = 1 << 20;
/// Shortest time for which evidence and artifacts are kept: what was made a moment ago must not be old already.
pub const RETENTION_MIN: Millis = Millis::hours(24);
/// Longest signed note, in bytes: room for the most signatures that it may have, also for kinds of 5 kB each.
pub const NOTE_BYTES_MAX: usize = 512 * 1024;
/// Signatures of a note; the form asks for at least 16.
pub const NOTE_SIGNATURES_MAX: usize = 64;
/// Hashes of an inclusion proof: a tree of 64-bit size is not higher.
pub const PROOF_HASHES_MAX: usize = 64;
/// Longest proof text, in bytes.
pub const PROOF_BYTES_MAX: usize = 1 << 20;
