//! The tables of the page.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::plot::number_of;
use crate::report::{Better, Measured, Report};

/// Names of scenarios, and what they are for people. A name that ends in `_` stands for all that begin with it.
type Rows = &'static [(&'static str, &'static str)];

const SECTIONS: &[(&str, Rows)] = &[
    (
        "Runs",
        &[
            ("runs", "runs a second on SQLite, beside a bare commit of the same rows and bytes in groups"),
            ("runs_in_flight_", "the same, in flight:"),
            ("runs_beside_single_commits", "runs a second on SQLite, beside one transaction a commit"),
            ("idle_run", "one run alone, beside the sum of its fsyncs"),
            ("idle_run_beside_bare_commits", "one run alone, beside as many bare commits of its bytes"),
            (
                "postgres_runs",
                "runs a second on PostgreSQL, beside a bare insert of the same rows over as many connections, in groups",
            ),
            ("postgres_runs_in_flight_", "the same, in flight:"),
            (
                "postgres_runs_beside_single_commits",
                "runs a second on PostgreSQL, beside the same with a commit for each stage of each run",
            ),
            ("postgres_two_nodes", "two nodes, beside one"),
            ("postgres_three_nodes", "three nodes, beside one"),
            ("postgres_three_namespaces", "three nodes, each of a namespace of its own, beside one"),
            ("postgres_idle_run", "one run alone on PostgreSQL, beside as many bare commits"),
        ],
    ),
    (
        "Deliveries",
        &[
            (
                "deliveries",
                "deliveries a second with durable receipts, beside a bare client that connects for each",
            ),
            (
                "deliveries_beside_kept_connections",
                "the same, beside a bare client that keeps its connections",
            ),
        ],
    ),
    (
        "Programs",
        &[
            ("supervised_attempt", "a program that does nothing, supervised, beside a bare spawn of it"),
            ("supervisor_above_a_spawn", "what the supervisor adds"),
            ("ffmpeg_batch", "a batch of FFmpeg's work, beside `xargs -P` with the same commands"),
        ],
    ),
    (
        "Selection and schedules",
        &[
            ("selection", "a selection from a million candidates, beside SHA-256 of the same file"),
            ("schedule_delay_p50", "how late 100,000 schedules of one minute fire, the middle one"),
            ("schedule_delay_p99", "the same, all but one in a hundred"),
            ("check_profiles", "`orbit check` of 100,000 profiles"),
            ("check_profiles_memory", "its memory"),
        ],
    ),
    (
        "A crash",
        &[
            (
                "crash_delivered",
                "`kill -9` with 200 runs in flight: from the restart until everything is delivered",
            ),
            ("crash_lost", "what is lost then, over all repeats"),
            ("crash_repeats", "what comes twice: it was on the wire, or its receipt was not durable yet"),
        ],
    ),
    (
        "The log",
        &[
            ("log_append", "records appended a second"),
            ("verify", "verification of what runs leave, beside SHA-256 of the same bytes"),
            (
                "verify_long_log",
                "verification of a log of a million records, beside SHA-256 of the same bytes",
            ),
            ("prove", "one proof of inclusion"),
        ],
    ),
    (
        "Start, size, memory",
        &[
            ("start_to_ready", "from the start of `orbit serve` until it is ready"),
            ("binary_size", "the size of `orbit`"),
            ("memory_idle", "`orbit serve` with nothing to do"),
            (
                "memory_over_runs",
                "an engine after all runs of the scenario, beside itself after two fifths of them",
            ),
        ],
    ),
    ("Payloads in the store, beside files", &[("payloads_in_store_", "sixteen payloads kept at once, of:")]),
    (
        "Beside the best of the peers",
        &[
            ("runs_beside_peers", "runs a second on SQLite"),
            ("postgres_runs_beside_peers", "runs a second on PostgreSQL, beside those on PostgreSQL"),
            ("idle_run_beside_peers", "one run alone"),
            ("postgres_idle_run_beside_peers", "one run alone on PostgreSQL, beside those on PostgreSQL"),
            ("deliveries_beside_peers", "deliveries a second"),
            ("crash_delivered_beside_peers", "until everything is delivered after a crash"),
        ],
    ),
];

