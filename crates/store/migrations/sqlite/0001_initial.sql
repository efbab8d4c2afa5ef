-- Everything a namespace remembers. Instants are whole microseconds since the Unix epoch, ids and digests are text, JSON is text.
-- `ordinal` counts rows in the order in which they were made: lists are paged by it, newest first.

-- The log: only its tables begin with `log_`. Every column but `header` is read out of it, so that none can contradict it.
CREATE TABLE log_records (
    position    INTEGER PRIMARY KEY,                                              -- from 0, without gaps
    header      TEXT NOT NULL,                                                    -- canonical JSON, exactly as hashed
    body_class  TEXT NOT NULL GENERATED ALWAYS AS (header ->> '$.body_class') VIRTUAL,  -- fact | evidence
    body_digest TEXT NOT NULL GENERATED ALWAYS AS (header ->> '$.body_digest') VIRTUAL, -- of the body, salted if it is evidence
    cycle_id    TEXT GENERATED ALWAYS AS (header ->> '$.cycle_id') VIRTUAL,
    run_id      TEXT GENERATED ALWAYS AS (header ->> '$.run_id') VIRTUAL
) STRICT;
CREATE INDEX log_records_of_run ON log_records (run_id, position) WHERE run_id IS NOT NULL;
CREATE INDEX log_records_of_cycle ON log_records (cycle_id, position) WHERE cycle_id IS NOT NULL;

CREATE TABLE log_bodies (
    position INTEGER PRIMARY KEY REFERENCES log_records (position),
    body     TEXT NOT NULL,                       -- canonical JSON
    salt     BLOB CHECK (length(salt) = 16)       -- of evidence: leaves with the body, so that a dropped one cannot be guessed
) STRICT;

-- Append-only. The guards on INSERT also stop `INSERT OR REPLACE`, whose deletions fire no trigger.
CREATE TRIGGER log_records_in_order BEFORE INSERT ON log_records
WHEN NEW.position IS NOT (SELECT coalesce(max(position) + 1, 0) FROM log_records)
BEGIN SELECT RAISE(ABORT, 'log_records is append-only: positions have no gaps'); END;
CREATE TRIGGER log_records_no_update BEFORE UPDATE ON log_records
BEGIN SELECT RAISE(ABORT, 'log_records is append-only'); END;
CREATE TRIGGER log_records_no_delete BEFORE DELETE ON log_records
BEGIN SELECT RAISE(ABORT, 'log_records is append-only'); END;
CREATE TRIGGER log_bodies_once BEFORE INSERT ON log_bodies
WHEN EXISTS (SELECT 1 FROM log_bodies WHERE position = NEW.position)
BEGIN SELECT RAISE(ABORT, 'log_bodies is append-only'); END;
CREATE TRIGGER log_bodies_no_update BEFORE UPDATE ON log_bodies
BEGIN SELECT RAISE(ABORT, 'log_bodies is append-only'); END;
CREATE TRIGGER log_bodies_no_delete BEFORE DELETE ON log_bodies
BEGIN SELECT RAISE(ABORT, 'log_bodies is append-only'); END;

-- What there is once in a store.
CREATE TABLE store (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    namespace       TEXT NOT NULL,                       -- whose store this is
    epoch           INTEGER NOT NULL DEFAULT 0,          -- raised whenever a node takes the store over
    claims          INTEGER NOT NULL DEFAULT 0,          -- claims in this epoch; a token is both numbers in one
    active_snapshot TEXT REFERENCES snapshots (digest)   -- null before the first activation
) STRICT;

CREATE TABLE snapshots (
    digest       TEXT PRIMARY KEY,
    document     TEXT NOT NULL,      -- the snapshot as JSON
    activated_at INTEGER NOT NULL    -- for the first time
) STRICT, WITHOUT ROWID;

