//! The seeds of a home: read, or written by the first start that finds none.

use std::path::Path;

use orbit_core::config::NamespaceName;
use orbit_core::record::{Seeds, Signer};
use orbit_engine::clock::{Clock, SystemClock};
use orbit_engine::record::{self, BeginError};
use orbit_store::Store;

use crate::engine::OpenError;
use crate::environment::{Environment, write_seed};

/// What `.env` and the environment say; where they say nothing and no log was ever signed, `.env` has a new seed afterwards.
pub async fn seeds(home: &Path, environment: &Environment, system: &dyn Store) -> Result<Seeds, OpenError> {
    if let Some(seeds) = environment.seeds()? {
        return Ok(seeds);
    }
    // A second seed would not make the keys of the first: whoever lost it has to know.
    let goes_on = !system.signers().await?.is_empty();
    // A log that was restored goes on under a new name, and may have a new key.
    if goes_on && system.restored_at().await?.is_none() {
        return Err(OpenError::SeedGone);
    }
    write_seed(home, SystemClock.random())?;
    tracing::info!("a seed for the keys of the logs was written to `.env`: keep a copy of it");
    Environment::load(home)?.0.seeds()?.ok_or(OpenError::SeedGone)
}

/// See [`record::begin`].
pub async fn begin(
    store: &dyn Store,
    namespace: &NamespaceName,
    seeds: &Seeds,
    clock: &dyn Clock,
) -> Result<Signer, OpenError> {
    record::begin(store, namespace, seeds, clock).await.map_err(|error| match error {
        BeginError::Signing(error) => error.into(),
        BeginError::Store(error) => error.into(),
    })
}
