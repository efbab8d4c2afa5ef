//! What an operator orders: to do a run again, to end one, to try a processor, to lift a quarantine.

use std::fs;

use insta::assert_snapshot;
use orbit_core::limits::{PROCESSOR_CRASHES_MAX, STEP_INTERRUPTIONS_MAX};
use serde_json::Value;

use crate::home::{Home, until};
use crate::receiver::{Receiver, Reply};
use crate::text::{in_home, told};

/// From the work folder of a step to the home.
const HOME: &str = "../../../../..";

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap()
}

/// A lab whose processors note each start in a file, of which the second makes a large payload and the third fails.
fn failing() -> (Home, String) {
    let home = Home::lab(3);
    home.processor("one", &format!("echo x >> {HOME}/one; cat > /dev/null; echo one"), "");
    home.processor("two", &format!("echo x >> {HOME}/two; cat; seq 20000"), "");
    home.processor("three", &format!("echo x >> {HOME}/three; echo cannot >&2; exit 3"), "");
    let failed = home.json(&["run"], 1);
    let run_id = text(&failed["runs"][0], "run_id").to_owned();
    (home, run_id)
}

fn mend(home: &Home) {
    home.processor("three", &format!("echo x >> {HOME}/three; cat; echo three"), "");
    home.activate();
}

fn starts(home: &Home) -> [usize; 3] {
    ["one", "two", "three"].map(|name| fs::read_to_string(home.path(name)).unwrap().lines().count())
}

#[test]
fn a_failed_run_is_done_again_after_its_document_was_mended() {
    let (home, old) = failing();
    assert_eq!(starts(&home), [1, 1, 1]);
    mend(&home);
    let again = home.json(&["runs", "retry", &old, "--key", "k"], 0);
    let new = &again["runs"][0];
    assert_eq!((text(new, "outcome"), text(new, "retry_of")), ("succeeded", &*old));
    assert_eq!(new["initiation"], "item-0", "the same initiation, although it is taken");
    assert_eq!(again["cycle"]["trigger"], format!("manual:retry-{}-k", &old[..8]));
    assert_eq!(starts(&home), [2, 2, 2]);
    // The same key is the same retry, whoever asks.
    let same = home.json(&["runs", "retry", &old[..8], "--key", "k"], 0);
    assert_eq!(same["cycle"]["cycle_id"], again["cycle"]["cycle_id"]);
    assert_eq!(starts(&home), [2, 2, 2]);
    let told_of = home.json(&["runs", "show", &old], 0);
    assert_eq!(told_of["retried_by"], serde_json::json!([text(new, "run_id")]));
    let records = home.records();
    let of = |kind: &str| records.iter().rev().find(|record| record["kind"] == kind).unwrap().clone();
    assert_eq!(text(&of("cycle_fired")["body"], "retry_of"), old);
    assert_eq!(text(&of("run_admitted")["body"], "retry_of"), old);
    // The next cycle takes the next candidate.
    assert_eq!(home.json(&["run"], 0)["cycle"]["initiation"], "item-1");
    // What succeeded may be done again too, and a retry be retried.
    let third = home.json(&["runs", "retry", text(new, "run_id")], 0);
    assert_eq!(third["runs"][0]["retry_of"], new["run_id"]);
}

