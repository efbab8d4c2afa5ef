//! A home moves into PostgreSQL, works on there, and comes back: with the real binary, and killed on the way.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use orbit_testkit::cluster::{TestDatabase, blocking, connect};
use serde_json::{Value, json};

use crate::home::{Answer, Home, until};
use crate::s3_server;

const FILES: &str = "listen: { address: \"127.0.0.1:0\" }\nlimits: { drain: 10s }\n";

struct Mover {
    home: Home,
    database: TestDatabase,
    /// What the node's document says besides where rows are.
    node: String,
}

impl Mover {
    /// A home on files that knows where the database is, and has run so many cycles.
    fn new(items: usize, runs: usize) -> Self {
        let (home, database) = (Home::on_files().furnished(items), blocking(TestDatabase::migrated()));
        let known = fs::read_to_string(home.path(".env")).unwrap();
        home.write(".env", &format!("{known}ORBIT_DATABASE_URL='{}'\n", database.runtime()));
        for _ in 0..runs {
            home.json(&["run"], 0);
        }
        Self { home, database, node: FILES.to_owned() }
    }

    /// The same, whose second step makes 200 KiB of every item.
    fn with_large_payloads(items: usize, artifacts: &str) -> Self {
        let mover = Self { node: format!("{FILES}{artifacts}"), ..Self::new(items, 0) };
        mover.says("sqlite");
        mover.home.processor("two", "cat; seq 40000", "");
        mover
    }

    /// Every payload that the runs name, byte for byte: small ones are rows, larger ones files or objects.
    fn payloads(&self) -> BTreeMap<String, Vec<u8>> {
        let runs = self.home.json(&["runs", "list"], 0);
        let mut payloads = BTreeMap::new();
        for run in runs["items"].as_array().unwrap() {
            let shown = self.home.json(&["runs", "show", run["run_id"].as_str().unwrap()], 0);
            for digest in shown["steps"].as_array().unwrap().iter().filter_map(|step| step["digest"].as_str())
            {
                let got = self.home.command(&["artifacts", "get", digest]).output().unwrap();
                assert!(got.status.success(), "{got:?}");
                payloads.insert(digest.to_owned(), got.stdout);
            }
        }
        payloads
    }

    /// Everything is there and is what it was, by reading all of it.
    fn is_whole(&self, before: &BTreeMap<String, Vec<u8>>) {
        let verified = self.home.json(&["log", "verify"], 0);
        let items = verified["items"].as_array().unwrap();
        let read: u64 = items.iter().filter_map(|one| one["report"]["payloads"].as_u64()).sum();
        assert!(read >= before.len() as u64, "{verified}");
        let payloads = self.payloads();
        assert!(before.iter().all(|(digest, bytes)| payloads.get(digest) == Some(bytes)));
    }

    fn command(&self, to: &str) -> std::process::Command {
        let mut command = self.home.command(&["migrate-store", "--to", to, "--json"]);
        command.env("ORBIT_DATABASE_OWNER_URL", self.database.owner());
        command
    }

    fn answer(&self, to: &str) -> Answer {
        Answer::of(self.command(to).output().unwrap())
    }

    fn moved(&self, to: &str) -> Value {
        let answer = self.answer(to);
        assert_eq!(answer.code, 0, "{answer:?}");
        serde_json::from_str(&answer.stdout).unwrap()
    }

    /// The home says that its rows are there.
    fn says(&self, backend: &str) {
        self.home.write("orbit.yaml", &format!("{}storage: {{ backend: {backend} }}\n", self.node));
    }

    fn refused(&self, args: &[&str], words: &str) {
        let answer = self.home.run(args);
        assert!(answer.code != 0 && answer.stderr.contains(words), "{answer:?}");
    }

    fn out(&self, args: &[&str]) -> String {
        let answer = self.home.run(args);
        assert_eq!(answer.code, 0, "{args:?}: {answer:?}");
        answer.stdout
    }

