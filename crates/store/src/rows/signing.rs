//! Whose key the log has.

use std::fmt::Display;

use orbit_core::record::Signer;

use super::Contradiction;
use crate::contract::log::LogSigner;

/// The newest signer, if it is the expected one.
pub(crate) fn is_in_force(found: Option<&LogSigner>, expected: &Signer) -> Result<LogSigner, Contradiction> {
    let expected = expected.verifier().to_string();
    match found {
        Some(found) if found.vkey == expected => Ok(found.clone()),
        Some(found) => {
            Err(Contradiction::new(format!("its log is signed with `{}`, not with `{expected}`", found.vkey)))
        }
        None => Err(Contradiction::new("its log is not signed yet")),
    }
}

/// Why nothing was signed.
pub(crate) fn unsigned(error: impl Display) -> Contradiction {
    Contradiction::new(format!("its log cannot be signed: {error}"))
}
