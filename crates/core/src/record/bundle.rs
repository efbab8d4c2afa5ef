//! Proof texts: everything that shows one leaf to be in a log, in the form of the C2SP (c2sp.org/tlog-proof, version 1).
//!
//! The form's name, `extra` with base64 where there is some, `index` with the position, the hashes of the path from the
//! leaf's sibling upwards, an empty line and the checkpoint. ORBIT puts the leaf itself, the header of the record, into `extra`:
//! so the text is checked offline with nothing besides the verifier key.

use std::fmt;

use crate::digest::Digest;
use crate::limits::{PROOF_BYTES_MAX, PROOF_HASHES_MAX};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::key::Verifier;
use super::lines::{self, FormError, Lines};
use super::note::{Note, NoteError};
use super::proof::{VerifyError, verify_inclusion};
use super::tree::leaf_hash;

/// The first line.
const FORM: &str = "c2sp.org/tlog-proof@v1";

/// A proof text's parts, of which nothing was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What comes along. Not authenticated by itself; ORBIT's is the leaf.
    pub extra: Option<Vec<u8>>,
    /// The leaf's position.
    pub index: u64,
    /// The audit path, lowest hash first.
    pub path: Vec<Digest>,
    /// The checkpoint of the tree.
    pub checkpoint: Note,
}

/// Why a proof text proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Longer than a proof may be.
    #[error("the proof has {bytes} bytes, at most {PROOF_BYTES_MAX}")]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// A line is not as the form asks.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The checkpoint is not believed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The path does not lead from the leaf to the checkpoint's root.
    #[error(transparent)]
    Path(#[from] VerifyError),
}

/// What was proven: the position of the leaf, and the checkpoint of a tree that has it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The leaf's position.
    pub position: u64,
    /// The tree's head.
    pub checkpoint: Checkpoint,
}

/// Reads a proof text and checks that the leaf with this hash is in the log of this key.
pub fn verify(text: &str, key: &Verifier, leaf: &Digest) -> Result<Proven, BundleError> {
    Bundle::parse(text)?.verify(key, leaf)
}

impl Bundle {
    /// Reads a proof text and looks at its form only.
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        if text.len() > PROOF_BYTES_MAX {
            return Err(BundleError::TooLong { bytes: text.len() });
        }
        let mut lines = Lines::new(text);
        lines.take(&format!("`{FORM}`"), |line| (line == FORM).then_some(()))?;
        let has_extra = lines.peek().is_some_and(|line| line.starts_with("extra"));
        let extra = if has_extra {
            Some(
                lines
                    .take("`extra` and bytes in base64", |line| lines::bytes(line.strip_prefix("extra ")?))?,
            )
        } else {
            None
        };
        let index =
            lines.take("`index` and a decimal", |line| lines::decimal(line.strip_prefix("index ")?))?;
        let mut path = Vec::new();
        while lines.peek() != Some("") {
            if path.len() == PROOF_HASHES_MAX {
                let expected = format!("an empty line after {PROOF_HASHES_MAX} hashes");
                return Err(FormError::new(lines.taken() + 1, expected, lines.peek()).into());
            }
            path.push(lines.take("a hash of 32 bytes in base64, or an empty line", lines::hash)?);
        }
        lines.take("an empty line", |line| line.is_empty().then_some(()))?;
        let checkpoint = Note::parse(lines.rest()).map_err(|error| within(error, lines.taken()))?;
        // Here, where the lines of the whole text are known.
        Checkpoint::from_text(checkpoint.text()).map_err(|error| error.after(lines.taken()))?;
        Ok(Self { extra, index, path, checkpoint })
    }

    /// The hash of the leaf that came along as `extra`.
    pub fn leaf(&self) -> Option<Digest> {
        self.extra.as_deref().map(leaf_hash)
    }

    /// Whether the leaf with this hash is in the log of this key.
    pub fn verify(&self, key: &Verifier, leaf: &Digest) -> Result<Proven, BundleError> {
        let checkpoint = Checkpoint::of_note(&self.checkpoint, key)?;
        verify_inclusion(leaf, self.index, &self.path, checkpoint.size, &checkpoint.root)?;
        Ok(Proven { position: self.index, checkpoint })
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FORM}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", lines::base64(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", lines::base64(&hash.0))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

/// A note's error with the lines that come before the note.
fn within(error: NoteError, above: usize) -> BundleError {
    match error {
        NoteError::Form(error) => BundleError::Form(error.after(above)),
        error @ (NoteError::TooLong { .. }
        | NoteError::Signatures
        | NoteError::Unsigned { .. }
        | NoteError::Signature { .. }) => BundleError::Checkpoint(error.into()),
    }
}

#[cfg(test)]
mod tests;
