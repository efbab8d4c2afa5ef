//! What people see, from the real binary, word for word.

use insta::assert_snapshot;

use crate::home::Home;
use crate::receiver::{Receiver, Reply};
use crate::text::{in_home, redact, told, told_as};

/// A home whose sizes are the same in every run: tier 1 does not repeat the execution request, which holds instants.
fn lab() -> Home {
    let home = Home::lab(1);
    home.processor("one", "cat > /dev/null; echo one", "");
    home
}

#[test]
fn help() {
    let home = Home::new();
    // Nothing here differs from run to run.
    let told = [&["--help"][..], &["run", "--help"], &["rusn"], &["runs", "show"], &["runs", "show", "x"]]
        .map(|args| {
            let answer = home.run(args);
            format!(
                "$ orbit {}\n{}{}--- exit {}\n",
                args.join(" "),
                answer.stdout,
                answer.stderr,
                answer.code
            )
        });
    assert_snapshot!("help", told.join("\n"));
}

#[test]
fn a_new_home_and_its_first_cycle() {
    let home = Home::new();
    let args = ["init", "new"];
    // A home within another is refused; so it is made beside it.
    let within = home.command(&args).current_dir(home.root()).output().unwrap();
    let within = told_as(&home, &args, &crate::home::Answer::of(within));
    let folder = tempfile::tempdir().unwrap();
    let made = home.command(&args).current_dir(folder.path()).output().unwrap();
    let made = told_as(&home, &args, &crate::home::Answer::of(made));
    assert_snapshot!("init", [within, made].join("\n"));
}

#[test]
fn check_with_problems() {
    let home = Home::lab_on_files(1);
    home.processor("two", "cat", "colour: red\n");
    home.write(
        "namespaces/lab/profiles/plain.yaml",
        "label: plain\nexecution_rules:\n  tiers: [{ processor: oen }]\n",
    );
    home.write(
        "namespaces/lab/endpoints/e.yaml",
        "name: e\nurl: \"ftp://x\"\nauth: { bearer: \"plain-text\" }\n",
    );
    assert_snapshot!("check", [told(&home, &["check"]), told(&home, &["run"])].join("\n"));
}

#[test]
fn a_cycle_and_what_is_known_of_it() {
    let home = lab();
    let run = told(&home, &["run"]);
    let id = home.json(&["runs", "list"], 0)["items"][0]["run_id"].as_str().unwrap().to_owned();
    let cycle = home.json(&["cycles", "list"], 0)["items"][0]["cycle_id"].as_str().unwrap().to_owned();
    let asked: [&[&str]; 9] = [
        &["runs", "list"],
        &["runs", "show", &id],
        &["cycles", "list"],
        &["cycles", "show", &cycle],
        &["initiations", "list"],
        &["deliveries", "list"],
        &["profiles", "list"],
        &["log", "tail", "--run", &id],
        &["status"],
    ];
    let known: Vec<_> = asked.iter().map(|args| told(&home, args)).collect();
    let exhausted = told(&home, &["run"]);
    assert_snapshot!("cycle", [&[run][..], &known, &[exhausted]].concat().join("\n"));
}

#[test]
fn a_run_that_fails() {
    let home = lab();
    let retry = "retry: { attempts: 2, backoff: { initial: 10ms } }\n";
    home.processor("two", "cat > /dev/null; echo cannot read the lines >&2; exit 3", retry);
    let run = told(&home, &["run"]);
    let id = home.json(&["runs", "list"], 0)["items"][0]["run_id"].as_str().unwrap().to_owned();
    assert_snapshot!("failed", [run, told(&home, &["runs", "show", &id])].join("\n"));
}

#[test]
fn a_delivery_that_is_given_up() {
    let receiver = Receiver::start(|_, _| Reply::Status(503, "", "busy"));
    let home = lab();
    home.endpoint("archive", &receiver.url("/in"), "retry: { attempts: 2, schedule: [10ms] }\n");
    home.profile("plain", 1, "distribution_map: [{ endpoint: archive }]\n");
    let run = told(&home, &["run", "--wait", "1m"]);
    let delivery = home.json(&["deliveries", "list"], 0)["items"][0].clone();
    let (id, run_id) = (delivery["delivery_id"].as_str().unwrap(), delivery["run_id"].as_str().unwrap());
    let asked = [&["deliveries", "list"][..], &["deliveries", "show", id], &["runs", "show", run_id]];
    let known: Vec<_> = asked.iter().map(|args| told(&home, args)).collect();
    assert_snapshot!("dead_letter", [&[run][..], &known].concat().join("\n"));
}

#[test]
fn halted() {
    let home = Home::lab(1);
    let asked: [&[&str]; 6] =
        [&["halt", "--reason", "drill"], &["halt"], &["run"], &["status"], &["resume"], &["resume"]];
    let told: Vec<_> = asked.iter().map(|args| told(&home, args)).collect();
    assert_snapshot!("halted", told.join("\n"));
}

#[test]
fn schedule_preview() {
    let home = Home::lab(1);
    home.run_profile(
        "daily",
        1,
        "[plain]",
        "  schedule: { cron: \"30 2 * * *\", timezone: Europe/Berlin }\n",
    );
    // Nothing here depends on the present, so the instants stay.
    let answer = home.run(&["schedule", "preview", "--from", "2026-03-27T12:00:00Z", "--count", "4"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_snapshot!("schedule", answer.stdout);
}

#[test]
fn wrong_names() {
    let home = Home::lab(1);
    home.write("namespaces/other/namespace.yaml", "disk_floor: 0 B\n");
    let nothing = "00000000-0000-4000-8000-000000000000";
    let asked: [&[&str]; 8] = [
        &["run"],
        &["run", "dialy", "-n", "lab"],
        &["run", "-n", "lba"],
        &["run", "-n", "lab", "--no-wait"],
        &["runs", "show", "-n", "lab", nothing],
        &["runs", "cancel", "-n", "lab", nothing],
        &["profiles", "show", "-n", "lab", "plian"],
        &["deliveries", "redrive", "-n", "lab", "--all"],
    ];
    let told: Vec<_> = asked.iter().map(|args| told(&home, args)).collect();
    assert_snapshot!("wrong_names", told.join("\n"));
}

#[test]
fn doctor_on_a_good_home() {
    let home = Home::lab_on_files(1);
    let answer = home.run(&["doctor"]);
    // What it says of this machine differs from machine to machine.
    let of_the_home = |line: &&str| {
        ["home", "configuration", "programs", "secrets", "store"]
            .iter()
            .any(|area| line.split_whitespace().nth(1) == Some(area))
    };
    let told: Vec<_> = answer.stdout.lines().filter(of_the_home).collect();
    let told = redact(&in_home(&home, &told.join("\n")));
    assert_snapshot!("doctor", told);
}
