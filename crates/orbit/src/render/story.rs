//! The story of a run: what it is, its steps with every attempt that failed, and what became of its deliveries.

use std::fmt::Write;

use jiff::SignedDuration;
use serde_json::Value;

use super::delivery::{next_attempt, receipts, redrive};
use super::fields::{between, count, items, moment, scalar, some_text, text, time, told};
use super::record::facts;
use super::text::{clean, pad, short};
use super::units::{bytes, duration, time_of_day};
use super::{Terminal, Tone, block, standing};

/// Lines of a program's last words that are shown.
const LAST_WORDS_LINES_MAX: usize = 5;
/// A shorter wait is not worth telling.
const WAIT_TOLD_MIN_MS: i64 = 1000;
/// Columns of the longest step (`normalize`) and of the longest state that a step or delivery shows.
const STEP_COLUMNS: usize = 9;
const STATE_COLUMNS: usize = 11;
/// Columns of most sizes (`123.4 KiB`), and of most times and memory that a program used (`cpu 12.3s`).
const SIZE_COLUMNS: usize = 9;
const USED_COLUMNS: usize = 9;

/// The run as its row and its records (in order of position) tell it.
pub fn story(run: &Value, records: &[Value], out: &Terminal) -> String {
    let mut shown = head(run, records, out);
    let steps = items(run, "steps");
    shown.push_str(if steps.is_empty() { "\nno step has started\n" } else { "\nsteps\n" });
    for step in steps {
        let name = text(step, "step");
        let used =
            records.iter().rev().find(|one| one["body"]["step"] == *name && one["kind"] == "step_succeeded");
        shown.push_str(&step_line(step, used.map_or(&Value::Null, |record| &record["body"]["usage"]), out));
        let failed = failed_attempts(&name, records, out);
        let why =
            some_text(step, "failure").filter(|_| failed.is_empty() && text(step, "state") != "succeeded");
        if let Some(why) = why {
            _ = writeln!(shown, "    {}", out.paint(Tone::Bad, &out.fit(&why, 4)));
        }
        shown.push_str(&failed);
    }
    if text(run, "outcome") == "failed" {
        shown.push_str(&last_words(records, out));
        _ = writeln!(
            shown,
            "  hint: `orbit log tail --run {} --json` has everything that was recorded",
            text(run, "run_id")
        );
    }
    let deliveries = items(run, "deliveries");
    if !deliveries.is_empty() {
        shown.push_str("\ndeliveries\n");
        for delivery in deliveries {
            shown.push_str(&delivery_lines(delivery, out));
        }
    }
    shown
}

/// A record that came after the story was told; nothing for what says nothing to people.
pub fn story_line(_run: &Value, record: &Value, out: &Terminal) -> Option<String> {
    if record["body_class"] == "evidence" {
        return None;
    }
    let at = time(record, "at").map(time_of_day).unwrap_or_default();
    let line = format!("{}  {}", pad(&text(record, "kind"), 19), facts(&record["body"]));
    Some(format!("{}  {}\n", out.paint(Tone::Dim, &at), out.fit(line.trim_end(), 14)))
}

fn head(run: &Value, records: &[Value], out: &Terminal) -> String {
    let took = between(run, "started_at", "finished_at").map(|took| format!(" in {}", duration(took)));
    let artifact = items(run, "steps").iter().rev().find_map(|step| some_text(step, "digest"));
    let artifact =
        artifact.filter(|_| matches!(standing(run).as_str(), "dispatching" | "succeeded" | "partial"));
    let title = format!("run {}  {}", text(run, "run_id"), out.paint_state(&standing(run)));
    format!("{title}{}\n", took.unwrap_or_default())
        + &block(&[
            ("initiation", out.fit(&text(run, "initiation"), 15)),
            ("profile", text(run, "profile")),
            ("run profile", text(run, "run_profile")),
            ("cycle", text(run, "cycle_id")),
            ("retry of", retry_of(run).unwrap_or_default()),
            ("retried by", items(run, "retried_by").iter().filter_map(scalar).collect::<Vec<_>>().join(", ")),
            ("nominal", moment(run, "nominal_time")),
            ("snapshot", short(&text(run, "snapshot"))),
            ("started", moment(run, "started_at")),
            ("waited", out.fit(&waited(run, records), 15)),
            ("finished", moment(run, "finished_at")),
            ("artifact", artifact.unwrap_or_default()),
            ("reason", out.paint(Tone::Bad, &text(run, "reason"))),
        ])
}

