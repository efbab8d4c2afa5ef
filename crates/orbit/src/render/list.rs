//! Lists as tables: one line an item, cut to the terminal. Columns that do not fit are left out, the least important first; ids stay
//! whole, because they are what the next command is given.

use serde_json::Value;

use super::fields::{between, count, items, some_text, text, time};
use super::text::{self as shown, width};
use super::units::{bytes, duration};
use super::{Terminal, Tone, standing};
use crate::control::List;

/// Blank columns between two columns.
const GAP: usize = 2;
/// A terminal narrower than this is treated as this wide.
const WIDTH_MIN: usize = 40;

/// A column: its title, what it shows of an item, and how it gives way.
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) cell: fn(&Value, &Terminal) -> String,
    pub(super) give: Give,
}

/// How a column gives way when the terminal is narrow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Give {
    /// Never: it is always shown whole.
    Never,
    /// It is shown whole or left out; the highest number leaves first.
    Leave(u8),
    /// It is cut, down to a few characters.
    Cut,
}

/// A column that is cut keeps this many characters as long as others can leave instead.
const CUT_GOOD: usize = 20;
/// And this many in any case.
const CUT_MIN: usize = 8;

const ID: Give = Give::Never;

const CYCLES: &[Column] = &[
    Column { title: "CYCLE", cell: |it, _| text(it, "cycle_id"), give: ID },
    Column { title: "STATE", cell: |it, _| standing(it), give: Give::Never },
    Column { title: "RUN PROFILE", cell: |it, _| text(it, "run_profile"), give: Give::Leave(2) },
    Column { title: "INITIATION", cell: |it, _| label(it, "initiation"), give: Give::Cut },
    Column { title: "TRIGGER", cell: |it, _| trigger(it), give: Give::Leave(4) },
    Column { title: "FIRED", cell: |it, out| when(it, "fired_at", out), give: Give::Leave(1) },
    Column { title: "TOOK", cell: |it, _| took(it, "fired_at"), give: Give::Leave(3) },
];

const RUNS: &[Column] = &[
    Column { title: "RUN", cell: |it, _| text(it, "run_id"), give: ID },
    Column { title: "STATE", cell: |it, _| standing(it), give: Give::Never },
    Column { title: "PROFILE", cell: |it, _| text(it, "profile"), give: Give::Leave(2) },
    Column { title: "INITIATION", cell: |it, _| label(it, "initiation"), give: Give::Cut },
    Column { title: "STEP", cell: |it, _| last_step(it), give: Give::Leave(4) },
    Column { title: "STARTED", cell: |it, out| when(it, "started_at", out), give: Give::Leave(1) },
    Column { title: "TOOK", cell: |it, _| took(it, "started_at"), give: Give::Leave(3) },
];

const DELIVERIES: &[Column] = &[
    Column { title: "DELIVERY", cell: |it, _| text(it, "delivery_id"), give: ID },
    Column { title: "STATE", cell: |it, _| text(it, "state"), give: Give::Never },
    Column { title: "ENDPOINT", cell: |it, _| text(it, "endpoint"), give: Give::Cut },
    Column { title: "TRIES", cell: |it, _| count(it, "attempts").to_string(), give: Give::Leave(2) },
    Column { title: "SIZE", cell: |it, _| bytes(count(it, "bytes")), give: Give::Leave(3) },
    Column { title: "CREATED", cell: |it, out| when(it, "created_at", out), give: Give::Leave(4) },
    Column { title: "NEXT", cell: next_attempt, give: Give::Leave(1) },
];

const INITIATIONS: &[Column] = &[
    Column { title: "INITIATION", cell: |it, _| label(it, "label"), give: Give::Cut },
    Column { title: "CYCLE", cell: |it, _| text(it, "cycle_id"), give: ID },
    Column { title: "SCOPE", cell: |it, _| text(it, "scope"), give: Give::Leave(3) },
    Column { title: "SELECTED", cell: |it, out| when(it, "selected_at", out), give: Give::Leave(1) },
    Column { title: "RELEASED", cell: |it, out| when(it, "released_at", out), give: Give::Leave(2) },
];

