//! Whose a prefix is. Two homes that share one would remove what only the other one names, so one object below the prefix names the store that it belongs to. It is
//! written once, by a request that succeeds only where nobody was faster, and looked at by every process before it puts or removes anything. Nodes of one
//! database are one store, and share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};

use super::client::BucketClient;
use super::fault::Unanswered;
use super::{BlobError, BucketFault};

/// Its key below the prefix: no namespace has this name.
pub(super) const OWNER: &str = "_owner";
/// More is no name of a store.
const NAME_BYTES_MAX: usize = 256;

/// Who this process works for, and whether the prefix is known to be theirs.
#[derive(Debug, Default)]
pub(super) struct Ownership {
    store: Mutex<Option<String>>,
    is_ours: AtomicBool,
}

impl BucketClient {
    /// This process works for the store of this name from now on, which no other has. Without one nothing is asked, and nothing should be put.
    pub fn works_for(&self, store: &str) {
        *self.ownership.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(store.to_owned());
        self.ownership.is_ours.store(false, Ordering::Release);
    }

    /// The prefix belongs to the store that this process works for, to which it is given if it had none.
    pub fn claim(&self) -> Result<(), BlobError> {
        let Some(store) = self.ownership.store.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return Ok(());
        };
        if self.ownership.is_ours.load(Ordering::Acquire) {
            return Ok(());
        }
        let owner = self.owner(&store).map_err(|error| error.of(&self.bucket))?;
        if owner != store {
            let message = format!("`{}` belongs to the store `{owner}`, and this is `{store}`", self.name());
            return Err(BlobError::Bucket {
                bucket: self.bucket.clone(),
                fault: BucketFault::Taken,
                message,
            });
        }
        self.ownership.is_ours.store(true, Ordering::Release);
        Ok(())
    }

    /// Whose it is: this store's, if it was nobody's.
    fn owner(&self, store: &str) -> Result<String, Unanswered> {
        let (client, key) = (self.store.clone(), self.key(OWNER));
        let payload = PutPayload::from(store.to_owned().into_bytes());
        let put = async move { client.put_opts(&key, payload, PutOptions::from(PutMode::Create)).await };
        match self.wait(self.waits.asked_within, put) {
            Ok(_) => return Ok(store.to_owned()),
            // It may be this process that was faster, and its answer was lost.
            Err(error) if error.is_there() => {}
            Err(error) => return Err(error),
        }
        let (client, key) = (self.store.clone(), self.key(OWNER));
        let get = async move { client.get(&key).await?.bytes().await };
        let found = self.wait(self.waits.asked_within, get)?;
        Ok(String::from_utf8_lossy(&found[..found.len().min(NAME_BYTES_MAX)]).into_owned())
    }
}
