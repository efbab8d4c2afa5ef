//! Verification: everything that the log promises, checked by reading alone.
//!
//! Some threads read the records page by page in short transactions, so that the write-ahead log can be reset meanwhile, and look at each record by
//! itself; another gives them their places in the tree, folds and compares. Memory does not grow with the log. Nothing is written, and a store that is served meanwhile goes on. Who holds disk and
//! key can write a whole new log: that is only seen when a checkpoint is given that was kept elsewhere.

mod cells;
mod checkpoints;
mod cycles;
mod endpoints;
mod follow;
mod notes;
mod notices;
mod open_rows;
mod owed;
mod pages;
mod payloads;
mod readers;
mod run_row;
mod runs;
mod schema;
mod strangers;
mod tree;
#[cfg(test)]
mod untold;

use std::path::Path;

use orbit_core::digest::Digest;
use orbit_core::record::audit::{Fault, Faults, Header, Row, Sequence, dropped_positions};
use orbit_core::record::key::Verifier;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

use super::columns::Length;
use super::fault::{Attempt, Fault as StoreFault};
use super::{migrate, prepare_connection, record};
use crate::StoreError;
use crate::blobs::Blobs;
use crate::rows::endpoint;
use crate::rows::told::Told;
pub use notes::{Against, Notes, Taking};
use pages::{Page, Pages};

/// What is verified.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The database.
    pub database: &'a Path,
    /// Its larger payloads; without them no payload's bytes are looked at.
    pub blobs: Option<&'a Blobs>,
    /// Checkpoints that were kept elsewhere.
    pub against: Option<Against<'a>>,
    /// The key that signs the log, if it is known from elsewhere; else it is taken from the log.
    pub key: Option<Verifier>,
    /// Records that have their position, where more are there that wait for theirs and are verified as if they followed.
    pub positioned: Option<u64>,
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is looked at: `records` or `payloads`.
    pub stage: &'static str,
    /// How many were checked.
    pub done: u64,
    /// How many there were when it began.
    pub total: u64,
    /// Bytes that were hashed so far, of all stages.
    pub bytes: u64,
}

/// What came of it. It is as it should be if there are no faults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Records that have their position.
    pub size: u64,
    /// Records that are durable and wait for theirs.
    #[serde(default)]
    pub pending: u64,
    /// The root of the tree over those that have one.
    pub root: Option<Digest>,
    /// The newest checkpoint's number and size.
    pub checkpoint: Option<(u64, u64)>,
    /// Checkpoints whose root and signature were checked.
    pub checkpoints: u64,
    /// Outside checkpoints that were compared.
    pub outside: u64,
    /// What the key that was given vouches for; none without one, or where it is not of this log.
    #[serde(default)]
    pub vouched: Option<Vouched>,
    /// Bodies that were dropped and have their tombstone.
    pub dropped: u64,
    /// Runs that were folded.
    pub runs: u64,
    /// Deliveries of notices, and what was told of endpoints, that were not compared with rows, because too many were open at once.
    #[serde(default)]
    pub unfollowed: u64,
    /// Payloads whose bytes were read.
    pub payloads: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// What is wrong.
    pub faults: Faults,
}

/// What a key from elsewhere vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// The key, and those that rotations tie to it, which both keys of each have signed.
    pub keys: Vec<String>,
    /// Records below this position: one of these keys has signed a checkpoint that covers them.
    pub size: u64,
    /// From which position on the next key signs that nothing ties to these, and that key: a restore begins with one.
    pub other: Option<(u64, String)>,
}

