//! A store that was migrated to a schema that this binary does not know: nothing is left for it there.

use std::sync::OnceLock;

use orbit_store::StoreError;
use tokio_util::sync::CancellationToken;

/// What the store said, once it did.
#[derive(Default)]
pub struct Superseded {
    said: OnceLock<StoreError>,
    is_said: CancellationToken,
}

impl Superseded {
    /// The store says so. Whoever runs the node ends it.
    pub(super) fn by(&self, error: StoreError) {
        if self.said.set(error).is_ok() {
            self.is_said.cancel();
        }
    }

    /// Waits until the store says so.
    pub async fn happens(&self) {
        self.is_said.cancelled().await;
    }

    /// What the store said, if it did. Then nothing may be written to it any more.
    pub fn error(&self) -> Option<&StoreError> {
        self.said.get()
    }
}