/// What held the run before its first step, where it held it for long enough to be worth telling.
fn waited(run: &Value, records: &[Value]) -> String {
    let Some(first) = records.iter().find(|record| record["body"]["waited_ms"].is_u64()) else {
        return String::new();
    };
    let told = items(&first["body"], "held").iter().filter_map(|held| {
        let ms = held["ms"].as_i64().filter(|ms| *ms >= WAIT_TOLD_MIN_MS)?;
        let what = match text(held, "limit").as_str() {
            "gate" => "the gate to open".to_owned(),
            "processor" => format!("processor `{}`", text(held, "name")),
            "run_profile" => format!("run profile `{}`", text(run, "run_profile")),
            "profile" => format!("profile `{}`", text(run, "profile")),
            "namespace" => "a permit of the namespace".to_owned(),
            "node" => "a permit of the node".to_owned(),
            "restart" => "the engine to start".to_owned(),
            // What no limit explains, or nobody remembers.
            _ => return None,
        };
        Some(format!("{} for {what}", duration(SignedDuration::from_millis(ms))))
    });
    told.collect::<Vec<_>>().join(", ")
}

/// The run that this one does again, and where it began.
fn retry_of(run: &Value) -> Option<String> {
    let old = some_text(run, "retry_of")?;
    Some(some_text(run, "from").map_or(old.clone(), |step| format!("{old}, from {step}")))
}

fn step_line(step: &Value, usage: &Value, out: &Terminal) -> String {
    let state = text(step, "state");
    let end = time(step, "finished_at").unwrap_or(out.now);
    let took = time(step, "started_at").map(|start| duration(end.duration_since(start))).unwrap_or_default();
    let attempts = match count(step, "attempts") {
        0 | 1 => None,
        several => Some(format!("{several} attempts")),
    };
    let size = step["bytes"].as_u64().map(bytes);
    let digest = some_text(step, "digest").map(|digest| short(&digest));
    let size = size.map(|size| pad(&size, SIZE_COLUMNS));
    let used =
        used(usage).map(|used| used.iter().map(|one| pad(one, USED_COLUMNS)).collect::<Vec<_>>().join("  "));
    let parts = [Some(pad(&took, 6)), size, used, attempts, some_text(step, "media_type"), digest];
    let padding = " ".repeat(STATE_COLUMNS.saturating_sub(state.len()));
    let mut line = format!(
        "  {}  {}{padding}  {}",
        pad(&text(step, "step"), STEP_COLUMNS),
        out.paint_state(&state),
        parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
    );
    line = out.fit(line.trim_end(), 0);
    line.push('\n');
    line
}

/// What a program used of the machine: processor time, and memory if it lived long enough for that to be seen.
fn used(usage: &Value) -> Option<Vec<String>> {
    let cpu = i64::try_from(usage["cpu_ms"].as_u64()?).unwrap_or(i64::MAX);
    let cpu = format!("cpu {}", duration(SignedDuration::from_millis(cpu)));
    let memory = Some(count(usage, "memory_peak_bytes")).filter(|memory| *memory > 0);
    Some([Some(cpu), memory.map(|memory| format!("mem {}", bytes(memory)))].into_iter().flatten().collect())
}

/// The attempts of a step that were followed by another, each on a line.
fn failed_attempts(step: &str, records: &[Value], out: &Terminal) -> String {
    let mut shown = String::new();
    let mut attempt = 0;
    for record in records.iter().filter(|record| record["body"]["step"] == step) {
        let body = &record["body"];
        match record["kind"].as_str() {
            Some("step_started") => attempt = body["attempt"].as_u64().unwrap_or(attempt + 1),
            Some("step_failed" | "step_interrupted") => {
                let at = time(record, "at").map(time_of_day).unwrap_or_default();
                let why = told(body).unwrap_or_else(|| "interrupted".to_owned());
                let took = body["duration_ms"].as_i64().map(SignedDuration::from_millis).map(duration);
                let spent: Vec<_> =
                    took.into_iter().chain(used(&body["usage"]).into_iter().flatten()).collect();
                let spent = if spent.is_empty() { String::new() } else { format!(" ({})", spent.join(", ")) };
                let line = format!("attempt {attempt}: {why}{spent}");
                _ = writeln!(shown, "    {}  {}", out.paint(Tone::Dim, &at), out.fit(&line, 18));
            }
            Some(_) | None => {}
        }
    }
    shown
}

