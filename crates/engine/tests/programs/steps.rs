//! Steps of a run from the claim to the commit, against the real store and with real programs.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use orbit_core::config::DocName;
use orbit_core::tiers::Failure;
use orbit_engine::keeper::Keeper;
use orbit_engine::running::Cut;
use orbit_engine::service::{Service, Turn};
use orbit_engine::tiers::{InProcess, Job, Workers};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::fixture::block_on;
use crate::world::{Plan, World};

type Test = fn();

/// Every test by name.
pub(crate) const ALL: [(&str, Test); 17] = [
    ("a_run_from_the_instruction_to_the_artifact", a_run_from_the_instruction_to_the_artifact),
    ("what_is_owed_is_named_with_the_last_step", what_is_owed_is_named_with_the_last_step),
    ("a_program_sees_what_it_is_told", a_program_sees_what_it_is_told),
    ("failed_attempts_are_repeated_and_told", failed_attempts_are_repeated_and_told),
    ("outputs_that_are_none", outputs_that_are_none),
    ("what_cannot_be_rendered_is_not_started", what_cannot_be_rendered_is_not_started),
    ("damaged_input_is_not_worked_on", damaged_input_is_not_worked_on),
    ("an_embedded_processor_takes_the_programs_place", an_embedded_processor_takes_the_programs_place),
    ("a_panic_is_a_failure", a_panic_is_a_failure),
    ("a_halt_interrupts", a_halt_interrupts),
    ("a_stop_interrupts", a_stop_interrupts),
    ("a_stopping_node_claims_no_next_step", a_stopping_node_claims_no_next_step),
    ("a_stopping_node_starts_no_program", a_stopping_node_starts_no_program),
    ("what_is_due_and_may_not_start_keeps_nobody_awake", what_is_due_and_may_not_start_keeps_nobody_awake),
    ("a_cancelled_run_commits_nothing", a_cancelled_run_commits_nothing),
    ("the_deadline_ends_the_run", the_deadline_ends_the_run),
    ("a_lost_supervisor_is_an_interruption", a_lost_supervisor_is_an_interruption),
];

fn a_run_from_the_instruction_to_the_artifact() {
    block_on(async {
        let world = World::new(Plan::of(vec![
            json!({ "argv": ["sh", "-c", "cat; printf '|1'"], "input": "stdin" }),
            json!({
                "argv": ["sh", "-c", "(tail -c 2 \"$1\"; printf '|2') > \"$2\"", "sh", "{{ input }}", "{{ output }}"],
                "output": { "to": "file", "extension": "txt", "media_type": "text/plain" },
            }),
            json!({ "argv": ["cat", "{{ input }}", "{{ reference }}"] }),
            json!({ "argv": ["sh", "-c", "tr '|' '/'"], "input": "stdin" }),
        ]))
        .await;
        let claimed = world.claim().await.unwrap();
        // One call: the store gives the next step with each commit.
        world.work(claimed).await;
        world.nothing_is_left();
        let view = world.view().await;
        assert_eq!((view.state.as_str(), view.outcome.as_deref()), ("finished", Some("succeeded")));
        let first = world.bytes(&view, 0);
        let line = first.strip_suffix(b"\n|1").unwrap();
        let context: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(orbit_core::canonical::to_string(&context).as_bytes(), line);
        let mut keys: Vec<_> = context.as_object().unwrap().keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, ["cycle", "initiation", "instruction", "profile", "run"]);
        assert_eq!(world.bytes(&view, 1), b"|1|2");
        assert_eq!(view.steps[1].media_type.as_deref(), Some("text/plain"));
        assert_eq!(world.bytes(&view, 2), b"|1|2<asset>");
        assert_eq!(world.bytes(&view, 3), b"/1/2<asset>");
        let records = world.records("step_succeeded").await;
        let usage = &records[1].body["detail"]["usage"];
        let usage = if usage.is_null() { &records[1].body["usage"] } else { usage };
        assert_eq!(usage["enforced_by"], "sampling", "{}", records[1].body);
    });
}

