//! Verification of a store in PostgreSQL: what is only so there. What both backends have in common is beside, in `verify`.

use std::path::Path;

use orbit_core::record::Begin;
use orbit_store::blobs::{Blobs, FolderBlobs};
use orbit_store::contract::log::LogStore as _;
use orbit_store::sqlite::verify::{Against, Report};
use orbit_store::transfer::{End, Frozen, transfer};
use orbit_testkit::cluster::{TestDatabase, connect, store};

use crate::conformance::world::{World, at, done, namespace};
use crate::verify::{CUT, copy, fill, found, gathered, notes, rewrite, signer, tamper};

/// A database with the rows of a file, which stays as it is.
pub(crate) async fn in_postgres(folder: &Path) -> TestDatabase {
    let copied = tempfile::tempdir().unwrap();
    copy(folder, copied.path());
    let database = TestDatabase::migrated().await;
    let (file, owner) = (copied.path().join("orbit.db"), database.owner());
    transfer(End::Sqlite(&file), End::Postgres(&owner), &namespace(), &mut |_| ()).await.unwrap();
    let zeroblob = "CREATE FUNCTION zeroblob(n INT) RETURNS BYTEA LANGUAGE sql AS $$ SELECT decode(repeat('00', n), 'hex') $$";
    connect(&owner).await.batch_execute(zeroblob).await.unwrap();
    database
}

/// What serves stores verifies them; `folder` has the payloads.
pub(crate) async fn verified_in(
    database: &TestDatabase,
    folder: &Path,
    against: &[(String, String)],
) -> Report {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("copy.db");
    let frozen = Frozen::of(&database.runtime(), &namespace(), &path, &mut |_| ()).await.unwrap();
    let blobs = Blobs::from(FolderBlobs::reading(&folder.join("blobs")));
    let (notes, namespace) = (gathered(against), namespace());
    let against = Some(Against { notes: &notes, namespace: &namespace });
    let report = frozen.verify(Some(&blobs), (against, None), &mut |_| ()).unwrap();
    drop(frozen);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left of the copy");
    report
}

/// Changes a database as its owner could: what protects it is away in this session.
pub(crate) async fn tamper_in(database: &TestDatabase, sql: &str) {
    let client = connect(&database.owner()).await;
    let begin = format!("SET session_replication_role = replica; SET orbit.namespace = '{}'", namespace());
    client.batch_execute(&begin).await.unwrap();
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

#[tokio::test]
async fn a_database_that_protects_nothing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let database = in_postgres(folder.path()).await;
    let sql = "DROP TRIGGER log_records_no_update ON log_records; ALTER TABLE log_bodies DISABLE TRIGGER log_bodies_no_delete;
        CREATE OR REPLACE FUNCTION log_checkpoints_goes_on() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
        CREATE TRIGGER more BEFORE INSERT ON log_records FOR EACH ROW EXECUTE FUNCTION log_records_goes_on();
        ALTER TABLE runs NO FORCE ROW LEVEL SECURITY; CREATE TABLE log_more (n INTEGER);
        CREATE POLICY everybody ON steps USING (true)";
    tamper_in(&database, sql).await;
    let mut found = found(&verified_in(&database, folder.path(), &[]).await);
    found.sort();
    let policy = "its row-level security is not the one that the migrations make";
    assert_eq!(
        found,
        [
            "pg_class, table `log_more`: was added".to_owned(),
            format!("pg_policy, table `runs`: {policy}"),
            format!("pg_policy, table `steps`: {policy}"),
            "pg_trigger, `log_bodies_no_delete` on `log_bodies`: is disabled".to_owned(),
            "pg_trigger, `log_checkpoints_in_order` on `log_checkpoints`: is not the one that the migrations make".to_owned(),
            "pg_trigger, `log_records_no_update` on `log_records`: is missing".to_owned(),
            "pg_trigger, `more` on `log_records`: was added".to_owned(),
        ]
    );
}

#[tokio::test]
async fn records_that_wait_for_their_position_are_verified_too() {
    let (store, database) = store(&namespace()).await;
    store.begin_signing(Begin::First(signer(7)), at(0)).await.unwrap();
    let world = World::new(&store);
    world.join(at(0)).await;
    let signed = store.checkpoint(&signer(7)).await.unwrap().unwrap();
    // Nobody has given these a position yet, and rows tell of them.
    for number in 1..=4 {
        world.admitted(number, 1, at(0)).await;
        let step = world.claim_step(at(1)).await;
        world.commit(&step, done(&step, &["archive"]), at(2)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    FolderBlobs::open(&folder.path().join("blobs")).unwrap().put_bytes(b"result").unwrap();
    let report = verified_in(&database, folder.path(), &[("kept".to_owned(), signed.note)]).await;
    assert_eq!(found(&report), Vec::<String>::new());
    assert!(report.pending > 16 && report.runs == 4 && report.outside == 1, "{report:?}");
    let owner = connect(&database.owner()).await;
    let positioned = owner.query_one("SELECT count(*) FROM log_records", &[]).await.unwrap();
    assert_eq!(u64::try_from(positioned.get::<_, i64>(0)).unwrap(), report.size, "nothing was written");
    let sql = "UPDATE log_pending SET body = '{}' WHERE seq = (SELECT seq FROM log_pending ORDER BY seq DESC OFFSET 3 LIMIT 1)";
    tamper_in(&database, sql).await;
    let found = found(&verified_in(&database, folder.path(), &[]).await);
    assert!(found.iter().any(|fault| fault.starts_with("log_bodies, position")), "{found:?}");
}

#[tokio::test]
async fn a_database_with_less_or_other_history_is_named_by_a_checkpoint_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let notes = notes(folder.path());
    let whole = in_postgres(folder.path()).await;
    let report = verified_in(&whole, folder.path(), &notes).await;
    assert_eq!((found(&report), report.outside), (vec![], 4));

    let rewritten = tempfile::tempdir().unwrap();
    copy(folder.path(), rewritten.path());
    rewrite(rewritten.path());
    tamper(rewritten.path(), "DELETE FROM log_checkpoints WHERE number > 0");
    let database = in_postgres(rewritten.path()).await;
    let alone = verified_in(&database, folder.path(), &[]).await;
    assert_eq!(found(&alone), Vec::<String>::new(), "nobody can tell without one");
    let against = found(&verified_in(&database, folder.path(), &notes).await);
    assert!(against[0].starts_with("outside checkpoint, 1.note: the log was rewritten below"), "{against:?}");

    let cut = whole.copied().await;
    tamper_in(&cut, CUT).await;
    let last = vec![notes.last().cloned().unwrap()];
    let found = found(&verified_in(&cut, folder.path(), &last).await);
    let gone = "log_records, position 16: the records from position 16 to";
    assert!(found.iter().any(|fault| fault.starts_with(gone)), "{found:?}");
}
