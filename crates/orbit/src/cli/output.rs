//! Data on standard output, words on standard error.
//!
//! A reader that has seen enough closes the pipe (`orbit runs list | head -1`): that ends the command quietly and is no failure.
//! `println!` would panic there, so nothing else prints.

use std::io::{ErrorKind, Write};

use serde_json::Value;

use super::failure::Failure;
use crate::render::text::is_hidden;

/// Data: text that is complete with its newlines.
pub fn print(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Data: JSON over several lines.
pub fn json(value: &Value) -> Result<(), Failure> {
    print(&format!("{}\n", inert(&format!("{value:#}"))))
}

/// Data: JSON on one line, for streams.
pub fn json_line(value: &Value) -> Result<(), Failure> {
    print(&format!("{}\n", inert(&value.to_string())))
}

/// Data: JSON if it is asked for, else text.
pub fn either(value: &Value, as_json: bool, text: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
    if as_json { json(value) } else { print(&text(value)) }
}

/// Data as it is.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| {
        if error.kind() == ErrorKind::BrokenPipe {
            return Failure::reader_gone();
        }
        Failure::failed(format!("cannot write to standard output: {error}"))
    })
}

/// Words for people. Whether anybody can read them changes nothing.
pub fn say(text: &str) {
    _ = writeln!(std::io::stderr(), "{text}");
}

/// JSON escapes only part of what can move a terminal's cursor or reorder its text; outside of strings none of it occurs.
pub fn inert(json: &str) -> String {
    if !json.chars().any(|char| char != '\n' && is_hidden(char)) {
        return json.to_owned();
    }
    let escaped = |char: char| {
        if char != '\n' && is_hidden(char) { format!("\\u{:04x}", u32::from(char)) } else { char.to_string() }
    };
    json.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_safe_for_a_terminal_and_the_same_value() {
        let value = serde_json::json!({ "a": "x\u{1b}[1m\u{9b}31m\u{202e}\u{7f}\n" });
        let written = inert(&format!("{value:#}"));
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        assert!(!written.chars().any(|char| char != '\n' && is_hidden(char)), "{written:?}");
    }
}
