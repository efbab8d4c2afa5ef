//! Candidates: what a source offers, checked before anything is done with it.
//!
//! A candidate is made of one JSON object, of one CSV record (see [`super::CsvHeader`]) or of an item in the document. What is wrong with a bad
//! one is a value that can be counted and recorded; it never ends a pass.

use serde_json::{Map, Value};

use crate::config::CandidateItem;
use crate::limits::LABEL_BYTES_MAX;

/// A candidate that satisfies every bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    label: String,
    weight: f64,
    metadata: Map<String, Value>,
}

/// Why a line, record or item is not a candidate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// The bytes are not text.
    #[error("not UTF-8 text")]
    NotText,
    /// Not a JSON object with the expected keys.
    #[error("expected an object with `label` and, if wanted, `weight` and `metadata`: {message}")]
    NotAnObject {
        /// What the parser said.
        message: String,
    },
    /// The label is empty or too long.
    #[error("`label` has {bytes} bytes, expected 1 to {LABEL_BYTES_MAX}")]
    Label {
        /// Its length.
        bytes: usize,
    },
    /// The weight is not a number, not finite, or not above zero.
    #[error("`weight` is {found}, expected a finite number greater than 0")]
    Weight {
        /// What was written.
        found: String,
    },
    /// A CSV record with more or fewer fields than the header.
    #[error("the record has {found} fields, and the header has {expected}")]
    Ragged {
        /// Fields of the header.
        expected: usize,
        /// Fields of the record.
        found: usize,
    },
}

impl Candidate {
    /// A candidate within the bounds: a label of 1 to [`LABEL_BYTES_MAX`] bytes, a finite weight greater than zero.
    pub fn new(label: String, weight: f64, metadata: Map<String, Value>) -> Result<Self, Malformed> {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return Err(Malformed::Label { bytes: label.len() });
        }
        if !weight.is_finite() || weight <= 0.0 {
            return Err(Malformed::Weight { found: weight.to_string() });
        }
        Ok(Self { label, weight, metadata })
    }

    /// Reads one line of JSON Lines: `{"label", "weight"?, "metadata"?}` and no other key.
    pub fn from_json_line(line: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(line).map_err(|_| Malformed::NotText)?;
        // A derived reader also takes an array for a struct, which no document says.
        if !text.trim_start().starts_with('{') {
            return Err(Malformed::NotAnObject { message: "the line does not begin with `{`".to_owned() });
        }
        let item: CandidateItem = serde_json::from_str(text)
            .map_err(|error| Malformed::NotAnObject { message: error.to_string() })?;
        Self::try_from(item)
    }

    /// What the initiation will be called.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// How likely a weighted choice takes it; finite and greater than zero.
    pub const fn weight(&self) -> f64 {
        self.weight
    }

    /// Anything else.
    pub const fn metadata(&self) -> &Map<String, Value> {
        &self.metadata
    }

    /// The parts: label, weight, metadata.
    pub fn into_parts(self) -> (String, f64, Map<String, Value>) {
        (self.label, self.weight, self.metadata)
    }
}

impl TryFrom<CandidateItem> for Candidate {
    type Error = Malformed;

    fn try_from(item: CandidateItem) -> Result<Self, Malformed> {
        Self::new(item.label, item.weight, item.metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines() {
        let check = |line: &str, expected: Result<(&str, f64, Value), &str>| {
            let read = Candidate::from_json_line(line.as_bytes());
            match expected {
                Ok((label, weight, metadata)) => {
                    let (found, found_weight, found_metadata) = read.expect(line).into_parts();
                    assert_eq!((found.as_str(), Value::Object(found_metadata)), (label, metadata), "{line}");
                    assert!((found_weight - weight).abs() < f64::EPSILON, "{line}");
                }
                Err(part) => {
                    let reason = read.expect_err(line).to_string();
                    assert!(reason.contains(part), "{line}: {reason}");
                }
            }
        };
        check(r#"{"label":"a"}"#, Ok(("a", 1.0, json!({}))));
        check(r#" {"metadata":{"n":[1]},"weight":2,"label":"é"} "#, Ok(("é", 2.0, json!({"n": [1]}))));
        check(r#"{"label":""}"#, Err("0 bytes"));
        check(&format!(r#"{{"label":"{}"}}"#, "x".repeat(LABEL_BYTES_MAX + 1)), Err("4097 bytes"));
        check(r#"{"weight":1}"#, Err("missing field `label`"));
        check(r#"{"label":"a","title":"b"}"#, Err("unknown field `title`"));
        check(r#"{"label":"a","label":"b"}"#, Err("duplicate field `label`"));
        check(r#"{"label":"a","weight":0}"#, Err("`weight` is 0"));
        check(r#"{"label":"a","weight":-1.5}"#, Err("`weight` is -1.5"));
        check(r#"{"label":"a","weight":1e999}"#, Err("out of range"));
        check(r#"{"label":"a","weight":null}"#, Err("invalid type"));
        check(r#"{"label":"a","weight":"1"}"#, Err("invalid type"));
        check(r#"{"label":"a","metadata":[]}"#, Err("invalid type"));
        check(r#"{"label":7}"#, Err("invalid type"));
        check(r#"["a",1.0,{}]"#, Err("does not begin with `{`"));
        check(r#""a""#, Err("does not begin with `{`"));
        check(r#"{"label":"a"} trailing"#, Err("trailing"));
        check(r#"{"label":"a""#, Err("EOF"));
        check(
            &format!(r#"{{"label":"a","metadata":{{"d":{}1{}}}}}"#, "[".repeat(200), "]".repeat(200)),
            Err("recursion"),
        );
        assert_eq!(Candidate::from_json_line(b"{\"label\":\"\xff\"}"), Err(Malformed::NotText));
    }

    #[test]
    fn the_longest_label_is_accepted() {
        assert!(Candidate::new("x".repeat(LABEL_BYTES_MAX), 1.0, Map::new()).is_ok());
        for weight in [f64::NAN, f64::INFINITY, 0.0, -0.0] {
            assert!(Candidate::new("x".to_owned(), weight, Map::new()).is_err(), "{weight}");
        }
    }
}
