//! Decisions about an output, made of its length, its first bytes and its digest. What the bytes mean is nobody's business here.

use super::Failure;
use crate::config::{ByteSize, Validate};
use crate::digest::{Digest, unhex};

/// An output of no bytes is a failure unless the document's `bytes_min` says `0 B`.
const BYTES_MIN_DEFAULT: u64 = 1;

/// Whether the length is allowed, decided before a byte is read; `most` is the processor's `limits.output`.
pub fn check_size(validate: &Validate, most: ByteSize, bytes: u64) -> Result<(), Failure> {
    let min = validate.bytes_min.map_or(BYTES_MIN_DEFAULT, |min| min.0);
    let max = validate.bytes_max.map_or(most.0, |max| max.0.min(most.0));
    if bytes < min {
        return Err(Failure::OutputTooSmall { bytes, min });
    }
    if bytes > max { Err(Failure::OutputTooLarge { bytes, max }) } else { Ok(()) }
}

/// The bytes with which an output must begin: those of `prefix_hex`, or none. What is not hex was refused when the document was loaded and
/// requires nothing here.
pub fn prefix_bytes(validate: &Validate) -> Vec<u8> {
    validate.prefix_hex.as_deref().and_then(unhex).unwrap_or_default()
}

/// Whether the output begins as it must; `head` is its beginning, at least as long as the prefix if the output is.
pub fn check_prefix(validate: &Validate, head: &[u8]) -> Result<(), Failure> {
    let expected = prefix_bytes(validate);
    if head.starts_with(&expected) {
        return Ok(());
    }
    let found = crate::digest::hex(&head[..head.len().min(expected.len())]);
    Err(Failure::OutputPrefix { expected: crate::digest::hex(&expected), found })
}

/// Whether the output differs from the input, if it must; without an input it does.
pub fn check_differs(validate: &Validate, output: Digest, input: Option<Digest>) -> Result<(), Failure> {
    if validate.differs_from_input && input == Some(output) {
        return Err(Failure::OutputEqualsInput);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |min: Option<u64>, max: Option<u64>, bytes: u64, expected: Result<(), Failure>| {
            let validate = Validate {
                bytes_min: min.map(ByteSize),
                bytes_max: max.map(ByteSize),
                ..Validate::default()
            };
            assert_eq!(check_size(&validate, ByteSize(100), bytes), expected, "{min:?} {max:?} {bytes}");
        };
        check(None, None, 0, Err(Failure::OutputTooSmall { bytes: 0, min: 1 }));
        check(Some(0), None, 0, Ok(()));
        check(None, None, 1, Ok(()));
        check(Some(10), None, 9, Err(Failure::OutputTooSmall { bytes: 9, min: 10 }));
        check(Some(10), None, 10, Ok(()));
        check(None, Some(20), 20, Ok(()));
        check(None, Some(20), 21, Err(Failure::OutputTooLarge { bytes: 21, max: 20 }));
        check(None, Some(1_000), 101, Err(Failure::OutputTooLarge { bytes: 101, max: 100 }));
        check(None, None, 100, Ok(()));
    }

    #[test]
    fn prefixes() {
        let check = |prefix: Option<&str>, head: &[u8], expected: Option<&str>| {
            let validate = Validate { prefix_hex: prefix.map(str::to_owned), ..Validate::default() };
            let failure = check_prefix(&validate, head).err().map(|failure| failure.to_string());
            assert_eq!(failure.as_deref(), expected, "{prefix:?} {head:?}");
        };
        check(None, b"", None);
        check(Some("5249"), b"RIFF", None);
        check(Some("5249"), b"R", Some("the output begins with `52` (hex), expected `5249`"));
        check(Some("5249"), b"XYZ", Some("the output begins with `5859` (hex), expected `5249`"));
        check(Some("5249"), b"", Some("the output begins with `` (hex), expected `5249`"));
    }

    #[test]
    fn equal_to_the_input() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let check = |differs: bool, input: Option<Digest>, expected: Result<(), Failure>| {
            let validate = Validate { differs_from_input: differs, ..Validate::default() };
            assert_eq!(check_differs(&validate, one, input), expected);
        };
        check(true, Some(one), Err(Failure::OutputEqualsInput));
        check(true, Some(two), Ok(()));
        check(true, None, Ok(()));
        check(false, Some(one), Ok(()));
    }
}
