-- Everything that namespaces remember. Instants are whole microseconds since the Unix epoch, ids and digests are text, JSON is text.
-- `ordinal` counts rows in the order in which they were made: lists are paged by it, newest first.
--
-- Where this differs from SQLite: every row carries its namespace, which is the setting of the transaction and the first column of every key;
-- `isolation.sql` hides all others. Text compares by its bytes. Flags are booleans. What there is once has no column `one`: the namespace is its key.
-- Claims are counted by each process for itself: a counter in `store` would make every claim wait for the one before.

-- The log: only its tables begin with `log_`. Every column but `header` is read out of it, so that none can contradict it.
CREATE TABLE log_records (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    position    BIGINT NOT NULL,                                                  -- from 0, without gaps
    header      TEXT COLLATE "C" NOT NULL,                                                    -- canonical JSON, exactly as hashed
    body_class  TEXT COLLATE "C" NOT NULL GENERATED ALWAYS AS (header::jsonb ->> 'body_class') STORED,  -- fact | evidence
    body_digest TEXT COLLATE "C" NOT NULL GENERATED ALWAYS AS (header::jsonb ->> 'body_digest') STORED, -- of the body, salted if it is evidence
    cycle_id    TEXT COLLATE "C" GENERATED ALWAYS AS (header::jsonb ->> 'cycle_id') STORED,
    run_id      TEXT COLLATE "C" GENERATED ALWAYS AS (header::jsonb ->> 'run_id') STORED,
    PRIMARY KEY (namespace, position)
);
CREATE INDEX log_records_of_run ON log_records (namespace, run_id, position) WHERE run_id IS NOT NULL;
CREATE INDEX log_records_of_cycle ON log_records (namespace, cycle_id, position) WHERE cycle_id IS NOT NULL;

-- Without a foreign key to `log_records`: its check would lock the row there, which is a write to a row that never changes.
CREATE TABLE log_bodies (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    position BIGINT NOT NULL,
    body     TEXT COLLATE "C" NOT NULL,                       -- canonical JSON
    salt     BYTEA CHECK (length(salt) = 16),   -- of evidence: leaves with the body, so that a dropped one cannot be guessed
    PRIMARY KEY (namespace, position)
);

-- Only here: records that are durable and have no position yet, in the order in which they were made. See `sequencer.rs`.
CREATE TABLE log_pending (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    seq    BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY,    -- gaps mean nothing
    header TEXT COLLATE "C" NOT NULL,
    body   TEXT COLLATE "C" NOT NULL,
    salt   BYTEA CHECK (length(salt) = 16),
    PRIMARY KEY (namespace, seq)
);

-- Append-only, besides by privilege. A key that exists already is refused by itself: there is no `INSERT OR REPLACE` here.
CREATE FUNCTION log_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
-- Once a statement, over all that it added: asked for each row it took three quarters of the time of the insert.
CREATE FUNCTION log_records_goes_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM (SELECT namespace, min(position) AS first, max(position) AS last, count(*) AS number FROM added GROUP BY namespace) of_one
        WHERE last - first + 1 <> number OR first IS DISTINCT FROM (
            SELECT coalesce(max(position) + 1, 0) FROM log_records r WHERE r.namespace = of_one.namespace AND r.position < of_one.first)) THEN
        RAISE EXCEPTION 'log_records is append-only: positions have no gaps' USING ERRCODE = 'unique_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER log_records_in_order AFTER INSERT ON log_records REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION log_records_goes_on();
CREATE TRIGGER log_records_no_update BEFORE UPDATE ON log_records FOR EACH ROW EXECUTE FUNCTION log_stays();
CREATE TRIGGER log_records_no_delete BEFORE DELETE ON log_records FOR EACH ROW EXECUTE FUNCTION log_stays();
CREATE TRIGGER log_bodies_no_update BEFORE UPDATE ON log_bodies FOR EACH ROW EXECUTE FUNCTION log_stays();
CREATE TRIGGER log_bodies_no_delete BEFORE DELETE ON log_bodies FOR EACH ROW EXECUTE FUNCTION log_stays();
CREATE TRIGGER log_pending_no_update BEFORE UPDATE ON log_pending FOR EACH ROW EXECUTE FUNCTION log_stays();

