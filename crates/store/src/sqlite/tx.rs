//! A transaction of the domain: a connection to read and change rows through, and the records that go with the change.

use std::cell::{Cell, RefCell};
use std::ops::Deref;

use orbit_core::record::Sealed;
use rusqlite::Connection;

use super::fault::{Attempt, Fault};
use super::tail::Tail;

/// A record that is larger is a defect of whoever made it: everything that goes into one is bounded by itself.
const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// See the module. Its records have no position yet: all of a physical transaction get theirs together, right before it is committed.
pub(super) struct Tx<'a> {
    connection: &'a Connection,
    tail: &'a Tail,
    first_position: u64,
    records: RefCell<Vec<Sealed>>,
    bytes: Cell<u64>,
}

impl<'a> Tx<'a> {
    /// A transaction whose first record will have this position, in a physical one before which the log ended so.
    pub(super) fn new(connection: &'a Connection, tail: &'a Tail, first_position: u64) -> Self {
        Self { connection, tail, first_position, records: RefCell::default(), bytes: Cell::new(0) }
    }

    /// The record is part of the transaction.
    pub(super) fn append(&self, record: Sealed) -> Attempt<()> {
        let bytes = record.header.len() + record.body.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(Fault::contradiction(format!(
                "a record of {bytes} bytes: {RECORD_BYTES_MAX} at most"
            )));
        }
        self.weighs(bytes);
        self.records.borrow_mut().push(record);
        Ok(())
    }

    /// So many bytes are written besides records.
    pub(super) fn weighs(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)));
    }

    /// The end of the log before the physical transaction: what is committed already, and all that the tables of the log hold by now.
    pub(super) const fn tail(&self) -> &Tail {
        self.tail
    }

    /// The position that the next record will have, if the transaction is committed.
    pub(super) fn next_position(&self) -> u64 {
        self.first_position + u64::try_from(self.records.borrow().len()).unwrap_or(u64::MAX)
    }

    /// The records, and how many bytes were written as far as they were counted.
    pub(super) fn into_records(self) -> (Vec<Sealed>, u64) {
        (self.records.into_inner(), self.bytes.get())
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}
