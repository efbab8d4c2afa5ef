-- The log can be proved, evidence and payloads can leave it without harm, and small payloads live in a row.

-- The Merkle tree of RFC 6962 over the headers. Kept are the hashes of complete subtrees whose level is a positive multiple of 4;
-- whatever lies between is made of at most 15 of them, or of as many headers.
CREATE TABLE log_nodes (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    level BIGINT NOT NULL,    -- 4, 8, 12, …: the subtree has 2^level leaves
    idx   BIGINT NOT NULL,    -- which one of its level, from 0
    hash  BYTEA NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (namespace, level, idx)
);

-- The hash of the header as a leaf, so that a header that was changed can be named by its position.
ALTER TABLE log_records ADD COLUMN leaf BYTEA CHECK (length(leaf) = 32);

-- Under which name and key checkpoints are signed, from which size on. A rotation adds a key, a restore a name.
CREATE TABLE log_signers (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    number BIGINT NOT NULL,    -- from 0, without gaps
    origin TEXT COLLATE "C" NOT NULL,    -- the first line of its checkpoints
    vkey   TEXT COLLATE "C" NOT NULL,    -- the public key, C2SP `vkey`
    size   BIGINT NOT NULL,    -- of the log when it began; the record at this position tells of it
    PRIMARY KEY (namespace, number)
);

CREATE TABLE log_checkpoints (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    number BIGINT NOT NULL,    -- from 0, without gaps
    size   BIGINT NOT NULL,
    root   BYTEA NOT NULL CHECK (length(root) = 32),
    note   TEXT COLLATE "C" NOT NULL,    -- the signed note, C2SP `tlog-checkpoint`: every other column is in it
    PRIMARY KEY (namespace, number),
    UNIQUE (namespace, size)
);

-- Which bodies are gone, and the record that says so.
CREATE TABLE log_tombstones (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    position BIGINT NOT NULL,
    told_at  BIGINT NOT NULL,    -- the position of that record
    PRIMARY KEY (namespace, position),
    FOREIGN KEY (namespace, position) REFERENCES log_records (namespace, position)
);

CREATE FUNCTION log_signers_goes_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.number IS DISTINCT FROM (SELECT coalesce(max(number) + 1, 0) FROM log_signers WHERE namespace = NEW.namespace) THEN
        RAISE EXCEPTION 'log_signers is append-only: numbers have no gaps' USING ERRCODE = 'unique_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION log_checkpoints_goes_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.number IS DISTINCT FROM (SELECT coalesce(max(number) + 1, 0) FROM log_checkpoints WHERE namespace = NEW.namespace)
        OR EXISTS (SELECT 1 FROM log_checkpoints WHERE namespace = NEW.namespace AND size >= NEW.size) THEN
        RAISE EXCEPTION 'log_checkpoints is append-only: numbers have no gaps and sizes grow' USING ERRCODE = 'unique_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER log_nodes_no_update BEFORE UPDATE ON log_nodes FOR EACH ROW EXECUTE FUNCTION log_stays();
CREATE TRIGGER log_nodes_no_delete BEFORE DELETE ON log_nodes FOR EACH ROW EXECUTE FUNCTION log_stays();
CREATE TRIGGER log_signers_in_order BEFORE INSERT ON log_signers FOR EACH ROW EXECUTE FUNCTION log_signers_goes_on();
CREATE TRIGGER log_signers_no_update BEFORE UPDATE ON log_signers FOR EACH ROW EXECUTE FUNCTION log_stays();
CREATE TRIGGER log_signers_no_delete BEFORE DELETE ON log_signers FOR EACH ROW EXECUTE FUNCTION log_stays();
CREATE TRIGGER log_checkpoints_in_order BEFORE INSERT ON log_checkpoints FOR EACH ROW EXECUTE FUNCTION log_checkpoints_goes_on();
CREATE TRIGGER log_checkpoints_no_update BEFORE UPDATE ON log_checkpoints FOR EACH ROW EXECUTE FUNCTION log_stays();
CREATE TRIGGER log_checkpoints_no_delete BEFORE DELETE ON log_checkpoints FOR EACH ROW EXECUTE FUNCTION log_stays();
CREATE TRIGGER log_tombstones_no_update BEFORE UPDATE ON log_tombstones FOR EACH ROW EXECUTE FUNCTION log_stays();
CREATE TRIGGER log_tombstones_no_delete BEFORE DELETE ON log_tombstones FOR EACH ROW EXECUTE FUNCTION log_stays();

