//! What a cycle came to, after `orbit run`.

use std::fmt::Write;

use serde_json::Value;

use super::fields::{between, count, items, some_text, text};
use super::text::{pad, width};
use super::units::{bytes, duration};
use super::{Terminal, Tone, standing};

/// The outcome, a line for each surface with what it made, a line for each place it went to, and the next command to try.
pub fn cycle_summary(cycle: &Value, runs: &[Value], out: &Terminal) -> String {
    let standing_of_cycle = standing(cycle);
    let took = between(cycle, "fired_at", "finished_at")
        .map(|took| format!(" in {}", duration(took)))
        .unwrap_or_default();
    let about =
        some_text(cycle, "initiation").map(|label| format!(": {}", out.fit(&label, 30))).unwrap_or_default();
    let mut shown = format!("cycle {}{took}{about}\n", out.paint_state(&standing_of_cycle));
    if let Some(reason) = some_text(cycle, "reason") {
        _ = writeln!(shown, "  {reason}");
    }
    let columns = runs.iter().map(|run| width(&text(run, "profile"))).max().unwrap_or(0);
    for run in runs {
        shown.push_str(&surface(run, columns, out));
    }
    // A command a line, so that each can be picked up whole.
    let next = next_command(cycle, runs).replace("; `orbit", "\n      `orbit");
    _ = writeln!(shown, "next: {next}");
    shown
}

fn surface(run: &Value, columns: usize, out: &Terminal) -> String {
    let standing = standing(run);
    let padding = " ".repeat(11_usize.saturating_sub(standing.len()));
    let took = between(run, "started_at", "finished_at").map(duration);
    let made = items(run, "deliveries").first().map(|delivery| count(delivery, "bytes"));
    let made =
        made.or_else(|| items(run, "steps").iter().rev().find_map(|step| step["bytes"].as_u64())).map(bytes);
    let made = made.filter(|_| standing != "failed");
    let facts: Vec<_> = [took, made].into_iter().flatten().collect();
    let line = format!(
        "  {}  {}{padding}  {}",
        pad(&text(run, "profile"), columns),
        out.paint_state(&standing),
        facts.join("  ")
    );
    let mut shown = format!("{}\n", line.trim_end());
    let failed = items(run, "steps").iter().find(|step| text(step, "state") == "failed");
    if let Some(reason) = some_text(run, "reason") {
        let step = failed.map(|step| format!("{}: ", text(step, "step"))).unwrap_or_default();
        let reason = format!("{step}{reason}");
        _ = writeln!(shown, "    {}", out.paint(Tone::Bad, &out.fit(&reason, 4)));
    }
    let kept = items(run, "steps").iter().rev().find_map(|step| some_text(step, "digest"));
    if let Some(kept) = kept.filter(|_| standing == "succeeded" && items(run, "deliveries").is_empty()) {
        _ = writeln!(shown, "    made {kept}");
    }
    for delivery in items(run, "deliveries") {
        let state = text(delivery, "state");
        let line = format!("{} {}", text(delivery, "endpoint"), out.paint_state(&state));
        let told = match state.as_str() {
            "dead" => text(delivery, "reason"),
            _ => text(delivery, "url"),
        };
        _ = writeln!(
            shown,
            "    {line}  {}",
            out.fit(&told, 8 + width(&text(delivery, "endpoint")) + state.len())
        );
    }
    shown
}

fn next_command(cycle: &Value, runs: &[Value]) -> String {
    let with = |outcome: &str| {
        runs.iter().find(|run| text(run, "outcome") == outcome).map(|run| text(run, "run_id"))
    };
    let delivery = |state: &str| {
        runs.iter().flat_map(|run| items(run, "deliveries")).any(|one| text(one, "state") == state)
    };
    if let Some(run) = with("failed") {
        return format!("`orbit runs show {run}` tells why it failed");
    }
    if delivery("dead") {
        return "`orbit deliveries list --state dead` shows what was not accepted; `orbit deliveries redrive ID` tries again".to_owned();
    }
    if delivery("waiting") {
        return "`orbit serve` makes the next attempts when they are due".to_owned();
    }
    match (text(cycle, "outcome").as_str(), runs.first()) {
        ("skipped", _) => {
            "`orbit initiations list` shows what was selected before; add to the source".to_owned()
        }
        (_, Some(run)) => format!(
            "`orbit runs show {}` tells the story; `orbit serve` runs every schedule",
            text(run, "run_id")
        ),
        (_, None) => format!("`orbit cycles show {}`", text(cycle, "cycle_id")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::terminal;
    use super::*;
    use serde_json::json;

    fn run(profile: &str, outcome: Value, deliveries: Value) -> Value {
        let mut run = json!({
            "run_id": format!("id-of-{profile}"), "profile": profile, "state": "finished", "reason": null,
            "started_at": "2026-11-25T11:57:00Z", "finished_at": "2026-11-25T11:57:12.3Z", "steps": [{ "bytes": 7 }] });
        run["outcome"] = outcome;
        run["deliveries"] = deliveries;
        run
    }

    fn cycle(outcome: &str) -> Value {
        json!({ "cycle_id": "c", "state": "finished", "outcome": outcome, "reason": null, "initiation": "Tides",
            "fired_at": "2026-11-25T11:57:00Z", "finished_at": "2026-11-25T11:57:13Z" })
    }

    #[test]
    fn surfaces_and_where_they_went() {
        let accepted = json!([{ "endpoint": "archive", "state": "accepted", "url": "http://127.0.0.1:9/a", "bytes": 1_572_864 }]);
        let dead = json!([{ "endpoint": "press", "state": "dead", "reason": "it answered 410", "url": "http://p/", "bytes": 10 }]);
        let runs =
            [run("explainer", json!("succeeded"), accepted.clone()), run("square", json!("partial"), dead)];
        let expected = "\
cycle partial in 13.0s: Tides
  explainer  succeeded    12.3s  1.5 MiB
    archive accepted  http://127.0.0.1:9/a
  square     partial      12.3s  10 B
    press dead  it answered 410
next: `orbit deliveries list --state dead` shows what was not accepted
      `orbit deliveries redrive ID` tries again
";
        assert_eq!(cycle_summary(&cycle("partial"), &runs, &terminal(Some(100))), expected);
        let one = [run("explainer", json!("succeeded"), accepted)];
        let text = cycle_summary(&cycle("succeeded"), &one, &terminal(None));
        assert!(
            text.ends_with(
                "next: `orbit runs show id-of-explainer` tells the story\n      `orbit serve` runs every schedule\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_did_not_go_well() {
        let mut failed = run("explainer", json!("failed"), json!([]));
        failed["reason"] = json!("exit code 3");
        failed["steps"] = json!([{ "step": "tier2", "state": "failed" }]);
        let expected = "\
cycle failed in 13.0s: Tides
  explainer  failed       12.3s
    tier2: exit code 3
next: `orbit runs show id-of-explainer` tells why it failed
";
        assert_eq!(cycle_summary(&cycle("failed"), &[failed], &terminal(Some(60))), expected);
        let mut skipped = cycle("skipped");
        skipped["initiation"] = Value::Null;
        skipped["reason"] = json!("no candidate is new");
        let expected = "\
cycle skipped in 13.0s
  no candidate is new
next: `orbit initiations list` shows what was selected before; add to the source
";
        assert_eq!(cycle_summary(&skipped, &[], &terminal(None)), expected);
    }
}