CREATE TABLE snapshots (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    digest       TEXT COLLATE "C" NOT NULL,
    document     TEXT COLLATE "C" NOT NULL,    -- the snapshot as JSON
    activated_at BIGINT NOT NULL,    -- for the first time
    PRIMARY KEY (namespace, digest)
);

-- What there is once in a store.
CREATE TABLE store (
    namespace       TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),    -- whose store this is
    epoch           BIGINT NOT NULL DEFAULT 0,    -- raised whenever a node joins
    active_snapshot TEXT COLLATE "C",    -- null before the first activation
    PRIMARY KEY (namespace),
    FOREIGN KEY (namespace, active_snapshot) REFERENCES snapshots (namespace, digest)
);

CREATE TABLE schedule_cursors (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    run_profile_id  TEXT COLLATE "C" NOT NULL,
    decided_through BIGINT NOT NULL,    -- every nominal instant up to and including this one is decided
    open_decisions  TEXT COLLATE "C" NOT NULL,    -- a run of equal decisions that is not recorded yet
    PRIMARY KEY (namespace, run_profile_id)
);

CREATE TABLE cycles (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    ordinal        BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY,
    cycle_id       TEXT COLLATE "C" NOT NULL,    -- derives from the identity, so that a cycle fires once
    run_profile_id TEXT COLLATE "C" NOT NULL,
    run_profile    TEXT COLLATE "C" NOT NULL,    -- its label
    trigger        TEXT COLLATE "C" NOT NULL,    -- schedule | manual:<key> | backfill:<id>
    nominal        BIGINT NOT NULL,    -- the instant it stands for
    snapshot       TEXT COLLATE "C" NOT NULL,
    queued         BOOLEAN NOT NULL,    -- true: waits until its run profile has no active cycle
    state          TEXT COLLATE "C" NOT NULL,    -- queued | waiting | selecting | running | finished
    outcome        TEXT COLLATE "C",    -- null until finished
    reason         TEXT COLLATE "C",    -- where the outcome alone does not say
    token          BIGINT NOT NULL DEFAULT 0,    -- of the last claim
    fired_at       BIGINT NOT NULL,
    finished_at    BIGINT,
    preset         TEXT COLLATE "C" NOT NULL,    -- execution requests instead of a selection; JSON null to select
    PRIMARY KEY (namespace, ordinal),
    UNIQUE (namespace, cycle_id)
);
CREATE INDEX cycles_by_state ON cycles (namespace, state, ordinal);
CREATE INDEX cycles_unfinished ON cycles (namespace, run_profile_id, state) WHERE state <> 'finished';

-- The history of what was selected.
CREATE TABLE initiations (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    ordinal       BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY,
    initiation_id TEXT COLLATE "C" NOT NULL,
    cycle_id      TEXT COLLATE "C" NOT NULL,    -- a cycle has exactly one
    label         TEXT COLLATE "C" NOT NULL,
    weight        DOUBLE PRECISION NOT NULL,
    metadata      TEXT COLLATE "C" NOT NULL,
    hash          TEXT COLLATE "C" NOT NULL,    -- of the parts that are compared
    scope         TEXT COLLATE "C" NOT NULL,    -- where it must be new
    release_on    TEXT COLLATE "C" NOT NULL,    -- outcomes of the cycle that free it, a JSON array
    selected_at   BIGINT NOT NULL,
    released_at   BIGINT,    -- null while it is held
    PRIMARY KEY (namespace, ordinal),
    UNIQUE (namespace, initiation_id),
    FOREIGN KEY (namespace, cycle_id) REFERENCES cycles (namespace, cycle_id),
    UNIQUE (namespace, cycle_id)
);
CREATE INDEX initiations_held ON initiations (namespace, scope, hash, selected_at) WHERE released_at IS NULL;