fn what_is_owed_is_named_with_the_last_step() {
    block_on(async {
        let url = "https://receiver.test/in/{{ initiation.label }}";
        let world =
            World::new(Plan { url: Some(url), ..Plan::scripts(["echo 1", "echo 2", "echo 3"]) }).await;
        let view = world.go().await;
        assert_eq!(view.state, "dispatching");
        assert_eq!(view.deliveries[0].url, "https://receiver.test/in/a%20label");

        let url = "https://receiver.test/in/{{ initiation.nothing }}";
        let world =
            World::new(Plan { url: Some(url), ..Plan::scripts(["echo 1", "echo 2", "echo 3"]) }).await;
        let view = world.go().await;
        assert_eq!(view.outcome.as_deref(), Some("failed"));
        assert!(view.reason.unwrap().contains("endpoint `archive`"));
    });
}

fn a_program_sees_what_it_is_told() {
    block_on(async {
        let script = "pwd; echo $HOME; echo $TMPDIR; echo $ORBIT_RUN_ID; echo $ORBIT_ATTEMPT; echo $LANG; echo $MODE; \
                      [ -n \"$ORBIT_IDEMPOTENCY_KEY\" ] && echo keyed; echo ${KEY:-none}; cat \"$1\" | wc -l; ls";
        let processor = json!({
            "argv": ["programs/first", script, "sh", "{{ context }}"], "input": "none",
            "env": { "MODE": "fast", "KEY": "${KEY}" },
        });
        let world = World::new(Plan::first(processor)).await;
        let program = world.namespace.folder().join("programs/first");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::write(&program, "#!/bin/sh\nexec sh -c \"$@\"\n").unwrap();
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
        std::fs::set_permissions(&program, mode).unwrap();
        let view = world.go().await;
        let text = String::from_utf8(world.bytes(&view, 0)).unwrap();
        let work = world.namespace.shared.layout.work(&world.namespace.name);
        let folder = work.join(world.run_id.to_string()).join("tier1-1").display().to_string();
        let run = world.run_id.to_string();
        let expected = [
            &folder,
            &folder,
            &folder,
            &run,
            "1",
            "C.UTF-8",
            "fast",
            "keyed",
            "s3cret-value",
            "1",
            "context.json",
            "output.bin",
        ];
        assert_eq!(text.lines().map(str::trim).collect::<Vec<_>>(), expected);
    });
}

