//! Notes against what others published, and every bit of one changed.

use super::*;
use crate::record::key::tests::{GO_VKEY, go_signer, signer};

/// The note of the documentation of Go's `golang.org/x/mod/sumdb/note`.
const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
/// The example of the C2SP and its key.
const C2SP_NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
const C2SP_VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
/// What Go's tests add to the note above, with its key.
const ENOCH_LINE: &str = "\u{2014} EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
const ENOCH_VKEY: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";

fn key(vkey: &str) -> Verifier {
    vkey.parse().unwrap()
}

#[test]
fn notes_of_others_are_read_verified_and_written() {
    let both = format!("{GO_NOTE}{ENOCH_LINE}");
    for (note, vkey) in [(GO_NOTE, GO_VKEY), (C2SP_NOTE, C2SP_VKEY), (&both, GO_VKEY), (&both, ENOCH_VKEY)] {
        let parsed = Note::parse(note).unwrap();
        assert_eq!(parsed.signed_by(&key(vkey)), Ok(()));
        assert_eq!(parsed.to_string(), note);
    }
}

#[test]
fn the_same_key_makes_the_same_note_as_go() {
    let text = GO_NOTE.split_once("\n\n").unwrap().0.to_owned() + "\n";
    assert_eq!(Note::sign(text, &[&go_signer()]).unwrap().to_string(), GO_NOTE);
}

#[test]
fn no_bit_of_a_note_can_be_changed() {
    let mut bytes = GO_NOTE.as_bytes().to_vec();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            let holds = std::str::from_utf8(&bytes)
                .is_ok_and(|note| Note::parse(note).is_ok_and(|note| note.signed_by(&key(GO_VKEY)).is_ok()));
            assert!(!holds, "bit {bit} of byte {at}");
            bytes[at] ^= 1 << bit;
        }
    }
}

#[test]
fn a_signature_is_found_by_name_and_id_and_has_to_hold() {
    let note = Note::parse(GO_NOTE).unwrap();
    let check = |note: &Note, vkey: &str, expected: &str| {
        assert_eq!(note.signed_by(&key(vkey)).unwrap_err().to_string(), expected);
    };
    check(&note, C2SP_VKEY, "no signature of `example.com/foo` with key id `530d903a`");
    let other_text = Note::parse(&GO_NOTE.replace("answer", "Answer")).unwrap();
    check(
        &other_text,
        GO_VKEY,
        "the signature of `PeterNeumann` with key id `c74f20a3` is not over this text",
    );
    // A second line under the same name and id that does not hold spoils the first.
    let mut twice = note.clone();
    twice.signatures.push(note.signatures[0].clone());
    assert_eq!(twice.signed_by(&key(GO_VKEY)), Ok(()));
    twice.signatures[1].bytes[0] ^= 1;
    check(&twice, GO_VKEY, "the signature of `PeterNeumann` with key id `c74f20a3` is not over this text");
    // Another key's signature under this key's name.
    let mut renamed = Note::sign(note.text.clone(), &[&signer(1, "PeterNeumann")]).unwrap();
    check(&renamed, GO_VKEY, "no signature of `PeterNeumann` with key id `c74f20a3`");
    renamed.signatures[0].id = key(GO_VKEY).id();
    check(&renamed, GO_VKEY, "the signature of `PeterNeumann` with key id `c74f20a3` is not over this text");
}

#[test]
fn a_note_of_another_form_is_refused() {
    let check = |note: &str, expected: &str| assert_eq!(Note::parse(note).unwrap_err().to_string(), expected);
    let line = C2SP_NOTE.lines().last().unwrap();
    let wanted = "expected `\u{2014} name base64` with an id and a signature";
    check("", "line 1: expected an empty line and signatures, found the end");
    check("text\n", "line 2: expected an empty line and signatures, found the end");
    check("text\n\n", &format!("line 3: {wanted} and a newline, found the end"));
    check(&format!("text\n{line}\n"), "line 3: expected an empty line and signatures, found the end");
    check(&format!("a\tb\n\n{line}\n"), "line 1: expected text without control characters, found `a\\tb`");
    check(&format!("a\nb\r\n\n{line}\n"), "line 2: expected text without control characters, found `b\\r`");
    let short = |text: &str| text.chars().take(80).collect::<String>();
    for wrong in [
        line.replace('\u{2014}', "-"),
        line.replace("example.com/foo ", ""),
        line.replace("foo", "foo+"),
        line.replace("foo ", "foo\u{a0} "),
        line.replace("foo ", "foo  "),
        line.replace("M=", "M"),
        format!("{line} "),
        format!("{DASH}example.com/foo Uw2QOg=="),
    ] {
        let found = short(&wrong).escape_debug().to_string();
        check(&format!("text\n\n{wrong}\n"), &format!("line 3: {wanted}, found `{found}`"));
    }
    let found = short(line);
    check(&format!("text\n\n{line}\n{line}"), &format!("line 4: {wanted} and a newline, found `{found}`"));
    assert_eq!(
        Note::sign("text".to_owned(), &[]).unwrap_err().to_string(),
        "line 1: expected a newline at the end of the text, found `text`"
    );
}

#[test]
fn a_note_has_bounds() {
    let line = C2SP_NOTE.lines().last().unwrap().to_owned() + "\n";
    let with = |signatures: usize| format!("text\n\n{}", line.repeat(signatures));
    assert_eq!(Note::parse(&with(NOTE_SIGNATURES_MAX)).unwrap().signatures().len(), NOTE_SIGNATURES_MAX);
    assert_eq!(Note::parse(&with(NOTE_SIGNATURES_MAX + 1)), Err(NoteError::Signatures));
    let bytes = NOTE_BYTES_MAX + 1;
    assert_eq!(Note::parse(&"x".repeat(bytes)), Err(NoteError::TooLong { bytes }));
}

#[test]
fn empty_lines_belong_to_the_text() {
    let note = Note::sign("a\n\nb\n\n".to_owned(), &[&go_signer()]).unwrap();
    let read = Note::parse(&note.to_string()).unwrap();
    assert_eq!(read, note);
    assert_eq!(read.text(), "a\n\nb\n\n");
    assert_eq!(read.signed_by(go_signer().verifier()), Ok(()));
}
