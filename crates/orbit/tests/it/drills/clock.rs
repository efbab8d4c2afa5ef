//! The clock is set back an hour and forward a day while the real binary serves: nothing fires twice, nothing is lost, retries still come, and
//! what the clock jumped over is made up for by `catch_up`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde_json::Value;

use super::leaks::Leaks;
use crate::home::{Home, Serving, until};
use crate::receiver::{Receiver, Reply};

/// How often a day it fires.
const EVERY: &str = "0 */6 * * *";
/// Run profiles by the policy of their `catch_up`.
const POLICIES: [&str; 3] = ["none", "last", "all"];

/// The clock of one process, changed while it runs. The monotonic clock goes on as it is.
struct FalseClock {
    file: PathBuf,
}

impl FalseClock {
    fn at(home: &Home, instant: &str) -> Self {
        let clock = Self { file: home.path("clock") };
        clock.set(instant);
        clock
    }

    fn set(&self, instant: &str) {
        let instant: Timestamp = instant.parse().unwrap();
        let ahead = instant.duration_since(Timestamp::now()).as_secs();
        // Renamed, so that it is never read half written.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{ahead:+}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    fn serve(&self, home: &Home) -> Serving {
        let mut command = home.command(&["serve"]);
        command.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
        home.serve_by(command)
    }
}

/// Debian puts it into the folder of the machine's architecture.
pub(super) fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found =
        folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).filter(|path| path.is_file());
    let Some(library) = found.next() else {
        panic!("libfaketime is missing: `scripts/install.sh test` installs it (Debian's package `faketime`)");
    };
    library
}

/// Three run profiles that differ in their policy. One profile owes to an endpoint that waits long between attempts and to one that waits little;
/// another one has a step that waits long.
fn home(slow: &Receiver, quick: &Receiver) -> Home {
    let home = Home::lab(200);
    home.endpoint("slow", &slow.url("/"), "retry: { attempts: 5, schedule: [10m] }\n");
    home.endpoint("quick", &quick.url("/"), "retry: { attempts: 5, schedule: [50ms] }\n");
    home.profile("plain", 1, "distribution_map: [{ endpoint: slow }, { endpoint: quick }]\n");
    home.processor(
        "stumbles",
        "cat; [ -e ../../../../../go ]",
        "retry: { attempts: 3, backoff: { initial: 10m, max: 10m, jitter: none } }\n",
    );
    home.profile_of("stumbling", 2, ["one", "stumbles", "three"], "");
    fs::remove_file(home.path("namespaces/lab/run-profiles/daily.yaml")).unwrap();
    for (number, policy) in (1..).zip(POLICIES) {
        let more = format!(
            "  schedule: {{ cron: \"{EVERY}\" }}\n  overlap: allow\n  catch_up: {{ policy: {policy}, window: 48h }}\n  deadline: 30d\n"
        );
        home.run_profile(policy, number, "[plain, stumbling]", &more);
    }
    home
}

fn list(home: &Home, what: &str) -> Vec<Value> {
    home.json(&[what, "list", "--limit", "1000"], 0)["items"].as_array().unwrap().clone()
}

/// The instants that were fired by the schedule, each once.
fn fired(home: &Home) -> BTreeMap<String, BTreeSet<String>> {
    let mut fired: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for cycle in list(home, "cycles").into_iter().filter(|cycle| cycle["trigger"] == "schedule") {
        let text = |name: &str| cycle[name].as_str().unwrap().to_owned();
        let new = fired.entry(text("run_profile")).or_default().insert(text("nominal_time"));
        assert!(new, "fired twice: {cycle}");
    }
    fired
}

fn fires(home: &Home, expected: [&[&str]; 3]) {
    let instants =
        |all: &[&str]| all.iter().map(|at| format!("2026-03-{at}:00:00Z")).collect::<BTreeSet<_>>();
    let expected: BTreeMap<_, _> =
        POLICIES.iter().zip(expected).map(|(policy, all)| ((*policy).to_owned(), instants(all))).collect();
    until("these firings", || {
        let fired = fired(home);
        let too_much = fired.iter().any(|(policy, all)| !all.is_subset(&expected[policy]));
        assert!(!too_much, "{fired:?}, expected {expected:?}");
        fired == expected
    });
}

