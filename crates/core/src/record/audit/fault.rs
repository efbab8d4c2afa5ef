//! What an audit finds.

use serde::{Deserialize, Serialize};

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The table, or `blobs` for a payload's file.
    pub table: String,
    /// The position in the log, where there is one.
    pub position: Option<u64>,
    /// Which row.
    pub row: String,
    /// What differs.
    pub difference: String,
}

impl Fault {
    /// A fault of the record at a position.
    pub fn at(table: &str, position: u64, difference: impl Into<String>) -> Self {
        let row = format!("position {position}");
        Self { table: table.to_owned(), position: Some(position), row, difference: difference.into() }
    }

    /// A fault of a row that is not known by a position.
    pub fn of(table: &str, row: impl Into<String>, difference: impl Into<String>) -> Self {
        Self { table: table.to_owned(), position: None, row: row.into(), difference: difference.into() }
    }
}

/// Faults are counted without end and kept up to [`Faults::KEPT_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// The first of them.
    pub kept: Vec<Fault>,
    /// All of them.
    pub count: u64,
}

impl Faults {
    /// Faults that are kept.
    pub const KEPT_MAX: usize = 1000;

    /// One more.
    pub fn add(&mut self, fault: Fault) {
        self.count += 1;
        if self.kept.len() < Self::KEPT_MAX {
            self.kept.push(fault);
        }
    }
}

impl Extend<Fault> for Faults {
    fn extend<I: IntoIterator<Item = Fault>>(&mut self, faults: I) {
        faults.into_iter().for_each(|fault| self.add(fault));
    }
}
