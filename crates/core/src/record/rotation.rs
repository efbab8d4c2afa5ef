//! Rotations: how a log says that another key signs from now on, so that whoever trusts the old key can go on to the new one.
//!
//! A signed note with a text of our own and two signatures, one of each key: the old key's names its successor, the new
//! key's shows that its owner agreed. The first line is no log's origin, so neither form can be taken for the other. The record
//! of a rotation holds the note as it is.

use super::key::{Signer, Verifier};
use super::lines::{self, FormError, Lines};
use super::note::{Note, NoteError};

/// The first line.
const FORM: &str = "orbit-log-rotation@v1";

/// A log's change from one key to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The key that signed so far, under the log's origin as its name.
    pub old: Verifier,
    /// The key that signs from now on, under the same name.
    pub new: Verifier,
    /// Leaves in the tree when it was decided: checkpoints of larger trees are the new key's.
    pub size: u64,
}

/// Why a rotation is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A line of it.
    #[error(transparent)]
    Form(#[from] FormError),
    /// A key is of another log.
    #[error("the key `{vkey}` is not of the log `{origin}`")]
    Origin {
        /// The log.
        origin: String,
        /// The key.
        vkey: String,
    },
    /// Both keys are the same.
    #[error("the key `{vkey}` is not replaced by another")]
    Same {
        /// The key.
        vkey: String,
    },
    /// It replaces a key that is not the trusted one.
    #[error("it replaces the key `{found}`, not `{expected}`")]
    Old {
        /// The trusted key.
        expected: String,
        /// What it replaces.
        found: String,
    },
}

impl Rotation {
    /// The note, signed by both keys.
    pub fn sign(old: &Signer, new: &Signer, size: u64) -> Result<Note, RotationError> {
        let rotation = Self { old: old.verifier().clone(), new: new.verifier().clone(), size };
        rotation.check(old.verifier().name())?;
        Ok(Note::sign(rotation.text(), &[old, new])?)
    }

    /// Reads a note and makes sure that the trusted key and its successor both signed it.
    pub fn open(note: &str, trusted: &Verifier) -> Result<Self, RotationError> {
        let note = Note::parse(note)?;
        let rotation = Self::from_text(note.text())?;
        if rotation.old != *trusted {
            let (expected, found) = (trusted.to_string(), rotation.old.to_string());
            return Err(RotationError::Old { expected, found });
        }
        note.signed_by(&rotation.old)?;
        note.signed_by(&rotation.new)?;
        Ok(rotation)
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.old.name()
    }

    fn text(&self) -> String {
        format!("{FORM}\n{}\n{}\nold {}\nnew {}\n", self.origin(), self.size, self.old, self.new)
    }

    fn from_text(text: &str) -> Result<Self, RotationError> {
        let mut lines = Lines::new(text);
        lines.take(&format!("`{FORM}`"), |line| (line == FORM).then_some(()))?;
        let origin = lines.take("the origin of a log", |line| (!line.is_empty()).then_some(line))?;
        let size = lines.take("the size of the tree in decimal", lines::decimal)?;
        let key = |prefix: &'static str| move |line: &str| line.strip_prefix(prefix)?.parse().ok();
        let old = lines.take("`old` and a verifier key", key("old "))?;
        let new = lines.take("`new` and a verifier key", key("new "))?;
        if !lines.rest().is_empty() {
            return Err(FormError::new(lines.taken() + 1, "the end of the text", lines.peek()).into());
        }
        let rotation = Self { old, new, size };
        rotation.check(origin)?;
        Ok(rotation)
    }