    /// Begins a move, kills it where it waits for a table that this lock holds up, and lets go of the table.
    fn killed(&self, to: &str, lock: &str) {
        let owner = self.database.owner();
        blocking(async {
            let client = connect(&owner).await;
            client.batch_execute(&format!("BEGIN; LOCK TABLE runs IN {lock} MODE")).await.unwrap();
            let mut command = self.command(to);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let waits =
                "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'runs'::regclass)";
            until("the move to wait", || {
                assert!(child.try_wait().unwrap().is_none(), "the move ended");
                blocking(async { connect(&owner).await.query_one(waits, &[]).await.unwrap().get(0) })
            });
            child.kill().unwrap();
            child.wait().unwrap();
            client.batch_execute("ROLLBACK").await.unwrap();
        });
    }
}

fn of<'a>(answer: &'a Value, namespace: &str) -> &'a Value {
    let items = answer["items"].as_array().unwrap();
    items.iter().find(|item| item["namespace"] == namespace).unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn a_home_moves_works_on_and_comes_back() {
    let mover = Mover::new(6, 2);
    let home = &mover.home;
    let export = mover.out(&["log", "export", "-n", "lab"]);
    let file = |name: &str| home.path(name).to_str().unwrap().to_owned();
    let (proof, vkey, kept) = (file("kept.proof"), file("kept.key"), file("kept.note"));
    mover.out(&["log", "prove", "5", "-n", "lab", "--out", &proof]);
    fs::write(&vkey, mover.out(&["log", "checkpoint", "--key", "-n", "lab"])).unwrap();
    let note = home.json(&["log", "checkpoint", "-n", "lab"], 0)["note"].as_str().unwrap().to_owned();
    fs::write(&kept, note).unwrap();

    let there = mover.moved("postgres");
    assert_eq!(there["items"].as_array().unwrap().len(), 2, "{there}");
    let lab = of(&there, "lab");
    assert_eq!(lab["size"], export.lines().count(), "{there}");
    assert!(lab["rows"] == lab["copied"] && lab["before"] == false, "{there}");
    assert!(there["to_do"][0].as_str().unwrap().contains("backend: postgres"), "{there}");
    assert!(there["payloads"].as_str().unwrap().contains("blobs"), "{there}");
    mover.refused(&["run"], "it lives in the other backend now");
    assert_eq!(of(&mover.moved("postgres"), "lab")["before"], true, "once more is no harm");

    mover.says("postgres");
    assert_eq!(home.json(&["status"], 0)["storage"], "postgres");
    assert_eq!(mover.out(&["log", "export", "-n", "lab"]), export, "every record as it was hashed");
    assert_eq!(mover.out(&["log", "prove", "5", "-n", "lab"]), fs::read_to_string(&proof).unwrap());
    for _ in 0..2 {
        home.json(&["run"], 0);
    }

    let back = mover.moved("sqlite");
    assert_eq!(back["aside"].as_array().unwrap().len(), 2, "{back}");
    assert!(home.path("data/lab/orbit.db.gone").exists() && home.path("data/lab/orbit.db").exists());
    mover.refused(&["run"], "it lives in the other backend now");
    mover.says("sqlite");
    for _ in 0..2 {
        home.json(&["run"], 0);
    }
    assert_eq!(home.run(&["run"]).code, 5, "no item twice, wherever it was chosen");
    assert_eq!(home.json(&["runs", "list"], 0)["items"].as_array().unwrap().len(), 6);
    let verified = home.json(&["log", "verify", "-n", "lab", "--against", &kept, "--key", &vkey], 0);
    assert_eq!(verified["items"][0]["report"]["outside"], 1, "{verified}");
    home.json(&["log", "verify"], 0);
    mover.out(&["log", "verify", "--proof", &proof, "--key", &vkey]);
    assert!(mover.out(&["log", "export", "-n", "lab"]).starts_with(&export));

    let again = mover.answer("postgres");
    assert!(again.code == 1 && again.stderr.contains("still holds what it was"), "{again:?}");
    assert!(again.stderr.contains("hint: move into another database"), "{again:?}");
}

