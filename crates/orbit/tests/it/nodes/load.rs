//! The load, and what happens to a node in the middle of it.

use std::time::Instant;

use super::kit::{VICTIM, World};
use super::verdict;
use crate::home::until;

/// Runs of the form that is always played, and of the drill.
const FEW: usize = 120;
const MANY: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// `kill -9`; it does not come back.
    Killed,
    /// The network to the database is gone, and comes back after the takeover.
    CutOff,
}

#[test]
fn one_of_two_is_killed() {
    play(2, FEW, Fate::Killed);
}

#[test]
fn one_of_three_is_cut_off() {
    play(3, FEW, Fate::CutOff);
}

#[test]
#[ignore = "make drill-nodes"]
fn drill_one_of_two_is_killed() {
    play(2, MANY, Fate::Killed);
}

#[test]
#[ignore = "make drill-nodes"]
fn drill_one_of_three_is_killed() {
    play(3, MANY, Fate::Killed);
}

#[test]
#[ignore = "make drill-nodes"]
fn drill_one_of_two_is_cut_off() {
    play(2, MANY, Fate::CutOff);
}

#[test]
#[ignore = "make drill-nodes"]
fn drill_one_of_three_is_cut_off() {
    play(3, MANY, Fate::CutOff);
}

fn play(nodes: usize, runs: usize, fate: Fate) {
    let mut world = World::new(nodes, runs);
    let runs = world.runs();
    world.serve();
    let began = Instant::now();
    // Half of the load before, and half after: whatever happens, happens in the middle.
    fire(&world, 0, world.cycles / 2, 0);
    all_arrive(&world, || world.receiver.requests().len() > runs / 4 - 8);
    world.hold();
    // Who claims a run is not for the test to say: there is more to do until one of them is the victim's.
    let mut next = world.cycles / 2;
    while !world.holds() && next < world.cycles {
        fire(&world, next, next + 1, 0);
        next += 1;
    }
    until("its programs to be held", || world.holds());
    let epoch = world.ask(&format!("SELECT epoch::text FROM nodes WHERE node = '{VICTIM}'"));
    let before = world.receiver.requests().len();
    match fate {
        Fate::Killed => world.victim().serving.take().unwrap().kill(),
        Fate::CutOff => world.proxy.set(orbit_testkit::proxy::Way::Held),
    }
    fire(&world, next, world.cycles, 1);
    ends_its_work_before_it_is_taken_over(&world, &epoch);
    world.let_go();
    world.proxy.set(orbit_testkit::proxy::Way::Open);
    all_arrive(&world, || finished(&world));
    let took = began.elapsed();
    let records = world.witness().records();
    let taken = verdict::taken_over(&records);
    let wrong = verdict::judge(&world, &records);
    eprintln!(
        "{nodes} nodes, {runs} runs, {fate:?} after {before} were delivered: {} records in {:.1} s; taken over {} ms after its lease had ended, {}; {} violations",
        records.len(),
        took.as_secs_f64(),
        taken["ended_ms"],
        taken["recovered"],
        wrong.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(taken["recovered"]["steps_interrupted"].as_u64() > Some(0), "{taken}");
    if fate == Fate::CutOff {
        let log = world.nodes[0].serving.as_ref().unwrap().log();
        assert!(log.contains("work under way is ended") && log.contains("has joined anew"), "{log}");
    }
    for node in &mut world.nodes {
        if let Some(serving) = node.serving.take() {
            assert_eq!(serving.stop(), 0, "{}", node.name);
        }
        assert!(node.home.processes().is_empty(), "left behind on {}", node.name);
    }
}

/// Fires these cycles at the nodes in turn, from a certain one on.
fn fire(world: &World, from: usize, to: usize, first: usize) {
    let nodes = &world.nodes[first..];
    for number in from..to {
        let (node, key) = (&nodes[number % nodes.len()], format!("key-{number}"));
        let answer = node.home.run(&["run", "--no-wait", "--key", &key]);
        assert_eq!(answer.code, 0, "{answer:?}");
    }
}

/// How many programs of the victim wait.
fn held(world: &World) -> usize {
    let victim = &world.nodes[0];
    let is_held = |pid: &u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.starts_with(b"sh\0") && arguments.windows(4).any(|at| at == b"case")
    };
    victim.home.processes().iter().filter(|pid| is_held(pid)).count()
}

/// Its programs are held, so that they are there until somebody ends them: its supervisors if it was killed, and else itself.
fn ends_its_work_before_it_is_taken_over(world: &World, epoch: &str) {
    let is_gone = format!(
        "SELECT (NOT EXISTS (SELECT 1 FROM nodes WHERE epoch = {epoch} AND node = '{VICTIM}'))::text"
    );
    until("its work to end", || {
        let is_taken_over = world.ask(&is_gone) == "true";
        let held = held(world);
        assert!(held == 0 || !is_taken_over, "{held} programs of a node that is taken over are at work");
        held == 0
    });
    until("the takeover", || world.ask(&is_gone) == "true");
}

/// Waits as long as there is progress: how long so many runs take says nothing.
fn all_arrive(world: &World, is_so: impl Fn() -> bool) {
    while !is_so() {
        let before = world.receiver.requests().len();
        until("something to arrive", || world.receiver.requests().len() > before || is_so());
    }
}

fn finished(world: &World) -> bool {
    let counts = "SELECT count(*) FILTER (WHERE state = 'finished') || ' of ' || count(*) FROM cycles";
    world.ask(counts) == format!("{0} of {0}", world.cycles)
}