/// Verifies a store. An error is one that kept it from reading on; what is wrong with the store is in the report.
pub fn verify(request: &Request<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Report, StoreError> {
    let place = request.database.display().to_string();
    let at = |fault: StoreFault| fault.at(&place);
    let connection = open(request.database).map_err(at)?;
    let version = migrate::known_version(&connection, &place)?;
    let verified = (|| {
        let mut report = Report::default();
        if !schema::compare(&connection, version, &mut report.faults)? {
            return Ok(report);
        }
        let mut check = Check::begin(request, &connection, report)?;
        check.records(request.database, progress)?;
        if let Some(blobs) = request.blobs {
            check.payloads(blobs, progress)?;
        }
        Ok(check.report)
    })();
    verified.map_err(at)
}

/// Whether a record tells of a run, a cycle, a notice's delivery, an endpoint, or of the log itself.
fn is_followed(header: &Header<'_>) -> bool {
    let of_the_log = ["bodies_dropped", "log_opened", "log_key_rotated", "log_restored"];
    header.run_id.is_some()
        || Told::is_told_by(header.kind)
        || cycles::is_told_by(header.kind)
        || endpoint::is_told_by(header.kind)
        || of_the_log.contains(&header.kind)
}

fn open(database: &Path) -> Attempt<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    prepare_connection(&connection)?;
    Ok(connection)
}

/// A verification under way.
struct Check<'a> {
    connection: &'a Connection,
    sequence: Sequence,
    /// What it completed since rows of nodes were last read.
    nodes: tree::Nodes,
    checkpoints: checkpoints::Checkpoints<'a>,
    cycles: cycles::Cycles,
    runs: runs::Runs,
    notices: notices::Notices,
    endpoints: endpoints::Endpoints,
    /// Rows that the records have made.
    made: owed::Made,
    /// See [`Request::positioned`].
    positioned: Option<u64>,
    /// The root when the log had that size.
    root: Option<Digest>,
    report: Report,
}

impl<'a> Check<'a> {
    fn begin(request: &Request<'a>, connection: &'a Connection, mut report: Report) -> Attempt<Self> {
        let checkpoints = checkpoints::Checkpoints::begin(request, connection, &mut report)?;
        Ok(Self {
            connection,
            sequence: Sequence::default(),
            nodes: tree::Nodes::default(),
            checkpoints,
            cycles: cycles::Cycles::default(),
            runs: runs::Runs::default(),
            notices: notices::Notices::default(),
            endpoints: endpoints::Endpoints::default(),
            made: owed::Made::default(),
            positioned: request.positioned,
            root: None,
            report,
        })
    }

    /// Every record that is there when it comes to the end.
    fn records(&mut self, database: &Path, progress: &mut dyn FnMut(Progress)) -> Attempt<()> {
        let total = record::count(self.connection)?;
        pages::strays(self.connection, &mut self.report.faults)?;
        readers::read(database, |page| {
            // Rows that are at least as new as the records; a transaction for each question would take as long as the answer.
            let transaction = self.connection.unchecked_transaction()?;
            self.page(page)?;
            transaction.finish()?;
            progress(self.progress("records", self.sequence.size(), total));
            Ok(())
        })?;
        self.end_of_log()
    }

    /// What was appended after the reading thread came to its end, and what only the end can tell: in one transaction, so that rows and records are
    /// of one moment.
    fn end_of_log(&mut self) -> Attempt<()> {
        let transaction = self.connection.unchecked_transaction()?;
        let mut rest = Pages::after(&transaction, self.sequence.size());
        while let Some(page) = rest.next_within(&transaction, Page::default())? {
            self.page(&page)?;
        }
        self.checkpoints.end(&self.sequence, &mut self.report)?;
        tree::ends(&transaction, &self.sequence, &mut self.report.faults)?;
        self.cycles.end(&transaction, &mut self.report)?;
        self.runs.end(&transaction, &mut self.report)?;
        self.notices.end(&transaction, &mut self.report)?;
        self.endpoints.end(&transaction, &mut self.report)?;
        strangers::name(&transaction, self.made, self.report.runs, &mut self.report.faults)?;
        let sql = "SELECT count(*) FROM log_tombstones";
        let tombstones = transaction.query_row(sql, (), |row| row.get::<_, Length>(0))?.0;
        if tombstones != self.report.dropped {
            let difference = format!("{tombstones} rows, and the records tell of {}", self.report.dropped);
            self.report.faults.add(Fault::of("log_tombstones", "all rows", difference));
        }
        let (size, root) = (self.sequence.size(), self.sequence.root());
        self.report.size = self.positioned.unwrap_or(size).min(size);
        self.report.pending = size - self.report.size;
        let root = if self.report.pending == 0 { Some(root) } else { self.root };
        self.report.root = root.filter(|_| !self.sequence.is_broken());
        transaction.finish()?;
        Ok(())
    }

