//! Ids as people type them: whole, or the first digits of one.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Hex digits that an id must be given by at least: as many as lists and lines show.
const DIGITS_MIN: usize = 8;
/// Hex digits of a whole id.
const DIGITS: usize = 32;
/// Before these digits an id has a dash.
const DASHES: [usize; 4] = [8, 12, 16, 20];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdArg {
    /// A whole id.
    Whole(Uuid),
    /// The beginning of one: lower case, with its dashes.
    Beginning(String),
}

impl FromStr for IdArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected an id, or at least its first 8 hex digits";
        if let Ok(id) = text.parse() {
            return Ok(Self::Whole(id));
        }
        let digits: String = text.chars().filter(|char| *char != '-').collect();
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || !(DIGITS_MIN..DIGITS).contains(&digits.len()) {
            return Err(expected);
        }
        let mut beginning = String::with_capacity(text.len());
        for (place, digit) in digits.to_ascii_lowercase().char_indices() {
            if DASHES.contains(&place) {
                beginning.push('-');
            }
            beginning.push(digit);
        }
        Ok(Self::Beginning(beginning))
    }
}

impl fmt::Display for IdArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(id) => id.fmt(f),
            Self::Beginning(text) => text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_an_id() {
        let whole = "9b7dddfe-a8e9-59c5-9174-180ce3d6bee4";
        let check = |text: &str, expected: Option<&str>| {
            let found = text.parse::<IdArg>().ok().map(|id| id.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check(whole, Some(whole));
        check(&whole.to_uppercase(), Some(whole));
        check("9B7DDDFE", Some("9b7dddfe"));
        check("9b7dddfe-", Some("9b7dddfe"));
        check("9b7dddfea", Some("9b7dddfe-a"));
        check("9b7dddfe-a8e9-59c5-9174-180ce3d6bee", Some("9b7dddfe-a8e9-59c5-9174-180ce3d6bee"));
        check("9b7dddf", None);
        check("9b7dddfg", None);
        check("", None);
        check("9b7dddfea8e959c59174180ce3d6bee4aa", None);
        assert!(matches!(whole.parse(), Ok(IdArg::Whole(_))));
    }
}
