//! One namespace's rows are not there for another, and what the log says cannot be changed: by table as the catalog lists them, not by a list of ours.

use orbit_core::config::NamespaceName;
use orbit_store::postgres::{PostgresStore, migrate, pending};
use orbit_store::{Store, StoreError};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::cluster::{TestDatabase, connect};
use crate::conformance::world::{World, at};
use crate::postgres::cluster::store;

/// Every table of a database but the one of migrations.
async fn tables(client: &Client) -> Vec<String> {
    let sql = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
        AND relname <> 'migrations' ORDER BY relname";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A row in every table of the namespace `studio`: whatever a row has to have.
async fn fill(database: &TestDatabase) {
    let owner = connect(&database.owner()).await;
    // Keys between tables and guards of single rows are of no concern here.
    owner
        .batch_execute("SET session_replication_role = replica; SET orbit.namespace = 'studio'")
        .await
        .unwrap();
    for table in tables(&owner).await {
        let sql = "SELECT column_name::text, data_type::text FROM information_schema.columns
            WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER' AND is_identity = 'NO'
                AND column_default IS NULL ORDER BY ordinal_position";
        let columns = owner.query(sql, &[&table]).await.unwrap();
        let value = |name: &str, kind: &str| match (name, kind) {
            ("header", _) => r#"'{"body_class":"fact","body_digest":"d"}'"#,
            ("leaf" | "root" | "hash", "bytea") => "decode(repeat('00', 32), 'hex')",
            ("salt", "bytea") => "decode(repeat('00', 16), 'hex')",
            // A delivery is of a run, not of a notice.
            ("notice_id", _) if table == "deliveries" => "NULL",
            (_, "bytea") => "''",
            (_, "boolean") => "false",
            (_, "text") => "'x'",
            (_, _) => "0",
        };
        let names: Vec<String> = columns.iter().map(|row| row.get(0)).collect();
        let values: Vec<_> = columns.iter().map(|row| value(row.get(0), row.get(1))).collect();
        let insert = if names.is_empty() {
            format!("INSERT INTO {table} DEFAULT VALUES ON CONFLICT DO NOTHING")
        } else {
            let (names, values) = (names.join(", "), values.join(", "));
            format!("INSERT INTO {table} ({names}) VALUES ({values}) ON CONFLICT DO NOTHING")
        };
        owner.batch_execute(&insert).await.unwrap_or_else(|error| panic!("{insert}: {error:?}"));
    }
}

/// A transaction of the engine's role in this namespace.
async fn begin(client: &Client, namespace: &str) {
    let sql = format!("BEGIN; SELECT set_config('orbit.namespace', '{namespace}', true)");
    client.batch_execute(&sql).await.unwrap();
}

async fn count(client: &Client, table: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn rows_of_another_namespace_are_invisible_and_unwritable() {
    let database = TestDatabase::migrated().await;
    fill(&database).await;
    let client = connect(&database.runtime()).await;
    let tables = tables(&client).await;
    assert!(tables.len() > 20, "{tables:?}");
    for table in &tables {
        begin(&client, "studio").await;
        assert_eq!(count(&client, table).await, 1, "{table} has a row to see");
        client.batch_execute("ROLLBACK").await.unwrap();
        for other in ["other", ""] {
            begin(&client, other).await;
            assert_eq!(count(&client, table).await, 0, "{table}");
            // What it may change at all, it changes nothing of here.
            for change in
                [format!("DELETE FROM {table}"), format!("UPDATE {table} SET namespace = namespace")]
            {
                client.batch_execute("SAVEPOINT one").await.unwrap();
                match client.execute(&change, &[]).await {
                    Ok(changed) => assert_eq!(changed, 0, "{change}"),
                    Err(error) => {
                        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{change}");
                    }
                }
                client.batch_execute("ROLLBACK TO one").await.unwrap();
            }
            let error = client.execute(&insert_for_studio(&client, table).await, &[]).await.unwrap_err();
            assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{table}: {error:?}");
            client.batch_execute("ROLLBACK").await.unwrap();
        }
        // Without a namespace there is nothing at all.
        assert_eq!(count(&client, table).await, 0, "{table}");
    }
    // A row cannot be moved to another namespace either.
    begin(&client, "studio").await;
    let error = client.execute("UPDATE cycles SET namespace = 'other'", &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{error:?}");
}

/// A row of another namespace whose columns are all empty, but for what triggers want: row-level security speaks before any of them is looked at.
async fn insert_for_studio(client: &Client, table: &str) -> String {
    let sql = "SELECT string_agg(CASE attname WHEN 'namespace' THEN '''studio''' WHEN 'position' THEN '0' WHEN 'number' THEN '0' ELSE 'NULL' END, ', ' ORDER BY attnum),
            string_agg(quote_ident(attname), ', ' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''";
    let row = client.query_one(sql, &[&table]).await.unwrap();
    let (values, names): (String, String) = (row.get(0), row.get(1));
    format!("INSERT INTO {table} ({names}) VALUES ({values})")
}

#[tokio::test]
async fn what_the_log_says_stays() {
    let database = TestDatabase::migrated().await;
    fill(&database).await;
    let (client, owner) = (connect(&database.runtime()).await, connect(&database.owner()).await);
    let log: Vec<_> = tables(&client).await.into_iter().filter(|table| table.starts_with("log_")).collect();
    assert!(log.len() >= 7, "{log:?}");
    for table in &log {
        let changes = [
            format!("UPDATE {table} SET namespace = namespace"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table}"),
        ];
        for change in &changes {
            begin(&client, "studio").await;
            let answer = client.execute(change, &[]).await;
            client.batch_execute("ROLLBACK").await.unwrap();
            if change.starts_with("DELETE") && ["log_pending", "log_bodies"].contains(&table.as_str()) {
                // One has got its position, the other has a tombstone.
                assert_eq!(answer.unwrap(), 1, "{change}");
                continue;
            }
            assert_eq!(answer.unwrap_err().code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{change}");
        }
        // The owner, who has every privilege, meets the triggers.
        begin(&owner, "studio").await;
        let error = owner.execute(&changes[0], &[]).await.unwrap_err();
        assert!(error.as_db_error().unwrap().message().contains("append-only"), "{error:?}");
        owner.batch_execute("ROLLBACK").await.unwrap();
    }
    // A fact is no evidence, with a tombstone or without.
    begin(&owner, "studio").await;
    owner.batch_execute("INSERT INTO log_bodies (position, body) VALUES (1, '{}')").await.unwrap();
    let error = owner.execute("DELETE FROM log_bodies WHERE position = 1", &[]).await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("only evidence with a tombstone"), "{error:?}");
    owner.batch_execute("ROLLBACK").await.unwrap();
    for (insert, refused) in [
        (
            "INSERT INTO log_records (position, header) VALUES (99, '{\"body_class\":\"fact\",\"body_digest\":\"d\"}')",
            "no gaps",
        ),
        // Of several that are added at once, the first follows and the second does not.
        (
            "INSERT INTO log_records (position, header) SELECT (SELECT max(position) FROM log_records) + step,
                '{\"body_class\":\"fact\",\"body_digest\":\"d\"}' FROM unnest(ARRAY[1, 3]) AS step",
            "no gaps",
        ),
        ("INSERT INTO log_signers (number, origin, vkey, size) VALUES (2, 'o', 'k', 0)", "no gaps"),
        (
            "INSERT INTO log_checkpoints (number, size, root, note) VALUES (1, 0, decode(repeat('00', 32), 'hex'), '')",
            "sizes grow",
        ),
    ] {
        begin(&client, "studio").await;
        let error = client.execute(insert, &[]).await.unwrap_err();
        assert!(error.as_db_error().unwrap().message().contains(refused), "{insert}: {error:?}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn a_role_that_could_do_more_is_refused() {
    let database = TestDatabase::migrated().await;
    let name = NamespaceName::parse("studio").unwrap();
    let refusal = async |role: &str| match PostgresStore::open(&database.role(role), &name).await {
        Err(StoreError::Refused { message, .. }) => message,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("`{role}` may open it"),
    };
    assert!(refusal("postgres").await.contains("bypasses row-level security"));
    let owner = connect(&database.owner()).await;
    // Roles are the whole server's, and other tests run at the same time: these are made for this one alone.
    owner
        .batch_execute(
            "CREATE ROLE reckless LOGIN BYPASSRLS IN ROLE orbit_runtime; CREATE ROLE rewriter LOGIN IN ROLE orbit_runtime;
            GRANT UPDATE (header) ON log_records TO rewriter;",
        )
        .await
        .unwrap();
    assert!(refusal("reckless").await.contains("bypasses row-level security"));
    assert!(refusal("rewriter").await.contains("`log_records`"));
    owner.batch_execute("REVOKE UPDATE (header) ON log_records FROM rewriter").await.unwrap();
    assert!(PostgresStore::open(&database.role("rewriter"), &name).await.is_ok());
    owner.batch_execute("ALTER TABLE cycles NO FORCE ROW LEVEL SECURITY").await.unwrap();
    assert!(refusal("orbit_runtime").await.contains("`cycles`"));
}

#[tokio::test]
async fn another_schema_is_refused() {
    let database = TestDatabase::empty().await;
    let name = NamespaceName::parse("studio").unwrap();
    let open = async || PostgresStore::open(&database.runtime(), &name).await.err();
    let error = open().await.expect("refused");
    assert!(matches!(&error, StoreError::Older { found: 0, needed: 2, .. }), "{error}");
    let pending = pending(&database.owner()).await.unwrap();
    assert_eq!((pending.before, &pending.migrations[..]), (0, &[1, 2][..]));
    let error = open().await.expect("nothing is changed by a look");
    assert!(matches!(&error, StoreError::Older { found: 0, .. }), "{error}");
    // Twice at once, and once more: the same.
    let (one, two) = tokio::join!(migrate_of(&database), migrate_of(&database));
    one.unwrap();
    two.unwrap();
    migrate_of(&database).await.unwrap();
    assert!(open().await.is_none());
    let owner = connect(&database.owner()).await;
    owner
        .batch_execute(
            "INSERT INTO migrations (number, checksum) SELECT 3, checksum FROM migrations WHERE number = 1",
        )
        .await
        .unwrap();
    for error in [open().await.expect("refused"), migrate_of(&database).await.unwrap_err()] {
        assert!(matches!(error, StoreError::Newer { found: 3, known: 2, .. }), "{error}");
    }
    owner.batch_execute("DELETE FROM migrations WHERE number = 3").await.unwrap();
    for number in [1, 2] {
        let change =
            format!("UPDATE migrations SET checksum = 'sha256:{}' WHERE number = {number}", "0".repeat(64));
        owner.batch_execute(&format!("CREATE TEMP TABLE kept AS TABLE migrations; {change}")).await.unwrap();
        let named = format!("migration {number} ");
        for error in [open().await.expect("refused"), migrate_of(&database).await.unwrap_err()] {
            assert!(
                matches!(&error, StoreError::Corrupt { message, .. } if message.contains(&named)),
                "{error}"
            );
        }
        owner
            .batch_execute("DELETE FROM migrations; INSERT INTO migrations TABLE kept; DROP TABLE kept")
            .await
            .unwrap();
    }
    assert!(open().await.is_none());
}

async fn migrate_of(database: &TestDatabase) -> Result<(), StoreError> {
    migrate(&database.owner()).await.map(drop)
}

#[tokio::test]
async fn two_namespaces_of_one_database_know_nothing_of_each_other() {
    let (one, database) = store().await;
    let other = NamespaceName::parse("other").unwrap();
    let other = PostgresStore::open(&database.runtime(), &other).await.unwrap();
    let (one, other): (&dyn Store, &dyn Store) = (&one, &other);
    World::new(one).join(at(0)).await;
    let run_id = World::new(one).dispatching(1, &["archive"], at(0)).await;
    let delivery = one.run(run_id).await.unwrap().unwrap().deliveries[0].delivery_id;
    // By an id that is known, by what waits, and by what the log says.
    assert_eq!(other.run(run_id).await.unwrap(), None);
    assert_eq!(other.delivery(delivery).await.unwrap(), None);
    assert_eq!(other.cancel_run(run_id, "not mine", at(1)).await.unwrap(), None);
    assert!(other.waiting_endpoints().await.unwrap().is_empty());
    assert!(World::new(other).log().await.is_empty());
    assert_eq!(other.counts().await.unwrap().cycles, std::collections::BTreeMap::new());
    // The same ids there are other rows.
    World::new(other).join(at(0)).await;
    let same = World::new(other).dispatching(1, &["archive"], at(0)).await;
    assert_eq!(same, run_id);
    assert!(other.cancel_run(same, "mine", at(1)).await.unwrap().is_some());
    assert_eq!(World::new(one).state_of_run(run_id).await.0, "dispatching");
    crate::conformance::world::log_is_whole(one).await;
    crate::conformance::world::log_is_whole(other).await;
}
