//! What people see: pure functions from the JSON that a node answers to text for a terminal.
//!
//! The JSON is the contract and scripts read it; this text may change. Nothing here asks, waits or prints. Text that came from outside
//! passes through [`text::clean`] before it is shown. Without a terminal the output is plain, not cut, and tells instants instead of
//! ages, so that it is stable.

mod config;
mod cycle;
mod delivery;
mod document;
mod endpoint;
mod fields;
mod list;
mod log;
mod nodes;
pub mod progress;
mod record;
mod schedule;
mod status;
mod story;
mod summary;
pub mod text;
mod trial;
pub mod units;

pub use config::{applied, difference, not_applied, snapshot, snapshots, unshared};
pub use cycle::cycle;
pub use delivery::delivery;
pub use document::document;
pub use endpoint::endpoint_test;
pub use list::list;
pub use record::record_line;
pub use schedule::schedule_preview;
pub use status::status;
pub use story::{story, story_line};
pub use summary::cycle_summary;
pub use trial::processor_trial;

use std::fmt::Write;

use jiff::Timestamp;

/// Where text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Columns; none if it is not a terminal.
    pub width: Option<u16>,
    /// Whether colours may be used.
    pub colour: bool,
    /// Whether standard error is a terminal that can show moving progress.
    pub progress: bool,
    /// The present instant, for ages.
    pub now: Timestamp,
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It went well.
    Good,
    /// It is under way, or somebody may want to look.
    Watch,
    /// It failed.
    Bad,
    /// Less important.
    Dim,
    /// As everything else.
    Plain,
}

impl Terminal {
    /// The text in the colour of its tone, if colours may be used. The text must be clean.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Watch => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Plain => return text.to_owned(),
        };
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A state or outcome in its colour.
    pub fn paint_state(&self, word: &str) -> String {
        self.paint(tone(word), word)
    }

    /// How an instant is told: as an age on a terminal, else in full.
    pub fn when(&self, at: Timestamp) -> String {
        if self.width.is_some() { units::age(at, self.now) } else { units::instant(at) }
    }

    /// The text cut to what is left of a line after this many columns; not cut where there is no terminal.
    pub fn fit(&self, text: &str, used: usize) -> String {
        match self.width {
            Some(width) => text::fit(text, usize::from(width).saturating_sub(used).max(8)),
            None => text.to_owned(),
        }
    }
}

/// The tone of a state or outcome.
pub fn tone(word: &str) -> Tone {
    match word {
        "succeeded" | "accepted" | "ok" | "running" | "open" | "enabled" => Tone::Good,
        "failed" | "dead" | "halted" | "problem" => Tone::Bad,
        "partial" | "waiting" | "interrupted" | "cancelled" | "working" | "sending" | "dispatching"
        | "selecting" | "paused" | "closed" | "warning" | "unknown" => Tone::Watch,
        "queued" | "ready" | "finished" | "skipped" | "stopped" | "archived" => Tone::Dim,
        _ => Tone::Plain,
    }
}

/// The outcome, or as long as there is none the state.
fn standing(of: &serde_json::Value) -> String {
    fields::some_text(of, "outcome").unwrap_or_else(|| fields::text(of, "state"))
}

/// A block of `name  value` lines, the values in one column. Lines without a value are left out.
fn block(lines: &[(&str, String)]) -> String {
    let shown = || lines.iter().filter(|(_, value)| !value.is_empty());
    let widest = shown().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut block = String::new();
    for (name, value) in shown() {
        _ = writeln!(block, "  {}  {value}", text::pad(name, widest));
    }
    block
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A terminal of this width without colours, at noon.
    pub(crate) fn terminal(width: Option<u16>) -> Terminal {
        let now = "2026-11-25T12:00:00Z".parse().unwrap();
        Terminal { width, colour: false, progress: false, now }
    }

    #[test]
    fn colours_only_where_they_may_be() {
        let plain = terminal(Some(80));
        assert_eq!(plain.paint_state("failed"), "failed");
        let coloured = Terminal { colour: true, ..plain };
        assert_eq!(coloured.paint_state("failed"), "\x1b[31mfailed\x1b[0m");
        assert_eq!(coloured.paint_state("something"), "something");
        assert_eq!(coloured.paint(Tone::Dim, ""), "");
    }

    #[test]
    fn a_block_leaves_out_what_is_not_known() {
        let lines = [("a", "1".to_owned()), ("much longer", String::new()), ("bb", "2".to_owned())];
        assert_eq!(block(&lines), "  a   1\n  bb  2\n");
    }
}
