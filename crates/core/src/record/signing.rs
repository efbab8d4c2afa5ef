//! Whose key signs a log from now on: decided from what the log says and the seeds that the operator gave.

use super::key::{KeyError, Seed, Signer};

/// The seeds of a home.
#[derive(Clone, Debug)]
pub struct Seeds {
    /// The one that keys are made of.
    pub current: Seed,
    /// The one before, while logs are handed over from its keys.
    pub previous: Option<Seed>,
}

/// How signing begins. A record says so.
#[derive(Clone, Debug)]
pub enum Begin {
    /// The log was never signed.
    First(Signer),
    /// Another key goes on under the same origin.
    Rotated {
        /// The key so far.
        old: Box<Signer>,
        /// The key from now on.
        new: Box<Signer>,
    },
    /// The store was a backup, and its log goes on under another origin.
    Restored(Signer),
}

/// What a log says of its signer.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Origin and public key in force; none if it was never signed.
    pub in_force: Option<(&'a str, &'a str)>,
    /// Whether the store was a backup and still has the old origin.
    pub restored: bool,
}

/// Why a log cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// No seed makes the key in force.
    #[error(
        "the log of namespace `{namespace}` is signed with the key `{vkey}`, which the seed does not make"
    )]
    Unknown {
        /// The namespace.
        namespace: String,
        /// The key in force.
        vkey: String,
    },
    /// See [`KeyError`].
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Who signs, and what has to be recorded first. `random` names a new origin if there has to be one.
pub fn decide(
    namespace: &str,
    seeds: &Seeds,
    known: Known<'_>,
    random: [u8; 8],
) -> Result<(Signer, Option<Begin>), SigningError> {
    let anew = || seeds.current.signer(namespace, &origin(namespace, random));
    let Some((origin, vkey)) = known.in_force.filter(|_| !known.restored) else {
        let signer = anew()?;
        let begin = if known.restored { Begin::Restored } else { Begin::First };
        return Ok((signer.clone(), Some(begin(signer))));
    };
    let is_in_force = |signer: &Signer| signer.verifier().to_string() == vkey;
    let signer = seeds.current.signer(namespace, origin)?;
    if is_in_force(&signer) {
        return Ok((signer, None));
    }
    if let Some(previous) = &seeds.previous {
        let old = previous.signer(namespace, origin)?;
        if is_in_force(&old) {
            let begin = Begin::Rotated { old: Box::new(old), new: Box::new(signer.clone()) };
            return Ok((signer, Some(begin)));
        }
    }
    Err(SigningError::Unknown { namespace: namespace.to_owned(), vkey: vkey.to_owned() })
}

/// The name of a log: `orbit`, the namespace, and 16 hex digits that tell it from every other log of a namespace of that name.
fn origin(namespace: &str, random: [u8; 8]) -> String {
    format!("orbit/{namespace}/{}", crate::digest::hex(&random))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "orbit/lab/0101010101010101";

    fn vkey(seed: u8) -> String {
        Seed::new([seed; 32]).signer("lab", ORIGIN).unwrap().verifier().to_string()
    }

    fn decided(current: u8, previous: Option<u8>, in_force: Option<u8>, restored: bool) -> String {
        let seeds =
            Seeds { current: Seed::new([current; 32]), previous: previous.map(|seed| Seed::new([seed; 32])) };
        let in_force = in_force.map(vkey);
        let known = Known { in_force: in_force.as_deref().map(|vkey| (ORIGIN, vkey)), restored };
        let random = if restored { [2; 8] } else { [1; 8] };
        let (signer, begin) = match decide("lab", &seeds, known, random) {
            Ok(decided) => decided,
            Err(error) => return error.to_string(),
        };
        let name = signer.verifier().to_string();
        match begin {
            None => format!("{name} goes on"),
            Some(Begin::First(first)) => format!("{} first", first.verifier()),
            Some(Begin::Rotated { old, new }) => format!("{} after {}", new.verifier(), old.verifier()),
            Some(Begin::Restored(restored)) => format!("{} restored", restored.verifier().name()),
        }
    }

    #[test]
    fn every_case_is_decided() {
        let (one, two) = (vkey(1), vkey(2));
        assert_eq!(decided(1, None, None, false), format!("{one} first"));
        assert_eq!(decided(1, Some(2), Some(1), false), format!("{one} goes on"));
        assert_eq!(decided(2, Some(1), Some(1), false), format!("{two} after {one}"));
        let unknown = format!(
            "the log of namespace `lab` is signed with the key `{one}`, which the seed does not make"
        );
        assert_eq!(decided(2, None, Some(1), false), unknown);
        assert_eq!(decided(2, Some(3), Some(1), false), unknown);
        assert_eq!(decided(2, None, Some(1), true), "orbit/lab/0202020202020202 restored");
        assert_eq!(decided(2, None, None, true), "orbit/lab/0202020202020202 restored");
    }
}
