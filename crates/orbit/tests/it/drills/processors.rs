//! Programs that hang, flood, fork, eat, lie, hide and die, each beside a neighbour in one cycle.

use serde_json::Value;

use super::leaks::Leaks;
use crate::home::Home;

/// A program that does wrong, further YAML of its document, and what the run's reason says of it. A document with an `argv` of its own needs no script.
struct Wrong {
    name: &'static str,
    script: &'static str,
    more: &'static str,
    reason: &'static str,
}

const fn wrong(name: &'static str, script: &'static str, more: &'static str, reason: &'static str) -> Wrong {
    Wrong { name, script, more, reason }
}

/// Everything is bounded by itself too: what the engine failed to stop would end after a hundred children, seconds or megabytes.
const WRONGS: [Wrong; 24] = [
    wrong(
        "missing",
        "",
        "argv: [orbit-no-such-program]\n",
        "could not start: there is no program `orbit-no-such-program` in the PATH",
    ),
    wrong("exits", "cat >/dev/null; exit 7", "", "exited with code 7"),
    wrong("complains", "cat >/dev/null; echo the-last-words >&2; exit 1", "", "exited with code 1"),
    wrong("crashes", "kill -SEGV $$", "", "was ended by signal 11"),
    wrong("killed", "kill -KILL $$", "", "was ended by signal 9"),
    wrong(
        "hangs",
        "trap '' TERM; while :; do sleep 1; done",
        "limits: { wall: 300ms, grace: 100ms }\n",
        "took longer than 300 ms",
    ),
    wrong("stopped", "kill -STOP $$", "limits: { wall: 300ms, grace: 100ms }\n", "took longer than 300 ms"),
    wrong(
        "hides",
        "(setsid sh -c 'trap \"\" TERM HUP; sleep 1000' &); trap '' TERM; sleep 1000; sleep 1000",
        "limits: { wall: 300ms, grace: 100ms }\n",
        "took longer than 300 ms",
    ),
    wrong(
        "forks",
        "n=0; while [ $n -lt 100 ]; do sleep 60 & n=$((n+1)); done; wait",
        "limits: { processes: 16, grace: 100ms }\n",
        "went over `limits.processes`",
    ),
    wrong(
        "eats",
        "x=$(head -c 300000000 /dev/zero | tr '\\0' x); sleep 60",
        "limits: { memory: 64 MiB, grace: 100ms }\n",
        "went over `limits.memory`",
    ),
    wrong("burns", "while :; do :; done", "limits: { cpu: 300ms, grace: 100ms }\n", "went over `limits.cpu`"),
    wrong("floods", "yes", "limits: { output: 1 MiB, grace: 100ms }\n", "went over `limits.output`"),
    wrong(
        "shouts",
        "yes the-flood >&2",
        "limits: { wall: 500ms, grace: 100ms }\n",
        "took longer than 500 ms",
    ),
    wrong("silent", "cat >/dev/null", "", "the output has 0 bytes, expected at least 1"),
    wrong(
        "short",
        "printf x",
        "validate: { bytes_min: 2 B }\n",
        "the output has 1 bytes, expected at least 2",
    ),
    wrong(
        "long",
        "head -c 1025 /dev/zero",
        "validate: { bytes_max: 1 KiB }\n",
        "the output has 1025 bytes, expected at most 1024",
    ),
    wrong(
        "garbage",
        "echo no",
        "validate: { prefix_hex: \"4f4b\" }\n",
        "the output begins with `6e6f` (hex), expected `4f4b`",
    ),
    wrong("idle", "cat", "validate: { differs_from_input: true }\n", "the output is the same as the input"),
    wrong("elsewhere", "cat; ln -s /etc/passwd out", "output: { to: file }\n", "left no output file"),
    wrong(
        "link",
        "",
        "argv: [sh, -c, \"ln -s /etc/passwd $0\", \"{{ output }}\"]\noutput: { to: file }\n",
        "left an output that is not a regular file of its work folder",
    ),
    wrong(
        "pipe",
        "",
        "argv: [mkfifo, \"{{ output }}\"]\noutput: { to: file }\n",
        "left an output that is not a regular file of its work folder",
    ),
    wrong(
        "folder",
        "",
        "argv: [mkdir, \"{{ output }}\"]\noutput: { to: file }\n",
        "left an output that is not a regular file of its work folder",
    ),
    wrong(
        "uproots",
        "echo out; d=$PWD; cd ..; rm -r \"$d\"",
        "",
        "left an output that is not a regular file of its work folder",
    ),
    wrong(
        "swaps",
        "echo out; d=$PWD; cd ..; mv \"$d\" ../moved-\"$ORBIT_RUN_ID\"; ln -s ../moved-\"$ORBIT_RUN_ID\" \"$d\"; rm -r ../moved-\"$ORBIT_RUN_ID\"",
        "",
        "left an output that is not a regular file of its work folder",
    ),
];