-- A body may leave once its tombstone is there, and never one that is a fact.
DROP TRIGGER log_bodies_no_delete ON log_bodies;
CREATE FUNCTION log_bodies_leave() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.salt IS NULL OR NOT EXISTS (
        SELECT 1 FROM log_tombstones WHERE namespace = OLD.namespace AND position = OLD.position) THEN
        RAISE EXCEPTION 'log_bodies is append-only: only evidence with a tombstone may leave';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER log_bodies_no_delete BEFORE DELETE ON log_bodies FOR EACH ROW EXECUTE FUNCTION log_bodies_leave();

-- Every payload that a step made: small ones whole, of larger ones where they lie is their digest. They are known after they are dropped too.
CREATE TABLE payloads (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    digest     TEXT COLLATE "C" NOT NULL,
    bytes      BIGINT NOT NULL,
    kept_at    BIGINT NOT NULL,    -- when it was made last: its age counts from here
    dropped_at BIGINT,    -- null while its bytes are there
    content    BYTEA,    -- null if the bytes are a file, or dropped
    UNIQUE (namespace, digest)
);
-- They are opaque, and what is compressed already costs the server a millisecond to find out that it cannot be compressed again.
ALTER TABLE payloads ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX payloads_kept ON payloads (namespace, kept_at) WHERE dropped_at IS NULL;

-- When a backup became this store; null once the log goes on under a new name.
ALTER TABLE store ADD COLUMN restored_at BIGINT;

-- Whether the rows are still arriving from another backend, or have gone to one; null in a store that may be served.
ALTER TABLE store ADD COLUMN moved TEXT COLLATE "C";

-- What is dropped by age is found without reading what stays.
CREATE INDEX log_bodies_evidence ON log_bodies (namespace, position) WHERE salt IS NOT NULL;
-- What a run has before it owes anything changes with every step; few runs are at it at once.
CREATE INDEX runs_of_artifact ON runs (namespace, artifact_digest) WHERE state IN ('dispatching', 'finished');
CREATE INDEX work_done_of ON work_done (namespace, digest);

-- A state that is part of an index moves an entry with every change; a cycle has few runs, and a run few deliveries.
DROP INDEX runs_of_cycle;
CREATE INDEX runs_of_cycle ON runs (namespace, cycle_id);
DROP INDEX deliveries_of_run;
CREATE INDEX deliveries_of_run ON deliveries (namespace, run_id);

-- Who works at the store: every process that has joined, and has neither left nor been taken over. Instants are by the clock of the database.
CREATE TABLE nodes (
    namespace TEXT COLLATE "C" NOT NULL DEFAULT current_setting('orbit.namespace'),
    epoch      BIGINT NOT NULL,    -- the incarnation: the upper half of its tokens
    node       TEXT COLLATE "C" NOT NULL,    -- the name of the node
    version    TEXT COLLATE "C" NOT NULL,    -- of its binary
    schema     BIGINT NOT NULL,    -- the newest that its binary knows
    started_at BIGINT NOT NULL,
    lease_ms   BIGINT NOT NULL,    -- so long after a renewal its lease ends
    expires_at BIGINT,    -- when that is; null: never
    runs       BIGINT NOT NULL DEFAULT 0,    -- at work at the last renewal
    tasks      BIGINT NOT NULL DEFAULT 0,    -- cycles and deliveries, the same
    UNIQUE (namespace, epoch)
);
