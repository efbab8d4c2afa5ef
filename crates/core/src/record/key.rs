//! The keys that sign a log: derived from one seed, named after the log, and told to others as a C2SP verifier key.
//!
//! Ed25519 (RFC 8032) is deterministic, so signing needs no randomness. A key is known by its name and an id of four bytes,
//! as `signed-note` of the C2SP recommends (c2sp.org/signed-note): the id is the beginning of
//! `SHA-256(name || 0x0A || 0x01 || public key)`, and the `vkey` is `name+hex(id)+base64(0x01 || public key)`.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::digest::{Hasher, hex, unhex};

use super::lines;

/// The type of signature that an Ed25519 key makes.
const ED25519: u8 = 1;
/// What keys are derived for. Another purpose needs other words, so that no two purposes share a key.
const PURPOSE: &[u8] = b"orbit log checkpoint ed25519 v1\n";

/// The secret from which every namespace's key is derived. Never printed; wiped when dropped.
#[derive(Clone)]
pub struct Seed(Zeroizing<[u8; 32]>);

/// A key that signs.
#[derive(Clone)]
pub struct Signer {
    verifier: Verifier,
    key: SigningKey,
}

/// A key that verifies: what a reader has to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

/// Text that is no seed. It does not repeat the text, which may be one with a slip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a seed: expected 64 hex digits")]
pub struct SeedError;

/// Why there is no such key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A note could not name it.
    #[error("`{name}` is not the name of a key: expected text without spaces, `+` and control characters")]
    Name {
        /// What was given.
        name: String,
    },
    /// Not three parts.
    #[error("`{vkey}` is not a verifier key: expected `name+id+key`")]
    Parts {
        /// What was given.
        vkey: String,
    },
    /// The last part is no Ed25519 key.
    #[error(
        "the verifier key of `{name}` is not an Ed25519 key: expected 33 bytes in base64, the first of them 1"
    )]
    Key {
        /// The name in front of it.
        name: String,
    },
    /// The id is not the key's.
    #[error("the verifier key of `{name}` has id `{found}`, but name and key make `{expected}`")]
    Id {
        /// The name in front of it.
        name: String,
        /// What name and key make.
        expected: String,
        /// What is written.
        found: String,
    },
    /// The derivation asked for more than HKDF gives; it never does.
    #[error("the key of `{name}` cannot be derived")]
    Derivation {
        /// The key's name.
        name: String,
    },
}

impl Seed {
    /// Of 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key of a namespace's log, under the log's origin as its name: HKDF-SHA256 (RFC 5869) without salt, with the
    /// purpose and the namespace as info. A new origin of the same namespace has the same key under another name and id.
    pub fn signer(&self, namespace: &str, origin: &str) -> Result<Signer, KeyError> {
        let name = checked_name(origin)?;
        let mut secret = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, &*self.0)
            .expand_multi_info(&[PURPOSE, namespace.as_bytes()], &mut *secret)
            .map_err(|_| KeyError::Derivation { name: name.to_owned() })?;
        Ok(Signer::new(name, &secret))
    }
}

impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Self, SeedError> {
        let mut bytes = unhex(text).ok_or(SeedError)?;
        let seed = <[u8; 32]>::try_from(&*bytes).map(Self::new).map_err(|_| SeedError);
        bytes.zeroize();
        seed
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl Signer {
    /// Of a checked name.
    fn new(name: &str, secret: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(secret);
        Self { verifier: Verifier::new(name, key.verifying_key()), key }
    }

    /// The public half.
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The signature over these bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier)
    }
}

impl Verifier {
    /// Of a checked name.
    fn new(name: &str, key: VerifyingKey) -> Self {
        let mut hasher = Hasher::default();
        for part in [name.as_bytes(), b"\n", &[ED25519], key.as_bytes()] {
            hasher.update(part);
        }
        let [a, b, c, d, ..] = hasher.finish().0;
        Self { name: name.to_owned(), id: [a, b, c, d], key }
    }

    /// The log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// With the name, what a signature is found by. Not a proof of anything.
    pub const fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Whether the signature is this key's over these bytes. Strict: neither weak keys nor a second form of a signature pass.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = [ED25519; 33];
        typed[1..].copy_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex(&self.id), lines::base64(&typed))
    }
}

impl FromStr for Verifier {
    type Err = KeyError;

    /// Reads a `vkey`. The base64 may contain `+`; name and id may not.
    fn from_str(vkey: &str) -> Result<Self, KeyError> {
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(found), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Parts { vkey: vkey.to_owned() });
        };
        let name = checked_name(name)?;
        let refuse = || KeyError::Key { name: name.to_owned() };
        let key: [u8; 33] = lines::bytes(key).and_then(|key| key.try_into().ok()).ok_or_else(refuse)?;
        let [ED25519, key @ ..] = key else { return Err(refuse()) };
        let verifier = Self::new(name, VerifyingKey::from_bytes(&key).map_err(|_| refuse())?);
        let expected = hex(&verifier.id);
        if expected != found {
            return Err(KeyError::Id { name: name.to_owned(), expected, found: found.to_owned() });
        }
        Ok(verifier)
    }
}

/// Whether a note can name a key so: not empty, and without Unicode spaces, `+` and control characters.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

fn checked_name(name: &str) -> Result<&str, KeyError> {
    if is_name(name) { Ok(name) } else { Err(KeyError::Name { name: name.to_owned() }) }
}

#[cfg(test)]
pub(super) mod tests;