CREATE TABLE schedule_cursors (
    run_profile_id  TEXT PRIMARY KEY,
    decided_through INTEGER NOT NULL,    -- every nominal instant up to and including this one is decided
    open_decisions  TEXT NOT NULL        -- a run of equal decisions that is not recorded yet
) STRICT, WITHOUT ROWID;

CREATE TABLE cycles (
    ordinal        INTEGER PRIMARY KEY,
    cycle_id       TEXT NOT NULL UNIQUE,    -- derives from the identity, so that a cycle fires once
    run_profile_id TEXT NOT NULL,
    run_profile    TEXT NOT NULL,           -- its label
    trigger        TEXT NOT NULL,           -- schedule | manual:<key> | backfill:<id>
    nominal        INTEGER NOT NULL,        -- the instant it stands for
    snapshot       TEXT NOT NULL,
    queued         INTEGER NOT NULL,        -- 1: waits until its run profile has no active cycle
    state          TEXT NOT NULL,           -- queued | waiting | selecting | running | finished
    outcome        TEXT,                    -- null until finished
    reason         TEXT,                    -- where the outcome alone does not say
    token          INTEGER NOT NULL DEFAULT 0,  -- of the last claim
    fired_at       INTEGER NOT NULL,
    finished_at    INTEGER,
    preset         TEXT NOT NULL            -- execution requests instead of a selection; JSON null to select
) STRICT;
CREATE INDEX cycles_by_state ON cycles (state, ordinal);
CREATE INDEX cycles_unfinished ON cycles (run_profile_id, state) WHERE state <> 'finished';

-- The history of what was selected.
CREATE TABLE initiations (
    ordinal       INTEGER PRIMARY KEY,
    initiation_id TEXT NOT NULL UNIQUE,
    cycle_id      TEXT NOT NULL UNIQUE REFERENCES cycles (cycle_id),    -- a cycle has exactly one
    label         TEXT NOT NULL,
    weight        REAL NOT NULL,
    metadata      TEXT NOT NULL,
    hash          TEXT NOT NULL,       -- of the parts that are compared
    scope         TEXT NOT NULL,       -- where it must be new
    release_on    TEXT NOT NULL,       -- outcomes of the cycle that free it, a JSON array
    selected_at   INTEGER NOT NULL,
    released_at   INTEGER              -- null while it is held
) STRICT;
CREATE INDEX initiations_held ON initiations (scope, hash, selected_at) WHERE released_at IS NULL;

-- The newest holder of a hash in a scope: what makes an initiation unique.
CREATE TABLE initiation_holds (
    scope         TEXT NOT NULL,
    hash          TEXT NOT NULL,
    initiation_id TEXT NOT NULL,
    taken_at      INTEGER NOT NULL,
    PRIMARY KEY (scope, hash)
) STRICT, WITHOUT ROWID;

-- What steps need permits of: runs that wait in one lane are held by the same limits.
CREATE TABLE lanes (
    lane           INTEGER PRIMARY KEY,
    profile_id     TEXT NOT NULL,
    run_profile_id TEXT NOT NULL,
    processor      TEXT NOT NULL,       -- of the step to start
    UNIQUE (processor, profile_id, run_profile_id)
) STRICT;

