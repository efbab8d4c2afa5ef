//! Who may work when not all can: what is full holds only what needs it, and nobody is forgotten. Counts and order are asked, never times.

use std::fs;

use serde_json::Value;

use crate::home::{Home, Serving, until};

/// The home as seen from an attempt's work folder.
const ROOT: &str = "../../../../..";

/// Passes its input on once the file `go` is in the home.
fn until_go() -> String {
    format!("cat; touch {ROOT}/up-$ORBIT_RUN_ID; until [ -e {ROOT}/go ]; do sleep 0.05; done")
}

fn node(home: &Home, runs: u32) {
    let text = format!(
        "listen: {{ address: \"127.0.0.1:0\" }}\nlimits: {{ drain: 10s, runs_concurrent: {runs} }}\n"
    );
    home.write("orbit.yaml", &text);
}

/// Fires a run profile beside `serve` and does not wait.
fn fire(home: &Home, run_profile: &str, namespace: &str, key: u32) {
    let key = format!("{run_profile}-{key}");
    let answer = home.run(&["run", run_profile, "-n", namespace, "--no-wait", "--key", &key]);
    assert_eq!(answer.code, 0, "{answer:?}");
}

fn count(home: &Home, prefix: &str) -> usize {
    let names = fs::read_dir(home.root()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().starts_with(prefix)).count()
}

/// Records of a kind in a namespace, oldest first.
fn records(home: &Home, namespace: &str, kind: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().map(|record| record["position"].to_string());
        let mut args = vec!["log", "tail", "--json", "--limit", "1000", "-n", namespace];
        if let Some(after) = &after {
            args.extend(["--after", after]);
        }
        let page = home.run(&args).stdout;
        let before = all.len();
        all.extend(page.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        if all.len() == before {
            return all.into_iter().filter(|record| record["kind"] == kind).collect();
        }
    }
}

/// Waits until so many runs of a namespace are there, or are finished.
fn until_runs(home: &Home, namespace: &str, state: Option<&str>, expected: u64) {
    until("the runs", || {
        let status = home.json(&["status"], 0);
        let all = status["namespaces"].as_array().unwrap();
        let found = all.iter().find(|one| one["namespace"] == namespace).unwrap();
        let runs = found["counts"]["runs"].as_object().unwrap();
        let of_state = runs.iter().filter(|(name, _)| state.is_none_or(|state| state == *name));
        of_state.filter_map(|(_, count)| count.as_u64()).sum::<u64>() >= expected
    });
}

fn held<'a>(started: &'a Value, limit: &str) -> Option<&'a Value> {
    started["body"]["held"].as_array()?.iter().find(|held| held["limit"] == limit)
}

/// A home with a run profile `stuck`, whose first processor waits for the file `go` and is there once, beside `daily`.
fn stuck_home(runs: u32) -> (Home, Serving) {
    let home = Home::lab(60);
    node(&home, runs);
    home.processor("slow", &until_go(), "concurrency: 1\n");
    home.profile_of("stuck", 2, ["slow", "two", "three"], "");
    home.run_profile("stuck", 2, "[stuck]", "  overlap: allow\n");
    home.run_profile("daily", 1, "[plain]", "  overlap: allow\n");
    let serving = home.serve();
    (home, serving)
}

