//! A cycle as it goes, on standard error: told from its records, one after the other.
//!
//! On a terminal each surface has a line with its current step, a spinner and the time so far, and what is done scrolls above; elsewhere
//! only what is done is printed, a line each: `explainer  tier1      ok         0.3s  1.2 KiB`.

use std::collections::BTreeMap;
use std::io::Write;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::Value;

use super::fields::{some_text, text, time};
use super::text::{fit, pad, short};
use super::units::{bytes, duration};
use super::{Terminal, Tone};

/// Surfaces that have a line of their own at once; further ones are told when they are done.
const LINES_MAX: usize = 16;
/// Columns of a failure.
const FAILURE_COLUMNS: usize = 80;
/// Columns of a step or endpoint, and of the word after it.
const PART_COLUMNS: usize = 9;
const WORD_COLUMNS: usize = 9;

/// See the module.
pub struct Progress {
    surfaces: Surfaces,
    bars: Option<MultiProgress>,
    lines: BTreeMap<String, ProgressBar>,
    colour: bool,
}

/// What happened, as far as people want to know: pure, so that it can be tested.
#[derive(Default)]
struct Surfaces {
    labels: BTreeMap<String, String>,
    started: BTreeMap<(String, String), Timestamp>,
}

/// What a record means for the screen.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// The surface now does this.
    Now { run: String, doing: String },
    /// Something is done; `word` has the tone.
    Done { run: String, part: String, word: &'static str, tone: Tone, detail: String },
    /// Something about the whole cycle.
    Cycle { text: String },
}

impl Progress {
    /// Moving lines if standard error is a terminal; colours if they may be used.
    pub fn new(terminal: bool, colour: bool) -> Self {
        let bars = terminal.then(MultiProgress::new);
        Self { surfaces: Surfaces::default(), bars, lines: BTreeMap::new(), colour: terminal && colour }
    }

    /// Takes in the next record of the cycle.
    pub fn record(&mut self, record: &Value) {
        match self.surfaces.take(record) {
            Some(News::Now { run, doing }) => self.now(&run, &doing),
            Some(News::Done { run, part, word, tone, detail }) => {
                let word = format!(
                    "{}{}",
                    self.paint(tone, word),
                    " ".repeat(WORD_COLUMNS.saturating_sub(word.len()))
                );
                let line =
                    format!("{}  {}  {word}  {detail}", self.surfaces.padded(&run), pad(&part, PART_COLUMNS));
                self.print(line.trim_end());
            }
            Some(News::Cycle { text }) => self.print(&text),
            None => {}
        }
        if record["body"]["state"] == "finished"
            && let Some(line) = self.lines.remove(&text(record, "run_id"))
        {
            line.finish_and_clear();
        }
    }

    /// Moves the spinners.
    pub fn tick(&self) {
        self.lines.values().for_each(ProgressBar::tick);
    }

    /// Clears the moving lines; what was done stays.
    pub fn finish(&mut self) {
        for line in std::mem::take(&mut self.lines).into_values() {
            line.finish_and_clear();
        }
    }

    fn now(&mut self, run: &str, doing: &str) {
        let Some(bars) = &self.bars else { return };
        if !self.lines.contains_key(run) && self.lines.len() >= LINES_MAX {
            return;
        }
        let line = self.lines.entry(run.to_owned()).or_insert_with(|| bars.add(spinner()));
        line.set_prefix(self.surfaces.padded(run));
        line.set_message(doing.to_owned());
        line.reset_elapsed();
    }

    fn print(&self, line: &str) {
        match &self.bars {
            // A terminal that went away is no reason to stop the cycle.
            Some(bars) => _ = bars.println(line),
            None => _ = writeln!(std::io::stderr(), "{line}"),
        }
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        Terminal { width: None, colour: self.colour, progress: true, now: Timestamp::UNIX_EPOCH }
            .paint(tone, text)
    }
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix}  {msg}  {elapsed}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