/// What was decided about instants that did not fire: how many of them, by run profile.
fn decided(home: &Home, decision: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for record in home.records().iter().filter(|record| record["kind"] == "schedule_decided") {
        let body = &record["body"];
        if body["decision"] == decision {
            let policy = body["run_profile"].as_str().unwrap().to_owned();
            *counts.entry(policy).or_insert(0) += body["count"].as_u64().unwrap();
        }
    }
    counts
}

#[test]
fn a_clock_that_jumps_fires_nothing_twice_and_loses_nothing() {
    let up = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&up);
    let slow = Receiver::start(move |_, _| {
        Reply::Status(if answers.load(Ordering::SeqCst) { 200 } else { 503 }, "", "")
    });
    // The first attempt of every delivery fails.
    let seen = std::sync::Mutex::new(BTreeSet::new());
    let quick = Receiver::start(move |request, _| {
        let first = seen.lock().unwrap().insert(request.headers["idempotency-key"].clone());
        Reply::Status(if first { 503 } else { 200 }, "", "")
    });
    let home = home(&slow, &quick);
    let clock = FalseClock::at(&home, "2026-03-02T11:59:30Z");
    let serving = clock.serve(&home);
    until("the schedules to be seen", || decided(&home, "first_seen").len() == 3);
    clock.set("2026-03-02T12:00:05Z");
    fires(&home, [&["02T12"]; 3]);
    let waits = |row: &Value| row["endpoint"] == "slow" && row["state"] == "waiting" && row["attempts"] == 1;
    until("a step and a delivery of each to wait", || {
        let waiting = list(&home, "runs").into_iter().filter(|run| run["state"] == "waiting").count();
        waiting == 3 && list(&home, "deliveries").into_iter().filter(waits).count() == 3
    });

    // An hour back: nothing fires again, and new work goes on, its retries too.
    clock.set("2026-03-02T11:00:30Z");
    until("the clock to be noticed", || decided(&home, "clock_back").len() == 3);
    up.store(true, Ordering::SeqCst);
    home.write("go", "");
    let by_hand = home.json(&["run", "none", "--wait", "110s"], 0);
    assert_eq!(by_hand["runs"].as_array().unwrap().len(), 2);
    let leaks = Leaks::before(&home, &serving);
    fires(&home, [&["02T12"]; 3]);
    // What waited before waits until the clock has passed that again.
    assert_eq!(list(&home, "deliveries").into_iter().filter(waits).count(), 3);

    clock.set("2026-03-02T12:13:00Z");
    until("what waited to come", || list(&home, "runs").iter().all(|run| run["outcome"] == "succeeded"));
    fires(&home, [&["02T12"]; 3]);

    // A day forward: four instants were jumped over.
    clock.set("2026-03-03T12:30:00Z");
    let all = ["02T12", "02T18", "03T00", "03T06", "03T12"];
    fires(&home, [&["02T12"], &["02T12", "03T12"], &all]);
    clock.set("2026-03-03T18:00:05Z");
    let all = [&all[..], &["03T18"]].concat();
    fires(&home, [&["02T12", "03T18"], &["02T12", "03T12", "03T18"], &all]);
    until("everything to end", || list(&home, "runs").iter().all(|run| run["outcome"] == "succeeded"));
    until("what did not fire to be recorded", || {
        decided(&home, "missed").get("none") == Some(&4)
            && decided(&home, "coalesced").get("last") == Some(&3)
    });
    assert!(list(&home, "deliveries").iter().all(|delivery| delivery["state"] == "accepted"));
    let records = home.records();
    let count = |kind: &str| records.iter().filter(|record| record["kind"] == kind).count();
    assert_eq!(count("attempt_started"), count("receipt_captured"));
    leaks.none();
    assert_eq!(serving.stop(), 0);
}