/// The end of what the last program wrote to standard error, or of what a service answered in the place of an output.
fn last_words(records: &[Value], out: &Terminal) -> String {
    let Some(record) = records.iter().rev().find(|record| record["kind"] == "step_output") else {
        return String::new();
    };
    let body = &record["body"];
    let answer = Some(&body["answer"]).filter(|answer| answer["encoding"] == "utf-8");
    let answer = answer.and_then(|answer| answer["body"].as_str());
    let said = ["stderr", "stderr_tail", "tail", "text"].iter().find_map(|name| body[*name].as_str());
    let said = said.or(answer).unwrap_or_default();
    let lines: Vec<_> = said.lines().map(clean).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(LAST_WORDS_LINES_MAX);
    let mut shown = String::new();
    for line in &lines[from..] {
        _ = writeln!(shown, "    {}", out.paint(Tone::Dim, &format!("| {}", out.fit(line, 6))));
    }
    shown
}

fn delivery_lines(delivery: &Value, out: &Terminal) -> String {
    let state = text(delivery, "state");
    let padding = " ".repeat(STATE_COLUMNS.saturating_sub(state.len()));
    let endpoint = pad(&text(delivery, "endpoint"), STEP_COLUMNS);
    let used = endpoint.len() + STATE_COLUMNS + 6;
    let mut shown = format!(
        "  {endpoint}  {}{padding}  {}\n",
        out.paint_state(&state),
        out.fit(&text(delivery, "url"), used)
    );
    for line in receipts(delivery, out) {
        _ = writeln!(shown, "    {line}");
    }
    if let Some(next) = next_attempt(delivery, out).filter(|_| count(delivery, "attempts") > 0) {
        _ = writeln!(shown, "    {next}");
    }
    if state == "dead" {
        _ = writeln!(shown, "    {}", out.paint(Tone::Bad, &out.fit(&text(delivery, "reason"), 4)));
        _ = writeln!(shown, "    {}", redrive(delivery));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::tests::terminal;
    use super::*;
    use serde_json::json;

    const RUN: &str = "3f2a8c1e-0000-5000-8000-000000000001";

    fn run(state: &str, outcome: Value) -> Value {
        let mut run = json!({
            "run_id": RUN, "cycle_id": "9c1b0000-0000-5000-8000-000000000001", "profile": "explainer", "run_profile": "daily",
            "snapshot": "sha256:ba7816bf8f01cfea414140de", "state": state, "reason": null, "initiation": "Tides",
            "nominal_time": "2026-11-25T11:57:00Z", "started_at": "2026-11-25T11:57:00Z", "finished_at": "2026-11-25T11:57:12.3Z",
            "steps": [
                { "step": "tier1", "state": "succeeded", "attempts": 2, "started_at": "2026-11-25T11:57:00Z", "finished_at": "2026-11-25T11:57:02.5Z",
                  "bytes": 1280, "digest": "sha256:00112233445566778899", "media_type": "text/plain", "failure": "exit code 3" },
            ],
            "deliveries": [] });
        run["outcome"] = outcome;
        run
    }

    fn records() -> Vec<Value> {
        let record = |second: &str, kind: &str, body: Value| json!({ "at": format!("2026-11-25T11:57:{second}Z"), "kind": kind, "run_id": RUN, "body_class": "fact", "body": body });
        vec![
            record("00", "step_started", json!({ "step": "tier1", "attempt": 1 })),
            record(
                "01.25",
                "step_failed",
                json!({ "step": "tier1", "duration_ms": 1250, "usage": { "cpu_ms": 12, "memory_peak_bytes": 0 }, "event": { "failure": "exit code 3" } }),
            ),
            record(
                "01.25",
                "step_output",
                json!({ "step": "tier1", "stderr": "one\n\u{1b}[31mcannot read\u{1b}[0m\n" }),
            ),
            record("02", "step_started", json!({ "step": "tier1", "attempt": 2 })),
            record(
                "02.5",
                "step_succeeded",
                json!({ "step": "tier1", "usage": { "cpu_ms": 40, "memory_peak_bytes": 3 << 20 } }),
            ),
        ]
    }

    #[test]
    fn a_run_that_was_delivered() {
        let mut run = run("finished", json!("succeeded"));
        run["deliveries"] = json!([{
            "delivery_id": "d1", "endpoint": "archive", "url": "https://archive.example.net/x", "state": "accepted", "attempts": 1,
            "receipts": [{ "attempt": 1, "started_at": "2026-11-25T11:57:12Z", "at": "2026-11-25T11:57:12.25Z",
                "receipt": { "status": 201, "address": "192.0.2.1:443" } }] }]);
        let expected = "\
run 3f2a8c1e-0000-5000-8000-000000000001  succeeded in 12.3s
  initiation   Tides
  profile      explainer
  run profile  daily
  cycle        9c1b0000-0000-5000-8000-000000000001
  nominal      2026-11-25T11:57:00Z
  snapshot     ba7816bf8f01
  started      2026-11-25T11:57:00Z
  finished     2026-11-25T11:57:12.300Z
  artifact     sha256:00112233445566778899

steps
  tier1      succeeded    2.5s    1.2 KiB    cpu 40ms   mem 3.0 MiB  2 attempts  text/plain  001122334455
    11:57:01.250  attempt 1: exit code 3 (1.2s, cpu 12ms)

deliveries
  archive    accepted     https://archive.example.net/x
    2026-11-25T11:57:12Z  attempt 1  201  0.2s  192.0.2.1:443
";
        assert_eq!(story(&run, &records(), &terminal(Some(110))), expected);
    }

    #[test]
    fn a_run_that_failed_says_why_and_what_to_do() {
        let mut run = run("finished", json!("failed"));
        run["reason"] = json!("tier1: exit code 3");
        run["steps"][0]["state"] = json!("failed");
        run["steps"][0]["bytes"] = Value::Null;
        run["steps"][0]["digest"] = Value::Null;
        run["steps"][0]["media_type"] = Value::Null;
        run["retry_of"] = json!("00000000-0000-5000-8000-000000000002");
        run["from"] = json!("tier3");
        run["retried_by"] = json!(["00000000-0000-5000-8000-000000000003"]);
        let text = story(&run, &records()[..3], &terminal(Some(60)));
        let cited = "  retry of     00000000-0000-5000-8000-000000000002, from tier3
  retried by   00000000-0000-5000-8000-000000000003\n";
        assert!(text.contains(cited), "{text}");
        let expected = "
steps
  tier1      failed       2.5s    2 attempts
    11:57:01.250  attempt 1: exit code 3 (1.2s, cpu 12ms)
    | one
    | cannot read
  hint: `orbit log tail --run 3f2a8c1e-0000-5000-8000-000000000001 --json` has everything that was recorded
";
        assert!(text.ends_with(expected), "{text}");
        assert!(text.contains("  reason       tier1: exit code 3\n"), "{text}");
    }

    #[test]
    fn a_dead_letter_and_one_that_waits() {
        let mut run = run("dispatching", Value::Null);
        run["deliveries"] = json!([
            { "delivery_id": "d1", "endpoint": "archive", "url": "http://a/", "state": "dead", "reason": "it answered 410", "attempts": 1, "receipts": [] },
            { "delivery_id": "d2", "endpoint": "press", "url": "http://b/", "state": "waiting", "attempts": 1, "due_at": "2026-11-25T12:05:00Z", "receipts": [] },
            { "delivery_id": "d3", "endpoint": "other", "url": "http://c/", "state": "waiting", "attempts": 0, "due_at": "2026-11-25T12:00:00Z", "receipts": [] },
        ]);
        let text = story(&run, &[], &terminal(Some(60)));
        let expected = "
deliveries
  archive    dead         http://a/
    it answered 410
    hint: `orbit deliveries redrive d1` tries again
  press      waiting      http://b/
    attempt 2 is due in 5m
  other      waiting      http://c/
";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn what_held_it_is_told_if_it_was_long() {
        let check = |held: Value, expected: &str| {
            let body = json!({ "step": "tier1", "attempt": 1, "waited_ms": 9, "held": held });
            let started = json!({ "at": "2026-11-25T11:57:00Z", "kind": "step_started", "body_class": "fact", "body": body });
            assert_eq!(waited(&run("finished", json!("succeeded")), &[started]), expected);
        };
        check(
            json!([{ "limit": "processor", "name": "narrate", "ms": 999 }, { "limit": "turn", "ms": 5000 }]),
            "",
        );
        check(
            json!([{ "limit": "processor", "name": "narrate", "ms": 1234 }, { "limit": "run_profile", "ms": 61_000 }, { "limit": "node", "ms": 2000 }]),
            "1.2s for processor `narrate`, 1m01s for run profile `daily`, 2.0s for a permit of the node",
        );
        assert_eq!(waited(&run("ready", Value::Null), &records()), "");
    }

    #[test]
    fn what_came_after() {
        let check = |record: &Value, expected: Option<&str>| {
            assert_eq!(story_line(&Value::Null, record, &terminal(Some(100))).as_deref(), expected);
        };
        check(&records()[1], Some("11:57:01.250  step_failed          step=tier1 failure=\"exit code 3\"\n"));
        check(&json!({ "kind": "step_output", "body_class": "evidence", "body": "x" }), None);
    }
}
