//! Checkpoints: what a log says of itself at a size, signed, in the form of the C2SP (c2sp.org/tlog-checkpoint, version 1).
//!
//! A note whose text is the log's origin, its size and the base64 of its root, a line each. The key has the origin as its
//! name. Lines after the third are read and kept, and never written.

use crate::digest::Digest;

use super::key::{Signer, Verifier};
use super::lines::{self, FormError, Lines};
use super::note::{Note, NoteError};

/// A tree's head under the name of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Leaves in the tree.
    pub size: u64,
    /// The root of the tree.
    pub root: Digest,
    /// Lines of others, which mean nothing here.
    pub extensions: Vec<String>,
}

/// Why a checkpoint is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A line of it.
    #[error(transparent)]
    Form(#[from] FormError),
    /// It is of another log.
    #[error("the checkpoint is of the log `{found}`, not of `{expected}`")]
    Origin {
        /// The key's name.
        expected: String,
        /// What it says.
        found: String,
    },
}

impl Checkpoint {
    /// Of a log, without lines of others.
    pub fn new(origin: impl Into<String>, size: u64, root: Digest) -> Self {
        Self { origin: origin.into(), size, root, extensions: Vec::new() }
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, lines::base64(&self.root.0));
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// The note, signed by the log's key.
    pub fn sign(&self, signer: &Signer) -> Result<Note, CheckpointError> {
        self.is_of(signer.verifier())?;
        Ok(Note::sign(self.text(), &[signer])?)
    }

    /// Reads the text of a note. Says nothing about who signed it.
    pub fn from_text(text: &str) -> Result<Self, FormError> {
        let mut lines = Lines::new(text);
        let filled = |line: &str| (!line.is_empty()).then(|| line.to_owned());
        let origin = lines.take("the origin of a log", filled)?;
        let size = lines.take("the size of the tree in decimal", lines::decimal)?;
        let root = lines.take("the root of the tree, 32 bytes in base64", lines::hash)?;
        let mut extensions = Vec::new();
        while !lines.rest().is_empty() {
            extensions.push(lines.take("an extension line, which is not empty", filled)?);
        }
        Ok(Self { origin, size, root, extensions })
    }

    /// Reads a note and makes sure that this key signed it for the log of its name.
    pub fn open(note: &str, key: &Verifier) -> Result<Self, CheckpointError> {
        Self::of_note(&Note::parse(note)?, key)
    }

    /// The same of a note that was parsed.
    pub fn of_note(note: &Note, key: &Verifier) -> Result<Self, CheckpointError> {
        let checkpoint = Self::from_text(note.text())?;
        // Before the signature, so that a checkpoint of another log is named as such.
        checkpoint.is_of(key)?;
        note.signed_by(key)?;
        Ok(checkpoint)
    }

    fn is_of(&self, key: &Verifier) -> Result<(), CheckpointError> {
        if self.origin == key.name() {
            return Ok(());
        }
        Err(CheckpointError::Origin { expected: key.name().to_owned(), found: self.origin.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::key::tests::signer;

    const ORIGIN: &str = "orbit/studio/0123456789abcdef";

    fn signed() -> String {
        let checkpoint = Checkpoint::new(ORIGIN, 1234, Digest::of(b"root"));
        checkpoint.sign(&signer(7, ORIGIN)).unwrap().to_string()
    }

    #[test]
    fn written_and_read() {
        let key = signer(7, ORIGIN);
        let opened = Checkpoint::open(&signed(), key.verifier()).unwrap();
        assert_eq!(opened, Checkpoint::new(ORIGIN, 1234, Digest::of(b"root")));
        let mut extended = opened.clone();
        extended.extensions = vec!["witnessed".to_owned(), "twice".to_owned()];
        let note = Note::sign(extended.text(), &[&key]).unwrap().to_string();
        assert_eq!(Checkpoint::open(&note, key.verifier()), Ok(extended));
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let checkpoint = Checkpoint::from_text(text).unwrap();
        assert_eq!((&*checkpoint.origin, checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
        assert_eq!(checkpoint.text(), text);
    }

    #[test]
    fn each_changed_line_has_its_error() {
        let check = |from: &str, to: &str, expected: &str| {
            let changed = signed().replacen(from, to, 1);
            assert_ne!(changed, signed());
            let error = Checkpoint::open(&changed, signer(7, ORIGIN).verifier()).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        };
        let root = lines::base64(&Digest::of(b"root").0);
        let other = lines::base64(&Digest::of(b"other").0);
        let unsigned = "the signature of `orbit/studio/0123456789abcdef` with key id `";
        check(
            "studio",
            "studia",
            "the checkpoint is of the log `orbit/studia/0123456789abcdef`, not of `orbit/studio/",
        );
        check("1234\n", "1235\n", unsigned);
        check(&root, &other, unsigned);
        check("\n\n", "\nmore\n\n", unsigned);
        check("1234\n", "01234\n", "line 2: expected the size of the tree in decimal, found `01234`");
        check("1234\n", "-1\n", "line 2: expected the size of the tree in decimal, found `-1`");
        check(&root, &root[1..], "line 3: expected the root of the tree, 32 bytes in base64, found `");
        check(ORIGIN, "", "line 1: expected the origin of a log, found an empty line");
        check(
            &format!("{root}\n"),
            "",
            "line 3: expected the root of the tree, 32 bytes in base64 and a newline, found the end",
        );
        check(
            "\n\n",
            "\n\nmore\n\n",
            "line 4: expected an extension line, which is not empty, found an empty line",
        );
        check("\u{2014} orbit/studio", "\u{2014} orbit/studia", "no signature of `orbit/studio/");
    }

    #[test]
    fn another_key_of_the_same_name_is_not_believed() {
        let error = Checkpoint::open(&signed(), signer(8, ORIGIN).verifier()).unwrap_err();
        assert!(matches!(error, CheckpointError::Note(NoteError::Unsigned { .. })), "{error}");
    }

    #[test]
    fn a_key_signs_for_its_own_log_only() {
        let checkpoint = Checkpoint::new("orbit/other/0", 0, Digest::of(b""));
        let error = checkpoint.sign(&signer(7, ORIGIN)).unwrap_err();
        let (expected, found) = (ORIGIN.to_owned(), "orbit/other/0".to_owned());
        assert_eq!(error, CheckpointError::Origin { expected, found });
    }
}
