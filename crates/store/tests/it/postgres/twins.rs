//! Whatever happens, both backends record the same.

use orbit_store::sqlite::SqliteStore;
use proptest::prelude::*;
use serde_json::Value;

use super::cluster::store;
use crate::conformance::world::{World, log_is_whole, namespace};
use crate::history::{Call, History, calls};

/// Each of them costs as much as a case of the conformance suite.
const CASES: u32 = 12;

/// The log without what is made of a token: each backend numbers its own.
pub(super) async fn told(world: &World<'_>) -> Vec<Value> {
    let records = world.log().await.into_iter();
    records
        .map(|record| {
            let mut record = serde_json::to_value(record).unwrap();
            if let Some(body) = record["body"].as_object_mut() {
                body.remove("batch_id");
            }
            record
        })
        .collect()
}

async fn agree(calls: Vec<Call>) {
    let sqlite = SqliteStore::in_memory(&namespace()).unwrap();
    let (postgres, _database) = store().await;
    let (mut here, mut there) = (History::default(), History::default());
    for call in calls {
        here.call(&sqlite, call.clone()).await;
        there.call(&postgres, call).await;
    }
    assert_eq!(told(&World::new(&sqlite)).await, told(&World::new(&postgres)).await);
    log_is_whole(&postgres).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn both_record_the_same(calls in calls()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(agree(calls));
    }
}