fn failed_attempts_are_repeated_and_told() {
    block_on(async {
        let processor = json!({
            "argv": ["sh", "-c", "echo \"attempt $ORBIT_ATTEMPT with $KEY\" >&2; exit 4"],
            "env": { "KEY": "${KEY}" },
        });
        let world = World::new(Plan::first(processor)).await;
        let view = world.go_on().await;
        assert_eq!((view.outcome.as_deref(), view.steps[0].attempts), (Some("failed"), 3));
        assert_eq!(view.steps[0].failure.as_deref(), Some("exited with code 4"));
        let failures = world.records("step_failed").await;
        assert_eq!(failures.len(), 3);
        assert!(failures[0].body.to_string().contains(r#""failure":"exit""#), "{}", failures[0].body);
        let words = world.records("step_output").await;
        assert_eq!(words.len(), 3);
        assert!(words[2].body.to_string().contains("attempt 3 with [redacted]"), "{}", words[2].body);

        let twice = "[ $ORBIT_ATTEMPT -eq 3 ] && echo good";
        let world = World::new(Plan::first(json!({ "argv": ["sh", "-c", twice] }))).await;
        let view = world.go_on().await;
        assert_eq!((view.outcome.as_deref(), view.steps[0].attempts), (Some("succeeded"), 3));
        let code = json!({ "argv": ["sh", "-c", "echo odd; exit 9"], "success_exit_codes": [9] });
        assert_eq!(World::new(Plan::first(code)).await.go().await.outcome.as_deref(), Some("succeeded"));
    });
}

/// The failure of the first step's last attempt; one attempt only, unless the document says otherwise.
async fn failure_of(mut processor: Value) -> String {
    let once = json!({ "attempts": 1 });
    processor.as_object_mut().unwrap().entry("retry").or_insert(once);
    let view = World::new(Plan::first(processor)).await.go_on().await;
    assert_eq!(view.outcome.as_deref(), Some("failed"));
    view.steps[0].failure.clone().unwrap()
}

fn outputs_that_are_none() {
    block_on(async {
        let to_file = |script: &str| json!({ "argv": ["sh", "-c", script, "sh", "{{ output }}"], "output": { "to": "file" } });
        let check = async |processor: Value, expected: &str| {
            let failure = failure_of(processor).await;
            assert!(failure.contains(expected), "{failure}, expected {expected}");
        };
        let not_a_file = "not a regular file";
        check(to_file("true"), "left no output file").await;
        check(to_file("ln -s /etc/passwd \"$1\""), not_a_file).await;
        check(to_file("mkdir \"$1\""), not_a_file).await;
        check(to_file("mkfifo \"$1\""), not_a_file).await;
        check(
            to_file("d=$(pwd); cd ..; mv \"$d\" moved; ln -s moved \"$d\"; echo x > \"$1\"; rm -r moved"),
            not_a_file,
        )
        .await;
        check(to_file(": > \"$1\""), "has 0 bytes, expected at least 1").await;
        check(json!({ "argv": ["true"] }), "has 0 bytes, expected at least 1").await;
        let with = |script: &str, key: &str, value: Value| {
            let mut processor = json!({ "argv": ["sh", "-c", script], "input": "stdin" });
            processor[key] = value;
            processor
        };
        check(
            with("echo 12345", "validate", json!({ "bytes_min": "7 B" })),
            "has 6 bytes, expected at least 7",
        )
        .await;
        check(
            with("echo 12345", "validate", json!({ "bytes_max": "5 B" })),
            "has 6 bytes, expected at most 5",
        )
        .await;
        check(with("echo 12345", "validate", json!({ "prefix_hex": "3133" })), "begins with `3132`").await;
        check(with("yes", "limits", json!({ "output": "64 KiB" })), "went over `limits.output`").await;
        check(with("sleep 1000", "limits", json!({ "wall": "100ms" })), "took longer than 100 ms").await;
        let mut large = to_file("yes > \"$1\"; exit 1");
        large["limits"] = json!({ "output": "64 KiB" });
        check(large, "went over `limits.output`").await;
        check(json!({ "argv": ["no-such-program"] }), "could not start: there is no program").await;

        let same = json!({ "argv": ["cat"], "input": "stdin", "validate": { "differs_from_input": true }, "retry": { "attempts": 1 } });
        let mut plan = Plan::first(json!({ "argv": ["echo", "x"] }));
        plan.processors[1] = same;
        let view = World::new(plan).await.go().await;
        assert_eq!(view.steps[1].failure.as_deref(), Some("the output is the same as the input"));
    });
}

fn what_cannot_be_rendered_is_not_started() {
    block_on(async {
        // None of these is tried again, though three attempts are allowed.
        let check = async |processor: Value, label: &'static str, expected: &str| {
            let world = World::new(Plan { label, ..Plan::first(processor) }).await;
            let view = world.go().await;
            assert_eq!((view.outcome.as_deref(), view.steps[0].attempts), (Some("failed"), 1));
            let failure = view.steps[0].failure.clone().unwrap();
            assert!(failure.contains(expected), "{failure}");
        };
        let echo = |argument: &str| json!({ "argv": ["echo", argument] });
        check(echo("{{ initiation.label }}"), "-rf", "argv[1] begins with a value that begins with `-`")
            .await;
        check(echo("{{ nothing }}"), "x", "argv[1]: the template cannot be rendered").await;
        check(echo("{{ output }}"), "x", "argv[1]: the template cannot be rendered").await;
        check(echo("{{ initiation.label }}"), "a\0b", "argv[1]: a zero byte").await;
        let secret = json!({ "argv": ["echo", "x"], "env": { "A": "${OTHER}" } });
        check(secret, "x", "`ORBIT_SECRET_STUDIO_OTHER` is not set").await;
        // Literal text may begin as it likes.
        let world = World::new(Plan { label: "-rf", ..Plan::first(echo("-n={{ initiation.label }}")) }).await;
        let view = world.go().await;
        assert_eq!(world.bytes(&view, 0), b"-n=-rf\n");
    });
}

fn damaged_input_is_not_worked_on() {
    block_on(async {
        let check = async |damage: fn(&Path), expected: &str| {
            let world = World::new(Plan::scripts(["seq 20000", "cat input", "cat input"])).await;
            // A node that is paused gives no further step to the same worker.
            world.namespace.shared.paused.set(true);
            let first = world.claim().await.unwrap();
            world.work(first).await;
            world.namespace.shared.paused.set(false);
            assert_eq!(world.view().await.steps.len(), 1);
            damage(&world.blob(&world.view().await, 0));
            let view = world.go().await;
            assert_eq!((view.outcome.as_deref(), view.steps[1].attempts), (Some("failed"), 1));
            let failure = view.steps[1].failure.clone().unwrap();
            assert!(failure.contains(expected), "{failure}");
        };
        let overwrite = |path: &Path| {
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, "2\n").unwrap();
        };
        check(overwrite, "is damaged in the store").await;
        check(|path| std::fs::remove_file(path).unwrap(), "is not in the store").await;
    });
}

