//! Reads what a batch's program printed: one line of JSON for each item, and whatever else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{BATCH_ERROR_BYTES_MAX, BATCH_RESULT_BYTES_MAX};
use crate::tiers::Failure;

/// Numbers of malformed lines that are kept.
const MALFORMED_SHOWN_MAX: usize = 8;

/// What a program said of its items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// For each item, in the order in which they were given.
    pub items: Vec<Result<(), Failure>>,
    /// Whether at least one line was about one of the items. If not, the program does not speak the protocol and failed as a whole.
    pub heard: bool,
    /// Lines that say nothing about any item.
    pub odd: OddLines,
}

/// Lines that were passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OddLines {
    /// Not of the form `{"item", "ok", "error"?}`, or too long.
    pub malformed: u32,
    /// The numbers of the first of them, from 1.
    pub malformed_at: Vec<u32>,
    /// About an item that was not given.
    pub unknown: u32,
    /// About an item of which the same was said before.
    pub repeated: u32,
}

/// A result line. Further fields are the program's own.
#[derive(Deserialize)]
struct Line {
    item: String,
    ok: bool,
    #[serde(default)]
    error: Option<String>,
}

impl OddLines {
    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a program said of these items. An item without a line, or with lines that contradict each other, has failed. `redact` takes secrets out of
/// what goes into a failure.
pub fn read_results(items: &[String], text: &[u8], redact: impl Fn(&str) -> String) -> Results {
    let places: BTreeMap<&str, usize> =
        items.iter().enumerate().map(|(place, item)| (item.as_str(), place)).collect();
    let mut said: Vec<Option<Result<(), Failure>>> = vec![None; items.len()];
    let mut odd = OddLines::default();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let parsed = (line.len() <= BATCH_RESULT_BYTES_MAX).then(|| serde_json::from_slice::<Line>(line));
        let Some(Ok(parsed)) = parsed else {
            odd.malformed = odd.malformed.saturating_add(1);
            if odd.malformed_at.len() < MALFORMED_SHOWN_MAX {
                odd.malformed_at.push(number);
            }
            continue;
        };
        let Some(said) = places.get(parsed.item.as_str()).and_then(|place| said.get_mut(*place)) else {
            odd.unknown = odd.unknown.saturating_add(1);
            continue;
        };
        match said {
            None => *said = Some(of_line(&parsed, &redact)),
            Some(before) if before.is_ok() == parsed.ok => odd.repeated = odd.repeated.saturating_add(1),
            Some(before) => *before = Err(Failure::ResultContradicts),
        }
    }
    let heard = said.iter().any(Option::is_some);
    let items = said.into_iter().map(|one| one.unwrap_or(Err(Failure::ResultMissing))).collect();
    Results { items, heard, odd }
}

fn of_line(line: &Line, redact: impl Fn(&str) -> String) -> Result<(), Failure> {
    if line.ok {
        return Ok(());
    }
    let said = line.error.as_deref().map_or_else(|| "no reason given".to_owned(), redact);
    let message = said[..said.floor_char_boundary(BATCH_ERROR_BYTES_MAX)].to_owned();
    Err(Failure::ItemFailed { message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn read(text: &str) -> Results {
        read_results(&items(&["a", "b"]), text.as_bytes(), |text| text.replace("s3cret", "[redacted]"))
    }

    #[test]
    fn lines() {
        let failed = |message: &str| Err(Failure::ItemFailed { message: message.to_owned() });
        let missing = || Err(Failure::ResultMissing);
        let check = |text: &str, expected: [Result<(), Failure>; 2], odd: (u32, u32, u32)| {
            let results = read(text);
            assert_eq!(results.items, expected, "{text}");
            let found = (results.odd.malformed, results.odd.unknown, results.odd.repeated);
            assert_eq!(found, odd, "{text}");
        };
        let ok = "{\"item\":\"a\",\"ok\":true}\n";
        check("", [missing(), missing()], (0, 0, 0));
        check(&format!("{ok}{{\"item\":\"b\",\"ok\":true}}"), [Ok(()), Ok(())], (0, 0, 0));
        check(&format!("\n  \r\n{ok}"), [Ok(()), missing()], (0, 0, 0));
        check(
            "{\"ok\":false,\"item\":\"a\",\"error\":\"no s3cret\",\"x\":1}",
            [failed("no [redacted]"), missing()],
            (0, 0, 0),
        );
        check("{\"item\":\"a\",\"ok\":false}", [failed("no reason given"), missing()], (0, 0, 0));
        check(&format!("{ok}{ok}"), [Ok(()), missing()], (0, 0, 1));
        check(
            &format!("{ok}{{\"item\":\"a\",\"ok\":false}}\n{ok}"),
            [Err(Failure::ResultContradicts), missing()],
            (0, 0, 0),
        );
        check("{\"item\":\"c\",\"ok\":true}", [missing(), missing()], (0, 1, 0));
        check(
            &format!("garbage\n{{\n{ok}{{\"item\":\"b\"}}\n{{\"item\":\"b\",\"ok\":\"yes\"}}"),
            [Ok(()), missing()],
            (4, 0, 0),
        );
        let long = format!("{{\"item\":\"b\",\"ok\":true,\"x\":\"{}\"}}", "x".repeat(BATCH_RESULT_BYTES_MAX));
        check(&long, [missing(), missing()], (1, 0, 0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let results = read(&"garbage\n".repeat(100));
        assert_eq!((results.odd.malformed, results.odd.malformed_at.len()), (100, MALFORMED_SHOWN_MAX));
        assert!(!results.heard);
        let results = read(&format!("{{\"item\":\"a\",\"ok\":false,\"error\":\"{}\"}}", "é".repeat(1_000)));
        let Err(Failure::ItemFailed { message }) = &results.items[0] else { panic!("{results:?}") };
        assert_eq!(message.len(), BATCH_ERROR_BYTES_MAX);
        assert!(results.heard);
    }

    proptest! {
        /// Whatever is printed, every item has exactly one outcome, and only a line that says so makes one succeed.
        #[test]
        fn every_item_has_an_outcome(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let results = read_results(&items(&["a", "b", "c"]), &text, str::to_owned);
            prop_assert_eq!(results.items.len(), 3);
            prop_assert!(results.heard || results.items.iter().all(Result::is_err));
        }
    }
}