-- The newest holder of a hash in a scope: what makes an initiation unique.
CREATE TABLE initiation_holds (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    scope         TEXT COLLATE "C" NOT NULL,
    hash          TEXT COLLATE "C" NOT NULL,
    initiation_id TEXT COLLATE "C" NOT NULL,
    taken_at      BIGINT NOT NULL,
    PRIMARY KEY (namespace, scope, hash)
);

-- What steps need permits of: runs that wait in one lane are held by the same limits.
CREATE TABLE lanes (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    lane           BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY,
    profile_id     TEXT COLLATE "C" NOT NULL,
    run_profile_id TEXT COLLATE "C" NOT NULL,
    processor      TEXT COLLATE "C" NOT NULL,    -- of the step to start
    PRIMARY KEY (namespace, lane),
    UNIQUE (namespace, processor, profile_id, run_profile_id)
);

-- A cache of the log: `state_json` is what the fold of a run's events gives.
CREATE TABLE runs (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    ordinal             BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY,
    run_id              TEXT COLLATE "C" NOT NULL,
    cycle_id            TEXT COLLATE "C" NOT NULL,
    profile_id          TEXT COLLATE "C" NOT NULL,
    profile             TEXT COLLATE "C" NOT NULL,    -- its label
    initiation          TEXT COLLATE "C" NOT NULL,    -- what the run is about, for people
    state               TEXT COLLATE "C" NOT NULL,    -- ready | working | waiting | dispatching | finished
    state_json          TEXT COLLATE "C" NOT NULL,    -- the whole state
    attempt             BIGINT NOT NULL,    -- attempts of the current step that were started
    due_at              BIGINT,    -- of a waiting run: when its step may start again
    lane                BIGINT,    -- of the step to start; null unless ready or waiting
    priority            DOUBLE PRECISION NOT NULL,
    deadline_at         BIGINT NOT NULL,    -- when it must have an artifact
    token               BIGINT NOT NULL DEFAULT 0,    -- of the last claim
    artifact_digest     TEXT COLLATE "C",    -- the newest output: the next step's input, in the end what is owed
    artifact_bytes      BIGINT,
    artifact_media_type TEXT COLLATE "C",
    retry_of            TEXT COLLATE "C",    -- the run that this one does again
    start_step          TEXT COLLATE "C",    -- where it began, if not at tier 1; its input was the artifact then
    started_at          BIGINT NOT NULL,
    finished_at         BIGINT,
    batch_key           TEXT COLLATE "C",    -- of a ready run that waits for a batch: what its group has in common
    batch_items_max     BIGINT,    -- so many of the group start at once
    batch_due_at        BIGINT,    -- when it has waited long enough
    PRIMARY KEY (namespace, ordinal),
    UNIQUE (namespace, run_id),
    FOREIGN KEY (namespace, cycle_id) REFERENCES cycles (namespace, cycle_id),
    FOREIGN KEY (namespace, lane) REFERENCES lanes (namespace, lane)
);
CREATE INDEX runs_of_cycle ON runs (namespace, cycle_id, state);
CREATE INDEX runs_by_state ON runs (namespace, state);
CREATE INDEX runs_of_retry ON runs (namespace, retry_of, ordinal) WHERE retry_of IS NOT NULL;
-- In the order in which a lane's runs start, first attempts and further ones apart: a door may be open to one of them only.
CREATE INDEX runs_ready ON runs (namespace, lane, (attempt > 0), priority DESC, ordinal) WHERE state = 'ready' AND batch_key IS NULL;
CREATE INDEX runs_due ON runs (namespace, lane, due_at, ordinal) WHERE state = 'waiting';
CREATE INDEX runs_by_deadline ON runs (namespace, deadline_at) WHERE state IN ('ready', 'waiting');
-- Of what a batch is chosen by, so that a long queue is read from the index alone.
CREATE INDEX runs_batched ON runs (namespace, batch_key, batch_due_at, batch_items_max, deadline_at, priority) WHERE batch_key IS NOT NULL;