fn embedded(function: impl Fn(&Job, &[u8]) -> Result<Vec<u8>, Failure> + Send + Sync + 'static) -> Plan {
    let mut plan = Plan::scripts(["echo 1", "exit 1", "cat input"]);
    plan.processors[1]["retry"] = json!({ "attempts": 1 });
    plan.embedded.insert(DocName::parse("p2").unwrap(), Arc::new(InProcess::new(function)));
    plan
}

fn an_embedded_processor_takes_the_programs_place() {
    block_on(async {
        let world = World::new(embedded(|job, input| Ok([input, job.step.name().as_bytes()].concat()))).await;
        let view = world.go().await;
        assert_eq!(world.bytes(&view, 2), b"1\ntier2");
        let refuse =
            |_: &Job, _: &[u8]| Err(Failure::Refused { message: "not today".to_owned(), retry: false });
        let view = World::new(embedded(refuse)).await.go().await;
        assert_eq!(view.steps[1].failure.as_deref(), Some("not today"));
        // The document's rules hold for it too.
        let view = World::new(embedded(|_, _| Ok(Vec::new()))).await.go().await;
        assert_eq!(view.steps[1].failure.as_deref(), Some("the output has 0 bytes, expected at least 1"));
    });
}

fn a_panic_is_a_failure() {
    block_on(async {
        let view = World::new(embedded(|_, _| panic!("a defect"))).await.go().await;
        assert_eq!(view.outcome.as_deref(), Some("failed"));
        assert_eq!(view.steps[1].failure.as_deref(), Some("panicked: a defect"));
    });
}

/// A run whose first step writes its parent's number into a pipe and then stays; `act` is called when it is up.
async fn when_it_is_up(
    deadline: SignedDuration,
    wall: &str,
    act: impl FnOnce(&World, i32) + Send + 'static,
) -> Arc<World> {
    let script = "exec 3>\"$LINE\"; echo $PPID >&3; sleep 1000";
    let line = tempfile::tempdir().unwrap();
    let path = line.path().join("line");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let processor =
        json!({ "argv": ["sh", "-c", script], "env": { "LINE": path }, "limits": { "wall": wall } });
    let world = Arc::new(World::new(Plan { deadline, ..Plan::first(processor) }).await);
    let claimed = world.claim().await.unwrap();
    let acting = Arc::clone(&world);
    let acted = tokio::task::spawn_blocking(move || {
        let mut first = String::new();
        BufReader::new(File::open(path).unwrap()).read_line(&mut first).unwrap();
        act(&acting, first.trim().parse().unwrap());
    });
    world.work(claimed).await;
    acted.await.unwrap();
    world.nothing_is_left();
    assert_eq!(world.namespace.running.count(), 0);
    world
}

