//! A header as it is read back, borrowed from its text.

use serde::Deserialize;

/// The fields of a header; see [`Record`](crate::record::Record). All of them are written without anything to escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header<'a> {
    /// When it was decided.
    pub at: &'a str,
    /// Its kind's word.
    pub kind: &'a str,
    /// `fact` or `evidence`.
    pub body_class: &'a str,
    /// The digest of the body.
    pub body_digest: &'a str,
    /// The cycle it is about.
    #[serde(default)]
    pub cycle_id: Option<&'a str>,
    /// The run it is about.
    #[serde(default)]
    pub run_id: Option<&'a str>,
    /// The profile it is about.
    #[serde(default)]
    pub profile_id: Option<&'a str>,
    /// The snapshot under which it was decided.
    #[serde(default)]
    pub snapshot: Option<&'a str>,
}

impl<'a> Header<'a> {
    /// Reads it.
    pub fn read(text: &'a str) -> Result<Self, serde_json::Error> {
        Self::as_written(text).map_or_else(|| serde_json::from_str(text), Ok)
    }

    /// The header of a text that is exactly as [`Record::seal`](crate::record::Record::seal) writes one, which all are that nobody else wrote. None of
    /// any other text: what that is the reader of JSON says.
    pub(super) fn as_written(text: &'a str) -> Option<Self> {
        // All are looked at, which is done with many bytes at once, rather than up to the first.
        let odd = |odd, byte| odd | u8::from(byte < b' ') | u8::from(byte == b'\\');
        if text.bytes().fold(0, odd) != 0 {
            return None;
        }
        let mut rest = Rest(text);
        let header = Self {
            at: rest.field(br#"{"at":""#)?,
            body_class: rest.field(br#","body_class":""#)?,
            body_digest: rest.field(br#","body_digest":""#)?,
            cycle_id: rest.field(br#","cycle_id":""#),
            kind: rest.field(br#","kind":""#)?,
            profile_id: rest.field(br#","profile_id":""#),
            run_id: rest.field(br#","run_id":""#),
            snapshot: rest.field(br#","snapshot":""#),
        };
        (rest.0 == "}").then_some(header)
    }
}

/// What is not read yet of a text in which nothing is escaped.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// The value up to the next quotation mark, if this comes before it; else nothing is read.
    fn field<const N: usize>(&mut self, name: &[u8; N]) -> Option<&'a str> {
        let value = self.0.get(N..).filter(|_| self.0.as_bytes().first_chunk() == Some(name))?;
        let (value, rest) = value.split_once('"')?;
        self.0 = rest;
        Some(value)
    }
}
