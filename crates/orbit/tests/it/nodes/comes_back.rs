//! A node that is killed and comes back at once goes on at once, and a copy of its home takes nothing from it.

use std::process::Command;
use std::time::Instant;

use super::kit::{VICTIM, World};
use super::verdict::word;
use crate::home::{Answer, until};

/// How many members there are of the victim's name, as text.
const MEMBERS: &str = "SELECT count(*)::text FROM nodes";

#[test]
fn a_node_that_was_killed_waits_for_no_lease_of_its_own() {
    let mut world = World::new(1, 20);
    world.serve();
    world.hold();
    let home = &world.nodes[0].home;
    assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    until("a run to be at work", || {
        world.ask("SELECT count(*)::text FROM runs WHERE state = 'working'") != "0"
    });
    world.nodes[0].serving.take().unwrap().kill();
    world.let_go();
    let killed = Instant::now();
    world.serve();
    let home = &world.nodes[0].home;
    let records = home.records();
    let started: Vec<_> = records.iter().filter(|record| record["kind"] == "node_started").collect();
    assert_eq!(started.len(), 2);
    assert!(started[1]["body"]["recovered"]["steps_interrupted"].as_u64() > Some(0), "{}", started[1]);
    assert_eq!(world.ask(MEMBERS), "1", "the former one is none any more");
    until("every run to finish", || world.receiver.requests().len() >= world.runs());
    let taken = home.records().iter().filter(|record| word(&record["kind"]) == "node_taken_over").count();
    assert_eq!(taken, 0);
    eprintln!(
        "killed with runs at work: back, and all {} runs done, {:.1} s later",
        world.runs(),
        killed.elapsed().as_secs_f64()
    );
    assert_eq!(world.nodes[0].serving.take().unwrap().stop(), 0);
}

#[test]
fn a_copy_of_a_home_ends_no_lease_of_the_original() {
    let mut world = World::new(1, 40);
    world.serve();
    let home = &world.nodes[0].home;
    assert!(home.path("data/lab/incarnation.json").exists());
    let elsewhere = tempfile::tempdir().unwrap();
    let whole = format!("{}/.", home.root().display());
    assert!(Command::new("cp").arg("-a").arg(whole).arg(elsewhere.path()).status().unwrap().success());
    _ = std::fs::remove_file(elsewhere.path().join("run/orbit.sock"));
    // One command joins as a node, of the same name, and leaves.
    let answer = Answer::of(home.command_at(elsewhere.path(), &["run"]).output().unwrap());
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(world.ask(MEMBERS), "1");
    assert_eq!(world.ask(&format!("SELECT min(epoch)::text FROM nodes WHERE node = '{VICTIM}'")), "1");
    assert_eq!(home.run(&["run"]).code, 0);
    let log = world.nodes[0].serving.as_ref().unwrap().log();
    assert!(!log.contains("taken over"), "{log}");
    assert_eq!(world.nodes[0].serving.take().unwrap().stop(), 0);
}
