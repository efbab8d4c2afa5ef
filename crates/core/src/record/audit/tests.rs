//! Rows as they were written, and what is found once they are changed.

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::record::{Body, Kind, Record, Sealed, Subject};
use crate::run::{RunEvent, RunState, Step};

fn sealed(kind: Kind, run_id: Option<Uuid>, body: Body) -> Sealed {
    let subject = Subject { run_id, ..Subject::default() };
    Record { at: Timestamp::UNIX_EPOCH, kind, subject, body }.seal()
}

fn evidence() -> Sealed {
    let body = Body::Evidence { salt: [7; 16], value: json!({"stderr": "no"}) };
    sealed(Kind::StepOutput, None, body)
}

fn fact() -> Sealed {
    sealed(Kind::Halted, None, Body::Fact(json!({"reason": "a test"})))
}

fn faults_of(row: &Row<'_>) -> Vec<String> {
    examine(row).faults.into_iter().map(|fault| format!("{}: {}", fault.table, fault.difference)).collect()
}

/// The row as it was written, and what is found once it is changed.
#[test]
fn every_column_of_a_record_is_held_to_its_header() {
    let check = |sealed: &Sealed, change: &dyn Fn(&mut Row<'_>), expected: &[&str]| {
        let leaf = leaf_hash(sealed.header.as_bytes());
        let mut row = Row {
            position: 5,
            header: &sealed.header,
            leaf: Some(&leaf.0),
            body: Some(&sealed.body),
            salt: sealed.salt.as_ref().map(<[u8; 16]>::as_slice),
            dropped_at: None,
        };
        assert_eq!(faults_of(&row), Vec::<String>::new());
        change(&mut row);
        let found = faults_of(&row);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    };
    let (fact, evidence) = (fact(), evidence());
    let other = sealed(Kind::Resumed, None, Body::Fact(json!({"reason": "a test"})));
    check(&fact, &|row| row.leaf = Some(&[1; 32]), &["log_records: the header is not the one"]);
    check(&fact, &|row| row.leaf = None, &[]);
    check(&fact, &|row| row.body = Some("{}"), &["log_bodies: body and salt have the digest"]);
    check(&fact, &|row| row.body = None, &["log_bodies: the body is missing"]);
    check(&fact, &|row| row.salt = Some(&[7; 16]), &["log_bodies: a body of class `fact` with the salt"]);
    check(&fact, &|row| row.dropped_at = Some(9), &["log_bodies: the body is there, and `log_tombstones`"]);
    check(
        &fact,
        &|row| (row.body, row.dropped_at) = (None, Some(9)),
        &["log_bodies: a fact has no body and a tombstone"],
    );
    check(&evidence, &|row| row.salt = Some(&[8; 16]), &["log_bodies: body and salt have the digest"]);
    check(&evidence, &|row| row.salt = None, &["log_bodies: a body of class `evidence`"]);
    check(&evidence, &|row| row.salt = Some(&[7; 15]), &["log_bodies: the salt has not 16 bytes"]);
    check(&evidence, &|row| (row.body, row.salt) = (None, None), &["log_bodies: the body is missing"]);
    check(&evidence, &|row| (row.body, row.salt, row.dropped_at) = (None, None, Some(9)), &[]);
    let reader = |row: &mut Row<'_>| row.header = "{";
    check(
        &fact,
        &reader,
        &["log_records: the header is not the one", "log_records: the header cannot be read"],
    );
    assert_ne!(fact.header, other.header);
}

