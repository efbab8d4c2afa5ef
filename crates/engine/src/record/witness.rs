//! What the anchor has seen of a log, told to the store before anything is written to it: a server that came back with older data is refused then.

use std::path::PathBuf;
use std::time::Duration;

use orbit_core::record::Signer;
use orbit_core::record::checkpoint::Checkpoint;
use orbit_store::Store;

use super::anchor;

/// How long a start waits for the anchor, which may be a folder on a machine that is gone.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The store knows the newest checkpoint that the anchor has of its log, if it has one that the log's key has signed. An anchor that cannot be read
/// holds no start up.
pub async fn witness(store: &dyn Store, signer: &Signer, anchor: PathBuf) {
    let folder = anchor::folder_of(&anchor, signer.verifier().name());
    let reading = tokio::task::spawn_blocking(move || anchor::newest(&folder));
    let note = match tokio::time::timeout(ANSWERS_WITHIN, reading).await {
        Ok(Ok(Ok(Some(note)))) => note,
        Ok(Ok(Ok(None))) => return,
        Ok(Ok(Err(error))) => {
            return tracing::warn!(anchor = %anchor.display(), %error, "the anchor cannot be read: an older state of the database would not be noticed");
        }
        Ok(Err(_)) | Err(_) => {
            return tracing::warn!(anchor = %anchor.display(), "the anchor does not answer: an older state of the database would not be noticed");
        }
    };
    match Checkpoint::open(&note, signer.verifier()) {
        Ok(checkpoint) => store.witness(checkpoint.size, checkpoint.root),
        Err(error) => {
            tracing::warn!(anchor = %anchor.display(), %error, "the newest checkpoint in the anchor is not believed");
        }
    }
}
