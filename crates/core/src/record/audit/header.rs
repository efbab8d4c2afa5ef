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
        serde_json::from_str(text)
    }
}