const PROFILES: &[Column] = &[
    Column { title: "PROFILE", cell: |it, _| text(it, "label"), give: Give::Never },
    Column { title: "STATE", cell: |it, _| text(it, "state"), give: Give::Never },
    Column { title: "STEPS", cell: |it, _| steps_of(it), give: Give::Cut },
    Column {
        title: "ENDPOINTS",
        cell: |it, _| names(&it["distribution_map"], "endpoint"),
        give: Give::Leave(1),
    },
    Column { title: "ID", cell: |it, _| text(it, "profile_id"), give: Give::Leave(2) },
];

const RUN_PROFILES: &[Column] = &[
    Column { title: "RUN PROFILE", cell: |it, _| text(it, "label"), give: Give::Never },
    Column { title: "STATE", cell: |it, _| text(it, "state"), give: Give::Never },
    Column { title: "SCHEDULE", cell: |it, _| schedule(it), give: Give::Cut },
    Column { title: "PROFILES", cell: |it, _| surfaces(it), give: Give::Leave(1) },
    Column { title: "ID", cell: |it, _| text(it, "run_profile_id"), give: Give::Leave(2) },
];

/// A page of a list as a table. An empty one says so.
pub fn list(of: &List, answer: &Value, out: &Terminal) -> String {
    let (word, columns) = match of {
        List::Cycles => ("cycles", CYCLES),
        List::Initiations => ("initiations", INITIATIONS),
        List::Runs { .. } => ("runs", RUNS),
        List::Deliveries { .. } => ("deliveries", DELIVERIES),
        List::Profiles { .. } => ("profiles", PROFILES),
        List::RunProfiles { .. } => ("run profiles", RUN_PROFILES),
    };
    let items = items(answer, "items");
    if items.is_empty() { format!("no {word}\n") } else { table(columns, items, out) }
}

pub(super) fn table(columns: &[Column], items: &[Value], out: &Terminal) -> String {
    let cells: Vec<Vec<String>> =
        items.iter().map(|item| columns.iter().map(|column| (column.cell)(item, out)).collect()).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|index| {
            cells.iter().map(|row| width(&row[index])).max().unwrap_or(0).max(columns[index].title.len())
        })
        .collect();
    let kept = kept(columns, &widths, out.width);
    let titles = kept.iter().map(|(index, width)| (columns[*index].title.to_owned(), *width));
    let mut text = line(titles, |title| out.paint(Tone::Dim, title));
    for row in &cells {
        let shown = kept.iter().map(|(index, width)| (shown::fit(&row[*index], *width), *width));
        text.push_str(&line(shown, |cell| out.paint_state(cell)));
    }
    text
}

/// Cells padded to their widths. Paint goes on after padding is measured, and none follows the last cell.
fn line(cells: impl Iterator<Item = (String, usize)>, paint: impl Fn(&str) -> String) -> String {
    let mut line = String::new();
    let mut blanks = 0;
    for (cell, wide) in cells {
        line.push_str(&" ".repeat(blanks));
        line.push_str(&paint(&cell));
        blanks = wide.saturating_sub(width(&cell)) + GAP;
    }
    line.truncate(line.trim_end().len());
    line + "\n"
}

/// Which columns are shown, and how wide each is.
fn kept(columns: &[Column], widths: &[usize], width: Option<u16>) -> Vec<(usize, usize)> {
    let mut kept: Vec<(usize, usize)> = widths.iter().copied().enumerate().collect();
    let Some(width) = width else { return kept };
    let width = usize::from(width).max(WIDTH_MIN);
    let cut = |index: usize| columns[index].give == Give::Cut;
    let least = |kept: &[(usize, usize)]| {
        kept.iter()
            .map(|(index, width)| if cut(*index) { (*width).min(CUT_GOOD) } else { *width })
            .sum::<usize>()
            + GAP * kept.len().saturating_sub(1)
    };
    let rank = |index: usize| match columns[index].give {
        Give::Never | Give::Cut => 0,
        Give::Leave(rank) => rank,
    };
    while least(&kept) > width {
        let Some(at) = (0..kept.len()).max_by_key(|at| rank(kept[*at].0)).filter(|at| rank(kept[*at].0) > 0)
        else {
            break;
        };
        kept.remove(at);
    }
    let fixed: usize = kept.iter().filter(|(index, _)| !cut(*index)).map(|(_, width)| width).sum();
    let left = width.saturating_sub(fixed + GAP * kept.len().saturating_sub(1));
    for (index, width) in &mut kept {
        if cut(*index) {
            *width = (*width).min(left.max(CUT_MIN));
        }
    }
    kept
}

