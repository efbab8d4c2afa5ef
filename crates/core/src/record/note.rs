//! Signed notes: a text and signatures over it, in the form of the C2SP (c2sp.org/signed-note, version 1).
//!
//! The text ends in a newline; an empty line and one line for each signature follow: `— name base64(id || signature)`.
//! The text must not be believed before `signed_by` said that a trusted key signed it.

use std::fmt;

use crate::digest::hex;
use crate::limits::{NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX};

use super::key::{self, Signer, Verifier};
use super::lines::{self, FormError, Lines};

/// What a signature's line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// A text with signatures that were not necessarily looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// A line under a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: [u8; 4],
    /// What the key made of the text.
    pub bytes: Vec<u8>,
}

/// What is wrong with a note.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than a note may be.
    #[error("the note has {bytes} bytes, at most {NOTE_BYTES_MAX}")]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// More signatures than a note may have.
    #[error("the note has more than {NOTE_SIGNATURES_MAX} signatures")]
    Signatures,
    /// A line is not as the form asks.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The key did not sign it.
    #[error("no signature of `{name}` with key id `{id}`")]
    Unsigned {
        /// The key's name.
        name: String,
        /// The key's id in hex.
        id: String,
    },
    /// What should be the key's signature is another's, or over another text.
    #[error("the signature of `{name}` with key id `{id}` is not over this text")]
    Signature {
        /// The key's name.
        name: String,
        /// The key's id in hex.
        id: String,
    },
}

impl Note {
    /// Signs a text that ends in a newline.
    pub fn sign(text: String, signers: &[&Signer]) -> Result<Self, NoteError> {
        check_text(&text)?;
        let signatures = signers
            .iter()
            .map(|signer| NoteSignature {
                name: signer.verifier().name().to_owned(),
                id: signer.verifier().id(),
                bytes: signer.sign(text.as_bytes()).to_vec(),
            })
            .collect();
        Ok(Self { text, signatures })
    }

    /// Reads a note and looks at its form only.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong { bytes: note.len() });
        }
        // The text may have empty lines: the last one is followed by the signatures.
        let Some((text, below)) = note.rfind("\n\n").map(|end| (&note[..=end], &note[end + 2..])) else {
            let line = note.lines().count() + 1;
            return Err(FormError::new(line, "an empty line and signatures", None).into());
        };
        check_text(text)?;
        let above = text.lines().count() + 1;
        let mut lines = Lines::new(below);
        let mut signatures = Vec::new();
        while signatures.is_empty() || !lines.rest().is_empty() {
            if signatures.len() == NOTE_SIGNATURES_MAX {
                return Err(NoteError::Signatures);
            }
            let signature = lines.take("`\u{2014} name base64` with an id and a signature", signature_of);
            signatures.push(signature.map_err(|error| error.after(above))?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// What was signed, with its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures in the order of their lines.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Whether this key signed the text. Lines of other keys are passed over, as the form asks; every line of this key has to hold.
    pub fn signed_by(&self, key: &Verifier) -> Result<(), NoteError> {
        let (name, id) = (key.name().to_owned(), hex(&key.id()));
        let mut own = self
            .signatures
            .iter()
            .filter(|signature| signature.name == key.name() && signature.id == key.id())
            .peekable();
        if own.peek().is_none() {
            return Err(NoteError::Unsigned { name, id });
        }
        if own.all(|signature| key.verify(self.text.as_bytes(), &signature.bytes)) {
            Ok(())
        } else {
            Err(NoteError::Signature { name, id })
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            let bytes = [&signature.id[..], &signature.bytes].concat();
            writeln!(f, "{DASH}{} {}", signature.name, lines::base64(&bytes))?;
        }
        Ok(())
    }
}

/// A text that can be signed: it ends in a newline and has no other control characters.
fn check_text(text: &str) -> Result<(), FormError> {
    if !text.ends_with('\n') {
        let last = text.lines().last();
        return Err(FormError::new(text.lines().count().max(1), "a newline at the end of the text", last));
    }
    let mut numbered = text.split('\n').zip(1..);
    match numbered.find(|(line, _)| line.contains(|c: char| c < ' ')) {
        Some((line, number)) => Err(FormError::new(number, "text without control characters", Some(line))),
        None => Ok(()),
    }
}

fn signature_of(line: &str) -> Option<NoteSignature> {
    let (name, base64) = line.strip_prefix(DASH)?.split_once(' ')?;
    let bytes = lines::bytes(base64)?;
    let (id, bytes) = bytes.split_first_chunk::<4>()?;
    let whole = key::is_name(name) && !bytes.is_empty();
    whole.then(|| NoteSignature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
}

#[cfg(test)]
mod tests;
