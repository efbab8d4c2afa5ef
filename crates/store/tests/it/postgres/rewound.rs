//! A server that comes back with an older state of the log, or with another history, is refused until the right one is back.

use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Record, Subject};
use orbit_store::StoreError;
use orbit_store::contract::log::LogStore as _;
use orbit_store::contract::node::{Load, NodeStore as _, Renewal};
use orbit_store::contract::record::RecordStore as _;
use orbit_store::contract::schedule::ScheduleStore as _;
use orbit_store::contract::view::StoreView as _;
use orbit_store::postgres::PostgresStore;
use orbit_testkit::proxy::{Proxy, Way};
use serde_json::json;

use super::cluster::{TestDatabase, connect};
use crate::conformance::world::{World, at, cycle, log_is_whole, namespace};

fn record(text: &str) -> Record {
    let body = json!({ "text": text }).as_object().unwrap().clone().into();
    Record::fact(at(0), Kind::NodeStarted, Subject::default(), body)
}

/// A store behind a proxy, some records, and a database that has no more than these.
async fn copied() -> (PostgresStore, TestDatabase, Proxy, String) {
    let database = TestDatabase::lent().await;
    let proxy = database.proxy();
    let url = proxy.config("orbit_runtime", database.name());
    let store = PostgresStore::open(&url, &namespace()).await.unwrap();
    World::new(&store).join(at(0)).await;
    for text in ["one", "two"] {
        store.append(vec![record(text)]).await.unwrap();
    }
    store.log_state().await.unwrap();
    // Nobody may be connected while it is copied.
    proxy.set(Way::Refused);
    proxy.cut();
    let older = database.copy().await;
    proxy.set(Way::Open);
    (store, database, proxy, older)
}

async fn refused(store: &PostgresStore, word: &str) {
    let answers = [
        store.append(vec![record("lost")]).await.unwrap_err(),
        store.fire(cycle(9), at(0)).await.unwrap_err(),
        store.renew(Load::default()).await.unwrap_err(),
        store.log_state().await.unwrap_err(),
        store.counts().await.map(drop).unwrap_err(),
    ];
    for answer in answers {
        assert!(matches!(&answer, StoreError::Rewound { message, .. } if message.contains(word)), "{answer}");
    }
}

/// Everything that could have changed.
async fn fingerprint(database: &TestDatabase, name: &str) -> String {
    let rows = |table: &str| {
        format!("(SELECT coalesce(string_agg(t::text, '|' ORDER BY t::text), '') FROM {table} t)")
    };
    let tables =
        ["store", "nodes", "cycles", "runs", "log_records", "log_pending", "log_nodes", "log_checkpoints"];
    let sql = format!("SELECT {}", tables.map(rows).join(" || '#' || "));
    connect(&database.owner_of(name)).await.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_state_is_neither_read_nor_written_until_the_right_one_is_back() {
    let (store, database, proxy, older) = copied().await;
    store.append(vec![record("three")]).await.unwrap();
    assert!(store.fire(cycle(1), at(0)).await.unwrap());
    // It knows what it has seen, whoever gave the positions.
    let other = PostgresStore::open(&database.runtime(), &namespace()).await.unwrap();
    other.append(vec![record("four")]).await.unwrap();
    let size = other.log_state().await.unwrap().size;
    assert_eq!(store.log_state().await.unwrap().size, size);
    let before = fingerprint(&database, &older).await;
    proxy.lead_to(&older);
    for _ in 0..2 {
        refused(&store, "is an older state").await;
    }
    assert_eq!(fingerprint(&database, &older).await, before, "nothing is written there");
    proxy.lead_to(database.name());
    assert_eq!(store.renew(Load::default()).await.unwrap(), Renewal::Renewed, "by itself");
    store.append(vec![record("five")]).await.unwrap();
    assert_eq!(store.log_state().await.unwrap().size, size + 1);
    log_is_whole(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_had_no_position_yet_is_missed_too() {
    let (store, database, proxy, older) = copied().await;
    // Nobody has given it one, so that the log is as long there as here.
    store.append(vec![record("three")]).await.unwrap();
    proxy.lead_to(&older);
    refused(&store, "lacks 1 of the records").await;
    proxy.lead_to(database.name());
    let size = store.log_state().await.unwrap().size;
    // With a position or without, it is there: whoever gives it one.
    store.append(vec![record("four")]).await.unwrap();
    proxy.cut();
    store.append(vec![record("five")]).await.unwrap();
    let other = PostgresStore::open(&database.runtime(), &namespace()).await.unwrap();
    assert_eq!(other.log_state().await.unwrap().size, size + 2);
    proxy.cut();
    store.append(vec![record("six")]).await.unwrap();
    log_is_whole(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_connections_among_much_that_is_written_are_to_the_right_server() {
    const WRITERS: usize = 6;
    const EACH: usize = 40;
    let (store, _database, proxy, _older) = copied().await;
    let store = std::sync::Arc::new(store);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                for number in 0..EACH {
                    let answer = store.append(vec![record(&format!("{writer} {number}"))]).await;
                    assert!(!matches!(answer, Err(StoreError::Rewound { .. })), "{answer:?}");
                    let state = store.log_state().await;
                    assert!(!matches!(state, Err(StoreError::Rewound { .. })), "{state:?}");
                }
            })
        })
        .collect();
    // Connections are made anew all the time.
    while writers.iter().any(|writer| !writer.is_finished()) {
        proxy.cut();
        store.log_state().await.map(drop).unwrap_or_default();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    log_is_whole(&*store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_of_the_same_length_is_refused() {
    let (store, database, proxy, fork) = copied().await;
    store.append(vec![record("three")]).await.unwrap();
    let seen = store.log_state().await.unwrap().size;
    let url = database.owner_of(&fork).replace("user=postgres", "user=orbit_runtime");
    let elsewhere = PostgresStore::open(&url, &namespace()).await.unwrap();
    for text in ["another", "and more"] {
        elsewhere.append(vec![record(text)]).await.unwrap();
    }
    assert!(elsewhere.log_state().await.unwrap().size > seen);
    proxy.lead_to(&fork);
    refused(&store, "another history").await;
    proxy.lead_to(database.name());
    store.append(vec![record("four")]).await.unwrap();
    log_is_whole(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_have_seen_counts_too() {
    let (first, database, proxy, _older) = copied().await;
    let url = proxy.config("orbit_runtime", database.name());
    let size = first.log_state().await.unwrap().size;
    let page = first.page(0, size).await.unwrap();
    let mut frontier = orbit_core::record::tree::Frontier::new();
    for entry in &page.entries {
        frontier.push(orbit_core::record::tree::leaf_hash(entry.header.as_bytes()), |_, _, _| {});
    }
    let told = async |size, root| {
        let store = PostgresStore::open(&url, &namespace()).await.unwrap();
        store.append(vec![record("before")]).await.unwrap();
        store.witness(size, root);
        store.append(vec![record("after")]).await.map_err(|error| error.to_string())
    };
    told(size, frontier.root()).await.unwrap();
    let refused = told(size + 100, Digest::of(b"unseen")).await.unwrap_err();
    assert!(refused.contains("is an older state"), "{refused}");
    let refused = told(size, Digest::of(b"another")).await.unwrap_err();
    assert!(refused.contains("another history"), "{refused}");
}