    fn page(&mut self, page: &Page) -> Attempt<()> {
        for (seen, row) in page.seen() {
            self.report.bytes += seen.bytes;
            self.report.faults.extend(seen.faults.iter().cloned());
            let nodes = &mut self.nodes;
            let gap = self.sequence.take(seen.position, seen.leaf, |level, index, hash| {
                nodes.completed(level, index, hash);
            });
            self.report.faults.extend(gap);
            if self.positioned == Some(self.sequence.size()) {
                self.root = Some(self.sequence.root());
            }
            if self.checkpoints.is_due(self.sequence.size()) {
                self.checkpoints.pass(self.connection, &self.sequence, &mut self.report)?;
            }
            if let Some(row) = row {
                self.follow(&row)?;
            }
        }
        self.nodes.compare(self.connection, &mut self.report.faults)
    }

    /// What a record tells of cycles, of runs, of notices, of endpoints, or of the log itself; see [`is_followed`].
    fn follow(&mut self, row: &Row<'_>) -> Attempt<()> {
        let Ok(header) = Header::read(row.header) else { return Ok(()) };
        let told = (row, &header);
        self.cycles.take(self.connection, told, &mut self.made, &mut self.report)?;
        self.runs.take(self.connection, told, &mut self.made, &mut self.report)?;
        self.notices.take(self.connection, told, &mut self.made, &mut self.report)?;
        self.endpoints.take(told, &mut self.report);
        match (header.kind, row.body) {
            ("bodies_dropped", Some(body)) => self.tombstones(row.position, body)?,
            ("log_opened" | "log_key_rotated" | "log_restored", Some(body)) => {
                self.checkpoints.begins((row, header.kind, body), &mut self.report);
            }
            _ => {}
        }
        Ok(())
    }

    /// A record that lists dropped bodies, and the tombstones that must be there for it.
    fn tombstones(&mut self, position: u64, body: &str) -> Attempt<()> {
        let ranges = match dropped_positions(body) {
            Ok(ranges) => ranges,
            Err(error) => {
                let difference = format!("it lists dropped bodies and cannot be read: {error}");
                self.report.faults.add(Fault::at("log_bodies", position, difference));
                return Ok(());
            }
        };
        let sql = "SELECT count(*) FROM log_tombstones WHERE position BETWEEN ?1 AND ?2 AND told_at = ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        for (first, last) in ranges {
            let told = last.saturating_sub(first) + 1;
            let range = (Length(first), Length(last), Length(position));
            let found = statement.query_row(range, |row| row.get::<_, Length>(0))?.0;
            self.report.dropped += told;
            if found != told {
                let difference = format!(
                    "{found} tombstones from position {first} to {last}, and the record tells of {told}"
                );
                self.report.faults.add(Fault::at("log_tombstones", position, difference));
            }
        }
        Ok(())
    }

    fn payloads(&mut self, blobs: &Blobs, progress: &mut dyn FnMut(Progress)) -> Attempt<()> {
        let hashed = self.report.bytes;
        payloads::check(self.connection, blobs, &mut self.report, &mut |report: &Report, total| {
            let bytes = report.bytes.max(hashed);
            progress(Progress { stage: "payloads", done: report.payloads, total, bytes });
        })
    }

    fn progress(&self, stage: &'static str, done: u64, total: u64) -> Progress {
        Progress { stage, done, total: total.max(done), bytes: self.report.bytes }
    }
}
