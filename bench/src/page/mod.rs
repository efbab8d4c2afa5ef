//! The page that tells what was measured, made from the result file: tables, plots beside it, and what is known of where the time goes.

mod plot;
mod table;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::report::Report;
use plot::Bar;

/// What no program can tell.
const TEXT: &str = include_str!("text.md");

/// Writes the page, and its plots beside it.
pub(crate) fn write(report: &Report, to: &Path) -> anyhow::Result<()> {
    let (name, folder) =
        (to.file_stem().context("no name")?.to_string_lossy(), to.parent().context("no folder")?);
    let mut page = format!(
        "# Performance\n\nMeasured on {}. `make bench` measures all of it again, `make bench-peers` the peers, and \
        `orbit-bench page` writes this page from their result file, `target/bench/latest.json`; so nothing here is written by hand but \
        the end.\n\nEvery figure that has a limit was measured beside it in the same minutes. The limit is a bare program that does the same to the same disk, \
        socket or program, and nothing else; the ratio is what means the same on another machine.\n",
        report.machine
    );
    for (title, file, bars) in plots(report) {
        if !bars.is_empty() {
            let file = format!("{name}-{file}.svg");
            std::fs::write(folder.join(&file), plot::bars(title, &bars))?;
            writeln!(page, "\n![{title}]({file})")?;
        }
    }
    page.push_str(&table::sections(report));
    page.push_str(&table::peers(report));
    page.push('\n');
    page.push_str(TEXT);
    std::fs::write(to, page).with_context(|| format!("cannot write `{}`", to.display()))
}

fn plots(report: &Report) -> Vec<(&'static str, &'static str, Vec<Bar>)> {
    let value = |name: &str| report.scenarios.get(name).map(|one| one.value);
    let mut runs = Vec::new();
    for (prefix, place) in [("runs_in_flight_", "SQLite"), ("postgres_runs_in_flight_", "PostgreSQL")] {
        let mut found: Vec<(u32, f64, Option<f64>)> = report
            .scenarios
            .iter()
            .filter_map(|(name, one)| Some((name.strip_prefix(prefix)?.parse().ok()?, one.value, one.limit)))
            .collect();
        found.sort_by_key(|one| one.0);
        for (in_flight, own, limit) in found {
            runs.push(Bar { label: format!("{place}, {in_flight} in flight"), value: own, is_own: true });
            let label = "its limit".to_owned();
            runs.extend(limit.map(|value| Bar { label, value, is_own: false }));
        }
    }
    let beside = |of: &str| {
        let own = [("ORBIT, SQLite", of.to_owned()), ("ORBIT, PostgreSQL", format!("postgres_{of}"))];
        let own = own.iter().filter_map(|(label, name)| {
            Some(Bar { label: (*label).to_owned(), value: value(name)?, is_own: true })
        });
        let others = table::PEERS.iter().filter_map(|(peer, label, _)| {
            let value = value(&format!("peer_{peer}_{of}"))?;
            Some(Bar { label: (*label).to_owned(), value, is_own: false })
        });
        let others: Vec<_> = others.collect();
        if others.is_empty() { others } else { own.chain(others).collect() }
    };
    vec![
        ("Runs a second, and the limit", "runs", runs),
        ("Runs a second, beside the peers", "peers", beside("runs")),
        ("One idle run in milliseconds, beside the peers", "idle", beside("idle_run")),
        ("Deliveries a second, beside the peers", "deliveries", beside("deliveries")),
    ]
}