-- A cache of the log: `state_json` is what the fold of a run's events gives.
CREATE TABLE runs (
    ordinal             INTEGER PRIMARY KEY,
    run_id              TEXT NOT NULL UNIQUE,
    cycle_id            TEXT NOT NULL REFERENCES cycles (cycle_id),
    profile_id          TEXT NOT NULL,
    profile             TEXT NOT NULL,       -- its label
    initiation          TEXT NOT NULL,       -- what the run is about, for people
    state               TEXT NOT NULL,       -- ready | working | waiting | dispatching | finished
    state_json          TEXT NOT NULL,       -- the whole state
    attempt             INTEGER NOT NULL,    -- attempts of the current step that were started
    due_at              INTEGER,             -- of a waiting run: when its step may start again
    lane                INTEGER REFERENCES lanes (lane),    -- of the step to start; null unless ready or waiting
    priority            REAL NOT NULL,
    deadline_at         INTEGER NOT NULL,    -- when it must have an artifact
    token               INTEGER NOT NULL DEFAULT 0,    -- of the last claim
    artifact_digest     TEXT,                -- the newest output: the next step's input, in the end what is owed
    artifact_bytes      INTEGER,
    artifact_media_type TEXT,
    retry_of            TEXT,                -- the run that this one does again
    start_step          TEXT,                -- where it began, if not at tier 1; its input was the artifact then
    started_at          INTEGER NOT NULL,
    finished_at         INTEGER,
    batch_key           TEXT,                -- of a ready run that waits for a batch: what its group has in common
    batch_items_max     INTEGER,             -- so many of the group start at once
    batch_due_at        INTEGER              -- when it has waited long enough
) STRICT;
CREATE INDEX runs_of_cycle ON runs (cycle_id, state);
CREATE INDEX runs_by_state ON runs (state);
CREATE INDEX runs_of_retry ON runs (retry_of, ordinal) WHERE retry_of IS NOT NULL;
-- In the order in which a lane's runs start, first attempts and further ones apart: a door may be open to one of them only.
CREATE INDEX runs_ready ON runs (lane, (attempt > 0), priority DESC, ordinal) WHERE state = 'ready' AND batch_key IS NULL;
CREATE INDEX runs_due ON runs (lane, due_at, ordinal) WHERE state = 'waiting';
CREATE INDEX runs_by_deadline ON runs (deadline_at) WHERE state IN ('ready', 'waiting');
-- Of what a batch is chosen by, so that a long queue is read from the index alone.
CREATE INDEX runs_batched ON runs (batch_key, batch_due_at, batch_items_max, deadline_at, priority) WHERE batch_key IS NOT NULL;

-- Apart from `runs`, so that a change of state does not write the request again.
CREATE TABLE run_requests (
    run_id  TEXT PRIMARY KEY REFERENCES runs (run_id),
    request TEXT NOT NULL,       -- the execution request
    lanes   TEXT NOT NULL        -- the lane of each of its steps, by the step's word
) STRICT, WITHOUT ROWID;

-- For screens: how the last attempt of each step stands.
CREATE TABLE steps (
    run_id      TEXT NOT NULL REFERENCES runs (run_id),
    step        TEXT NOT NULL,       -- tier1 | tier2 | tier3 | normalize, which is also their order
    place       INTEGER NOT NULL,    -- 0 to 3
    state       TEXT NOT NULL,       -- working | succeeded | failed | interrupted | cancelled
    attempts    INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,    -- of the first attempt
    finished_at INTEGER,             -- of the last attempt
    bytes       INTEGER,
    digest      TEXT,
    media_type  TEXT,
    failure     TEXT,                -- the last one
    PRIMARY KEY (run_id, place)
) STRICT, WITHOUT ROWID;

