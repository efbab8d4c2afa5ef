//! One surface, processor, endpoint or namespace that fails leaves the others running; nothing is left behind.

use serde_json::Value;

use crate::home::{Home, until};
use crate::receiver::{Receiver, Reply};

/// What a program may do wrong, and the words by which the run's reason names it.
const WRONGS: [(&str, &str, &str, &str); 12] = [
    ("missing", "", "argv: [orbit-no-such-program]\ninput: stdin\n", "orbit-no-such-program"),
    ("exits", "cat >/dev/null; exit 7", "", "7"),
    ("dies", "kill -SEGV $$", "", "signal"),
    ("silent", "cat >/dev/null", "validate: { bytes_min: 1 B }\n", "0 bytes"),
    ("floods", "yes", "limits: { output: 1 MiB, grace: 100ms }\n", "limit"),
    (
        "hangs",
        "trap '' TERM; while :; do sleep 1; done",
        "limits: { wall: 300ms, grace: 100ms }\n",
        "took longer",
    ),
    (
        "eats",
        "x=$(head -c 300000000 /dev/zero | tr '\\0' x); sleep 1000",
        "limits: { memory: 64 MiB, grace: 100ms }\n",
        "memory",
    ),
    ("elsewhere", "cat; ln -s /etc/passwd out", "output: { to: file }\ninput: stdin\n", "no output"),
    (
        "link",
        "cat >/dev/null; ln -s /etc/passwd \"$0\"",
        "argv: [sh, -c, \"ln -s /etc/passwd $0\", \"{{ output }}\"]\noutput: { to: file }\n",
        "regular",
    ),
    ("equal", "cat", "validate: { differs_from_input: true }\n", "input"),
    ("prefix", "echo no", "validate: { prefix_hex: \"4f4b\" }\n", "begin"),
    ("complains", "cat >/dev/null; echo the-last-words >&2; exit 1", "", "exit"),
];

fn wrong(home: &Home, name: &str, script: &str, more: &str) {
    if more.contains("argv:") {
        let retry = "retry: { attempts: 1 }\n";
        home.write(
            &format!("namespaces/lab/processors/{name}.yaml"),
            &format!("name: {name}\nkind: exec\n{retry}{more}"),
        );
        return;
    }
    let script = serde_json::to_string(script).unwrap();
    let input = if more.contains("\ninput:") { "" } else { "input: stdin\n" };
    let text = format!(
        "name: {name}\nkind: exec\nargv: [sh, -c, {script}]\n{input}retry: {{ attempts: 1 }}\n{more}"
    );
    home.write(&format!("namespaces/lab/processors/{name}.yaml"), &text);
}

#[test]
fn a_program_that_does_wrong_fails_its_own_run_alone() {
    let home = Home::lab(5);
    let mut labels = vec!["plain".to_owned()];
    for (number, (name, script, more, _)) in (2u8..).zip(WRONGS) {
        wrong(&home, name, script, more);
        home.profile_of(&format!("p-{name}"), number, ["one", name, "three"], "");
        labels.push(format!("p-{name}"));
    }
    home.run_profile("daily", 1, &format!("[{}]", labels.join(", ")), "");
    let answer = home.json(&["run"], 3);
    assert_eq!(answer["cycle"]["outcome"], "partial");
    let run_of = |label: &str| -> Value {
        answer["runs"].as_array().unwrap().iter().find(|run| run["profile"] == label).unwrap().clone()
    };
    assert_eq!(run_of("plain")["outcome"], "succeeded");
    let mut unexpected = Vec::new();
    for (name, _, _, words) in WRONGS {
        let run = run_of(&format!("p-{name}"));
        assert_eq!(run["outcome"], "failed", "{name}: {run}");
        let reason = run["reason"].as_str().unwrap();

        if !reason.contains(words) {
            unexpected.push(format!("{name}: `{reason}` does not say `{words}`"));
        }
    }
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert!(home.processes().is_empty(), "left behind: {:?}", home.processes());
    let left = std::fs::read_dir(home.path("data/lab/work")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "work folders left behind");
    let words = home.records().iter().any(|record| record.to_string().contains("the-last-words"));
    assert!(words, "what a program said on standard error is kept");
}

#[test]
fn children_that_fork_away_are_ended_with_their_step() {
    let home = Home::lab(1);
    home.processor(
        "two",
        "cat; (setsid sh -c 'trap \"\" TERM HUP; sleep 1000' >/dev/null 2>&1 &) ; (sleep 1000 &)",
        "limits: { grace: 100ms }\n",
    );
    assert_eq!(home.json(&["run"], 0)["runs"][0]["outcome"], "succeeded");
    assert!(home.processes().is_empty(), "left behind: {:?}", home.processes());
}

#[test]
fn a_failed_attempt_is_repeated_up_to_its_number() {
    let home = Home::lab(2);
    let script = "cat; [ \"$ORBIT_ATTEMPT\" = 3 ]";
    home.processor("two", script, "retry: { attempts: 3, backoff: { initial: 10ms } }\n");
    let run = home.json(&["run"], 0)["runs"][0].clone();
    assert_eq!(run["steps"][1]["attempts"], 3);
    home.processor("two", script, "retry: { attempts: 2, backoff: { initial: 10ms } }\n");
    let run = home.json(&["run"], 1)["runs"][0].clone();
    assert_eq!((&run["outcome"], &run["steps"][1]["attempts"]), (&Value::from("failed"), &Value::from(2)));
}

#[test]
fn a_dead_endpoint_slows_no_other() {
    let silent = Receiver::start(|_, _| Reply::Silence);
    let alive = Receiver::accepting();
    let home = Home::lab(20);
    home.endpoint("silent", &silent.url("/"), "concurrency: 1\n");
    home.endpoint("alive", &alive.url("/"), "");
    home.profile("plain", 1, "distribution_map: [{ endpoint: silent }, { endpoint: alive }]\n");
    let serving = home.serve();
    for _ in 0..5 {
        assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    }
    until("the living endpoint to have all", || alive.requests().len() == 5);
    assert!(silent.requests().len() <= 1);
    serving.kill();
}

#[test]
fn a_broken_namespace_leaves_the_other_running() {
    let home = Home::lab(5);
    home.run_profile("daily", 1, "[plain]", "  schedule: { every: 1s }\n");
    home.write("namespaces/other/namespace.yaml", "label: Other\n");
    std::fs::create_dir_all(home.path("data/other")).unwrap();
    home.write(
        "data/other/orbit.db",
        "this is no database, and long enough to be taken for a broken one ........................",
    );
    let serving = home.serve();
    until("the healthy namespace to work", || {
        home.json(&["cycles", "list", "-n", "lab"], 0)["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["outcome"] == "succeeded")
    });
    let log = home.run(&["log", "tail", "-n", "system", "--json"]);
    assert!(log.stdout.contains("service_failed") && log.stdout.contains("other"), "{}", log.stdout);
    serving.kill();
}
