//! Why a store was not moved.

use crate::StoreError;

/// See the module. Whatever it is, the source is as it was unless its mark says that it is gone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransferError {
    /// One of the two sides cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody serves the source.
    #[error("node `{node}` works on the store `{place}`")]
    Worked {
        /// The database.
        place: String,
        /// The name of the node.
        node: String,
    },
    /// Another process moves this store.
    #[error("another process moves the store `{place}`")]
    Moving {
        /// The database.
        place: String,
    },
    /// The source is not whole, or it was moved and is not what the target holds.
    #[error("the store `{place}` is {moved}, and nothing is moved out of it")]
    Marked {
        /// The file or database.
        place: String,
        /// Its mark.
        moved: String,
    },
    /// The target is what was left when its store was moved away from there.
    #[error("the store `{place}` is {moved}, and still holds what it was")]
    Left {
        /// The file or database.
        place: String,
        /// Its mark.
        moved: String,
    },
    /// The target is a store of its own.
    #[error("the store `{place}` holds another store already")]
    Occupied {
        /// The file or database.
        place: String,
    },
    /// The target is a part of something else than the source is now.
    #[error("the store `{place}` holds an unfinished move of another store, or the source has changed since")]
    Changed {
        /// The file or database.
        place: String,
    },
    /// What is in the target is not what is in the source.
    #[error("the store `{place}` is not a copy of its source: {difference}")]
    Differs {
        /// The file or database.
        place: String,
        /// The table, and what is so.
        difference: String,
    },
}
