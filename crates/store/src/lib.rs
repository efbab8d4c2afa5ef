//! `orbit-store` remembers: the only crate that speaks SQL or touches blobs.
//!
//! One trait a stage under [`Store`], each method one transaction of the domain that says what is true when it returns. A lost
//! claim is a value, not-found is `Option`, and every error is a [`StoreError`]. `sqlite` and `postgres` are the backends; `payloads` keeps payloads: small ones in the store,
//! larger ones in `blobs`. `transfer` moves a store from one backend to the other.

/// The traits and the rows that pass through them, a file a stage.
pub mod contract;

pub mod blobs;
pub mod payloads;
pub mod postgres;
mod rows;
pub mod sqlite;
pub mod transfer;

pub use contract::{Store, StoreError};