/// However a header is spelled, it is read as the reader of JSON reads it, and refused where that refuses it.
#[test]
fn a_header_is_what_the_reader_of_json_makes_of_it() {
    let id = Uuid::from_u128(7);
    let every = Subject {
        cycle_id: Some(id),
        run_id: Some(id),
        profile_id: Some(id),
        snapshot: Some(Digest::of(b"a snapshot")),
    };
    let some = Subject { run_id: Some(id), ..Subject::default() };
    let written = [every, some, Subject::default()].map(|subject| {
        let body = Body::Fact(json!({"reason": "a test"}));
        Record { at: Timestamp::UNIX_EPOCH, kind: Kind::Halted, subject, body }.seal().header
    });
    for header in &written {
        assert!(Header::as_written(header).is_some(), "{header}");
        let quoted = header.replacen("halted", "hal\\u0074ed", 1);
        let mut others = vec![
            header.replacen(':', ": ", 1),
            header.replacen("\"kind\":\"halted\"", "\"kind\":\"halted\",\"kind\":\"halted\"", 1),
            header.replacen('{', "{\"more\":\"1\",", 1),
            header.replacen("halted", "hal\nted", 1),
            header.replacen("halted", "h\u{e4}lted", 1),
            header.replacen("\"halted\"", "null", 1),
            header.replacen("\"fact\"", "1", 1),
            header.replacen("\"at\"", "\"kind\"", 1),
            format!("{header} "),
            format!("{header}}}"),
            format!(" {header}"),
            quoted,
            header.to_uppercase(),
        ];
        others.extend((0..header.len()).map(|end| header[..end].to_owned()));
        others.extend((0..header.len()).map(|at| format!("{}\"{}", &header[..at], &header[at..])));
        others.extend((0..header.len()).map(|at| format!("{}{}", &header[..at], &header[at + 1..])));
        for text in others.iter().chain([header]) {
            let by_json = serde_json::from_str::<Header<'_>>(text);
            match Header::read(text) {
                Ok(header) => assert_eq!(header, by_json.unwrap(), "{text}"),
                Err(error) => assert_eq!(error.to_string(), by_json.unwrap_err().to_string(), "{text}"),
            }
        }
    }
}

#[test]
fn a_gap_is_named_and_later_positions_keep_their_places() {
    let leaves: Vec<_> = (0..64_u8).map(|n| leaf_hash(&[n])).collect();
    let run = |missing: std::ops::Range<u64>| {
        let mut sequence = Sequence::default();
        let mut completed = 0;
        let mut faults = Vec::new();
        for (position, leaf) in (0..).zip(&leaves).filter(|(position, _)| !missing.contains(position)) {
            faults.extend(sequence.take(position, *leaf, |_, _, _| completed += 1));
        }
        assert_eq!(sequence.size(), 64);
        assert_eq!(sequence.is_broken(), !missing.is_empty());
        (completed, faults.into_iter().map(|fault| (fault.position, fault.difference)).collect::<Vec<_>>())
    };
    assert_eq!(run(0..0), (127, vec![]));
    let (completed, faults) = run(3..4);
    assert_eq!(faults, [(Some(3), "the record at position 3 is missing".to_owned())]);
    assert_eq!(completed, 4, "nothing above a gap can be compared");
    assert_eq!(run(0..10).1, [(Some(0), "the records from position 0 to 9 are missing".to_owned())]);
}

#[test]
fn runs_are_folded_and_what_cannot_follow_is_named() {
    let id = Uuid::from_u128(1);
    let mut folds = Folds::<()>::default();
    let mut take = |sealed: &Sealed| {
        let header = Header::read(&sealed.header).unwrap();
        let taken = folds.take(&header, Some(&sealed.body), |_| None);
        taken.map(|taken| taken.map(|taken| taken.state.clone())).map_err(|fault| fault.to_string())
    };
    let event = |event: RunEvent| {
        let kind = Kind::from(&event);
        sealed(kind, Some(id), Body::Fact(json!({ "event": event })))
    };
    let started = event(RunEvent::StepStarted { step: Step::Tier1, attempt: 1 });
    assert!(take(&started).unwrap_err().contains("not admitted before"));
    let admitted = sealed(Kind::RunAdmitted, Some(id), Body::Fact(json!({"request": {}})));
    assert_eq!(take(&admitted).unwrap(), Some(RunState::admitted()));
    assert!(take(&admitted).unwrap_err().contains("a second time"));
    let state = take(&started).unwrap().unwrap();
    assert_eq!(state.name(), "working");
    assert!(take(&started).unwrap_err().contains("run 00000000"), "a step that is under way cannot start");
    let other = sealed(
        Kind::StepFailed,
        Some(id),
        Body::Fact(json!({"event": {"event": "step_started", "step": "tier1", "attempt": 2}})),
    );
    assert!(take(&other).unwrap_err().contains("a record `step_failed` holds the event `step_started`"));
    assert_eq!(take(&fact()).unwrap(), None);
}

#[test]
fn faults_are_counted_without_end_and_kept_up_to_a_bound() {
    let mut faults = Faults::default();
    faults.extend((0..1500).map(|position| Fault::at("log_records", position, "gone")));
    assert_eq!((faults.count, faults.kept.len()), (1500, Faults::KEPT_MAX));
}