-- Apart from `runs`, so that a change of state does not write the request again.
CREATE TABLE run_requests (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    run_id  TEXT COLLATE "C" NOT NULL,
    request TEXT COLLATE "C" NOT NULL,    -- the execution request
    lanes   TEXT COLLATE "C" NOT NULL,    -- the lane of each of its steps, by the step's word
    PRIMARY KEY (namespace, run_id),
    FOREIGN KEY (namespace, run_id) REFERENCES runs (namespace, run_id)
);

-- For screens: how the last attempt of each step stands.
CREATE TABLE steps (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    run_id      TEXT COLLATE "C" NOT NULL,
    step        TEXT COLLATE "C" NOT NULL,    -- tier1 | tier2 | tier3 | normalize, which is also their order
    place       BIGINT NOT NULL,    -- 0 to 3
    state       TEXT COLLATE "C" NOT NULL,    -- working | succeeded | failed | interrupted | cancelled
    attempts    BIGINT NOT NULL,
    started_at  BIGINT NOT NULL,    -- of the first attempt
    finished_at BIGINT,    -- of the last attempt
    bytes       BIGINT,
    digest      TEXT COLLATE "C",
    media_type  TEXT COLLATE "C",
    failure     TEXT COLLATE "C",    -- the last one
    FOREIGN KEY (namespace, run_id) REFERENCES runs (namespace, run_id),
    PRIMARY KEY (namespace, run_id, place)
);

-- What work with `reuse: true` came to, by the digest of everything that it may depend on; the newest of a key.
CREATE TABLE work_done (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    key        TEXT COLLATE "C" NOT NULL,
    digest     TEXT COLLATE "C" NOT NULL,    -- of the output
    bytes      BIGINT NOT NULL,
    media_type TEXT COLLATE "C" NOT NULL,
    run_id     TEXT COLLATE "C" NOT NULL,    -- who did it
    step       TEXT COLLATE "C" NOT NULL,    -- as JSON
    made_at    BIGINT NOT NULL,
    PRIMARY KEY (namespace, key)
);

-- What somebody is told. One gathers for each endpoint and event until it is due; then it has a body and a delivery, and changes no more.
CREATE TABLE notices (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    ordinal   BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY,
    notice_id TEXT COLLATE "C" NOT NULL,
    endpoint  TEXT COLLATE "C" NOT NULL,
    event     TEXT COLLATE "C" NOT NULL,    -- a word of `on`
    count     BIGINT NOT NULL,    -- how often it happened
    first_at  BIGINT NOT NULL,
    last_at   BIGINT NOT NULL,
    examples  TEXT COLLATE "C" NOT NULL,    -- the first few, a JSON array
    due_at    BIGINT NOT NULL,    -- when it gathers no more
    snapshot  TEXT COLLATE "C",    -- whose endpoint it goes to; null while it gathers
    body      TEXT COLLATE "C",    -- what is sent, canonical JSON; null while it gathers
    PRIMARY KEY (namespace, ordinal),
    UNIQUE (namespace, notice_id),
    FOREIGN KEY (namespace, snapshot) REFERENCES snapshots (namespace, digest),
    CHECK ((snapshot IS NULL) = (body IS NULL))
);
CREATE UNIQUE INDEX notices_gathering ON notices (namespace, endpoint, event) WHERE body IS NULL;

