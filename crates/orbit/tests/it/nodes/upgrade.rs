//! An upgrade over a migration: it waits until no node works, and a node that meets a newer schema ends and leaves it alone.

use orbit_testkit::cluster::{Session, blocking, connect};

use super::kit::World;
use crate::home::{Answer, until};

/// The newest migration again, as one that this binary does not know.
const NEXT: &str =
    "INSERT INTO migrations (number, checksum) SELECT 3, checksum FROM migrations WHERE number = 2";
/// As if it were to come.
const BEFORE: &str =
    "CREATE TABLE kept AS SELECT * FROM migrations WHERE number = 2; DELETE FROM migrations WHERE number = 2";
const AFTER: &str = "INSERT INTO migrations TABLE kept; DROP TABLE kept";

#[test]
fn a_schema_changes_while_nobody_works_with_it() {
    let mut world = World::new(2, 20);
    world.hold();
    let first = world.victim();
    first.serving = Some(first.home.serve());
    assert_eq!(first.home.run(&["run", "--no-wait"]).code, 0);
    until("a program to be under way", || world.holds());
    let second = &mut world.nodes[1];
    second.serving = Some(second.home.serve());
    let owner = world.database.owner();
    let change = |sql: &str| blocking(async { connect(&owner).await.batch_execute(sql).await.unwrap() });

    change(BEFORE);
    let migrate = |args: &[&str]| {
        let mut command = world.nodes[0].home.command(&[&["database", "migrate"], args].concat());
        Answer::of(command.env("ORBIT_DATABASE_OWNER_URL", &owner).output().unwrap())
    };
    let refused = migrate(&[]);
    let said =
        |text: &str, node: &str| text.contains(&format!("`{node}` (version {}", env!("CARGO_PKG_VERSION")));
    assert!(
        refused.code == 1 && refused.stderr.contains("its schema stays 1 while nodes work with it"),
        "{refused:?}"
    );
    assert!(said(&refused.stderr, "north") && said(&refused.stderr, "south"), "{refused:?}");
    assert!(refused.stderr.contains("hint: stop these nodes"), "{refused:?}");
    let looked = migrate(&["--dry-run"]);
    assert!(looked.code == 0 && said(&looked.stdout, "south"), "{looked:?}");
    change(AFTER);

    change(NEXT);
    for node in &mut world.nodes {
        let mut serving = node.serving.take().unwrap();
        assert_eq!(serving.wait(), 1);
        let log = serving.log();
        assert!(log.contains("has schema 3, and this binary knows up to 2: this node has stopped"), "{log}");
        assert!(log.contains("hint: start the newer `orbit`"), "{log}");
        let refused = node.home.run(&["serve"]);
        assert!(refused.code == 1 && refused.stderr.contains("this binary knows up to 2"), "{refused:?}");
        assert!(node.home.processes().is_empty(), "what was under way is ended");
    }
    // What says that a node stops was not written, nor that it has left.
    let owner = Session::new(&world.database.owner());
    assert_eq!(owner.ask("SELECT count(*)::text FROM nodes WHERE namespace = 'lab'"), "2");
    let stops = "SELECT (SELECT count(*) FROM log_records WHERE header LIKE '%node_stopped%') + (SELECT count(*) FROM log_pending WHERE header LIKE '%node_stopped%')";
    assert_eq!(owner.ask(&format!("SELECT ({stops})::text")), "0");
    change("DELETE FROM migrations WHERE number = 3");

    world.let_go();
    let node = &mut world.nodes[0];
    node.serving = Some(node.home.serve());
    let home = &world.nodes[0].home;
    until("every run to succeed", || {
        let runs = home.json(&["runs", "list", "--limit", "1000"], 0);
        let runs = runs["items"].as_array().unwrap();
        !runs.is_empty() && runs.iter().all(|run| run["outcome"] == "succeeded")
    });
    home.json(&["log", "verify"], 0);
    assert_eq!(world.nodes[0].serving.take().unwrap().stop(), 0);
}
