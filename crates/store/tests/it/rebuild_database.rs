//! A store in PostgreSQL whose derived rows are lost or changed: the fold over a copy puts them right.

use std::path::PathBuf;
use std::sync::Arc;

use orbit_store::StoreError;
use orbit_store::contract::rebuild::{RebuildMode, Rebuilt};
use orbit_store::transfer::{Frozen, rebuild};
use orbit_testkit::cluster::{TestDatabase, connect, store};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::conformance::world::{World, at, log_is_whole, namespace};
use crate::history::{Call, History, calls};
use crate::rebuild::{Dump, dump, told};
use crate::verify_database::tamper_in;

/// Histories that are played, each after the other into one store.
const ROUNDS: u32 = 3;

struct Folded {
    database: TestDatabase,
    folder: tempfile::TempDir,
}

impl Folded {
    fn path(&self) -> PathBuf {
        self.folder.path().join("copy.db")
    }

    async fn rows(&self) -> Dump {
        let frozen = Frozen::of(&self.database.runtime(), &namespace(), &self.path(), &mut |_| ()).await;
        dump(frozen.unwrap().path())
    }

    async fn rebuild(&self, mode: RebuildMode) -> Result<Rebuilt, StoreError> {
        let of = (&*self.database.runtime(), &namespace());
        rebuild(of, &self.path(), (mode, at(9)), (&mut |_| (), Arc::new(|_, _| ()))).await
    }
}

#[tokio::test]
async fn rows_in_a_database_are_put_right() {
    let (store, database) = store(&namespace()).await;
    let folded = Folded { database, folder: tempfile::tempdir().unwrap() };
    let (mut history, mut runner) = (History::default(), TestRunner::deterministic());
    history.call(&store, Call::Join).await;
    for _ in 0..ROUNDS {
        for call in calls().new_tree(&mut runner).unwrap().current() {
            history.call(&store, call).await;
        }
    }
    let refused = folded.rebuild(RebuildMode::Compare).await.unwrap_err();
    assert!(refused.to_string().contains("works on it"), "{refused}");
    let owner = connect(&folded.database.owner()).await;
    owner.batch_execute("UPDATE nodes SET expires_at = 0").await.unwrap();
    let rows = folded.rows().await;
    let whole = folded.rebuild(RebuildMode::Apply).await.unwrap();
    assert_eq!(whole.differing(), 0, "{whole:?}");
    assert!(whole.records > 50, "{whole:?}");
    assert_eq!(folded.rows().await, rows, "nothing was written where nothing differed");
    for damage in [
        "UPDATE runs SET state = 'finished', state_json = '{}', attempt = attempt + 1",
        "DELETE FROM run_requests; UPDATE steps SET attempts = 99",
        "DELETE FROM deliveries WHERE ordinal % 2 = 0; DELETE FROM attempts; DELETE FROM lanes",
        "INSERT INTO halts (at, reason, lifted_at) VALUES (1, 'x', 2); UPDATE initiations SET weight = 9.0",
        "DELETE FROM steps; DELETE FROM run_requests; DELETE FROM attempts; DELETE FROM deliveries; DELETE FROM runs",
        "DELETE FROM initiations; DELETE FROM initiation_holds; UPDATE store SET active_snapshot = NULL",
    ] {
        tamper_in(&folded.database, damage).await;
        let damaged = folded.rows().await;
        let seen = folded.rebuild(RebuildMode::Compare).await.unwrap();
        assert!(seen.differing() > 0, "{damage}");
        assert_eq!(folded.rows().await, damaged, "comparing changes nothing");
        let put_right = folded.rebuild(RebuildMode::Apply).await.unwrap();
        assert_eq!(seen.tables, put_right.tables);
        assert_eq!(told(folded.rows().await), told(rows.clone()), "{damage}");
        assert_eq!(folded.rebuild(RebuildMode::Compare).await.unwrap().differing(), 0, "{damage}");
    }
    let told = World::new(&store).log_of("tables_rebuilt").await;
    assert_eq!(told.len(), 7, "each that may change something is in the log");
    history.call(&store, Call::Join).await;
    for call in calls().new_tree(&mut runner).unwrap().current() {
        history.call(&store, call).await;
    }
    log_is_whole(&store).await;
}
