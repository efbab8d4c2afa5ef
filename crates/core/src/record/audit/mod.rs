//! The audit of a log: every record, one after the other, is held against what it must be.
//!
//! Pure: whoever reads the store hands the rows in, in order, and compares what the audit completes (nodes of the tree, states of runs)
//! with the rows that hold it. What is wrong is a [`Fault`], which names table, row and difference; the audit goes on after it.

mod fault;
mod header;
mod runs;

use serde::Deserialize;

use super::body_digest;
use super::tree::{Frontier, leaf_hash};
use crate::digest::Digest;

pub use fault::{Fault, Faults};
pub use header::Header;
pub use runs::{Beside, FoldFault, Folds, Taken};

/// A record as the store holds it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Where it stands.
    pub position: u64,
    /// The header's text.
    pub header: &'a str,
    /// The hash of the header that was noted with it; none in records of early versions.
    pub leaf: Option<&'a [u8]>,
    /// The body's text, if it is there.
    pub body: Option<&'a str>,
    /// The body's salt, if it has one.
    pub salt: Option<&'a [u8]>,
    /// The position of the record that says that the body was dropped, if one does.
    pub dropped_at: Option<u64>,
}

/// A row whose hashes are computed; nothing of it depends on the rows before.
#[derive(Debug)]
pub struct Examined<'a> {
    /// The header, if it can be read.
    pub header: Option<Header<'a>>,
    /// What the header hashes to.
    pub leaf: Digest,
    /// What is wrong with the row by itself.
    pub faults: Vec<Fault>,
}

/// Looks at a row by itself: header, body, salt, tombstone.
pub fn examine<'a>(row: &Row<'a>) -> Examined<'a> {
    let mut faults = Vec::new();
    let mut fault = |table, difference: String| faults.push(Fault::at(table, row.position, difference));
    let leaf = leaf_hash(row.header.as_bytes());
    if row.leaf.is_some_and(|noted| noted != leaf.0) {
        fault("log_records", "the header is not the one that was hashed: its leaf is another".to_owned());
    }
    let header = match Header::read(row.header) {
        Ok(header) => Some(header),
        Err(error) => {
            fault("log_records", format!("the header cannot be read: {error}"));
            None
        }
    };
    if let Some(header) = &header {
        for difference in body_faults(row, header) {
            fault("log_bodies", difference);
        }
    }
    Examined { header, leaf, faults }
}

fn body_faults(row: &Row<'_>, header: &Header<'_>) -> Vec<String> {
    let is_evidence = header.body_class == "evidence";
    let mut differences = Vec::new();
    match (row.body, row.dropped_at) {
        (Some(body), dropped) => {
            if dropped.is_some() {
                differences
                    .push("the body is there, and `log_tombstones` says that it was dropped".to_owned());
            }
            let salt = row.salt.map(<&[u8; 16]>::try_from).transpose();
            match salt {
                Ok(salt) if salt.is_some() == is_evidence => {
                    let digest = body_digest(salt, body.as_bytes());
                    if !digest.is_written(header.body_digest) {
                        let expected = header.body_digest;
                        differences.push(format!(
                            "body and salt have the digest {digest}, and the header says {expected}"
                        ));
                    }
                }
                Ok(_) => differences
                    .push(format!("a body of class `{}` with the salt of another", header.body_class)),
                Err(_) => differences.push("the salt has not 16 bytes".to_owned()),
            }
        }
        (None, Some(_)) if is_evidence => {}
        (None, Some(_)) => {
            differences.push("a fact has no body and a tombstone: only evidence may be dropped".to_owned());
        }
        (None, None) => {
            differences.push("the body is missing, and no tombstone says that it was dropped".to_owned());
        }
    }
    differences
}

/// What a record of dropped bodies lists.
#[derive(Deserialize)]
struct Dropped {
    #[serde(default)]
    positions: Vec<Range>,
}

/// The first position of a range and the last.
#[derive(Deserialize)]
struct Range(u64, u64);

/// The positions whose bodies a `bodies_dropped` record with this body says were dropped, as ranges of first and last.
pub fn dropped_positions(body: &str) -> Result<Vec<(u64, u64)>, serde_json::Error> {
    let dropped: Dropped = serde_json::from_str(body)?;
    Ok(dropped.positions.into_iter().map(|Range(first, last)| (first, last)).collect())
}

/// The order of the log and its tree.
#[derive(Debug, Default)]
pub struct Sequence {
    frontier: Frontier,
    lost: bool,
}

impl Sequence {
    /// The position that must come next.
    pub const fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Whether records are missing, so that no hash above the leaves can be right from there on.
    pub const fn is_broken(&self) -> bool {
        self.lost
    }

    /// The root of all that was taken in.
    pub fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// Takes in the leaf of the next position. A gap before it is a fault, and is filled so that later positions keep their places.
    pub fn take(
        &mut self,
        position: u64,
        leaf: Digest,
        mut completed: impl FnMut(u8, u64, &Digest),
    ) -> Option<Fault> {
        let expected = self.frontier.size();
        let fault = (position != expected).then(|| {
            self.lost = true;
            let missing = match position.saturating_sub(expected) {
                1 => format!("the record at position {expected} is missing"),
                _ => format!(
                    "the records from position {expected} to {} are missing",
                    position.saturating_sub(1)
                ),
            };
            Fault::at("log_records", expected, missing)
        });
        if expected < position {
            // At once, as there is no limit to how far away a row was moved; no hash above it counts any more.
            let nothing = (0..position.count_ones()).map(|_| Digest([0; 32])).collect();
            self.frontier = Frontier::from_subtrees(position, nothing).unwrap_or_default();
        }
        let broken = self.lost;
        self.frontier.push(leaf, |level, index, hash| {
            if !broken {
                completed(level, index, hash);
            }
        });
        fault
    }
}

#[cfg(test)]
mod tests;
