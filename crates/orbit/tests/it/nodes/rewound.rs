//! The database fails over to an older state: a node refuses it, says so, and goes on by itself when the right one is back.

use orbit_testkit::cluster::{Session, blocking};
use orbit_testkit::proxy::Way;
use serde_json::Value;

use super::kit::World;
use crate::home::{Home, until};

/// The words of the refusal, and of its hint.
const REFUSAL: &str = "it is an older state of it";
const HINT: &str = "bring back the server that has everything";

fn run(home: &Home) {
    let answer = home.run(&["run"]);
    assert_eq!(answer.code, 0, "{answer:?}");
}

/// Nobody may be connected to the database while it is copied.
fn copy(world: &World) -> String {
    world.proxy.set(Way::Refused);
    world.proxy.cut();
    let older = blocking(world.database.copy());
    world.proxy.set(Way::Open);
    older
}

/// Everything that a node could have changed.
fn fingerprint(world: &World, name: &str) -> String {
    let rows = |table: &str| {
        format!("(SELECT coalesce(string_agg(t::text, '|' ORDER BY t::text), '') FROM {table} t)")
    };
    let tables = [
        "store",
        "nodes",
        "cycles",
        "runs",
        "deliveries",
        "log_records",
        "log_pending",
        "log_nodes",
        "log_checkpoints",
    ];
    let sql = format!("SELECT {}", tables.map(rows).join(" || '#' || "));
    let owner = world.database.owner_of(name);
    Session::new(&owner).ask(&sql)
}

/// Everything is signed, and so copied to the anchor: nothing that was acknowledged is without a position.
fn is_signed(home: &Home) -> bool {
    let status: Value = serde_json::from_str(&home.run(&["status", "--json"]).stdout).unwrap_or_default();
    let log = &status["namespaces"][0]["log"];
    log["size"].is_u64()
        && log["size"] == log["checkpoint"]["size"]
        && log["anchor"]["number"] == log["checkpoint"]["number"]
}

#[test]
fn an_older_state_is_refused_while_running_and_at_a_start() {
    let mut world = World::new(1, 100);
    let anchor = tempfile::tempdir().unwrap();
    let home = &world.nodes[0].home;
    let node = std::fs::read_to_string(home.path("orbit.yaml")).unwrap();
    home.write("orbit.yaml", &format!("{node}log: {{ anchor: {} }}\n", anchor.path().display()));
    world.serve();
    run(&world.nodes[0].home);
    let older = copy(&world);
    until("the node to go on", || world.nodes[0].home.run(&["run"]).code == 0);
    until("everything to be signed", || is_signed(&world.nodes[0].home));
    let acknowledged = world.nodes[0].home.records();
    let before = fingerprint(&world, &older);

    world.proxy.lead_to(&older);
    let home = &world.nodes[0].home;
    let serving = world.nodes[0].serving.as_ref().unwrap();
    until("the node to say so", || serving.log().contains(REFUSAL));
    let refused = home.run(&["run", "--no-wait"]);
    assert!(
        refused.code == 1 && refused.stderr.contains(REFUSAL) && refused.stderr.contains(HINT),
        "{refused:?}"
    );
    let status = home.run(&["status"]);
    assert!(
        status.code == 1 && status.stderr.contains(REFUSAL) && status.stderr.contains(HINT),
        "{status:?}"
    );
    let doctor = home.run(&["doctor"]);
    assert!(doctor.stdout.contains(REFUSAL) && doctor.stdout.contains(HINT), "{doctor:?}");
    assert_eq!(fingerprint(&world, &older), before, "nothing is written there");

    world.proxy.lead_to(world.database.name());
    until("the node to go on by itself", || world.nodes[0].home.run(&["run"]).code == 0);
    let home = &world.nodes[0].home;
    let after = home.records();
    assert_eq!(after[..acknowledged.len()], acknowledged[..], "nothing acknowledged is lost");
    until("everything to be signed", || is_signed(home));
    assert_eq!(world.nodes[0].serving.take().unwrap().stop(), 0);

    // A process that has seen nothing itself believes the anchor.
    world.proxy.lead_to(&older);
    let home = &world.nodes[0].home;
    for command in ["serve", "run"] {
        let refused = home.run(&[command]);
        assert!(
            refused.code == 1 && refused.stderr.contains(REFUSAL) && refused.stderr.contains(HINT),
            "{refused:?}"
        );
    }
    assert_eq!(fingerprint(&world, &older), before, "nor by a start");
    world.proxy.lead_to(world.database.name());
    run(home);
}