#[test]
fn a_move_that_is_killed_goes_on() {
    let mover = Mover::new(4, 2);
    let home = &mover.home;
    let records = home.records().len();
    mover.killed("postgres", "SHARE");
    mover.says("postgres");
    mover.refused(&["run"], "it is arriving");
    mover.says("sqlite");
    assert_eq!(home.records().len(), records, "it is where it was");
    let there = mover.moved("postgres");
    let lab = of(&there, "lab");
    assert!(lab["copied"].as_u64() < lab["rows"].as_u64() && lab["size"] == records, "{there}");
    mover.says("postgres");
    home.json(&["run"], 0);
    let records = home.records().len();

    mover.killed("sqlite", "ACCESS EXCLUSIVE");
    mover.says("sqlite");
    mover.refused(&["run"], "it is arriving");
    let back = mover.moved("sqlite");
    let lab = of(&back, "lab");
    assert!(lab["copied"].as_u64() < lab["rows"].as_u64() && lab["size"] == records, "{back}");
    home.json(&["run"], 0);
    home.json(&["log", "verify"], 0);
}

/// There and back, with a run on each side, one of which goes on from what a step made on the other.
fn moves_with_its_payloads(mover: &Mover) {
    let home = &mover.home;
    let run = home.json(&["run"], 0)["runs"][0]["run_id"].as_str().unwrap().to_owned();
    let before = mover.payloads();
    assert!(
        before.values().any(|bytes| bytes.len() > 200_000) && before.values().any(|bytes| bytes.len() < 1000)
    );
    mover.killed("postgres", "SHARE");
    mover.moved("postgres");
    mover.says("postgres");
    mover.is_whole(&before);
    home.json(&["runs", "retry", &run, "--from", "tier3"], 0);
    home.json(&["run"], 0);
    let there = mover.payloads();
    assert!(there.len() > before.len());
    mover.moved("sqlite");
    mover.says("sqlite");
    mover.is_whole(&there);
    home.json(&["runs", "retry", &run, "--from", "tier3"], 0);
    home.json(&["run"], 0);
    home.json(&["log", "verify"], 0);
}

#[test]
fn payloads_are_whole_on_both_sides() {
    let mover = Mover::with_large_payloads(4, "");
    moves_with_its_payloads(&mover);
    let files = fs::read_dir(mover.home.path("data/lab/blobs")).unwrap().count();
    assert!(files > 1, "larger ones are files of the home on both sides");
}

#[test]
fn payloads_in_a_bucket_stay_the_homes() {
    let bucket = s3_server::bucket();
    let artifacts = format!(
        "artifacts: {{ backend: s3, bucket: {bucket}, endpoint: \"http://{}\", prefix: home }}\n",
        s3_server::address()
    );
    let mover = Mover::with_large_payloads(4, &artifacts);
    let known = fs::read_to_string(mover.home.path(".env")).unwrap();
    let keys = "ORBIT_S3_ACCESS_KEY_ID=id\nORBIT_S3_SECRET_ACCESS_KEY=secret\n";
    mover.home.write(".env", &format!("{known}{keys}"));
    moves_with_its_payloads(&mover);
    fs::remove_dir_all(mover.home.path("data/lab/blobs")).unwrap();
    mover.home.json(&["log", "verify"], 0);
}

#[test]
fn nothing_is_moved_that_is_served_or_would_be_mixed() {
    let mover = Mover::new(2, 1);
    let home = &mover.home;
    let unset = home.run(&["migrate-store", "--to", "postgres"]);
    assert!(unset.code == 2 && unset.stderr.contains("`ORBIT_DATABASE_OWNER_URL` is not set"), "{unset:?}");
    assert_eq!(mover.answer("sqlite").code, 5, "there is nothing there");
    let serving = home.serve();
    let refused = mover.answer("postgres");
    assert!(refused.code == 1 && refused.stderr.contains("hint: stop it first"), "{refused:?}");
    assert_eq!(serving.stop(), 0);
    // Somebody began a home of its own there.
    mover.says("postgres");
    home.json(&["run"], 0);
    mover.says("sqlite");
    let refused = mover.answer("postgres");
    assert!(refused.code == 1 && refused.stderr.contains("holds another store already"), "{refused:?}");
    let served = home.json(&["run"], 0);
    assert_eq!(served["runs"].as_array().map(Vec::len), Some(1), "and nothing has changed: {served}");
    assert_eq!(json!(home.records().len()), home.json(&["status"], 0)["namespaces"][0]["log"]["size"]);
}
