//! What a rebuild of the derived tables found and did.

/// Whether a rebuild changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebuildMode {
    /// Rows are compared with what the log says, and stay as they are.
    Compare,
    /// Rows are what the log says afterwards, and a `tables_rebuilt` record tells of it.
    Apply,
}

/// What was found in one table.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TableFound {
    /// Its name.
    pub table: &'static str,
    /// Rows that the log gives it.
    pub rows: u64,
    /// Of these, rows that were not there.
    pub missing: u64,
    /// Of these, rows that were there with another content.
    pub changed: u64,
    /// Rows that were there and that the log knows nothing of.
    pub unknown: u64,
}

/// What a rebuild found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rebuilt {
    /// Records that were read.
    pub records: u64,
    /// Every derived table.
    pub tables: Vec<TableFound>,
}

impl TableFound {
    /// Rows that were not what the log says.
    pub const fn differing(&self) -> u64 {
        self.missing + self.changed + self.unknown
    }
}

impl Rebuilt {
    /// Rows of all tables that were not what the log says.
    pub fn differing(&self) -> u64 {
        self.tables.iter().map(TableFound::differing).sum()
    }
}
