//! JSON Lines, one bounded line at a time: a line that is too long is passed over without being held in memory.

use std::io::{self, BufRead, Read};

use orbit_core::limits::SOURCE_LINE_BYTES_MAX;
use orbit_core::selection::{Candidate, Pass};

use super::sources::{AreTaken, SourceError};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

enum Line {
    /// The line is in the buffer, without its end.
    Whole,
    /// It had more bytes than a line may have; the next one follows.
    TooLong,
    /// There was none.
    End,
}

/// Offers every line to the pass.
pub(super) fn feed(
    source: &mut impl BufRead,
    pass: &mut Pass,
    taken: &AreTaken<'_>,
) -> Result<(), SourceError> {
    let mut line = Vec::new();
    for number in 1.. {
        match next(source, &mut line).map_err(SourceError::Read)? {
            Line::End => break,
            Line::TooLong => {
                pass.too_long();
                continue;
            }
            Line::Whole => {}
        }
        let text = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(text) if number == 1 => text,
            Some(_) | None => &line,
        };
        if text.trim_ascii().is_empty() {
            pass.empty();
            continue;
        }
        match Candidate::from_json_line(text) {
            Ok(candidate) => pass.offer(candidate, taken)?,
            Err(why) => pass.malformed(number, &why),
        }
    }
    Ok(())
}

/// The next line. It ends with LF or CR LF, or with the source.
fn next(source: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    const READ_MAX: u64 = SOURCE_LINE_BYTES_MAX as u64 + 2;
    line.clear();
    if source.by_ref().take(READ_MAX).read_until(b'\n', line)? == 0 {
        return Ok(Line::End);
    }
    if line.pop_if(|last| *last == b'\n').is_some() {
        line.pop_if(|last| *last == b'\r');
    } else if line.len() > SOURCE_LINE_BYTES_MAX {
        source.skip_until(b'\n')?;
    }
    Ok(if line.len() > SOURCE_LINE_BYTES_MAX { Line::TooLong } else { Line::Whole })
}

#[cfg(test)]
mod tests {
    use super::*;
    use orbit_core::config::{Choose, DedupeField};
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::io::BufReader;

    fn read(text: &[u8]) -> (Vec<String>, Value) {
        let mut pass = Pass::new(Choose::InOrder, uuid::Uuid::nil(), &[DedupeField::Label]);
        // A small buffer, so that every line spans several reads.
        feed(&mut BufReader::with_capacity(7, text), &mut pass, &|_| Ok(BTreeSet::new())).unwrap();
        let selected = pass.finish(|_| Ok::<_, Infallible>(BTreeSet::new())).unwrap();
        let labels = selected.candidates.iter().map(|chosen| chosen.candidate.label().to_owned()).collect();
        (labels, selected.report)
    }

    fn check(text: &[u8], labels: &[&str], counts: [u64; 5]) {
        let shown = String::from_utf8_lossy(&text[..text.len().min(80)]);
        let (found, report) = read(text);
        assert_eq!(found, labels, "{shown}");
        let names = ["lines", "candidates", "empty", "malformed", "too_long"];
        assert_eq!(names.map(|name| report[name].as_u64().unwrap()), counts, "{shown}");
    }

    #[test]
    fn lines() {
        check(b"", &[], [0; 5]);
        check(b"\n", &[], [1, 0, 1, 0, 0]);
        check(b"{\"label\":\"a\"}\n{\"label\":\"b\"}\n", &["a", "b"], [2, 2, 0, 0, 0]);
        check(b"{\"label\":\"a\"}\r\n \t\r\n{\"label\":\"b\"}", &["a", "b"], [3, 2, 1, 0, 0]);
        check(b"\xef\xbb\xbf{\"label\":\"a\"}\n", &["a"], [1, 1, 0, 0, 0]);
        check(b"{\"label\":\"a\"}\n\xef\xbb\xbf{\"label\":\"b\"}\n", &["a"], [2, 1, 0, 1, 0]);
        check(b"nonsense\n{\"label\":\"\xff\"}\n[]\n{\"label\":\"a\"}\n", &["a"], [4, 1, 0, 3, 0]);
        check(b"{\"label\":\"cut", &[], [1, 0, 0, 1, 0]);
    }

    #[test]
    fn the_number_of_a_malformed_line_is_its_place_in_the_file() {
        let (_, report) = read(b"\n{\"label\":\"a\"}\r\n\n{\"title\":1}\n");
        assert_eq!(report["first_malformed"][0]["line"], 4);
        assert!(report["first_malformed"][0]["reason"].as_str().unwrap().contains("unknown field `title`"));
    }

    #[test]
    fn long_lines() {
        let padded = |bytes: usize, end: &str| {
            let line = "{\"label\":\"a\"}";
            format!("{line}{}{end}", " ".repeat(bytes - line.len())).into_bytes()
        };
        let max = SOURCE_LINE_BYTES_MAX;
        for end in ["\n", "\r\n", ""] {
            check(&padded(max, end), &["a"], [1, 1, 0, 0, 0]);
            check(&padded(max + 1, end), &[], [1, 0, 0, 0, 1]);
            check(&padded(max + 2, end), &[], [1, 0, 0, 0, 1]);
            check(&padded(max * 3, end), &[], [1, 0, 0, 0, 1]);
        }
        let then = [padded(max * 2, "\n"), b"{\"label\":\"b\"}\n".to_vec()].concat();
        check(&then, &["b"], [2, 1, 0, 0, 1]);
    }

    #[test]
    fn a_source_that_fails_ends_the_pass() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let mut pass = Pass::new(Choose::InOrder, uuid::Uuid::nil(), &[DedupeField::Label]);
        let whole = BufReader::new(b"{\"label\":\"a\"}\n".chain(Broken));
        let answer = feed(&mut { whole }, &mut pass, &|_| Ok(BTreeSet::new()));
        assert!(matches!(answer, Err(SourceError::Read(_))), "{answer:?}");
    }
}