impl Surfaces {
    fn take(&mut self, record: &Value) -> Option<News> {
        let (run, body) = (text(record, "run_id"), &record["body"]);
        match record["kind"].as_str()? {
            "initiation_selected" => {
                let label = some_text(&body["initiation"], "label")?;
                Some(News::Cycle { text: format!("selected: {}", fit(&label, FAILURE_COLUMNS)) })
            }
            "selection_exhausted" => Some(News::Cycle { text: "no candidate is new".to_owned() }),
            "selection_failed" => {
                Some(News::Cycle { text: format!("selection failed: {}", told(body).unwrap_or_default()) })
            }
            "run_admitted" => {
                let label = some_text(body, "profile").unwrap_or_else(|| short(&run));
                self.labels.insert(run.clone(), label);
                Some(News::Now { run, doing: "waits".to_owned() })
            }
            "step_started" | "step_succeeded" | "step_failed" | "step_interrupted" => self.step(record, run),
            "attempt_started" => {
                let endpoint = some_text(body, "endpoint")?;
                self.start(&run, &endpoint, record);
                Some(News::Now { run, doing: format!("sends to {endpoint}") })
            }
            "receipt_captured" => self.receipt(record, run),
            "synthesis_failed" | "deadline_passed" | "cancelled" => {
                let (word, tone) = if record["kind"] == "cancelled" {
                    ("cancelled", Tone::Watch)
                } else {
                    ("failed", Tone::Bad)
                };
                let part = if record["kind"] == "deadline_passed" { "deadline" } else { "run" };
                Some(News::Done {
                    run,
                    part: part.to_owned(),
                    word,
                    tone,
                    detail: told(body).unwrap_or_default(),
                })
            }
            _ => None,
        }
    }

    fn step(&mut self, record: &Value, run: String) -> Option<News> {
        let body = &record["body"];
        let step = some_text(body, "step")?;
        let took = self.took(&run, &step, record);
        let again = || match body["event"]["then"]["then"].as_str() {
            Some("retry") => "; tries again",
            Some(_) | None => "",
        };
        let done = |word, tone, detail| {
            Some(News::Done { run: run.clone(), part: step.clone(), word, tone, detail })
        };
        match record["kind"].as_str()? {
            "step_started" => {
                self.start(&run, &step, record);
                let attempt = body["attempt"].as_u64().filter(|attempt| *attempt > 1);
                let doing =
                    attempt.map_or_else(|| step.clone(), |attempt| format!("{step}, attempt {attempt}"));
                Some(News::Now { run, doing })
            }
            "step_succeeded" => {
                let size = body["bytes"].as_u64().map(bytes);
                done("ok", Tone::Good, [took, size].into_iter().flatten().collect::<Vec<_>>().join("  "))
            }
            "step_failed" => {
                let why = format!("{}{}", told(body).unwrap_or_default(), again());
                done(
                    "failed",
                    Tone::Bad,
                    [took, Some(why)].into_iter().flatten().collect::<Vec<_>>().join("  "),
                )
            }
            _ => done("cut", Tone::Watch, told(body).unwrap_or_default()),
        }
    }

    fn receipt(&mut self, record: &Value, run: String) -> Option<News> {
        let body = &record["body"];
        let receipt = &body["receipt"];
        let endpoint = some_text(body, "endpoint")?;
        let took = self.took(&run, &endpoint, record);
        let status = receipt["status"].as_u64();
        let answer = status.map(|status| status.to_string()).or_else(|| some_text(receipt, "outcome"));
        let (word, tone) = match status {
            Some(200..=299) => ("accepted", Tone::Good),
            Some(_) | None => ("refused", Tone::Bad),
        };
        let why = told(receipt).filter(|_| word == "refused");
        let detail = [took, answer, why].into_iter().flatten().collect::<Vec<_>>().join("  ");
        Some(News::Done { run, part: endpoint, word, tone, detail })
    }

    fn start(&mut self, run: &str, part: &str, record: &Value) {
        if let Some(at) = time(record, "at") {
            self.started.insert((run.to_owned(), part.to_owned()), at);
        }
    }