#[test]
fn from_a_later_step_the_earlier_ones_are_not_done_again() {
    let (home, old) = failing();
    mend(&home);
    let again = home.json(&["runs", "retry", &old, "--from", "tier3"], 0)["runs"][0].clone();
    assert_eq!(starts(&home), [1, 1, 2]);
    assert_eq!((text(&again, "outcome"), text(&again, "from")), ("succeeded", "tier3"));
    let digest = text(&again["steps"][0], "digest");
    let artifact = home.run(&["artifacts", "get", digest]).stdout;
    assert!(
        artifact.starts_with("one\n1\n2\n") && artifact.ends_with("\n20000\nthree\n"),
        "{}",
        artifact.len()
    );
    // A retry of the retry finds what the first run made.
    let further = home.json(&["runs", "retry", text(&again, "run_id"), "--from", "tier2"], 0);
    assert_eq!(further["runs"][0]["outcome"], "succeeded");
    assert_eq!(starts(&home), [1, 2, 3]);
    let refused = home.run(&["runs", "retry", &old, "--from", "normalize"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("has no step `normalize`"), "{refused:?}");
    // The payload is gone: said before anything is fired.
    let cycles = home.json(&["cycles", "list"], 0)["items"].as_array().unwrap().len();
    let input = text(&home.json(&["runs", "show", &old], 0)["steps"][1], "digest").to_owned();
    let hex = input.strip_prefix("sha256:").unwrap();
    fs::remove_file(home.path(&format!("data/lab/blobs/{}/{}", &hex[..2], &hex[2..]))).unwrap();
    let refused = home.run(&["runs", "retry", &old, "--from", "tier3"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("not kept any more") && refused.stderr.contains("--from tier2"),
        "{refused:?}"
    );
    assert_eq!(home.json(&["cycles", "list"], 0)["items"].as_array().unwrap().len(), cycles);
}

#[test]
fn a_retry_runs_under_the_active_configuration_unless_it_is_pinned() {
    let (home, old) = failing();
    mend(&home);
    let pinned = home.json(&["runs", "retry", &old, "--pinned"], 1)["runs"][0].clone();
    assert_eq!(pinned["outcome"], "failed", "as the document was");
    home.profile("other", 2, "");
    home.run_profile("daily", 1, "[other]", "");
    fs::remove_file(home.path("namespaces/lab/profiles/plain.yaml")).unwrap();
    home.activate();
    let gone = home.run(&["runs", "retry", &old]);
    assert_eq!(gone.code, 2, "{gone:?}");
    assert!(
        gone.stderr.contains("no profile `plain` any more") && gone.stderr.contains("--pinned"),
        "{gone:?}"
    );
}

#[test]
fn a_run_is_cancelled_in_every_state_and_only_once() {
    let receiver = Receiver::start(|_, _| Reply::Silence);
    let home = Home::lab(9);
    home.endpoint("slow", &receiver.url("/"), "");
    home.profile("plain", 1, "distribution_map: [{ endpoint: slow }]\n");
    home.processor(
        "two",
        &format!("cat; touch {HOME}/up; [ -e {HOME}/go ] || sleep 1000"),
        "limits: { grace: 100ms }\n",
    );
    home.processor("flaky", "exit 1", "retry: { attempts: 3, backoff: { initial: 1h, max: 1h } }\n");
    home.profile_of("waits", 2, ["flaky", "two", "three"], "");
    home.run_profile("retries", 2, "[waits]", "");
    let serving = home.serve();
    let fire = |run_profile: &str| {
        let fired = home.json(&["run", run_profile, "--no-wait"], 0);
        let cycle = text(&fired, "cycle_id").to_owned();
        move |home: &Home| home.json(&["runs", "list", "--cycle", &cycle], 0)["items"][0].clone()
    };
    let cancel = |run: &Value, was: &str| {
        let id = text(run, "run_id").to_owned();
        let refused = home.run(&["runs", "retry", &id]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(
            refused.stderr.contains("is not finished") && refused.stderr.contains("runs cancel"),
            "{refused:?}"
        );
        assert_eq!(text(&home.json(&["runs", "cancel", &id], 0), "was"), was);
        assert_eq!(home.json(&["runs", "show", &id], 0)["outcome"], "cancelled");
        let again = home.run(&["runs", "cancel", &id]);
        assert_eq!(
            (again.code, again.stderr.contains("finished already: cancelled")),
            (2, true),
            "{again:?}"
        );
    };
    let run = fire("daily");
    until("the program to run", || home.path("up").exists());
    cancel(&run(&home), "working");
    until("the program to be gone", || home.processes().iter().all(|pid| *pid == serving.pid()));
    let run = fire("retries");
    until("the step to wait", || run(&home)["state"] == "waiting");
    cancel(&run(&home), "waiting");
    home.write("go", "");
    let run = fire("daily");
    until("the request to be there", || receiver.requests().len() == 1);
    let owed = run(&home);
    cancel(&owed, "dispatching");
    // The request is cut long before its timeout, and the attempt has its receipt.
    let delivery = text(&owed["deliveries"][0], "delivery_id").to_owned();
    let show = || home.json(&["deliveries", "show", &delivery], 0);
    until("the receipt", || show()["receipts"].as_array().unwrap().len() == 1);
    assert!(show()["receipts"].to_string().contains("cut"), "{}", show());
    assert_eq!(show()["state"], "cancelled");
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_run_that_is_ready_is_cancelled() {
    let home = Home::lab(2);
    home.write(
        "orbit.yaml",
        "listen: { address: \"127.0.0.1:0\" }\nlimits: { drain: 10s, runs_concurrent: 1 }\n",
    );
    home.processor("one", &format!("cat; touch {HOME}/up; sleep 1000"), "limits: { grace: 100ms }\n");
    let serving = home.serve();
    assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    until("the program to run", || home.path("up").exists());
    assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    let runs = || home.json(&["runs", "list"], 0)["items"].clone();
    until("the second run to be admitted", || runs().as_array().unwrap().len() == 2);
    assert_eq!(runs()[0]["state"], "ready");
    let (ready, working) = (text(&runs()[0], "run_id").to_owned(), text(&runs()[1], "run_id").to_owned());
    assert_eq!(text(&home.json(&["runs", "cancel", &ready[..9]], 0), "was"), "ready");
    assert_eq!(text(&home.json(&["runs", "cancel", &working], 0), "was"), "working");
    assert_eq!(serving.stop(), 0);
    assert!(home.processes().is_empty());
}

#[test]
fn a_processor_is_tried_outside_of_any_run() {
    let home = Home::lab(1);
    home.write("in", "given\n");
    let input = home.path("in");
    let input = input.to_str().unwrap();
    let written = home.path("out");
    let out = written.to_str().unwrap();
    let mut serving = None;
    for beside in [false, true] {
        if beside {
            serving = Some(home.serve());
        }
        let answer = home.json(&["processors", "test", "two", "--input", input, "--output", out], 0);
        assert_eq!(fs::read_to_string(&written).unwrap(), "given\ntwo\n");
        fs::remove_file(&written).unwrap();
        assert_eq!(
            (text(&answer, "outcome"), text(&answer, "step"), text(&answer, "profile")),
            ("succeeded", "tier2", "plain")
        );
        assert_eq!((&answer["output"]["bytes"], &answer["input"]["bytes"]), (&10.into(), &6.into()));
        let piped = home.run(&["processors", "test", "two", "--input", input, "--output", "-"]);
        assert_eq!((piped.code, &*piped.stdout), (0, "given\ntwo\n"), "{piped:?}");
        // Tier 1 is given the context.
        let piped = home.run(&["processors", "test", "one", "--output", "-"]);
        assert!(
            piped.stdout.contains("\"label\":\"sample\"") && piped.stdout.ends_with("one\n"),
            "{piped:?}"
        );
        // Nothing is kept: no run, no payload, no folder.
        assert_eq!(home.json(&["runs", "list"], 0)["items"], serde_json::json!([]));
        let blobs = fs::read_dir(home.path("data/lab/blobs")).unwrap().flatten();
        let files = blobs.filter(|one| one.file_name().len() == 2).count();
        assert_eq!(files, 0);
        assert_eq!(fs::read_dir(home.path("data/lab/work")).unwrap().count(), 0);
    }
    assert_eq!(serving.unwrap().stop(), 0);
    let tested: Vec<_> =
        home.records().into_iter().filter(|record| record["kind"] == "processor_tested").collect();
    assert_eq!(tested.len(), 6);
    assert_eq!(tested[0]["body"]["outcome"], "succeeded");
}

#[test]
fn a_processor_that_fails_says_how() {
    let home = Home::lab(1);
    let check = |script: &str, more: &str, expected: &str| {
        home.processor("two", script, more);
        let answer = home.json(&["processors", "test", "two"], 1);
        assert_eq!(text(&answer, "outcome"), "failed");
        assert!(text(&answer, "message").contains(expected), "{answer}");
        answer
    };
    let failed = check("echo said >&2; exit 7", "", "exited with code 7");
    assert_eq!(failed["stderr"], "said\n");
    assert!(failed["usage"]["wall_ms"].is_u64(), "{failed}");
    check("sleep 1000", "limits: { wall: 200ms, grace: 100ms }\n", "took longer than 200 ms");
    check("head -c 100000 /dev/zero", "limits: { output: 1 KiB }\n", "limits.output");
    check("cat", "validate: { bytes_min: 1 MiB }\n", "expected at least");
    check("cat", "env: { KEY: \"${ABSENT}\" }\n", "ORBIT_SECRET_LAB_ABSENT");
    home.secret("ABSENT", "value-of-the-secret");
    home.processor("two", "echo \"$KEY\" >&2; exit 1", "env: { KEY: \"${ABSENT}\" }\n");
    let redacted = home.run(&["processors", "test", "two"]);
    assert!(redacted.code == 1 && !redacted.stdout.contains("value-of-the-secret"), "{redacted:?}");
    home.json(&["halt"], 0);
    assert_eq!(home.run(&["processors", "test", "two"]).code, 4, "a halt starts nothing, not even by hand");
    home.json(&["resume"], 0);
}

#[test]
fn a_processor_that_takes_the_engine_down_is_quarantined() {
    let home = Home::lab(20);
    home.processor(
        "two",
        &format!("cat; echo x >> {HOME}/up; [ -e {HOME}/go ] || sleep 1000"),
        "limits: { grace: 100ms }\n",
    );
    let started = || fs::read_to_string(home.path("up")).unwrap_or_default().lines().count();
    let quarantined = |home: &Home| home.json(&["status"], 0)["namespaces"][0]["quarantined"].clone();
    let mut serving = home.serve();
    assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    for crash in 1..=PROCESSOR_CRASHES_MAX {
        until("the program to run", || started() >= usize::try_from(crash).unwrap());
        assert_eq!(quarantined(&home), serde_json::json!([]), "after {} crashes", crash - 1);
        serving.kill();
        serving = home.serve();
        // A run gives up before its processor is given up; another one takes its place.
        if crash == STEP_INTERRUPTIONS_MAX + 1 {
            assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
        }
    }
    assert_eq!(quarantined(&home)[0]["processor"], "two");
    let failed = home.json(&["run"], 1)["runs"][0].clone();
    assert!(text(&failed, "reason").contains("`two` is quarantined"), "{failed}");
    assert_eq!(failed["steps"][0]["state"], "succeeded", "the other processors work");
    assert_eq!(
        started(),
        usize::try_from(PROCESSOR_CRASHES_MAX).unwrap(),
        "its program was not started again"
    );
    let doctor = home.run(&["doctor"]);
    assert!(doctor.code == 1 && doctor.stdout.contains("processor `two` of `lab`"), "{doctor:?}");
    let shown = [
        told(&home, &["processors", "release", "tow"]),
        told(&home, &["processors", "release", "two"]),
        told(&home, &["processors", "release", "two"]),
    ];
    assert_snapshot!("quarantine", shown.join("\n"));
    home.write("go", "");
    let again = home.json(&["runs", "retry", text(&failed, "run_id"), "--from", "tier2"], 0);
    assert_eq!(again["runs"][0]["outcome"], "succeeded");
    let kinds = home.kinds();
    let count = |kind: &str| kinds.iter().filter(|one| *one == kind).count();
    assert_eq!((count("processor_quarantined"), count("processor_released")), (1, 1));
    assert_eq!(serving.stop(), 0);
}

#[test]
fn screens_of_an_operator() {
    let home = Home::lab(2);
    home.processor("one", "cat > /dev/null; echo one", "");
    home.processor("two", "cat > /dev/null; echo cannot read >&2; exit 3", "");
    assert_eq!(home.run(&["run"]).code, 1);
    let id = text(&home.json(&["runs", "list"], 0)["items"][0], "run_id").to_owned();
    home.write("in", "given\n");
    let input = home.path("in").to_str().unwrap().to_owned();
    let failed = told(&home, &["processors", "test", "two", "--input", &input]);
    home.processor("two", "cat; echo two", "");
    home.activate();
    let retried = told(&home, &["runs", "retry", &id, "--from", "tier2"]);
    let new = text(&home.json(&["runs", "list"], 0)["items"][0], "run_id").to_owned();
    let asked: [&[&str]; 8] = [
        &["processors", "test", "two", "--input", &input],
        &["processors", "test", "tow"],
        &["processors", "test", "two", "--profile", "plian"],
        &["processors", "test", "two", "--input", "nowhere"],
        &["runs", "show", &new],
        &["runs", "retry", "00000000"],
        &["runs", "retry", &id, "--from", "tier3"],
        &["runs", "retry", &id, "--no-wait"],
    ];
    let shown: Vec<_> = asked.iter().map(|args| told(&home, args)).collect();
    assert_snapshot!("operator", in_home(&home, &[&[failed, retried][..], &shown].concat().join("\n")));
    let completions = home.run(&["completions", "bash"]);
    assert!(
        completions.stdout.contains("--pinned") && completions.stdout.contains("tier3"),
        "{}",
        completions.code
    );
}