/// Longest label shown where nothing is cut.
const LABEL_MAX: usize = 80;

fn label(of: &Value, name: &str) -> String {
    some_text(of, name).map_or_else(|| "-".to_owned(), |label| shown::fit(&label, LABEL_MAX))
}

fn when(of: &Value, name: &str, out: &Terminal) -> String {
    time(of, name).map_or_else(|| "-".to_owned(), |at| out.when(at))
}

fn took(of: &Value, from: &str) -> String {
    between(of, from, "finished_at").map_or_else(|| "-".to_owned(), duration)
}

/// A key made by chance says nothing.
fn trigger(of: &Value) -> String {
    text(of, "trigger").split(':').next().unwrap_or_default().to_owned()
}

fn last_step(of: &Value) -> String {
    items(of, "steps").last().map_or_else(|| "-".to_owned(), |step| text(step, "step"))
}

fn next_attempt(of: &Value, out: &Terminal) -> String {
    match text(of, "state").as_str() {
        "waiting" => when(of, "due_at", out),
        _ => "-".to_owned(),
    }
}

fn names(of: &Value, field: &str) -> String {
    let names: Vec<_> = of.as_array().into_iter().flatten().map(|item| text(item, field)).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

fn steps_of(of: &Value) -> String {
    let rules = &of["execution_rules"];
    let tiers = items(rules, "tiers").iter().map(|tier| text(tier, "processor"));
    tiers.chain(some_text(&rules["normalize"], "processor")).collect::<Vec<_>>().join(" > ")
}

fn schedule(of: &Value) -> String {
    let entry = |entry: &Value| {
        let every = some_text(entry, "every").map(|every| format!("every {every}"));
        let zone = some_text(entry, "timezone").map(|zone| format!(" {zone}")).unwrap_or_default();
        some_text(entry, "cron").map(|cron| format!("{cron}{zone}")).or(every).unwrap_or_default()
    };
    items(&of["execution_policy"], "schedule").iter().map(entry).collect::<Vec<_>>().join("; ")
}

fn surfaces(of: &Value) -> String {
    let profiles = items(&of["execution_policy"], "profiles");
    profiles.iter().filter_map(super::fields::scalar).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::terminal;
    use super::*;
    use serde_json::json;

    fn runs() -> Value {
        json!({ "items": [
            { "run_id": "3f2a8c1e-0000-5000-8000-000000000001", "profile": "explainer", "state": "finished", "outcome": "succeeded",
              "initiation": "Why the sky is blue and \u{1b}[31mthe sea is green\u{1b}[0m", "started_at": "2026-11-25T11:57:00Z",
              "finished_at": "2026-11-25T11:57:12.3Z", "steps": [{ "step": "tier1" }, { "step": "normalize" }] },
            { "run_id": "3f2a8c1e-0000-5000-8000-000000000002", "profile": "square", "state": "working", "outcome": null,
              "initiation": "Tides", "started_at": "2026-11-25T11:59:50Z", "finished_at": null, "steps": [{ "step": "tier2" }] },
        ], "next": null })
    }

    fn check(of: &List, answer: &Value, width: Option<u16>, expected: &str) {
        assert_eq!(list(of, answer, &terminal(width)), expected, "{width:?}");
    }

    #[test]
    fn runs_fit_the_terminal() {
        let of = List::Runs { cycle_id: None };
        check(&of, &runs(), None, "\
RUN                                   STATE      PROFILE    INITIATION                                STEP       STARTED               TOOK
3f2a8c1e-0000-5000-8000-000000000001  succeeded  explainer  Why the sky is blue and the sea is green  normalize  2026-11-25T11:57:00Z  12.3s
3f2a8c1e-0000-5000-8000-000000000002  working    square     Tides                                     tier2      2026-11-25T11:59:50Z  -
");
        check(
            &of,
            &runs(),
            Some(100),
            "\
RUN                                   STATE      PROFILE    INITIATION                STARTED  TOOK
3f2a8c1e-0000-5000-8000-000000000001  succeeded  explainer  Why the sky is blue and…  3m ago   12.3s
3f2a8c1e-0000-5000-8000-000000000002  working    square     Tides                     10s ago  -
",
        );
        check(
            &of,
            &runs(),
            Some(60),
            "\
RUN                                   STATE      INITIATION
3f2a8c1e-0000-5000-8000-000000000001  succeeded  Why the sk…
3f2a8c1e-0000-5000-8000-000000000002  working    Tides
",
        );
    }

    #[test]
    fn every_list_has_its_columns() {
        check(
            &List::Cycles,
            &json!({ "items": [{
            "cycle_id": "9c1b0000-0000-5000-8000-000000000001", "run_profile": "twice-daily", "trigger": "manual:ab12", "state": "waiting",
            "outcome": null, "initiation": null, "fired_at": "2026-11-25T11:00:00Z", "finished_at": null }] }),
            Some(120),
            "\
CYCLE                                 STATE    RUN PROFILE  INITIATION  TRIGGER  FIRED   TOOK
9c1b0000-0000-5000-8000-000000000001  waiting  twice-daily  -           manual   1h ago  -
",
        );
        check(
            &List::Deliveries { state: None },
            &json!({ "items": [{
            "delivery_id": "d1000000-0000-5000-8000-000000000001", "endpoint": "archive", "state": "waiting", "attempts": 2, "bytes": 1_234_567,
            "created_at": "2026-11-25T11:00:00Z", "due_at": "2026-11-25T12:30:00Z" }] }),
            Some(120),
            "\
DELIVERY                              STATE    ENDPOINT  TRIES  SIZE     CREATED  NEXT
d1000000-0000-5000-8000-000000000001  waiting  archive   2      1.1 MiB  1h ago   in 30m
",
        );
        check(
            &List::Initiations,
            &json!({ "items": [{
            "label": "Tides\nand more", "cycle_id": "9c1b0000-0000-5000-8000-000000000001", "scope": "namespace",
            "selected_at": "2026-11-24T11:00:00Z", "released_at": null }] }),
            None,
            "\
INITIATION      CYCLE                                 SCOPE      SELECTED              RELEASED
Tides and more  9c1b0000-0000-5000-8000-000000000001  namespace  2026-11-24T11:00:00Z  -
",
        );
        check(
            &List::Profiles { archived: false },
            &json!({ "items": [{
            "label": "explainer", "state": "enabled", "profile_id": "6f2f6c3e-6d0a-4c53-9a57-8f6f5a0f1b11",
            "execution_rules": { "tiers": [{ "processor": "a" }, { "processor": "b" }, { "processor": "c" }], "normalize": { "processor": "n" } },
            "distribution_map": [{ "endpoint": "archive" }, { "endpoint": "press" }] }] }),
            Some(100),
            "\
PROFILE    STATE    STEPS          ENDPOINTS       ID
explainer  enabled  a > b > c > n  archive, press  6f2f6c3e-6d0a-4c53-9a57-8f6f5a0f1b11
",
        );
        check(
            &List::RunProfiles { archived: false },
            &json!({ "items": [{
            "label": "daily", "state": "paused", "run_profile_id": "0f6a2b8e-52b5-4d0e-8d3b-d0c4f6c0a7d2",
            "execution_policy": { "schedule": [{ "cron": "0 6 * * *", "timezone": "Europe/Berlin" }, { "every": "10m" }], "profiles": ["explainer", "square"] } }] }),
            Some(100),
            "\
RUN PROFILE  STATE   SCHEDULE                PROFILES           ID
daily        paused  0 6 * * * Europe/Berl…  explainer, square  0f6a2b8e-52b5-4d0e-8d3b-d0c4f6c0a7d2
",
        );
    }

    #[test]
    fn an_empty_list_says_so() {
        check(
            &List::Deliveries { state: None },
            &json!({ "items": [], "next": null }),
            None,
            "no deliveries\n",
        );
        check(&List::Cycles, &Value::Null, Some(60), "no cycles\n");
    }
}
