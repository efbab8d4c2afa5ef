//! `orbit log export`: every record as it is hashed, for whoever verifies the log with a program of their own.
//!
//! A page is asked for at a time, so that memory stays as it is however long the log. The body is printed byte for byte as it was hashed;
//! evidence comes with its salt in hex.

use std::fmt::Write as _;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;
use serde::Deserialize;
use serde_json::json;

use crate::cli::args::ExportArgs;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::session::Session;
use crate::control::{Command, LogQuestion};
use crate::exit;
use crate::render::Terminal;

#[derive(Deserialize)]
struct Page {
    items: Vec<Item>,
    size: u64,
}

#[derive(Deserialize)]
struct Item {
    position: u64,
    leaf: String,
    body: Option<String>,
    salt: Option<String>,
}

/// Prints them. What is appended meanwhile is not part of it.
pub(super) async fn export(layout: &Layout, args: &ExportArgs, out: &Terminal) -> Result<u8, Failure> {
    let mut session = Session::open(layout, Duty::None).await?;
    let (mut from, mut end) = (args.from, args.to);
    let mut bar = None;
    loop {
        let question = LogQuestion::Page { from, to: end };
        let command = Command::Log { namespace: args.namespace.clone(), question };
        let page: Page = session.ask_as(command).await?;
        let until = end.map_or(page.size, |end| end.min(page.size));
        end = Some(until);
        let bar = bar.get_or_insert_with(|| progress(out.progress, until.saturating_sub(args.from)));
        let Some(last) = page.items.last() else { break };
        from = last.position + 1;
        output::bytes(lines(&page.items).as_bytes()).inspect_err(|_| bar.finish_and_clear())?;
        bar.set_position(from - args.from);
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(exit::SUCCEEDED)
}

/// On a terminal that does not show the records themselves.
fn progress(terminal: bool, records: u64) -> ProgressBar {
    if !terminal || std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(records);
    let style = ProgressStyle::with_template("{bar:30} {human_pos} of {human_len} records  {per_sec}  {eta}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

fn lines(items: &[Item]) -> String {
    let mut lines = String::new();
    for Item { position, leaf, body, salt } in items {
        let body = body.as_deref().unwrap_or("null");
        _ = write!(lines, "{{\"position\":{position},\"leaf\":{},\"body\":{body}", json!(leaf));
        if let Some(salt) = salt {
            _ = write!(lines, ",\"salt\":\"{salt}\"");
        }
        lines.push_str("}\n");
    }
    if std::io::stdout().is_terminal() { output::inert(&lines) } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_line_holds_what_is_hashed() {
        let item = |body: Option<&str>, salt: Option<&str>| Item {
            position: 7,
            leaf: r#"{"a":"b"}"#.to_owned(),
            body: body.map(str::to_owned),
            salt: salt.map(str::to_owned),
        };
        let check = |item: Item, expected: &str| assert_eq!(lines(&[item]), format!("{expected}\n"));
        check(item(Some(r#"{"n":1E2}"#), None), r#"{"position":7,"leaf":"{\"a\":\"b\"}","body":{"n":1E2}}"#);
        check(item(None, None), r#"{"position":7,"leaf":"{\"a\":\"b\"}","body":null}"#);
        let salted = lines(&[item(Some("1"), Some("00ff"))]);
        assert_eq!(serde_json::from_str::<Value>(&salted).unwrap()["salt"], "00ff");
    }
}