    fn took(&self, run: &str, part: &str, record: &Value) -> Option<String> {
        let start = self.started.get(&(run.to_owned(), part.to_owned()))?;
        Some(duration(time(record, "at")?.duration_since(*start)))
    }

    /// The surface's label, as wide as the widest.
    fn padded(&self, run: &str) -> String {
        let widest = self.labels.values().map(|label| super::text::width(label)).max().unwrap_or(0);
        pad(self.labels.get(run).map_or("-", String::as_str), widest)
    }
}

fn told(of: &Value) -> Option<String> {
    super::fields::told(of).map(|text| fit(&text, FAILURE_COLUMNS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(second: &str, kind: &str, body: Value) -> Value {
        let mut record = json!({ "at": format!("2026-11-25T12:00:{second}Z"), "kind": kind, "run_id": "r1" });
        record["body"] = body;
        record
    }

    /// What is printed where there is no terminal.
    fn told_of(records: &[Value]) -> Vec<String> {
        let mut surfaces = Surfaces::default();
        let lines = records.iter().filter_map(|record| match surfaces.take(record)? {
            News::Done { run, part, word, detail, .. } => {
                Some(format!("{} {part} {word} {detail}", surfaces.padded(&run)))
            }
            News::Cycle { text } => Some(text),
            News::Now { .. } => None,
        });
        lines.collect()
    }

    #[test]
    fn a_surface_from_admission_to_receipt() {
        let records = [
            record("00", "initiation_selected", json!({ "initiation": { "label": "Tides\u{1b}[2J" } })),
            record("00", "run_admitted", json!({ "profile": "explainer" })),
            record("00", "step_started", json!({ "step": "tier1", "attempt": 1 })),
            record(
                "00.3",
                "step_failed",
                json!({ "step": "tier1", "event": { "failure": "exit code 3", "then": { "then": "retry" } } }),
            ),
            record("01", "step_started", json!({ "step": "tier1", "attempt": 2 })),
            record("01.3", "step_succeeded", json!({ "step": "tier1", "bytes": 1280 })),
            record("01.4", "step_started", json!({ "step": "tier2", "attempt": 1 })),
            record("01.5", "step_interrupted", json!({ "step": "tier2", "event": { "cause": "halt" } })),
            record("02", "attempt_started", json!({ "endpoint": "archive", "attempt": 1 })),
            record(
                "02.25",
                "receipt_captured",
                json!({ "endpoint": "archive", "receipt": { "status": 503 } }),
            ),
            record(
                "02.5",
                "receipt_captured",
                json!({ "endpoint": "archive", "receipt": { "outcome": "timed_out", "message": "no answer" } }),
            ),
            record("03", "receipt_captured", json!({ "endpoint": "archive", "receipt": { "status": 201 } })),
            record("03", "delivery_settled", json!({ "accepted": true })),
        ];
        let expected = [
            "selected: Tides",
            "explainer tier1 failed 0.3s  exit code 3; tries again",
            "explainer tier1 ok 0.3s  1.2 KiB",
            "explainer tier2 cut halt",
            "explainer archive refused 0.2s  503",
            "explainer archive refused 0.5s  timed_out  no answer",
            "explainer archive accepted 1.0s  201",
        ];
        assert_eq!(told_of(&records), expected);
    }

    #[test]
    fn what_is_under_way() {
        let mut surfaces = Surfaces::default();
        let mut check = |kind: &str, body: Value, expected: Option<News>| {
            assert_eq!(surfaces.take(&record("00", kind, body)), expected);
        };
        let now = |doing: &str| Some(News::Now { run: "r1".to_owned(), doing: doing.to_owned() });
        check("run_admitted", json!({ "profile": "explainer" }), now("waits"));
        check("step_started", json!({ "step": "tier1", "attempt": 1 }), now("tier1"));
        check("step_started", json!({ "step": "tier1", "attempt": 2 }), now("tier1, attempt 2"));
        check("attempt_started", json!({ "endpoint": "archive" }), now("sends to archive"));
        check("step_output", json!({ "step": "tier1" }), None);
        check("something_new", json!(null), None);
    }
}
