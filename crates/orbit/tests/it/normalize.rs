//! Batches and reuse with real programs: one start for several runs, and what each of them comes to.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::home::{Home, until};

/// What a batch's program does with every item but those that a test has other plans for.
const DO: &str =
    "{ cat \"$input\"; echo packed; } > \"$output\"; printf '{\"item\":\"%s\",\"ok\":true}\\n' \"$item\"";

/// A home with profiles `p0`, `p1`, … that share the normalizer `pack`, of which every start is noted in `starts` by the number of its items. `first` is done
/// at the start, `each` for every item, of which `$item`, `$input`, `$output` and `$profile` are known. `more` is further YAML of the processor.
fn home(profiles: u8, rule: &str, (first, each): (&str, &str), more: &str) -> Home {
    let home = Home::lab(9);
    let field = "field() { printf '%s' \"$line\" | sed \"s/.*\\\"$1\\\":\\\"\\([^\\\"]*\\)\\\".*/\\1/\"; }";
    let script = format!(
        "wc -l < \"$1\" >> ../../../../../starts; {field}; {first}\n\
         while IFS= read -r line; do item=$(field item); input=$(field input); output=$(field output)\n\
         profile=$(sed -n 's/.*\"label\":\"\\(p[0-9]\\)\".*/\\1/p' \"$input\")\n{each}\ndone < \"$1\""
    );
    let script = serde_json::to_string(&script).unwrap();
    home.write(
        "namespaces/lab/processors/pack.yaml",
        &format!(
            "name: pack\nkind: exec\nargv: [sh, -c, {script}, sh, \"{{{{ manifest }}}}\"]\n\
             output: {{ to: file, extension: txt, media_type: text/plain }}\n{more}"
        ),
    );
    let labels: Vec<_> = (0..profiles).map(|number| format!("p{number}")).collect();
    for (number, label) in (1..).zip(&labels) {
        home.profile(label, number, &format!("  normalize: {{ processor: pack, batch: {rule} }}\n"));
    }
    fs::remove_file(home.path("namespaces/lab/profiles/plain.yaml")).unwrap();
    home.run_profile("daily", 1, &format!("[{}]", labels.join(", ")), "");
    home
}

/// How many items each start had, in order.
fn starts(home: &Home) -> Vec<usize> {
    let text = fs::read_to_string(home.path("starts")).unwrap_or_default();
    text.lines().map(|line| line.trim().parse().unwrap()).collect()
}

fn runs(home: &Home) -> Vec<Value> {
    let mut runs = home.json(&["runs", "list", "--limit", "1000"], 0)["items"].as_array().unwrap().clone();
    runs.sort_by_key(|run| run["profile"].as_str().unwrap().to_owned());
    runs
}

/// Outcome, attempts of normalize and reason of every run, by profile.
fn outcomes(home: &Home) -> Vec<(String, u64, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |run: &Value| {
        (text(&run["outcome"]), run["steps"][3]["attempts"].as_u64().unwrap(), text(&run["reason"]))
    };
    runs(home).iter().map(of).collect()
}

/// The bodies of records of one kind that are about normalize.
fn bodies(home: &Home, kind: &str) -> Vec<Value> {
    let records = home.records().into_iter();
    let of = records.filter(|record| record["kind"] == kind && record["body"]["step"] == "normalize");
    of.map(|record| record["body"].clone()).collect()
}

fn causes(home: &Home) -> Vec<Value> {
    bodies(home, "step_interrupted").iter().map(|body| body["event"]["cause"].clone()).collect()
}

fn all_succeeded(home: &Home, count: usize) -> bool {
    let runs = runs(home);
    runs.len() == count && runs.iter().all(|run| run["outcome"] == "succeeded")
}

#[test]
fn the_surfaces_of_a_cycle_share_one_program() {
    let home = home(5, "{ items_max: 5, wait_max: 1h }", ("", DO), "");
    home.json(&["run"], 0);
    assert_eq!(starts(&home), [5]);
    let started = bodies(&home, "step_started");
    let ids: BTreeSet<_> = started.iter().map(|body| body["batch_id"].to_string()).collect();
    assert_eq!((started.len(), ids.len()), (5, 1));
    let runs = runs(&home);
    let digests: BTreeSet<_> = runs.iter().map(|run| run["steps"][3]["digest"].as_str().unwrap()).collect();
    assert_eq!(digests.len(), 5, "each has its own output");
    for run in &runs {
        let step = &run["steps"][3];
        let text = home.run(&["artifacts", "get", step["digest"].as_str().unwrap()]).stdout;
        assert!(
            text.contains(run["run_id"].as_str().unwrap()) && text.ends_with("three\npacked\n"),
            "{text}"
        );
        assert_eq!((&step["attempts"], &step["media_type"]), (&json!(1), &json!("text/plain")));
    }
    let ended = bodies(&home, "step_succeeded");
    assert_eq!((&ended[0]["batch"]["items"], &ended[0]["usage"]), (&json!(5), &Value::Null));
    assert!(ended[0]["batch"]["usage"]["wall_ms"].is_u64(), "{}", ended[0]);
    let left = fs::read_dir(home.path("data/lab/work")).unwrap().count();
    assert_eq!(left, 0, "work folders are left");
}

