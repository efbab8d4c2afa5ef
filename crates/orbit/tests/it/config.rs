//! What is active, and how documents become it: with files by being there, in a database by an operator's word.

use std::sync::Arc;

use orbit_testkit::cluster::{TestDatabase, blocking};
use serde_json::{Value, json};

use crate::home::{Home, until};

/// Homes of these names on one database, with the same documents.
fn nodes<const N: usize>(names: [&str; N]) -> [Home; N] {
    let database = Arc::new(blocking(TestDatabase::lent()));
    names.map(|name| {
        let home = Home::on_database(&database, database.runtime()).furnished(20);
        let node = std::fs::read_to_string(home.path("orbit.yaml")).unwrap();
        home.write("orbit.yaml", &format!("node: {{ name: {name} }}\n{node}"));
        home.write(".env", &format!("ORBIT_LOG_SEED={}\n", "5a".repeat(32)));
        home
    })
}

/// Another document than all have: what the second tier adds.
fn says(home: &Home, word: &str) {
    home.processor("two", &format!("cat; echo {word}"), "");
}

fn of_lab(home: &Home) -> Value {
    home.json(&["status"], 0)["namespaces"][0].clone()
}

fn active(home: &Home) -> String {
    of_lab(home)["snapshot"].as_str().unwrap().to_owned()
}

fn apply(home: &Home, more: &[&str], code: i32) -> Value {
    let args = [&["config", "apply"], more].concat();
    home.json(&args, code)["items"][0].clone()
}

/// What the second tier of a new run says.
fn says_now(home: &Home) -> String {
    let ran = home.json(&["run"], 0);
    let digest = ran["runs"][0]["steps"][1]["digest"].as_str().unwrap().to_owned();
    let text = home.run(&["artifacts", "get", &digest]).stdout;
    text.lines().last().unwrap().to_owned()
}

fn activations(home: &Home) -> usize {
    home.kinds().iter().filter(|kind| *kind == "config_activated").count()
}

/// Every activation, newest first, and whether its snapshot is active by it.
fn history(home: &Home) -> Vec<(String, bool)> {
    let history = home.json(&["config", "history"], 0);
    let known = |one: &Value| (one["digest"].as_str().unwrap().to_owned(), one["active"] == true);
    history["items"].as_array().unwrap().iter().map(known).collect()
}

#[test]
fn on_one_database_what_is_active_rules_and_an_operator_changes_it_for_all() {
    let [north, south] = nodes(["north", "south"]);
    says(&south, "older");
    let serving = [north.serve(), south.serve()];
    let first = active(&north);
    // The other one has been started with other documents, and changes nothing.
    assert_eq!(active(&south), first);
    assert_ne!(of_lab(&south)["documents"], json!(first));
    assert_eq!(says_now(&south), "two");
    assert!(serving[1].log().contains("not what is active"), "{}", serving[1].log());
    let told = south.run(&["status"]).stdout;
    assert!(told.contains("differ from what is active"), "{told}");
    let told = south.run(&["doctor"]).stdout;
    assert!(told.contains("the documents of `lab` are not what is active"), "{told}");
    // It does not know whether its documents come from what is active.
    let refused = apply(&south, &[], 1);
    assert_eq!(
        (&refused["outcome"], &refused["active"], &refused["base"]),
        (&json!("conflict"), &json!(first), &Value::Null)
    );

    // A change of files alone is noticed, and changes nothing.
    says(&north, "newer");
    until("the change to be noticed", || of_lab(&north)["documents"] != json!(first));
    assert_eq!(active(&north), first);
    let different =
        json!([{ "kind": "processor", "name": "two", "change": "changed", "fields": ["/argv/2"] }]);
    assert_eq!(north.json(&["config", "diff"], 0)["items"][0]["changes"], different);
    let applied = apply(&north, &[], 0);
    assert_eq!(
        (&applied["outcome"], &applied["base"], &applied["changes"]),
        (&json!("activated"), &json!(first), &different)
    );
    let second = active(&north);
    assert_eq!(applied["active"], json!(second));
    until("the other node to take it", || active(&south) == second);
    assert_eq!(says_now(&south), "newer");

    // Whoever has not seen that does not undo it: by what its documents come from, or by what it says that they do.
    for more in [&[][..], &["--expect", &first]] {
        assert_eq!(apply(&south, more, 1)["outcome"], "conflict");
    }
    let told = south.run(&["config", "apply", "--expect", &first]);
    assert!(
        told.stderr.contains(&second) && told.stderr.contains("hint: `orbit config diff -n lab`"),
        "{told:?}"
    );
    // What is wrong is not applied, and is named as by `check`.
    south.write("namespaces/lab/sources/wrong.yaml", "name: wrong\nkind: inline\nitms: []\n");
    let refused = south.run(&["config", "apply", "--expect", &second]);
    assert_eq!((refused.code, refused.stderr.contains("wrong.yaml:3:1")), (2, true), "{refused:?}");
    std::fs::remove_file(south.path("namespaces/lab/sources/wrong.yaml")).unwrap();
    assert_eq!(activations(&south), 2);

    // Nor does a start with the older documents.
    let [north_serves, south_serves] = serving;
    assert_eq!(south_serves.stop(), 0);
    let south_serves = south.serve();
    assert_eq!(active(&south), second);
    assert_eq!(activations(&south), 2);

    // With the same documents it is one of those who know what is active, and its changes are taken by the other.
    says(&south, "newer");
    assert_eq!(apply(&south, &[], 0)["outcome"], "unchanged");
    says(&south, "newest");
    assert_eq!(apply(&south, &[], 0)["base"], json!(second));
    let third = active(&south);
    until("the first node to take it", || active(&north) == third);
    assert_eq!(history(&north), [(third, true), (second, false), (first.clone(), false)]);
    let shown = north.json(&["config", "show", &first], 0);
    assert_eq!(
        (&shown["active"], &shown["snapshot"]["processors"]["two"]["argv"][2]),
        (&json!(false), &json!("cat; echo two"))
    );
    for serving in [north_serves, south_serves] {
        assert_eq!(serving.stop(), 0);
    }
}

