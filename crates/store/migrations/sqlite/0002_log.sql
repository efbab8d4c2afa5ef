-- The log can be proved, evidence and payloads can leave it without harm, and small payloads live in this file.

-- The Merkle tree of RFC 6962 over the headers. Kept are the hashes of complete subtrees whose level is a positive multiple of 4;
-- whatever lies between is made of at most 15 of them, or of as many headers.
CREATE TABLE log_nodes (
    level INTEGER NOT NULL,                          -- 4, 8, 12, …: the subtree has 2^level leaves
    idx   INTEGER NOT NULL,                          -- which one of its level, from 0
    hash  BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

-- The hash of the header as a leaf, so that a header that was changed can be named by its position. Null in records from before.
ALTER TABLE log_records ADD COLUMN leaf BLOB CHECK (length(leaf) = 32);

-- Under which name and key checkpoints are signed, from which size on. A rotation adds a key, a restore a name.
CREATE TABLE log_signers (
    number INTEGER PRIMARY KEY,    -- from 0, without gaps
    origin TEXT NOT NULL,          -- the first line of its checkpoints
    vkey   TEXT NOT NULL,          -- the public key, C2SP `vkey`
    size   INTEGER NOT NULL        -- of the log when it began; the record at this position tells of it
) STRICT;

CREATE TABLE log_checkpoints (
    number INTEGER PRIMARY KEY,    -- from 0, without gaps
    size   INTEGER NOT NULL UNIQUE,
    root   BLOB NOT NULL CHECK (length(root) = 32),
    note   TEXT NOT NULL           -- the signed note, C2SP `tlog-checkpoint`: every other column is in it
) STRICT;

-- Which bodies are gone, and the record that says so.
CREATE TABLE log_tombstones (
    position INTEGER PRIMARY KEY REFERENCES log_records (position),
    told_at  INTEGER NOT NULL    -- the position of that record
) STRICT;

CREATE TRIGGER log_nodes_once BEFORE INSERT ON log_nodes
WHEN EXISTS (SELECT 1 FROM log_nodes WHERE level = NEW.level AND idx = NEW.idx)
BEGIN SELECT RAISE(ABORT, 'log_nodes is append-only'); END;
CREATE TRIGGER log_nodes_no_update BEFORE UPDATE ON log_nodes
BEGIN SELECT RAISE(ABORT, 'log_nodes is append-only'); END;
CREATE TRIGGER log_nodes_no_delete BEFORE DELETE ON log_nodes
BEGIN SELECT RAISE(ABORT, 'log_nodes is append-only'); END;
CREATE TRIGGER log_signers_in_order BEFORE INSERT ON log_signers
WHEN NEW.number IS NOT (SELECT coalesce(max(number) + 1, 0) FROM log_signers)
BEGIN SELECT RAISE(ABORT, 'log_signers is append-only: numbers have no gaps'); END;
CREATE TRIGGER log_signers_no_update BEFORE UPDATE ON log_signers
BEGIN SELECT RAISE(ABORT, 'log_signers is append-only'); END;
CREATE TRIGGER log_signers_no_delete BEFORE DELETE ON log_signers
BEGIN SELECT RAISE(ABORT, 'log_signers is append-only'); END;
-- Sizes too: with a new number and an old size, `INSERT OR REPLACE` would remove the row that has it.
CREATE TRIGGER log_checkpoints_in_order BEFORE INSERT ON log_checkpoints
WHEN NEW.number IS NOT (SELECT coalesce(max(number) + 1, 0) FROM log_checkpoints)
    OR EXISTS (SELECT 1 FROM log_checkpoints WHERE size >= NEW.size)
BEGIN SELECT RAISE(ABORT, 'log_checkpoints is append-only: numbers have no gaps and sizes grow'); END;
CREATE TRIGGER log_checkpoints_no_update BEFORE UPDATE ON log_checkpoints
BEGIN SELECT RAISE(ABORT, 'log_checkpoints is append-only'); END;
CREATE TRIGGER log_checkpoints_no_delete BEFORE DELETE ON log_checkpoints
BEGIN SELECT RAISE(ABORT, 'log_checkpoints is append-only'); END;
CREATE TRIGGER log_tombstones_once BEFORE INSERT ON log_tombstones
WHEN EXISTS (SELECT 1 FROM log_tombstones WHERE position = NEW.position)
BEGIN SELECT RAISE(ABORT, 'log_tombstones is append-only'); END;
CREATE TRIGGER log_tombstones_no_update BEFORE UPDATE ON log_tombstones
BEGIN SELECT RAISE(ABORT, 'log_tombstones is append-only'); END;
CREATE TRIGGER log_tombstones_no_delete BEFORE DELETE ON log_tombstones
BEGIN SELECT RAISE(ABORT, 'log_tombstones is append-only'); END;

-- A body may leave once its tombstone is there, and never one that is a fact.
DROP TRIGGER log_bodies_no_delete;
CREATE TRIGGER log_bodies_no_delete BEFORE DELETE ON log_bodies
WHEN OLD.salt IS NULL OR NOT EXISTS (SELECT 1 FROM log_tombstones WHERE position = OLD.position)
BEGIN SELECT RAISE(ABORT, 'log_bodies is append-only: only evidence with a tombstone may leave'); END;

-- Every payload that a step made: small ones whole, of larger ones where they lie is their digest. They are known after they are dropped too.
CREATE TABLE payloads (
    digest     TEXT NOT NULL UNIQUE,
    bytes      INTEGER NOT NULL,
    kept_at    INTEGER NOT NULL,    -- when it was made last: its age counts from here
    dropped_at INTEGER,             -- null while its bytes are there
    content    BLOB                 -- null if the bytes are a file, or dropped
) STRICT;
CREATE INDEX payloads_kept ON payloads (kept_at) WHERE dropped_at IS NULL;

INSERT INTO payloads (digest, bytes, kept_at)
    SELECT digest, max(bytes), max(coalesce(finished_at, started_at)) FROM steps
    WHERE digest IS NOT NULL GROUP BY digest;

-- When a backup became this store; null once the log goes on under a new name.
ALTER TABLE store ADD COLUMN restored_at INTEGER;

-- Whether the rows are still arriving from another backend, or have gone to one; null in a store that may be served.
ALTER TABLE store ADD COLUMN moved TEXT;

-- What is dropped by age is found without reading what stays.
CREATE INDEX log_bodies_evidence ON log_bodies (position) WHERE salt IS NOT NULL;
-- What a run has before it owes anything changes with every step; few runs are at it at once.
CREATE INDEX runs_of_artifact ON runs (artifact_digest) WHERE state IN ('dispatching', 'finished');
CREATE INDEX work_done_of ON work_done (digest);

-- A state that is part of an index moves an entry with every change; a cycle has few runs, and a run few deliveries.
DROP INDEX runs_of_cycle;
CREATE INDEX runs_of_cycle ON runs (cycle_id);
DROP INDEX deliveries_of_run;
CREATE INDEX deliveries_of_run ON deliveries (run_id);
