//! What a store sends to its server, counted: what a run costs in transactions, statements and round trips.
//!
//! A statement that is sent while others of its connection are still without an answer makes no round trip of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counted since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Transactions that were begun.
    pub transactions: u64,
    /// Of these, those that were done again because others got in the way.
    pub again: u64,
    /// Statements, those that begin and end transactions too.
    pub statements: u64,
    /// How often something was sent over a connection on which nothing was under way.
    pub round_trips: u64,
    /// How often a transaction that had been committed was made durable.
    pub flushes: u64,
}

impl Traffic {
    /// What came after this and up to `later`.
    #[must_use]
    pub fn until(self, later: Self) -> Self {
        Self {
            transactions: later.transactions - self.transactions,
            again: later.again - self.again,
            statements: later.statements - self.statements,
            round_trips: later.round_trips - self.round_trips,
            flushes: later.flushes - self.flushes,
        }
    }
}

/// [`Traffic`], being counted.
#[derive(Debug, Default)]
pub(super) struct Meter {
    transactions: AtomicU64,
    again: AtomicU64,
    statements: AtomicU64,
    round_trips: AtomicU64,
    flushes: AtomicU64,
}

impl Meter {
    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            transactions: self.transactions.load(Ordering::Relaxed),
            again: self.again.load(Ordering::Relaxed),
            statements: self.statements.load(Ordering::Relaxed),
            round_trips: self.round_trips.load(Ordering::Relaxed),
            flushes: self.flushes.load(Ordering::Relaxed),
        }
    }

    /// A transaction begins.
    pub(super) fn begins(&self) {
        self.transactions.fetch_add(1, Ordering::Relaxed);
    }

    /// A transaction is done again.
    pub(super) fn again(&self) {
        self.again.fetch_add(1, Ordering::Relaxed);
    }

    /// What was committed is flushed.
    pub(super) fn flushes(&self) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.statements.fetch_add(1, Ordering::Relaxed);
        self.round_trips.fetch_add(1, Ordering::Relaxed);
    }

    /// A statement is sent whose answer nobody waits for.
    pub(super) fn statement(&self) {
        self.statements.fetch_add(1, Ordering::Relaxed);
    }

    /// A statement is sent over this line, and under way until the answer is dropped.
    pub(super) fn sends(&self, line: &Arc<AtomicU64>) -> UnderWay {
        self.statements.fetch_add(1, Ordering::Relaxed);
        if line.fetch_add(1, Ordering::Relaxed) == 0 {
            self.round_trips.fetch_add(1, Ordering::Relaxed);
        }
        UnderWay(Arc::clone(line))
    }
}

/// A statement without an answer yet.
pub(super) struct UnderWay(Arc<AtomicU64>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
