//! A namespace for who reads or moves whole stores: a session of its own, for as long as that takes.

use std::time::Duration;

use std::sync::Arc;

use deadpool_postgres::Object;
use orbit_core::config::NamespaceName;

use super::address::Address;
use super::fault::Attempt;
use super::tx::{self, Mode};
use super::{Database, pool};
use crate::StoreError;

/// A statement of a client that is gone, which would hold its locks until it is done, is ended within this.
const GONE_SEEN_WITHIN: Duration = Duration::from_secs(2);

/// A session that is bound to the namespace until it is dropped, and where the database is. It waits for its statements as long as they take.
pub(crate) async fn owner_session(
    config: &str,
    namespace: &NamespaceName,
) -> Result<(Object, String), StoreError> {
    let address = Address::parse(config)?;
    let place = address.place.clone();
    let session = async {
        let session = pool::pool(&address, 1)?.get().await?;
        // A namespace is made of letters, digits and dashes.
        session
            .batch_execute(&format!("SET orbit.namespace = '{namespace}'; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"))
            .await?;
        // A server that cannot look (it takes a system that tells) sees a client that is gone when it answers it.
        let looks = format!("SET client_connection_check_interval = {}", GONE_SEEN_WITHIN.as_millis());
        _ = session.batch_execute(&looks).await;
        Attempt::Ok(session)
    };
    let session = session.await.map_err(|fault| fault.at(&place))?;
    Ok((session, place))
}

/// Everything that is durable has its position.
pub(crate) async fn position_everything(config: &str, namespace: &NamespaceName) -> Result<(), StoreError> {
    let address = Address::parse(config)?;
    let pool = pool::pool(&address, 1).map_err(|fault| fault.at(&address.place))?;
    let database = Database::new(pool, namespace, &address.place, &Arc::default());
    tx::transaction!(&database, Mode::Positioned, |_tx| Ok(()))
}
