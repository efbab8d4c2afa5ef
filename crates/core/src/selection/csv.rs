//! CSV: a header row that names the columns, and records that are candidates.
//!
//! Owns what the columns mean, never how bytes are split into fields.

use serde_json::{Map, Value};

use super::{Candidate, Malformed};

/// The columns of a CSV source: one `label`, at most one `weight`, the others metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvHeader {
    columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    Label,
    Weight,
    Metadata(String),
}

/// A header row that cannot be used; without it no record means anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The bytes are not text.
    #[error("the header row is not UTF-8 text")]
    NotText,
    /// No column is called `label`.
    #[error("the header row has no column `label`, found: {found}")]
    NoLabel {
        /// The columns.
        found: String,
    },
    /// Two columns have one name.
    #[error("the header row names the column `{name}` twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A column has no name.
    #[error("column {number} of the header row has no name")]
    Unnamed {
        /// Its place, from 1.
        number: usize,
    },
}

impl CsvHeader {
    /// Reads the header row. Space around a name does not belong to it.
    pub fn parse(fields: &[&[u8]]) -> Result<Self, HeaderError> {
        let mut names: Vec<&str> = Vec::with_capacity(fields.len());
        for (index, field) in fields.iter().enumerate() {
            let name = std::str::from_utf8(field).map_err(|_| HeaderError::NotText)?.trim();
            if name.is_empty() {
                return Err(HeaderError::Unnamed { number: index + 1 });
            }
            if names.contains(&name) {
                return Err(HeaderError::Twice { name: name.to_owned() });
            }
            names.push(name);
        }
        if !names.contains(&"label") {
            return Err(HeaderError::NoLabel { found: names.join(", ") });
        }
        let column = |name: &&str| match *name {
            "label" => Column::Label,
            "weight" => Column::Weight,
            other => Column::Metadata(other.to_owned()),
        };
        Ok(Self { columns: names.iter().map(column).collect() })
    }

    /// A record as candidate. An empty weight is 1, and metadata are texts, empty ones too.
    pub fn candidate(&self, fields: &[&[u8]]) -> Result<Candidate, Malformed> {
        if fields.len() != self.columns.len() {
            return Err(Malformed::Ragged { expected: self.columns.len(), found: fields.len() });
        }
        let (mut label, mut weight, mut metadata) = (String::new(), 1.0, Map::new());
        for (column, field) in self.columns.iter().zip(fields) {
            let text = std::str::from_utf8(field).map_err(|_| Malformed::NotText)?;
            match column {
                Column::Label => text.clone_into(&mut label),
                Column::Weight if text.trim().is_empty() => {}
                Column::Weight => {
                    let refuse = |_| Malformed::Weight { found: format!("`{text}`") };
                    weight = text.trim().parse().map_err(refuse)?;
                }
                Column::Metadata(name) => {
                    metadata.insert(name.clone(), Value::from(text));
                }
            }
        }
        Candidate::new(label, weight, metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn split(row: &str) -> Vec<&[u8]> {
        row.split('|').map(str::as_bytes).collect()
    }

    #[test]
    fn headers() {
        let check = |row: &str, expected: Result<(), &str>| {
            let read = CsvHeader::parse(&split(row)).map(drop).map_err(|error| error.to_string());
            match expected {
                Ok(()) => assert_eq!(read, Ok(()), "{row}"),
                Err(part) => assert!(read.expect_err(row).contains(part), "{row}"),
            }
        };
        check("label", Ok(()));
        check("mood| label | weight", Ok(()));
        check("title|weight", Err("no column `label`, found: title, weight"));
        check("label|a|a", Err("`a` twice"));
        check("label||a", Err("column 2"));
        check("Label", Err("no column `label`"));
        assert_eq!(CsvHeader::parse(&[b"label", b"\xff"]), Err(HeaderError::NotText));
    }

    #[test]
    fn records() {
        let header = CsvHeader::parse(&split("mood|label|weight")).unwrap();
        let check = |row: &str, expected: Result<(&str, f64, &str), &str>| {
            let read = header.candidate(&split(row));
            match expected {
                Ok((label, weight, mood)) => {
                    let (found, found_weight, metadata) = read.expect(row).into_parts();
                    assert_eq!(
                        (found.as_str(), Value::Object(metadata)),
                        (label, json!({"mood": mood})),
                        "{row}"
                    );
                    assert!((found_weight - weight).abs() < f64::EPSILON, "{row}");
                }
                Err(part) => assert!(read.expect_err(row).to_string().contains(part), "{row}"),
            }
        };
        check("calm|A b|2.5", Ok(("A b", 2.5, "calm")));
        check("|A|", Ok(("A", 1.0, "")));
        check("calm||1", Err("0 bytes"));
        check("calm|A|heavy", Err("`heavy`"));
        check("calm|A|-1", Err("`weight` is -1"));
        check("calm|A|NaN", Err("`weight` is NaN"));
        check("calm|A|inf", Err("`weight` is inf"));
        check("calm|A", Err("2 fields, and the header has 3"));
        check("calm|A|1|x", Err("4 fields"));
        assert_eq!(header.candidate(&[b"\xff", b"a", b"1"]), Err(Malformed::NotText));
    }
}