#[test]
fn a_full_processor_holds_only_what_needs_it() {
    let (home, serving) = stuck_home(2);
    (0..5).for_each(|key| fire(&home, "stuck", "lab", key));
    until("the processor to be full", || count(&home, "up-") == 1);
    until_runs(&home, "lab", None, 5);
    for key in ["a", "b", "c"] {
        assert_eq!(home.run(&["run", "daily", "--key", key]).code, 0, "a run that needs another processor");
    }
    let status = home.json(&["status"], 0);
    assert_eq!(status["permits"]["limit"], 2);
    let full = &status["namespaces"][0]["permits"]["full"][0];
    assert_eq!((&full["name"], &full["used"], &full["most"]), (&"slow".into(), &1.into(), &1.into()));
    assert!(home.run(&["status"]).stdout.contains("processor `slow` full, 1 of 1"));
    assert_eq!(count(&home, "up-"), 1);
    home.write("go", "");
    until_runs(&home, "lab", Some("finished"), 8);
    assert_eq!(count(&home, "up-"), 5);
    assert_eq!(serving.stop(), 0);
    let started = records(&home, "lab", "step_started");
    let told: Vec<_> = started.iter().filter(|one| one["body"]["waited_ms"].is_u64()).collect();
    assert_eq!(told.len(), 8, "one account a run");
    for one in &told {
        let parts = one["body"]["held"].as_array().unwrap().iter();
        assert_eq!(parts.map(|held| held["ms"].as_u64().unwrap()).sum::<u64>(), one["body"]["waited_ms"]);
    }
    let slow = |one: &&&Value| held(one, "processor").is_some_and(|held| held["name"] == "slow");
    let waited: Vec<_> = told.iter().filter(slow).collect();
    assert_eq!(waited.len(), 4, "all that waited for it, and nobody else");
    let last = held(waited[3], "processor").unwrap()["ms"].as_u64().unwrap();
    let story = home.run(&["runs", "show", waited[3]["run_id"].as_str().unwrap()]).stdout;
    assert_eq!(story.contains("for processor `slow`"), last >= 1000, "{last}: {story}");
}

#[test]
fn a_raised_limit_counts_for_runs_that_wait() {
    let (home, serving) = stuck_home(8);
    (0..3).for_each(|key| fire(&home, "stuck", "lab", key));
    until_runs(&home, "lab", None, 3);
    until("the processor to be full", || count(&home, "up-") == 1);
    home.processor("slow", &until_go(), "concurrency: 2\n");
    until("a second attempt", || count(&home, "up-") == 2);
    home.write("go", "");
    until_runs(&home, "lab", Some("finished"), 3);
    assert_eq!(serving.stop(), 0);
}

/// Notes how many of it run at once, and fails if those are more than so many.
fn crowded(most: u32) -> String {
    format!(
        "cat; touch {ROOT}/in-$ORBIT_RUN_ID; sleep 0.1; n=$(ls {ROOT} | grep -c '^in-'); rm {ROOT}/in-$ORBIT_RUN_ID; [ $n -le {most} ]"
    )
}

