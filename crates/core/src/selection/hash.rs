//! When two candidates are the same: the hash of the parts that are compared.

use serde::Serialize;
use serde_json::{Map, Value};

use super::Candidate;
use crate::canonical;
use crate::config::DedupeField;
use crate::digest::Digest;

#[derive(Serialize)]
struct Compared<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
}

/// SHA-256 of the canonical JSON (RFC 8785) of an object of exactly the compared fields. Neither the order nor a repeat of a field in the list
/// matters, nor does the order of keys in the metadata.
pub fn candidate_hash(candidate: &Candidate, fields: &[DedupeField]) -> Digest {
    let compared = Compared {
        label: fields.contains(&DedupeField::Label).then(|| candidate.label()),
        metadata: fields.contains(&DedupeField::Metadata).then(|| candidate.metadata()),
        weight: fields.contains(&DedupeField::Weight).then(|| candidate.weight()),
    };
    Digest::of(canonical::to_string(&compared).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use DedupeField::{Label, Metadata, Weight};

    fn hash(line: &str, fields: &[DedupeField]) -> Digest {
        candidate_hash(&Candidate::from_json_line(line.as_bytes()).unwrap(), fields)
    }

    #[test]
    fn what_is_hashed_is_the_canonical_object() {
        let line = r#"{"metadata":{"b":1,"a":[true]},"weight":2.50,"label":"x"}"#;
        let check = |fields: &[DedupeField], text: &str| {
            assert_eq!(hash(line, fields), Digest::of(text.as_bytes()), "{fields:?}");
        };
        check(&[Label], r#"{"label":"x"}"#);
        check(&[Metadata, Label], r#"{"label":"x","metadata":{"a":[true],"b":1}}"#);
        check(&[Label, Metadata, Label], r#"{"label":"x","metadata":{"a":[true],"b":1}}"#);
        check(&[Weight], r#"{"weight":2.5}"#);
    }

    #[test]
    fn the_same_and_not_the_same() {
        let check = |a: &str, b: &str, fields: &[DedupeField], same: bool| {
            assert_eq!(hash(a, fields) == hash(b, fields), same, "{a} {b} {fields:?}");
        };
        let (one, other) = (r#"{"label":"x","weight":1}"#, r#"{"label":"x","weight":2,"metadata":{}}"#);
        check(one, other, &[Label, Metadata], true);
        check(one, other, &[Label, Weight], false);
        check(one, r#"{"label":"y"}"#, &[Label], false);
        check(
            r#"{"label":"x","metadata":{"a":1,"b":2}}"#,
            r#"{"label":"x","metadata":{"b":2.0,"a":1}}"#,
            &[Metadata],
            true,
        );
        check(
            r#"{"label":"x","metadata":{"a":1}}"#,
            r#"{"label":"x","metadata":{"a":"1"}}"#,
            &[Metadata],
            false,
        );
    }
}
