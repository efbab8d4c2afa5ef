//! A halt stops every node on the database, wherever it was said.

use serde_json::Value;

use crate::home::until;

use super::kit::World;

#[test]
fn a_halt_said_at_one_node_stops_the_others_and_so_does_its_end() {
    for namespace in [&[][..], &["-n", "lab"]] {
        let mut world = World::new(2, 20);
        world.hold();
        // The one whose programs wait is alone at first, so that it has something under way.
        let alone = world.victim();
        alone.serving = Some(alone.home.serve());
        assert_eq!(world.victim().home.run(&["run", "--no-wait"]).code, 0);
        until("a program to be under way", || world.holds());
        let witness = &world.nodes[1].home;
        // Nobody serves there: the command opens the store itself.
        let halted = witness.json(&[&["halt"], namespace].concat(), 0);
        assert_eq!(halted["changed"], true);
        let victim = &world.nodes[0].home;
        until("its programs to be ended", || {
            let status = victim.run(&["status", "--json"]);
            let told: Value = serde_json::from_str(&status.stdout).unwrap();
            let lab = &told["namespaces"][0];
            lab["closed"].is_string() && lab["running"] == 0
        });
        assert_eq!(victim.run(&["run", "--no-wait"]).code, 4);
        let kinds = victim.kinds();
        assert!(kinds.contains(&"step_interrupted".to_owned()), "{kinds:?}");
        assert_eq!(witness.json(&[&["resume"], namespace].concat(), 0)["changed"], true);
        world.let_go();
        let victim = &world.nodes[0].home;
        until("every run to succeed", || {
            let runs = victim.json(&["runs", "list", "--limit", "1000"], 0);
            let runs = runs["items"].as_array().unwrap();
            !runs.is_empty() && runs.iter().all(|run| run["outcome"] == "succeeded")
        });
        assert_eq!(world.nodes[0].serving.take().unwrap().stop(), 0);
    }
}
