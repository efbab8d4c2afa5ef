//! The server of the tests, and a store for a case of the conformance suite.

use orbit_store::postgres::PostgresStore;
pub(crate) use orbit_testkit::cluster::{TestDatabase, connect};

use crate::conformance::world::namespace;

/// See [`orbit_testkit::cluster::store`].
pub(crate) async fn store() -> (PostgresStore, TestDatabase) {
    orbit_testkit::cluster::store(&namespace()).await
}