#[test]
fn profiles_and_run_profiles_have_limits() {
    let home = Home::lab(60);
    node(&home, 16);
    home.processor("one", &crowded(2), "concurrency: 16\n");
    let labels: Vec<_> = (1..=6).map(|number| format!("p-{number}")).collect();
    (11..).zip(&labels).for_each(|(number, label)| home.profile(label, number, ""));
    home.run_profile("daily", 1, &format!("[{}]", labels.join(", ")), "  concurrency: 2\n");
    assert_eq!(home.run(&["run", "daily"]).code, 0, "no more than two of the run profile");
    let started = records(&home, "lab", "step_started");
    assert!(started.iter().any(|one| held(one, "run_profile").is_some()), "{started:?}");

    home.processor("one", &crowded(1), "concurrency: 16\n");
    home.profile("p-1", 11, "concurrency: 1\n");
    home.run_profile("daily", 1, "[p-1]", "  overlap: allow\n");
    let serving = home.serve();
    (0..4).for_each(|key| fire(&home, "daily", "lab", key));
    until_runs(&home, "lab", Some("finished"), 10);
    let runs = home.json(&["runs", "list"], 0);
    assert!(runs["items"].as_array().unwrap().iter().all(|run| run["outcome"] == "succeeded"), "{runs}");
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_higher_priority_starts_first_and_then_the_older() {
    let (home, serving) = stuck_home(1);
    for (number, label, priority) in
        [(3, "low", "0.1"), (4, "high", "0.9"), (5, "mid-a", "0.5"), (6, "mid-b", "0.5")]
    {
        home.profile(label, number, &format!("  synthesis: {{ priority: {priority} }}\n"));
    }
    home.run_profile("mixed", 3, "[low, high, mid-a, mid-b]", "");
    fire(&home, "stuck", "lab", 0);
    until("the only permit to be taken", || count(&home, "up-") == 1);
    until("the new run profile", || home.run(&["run", "mixed", "--no-wait", "--key", "1"]).code == 0);
    until_runs(&home, "lab", None, 5);
    home.write("go", "");
    until_runs(&home, "lab", Some("finished"), 5);
    assert_eq!(serving.stop(), 0);
    let admitted = records(&home, "lab", "run_admitted");
    let label = |run: &Value| {
        let found = admitted.iter().find(|one| one["run_id"] == run["run_id"]).unwrap();
        found["body"]["profile"].as_str().unwrap().to_owned()
    };
    let started = records(&home, "lab", "step_started");
    let first: Vec<_> = started.iter().filter(|one| one["body"]["waited_ms"].is_u64()).collect();
    assert_eq!(
        first.iter().map(|one| label(one)).collect::<Vec<_>>(),
        ["stuck", "high", "mid-a", "mid-b", "low"]
    );
    assert!(first[1..].iter().all(|one| held(one, "node").is_some()), "{first:?}");
}

#[test]
fn namespaces_take_turns() {
    const MANY: u64 = 60;
    const FEW: u64 = 5;
    let home = Home::lab(60);
    node(&home, 2);
    let labels: Vec<_> = (1..=30).map(|number| format!("p-{number}")).collect();
    (11..).zip(&labels).for_each(|(number, label)| home.profile(label, number, ""));
    home.processor("one", &until_go(), "concurrency: 9\n");
    home.run_profile("daily", 1, &format!("[{}]", labels.join(", ")), "  overlap: allow\n");
    // A second namespace, with what the first has but for the profiles that run.
    for below in [
        "namespace.yaml",
        "sources/words.yaml",
        "processors/one.yaml",
        "processors/two.yaml",
        "processors/three.yaml",
        "profiles/p-1.yaml",
        "profiles/p-2.yaml",
        "profiles/p-3.yaml",
        "profiles/p-4.yaml",
        "profiles/p-5.yaml",
        "run-profiles/daily.yaml",
    ] {
        let text = fs::read_to_string(home.path(&format!("namespaces/lab/{below}"))).unwrap();
        let text = text.replace(&labels.join(", "), &labels[..5].join(", "));
        home.write(&format!("namespaces/tiny/{below}"), &text);
    }
    let serving = home.serve();
    (0..2).for_each(|key| fire(&home, "daily", "lab", key));
    until_runs(&home, "lab", None, MANY);
    until("every permit to be taken", || count(&home, "up-") == 2);
    fire(&home, "daily", "tiny", 0);
    until_runs(&home, "tiny", None, FEW);
    home.write("go", "");
    until_runs(&home, "tiny", Some("finished"), FEW);
    until_runs(&home, "lab", Some("finished"), MANY);
    assert_eq!(serving.stop(), 0);
    let (lab, tiny) = (records(&home, "lab", "step_started"), records(&home, "tiny", "step_started"));
    let at = |record: &Value| record["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let admitted = at(&records(&home, "tiny", "run_admitted")[0]);
    let last = at(tiny.last().unwrap());
    let meanwhile = lab.iter().filter(|one| (admitted..last).contains(&at(one))).count();
    // Each step of the few lets one of the many by, or two where both permits come free at once; without turns it is nearly all of them.
    assert!(meanwhile <= 2 * tiny.len() + 4, "{meanwhile} of {} steps came first", lab.len());
    assert_eq!(lab.len() as u64, MANY * 3);
}
