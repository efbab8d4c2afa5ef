//! The lines of the log's text forms: how they are read, and how a wrong one is named.
//!
//! The forms are exact: what is printed again after it was read is the same text. So nothing is trimmed, and no second
//! way of writing a number or a hash is taken.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::digest::Digest;

/// Characters of a wrong line that its error repeats.
const FOUND_CHARS_MAX: usize = 80;

/// A line that is not what the form asks for in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}, found {found}")]
pub struct FormError {
    /// From 1.
    pub line: usize,
    /// What belongs there.
    pub expected: String,
    /// The beginning of what is there, or that nothing is.
    pub found: String,
}

impl FormError {
    /// Of line `line`, counted from 1.
    pub fn new(line: usize, expected: impl Into<String>, found: Option<&str>) -> Self {
        let found = match found {
            None => "the end".to_owned(),
            Some("") => "an empty line".to_owned(),
            Some(text) => {
                format!("`{}`", text.chars().take(FOUND_CHARS_MAX).collect::<String>().escape_debug())
            }
        };
        Self { line, expected: expected.into(), found }
    }

    /// The same within a text in which these lines come before.
    #[must_use]
    pub fn after(self, lines: usize) -> Self {
        Self { line: self.line + lines, ..self }
    }
}

/// Lines that are taken one by one, counted.
pub(super) struct Lines<'a> {
    rest: &'a str,
    taken: usize,
}

impl<'a> Lines<'a> {
    /// Of a text in which every line ends in a newline.
    pub(super) const fn new(text: &'a str) -> Self {
        Self { rest: text, taken: 0 }
    }

    /// How many were taken.
    pub(super) const fn taken(&self) -> usize {
        self.taken
    }

    /// What follows.
    pub(super) const fn rest(&self) -> &'a str {
        self.rest
    }

    /// The next one, which stays.
    pub(super) fn peek(&self) -> Option<&'a str> {
        self.rest.split_once('\n').map(|(line, _)| line)
    }

    /// Takes the next line as what `read` makes of it; a line of which it makes nothing is an error.
    pub(super) fn take<T>(
        &mut self,
        expected: &str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, FormError> {
        let Some((line, rest)) = self.rest.split_once('\n') else {
            let unended = (!self.rest.is_empty()).then_some(self.rest);
            return Err(FormError::new(self.taken + 1, format!("{expected} and a newline"), unended));
        };
        let value = read(line).ok_or_else(|| FormError::new(self.taken + 1, expected, Some(line)))?;
        self.rest = rest;
        self.taken += 1;
        Ok(value)
    }
}

/// A decimal without sign and leading zeroes.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let exact = text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if exact { text.parse().ok() } else { None }
}

/// A SHA-256 hash in base64 (RFC 4648, section 4).
pub(super) fn hash(text: &str) -> Option<Digest> {
    bytes(text)?.try_into().ok().map(Digest)
}

/// Bytes in base64 with padding; unused bits are zero, so that there is one text for them.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The base64 of bytes.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_text() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(decimal(text), expected, "`{text}`");
        check("0", Some(0));
        check("18446744073709551615", Some(u64::MAX));
        for wrong in ["", "00", "01", "+1", "-1", " 1", "1 ", "1_0", "18446744073709551616", "\u{661}"] {
            check(wrong, None);
        }
    }

    #[test]
    fn hashes_have_one_text() {
        let text = base64(&[7; 32]);
        assert_eq!(hash(&text), Some(Digest([7; 32])));
        assert_eq!(hash(text.trim_end_matches('=')), None, "no padding");
        assert_eq!(hash(&base64(&[7; 31])), None);
        assert_eq!(hash(&base64(&[7; 33])), None);
        // The last character before the padding carries two bits that are not used.
        let mut unused_bits = text.into_bytes();
        unused_bits[42] += 1;
        assert_eq!(hash(std::str::from_utf8(&unused_bits).unwrap()), None);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let mut lines = Lines::new("a\nb\nc");
        assert_eq!(lines.take("`a`", |line| (line == "a").then_some(())), Ok(()));
        let wrong = lines.take("`x`", |line| (line == "x").then_some(())).unwrap_err();
        assert_eq!(wrong.to_string(), "line 2: expected `x`, found `b`");
        assert_eq!(lines.take("`b`", Some), Ok("b"), "a wrong line stays");
        let unended = lines.take("`c`", Some).unwrap_err().after(10);
        assert_eq!(unended.to_string(), "line 13: expected `c` and a newline, found `c`");
        assert_eq!(
            Lines::new("").take("a size", Some).unwrap_err().to_string(),
            "line 1: expected a size and a newline, found the end"
        );
    }
}