/// Programs that give their output and try to leave something behind.
const SLY: [(&str, &str); 4] = [
    (
        "daemon",
        "cat; (setsid sh -c 'trap \"\" TERM HUP; sleep 1000' &); (setsid sleep 1000 >/dev/null 2>&1 &)",
    ),
    ("climbs", "cat; echo left >../left; mkdir -p ../folder/in; chmod 0 ../folder/in; ln -s /etc ../etc"),
    ("locks", "cat; mkdir -p closed/in; echo left >closed/in/file; chmod 0 closed/in closed"),
    ("deaf", "exec <&-; echo out"),
];

fn write(home: &Home, number: u8, name: &str, script: &str, more: &str) -> String {
    let script = serde_json::to_string(script).unwrap();
    let argv = if more.contains("argv:") { String::new() } else { format!("argv: [sh, -c, {script}]\n") };
    let text = format!("name: {name}\nkind: exec\n{argv}input: stdin\nretry: {{ attempts: 1 }}\n{more}");
    home.write(&format!("namespaces/lab/processors/{name}.yaml"), &text);
    let label = format!("p-{name}");
    home.profile_of(&label, number, ["one", name, "three"], "");
    label
}

#[test]
fn a_program_that_does_wrong_fails_its_own_run_alone() {
    let home = Home::lab(5);
    let mut labels = vec!["plain".to_owned()];
    let all = WRONGS
        .iter()
        .map(|one| (one.name, one.script, one.more))
        .chain(SLY.map(|(name, script)| (name, script, "limits: { grace: 100ms }\n")));
    labels.extend(
        (2u8..).zip(all).map(|(number, (name, script, more))| write(&home, number, name, script, more)),
    );
    home.run_profile("hostile", 1, &format!("[{}]", labels.join(", ")), "");
    home.run_profile("daily", 2, "[plain]", "");
    let serving = home.serve();
    assert_eq!(home.run(&["run", "daily"]).code, 0);
    let leaks = Leaks::before(&home, &serving);
    let answer = home.json(&["run", "hostile"], 3);
    assert_eq!(answer["cycle"]["outcome"], "partial");
    let run_of = |label: &str| -> Value {
        answer["runs"].as_array().unwrap().iter().find(|run| run["profile"] == label).unwrap().clone()
    };
    let good = SLY.iter().map(|(name, _)| format!("p-{name}")).chain(["plain".to_owned()]);
    for label in good {
        assert_eq!(run_of(&label)["outcome"], "succeeded", "{label}: {}", run_of(&label));
    }
    let mut unexpected = Vec::new();
    for Wrong { name, reason, .. } in WRONGS {
        let run = run_of(&format!("p-{name}"));
        let said = run["reason"].as_str().unwrap_or_default();
        if run["outcome"] != "failed" || !said.contains(reason) {
            unexpected.push(format!("{name}: `{}`, `{said}`, expected `{reason}`", run["outcome"]));
        }
    }
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    leaks.none();
    let run_id = |name: &str| run_of(&format!("p-{name}"))["run_id"].clone();
    recorded(&home.records(), &run_id);
    // Nothing that happened hinders what comes.
    assert_eq!(home.run(&["run", "daily"]).code, 0);
    assert_eq!(serving.stop(), 0);
    assert!(home.processes().is_empty(), "left behind: {:?}", home.processes());
}

/// Each failure has one record of its own kind; what was said on standard error is kept, and not all of a flood.
fn recorded(records: &[Value], run_id: &impl Fn(&str) -> Value) {
    let of = |name: &str, kind: &str| -> Vec<&Value> {
        let id = run_id(name);
        records.iter().filter(|record| record["kind"] == kind && record["run_id"] == id).collect()
    };
    for Wrong { name, .. } in &WRONGS {
        assert_eq!(of(name, "step_failed").len(), 1, "{name}");
    }
    let words = of("complains", "step_output");
    assert!(words[0].to_string().contains("the-last-words"), "{words:?}");
    let flood = of("shouts", "step_output")[0].to_string();
    assert!(flood.contains("the-flood") && flood.len() < 64 * 1024, "{} bytes of a flood", flood.len());
    let ended = of("daemon", "step_succeeded");
    let survivors = ended.iter().filter(|record| record["body"]["usage"]["survivors"].as_u64() >= Some(1));
    assert_eq!(survivors.count(), 1, "{ended:?}");
    let peak = of("forks", "step_failed")[0]["body"]["usage"]["processes_peak"].as_u64();
    assert!(peak > Some(16) && peak <= Some(102), "{peak:?}");
}