CREATE TABLE deliveries (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    ordinal        BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY,
    delivery_id    TEXT COLLATE "C" NOT NULL,    -- also the idempotency key of every attempt
    run_id         TEXT COLLATE "C",    -- whose artifact it carries, or
    notice_id      TEXT COLLATE "C",    -- the notice that it is
    endpoint       TEXT COLLATE "C" NOT NULL,
    url            TEXT COLLATE "C" NOT NULL,
    state          TEXT COLLATE "C" NOT NULL,    -- waiting | sending | accepted | dead | cancelled
    reason         TEXT COLLATE "C",    -- why it is dead
    attempts       BIGINT NOT NULL DEFAULT 0,    -- over all redrives
    round_attempts BIGINT NOT NULL DEFAULT 0,    -- since it was made or last redriven
    due_at         BIGINT,    -- null unless it waits
    token          BIGINT NOT NULL DEFAULT 0,    -- of the last claim
    created_at     BIGINT NOT NULL,
    settled_at     BIGINT,    -- when it was accepted or given up
    PRIMARY KEY (namespace, ordinal),
    UNIQUE (namespace, delivery_id),
    FOREIGN KEY (namespace, run_id) REFERENCES runs (namespace, run_id),
    FOREIGN KEY (namespace, notice_id) REFERENCES notices (namespace, notice_id),
    CHECK ((run_id IS NULL) <> (notice_id IS NULL))
);
CREATE INDEX deliveries_due ON deliveries (namespace, endpoint, due_at, ordinal) WHERE state = 'waiting';
CREATE INDEX deliveries_queue ON deliveries (namespace, endpoint, ordinal) WHERE state = 'waiting';
CREATE INDEX deliveries_sending ON deliveries (namespace, endpoint) WHERE state = 'sending';
CREATE INDEX deliveries_dead ON deliveries (namespace, endpoint, ordinal) WHERE state = 'dead';
CREATE INDEX deliveries_by_state ON deliveries (namespace, state, ordinal);
CREATE INDEX deliveries_of_run ON deliveries (namespace, run_id, state);
CREATE INDEX deliveries_of_notices ON deliveries (namespace, state, endpoint, due_at) WHERE notice_id IS NOT NULL;

CREATE TABLE attempts (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    delivery_id TEXT COLLATE "C" NOT NULL,
    attempt     BIGINT NOT NULL,    -- from 1
    started_at  BIGINT NOT NULL,    -- when its record was made, before the first byte
    answered_at BIGINT,    -- null while it is under way
    receipt     TEXT COLLATE "C",    -- exactly one an attempt
    FOREIGN KEY (namespace, delivery_id) REFERENCES deliveries (namespace, delivery_id),
    PRIMARY KEY (namespace, delivery_id, attempt)
);
CREATE INDEX attempts_open ON attempts (namespace, delivery_id, attempt) WHERE receipt IS NULL;

-- How endpoints do: a cache of the log. One of which there is nothing to tell has no row.
CREATE TABLE endpoints (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    endpoint   TEXT COLLATE "C" NOT NULL,
    state      TEXT COLLATE "C" NOT NULL,    -- of its breaker: closed | open | half_open; or disabled
    open_until BIGINT,    -- of an open breaker: nothing is sent before
    health     TEXT COLLATE "C" NOT NULL,    -- the whole state, JSON
    PRIMARY KEY (namespace, endpoint)
);

-- Up to where the log is followed for what is to be told: the position of the next record. No row while nobody is to be told anything.
CREATE TABLE notify_cursor (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    position BIGINT NOT NULL,
    PRIMARY KEY (namespace)
);

CREATE TABLE halts (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    ordinal   BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY,
    at        BIGINT NOT NULL,
    reason    TEXT COLLATE "C" NOT NULL,
    lifted_at BIGINT,    -- null while it is in force
    PRIMARY KEY (namespace, ordinal)
);
CREATE UNIQUE INDEX halts_in_force ON halts (namespace) WHERE lifted_at IS NULL;

-- Crashes in a row during steps of a processor, none of them done in between. A cache of the log: each record of a crash says the new count.
CREATE TABLE processor_crashes (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    processor      TEXT COLLATE "C" NOT NULL,
    settings       TEXT COLLATE "C" NOT NULL,    -- the digest of what its document said
    crashes        BIGINT NOT NULL,
    quarantined_at BIGINT,    -- when they were too many; null before
    PRIMARY KEY (namespace, processor, settings)
);
