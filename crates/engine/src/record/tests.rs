//! The sequencer over a store in memory, a clock that is set by hand, and an anchor in a temporary folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use orbit_core::config::NamespaceName;
use orbit_core::record::{Begin, Kind, Record, Seed, Seeds, Signer, Subject};
use orbit_store::Store;
use orbit_store::contract::log::StoredCheckpoint;
use orbit_store::contract::record::RecordFilter;
use orbit_testkit::cluster::TestDatabase;
use serde_json::{Value, json};

use super::{Sequencer, begin};
use crate::clock::Clock;
use crate::service::Service;

const ORIGIN: &str = "orbit/lab/0123456789abcdef";

struct Hand(Mutex<i64>);

impl Hand {
    fn set(&self, milliseconds: i64) {
        *self.0.lock().unwrap() = milliseconds;
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + *self.0.lock().unwrap()).unwrap()
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn random(&self) -> [u8; 32] {
        [9; 32]
    }
}

struct Desk {
    store: Arc<dyn Store>,
    clock: Arc<Hand>,
    folder: tempfile::TempDir,
    _database: Option<TestDatabase>,
}

impl Desk {
    async fn new() -> Self {
        let (store, database) = orbit_testkit::backend::store(&lab()).await;
        let desk = Self {
            store,
            clock: Arc::new(Hand(Mutex::new(0))),
            folder: tempfile::tempdir().unwrap(),
            _database: database,
        };
        desk.store.begin_signing(Begin::First(signer()), desk.clock.now()).await.unwrap();
        desk
    }

    fn anchor(&self) -> PathBuf {
        self.folder.path().join("anchor")
    }

    fn copies(&self) -> PathBuf {
        self.anchor().join("lab/0123456789abcdef")
    }

    fn sequencer(&self) -> Sequencer {
        let anchor = self.anchor();
        let log = (lab(), Arc::clone(&self.store));
        Sequencer::new(log, signer(), Arc::clone(&self.clock) as _, Box::new(move || Some(anchor.clone())))
    }

    async fn grow(&self) {
        let record = Record::fact(self.clock.now(), Kind::NodeStopped, Subject::default(), json!({}));
        self.store.append(vec![record]).await.unwrap();
    }

    /// So many checkpoints of a log that grows.
    async fn checkpoints(&self, count: usize) -> Vec<StoredCheckpoint> {
        for _ in 0..count {
            self.grow().await;
            self.store.checkpoint(&signer()).await.unwrap().unwrap();
        }
        self.made().await
    }

    async fn made(&self) -> Vec<StoredCheckpoint> {
        self.store.checkpoints(0, u32::MAX).await.unwrap()
    }

    async fn alarms(&self) -> Vec<Value> {
        let all = self.store.records(RecordFilter::default(), u32::MAX).await.unwrap();
        let alarms = all.into_iter().filter(|record| record.kind == "anchor_conflict");
        alarms.map(|record| record.body).collect()
    }
}

fn lab() -> NamespaceName {
    NamespaceName::parse("lab").unwrap()
}

fn signer() -> Signer {
    Seed::new([1; 32]).signer("lab", ORIGIN).unwrap()
}

fn note(folder: &Path, number: usize) -> String {
    fs::read_to_string(folder.join(format!("0/{number}.note"))).unwrap()
}

#[tokio::test]
async fn a_log_that_grows_has_a_checkpoint_a_second_and_no_other() {
    let desk = Desk::new().await;
    let sequencer = desk.sequencer();
    let check = async |milliseconds: i64, grows: bool, expected: usize| {
        desk.clock.set(milliseconds);
        if grows {
            desk.grow().await;
        }
        assert_eq!(sequencer.turn().await.unwrap().done, 0);
        assert_eq!(desk.made().await.len(), expected, "after {milliseconds} ms");
    };
    check(0, false, 1).await;
    check(10, true, 1).await;
    check(999, true, 1).await;
    check(1000, false, 2).await;
    check(60_000, false, 2).await;
    check(60_001, true, 3).await;
    // A clock that was set back holds nothing up.
    check(-5000, true, 4).await;
    desk.grow().await;
    sequencer.finish().await;
    assert_eq!(desk.made().await.len(), 5, "a node that stops does not wait");
    sequencer.finish().await;
    let made = desk.made().await;
    assert_eq!(made.len(), 5);
    for checkpoint in &made {
        assert_eq!(note(&desk.copies(), usize::try_from(checkpoint.number).unwrap()), checkpoint.note);
    }
    let anchored = sequencer.anchored().unwrap();
    assert_eq!((anchored.number, anchored.failure, anchored.conflict), (Some(4), None, None));
    assert_eq!(anchored.folder, desk.copies());
}

