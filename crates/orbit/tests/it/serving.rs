//! `orbit serve` as a process: health, the socket, stops, one holder a home, live configuration.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

use serde_json::Value;

use crate::home::{Answer, Home, until};

fn get(address: &str, path: &str) -> (u16, Value) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: orbit\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn health_the_socket_and_one_holder() {
    let home = Home::lab(3);
    let serving = home.serve();
    let status = home.json(&["status"], 0);
    let address = status["listen"].as_str().unwrap();
    assert_eq!(get(address, "/healthz").0, 200);
    let (code, ready) = get(address, "/readyz");
    assert_eq!((code, &ready["status"]), (200, &Value::from("ready")), "{ready}");
    assert_eq!(status["pid"], serving.pid());
    let mode = |below: &str| fs::metadata(home.path(below)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run/orbit.sock"), mode("run")), (0o600, 0o700));
    let second = home.run(&["serve"]);
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.stderr.contains("serves this home") && second.stderr.contains("hint:"), "{second:?}");
    // The first one did not notice.
    assert_eq!(home.json(&["status"], 0)["pid"], serving.pid());
    assert_eq!(home.run(&["run"]).code, 0);
    assert_eq!(serving.stop(), 0);
    assert!(!home.path("run/orbit.sock").exists());
}

/// A crash between making a child and its program leaves the child with the socket and the lock of the process that is gone.
#[test]
fn who_only_has_the_socket_of_a_dead_process_does_not_hold_the_home() {
    let home = Home::lab(1);
    assert_eq!(home.run(&["status"]).code, 0, "makes `run/`");
    // Takes questions and goes without an answer: socket first, then the lock.
    let dead = |questions: usize| {
        let lock =
            fs::File::options().write(true).create(true).truncate(false).open(home.path("run/lock")).unwrap();
        lock.lock().unwrap();
        _ = fs::remove_file(home.path("run/orbit.sock"));
        let socket = UnixListener::bind(home.path("run/orbit.sock")).unwrap();
        std::thread::spawn(move || {
            for _ in 0..questions {
                let (stream, _) = socket.accept().unwrap();
                BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            }
            drop((socket, lock));
        })
    };
    // A command asks whoever comes next until it gets an answer, and fires nothing by itself.
    let asked = dead(2);
    let command =
        home.command(&["run", "--no-wait"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    asked.join().unwrap();
    let serving = home.serve();
    let fired = Answer::of(command.wait_with_output().unwrap());
    let cycles = home.json(&["cycles", "list"], 0);
    let ids: Vec<_> = cycles["items"].as_array().unwrap().iter().map(|one| &one["cycle_id"]).collect();
    assert_eq!(fired.code, 0, "{fired:?}");
    assert_eq!(ids, [&Value::from(fired.stdout.trim())]);
    assert_eq!(serving.stop(), 0);
    // A service takes the home.
    let asked = dead(1);
    let mut serving = home.start(home.command(&["serve"]));
    asked.join().unwrap();
    home.ready(&mut serving);
    assert_eq!(serving.stop(), 0);
}

/// A command may be what ends whoever takes it.
#[test]
fn a_question_that_nobody_ever_answers_is_asked_a_few_times() {
    let home = Home::lab(1);
    assert_eq!(home.run(&["status"]).code, 0, "makes `run/`");
    let socket = UnixListener::bind(home.path("run/orbit.sock")).unwrap();
    let taken = std::thread::spawn(move || {
        let lines = socket.incoming().map(|stream| {
            let mut line = String::new();
            BufReader::new(stream.unwrap()).read_line(&mut line).unwrap();
            line
        });
        lines.take_while(|line| !line.is_empty()).count()
    });
    let answer = home.run(&["run", "--no-wait"]);
    drop(UnixStream::connect(home.path("run/orbit.sock")).unwrap());
    assert_eq!(taken.join().unwrap(), 11, "once, and ten times again");
    assert!(answer.code == 1 && answer.stderr.contains("gave no answer"), "{answer:?}");
    assert_eq!(home.json(&["cycles", "list"], 0)["items"], Value::Array(vec![]), "nothing was fired");
}

#[test]
fn commands_say_the_same_beside_a_serve_and_without() {
    let home = Home::lab(3);
    let run = home.json(&["run"], 0)["runs"][0]["run_id"].as_str().unwrap().to_owned();
    let cycle = home.json(&["cycles", "list"], 0)["items"][0]["cycle_id"].as_str().unwrap().to_owned();
    let questions: [&[&str]; 6] = [
        &["runs", "list", "--json"],
        &["runs", "show", &run, "--json"],
        &["runs", "show", &run],
        &["cycles", "show", &cycle],
        &["initiations", "list"],
        &["deliveries", "list"],
    ];
    let ask = || {
        questions.map(|question| home.run(question)).map(|answer| (answer.code, answer.stdout, answer.stderr))
    };
    let without = ask();
    let serving = home.serve();
    let beside = ask();
    assert_eq!(without, beside);
    assert!(without.iter().all(|answer| answer.0 == 0), "{without:?}");
    assert_eq!(serving.stop(), 0);
}

#[test]
fn the_first_signal_lets_work_finish_and_the_second_does_not() {
    let home = Home::lab(5);
    home.processor(
        "two",
        "cat; touch ../../../../../started; until [ -e ../../../../../go ]; do sleep 0.05; done",
        "limits: { grace: 100ms }\n",
    );
    let serving = home.serve();
    assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    until("the program to run", || home.path("started").exists());
    serving.signal("-TERM");
    until("the stop to begin", || serving.log().contains("stopping"));
    home.write("go", "");
    let mut serving = serving;
    assert_eq!(serving.wait(), 0);
    let runs = home.json(&["runs", "list"], 0);
    // The step under way was finished; what comes after it is for the next start.
    assert_eq!(runs["items"][0]["steps"][1]["state"], "succeeded", "{runs}");
    fs::remove_file(home.path("go")).unwrap();
    fs::remove_file(home.path("started")).unwrap();

    let mut serving = home.serve();
    assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    until("the program to run", || home.path("started").exists());
    serving.signal("-TERM");
    until("the stop to begin", || serving.log().matches("stopping").count() == 2);
    serving.signal("-INT");
    assert_eq!(serving.wait(), 0);
    assert!(home.processes().is_empty(), "{:?}", home.processes());
    home.write("go", "");
    let serving = home.serve();
    until("every run to finish", || {
        let runs = home.json(&["runs", "list"], 0);
        let runs = runs["items"].as_array().unwrap();
        runs.len() == 2 && runs.iter().all(|run| run["outcome"] == "succeeded")
    });
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_changed_configuration_is_taken_live_and_a_broken_one_changes_nothing() {
    let home = Home::lab_on_files(50);
    let serving = home.serve();
    let snapshot = || home.json(&["status"], 0)["namespaces"][0]["snapshot"].as_str().unwrap().to_owned();
    let before = snapshot();
    home.processor("two", "cat; echo changed", "");
    until("the change to be active", || snapshot() != before);
    let changed = snapshot();
    home.write("namespaces/lab/processors/two.yaml", "name: two\nkind: exec\nargv: []\nargv: [a]\n");
    until("the refusal to be recorded", || {
        let log = home.run(&["log", "tail", "-n", "system", "--json", "--limit", "1000"]);
        log.stdout.contains("config_refused")
    });
    assert_eq!(snapshot(), changed);
    assert_eq!(home.run(&["run"]).code, 0);
    assert_eq!(serving.stop(), 0);
    // Without a serving process a broken configuration stops the command, and says where.
    let refused = home.run(&["run"]);
    assert_eq!((refused.code, refused.stderr.contains("two.yaml:4:1")), (2, true), "{refused:?}");
}

#[test]
fn a_home_that_cannot_be_used_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = std::process::Command::new(env!("CARGO_BIN_EXE_orbit"))
        .args(["--home", folder.path().to_str().unwrap(), "run"])
        .output()
        .unwrap();
    let text = String::from_utf8(nowhere.stderr).unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(text.contains("not a home") && text.contains("hint:"), "{text}");
}
