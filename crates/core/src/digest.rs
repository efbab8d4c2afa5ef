//! SHA-256, the one hash of the system.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::block_api::compress256;
use sha2::{Digest as _, Sha256};

/// What a written digest begins with.
const PREFIX: &str = "sha256:";

/// The state that SHA-256 begins with: FIPS 180-4, section 5.3.3.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Blocks of the longest message that is padded here rather than by a [`Hasher`].
const SHORT_BLOCKS: usize = 8;

/// A SHA-256 digest, written as `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// Text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: expected `sha256:` and 64 hex digits")]
pub struct DigestError {
    text: String,
}

/// A digest over bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of these parts, one behind the other. Short ones, as most of a log are, are laid out with their padding (FIPS 180-4, section 5.1.1) and go
    /// through the compression at once, without what a [`Hasher`] does between.
    #[inline]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        match (bytes + 9).div_ceil(64) {
            // A node of a tree, whose length is known where this is called.
            2 => Self::of_padded::<2>(parts, bytes),
            1 | 3 | 4 => Self::of_padded::<4>(parts, bytes),
            5..=SHORT_BLOCKS => Self::of_padded::<SHORT_BLOCKS>(parts, bytes),
            _ => {
                let mut hasher = Hasher::default();
                for part in parts {
                    hasher.update(part);
                }
                hasher.finish()
            }
        }
    }

    /// Of parts that have so many bytes together and with their padding no more blocks than this.
    #[inline]
    fn of_padded<const BLOCKS: usize>(parts: &[&[u8]], bytes: usize) -> Self {
        let mut blocks = [[0; 64]; BLOCKS];
        let blocks = &mut blocks[..(bytes + 9).div_ceil(64)];
        let message = blocks.as_flattened_mut();
        let mut end = 0;
        for part in parts {
            message[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        message[end] = 0x80;
        if let (Some(length), Ok(bytes)) = (message.last_chunk_mut(), u64::try_from(bytes)) {
            *length = (bytes * 8).to_be_bytes();
        }
        let mut state = INITIAL;
        compress256(&mut state, blocks);
        let mut digest = [0; 32];
        for (word, place) in state.iter().zip(digest.as_chunks_mut().0) {
            *place = word.to_be_bytes();
        }
        Self(digest)
    }

    /// Whether this text is how the digest is written. Makes no text of it, which for many short records costs more than the digest.
    pub fn is_written(&self, text: &str) -> bool {
        text.strip_prefix(PREFIX).is_some_and(|digits| digits.as_bytes() == self.digits())
    }

    fn digits(&self) -> [u8; 64] {
        let mut digits = [0; 64];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(&self.0) {
            *pair = pair_of(*byte);
        }
        digits
    }

    /// The 64 hex digits without the prefix.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes so far.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Lower-case hex of any bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| pair_of(*byte)).map(char::from).collect()
}

/// The two hex digits of a byte.
const fn pair_of(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
}

/// The bytes of a hex text of even length, or nothing.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.as_chunks().0.iter().map(|pair| byte_of(*pair)).collect()
}

/// The byte of two hex digits.
fn byte_of([high, low]: [u8; 2]) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(value(high)? << 4 | value(low)?)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        // Digits are text.
        f.write_str(str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let refuse = || DigestError { text: text.to_owned() };
        let digits = text.strip_prefix(PREFIX).ok_or_else(refuse)?;
        let digits: &[u8; 64] = digits.as_bytes().try_into().map_err(|_| refuse())?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks().0) {
            *byte = byte_of(*pair).ok_or_else(refuse)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let digest = Digest::of(b"abc");
        assert_eq!(
            digest.to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let check = |text: &str| assert!(text.parse::<Digest>().is_err(), "{text}");
        check("sha256:zz");
        check("sha256:ba78");
        check(&digest.hex());
    }

    #[test]
    fn parts_have_the_digest_of_the_whole() {
        let bytes: Vec<_> = (0..64 * (SHORT_BLOCKS + 2)).map(|n| u8::try_from(n % 251).unwrap()).collect();
        for length in 0..=bytes.len() {
            let (whole, cut) = (&bytes[..length], length / 3);
            let expected = Digest::of(whole);
            assert_eq!(Digest::of_parts(&[whole]), expected, "{length} bytes");
            let parts = [&whole[..cut], &[], &whole[cut..cut], &whole[cut..]];
            assert_eq!(Digest::of_parts(&parts), expected, "{length} bytes");
        }
        assert_eq!(Digest::of_parts(&[]), Digest::of(b""));
    }

    #[test]
    fn only_its_own_text_is_how_it_is_written() {
        let digest = Digest::of(b"abc");
        let text = digest.to_string();
        assert!(digest.is_written(&text));
        for other in [
            "",
            "sha256:",
            &text[..text.len() - 1],
            &text[..text.len() - 2],
            &format!("{text}00"),
            &text.to_uppercase(),
            &digest.hex(),
            &Digest::of(b"abd").to_string(),
            &text.replace("ad", "ae"),
        ] {
            assert!(!digest.is_written(other), "{other}");
        }
    }

    #[test]
    fn hex_of_odd_length_is_refused() {
        assert_eq!(unhex("0aF"), None);
        assert_eq!(unhex("0aFf"), Some(vec![0x0a, 0xff]));
        assert_eq!(unhex("é0"), None);
    }
}