/// Names in the result file, what the peers are called, and what of the work they do not do.
pub(super) const PEERS: &[(&str, &str, &str)] = &[
    (
        "restate",
        "Restate",
        "no record that can be proved; it has a server of its own, and its steps are a program of Node",
    ),
    ("dbos_python_sqlite", "DBOS (Python), SQLite", "no fair share, no receipt beyond the step's result"),
    ("dbos_python_postgres", "DBOS (Python), PostgreSQL", "the same"),
    (
        "graphile_worker",
        "graphile-worker, PostgreSQL",
        "a job that is done is deleted: only the outcome is kept; a step may be done twice around a crash",
    ),
    (
        "pg_boss",
        "pg-boss, PostgreSQL",
        "a queue: the seven steps are seven jobs; a step may be done twice around a crash",
    ),
    (
        "apalis_sqlite",
        "apalis, SQLite",
        "a queue with steps; what was at work in a crash waits for its time to run out",
    ),
    ("apalis_postgres", "apalis, PostgreSQL", "the same"),
];

/// Every scenario that is not a peer's.
pub(super) fn sections(report: &Report) -> String {
    let (mut text, mut told) = (String::new(), BTreeSet::new());
    for (title, rows) in SECTIONS {
        let mut lines = String::new();
        for (name, label) in *rows {
            let mut found: Vec<_> = report
                .scenarios
                .iter()
                .filter_map(|(one, of)| {
                    let rest = if name.ends_with('_') {
                        one.strip_prefix(name)?
                    } else {
                        one.strip_prefix(name).filter(|rest| rest.is_empty())?
                    };
                    Some((rest, one, of))
                })
                .collect();
            found.sort_by_key(|(rest, ..)| (rest.len(), *rest));
            for (rest, one, of) in found {
                told.insert(one);
                lines.push_str(&line(&format!("{label} {}", rest.replace("_kib", " KiB")), of));
            }
        }
        append(&mut text, title, &lines);
    }
    let rest = report.scenarios.iter().filter(|(name, _)| !told.contains(name) && !name.starts_with("peer_"));
    let lines: String = rest.map(|(name, of)| line(&format!("`{name}`"), of)).collect();
    append(&mut text, "Besides", &lines);
    text
}

fn append(text: &mut String, title: &str, lines: &str) {
    if !lines.is_empty() {
        _ = write!(
            text,
            "\n## {title}\n\n| what | found | limit | ratio | target | |\n| --- | ---: | ---: | ---: | ---: | --- |\n{lines}"
        );
    }
}

fn line(label: &str, of: &Measured) -> String {
    let or_nothing = |value: Option<f64>| value.map(number_of).unwrap_or_default();
    let sign = match of.better {
        Better::Higher => "≥",
        Better::Lower => "≤",
    };
    let target = of.target.map(|target| format!("{sign} {target}")).unwrap_or_default();
    let met = match of.is_met() {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "",
    };
    format!(
        "| {} | {} {} | {} | {} | {target} | {met} |\n",
        label.trim(),
        number_of(of.value),
        of.unit,
        or_nothing(of.limit),
        or_nothing(of.ratio)
    )
}

/// One line a peer.
pub(super) fn peers(report: &Report) -> String {
    let value =
        |name: String| report.scenarios.get(&name).map_or("–".to_owned(), |one| number_of(one.value));
    let columns = ["runs", "idle_run", "deliveries", "crash_delivered", "crash_lost", "crash_repeats"];
    let mut lines = String::new();
    for (peer, label, lacks) in PEERS {
        if report.scenarios.contains_key(&format!("peer_{peer}_runs")) {
            let cells = columns.map(|column| value(format!("peer_{peer}_{column}"))).join(" | ");
            _ = writeln!(lines, "| {label} | {cells} | {lacks} |");
        }
    }
    if lines.is_empty() {
        return lines;
    }
    let own = [("ORBIT, SQLite", ""), ("ORBIT, PostgreSQL", "postgres_")]
        .map(|(label, prefix)| {
            let cells = columns.map(|column| value(format!("{prefix}{column}"))).join(" | ");
            format!("| **{label}** | {cells} | |\n")
        })
        .concat();
    format!(
        "\n## The peers\n\nThe same cycle for each: select, three tiers, normalize, deliver over HTTP with the answer kept, record; 1 KiB and then 16 KiB a step; with \
        the durable settings that each has by itself, and the numbers of workers that were found best. [bench/peers](../../bench/peers/README.md) has their \
        programs. A crash that is not over within a minute has no time, and what had not come by then counts as lost.\n\n\
        | | runs/s | one idle run, ms | deliveries/s | delivered after a crash, s | lost | again | what it does not do |\n\
        | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n{own}{lines}"
    )
}
