//! What came of trying a processor.

use std::fmt::Write;

use jiff::SignedDuration;
use serde_json::Value;

use super::fields::{count, some_text, text};
use super::text::clean;
use super::units::{bytes, duration};
use super::{Terminal, Tone, block};

/// Lines of the last words that are shown.
const LAST_WORDS_LINES_MAX: usize = 10;

/// How it ended, what it used, what it made, and the end of what it wrote to standard error.
pub fn processor_trial(answer: &Value, out: &Terminal) -> String {
    let took = SignedDuration::from_millis(i64::try_from(count(answer, "duration_ms")).unwrap_or(i64::MAX));
    let outcome = out.paint_state(&text(answer, "outcome"));
    let mut shown = format!("processor {}  {outcome} after {}\n", text(answer, "processor"), duration(took));
    let as_step = match some_text(answer, "profile") {
        Some(profile) => format!("{} of profile `{profile}`", text(answer, "step")),
        None => format!("{} of no profile", text(answer, "step")),
    };
    shown.push_str(&block(&[
        ("as", as_step),
        ("reason", out.paint(Tone::Bad, &text(answer, "message"))),
        ("input", payload(&answer["input"]).unwrap_or_else(|| "what tier 1 is given, or nothing".to_owned())),
        ("output", payload(&answer["output"]).unwrap_or_default()),
        ("used", used(&answer["usage"]).unwrap_or_default()),
    ]));
    let said = answer["stderr"].as_str().unwrap_or_default();
    let lines: Vec<_> = said.lines().map(clean).filter(|line| !line.is_empty()).collect();
    for line in &lines[lines.len().saturating_sub(LAST_WORDS_LINES_MAX)..] {
        _ = writeln!(shown, "    {}", out.paint(Tone::Dim, &format!("| {}", out.fit(line, 6))));
    }
    shown
}

fn payload(of: &Value) -> Option<String> {
    let parts = [Some(bytes(of["bytes"].as_u64()?)), some_text(of, "media_type"), some_text(of, "digest")];
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join("  "))
}

fn used(usage: &Value) -> Option<String> {
    let cpu = i64::try_from(usage["cpu_ms"].as_u64()?).unwrap_or(i64::MAX);
    let mut used = format!("cpu {}", duration(SignedDuration::from_millis(cpu)));
    let memory = count(usage, "memory_peak_bytes");
    if memory > 0 {
        _ = write!(used, ", mem {}", bytes(memory));
    }
    let processes = count(usage, "processes_peak");
    if processes > 1 {
        _ = write!(used, ", {processes} processes");
    }
    Some(used)
}

#[cfg(test)]
mod tests {
    use super::super::tests::terminal;
    use super::*;
    use serde_json::json;

    #[test]
    fn one_that_gave_an_output_and_one_that_did_not() {
        let answer = json!({
            "processor": "two", "profile": "plain", "step": "tier2", "outcome": "succeeded", "message": null, "duration_ms": 120,
            "input": { "bytes": 4, "digest": "sha256:aa" }, "output": { "bytes": 2048, "digest": "sha256:bb", "media_type": "text/plain" },
            "usage": { "cpu_ms": 12, "memory_peak_bytes": 3 << 20, "processes_peak": 2 }, "stderr": "said\u{1b}[1m so\n\n" });
        let expected = "\
processor two  succeeded after 0.1s
  as      tier2 of profile `plain`
  input   4 B  sha256:aa
  output  2.0 KiB  text/plain  sha256:bb
  used    cpu 12ms, mem 3.0 MiB, 2 processes
    | said so
";
        assert_eq!(processor_trial(&answer, &terminal(Some(100))), expected);
        let answer = json!({
            "processor": "two", "profile": null, "step": "tier2", "outcome": "failed", "message": "exited with code 3", "duration_ms": 20,
            "input": null, "output": null, "usage": null, "stderr": "" });
        let expected = "\
processor two  failed after 20ms
  as      tier2 of no profile
  reason  exited with code 3
  input   what tier 1 is given, or nothing
";
        assert_eq!(processor_trial(&answer, &terminal(Some(100))), expected);
    }
}
