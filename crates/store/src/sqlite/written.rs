//! What a writer has done, for those who measure it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a writer has committed since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Physical commits that changed something.
    pub commits: u64,
    /// Transactions of the domain in them.
    pub transactions: u64,
    /// Records in them.
    pub records: u64,
    /// How long they took: the pages are written to the log ahead.
    pub committing: Duration,
    /// How long the writer was at work, from each BEGIN until COMMIT returned, but for the time that it waited for a flush.
    pub busy: Duration,
    /// How long the log ahead was flushed.
    pub flushing: Duration,
}

impl Written {
    /// What was committed between this and a later look.
    #[must_use]
    pub const fn until(self, later: Self) -> Self {
        Self {
            commits: later.commits - self.commits,
            transactions: later.transactions - self.transactions,
            records: later.records - self.records,
            committing: later.committing.saturating_sub(self.committing),
            busy: later.busy.saturating_sub(self.busy),
            flushing: later.flushing.saturating_sub(self.flushing),
        }
    }
}

/// [`Written`], counted.
#[derive(Default)]
pub(super) struct Counts {
    commits: AtomicU64,
    transactions: AtomicU64,
    records: AtomicU64,
    committing: AtomicU64,
    busy: AtomicU64,
    flushing: AtomicU64,
}

impl Counts {
    /// What was committed so far.
    pub(super) fn written(&self) -> Written {
        let duration = |count: &AtomicU64| Duration::from_nanos(count.load(Ordering::Relaxed));
        Written {
            commits: self.commits.load(Ordering::Relaxed),
            transactions: self.transactions.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            committing: duration(&self.committing),
            busy: duration(&self.busy),
            flushing: duration(&self.flushing),
        }
    }

    /// A physical commit, and whether it changed anything.
    pub(super) fn committed(
        &self,
        (changed, committing): (bool, Duration),
        transactions: usize,
        records: usize,
    ) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        if changed {
            self.committing.fetch_add(nanoseconds(committing), Ordering::Relaxed);
        }
        self.commits.fetch_add(u64::from(changed), Ordering::Relaxed);
        self.transactions.fetch_add(number(transactions), Ordering::Relaxed);
        self.records.fetch_add(number(records), Ordering::Relaxed);
    }
    /// The writer was at work for so long.
    pub(super) fn worked(&self, busy: Duration) {
        self.busy.fetch_add(nanoseconds(busy), Ordering::Relaxed);
    }

    /// A flush took so long.
    pub(super) fn flushed(&self, flushing: Duration) {
        self.flushing.fetch_add(nanoseconds(flushing), Ordering::Relaxed);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