fn check_cut(cut: Cut, cause: &str) {
    block_on(async {
        let hour = SignedDuration::from_hours(1);
        let world = when_it_is_up(hour, "1h", move |world, _| _ = world.namespace.running.cut_all(cut)).await;
        assert_eq!(world.view().await.state, "ready");
        let records = world.records("step_interrupted").await;
        assert_eq!(records.len(), 1);
        assert!(
            records[0].body.to_string().contains(&format!(r#""cause":"{cause}""#)),
            "{}",
            records[0].body
        );
        let again = world.claim().await.unwrap();
        assert_eq!((again.attempt, again.failed), (2, 0));
    });
}

fn a_halt_interrupts() {
    check_cut(Cut::Halt, "halt");
}

fn a_stop_interrupts() {
    check_cut(Cut::Stop, "stop");
    // Whoever does not trust its lease stops the same way.
    check_cut(Cut::Lapsed, "stop");
}

fn a_stopping_node_claims_no_next_step() {
    block_on(async {
        let stopping = CancellationToken::new();
        let stop = stopping.clone();
        let processor = InProcess::new(move |_: &Job, input: &[u8]| {
            stop.cancel();
            Ok(input.to_vec())
        });
        let mut plan = Plan::scripts(["true", "cat", "cat"]);
        plan.embedded.insert(DocName::parse("p1").unwrap(), Arc::new(processor));
        plan.stopping = stopping;
        let world = World::new(plan).await;
        let claimed = world.claim().await.unwrap();
        world.work(claimed).await;
        let view = world.view().await;
        let states: Vec<_> = view.steps.iter().map(|step| step.state.as_str()).collect();
        assert_eq!(
            (view.state.as_str(), states),
            ("ready", vec!["succeeded"]),
            "what was under way is finished"
        );
        assert_eq!(world.claim().await.unwrap().step.name(), "tier2");
    });
}

fn a_stopping_node_starts_no_program() {
    block_on(async {
        let plan = Plan::scripts(["echo started", "cat", "cat"]);
        plan.stopping.cancel();
        let world = World::new(plan).await;
        let claimed = world.claim().await.unwrap();
        world.work(claimed).await;
        assert_eq!(world.view().await.state, "ready");
        let records = world.records("step_interrupted").await;
        assert!(records[0].body.to_string().contains(r#""cause":"stop""#), "{}", records[0].body);
        let again = world.claim().await.unwrap();
        assert_eq!((again.attempt, again.failed), (2, 0));
    });
}

fn what_is_due_and_may_not_start_keeps_nobody_awake() {
    block_on(async {
        let processor =
            json!({ "argv": ["false"], "retry": { "attempts": 2, "backoff": { "initial": "1s" } } });
        let world = World::new(Plan::first(processor)).await;
        assert_eq!(world.go().await.state, "waiting");
        let (keeper, workers) =
            (Keeper::new(Arc::clone(&world.namespace)), Workers::new(Arc::clone(&world.namespace)));
        world.namespace.shared.paused.set(true);
        assert!(keeper.turn().await.unwrap().next.is_some(), "the end of the wait is something to wait for");
        world.pass(SignedDuration::from_mins(1));
        for turn in [keeper.turn().await.unwrap(), workers.turn().await.unwrap()] {
            assert_eq!(turn, Turn::default());
        }
    });
}

fn a_cancelled_run_commits_nothing() {
    block_on(async {
        let hour = SignedDuration::from_hours(1);
        let world = when_it_is_up(hour, "1h", |world, _| {
            _ = world.namespace.running.cut(world.run_id, Cut::Cancelled);
        })
        .await;
        // Who cancels a run changes its row first; here nobody did, so it stands as it was.
        assert_eq!(world.view().await.state, "working");
    });
}

fn the_deadline_ends_the_run() {
    block_on(async {
        let pass = |world: &World, _: i32| world.pass(SignedDuration::from_secs(60));
        let world = when_it_is_up(SignedDuration::from_millis(500), "1h", pass).await;
        let view = world.view().await;
        assert_eq!(view.outcome.as_deref(), Some("failed"));
        assert!(view.reason.unwrap().contains("the deadline passed"));
    });
}

fn a_lost_supervisor_is_an_interruption() {
    block_on(async {
        let hour = SignedDuration::from_hours(1);
        let end = |_: &World, supervisor: i32| kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
        let world = when_it_is_up(hour, "1h", end).await;
        assert_eq!(world.view().await.state, "ready");
        let records = world.records("step_interrupted").await;
        assert!(records[0].body.to_string().contains(r#""cause":"crash""#), "{}", records[0].body);
    });
}
