//! What was measured: `{machine, commit, scenarios: {name: {value, unit, limit, ratio, target, better, commit}}}`.
//!
//! `limit` is what the machine does without ORBIT and `ratio` the value against it; where there is none both are null and `value` itself is
//! compared with `target`. A run that measures a few scenarios leaves what the file says of the others; each names the commit that it was measured of.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

/// Which direction is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// One result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// What was measured.
    pub(crate) value: f64,
    /// In what.
    pub(crate) unit: String,
    /// What it is compared with.
    pub(crate) limit: Option<f64>,
    /// The value against the limit.
    pub(crate) ratio: Option<f64>,
    /// What the ratio should be, or the value where there is no limit; null if it is only told.
    pub(crate) target: Option<f64>,
    /// Which direction is good.
    pub(crate) better: Better,
    /// Of which commit; known when it is added to a report.
    #[serde(default)]
    pub(crate) commit: String,
}

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// On what.
    pub(crate) machine: String,
    /// Of which commit the last of it was.
    pub(crate) commit: String,
    /// By name.
    pub(crate) scenarios: BTreeMap<String, Measured>,
}

impl Measured {
    /// A value beside its limit.
    pub(crate) fn against(value: f64, unit: &str, limit: f64, (target, better): (f64, Better)) -> Self {
        let compared = Self::plain(value, unit, Some(target), better);
        Self { limit: Some(limit), ratio: Some(value / limit), ..compared }
    }

    /// A value that is compared with its target.
    pub(crate) fn plain(value: f64, unit: &str, target: Option<f64>, better: Better) -> Self {
        let (unit, commit) = (unit.to_owned(), String::new());
        Self { value, unit, limit: None, ratio: None, target, better, commit }
    }

    /// The same, only told.
    pub(crate) fn told(self) -> Self {
        Self { target: None, ..self }
    }

    /// Whether it is as it should be, where that is said.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let (found, target) = (self.ratio.unwrap_or(self.value), self.target?);
        Some(match self.better {
            Better::Higher => found >= target,
            Better::Lower => found <= target,
        })
    }
}

impl Report {
    /// An empty report of this machine and commit.
    pub(crate) fn new() -> Self {
        Self { machine: machine(), commit: commit().unwrap_or_default(), scenarios: BTreeMap::new() }
    }

    /// What a file holds.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Takes in what a file holds of this machine, if there is one.
    pub(crate) fn keep(&mut self, path: &Path) {
        if let Some(former) = Self::read(path).ok().filter(|former| former.machine == self.machine) {
            self.scenarios = former.scenarios;
        }
    }

    /// Takes a result in and tells it.
    pub(crate) fn add(&mut self, name: &str, measured: Measured) {
        let compared = match (measured.limit, measured.ratio) {
            (Some(limit), Some(ratio)) => format!(", limit {limit:.3}, ratio {ratio:.3}"),
            (_, _) => String::new(),
        };
        let met = match (measured.is_met(), measured.target) {
            (Some(met), Some(target)) => format!(" ({} {target})", if met { "meets" } else { "misses" }),
            (_, _) => String::new(),
        };
        self.say(&format!("{name}: {:.3} {}{compared}{met}", measured.value, measured.unit));
        self.scenarios.insert(name.to_owned(), Measured { commit: self.commit.clone(), ..measured });
    }

    /// Tells something besides the results.
    pub(crate) fn say(&self, line: &str) {
        let _ = self;
        println!("{line}");
    }

    /// Writes it down.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(fs::write(path, text)?)
    }
}

/// A bar on a terminal; nothing otherwise.
pub(crate) fn bar(of: &str, steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{msg:<28} {wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    bar.set_message(of.to_owned());
    bar
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// In milliseconds.
pub(crate) fn milliseconds(of: Duration) -> f64 {
    of.as_secs_f64() * 1_000.0
}

fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} × {}, Linux {}", processors, model.trim_start_matches(['\t', ':', ' ']), kernel.trim())
}

/// As `.git` says it, so that no program is started.
fn commit() -> Option<String> {
    let git = Path::new(".git");
    let folder = match fs::read_to_string(git) {
        Ok(pointer) => pointer.trim().strip_prefix("gitdir: ")?.into(),
        Err(_) => git.to_owned(),
    };
    let head = fs::read_to_string(folder.join("HEAD")).ok()?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return Some(head.trim().to_owned()) };
    let above =
        fs::read_to_string(folder.join("commondir")).map_or(folder.clone(), |path| folder.join(path.trim()));
    fs::read_to_string(above.join(name)).ok().map(|digest| digest.trim().to_owned())
}
