//! A disk that is full in each stage and has room again, a home that cannot be written.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::clock;
use crate::home::{Answer, Home};
use crate::receiver::{Receiver, Reply};

/// A shell function that waits, within bounds, until a command succeeds.
const WAITS: &str = "waits() { n=0; until eval \"$1\"; do n=$((n+1)); [ $n -lt 600 ] || { echo \"gave up: $1\"; break; }; sleep 0.1; done; }; ";

/// Runs a shell script in a mount namespace of its own, in which `$HOME_DIR` is a copy of the home on a small file system.
fn on_a_small_disk(home: &Home, size: &str, script: &str) -> Answer {
    let mounted = tempfile::tempdir().unwrap();
    let prelude = format!(
        "set -e; mount -t tmpfs -o size={size} tmpfs \"$HOME_DIR\"; cp -a \"$FROM\"/. \"$HOME_DIR\"/; orbit() {{ \"$ORBIT\" --home \"$HOME_DIR\" \"$@\"; }}; set +e\n"
    );
    let user = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
    let output = Command::new("unshare")
        .args([user, "sh", "-c", &format!("{prelude}{script}")])
        .env("HOME_DIR", mounted.path())
        .env("FROM", home.root())
        .env("ORBIT", env!("CARGO_BIN_EXE_orbit"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Answer::of(output)
}

#[test]
fn a_full_disk_fails_the_step_and_nothing_else() {
    let home = Home::lab_on_files(5);
    home.processor(
        "two",
        "if [ -e ../../../../../big ]; then head -c 20000000 /dev/zero; else echo small; fi",
        "",
    );
    let script = "touch \"$HOME_DIR\"/big; orbit run >/dev/null 2>\"$HOME_DIR\"/said; echo full=$?; \
        rm \"$HOME_DIR\"/big; orbit run >/dev/null; echo after=$?; \
        orbit runs list --json; cat \"$HOME_DIR\"/said >&2";
    let answer = on_a_small_disk(&home, "12m", script);
    assert!(answer.stdout.contains("full=1"), "{answer:?}");
    assert!(answer.stdout.contains("after=0"), "{answer:?}");
    assert!(answer.stdout.contains("disk") || answer.stdout.contains("space"), "{answer:?}");
    assert!(!answer.stderr.contains("panicked"), "{answer:?}");
}

#[test]
fn what_was_finished_on_a_full_disk_is_kept_once_there_is_space() {
    let home = Home::lab_on_files(5);
    home.processor(
        "two",
        "cat; echo two; touch ../../../../../up; while [ -e ../../../../../up ]; do sleep 0.05; done",
        "",
    );
    let script = "\"$ORBIT\" --home \"$HOME_DIR\" serve 2>\"$FROM\"/serve.log & serve=$!; \
        waits '[ -S \"$HOME_DIR\"/run/orbit.sock ]'; orbit run --no-wait; waits '[ -e \"$HOME_DIR\"/up ]'; \
        head -c 100000000 /dev/zero >\"$HOME_DIR\"/fill 2>/dev/null; rm \"$HOME_DIR\"/up; \
        waits 'grep -q \"waits to be\" \"$FROM\"/serve.log'; rm \"$HOME_DIR\"/fill; \
        waits 'orbit cycles list --limit 1000 --json | grep -q succeeded'; \
        orbit runs list --json >\"$FROM\"/after.json; kill -TERM $serve; wait $serve; echo serve=$?";
    let answer = on_a_small_disk(&home, "12m", &format!("{WAITS}{script}"));
    assert!(answer.stdout.contains("serve=0") && !answer.stdout.contains("gave up"), "{answer:?}");
    let runs = fs::read_to_string(home.path("after.json")).unwrap();
    let runs: Value = serde_json::from_str(&runs).unwrap();
    assert_eq!(runs["items"][0]["outcome"], "succeeded", "{runs}");
    assert_eq!(runs["items"][0]["steps"][1]["attempts"], 1, "{runs}");
}

#[test]
fn a_home_that_is_read_only_is_told_with_a_hint() {
    let home = Home::lab_on_files(5);
    let script = "mount -o remount,ro \"$HOME_DIR\"; orbit run; echo run=$?; orbit serve; echo serve=$?; orbit check >/dev/null; echo check=$?";
    let answer = on_a_small_disk(&home, "12m", script);
    for expected in ["run=1", "serve=1", "check=0"] {
        assert!(answer.stdout.contains(expected), "{expected}: {answer:?}");
    }
    assert!(answer.stderr.contains("ead-only") && answer.stderr.contains("hint:"), "{answer:?}");
    assert!(!answer.stderr.contains("panicked"), "{answer:?}");
}

/// A program, a source or a receiver says that it is at work and waits as long as it is held.
fn holds(home: &Home, stage: &str) -> String {
    let root = home.root().display();
    format!("touch {root}/at-{stage}; while [ -e {root}/hold-{stage} ]; do sleep 0.05; done")
}

/// In each stage: something is at work, the disk fills up, it comes to its end, and the disk has room again.
const STAGES: &str = "\"$ORBIT\" --home \"$HOME_DIR\" serve 2>\"$FROM\"/serve.log & serve=$!; \
    waits '[ -S \"$HOME_DIR\"/run/orbit.sock ]'; done=0; \
    fill() { head -c 100000000 /dev/zero >\"$HOME_DIR\"/fill 2>/dev/null; }; \
    finished() { orbit cycles list --limit 1000 --json | grep -c '\"outcome\": \"succeeded\"'; }; \
    for stage in source tier receiver; do \
        rm -f \"$FROM\"/at-$stage; touch \"$FROM\"/hold-$stage; orbit run --no-wait >/dev/null; done=$((done+1)); waits '[ -e \"$FROM\"/at-$stage ]'; \
        fill; said=$(grep -c 'waits' \"$FROM\"/serve.log); rm \"$FROM\"/hold-$stage; \
        waits '[ $(grep -c waits \"$FROM\"/serve.log) -gt $said ] || [ $(finished) -ge $done ]'; \
        orbit status >/dev/null; echo \"$stage status=$?\"; rm \"$HOME_DIR\"/fill; waits '[ $(finished) -ge $done ]'; \
    done; \
    fill; n=0; while [ $n -lt 60 ] && orbit run --no-wait >/dev/null 2>\"$FROM\"/said; do n=$((n+1)); done; \
    echo \"fired=$n\"; rm \"$HOME_DIR\"/fill; orbit run >/dev/null; echo after=$?; waits '[ $(finished) -ge $((done+n+1)) ]'; \
    orbit runs list --limit 1000 --json >\"$FROM\"/after.json; ls -A \"$HOME_DIR\"/data/lab/blobs/incoming \"$HOME_DIR\"/data/lab/work >\"$FROM\"/left; \
    kill -TERM $serve; wait $serve; echo serve=$?";

#[test]
fn a_disk_that_fills_up_in_any_stage_loses_nothing_and_needs_nobody() {
    let home = Home::lab_on_files(1);
    let hold = home.path("hold-receiver");
    let at = home.path("at-receiver");
    let receiver = Receiver::start(move |_, _| {
        fs::write(&at, "").unwrap();
        crate::home::until("the receiver to be let go", || !hold.exists());
        Reply::Status(200, "", "")
    });
    home.endpoint("archive", &receiver.url("/"), "timeout: 100s\n");
    let path = home.path("namespaces/lab/endpoints/archive.yaml");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("timeout: 20s\n", "")).unwrap();
    home.profile("plain", 1, "distribution_map: [{ endpoint: archive }]\n");
    home.processor("two", &format!("cat; echo two; {}", holds(&home, "tier")), "");
    let items = "seq 100 | sed 's/.*/{\"label\":\"item-&\"}/'";
    let argv = serde_json::to_string(&format!("{items}; {}", holds(&home, "source"))).unwrap();
    home.write(
        "namespaces/lab/sources/words.yaml",
        &format!("name: words\nkind: exec\nargv: [sh, -c, {argv}]\n"),
    );
    let answer = on_a_small_disk(&home, "16m", &format!("{WAITS}{STAGES}"));
    let expected = ["source status=0", "tier status=0", "receiver status=0", "after=0", "serve=0"];
    assert!(expected.iter().all(|word| answer.stdout.contains(word)), "{answer:?}");
    assert!(!answer.stdout.contains("gave up") && !answer.stdout.contains("fired=60"), "{answer:?}");
    let said = fs::read_to_string(home.path("said")).unwrap();
    assert!(said.contains("the disk that holds `") && said.contains("is full"), "{said}");
    let read = |name: &str| fs::read_to_string(home.path(name)).unwrap();
    let left = read("left");
    assert!(left.lines().all(|line| line.is_empty() || line.ends_with(':')), "left behind: {left}");
    let runs: Value = serde_json::from_str(&read("after.json")).unwrap();
    let runs = runs["items"].as_array().unwrap();
    for run in runs {
        assert_eq!(run["outcome"], "succeeded", "{run}");
        assert!(run["steps"].as_array().unwrap().iter().all(|step| step["attempts"] == 1), "{run}");
        assert_eq!(run["deliveries"][0]["attempts"], 1, "{run}");
    }
    // What was acknowledged came once, and what was refused never.
    assert_eq!(receiver.requests().len(), runs.len());
    let log = read("serve.log");
    assert!(!log.contains("panicked"), "{log}");
}

/// Two days apart by the clock of the processes alone: how much was lost in between is known to each process that comes later.
#[test]
fn when_the_disk_will_be_full_is_told_by_what_was_free_before() {
    let home = Home::lab_on_files(5);
    home.write("namespaces/lab/namespace.yaml", "label: Lab\ndisk_floor: 8 MiB\n");
    let script = "later() { LD_PRELOAD=\"$FAKE\" FAKETIME=\"+$1\" FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1 \"$ORBIT\" --home \"$HOME_DIR\" status --json; }; \
        head -c 4194304 /dev/zero >\"$HOME_DIR\"/first; orbit run >/dev/null; echo run=$?; later 0h >\"$FROM\"/now.json; later 20h >\"$FROM\"/early.json; \
        head -c 8388608 /dev/zero >\"$HOME_DIR\"/more; later 2d >\"$FROM\"/filling.json; orbit status | grep forecast; \
        rm \"$HOME_DIR\"/more \"$HOME_DIR\"/first; later 2d >\"$FROM\"/steady.json; head -c 60000000 /dev/zero >\"$HOME_DIR\"/more; later 2d >\"$FROM\"/reached.json";
    let library = clock::library();
    let answer = on_a_small_disk(&home, "64m", &format!("FAKE={}; {script}", library.display()));
    assert!(answer.stdout.contains("run=0"), "{answer:?}");
    let forecast = |name: &str| {
        let status: Value = serde_json::from_str(&fs::read_to_string(home.path(name)).unwrap()).unwrap();
        status["namespaces"][0]["disk_forecast"].clone()
    };
    let [now, early] = ["now.json", "early.json"].map(forecast);
    assert_eq!((&now["state"], &now["needed_ms"]), (&"unknown".into(), &86_400_000.into()), "{now}");
    assert!(now["known_ms"].as_u64() < Some(600_000), "{now}");
    assert_eq!(early["state"], "unknown", "{early}");
    assert!(early["known_ms"].as_u64() >= Some(72_000_000), "{early}");
    assert!(answer.stdout.contains("forecast    unknown: free space was noted for"), "{answer:?}");
    // 8 MiB in two days, and what the run took, of some 40 that are left above the floor.
    let filling = forecast("filling.json");
    let rate = filling["bytes_a_day"].as_u64().unwrap();
    assert!(filling["state"] == "fills" && (4_000_000..6_000_000).contains(&rate), "{filling}");
    let until = filling["floor_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let days = until.duration_since(jiff::Timestamp::now()).as_secs() / 86_400 - 2;
    assert!((6..=12).contains(&days), "{days} days: {filling}");
    assert_eq!(forecast("steady.json")["state"], "steady");
    assert_eq!(forecast("reached.json")["state"], "reached");
}

/// Halts and lifts the halt until a record needs the ballast; says what came of it.
const HALTS: &str = "halts() { n=0; while [ $n -lt 300 ]; do orbit halt -n lab --reason full >/dev/null 2>\"$FROM\"/halt || { echo \"$1 refused\"; return; }; \
        [ -e \"$BALLAST\" ] || [ \"$1\" = without ] || { echo \"$1 halted\"; return; }; \
        orbit resume -n lab >/dev/null 2>&1 || { echo \"$1 refused\"; return; }; n=$((n+1)); done; echo \"$1 gave up\"; }; \
    fill() { head -c 200000000 /dev/zero >\"$HOME_DIR\"/\"$1\" 2>/dev/null; }; \
    served() { \"$ORBIT\" --home \"$HOME_DIR\" serve 2>>\"$FROM\"/serve.log & serve=$!; waits '[ -S \"$HOME_DIR\"/run/orbit.sock ] && orbit status --json | grep -q \"serving\\\": true\"'; }; ";

#[test]
fn a_full_disk_can_still_be_halted_and_started_on() {
    let home = Home::lab_on_files(5);
    // The first process is killed on a full disk and the second starts there; then it is halted on one, and on one without ballast it cannot be.
    let script = "BALLAST=\"$HOME_DIR\"/data/system/ballast; served; stat -c 'ballast=%s' \"$BALLAST\"; \
        fill one; kill -KILL $serve; wait $serve; rm -f \"$HOME_DIR\"/run/orbit.sock; served; orbit status >/dev/null; echo status=$?; [ -e \"$BALLAST\" ] || echo 'given up to start'; \
        rm \"$HOME_DIR\"/one; waits '[ -e \"$BALLAST\" ]'; \
        fill two; halts with; orbit status --json | grep -c '\"reason\": \"full\"'; rm \"$HOME_DIR\"/two; waits '[ -e \"$BALLAST\" ]'; orbit resume -n lab >/dev/null; \
        fill three; rm \"$BALLAST\"; fill four; halts without; cat \"$FROM\"/halt; \
        rm \"$HOME_DIR\"/three \"$HOME_DIR\"/four; orbit resume -n lab >/dev/null 2>&1; orbit run >/dev/null; echo run=$?; kill -TERM $serve; wait $serve; echo serve=$?; \
        orbit log verify >/dev/null; echo verify=$?; orbit log tail -n lab --limit 1000 --json | grep -c '\"full\"'";
    let answer = on_a_small_disk(&home, "96m", &format!("{WAITS}{HALTS}{script}"));
    let log = fs::read_to_string(home.path("serve.log")).unwrap_or_default();
    let expected = [
        "ballast=16777216",
        "status=0",
        "given up to start",
        "with halted\n",
        "without refused\n",
        "is full",
    ];
    for word in expected.into_iter().chain(["run=0", "serve=0", "verify=0"]) {
        assert!(answer.stdout.contains(word), "{word}: {answer:?}\n{log}");
    }
    assert!(!answer.stdout.contains("gave up") && !log.contains("panicked"), "{answer:?}\n{log}");
    assert!(log.contains("is given up, so that what happens can be recorded"), "{log}");
}

#[test]
fn without_room_for_the_copy_no_migration_begins() {
    let home = Home::lab_on_files(1);
    assert_eq!(home.run(&["run"]).code, 0);
    let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/../store/tests/stores/0001.db");
    for entry in fs::read_dir(home.path("data/lab")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("orbit.db") {
            fs::remove_file(path).unwrap();
        }
    }
    let file = home.path("data/lab/orbit.db");
    fs::copy(stored, &file).unwrap();
    // A disk as small as this one gets none.
    fs::remove_file(home.path("data/system/ballast")).unwrap();
    // What is in the background is the program itself: of the function it would be a shell, whose end leaves the program at work.
    let script = "head -c 100000000 /dev/zero >\"$HOME_DIR\"/fill 2>/dev/null; truncate -s -128K \"$HOME_DIR\"/fill; \
        orbit run >&2; echo run=$?; ls \"$HOME_DIR\"/data/lab | grep -c before; \
        rm \"$HOME_DIR\"/fill; orbit log verify -n lab >&2; orbit doctor >/dev/null; rm -f \"$HOME_DIR\"/run/orbit.sock; \"$ORBIT\" --home \"$HOME_DIR\" serve >/dev/null 2>&1 & serve=$!; \
        waits '[ -S \"$HOME_DIR\"/run/orbit.sock ]'; kill -TERM $serve; wait $serve; echo serve=$?; ls \"$HOME_DIR\"/data/lab | grep before";
    let answer = on_a_small_disk(&home, "12m", &format!("{WAITS}{script}"));
    for expected in ["run=1\n0\n", "serve=0", "orbit.db.before-2"] {
        assert!(answer.stdout.contains(expected), "{expected}: {answer:?}");
    }
    assert!(answer.stderr.contains("there is no room to copy"), "{answer:?}");
    assert!(answer.stderr.contains("schema 1 is from before"), "nothing has changed: {answer:?}");
    assert!(answer.stderr.contains("hint: free some space"), "{answer:?}");
}