#[test]
fn runs_of_several_cycles_share_one_program() {
    let home = home(1, "{ items_max: 3, wait_max: 1h }", ("", DO), "");
    home.run_profile("daily", 1, "[p0]", "  overlap: allow\n");
    let serving = home.serve();
    for key in ["a", "b", "c"] {
        assert_eq!(home.run(&["run", "--no-wait", "--key", key]).code, 0);
    }
    until("all three", || all_succeeded(&home, 3));
    assert_eq!(starts(&home), [3]);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_batch_that_is_not_full_starts_when_it_has_waited() {
    let home = home(2, "{ items_max: 8, wait_max: 100ms }", ("", DO), "");
    home.json(&["run"], 0);
    assert_eq!(starts(&home).iter().sum::<usize>(), 2);
    for body in bodies(&home, "step_succeeded") {
        assert!(body["batch"]["items"].as_u64().unwrap() <= 2, "{body}");
    }
}

#[test]
fn a_failed_batch_is_done_item_by_item() {
    // The whole program dies at one item, whoever else is in the batch.
    let each = format!("[ \"$profile\" = p1 ] && kill -9 $$; {DO}");
    let home = home(3, "{ items_max: 3, wait_max: 1h }", ("", &each), "retry: { attempts: 1 }\n");
    home.json(&["run"], 3);
    assert_eq!(starts(&home), [3, 1, 1, 1]);
    assert_eq!(causes(&home), ["batch", "batch", "batch"]);
    let succeeded = || ("succeeded".to_owned(), 2, String::new());
    let failed = ("failed".to_owned(), 2, "was ended by signal 9".to_owned());
    assert_eq!(outcomes(&home), [succeeded(), failed, succeeded()]);
    let whole = &bodies(&home, "step_interrupted")[0];
    assert_eq!(whole["failure"], json!({ "failure": "signal", "signal": 9 }), "{whole}");
}

#[test]
fn every_item_has_an_outcome_of_its_own() {
    let each = format!(
        "say() {{ printf '{{\"item\":\"%s\",\"ok\":%s}}\\n' \"$1\" \"$2\"; }}\n\
         [ \"$ORBIT_ATTEMPT\" = 1 ] && case \"$profile\" in\n\
         p1) printf '{{\"item\":\"%s\",\"ok\":false,\"error\":\"no %s\"}}\\n' \"$item\" \"$KEY\"; continue;;\n\
         p2) say \"$item\" true; continue;;\n\
         p3) echo garbage; say nobody true; continue;;\n\
         p4) say \"$item\" true; say \"$item\" false; continue;;\n\
         esac; {DO}"
    );
    let more = "env: { KEY: \"${KEY}\" }\nretry: { attempts: 2, backoff: { initial: 10ms } }\n";
    let home = home(5, "{ items_max: 5, wait_max: 1h }", ("", &each), more);
    home.secret("KEY", "s3cret-key");
    home.json(&["run"], 0);
    assert_eq!(starts(&home)[0], 5);
    assert_eq!(starts(&home)[1..], [1, 1, 1, 1], "those that failed are done alone");
    let attempts: Vec<_> = outcomes(&home).into_iter().map(|(_, attempts, _)| attempts).collect();
    assert_eq!(attempts, [1, 2, 2, 2, 2]);
    let mut failures: Vec<_> = bodies(&home, "step_failed")
        .iter()
        .map(|body| body["event"]["failure"].as_str().unwrap().to_owned())
        .collect();
    failures.sort();
    let expected = [
        "left no output file",
        "no result line for this item",
        "result lines for this item contradict each other",
        "the program reported: no [redacted]",
    ];
    assert_eq!(failures, expected);
    let odd = &bodies(&home, "step_failed")[0]["batch"]["odd_lines"];
    assert_eq!((&odd["malformed"], &odd["unknown"]), (&json!(1), &json!(1)), "{odd}");
}

#[test]
fn a_program_that_does_not_speak_the_protocol_fails_every_run() {
    let home = home(2, "{ items_max: 2, wait_max: 1h }", ("echo hello", ":"), "retry: { attempts: 1 }\n");
    home.json(&["run"], 1);
    assert_eq!(starts(&home), [2, 1, 1]);
    let failed = || ("failed".to_owned(), 2, "no result line for this item".to_owned());
    assert_eq!(outcomes(&home), [failed(), failed()]);
    // More than the items can need is not read.
    let flood = "head -c 100000 /dev/zero; exit 0";
    let home = self::home(2, "{ items_max: 2, wait_max: 1h }", (flood, ":"), "retry: { attempts: 1 }\n");
    home.json(&["run"], 1);
    let failed = || ("failed".to_owned(), 2, "went over `limits.output`".to_owned());
    assert_eq!(outcomes(&home), [failed(), failed()]);
}

/// Marks that it runs, and lasts until it is let go.
const HELD: &str = "while [ ! -e ../../../../../go ]; do sleep 0.05; done";

#[test]
fn after_a_crash_in_a_batch_each_run_goes_on_alone() {
    let home = home(3, "{ items_max: 3, wait_max: 1h }", (HELD, DO), "");
    let serving = home.serve();
    assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    until("the batch to run", || starts(&home) == [3]);
    serving.kill();
    until("the program to be gone", || home.processes().is_empty());
    home.write("go", "");
    let serving = home.serve();
    until("every run", || all_succeeded(&home, 3));
    assert_eq!(causes(&home), ["crash", "crash", "crash"]);
    assert_eq!(starts(&home), [3, 1, 1, 1]);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_halt_ends_a_batch_and_counts_against_nobody() {
    let more = "retry: { attempts: 1 }\nlimits: { grace: 100ms }\n";
    let home = home(2, "{ items_max: 2, wait_max: 1h }", (HELD, DO), more);
    let serving = home.serve();
    assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    until("the batch to run", || starts(&home) == [2]);
    assert_eq!(home.json(&["halt"], 0)["changed"], true);
    until("the program to be gone", || home.processes().iter().all(|pid| *pid == serving.pid()));
    until("both to be cut", || causes(&home) == ["halt", "halt"]);
    home.write("go", "");
    assert_eq!(home.json(&["resume"], 0)["changed"], true);
    until("both runs", || all_succeeded(&home, 2));
    assert_eq!(starts(&home), [2, 1, 1]);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_run_that_is_cancelled_drops_out_of_its_batch() {
    let home = home(1, "{ items_max: 2, wait_max: 1h }", (HELD, DO), "");
    home.items(200);
    // Each of its firings cancels the run of the one before.
    home.run_profile("first", 2, "[p0]", "  schedule: { every: 1s }\n  overlap: cancel_other\n");
    let serving = home.serve();
    assert_eq!(home.run(&["run", "daily", "--no-wait"]).code, 0);
    until("the batch to run", || starts(&home) == [2]);
    let outcome_of = |profile: &str| -> Vec<Value> {
        let of = |run: &&Value| run["run_profile"] == profile;
        runs(&home).iter().filter(of).map(|run| run["outcome"].clone()).collect()
    };
    until("the run in the batch to be cancelled", || {
        runs(&home).iter().any(|run| run["run_profile"] == "first" && run["steps"][3]["state"] == "cancelled")
    });
    assert_eq!(outcome_of("daily"), [Value::Null], "the others go on");
    home.write("go", "");
    until("the other run", || outcome_of("daily") == [json!("succeeded")]);
    assert_eq!(bodies(&home, "step_succeeded").len(), 1, "what the cancelled one came to is dropped");
    assert_eq!(starts(&home), [2]);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn work_that_was_done_before_is_not_done_again() {
    let home = Home::lab(9);
    let one = |text: &str| home.processor("one", &format!("echo {text}"), "input: none\n");
    // What it makes is large enough to be a file.
    home.processor("two", "echo 2 >> ../../../../../starts; cat; seq 20000", "reuse: true\n");
    let write_one = |text: &str| {
        one(text);
        let written = fs::read_to_string(home.path("namespaces/lab/processors/one.yaml")).unwrap();
        home.write("namespaces/lab/processors/one.yaml", &written.replacen("input: stdin\n", "", 1));
    };
    let run = |expected: usize| {
        let run = home.json(&["run"], 0)["runs"][0].clone();
        assert_eq!(starts(&home).len(), expected);
        run
    };
    let reused = || {
        let records = home.records().into_iter().rev();
        let mut of =
            records.filter(|record| record["kind"] == "step_succeeded" && record["body"]["step"] == "tier2");
        of.next().unwrap()["body"].clone()
    };
    write_one("same");
    let first = run(1);
    assert!(reused()["work"].is_string() && reused()["reused"].is_null(), "{}", reused());
    let second = run(1);
    assert_eq!(second["steps"][1]["digest"], first["steps"][1]["digest"]);
    let told = reused();
    assert_eq!(
        (&told["reused"]["run_id"], &told["reused"]["step"]),
        (&first["run_id"], &json!("tier2")),
        "{told}"
    );
    assert_eq!((&told["usage"], &told["work"]), (&Value::Null, &Value::Null));
    write_one("other");
    home.activate();
    run(2);
    write_one("same");
    home.activate();
    run(2);
    // Other settings are other work.
    home.processor(
        "two",
        "echo 2 >> ../../../../../starts; cat; seq 20000",
        "reuse: true\nenv: { V: \"2\" }\n",
    );
    home.activate();
    run(3);
    // A payload that is gone or damaged is made anew.
    let hex = first["steps"][1]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let blob = home.path("data/lab/blobs").join(&hex[..2]).join(&hex[2..]);
    fs::remove_file(&blob).unwrap();
    run(4);
    assert!(blob.exists());
    run(4);
}
