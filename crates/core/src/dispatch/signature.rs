//! What a Standard Webhooks 1.0 signature covers and how keys and signatures are written.
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>. The signed content is
//! `id.timestamp.body`; the engine feeds the body to the HMAC in pieces.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The header that names the message; the same for all attempts.
pub const ID_HEADER: &str = "webhook-id";
/// The header that holds the seconds since 1970 of this attempt.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header that holds the signatures, separated by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// Bytes that a key must have at least and may have at most.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A symmetric signing key. It is never printed.
pub struct Key(Vec<u8>);

/// Text that is not a key. The text is never repeated here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base64.
    #[error("not a signing key: expected `whsec_` and 24 to 64 bytes in base64 (not shown)")]
    Encoding,
    /// Too short to be safe, or too long.
    #[error("the signing key has {bytes} bytes: expected 24 to 64")]
    Length {
        /// Its length.
        bytes: usize,
    },
}

impl Key {
    /// Reads `whsec_` and base64 (standard alphabet); the prefix may be missing.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let text = text.strip_prefix("whsec_").unwrap_or(text);
        let bytes = STANDARD.decode(text).map_err(|_| KeyError::Encoding)?;
        if !KEY_BYTES.contains(&bytes.len()) {
            return Err(KeyError::Length { bytes: bytes.len() });
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(not shown)")
    }
}

/// What comes before the body in the signed content.
pub fn signed_prefix(id: &str, timestamp_seconds: i64) -> String {
    format!("{id}.{timestamp_seconds}.")
}

/// The signature header's value for HMAC-SHA-256 codes, one a key.
pub fn header_value(codes: &[[u8; 32]]) -> String {
    let signatures: Vec<_> = codes.iter().map(|code| format!("v1,{}", STANDARD.encode(code))).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let check = |text: &str, expected: Result<usize, KeyError>| {
            assert_eq!(Key::parse(text).map(|key| key.bytes().len()), expected, "{text}");
        };
        check("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Ok(24));
        check("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Ok(24));
        check(" whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", Ok(24));
        check("whsec_c2hvcnQ=", Err(KeyError::Length { bytes: 5 }));
        check("whsec_", Err(KeyError::Length { bytes: 0 }));
        check("whsec_not base64!", Err(KeyError::Encoding));
        check(&STANDARD.encode([0; 65]), Err(KeyError::Length { bytes: 65 }));
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{key:?}"), "Key(not shown)");
    }

    #[test]
    fn written() {
        assert_eq!(signed_prefix("msg_1", 1_614_265_330), "msg_1.1614265330.");
        let one = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        assert_eq!(header_value(&[[0; 32]]), one);
        assert_eq!(header_value(&[[0; 32], [0; 32]]), format!("{one} {one}"));
    }
}
