//! A home moves into PostgreSQL, works on there, and comes back: with the real binary, and killed on the way.

use std::fs;
use std::process::Stdio;

use orbit_testkit::cluster::{TestDatabase, blocking, connect};
use serde_json::{Value, json};

use crate::home::{Answer, Home, until};

const FILES: &str = "listen: { address: \"127.0.0.1:0\" }\nlimits: { drain: 10s }\n";

struct Mover {
    home: Home,
    database: TestDatabase,
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
        Self { home, database }
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
        self.home.write("orbit.yaml", &format!("{FILES}storage: {{ backend: {backend} }}\n"));
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
