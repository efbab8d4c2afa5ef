//! Sources that vanish, grow while they are read, repeat themselves, hang, flood and lie, each beside a neighbour that gives its candidates.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::leaks::Leaks;
use crate::home::Home;

/// A source that cannot be read to its end, as YAML below its name, and what the cycle says of it.
const BROKEN: [(&str, &str, &str); 9] = [
    ("absent", "kind: file\npath: absent.jsonl\n", "cannot open `"),
    ("folder", "kind: file\npath: folder.jsonl\n", "is not a file; a source is a file of JSON Lines or CSV"),
    ("line", "kind: file\npath: line.jsonl\n", "is not a file; a source is a file of JSON Lines or CSV"),
    ("headless", "kind: file\npath: headless.csv\n", "no column `label`, found: title"),
    (
        "missing",
        "kind: exec\nargv: [orbit-no-such-program]\n",
        "could not start: there is no program `orbit-no-such-program` in the PATH",
    ),
    (
        "fails",
        "kind: exec\nargv: [sh, -c, 'echo {\\\"label\\\":\\\"half\\\"}; echo the-last-words >&2; exit 3']\n",
        "exited with code 3: the-last-words",
    ),
    (
        "hangs",
        "kind: exec\nargv: [sh, -c, 'trap \"\" TERM; while :; do sleep 1; done']\nlimits: { wall: 300ms, grace: 100ms }\n",
        "took longer than 300 ms",
    ),
    (
        "floods",
        "kind: exec\nargv: ['yes']\nlimits: { output: 1 MiB, grace: 100ms }\n",
        "went over `limits.output`",
    ),
    ("dies", "kind: exec\nargv: [sh, -c, 'kill -SEGV $$']\n", "was ended by signal 11"),
];

/// Lines that are no candidates, among two that are.
const LITTER: &str = "\n{\"label\":\"a\"}\n   \nnonsense\n{\"label\":\"\"}\n{\"label\":\"a\"}\n{\"title\":\"t\"}\n[1]\n{\"label\":\"b\",\"weight\":-1}\n{\"label\":\"b\"}\n{\"label\":\"cut";

fn source(home: &Home, name: &str, text: &str, number: u8) {
    home.write(&format!("namespaces/lab/sources/{name}.yaml"), &format!("name: {name}\n{text}"));
    home.run_profile(&format!("r-{name}"), number, "[plain]", "");
    let path = home.path(&format!("namespaces/lab/run-profiles/r-{name}.yaml"));
    let of_source = fs::read_to_string(&path).unwrap().replace("source: words", &format!("source: {name}"));
    fs::write(path, of_source).unwrap();
}

#[test]
fn a_source_that_cannot_be_read_fails_its_own_cycle_alone() {
    let home = Home::lab(20);
    home.write("namespaces/lab/folder.jsonl/keep", "");
    home.write("namespaces/lab/headless.csv", "title\na\n");
    nix::unistd::mkfifo(&home.path("namespaces/lab/line.jsonl"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (number, (name, text, _)) in (2u8..).zip(BROKEN) {
        source(&home, name, text, number);
    }
    let serving = home.serve();
    assert_eq!(home.run(&["run", "daily"]).code, 0);
    let leaks = Leaks::before(&home, &serving);
    let profile = |name: &str| format!("r-{name}");
    for (name, ..) in BROKEN {
        assert_eq!(home.run(&["run", &profile(name), "--no-wait", "--key", name]).code, 0, "{name}");
    }
    // Beside all of them, and again after them.
    assert_eq!(home.run(&["run", "daily"]).code, 0);
    let mut unexpected = Vec::new();
    for (name, _, words) in BROKEN {
        // The same key is the same cycle: this waits for it.
        let answer = home.json(&["run", &profile(name), "--key", name], 1);
        let cycle = &answer["cycle"];
        if cycle["outcome"] != "failed"
            || !cycle["reason"].as_str().is_some_and(|reason| reason.contains(words))
        {
            unexpected.push(format!("{name}: expected `{words}`: {cycle}"));
        }
    }
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    let failed = home.kinds().iter().filter(|kind| *kind == "selection_failed").count();
    assert_eq!(failed, BROKEN.len());
    leaks.none();
    home.write("namespaces/lab/absent.jsonl", "{\"label\":\"here again\"}\n");
    let again = home.json(&["run", "r-absent"], 0);
    assert_eq!(again["cycle"]["initiation"], "here again");
    assert_eq!(home.run(&["run", "daily"]).code, 0);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn lines_that_are_no_candidates_are_skipped_counted_and_recorded() {
    let home = Home::lab(5);
    source(&home, "litter", "kind: file\npath: litter.jsonl\n", 2);
    home.write("namespaces/lab/litter.jsonl", LITTER);
    source(&home, "empty", "kind: file\npath: empty.jsonl\n", 3);
    home.write("namespaces/lab/empty.jsonl", "");
    let serving = home.serve();
    for expected in ["a", "b"] {
        assert_eq!(home.json(&["run", "r-litter"], 0)["cycle"]["initiation"], expected);
    }
    // What repeats itself is new only once.
    assert_eq!(home.json(&["run", "r-litter"], 5)["cycle"]["outcome"], "skipped");
    assert_eq!(home.json(&["run", "r-empty"], 5)["cycle"]["outcome"], "skipped");
    let records = home.records();
    let reports: Vec<&Value> = records
        .iter()
        .filter(|record| record["kind"] == "initiation_selected" || record["kind"] == "selection_exhausted")
        .map(|record| &record["body"])
        .collect();
    assert_eq!(reports.len(), 4);
    for body in &reports[..3] {
        let text = body.to_string();
        for expected in [
            "\"lines\":11",
            "\"empty\":2",
            "\"malformed\":6",
            "\"candidates\":3",
            "\"line\":4",
            "expected a finite number greater than 0",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
    assert_eq!(home.run(&["run", "daily"]).code, 0);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_file_that_grows_while_it_is_read_is_read_as_it_was() {
    let home = Home::lab(5);
    source(&home, "grows", "kind: file\npath: grows.jsonl\n", 2);
    let path = home.path("namespaces/lab/grows.jsonl");
    fs::write(&path, "{\"label\":\"first\"}\n").unwrap();
    let serving = home.serve();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write as _;
            let mut file = fs::File::options().append(true).open(&path).unwrap();
            // Faster than it is read; what stops it if nobody does is its size.
            let more = "{\"label\":\"and more\"}\n".repeat(1000);
            (0..1000)
                .take_while(|_| !done.load(Ordering::SeqCst))
                .for_each(|_| file.write_all(more.as_bytes()).unwrap());
        });
        let answer = home.run(&["run", "r-grows", "--json"]);
        done.store(true, Ordering::SeqCst);
        assert_eq!(answer.code, 0, "{answer:?}");
        assert!(answer.stdout.contains("\"first\""), "{answer:?}");
    });
    assert_eq!(home.run(&["run", "daily"]).code, 0);
    assert_eq!(serving.stop(), 0);
}
