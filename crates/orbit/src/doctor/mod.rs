//! `orbit doctor`: whether this machine and this home are fit for the work, and what to do where they are not.
//!
//! It looks and changes nothing: no record, no activation. Stores are opened only where they exist and nobody holds the home. Only `rebuild`,
//! when it is asked for, writes.

mod bucket;
mod copies;
mod database;
mod home;
mod machine;
mod needs;
mod programs;
pub mod rebuild;
mod told;

use std::fmt::Write;
use std::path::Path;

use orbit_core::config::{NamespaceName, StorageBackend};
use orbit_engine::clock::{Clock, SystemClock};
use orbit_engine::gate::{Disk, SystemDisk};
use orbit_engine::layout::Layout;
use serde::Serialize;

use crate::config::load;
use crate::environment::Environment;
use crate::render::Terminal;
use crate::render::text::{clean, clean_lines, pad};
use crate::render::units::counted;

/// What was found in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where: `home`, `quarantine`, `configuration`, `programs`, `secrets`, `disk`, `clock`, `store`, `database`, `bucket`, `heartbeat`, `notices`, `tls` or `kernel`.
    pub area: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What is so.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Work goes on, and somebody should look.
    Warning,
    /// Some work cannot be done.
    Problem,
}

impl Finding {
    fn ok(area: &'static str, message: impl Into<String>) -> Self {
        Self { area, level: Level::Ok, message: message.into(), hint: None }
    }

    fn warning(area: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { area, level: Level::Warning, message: message.into(), hint: Some(hint.into()) }
    }

    fn problem(area: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { area, level: Level::Problem, message: message.into(), hint: Some(hint.into()) }
    }

    /// Whether some work cannot be done.
    pub fn is_problem(&self) -> bool {
        self.level == Level::Problem
    }
}

/// Looks everywhere.
pub async fn examine(layout: &Layout) -> Vec<Finding> {
    let mut findings = home::folders(layout);
    let loaded = load(layout.home());
    let backend = loaded.node.storage.backend;
    findings.extend(home::holder(layout, &loaded.namespaces, backend).await);
    findings.extend(copies::all(layout));
    findings.extend(configuration(&loaded.problems));
    let environment = match Environment::load(layout.home()) {
        Ok((environment, warnings)) => {
            findings.extend(warnings.iter().map(|found| told("secrets", Level::Warning, &found.to_string())));
            environment
        }
        Err(error) => {
            findings.push(Finding::problem(
                "secrets",
                error.to_string(),
                "make `.env` readable by this user alone",
            ));
            Environment::default()
        }
    };
    if let Err(error) = environment.paused() {
        findings.push(Finding::problem(
            "configuration",
            error.to_string(),
            "set `ORBIT_PAUSED=false` or `true`",
        ));
    }
    let names: Vec<NamespaceName> =
        loaded.namespaces.iter().map(|namespace| namespace.name.clone()).collect();
    if backend == StorageBackend::Postgres {
        findings.extend(database::findings(layout, &environment, &loaded.namespaces).await);
    }
    findings.extend(bucket::probe(&loaded.node.artifacts, &environment).await);
    for namespace in &loaded.namespaces {
        let name = &namespace.name;
        findings.extend(programs::missing(&namespace.snapshot, &layout.namespace(name)));
        let is_set = |secret: &_| environment.secret(name, secret).is_some();
        findings.extend(needs::unset_secrets(&namespace.snapshot, is_set));
        let free = SystemDisk.free_bytes(&machine::existing(&layout.data(name)));
        findings.push(machine::space(name.as_str(), free, namespace.snapshot.config.disk_floor.0));
    }
    if loaded.namespaces.iter().any(|namespace| needs::speaks_tls(&namespace.snapshot)) {
        findings.push(machine::roots());
    }
    findings.push(machine::clock(SystemClock.now(), machine::newest_write(layout, &names)));
    findings.extend(machine::kernel());
    findings
}

/// Namespaces that have a store, by name; among them `system`, the node's own.
pub fn stores_of(layout: &Layout) -> Vec<NamespaceName> {
    let entries = std::fs::read_dir(layout.home().join("data")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| NamespaceName::parse(entry.file_name().to_str()?).ok());
    let system = Some(NamespaceName::system());
    let mut names: Vec<_> = names.chain(system).filter(|name| layout.database(name).exists()).collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}

/// The variables that the documents of a home need and that are not set, by namespace and document.
pub fn missing_secrets(home: &Path) -> Vec<String> {
    let environment = Environment::load(home).map(|(environment, _)| environment).unwrap_or_default();
    let loaded = load(home).namespaces;
    let missing = loaded.iter().flat_map(|namespace| {
        let is_set = |secret: &_| environment.secret(&namespace.name, secret).is_some();
        needs::unset_secrets(&namespace.snapshot, is_set)
    });
    missing.filter(Finding::is_problem).map(|finding| finding.message).collect()
}

fn configuration(problems: &[crate::config::Diagnostic]) -> Vec<Finding> {
    if problems.is_empty() {
        return vec![Finding::ok("configuration", "every document is valid")];
    }
    let level = |problem: &crate::config::Diagnostic| {
        if problem.is_error() { Level::Problem } else { Level::Warning }
    };
    problems.iter().map(|problem| told("configuration", level(problem), &problem.to_string())).collect()
}

/// A diagnostic as a finding: what it prints as its hint is the finding's.
fn told(area: &'static str, level: Level, text: &str) -> Finding {
    let (message, hint) = match text.split_once("\n    hint: ").or_else(|| text.split_once("\n  hint: ")) {
        Some((message, hint)) => (message, Some(hint.to_owned())),
        None => (text, None),
    };
    Finding { area, level, message: message.trim_end().to_owned(), hint }
}

/// A line for each finding, hints below; at the end how many of each.
pub fn render(findings: &[Finding], out: &Terminal) -> String {
    let widest = findings.iter().map(|finding| finding.area.len()).max().unwrap_or(0);
    let mut shown = String::new();
    for finding in findings {
        let word = match finding.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        let padding = " ".repeat("problem".len() - word.len());
        let message = clean_lines(&finding.message).replace('\n', "\n    ");
        _ = writeln!(shown, "{}{padding}  {}  {message}", out.paint_state(word), pad(finding.area, widest));
        if let Some(hint) = &finding.hint {
            _ = writeln!(shown, "    hint: {}", clean(hint));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    shown
        + &format!(
            "{}, {}\n",
            counted(count(Level::Problem), "problem"),
            counted(count(Level::Warning), "warning")
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_as_they_are_shown() {
        let findings = [
            Finding::ok("home", "`/srv/orbit` is writable"),
            Finding::problem(
                "programs",
                "processor `write`: no program `nope\u{1b}[1m` in PATH",
                "install it",
            ),
            told("configuration", Level::Warning, "a.yaml:1:2: odd\n    hint: say it better"),
        ];
        let out = Terminal { width: None, colour: false, progress: false, now: jiff::Timestamp::UNIX_EPOCH };
        let expected = "\
ok       home           `/srv/orbit` is writable
problem  programs       processor `write`: no program `nope` in PATH
    hint: install it
warning  configuration  a.yaml:1:2: odd
    hint: say it better
1 problem, 1 warning
";
        assert_eq!(render(&findings, &out), expected);
        assert!(findings[1].is_problem() && !findings[0].is_problem());
        let json = serde_json::to_value(&findings[0]).unwrap();
        let expected = serde_json::json!({ "area": "home", "level": "ok", "message": "`/srv/orbit` is writable", "hint": null });
        assert_eq!(json, expected);
    }
}
