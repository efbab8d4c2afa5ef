//! Records: the entries of a namespace's log, and the header that each one is known by.
//!
//! Owns the words (`Kind`), the canonical header of design section 3, and what makes a log verifiable: the tree, proofs over it, and the
//! texts that carry them to people who trust nobody. Positions and storage belong to the store.

pub mod audit;
mod kind;

pub mod tree;

pub mod proof;

pub mod key;

pub mod note;

pub mod checkpoint;

pub mod rotation;

pub mod bundle;

pub mod signing;

mod lines;

use std::fmt::{Display, Write as _};

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::canonical;
use crate::digest::Digest;

pub use bundle::Bundle;
pub use checkpoint::Checkpoint;
pub use key::{Seed, Signer, Verifier};
pub use kind::Kind;
pub use lines::FormError;
pub use note::Note;
pub use rotation::Rotation;
pub use signing::{Begin, Seeds};
pub use tree::Frontier;

/// What a record is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The cycle.
    pub cycle_id: Option<Uuid>,
    /// The run.
    pub run_id: Option<Uuid>,
    /// The profile.
    pub profile_id: Option<Uuid>,
    /// The snapshot under which it was decided.
    pub snapshot: Option<Digest>,
}

/// A record's body and how long it is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Small, and never dropped.
    Fact(Value),
    /// May be dropped later; salted so that a dropped one cannot be guessed from its digest.
    Evidence {
        /// 16 random bytes.
        salt: [u8; 16],
        /// What was seen.
        value: Value,
    },
}

/// An entry that has no position yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When it was decided.
    pub at: Timestamp,
    /// What it tells.
    pub kind: Kind,
    /// What it is about.
    pub subject: Subject,
    /// The rest.
    pub body: Body,
}

impl Record {
    /// A record that is never dropped.
    pub fn fact(at: Timestamp, kind: Kind, subject: Subject, body: Value) -> Self {
        Self { at, kind, subject, body: Body::Fact(body) }
    }

    /// As it is stored. Costs one pass over the body.
    pub fn seal(&self) -> Sealed {
        let body = self.body.text();
        let salt = match &self.body {
            Body::Fact(_) => None,
            Body::Evidence { salt, .. } => Some(*salt),
        };
        Sealed { header: self.header(body_digest(salt.as_ref(), body.as_bytes())), body, salt }
    }

    /// The header in canonical JSON: what the log commits to.
    fn header(&self, body_digest: Digest) -> String {
        let Subject { cycle_id, run_id, profile_id, snapshot } = self.subject;
        let mut header = format!(
            r#"{{"at":"{}","body_class":"{}","body_digest":"{body_digest}""#,
            self.at,
            self.body.class()
        );
        // In the order of their names, and nothing in a word, an id or a digest is to be escaped.
        let mut put = |name: &str, value: Option<&dyn Display>| {
            if let Some(value) = value {
                // Writing to a string cannot fail.
                _ = write!(header, r#","{name}":"{value}""#);
            }
        };
        put("cycle_id", cycle_id.as_ref().map(|id| id as &dyn Display));
        put("kind", Some(&self.kind.name()));
        put("profile_id", profile_id.as_ref().map(|id| id as &dyn Display));
        put("run_id", run_id.as_ref().map(|id| id as &dyn Display));
        put("snapshot", snapshot.as_ref().map(|digest| digest as &dyn Display));
        header.push('}');
        header
    }
}

impl Body {
    /// `fact` or `evidence`.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Fact(_) => "fact",
            Self::Evidence { .. } => "evidence",
        }
    }

    /// The canonical text that is stored.
    pub fn text(&self) -> String {
        match self {
            Self::Fact(value) | Self::Evidence { value, .. } => canonical::of(value),
        }
    }
}

/// SHA-256 of a body's text, of evidence with its salt in front.
pub fn body_digest(salt: Option<&[u8; 16]>, text: &[u8]) -> Digest {
    Digest::of_parts(&[salt.map_or(&[], <[u8; 16]>::as_slice), text])
}

/// A record in the form in which it is hashed and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The header in canonical JSON: a leaf of the tree.
    pub header: String,
    /// The body in canonical JSON.
    pub body: String,
    /// Of evidence.
    pub salt: Option<[u8; 16]>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_has_its_own_word() {
        let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.name()));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
    }

    #[test]
    fn a_header_names_what_it_is_about_and_nothing_else() {
        let subject = Subject { run_id: Some(Uuid::nil()), ..Subject::default() };
        let record = Record::fact(Timestamp::UNIX_EPOCH, Kind::Cancelled, subject, json!({"b": 1, "a": 2}));
        let digest = Digest::of(br#"{"a":2,"b":1}"#);
        let expected = format!(
            r#"{{"at":"1970-01-01T00:00:00Z","body_class":"fact","body_digest":"{digest}","kind":"cancelled","run_id":"00000000-0000-0000-0000-000000000000"}}"#
        );
        let sealed = record.seal();
        assert_eq!((&*sealed.header, &*sealed.body), (&*expected, r#"{"a":2,"b":1}"#));
    }

    #[test]
    fn a_header_is_canonical_whatever_it_is_about() {
        let digest = Digest::of(b"");
        let all = Subject {
            cycle_id: Some(Uuid::from_u128(1)),
            run_id: Some(Uuid::from_u128(2)),
            profile_id: Some(Uuid::from_u128(3)),
            snapshot: Some(digest),
        };
        for (kind, subject) in Kind::ALL.iter().flat_map(|kind| [(*kind, all), (*kind, Subject::default())]) {
            let header = Record::fact(Timestamp::MAX, kind, subject, json!({})).seal().header;
            let read: Value = serde_json::from_str(&header).unwrap();
            assert_eq!(header, canonical::to_string(&read));
            assert_eq!(read["snapshot"], json!(subject.snapshot));
            assert_eq!(read["cycle_id"], json!(subject.cycle_id));
        }
    }

    #[test]
    fn evidence_is_salted() {
        let salted = |salt: Option<[u8; 16]>| body_digest(salt.as_ref(), b"no");
        assert_ne!(salted(Some([1; 16])), salted(Some([2; 16])));
        assert_ne!(salted(Some([0; 16])), salted(None));
    }
}