-- What work with `reuse: true` came to, by the digest of everything that it may depend on; the newest of a key.
CREATE TABLE work_done (
    key        TEXT PRIMARY KEY,
    digest     TEXT NOT NULL,       -- of the output
    bytes      INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    run_id     TEXT NOT NULL,       -- who did it
    step       TEXT NOT NULL,       -- as JSON
    made_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    ordinal        INTEGER PRIMARY KEY,
    delivery_id    TEXT NOT NULL UNIQUE,    -- also the idempotency key of every attempt
    run_id         TEXT REFERENCES runs (run_id),           -- whose artifact it carries, or
    notice_id      TEXT REFERENCES notices (notice_id),     -- the notice that it is
    endpoint       TEXT NOT NULL,
    url            TEXT NOT NULL,
    state          TEXT NOT NULL,           -- waiting | sending | accepted | dead | cancelled
    reason         TEXT,                    -- why it is dead
    attempts       INTEGER NOT NULL DEFAULT 0,    -- over all redrives
    round_attempts INTEGER NOT NULL DEFAULT 0,    -- since it was made or last redriven
    due_at         INTEGER,                 -- null unless it waits
    token          INTEGER NOT NULL DEFAULT 0,    -- of the last claim
    created_at     INTEGER NOT NULL,
    settled_at     INTEGER,                 -- when it was accepted or given up
    CHECK ((run_id IS NULL) <> (notice_id IS NULL))
) STRICT;
CREATE INDEX deliveries_due ON deliveries (endpoint, due_at, ordinal) WHERE state = 'waiting';
CREATE INDEX deliveries_queue ON deliveries (endpoint, ordinal) WHERE state = 'waiting';
CREATE INDEX deliveries_sending ON deliveries (endpoint) WHERE state = 'sending';
CREATE INDEX deliveries_dead ON deliveries (endpoint, ordinal) WHERE state = 'dead';
CREATE INDEX deliveries_by_state ON deliveries (state, ordinal);
CREATE INDEX deliveries_of_run ON deliveries (run_id, state);
CREATE INDEX deliveries_of_notices ON deliveries (state, endpoint, due_at) WHERE notice_id IS NOT NULL;

CREATE TABLE attempts (
    delivery_id TEXT NOT NULL REFERENCES deliveries (delivery_id),
    attempt     INTEGER NOT NULL,    -- from 1
    started_at  INTEGER NOT NULL,    -- when its record was made, before the first byte
    answered_at INTEGER,             -- null while it is under way
    receipt     TEXT,                -- exactly one an attempt
    PRIMARY KEY (delivery_id, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_open ON attempts (delivery_id, attempt) WHERE receipt IS NULL;

-- How endpoints do: a cache of the log. One of which there is nothing to tell has no row.
CREATE TABLE endpoints (
    endpoint   TEXT PRIMARY KEY,
    state      TEXT NOT NULL,    -- of its breaker: closed | open | half_open; or disabled
    open_until INTEGER,          -- of an open breaker: nothing is sent before
    health     TEXT NOT NULL     -- the whole state, JSON
) STRICT, WITHOUT ROWID;

-- Up to where the log is followed for what is to be told: the position of the next record. No row while nobody is to be told anything.
CREATE TABLE notify_cursor (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL
) STRICT;

-- What somebody is told. One gathers for each endpoint and event until it is due; then it has a body and a delivery, and changes no more.
CREATE TABLE notices (
    ordinal   INTEGER PRIMARY KEY,
    notice_id TEXT NOT NULL UNIQUE,
    endpoint  TEXT NOT NULL,
    event     TEXT NOT NULL,       -- a word of `on`
    count     INTEGER NOT NULL,    -- how often it happened
    first_at  INTEGER NOT NULL,
    last_at   INTEGER NOT NULL,
    examples  TEXT NOT NULL,       -- the first few, a JSON array
    due_at    INTEGER NOT NULL,    -- when it gathers no more
    snapshot  TEXT REFERENCES snapshots (digest),    -- whose endpoint it goes to; null while it gathers
    body      TEXT,                -- what is sent, canonical JSON; null while it gathers
    CHECK ((snapshot IS NULL) = (body IS NULL))
) STRICT;
CREATE UNIQUE INDEX notices_gathering ON notices (endpoint, event) WHERE body IS NULL;

CREATE TABLE halts (
    ordinal   INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    lifted_at INTEGER              -- null while it is in force
) STRICT;
CREATE UNIQUE INDEX halts_in_force ON halts (lifted_at IS NULL) WHERE lifted_at IS NULL;

-- Crashes in a row during steps of a processor, none of them done in between. A cache of the log: each record of a crash says the new count.
CREATE TABLE processor_crashes (
    processor      TEXT NOT NULL,
    settings       TEXT NOT NULL,       -- the digest of what its document said
    crashes        INTEGER NOT NULL,
    quarantined_at INTEGER,             -- when they were too many; null before
    PRIMARY KEY (processor, settings)
) STRICT, WITHOUT ROWID;
