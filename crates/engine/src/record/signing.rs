//! Begins the signing of a log, before anything else is written to it.

use orbit_core::config::NamespaceName;
use orbit_core::record::signing::{Known, SigningError, decide};
use orbit_core::record::{Seeds, Signer};
use orbit_store::{Store, StoreError};

use crate::clock::Clock;

/// Why a log cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The seeds do not fit.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The log's signer is in force, and a record tells of it where it is a new one.
pub async fn begin(
    store: &dyn Store,
    namespace: &NamespaceName,
    seeds: &Seeds,
    clock: &dyn Clock,
) -> Result<Signer, BeginError> {
    let signers = store.signers().await?;
    let in_force = signers.last().map(|signer| (&*signer.origin, &*signer.vkey));
    let known = Known { in_force, restored: store.restored_at().await?.is_some() };
    let [a, b, c, d, e, f, g, h, ..] = clock.random();
    let (signer, begins) = decide(namespace.as_str(), seeds, known, [a, b, c, d, e, f, g, h])?;
    if let Some(begins) = begins {
        let begun = store.begin_signing(begins, clock.now()).await?;
        tracing::info!(%namespace, origin = begun.origin, key = begun.vkey, "the log is signed with a new key");
    }
    Ok(signer)
}
