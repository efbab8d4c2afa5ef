//! CSV (RFC 4180, with any line end), one bounded record at a time.
//!
//! The parser is driven with buffers of a fixed size, because a quote that is never closed makes the rest of a file one record.

use std::io::{self, BufRead};

use csv_core::{ReadRecordResult, Reader};
use orbit_core::limits::{SOURCE_COLUMNS_MAX, SOURCE_LINE_BYTES_MAX};
use orbit_core::selection::{CsvHeader, Pass};

use super::sources::{AreTaken, SourceError};

struct Records {
    parser: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

enum Record {
    /// It has this many fields.
    Whole(usize),
    /// It had more bytes than a line or more fields than a record may have; the next one follows.
    TooLong,
}

/// Offers every record after the header row to the pass. A source without any row offers nothing.
pub(super) fn feed(
    source: &mut impl BufRead,
    pass: &mut Pass,
    taken: &AreTaken<'_>,
) -> Result<(), SourceError> {
    let mut records = Records::new();
    let header = match records.next(source).map_err(SourceError::Read)? {
        None => return Ok(()),
        Some(Record::TooLong) => return Err(SourceError::HeaderTooLong),
        Some(Record::Whole(fields)) => CsvHeader::parse(&records.fields(fields))?,
    };
    loop {
        let number = records.parser.line();
        match records.next(source).map_err(SourceError::Read)? {
            None => return Ok(()),
            Some(Record::TooLong) => pass.too_long(),
            Some(Record::Whole(fields)) => match header.candidate(&records.fields(fields)) {
                Ok(candidate) => pass.offer(candidate, taken)?,
                Err(why) => pass.malformed(number, &why),
            },
        }
    }
}

impl Records {
    fn new() -> Self {
        // One more than allowed, so that a full buffer means too much.
        let (text, ends) = (vec![0; SOURCE_LINE_BYTES_MAX + 1], vec![0; SOURCE_COLUMNS_MAX + 1]);
        Self { parser: Reader::new(), text, ends }
    }

    fn next(&mut self, source: &mut impl BufRead) -> io::Result<Option<Record>> {
        let (mut written, mut fields, mut too_long) = (0, 0, false);
        loop {
            let input = source.fill_buf()?;
            let (result, read, wrote, ended) =
                self.parser.read_record(input, &mut self.text[written..], &mut self.ends[fields..]);
            source.consume(read);
            written += wrote;
            fields += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    (written, fields, too_long) = (0, 0, true);
                }
                ReadRecordResult::Record if too_long => return Ok(Some(Record::TooLong)),
                ReadRecordResult::Record => return Ok(Some(Record::Whole(fields))),
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    fn fields(&self, count: usize) -> Vec<&[u8]> {
        let mut start = 0;
        let field = |end: &usize| {
            let field = &self.text[start..*end];
            start = *end;
            field
        };
        self.ends[..count].iter().map(field).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orbit_core::config::{Choose, DedupeField};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use std::io::BufReader;

    fn read(text: &str, buffer: usize) -> Result<(Vec<(String, Value)>, Value), SourceError> {
        let mut pass = Pass::new(Choose::InOrder, uuid::Uuid::nil(), &[DedupeField::Label]);
        feed(&mut BufReader::with_capacity(buffer, text.as_bytes()), &mut pass, &|_| Ok(BTreeSet::new()))?;
        let selected = pass.finish(|_| Ok::<_, SourceError>(BTreeSet::new()))?;
        let shown = selected.candidates.into_iter().map(|chosen| {
            let (label, _, metadata) = chosen.candidate.into_parts();
            (label, Value::Object(metadata))
        });
        Ok((shown.collect(), selected.report))
    }

    fn check(text: &str, expected: &[(&str, Value)], counts: [u64; 4]) {
        for buffer in [4, 65_536] {
            let shown = &text[..text.len().min(80)];
            let (found, report) = read(text, buffer).unwrap();
            let expected: Vec<_> =
                expected.iter().map(|(label, rest)| ((*label).to_owned(), rest.clone())).collect();
            assert_eq!(found, expected, "{shown}");
            let names = ["lines", "candidates", "malformed", "too_long"];
            assert_eq!(names.map(|name| report[name].as_u64().unwrap()), counts, "{shown}");
        }
    }

    #[test]
    fn records() {
        check("", &[], [0; 4]);
        check("label\n", &[], [0; 4]);
        check("label\na\nb", &[("a", json!({})), ("b", json!({}))], [2, 2, 0, 0]);
        check("\u{feff}label,mood\r\na,calm\r\n", &[("a", json!({"mood": "calm"}))], [1, 1, 0, 0]);
        check(
            "label,mood\n\"a, \"\"b\"\"\n2\",\n\nc,x\n",
            &[("a, \"b\"\n2", json!({"mood": ""})), ("c", json!({"mood": "x"}))],
            [2, 2, 0, 0],
        );
        check(
            "weight,label\n2,a\nheavy,b\n-1,c\n1\n1,2,3\n,d\n",
            &[("a", json!({})), ("d", json!({}))],
            [6, 2, 4, 0],
        );
    }

    #[test]
    fn what_is_too_long_is_passed_over() {
        let long = "x".repeat(SOURCE_LINE_BYTES_MAX + 1);
        check(&format!("label,n\na,{long}\nb,1\n"), &[("b", json!({"n": "1"}))], [2, 1, 0, 1]);
        let wide = ",".repeat(SOURCE_COLUMNS_MAX + 1);
        check(&format!("label\n{wide}\nb\n"), &[("b", json!({}))], [2, 1, 0, 1]);
        check(&format!("label\na\n\"{}", "open\n".repeat(50_000)), &[("a", json!({}))], [2, 1, 0, 1]);
        check(
            &format!("label,n\nb,{}\n", &long[1..SOURCE_LINE_BYTES_MAX]),
            &[("b", json!({"n": &long[1..SOURCE_LINE_BYTES_MAX]}))],
            [1, 1, 0, 0],
        );
    }

    #[test]
    fn a_header_that_means_nothing_is_an_error() {
        let check = |text: &str, expected: &str| {
            let error = read(text, 64).expect_err(text).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("title,weight\na,1\n", "no column `label`, found: title, weight");
        check("label,label\n", "`label` twice");
        check(&"x".repeat(SOURCE_LINE_BYTES_MAX * 2), "header row is longer");
    }

    #[test]
    fn a_malformed_record_is_named_by_its_line() {
        let (_, report) = read("label,weight\na,1\n\"b\nb\",1\nc,heavy\n", 64).unwrap();
        assert_eq!(report["first_malformed"][0]["line"], 5);
    }
}