#[tokio::test]
async fn what_a_crash_kept_from_the_anchor_is_copied_later() {
    let desk = Desk::new().await;
    desk.checkpoints(1).await;
    desk.sequencer().turn().await.unwrap();
    // The process ended after the commit and before the copies, the last of which was begun.
    let made = desk.checkpoints(2).await;
    fs::write(desk.copies().join("0/.2.unfinished"), "orb").unwrap();
    desk.sequencer().turn().await.unwrap();
    for (number, checkpoint) in made.iter().enumerate() {
        assert_eq!(note(&desk.copies(), number), checkpoint.note);
    }
    assert!(!desk.copies().join("0/.2.unfinished").exists());
    assert_eq!(desk.alarms().await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_anchor_that_fails_is_tried_again_and_holds_nothing_up() {
    let desk = Desk::new().await;
    fs::write(desk.anchor(), "no folder").unwrap();
    let sequencer = desk.sequencer();
    sequencer.turn().await.unwrap();
    assert_eq!(desk.made().await.len(), 1, "it is made all the same");
    let anchored = sequencer.anchored().unwrap();
    assert!(anchored.failure.is_some() && anchored.number.is_none(), "{anchored:?}");
    fs::remove_file(desk.anchor()).unwrap();
    sequencer.turn().await.unwrap();
    let anchored = sequencer.anchored().unwrap();
    assert_eq!((anchored.failure, anchored.number), (None, Some(0)));
    let records = desk.store.log_state().await.unwrap().size;
    assert_eq!(records, 1, "a failed copy leaves no record, so that it does not make the log grow");
}

#[tokio::test]
async fn what_is_in_the_anchor_is_never_overwritten() {
    let desk = Desk::new().await;
    fs::create_dir_all(desk.copies().join("0")).unwrap();
    fs::write(desk.copies().join("0/1.note"), "another\n").unwrap();
    let made = desk.checkpoints(3).await;
    let sequencer = desk.sequencer();
    sequencer.turn().await.unwrap();
    assert_eq!(note(&desk.copies(), 1), "another\n");
    assert_eq!(note(&desk.copies(), 2), made[2].note, "those after it are copied");
    let alarms = desk.alarms().await;
    assert_eq!((&alarms[0]["expected"], &alarms[0]["found"]), (&json!(made[1].note), &json!("another\n")));
    assert_eq!((alarms.len(), &alarms[0]["number"]), (1, &json!(1)));
    assert!(sequencer.anchored().unwrap().conflict.unwrap().contains("number 1"));
}

#[tokio::test]
async fn an_older_state_of_the_log_is_noticed() {
    let desk = Desk::new().await;
    desk.checkpoints(1).await;
    fs::create_dir_all(desk.copies().join("0")).unwrap();
    for number in [5, 6] {
        fs::write(desk.copies().join(format!("0/{number}.note")), "newer\n").unwrap();
    }
    let sequencer = desk.sequencer();
    sequencer.turn().await.unwrap();
    let alarms = desk.alarms().await;
    assert_eq!((alarms.len(), &alarms[0]["number"], &alarms[0]["expected"]), (1, &json!(6), &Value::Null));
    desk.clock.set(1000);
    sequencer.turn().await.unwrap();
    assert_eq!(desk.alarms().await.len(), 1, "it is told once");
    assert_eq!(note(&desk.copies(), 6), "newer\n");
}

#[tokio::test]
async fn many_copies_take_several_turns() {
    let desk = Desk::new().await;
    desk.checkpoints(1).await;
    let sequencer = desk.sequencer();
    sequencer.turn().await.unwrap();
    let made = desk.checkpoints(99).await;
    let dones = [sequencer.turn().await.unwrap().done, sequencer.turn().await.unwrap().done];
    assert_eq!(dones, [64, 0]);
    assert_eq!(note(&desk.copies(), 99), made[99].note);
}

#[tokio::test]
async fn a_log_is_begun_once_and_handed_over() {
    let (store, _database) = orbit_testkit::backend::store(&lab()).await;
    let clock = Hand(Mutex::new(0));
    let seeds = |current: u8, previous: Option<u8>| Seeds {
        current: Seed::new([current; 32]),
        previous: previous.map(|previous| Seed::new([previous; 32])),
    };
    let first = begin(&*store, &lab(), &seeds(1, None), &clock).await.unwrap();
    assert_eq!(first.verifier().name(), "orbit/lab/0909090909090909");
    let again = begin(&*store, &lab(), &seeds(1, None), &clock).await.unwrap();
    assert_eq!(again.verifier(), first.verifier());
    let refused = begin(&*store, &lab(), &seeds(2, None), &clock).await.unwrap_err().to_string();
    assert!(refused.contains(&first.verifier().to_string()), "{refused}");
    assert_eq!(store.log_state().await.unwrap().size, 1);
    let second = begin(&*store, &lab(), &seeds(2, Some(1)), &clock).await.unwrap();
    assert_ne!(second.verifier(), first.verifier());
    begin(&*store, &lab(), &seeds(2, Some(1)), &clock).await.unwrap();
    assert_eq!(store.log_state().await.unwrap().size, 2);
}