    fn check(&self, origin: &str) -> Result<(), RotationError> {
        for key in [&self.old, &self.new] {
            if key.name() != origin {
                return Err(RotationError::Origin { origin: origin.to_owned(), vkey: key.to_string() });
            }
        }
        if self.old == self.new {
            return Err(RotationError::Same { vkey: self.old.to_string() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::checkpoint::Checkpoint;
    use crate::record::key::tests::signer;

    const ORIGIN: &str = "orbit/studio/0123456789abcdef";

    fn signed() -> String {
        Rotation::sign(&signer(1, ORIGIN), &signer(2, ORIGIN), 99).unwrap().to_string()
    }

    #[test]
    fn written_and_read() {
        let (old, new) = (signer(1, ORIGIN), signer(2, ORIGIN));
        let rotation = Rotation::open(&signed(), old.verifier()).unwrap();
        let expected = Rotation { old: old.verifier().clone(), new: new.verifier().clone(), size: 99 };
        assert_eq!(rotation, expected);
        assert_eq!(rotation.origin(), ORIGIN);
        assert_eq!(Note::parse(&signed()).unwrap().signatures().len(), 2);
    }

    #[test]
    fn neither_form_is_taken_for_the_other() {
        let old = signer(1, ORIGIN);
        assert!(Checkpoint::from_text(Note::parse(&signed()).unwrap().text()).is_err());
        let checkpoint = Checkpoint::new(ORIGIN, 0, crate::record::tree::empty_root()).sign(&old).unwrap();
        let error = Rotation::open(&checkpoint.to_string(), old.verifier()).unwrap_err();
        assert!(error.to_string().starts_with("line 1: expected `orbit-log-rotation@v1`, found"), "{error}");
    }

    #[test]
    fn each_changed_line_has_its_error() {
        let (old, new, other) = (signer(1, ORIGIN), signer(2, ORIGIN), signer(3, ORIGIN));
        let vkey = |signer: &Signer| signer.verifier().to_string();
        let elsewhere = signer(2, "orbit/other/0");
        let check = |from: &str, to: &str, expected: &str| {
            let changed = signed().replacen(from, to, 1);
            assert_ne!(changed, signed());
            let error = Rotation::open(&changed, old.verifier()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        let not_over = format!("the signature of `{ORIGIN}` with key id `");
        check("@v1", "@v2", "line 1: expected `orbit-log-rotation@v1`, found `orbit-log-rotation@v2`");
        check(
            ORIGIN,
            "orbit/studio/0",
            &format!("the key `{}` is not of the log `orbit/studio/0`", vkey(&old)),
        );
        check("\n99\n", "\n98\n", &not_over);
        check("\n99\n", "\n099\n", "line 3: expected the size of the tree in decimal, found `099`");
        check(
            &vkey(&old),
            &vkey(&other),
            &format!("it replaces the key `{}`, not `{}`", vkey(&other), vkey(&old)),
        );
        check(&vkey(&new), &vkey(&other), &not_over);
        check(&vkey(&new), &vkey(&old), &format!("the key `{}` is not replaced by another", vkey(&old)));
        check(
            &vkey(&new),
            &vkey(&elsewhere),
            &format!("the key `{}` is not of the log `{ORIGIN}`", vkey(&elsewhere)),
        );
        check("old ", "", "line 4: expected `old` and a verifier key, found `");
        check("new ", "New ", "line 5: expected `new` and a verifier key, found `");
        check("\n\n", "\nmore\n\n", "line 6: expected the end of the text, found `more`");
    }

    #[test]
    fn both_keys_have_to_sign() {
        let (old, new) = (signer(1, ORIGIN), signer(2, ORIGIN));
        let text = Note::parse(&signed()).unwrap().text().to_owned();
        for (present, missing) in [(&old, &new), (&new, &old)] {
            let note = Note::sign(text.clone(), &[present]).unwrap().to_string();
            let error = Rotation::open(&note, old.verifier()).unwrap_err();
            let (name, id) = (ORIGIN.to_owned(), crate::digest::hex(&missing.verifier().id()));
            assert_eq!(error, RotationError::Note(NoteError::Unsigned { name, id }));
        }
        assert!(matches!(Rotation::sign(&old, &old, 1), Err(RotationError::Same { .. })));
    }
}