#[test]
fn in_a_database_an_operator_needs_no_process_to_apply() {
    let home = Home::on_postgres().furnished(20);
    // Its log has no key yet.
    let failed = apply(&home, &[], 1);
    assert_eq!(
        (&failed["outcome"], failed["message"].as_str().unwrap().contains("orbit serve")),
        (&json!("failed"), true)
    );
    assert_eq!(says_now(&home), "two");
    says(&home, "newer");
    let ran = home.run(&["run"]);
    assert!(ran.stderr.contains("`orbit config apply`"), "{ran:?}");
    assert_eq!(says_now(&home), "two");
    // Whoever asks what would be done is told of what is active too.
    let would_be = |home: &Home| home.json(&["run", "--dry-run"], 0)["items"][0]["snapshot"].clone();
    let first = would_be(&home);
    let applied = apply(&home, &[], 0);
    assert_eq!((&applied["outcome"], &applied["base"]), (&json!("activated"), &first));
    assert_eq!(would_be(&home), applied["active"]);
    assert_eq!(says_now(&home), "newer");
    assert_eq!(activations(&home), 2);
}

#[test]
fn with_files_documents_are_active_by_being_there_or_applied_at_once() {
    let home = Home::on_files().furnished(20);
    assert_eq!(says_now(&home), "two");
    let first = home.json(&["config", "show"], 0)["digest"].as_str().unwrap().to_owned();
    says(&home, "newer");
    assert_eq!(says_now(&home), "newer");
    says(&home, "newest");
    // A base that is said counts here too.
    assert_eq!(apply(&home, &["--expect", &first], 1)["outcome"], "conflict");
    assert_eq!(apply(&home, &[], 0)["outcome"], "activated");
    assert_eq!(apply(&home, &[], 0)["outcome"], "unchanged");
    let serving = home.serve();
    says(&home, "last");
    apply(&home, &[], 0);
    let applied = home.run(&["config", "apply"]);
    assert!(applied.stdout.contains("is active already"), "{applied:?}");
    assert_eq!(says_now(&home), "last");
    assert_eq!(activations(&home), 4);
    assert_eq!(serving.stop(), 0);
    let unknown = home.run(&["config", "show", &format!("sha256:{}", "0".repeat(64))]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
}

#[test]
fn what_is_active_is_what_fires_and_stands_in_the_history_as_often_as_it_became_that() {
    let home = Home::on_postgres().furnished(1);
    let due = || home.json(&["schedule", "preview", "--count", "1"], 0)["items"][0]["due"].clone();
    let distant = due();
    // A first start activates what there is.
    home.json(&["run"], 0);
    let first = active(&home);
    home.run_profile("daily", 1, "[plain]", "  schedule: { cron: \"0 0 1 1 *\" }\n");
    assert_eq!(due(), distant, "the documents alone change nothing");
    home.apply();
    assert_ne!(due(), distant);
    let second = active(&home);
    home.run_profile("daily", 1, "[plain]", "");
    home.apply();
    assert_eq!(history(&home), [(first.clone(), true), (second, false), (first, false)]);
    // Broken documents are nobody's schedule.
    home.write("namespaces/lab/sources/wrong.yaml", "name: wrong\nkind: inline\nitms: []\n");
    assert_eq!(due(), distant);
}
