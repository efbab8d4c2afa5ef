//! One cycle.

use std::fmt::Write;

use serde_json::Value;

use super::fields::{between, items, moment, scalar, some_text, text};
use super::text::short;
use super::units::duration;
use super::{Terminal, block, standing};

/// A cycle, and how to see its runs.
pub fn cycle(cycle: &Value, out: &Terminal) -> String {
    let took = between(cycle, "fired_at", "finished_at").map(|took| format!(" in {}", duration(took)));
    let mut shown = format!(
        "cycle {}  {}{}\n",
        text(cycle, "cycle_id"),
        out.paint_state(&standing(cycle)),
        took.unwrap_or_default()
    );
    shown.push_str(&block(&[
        ("initiation", some_text(cycle, "initiation").map(|label| out.fit(&label, 14)).unwrap_or_default()),
        ("run profile", text(cycle, "run_profile")),
        ("trigger", text(cycle, "trigger")),
        ("nominal", moment(cycle, "nominal_time")),
        ("snapshot", short(&text(cycle, "snapshot"))),
        ("fired", moment(cycle, "fired_at")),
        ("finished", moment(cycle, "finished_at")),
        ("reason", text(cycle, "reason")),
    ]));
    let runs: Vec<_> = items(cycle, "runs").iter().filter_map(scalar).collect();
    if runs.is_empty() {
        shown.push_str("\nno runs\n");
    } else {
        shown.push_str("\nruns (`orbit runs show ID` tells the story of one)\n");
        for run in &runs {
            _ = writeln!(shown, "  {run}");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::tests::terminal;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cycle_with_runs_and_one_without() {
        let finished = json!({
            "cycle_id": "9c1b0000-0000-5000-8000-000000000001", "run_profile": "daily", "trigger": "schedule", "state": "finished",
            "outcome": "partial", "reason": "1 of 2 surfaces", "initiation": "Tides\u{1b}[2J", "snapshot": "sha256:ba7816bf8f01cfea414140de",
            "nominal_time": "2026-11-25T11:00:00Z", "fired_at": "2026-11-25T11:00:02Z", "finished_at": "2026-11-25T11:01:07Z",
            "runs": ["3f2a8c1e-0000-5000-8000-000000000001"] });
        let expected = "\
cycle 9c1b0000-0000-5000-8000-000000000001  partial in 1m05s
  initiation   Tides
  run profile  daily
  trigger      schedule
  nominal      2026-11-25T11:00:00Z
  snapshot     ba7816bf8f01
  fired        2026-11-25T11:00:02Z
  finished     2026-11-25T11:01:07Z
  reason       1 of 2 surfaces

runs (`orbit runs show ID` tells the story of one)
  3f2a8c1e-0000-5000-8000-000000000001
";
        assert_eq!(cycle(&finished, &terminal(Some(80))), expected);
        let waiting = json!({ "cycle_id": "9c", "state": "waiting", "outcome": null, "runs": [] });
        assert_eq!(cycle(&waiting, &terminal(None)), "cycle 9c  waiting\n\nno runs\n");
    }
}
