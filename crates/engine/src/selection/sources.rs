//! Where candidates come from: the items of a document, or a file that is read once from front to back.
//!
//! Blocking; whoever calls runs on a thread that may wait. Memory does not grow with the source. What a file held is told by length, time
//! and digest, because files are not pinned by a snapshot.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Take};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::libc::O_NONBLOCK;
use orbit_core::config::CandidateItem;
use orbit_core::digest::{Digest, Hasher};
use orbit_core::limits::{SOURCE_COLUMNS_MAX, SOURCE_LINE_BYTES_MAX};
use orbit_core::selection::{Candidate, HeaderError, Pass};
use orbit_core::tiers::RemoteFailure;
use orbit_store::StoreError;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{lines, records};

/// Bytes that are read from a file at once.
const READ_BYTES: usize = 64 * 1024;

/// Answers which of these hashes are taken.
pub(super) type AreTaken<'a> = dyn Fn(&[Digest]) -> Result<BTreeSet<Digest>, SourceError> + 'a;

/// What is read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    /// The items of an inline source.
    Items(Vec<CandidateItem>),
    /// A file: CSV if its name ends so, else JSON Lines.
    File {
        /// Where it is.
        path: PathBuf,
    },
}

/// A source that cannot be read to its end. Lines that are not candidates are counted and are not this.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be opened.
    #[error("cannot open `{path}`: {message}; a source's path is relative to its namespace's folder")]
    Open {
        /// The file.
        path: String,
        /// What the system said.
        message: String,
    },
    /// The path is a folder or a device.
    #[error("`{path}` is not a file; a source is a file of JSON Lines or CSV")]
    NotAFile {
        /// The path.
        path: String,
    },
    /// Reading failed on the way.
    #[error("reading failed: {0}")]
    Read(io::Error),
    /// The header row of a CSV file means nothing.
    #[error("{0}; expected `label`, if wanted `weight`, and any other columns as metadata")]
    Header(#[from] HeaderError),
    /// The header row of a CSV file is too long.
    #[error("the header row is longer than {SOURCE_LINE_BYTES_MAX} bytes or {SOURCE_COLUMNS_MAX} columns")]
    HeaderTooLong,
    /// A secret that the source's program or service is to be given is not set.
    #[error("the secret `{variable}` is not set; put it into `.env` or the environment")]
    Secret {
        /// The variable.
        variable: String,
    },
    /// The source's program gave no listing.
    #[error("the program `{program}` {message}")]
    Program {
        /// The first element of its argv.
        program: String,
        /// How it ended.
        message: String,
    },
    /// The source's service gave no listing.
    #[error("{failure}")]
    Remote {
        /// Why.
        failure: RemoteFailure,
    },
    /// Whether a candidate is new cannot be told.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was told to end.
    #[error("reading was cut short")]
    Cut,
}

/// Offers everything that the input has to the pass; the answer describes the input, for the record. A cut is noticed between two blocks of
/// a file.
pub(super) fn feed(
    input: &Input,
    pass: &mut Pass,
    cancel: &CancellationToken,
    taken: &AreTaken<'_>,
) -> Result<Value, SourceError> {
    match input {
        Input::Items(items) => {
            for (item, number) in items.iter().zip(1..) {
                match Candidate::try_from(item.clone()) {
                    Ok(candidate) => pass.offer(candidate, taken)?,
                    Err(why) => pass.malformed(number, &why),
                }
            }
            Ok(json!({ "items": items.len() }))
        }
        Input::File { path } => match file(path, pass, cancel, taken) {
            Err(_) if cancel.is_cancelled() => Err(SourceError::Cut),
            answer => answer,
        },
    }
}

fn file(
    path: &Path,
    pass: &mut Pass,
    cancel: &CancellationToken,
    taken: &AreTaken<'_>,
) -> Result<Value, SourceError> {
    let shown = || path.display().to_string();
    let cannot = |error: io::Error| SourceError::Open { path: shown(), message: error.to_string() };
    // To open a pipe would wait for its writer.
    let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(cannot)?;
    let found = opened.metadata().map_err(cannot)?;
    if !found.is_file() {
        return Err(SourceError::NotAFile { path: shown() });
    }
    let modified = found.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    // As long as it is now: a file that grows faster than it is read would have no end.
    let mut watched = Watched { file: opened.take(found.len()), hasher: Hasher::default(), bytes: 0, cancel };
    let mut reader = BufReader::with_capacity(READ_BYTES, &mut watched);
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        records::feed(&mut reader, pass, taken)?;
    } else {
        lines::feed(&mut reader, pass, taken)?;
    }
    Ok(json!({ "bytes": watched.bytes, "modified": modified, "digest": watched.hasher.finish() }))
}

/// Counts and hashes what passes, and ends when it is told to.
struct Watched<'a> {
    file: Take<File>,
    hasher: Hasher,
    bytes: u64,
    cancel: &'a CancellationToken,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cut short"));
        }
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alone::{self, Growth};
    use orbit_core::config::{Choose, DedupeField};
    use orbit_core::limits::SELECTION_ASKED_MAX;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    #[expect(clippy::unnecessary_wraps, reason = "it stands for a store that answers")]
    fn none_taken(_: &[Digest]) -> Result<BTreeSet<Digest>, SourceError> {
        Ok(BTreeSet::new())
    }

    fn pass(choose: Choose) -> Pass {
        Pass::new(choose, uuid::Uuid::from_u128(1), &[DedupeField::Label, DedupeField::Metadata])
    }

    fn read(path: &Path) -> Result<(usize, Value), SourceError> {
        let mut pass = pass(Choose::InOrder);
        let input = Input::File { path: path.to_owned() };
        let told = feed(&input, &mut pass, &CancellationToken::new(), &none_taken)?;
        Ok((pass.finish(none_taken)?.candidates.len(), told))
    }

    #[test]
    fn a_file_is_told_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let text = "{\"label\":\"a\"}\n";
        let (kept, told) = read(&write("a.jsonl", text)).unwrap();
        assert_eq!((kept, &told["bytes"]), (1, &json!(text.len())));
        assert_eq!(told["digest"], json!(Digest::of(text.as_bytes())));
        assert!(told["modified"].is_string());
        assert_eq!(read(&write("b.CSV", "label\na\nb\n")).unwrap().0, 2);
        assert_eq!(read(&write("c.txt", "label\na\n")).unwrap().0, 0);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let check = |path: &Path, expected: &str| {
            let error = read(path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(&path.display().to_string()), "{error}");
        };
        check(&folder.path().join("absent.jsonl"), "cannot open");
        check(folder.path(), "is not a file");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        check(&pipe, "is not a file");
        if !nix::unistd::geteuid().is_root() {
            let shut = folder.path().join("shut.jsonl");
            std::fs::write(&shut, "").unwrap();
            std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o000)).unwrap();
            check(&shut, "cannot open");
        }
    }

    #[test]
    fn items_are_checked_like_lines() {
        let item = |label: &str, weight| CandidateItem {
            label: label.to_owned(),
            weight,
            metadata: serde_json::Map::new(),
        };
        let input = Input::Items(vec![item("a", 1.0), item("", 1.0), item("b", f64::NAN), item("a", 1.0)]);
        let mut pass = pass(Choose::InOrder);
        assert_eq!(
            feed(&input, &mut pass, &CancellationToken::new(), &none_taken).unwrap(),
            json!({"items": 4})
        );
        let report = pass.finish(none_taken).unwrap().report;
        assert_eq!([&report["candidates"], &report["malformed"], &report["duplicates"]], [2, 2, 1]);
    }

    #[test]
    fn a_cut_ends_the_reading() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("endless.jsonl");
        std::fs::write(&path, "{\"label\":\"a\"}\n".repeat(100_000)).unwrap();
        let cancel = CancellationToken::new();
        let mut pass = pass(Choose::InOrder);
        let cut_at_the_first_question = |hashes: &[Digest]| {
            cancel.cancel();
            none_taken(hashes)
        };
        let answer = feed(&Input::File { path }, &mut pass, &cancel, &cut_at_the_first_question);
        assert!(matches!(answer, Err(SourceError::Cut)), "{answer:?}");
        assert!(pass.finish(none_taken).unwrap().report["lines"].as_u64().unwrap() < 100_000);
    }

    #[test]
    fn a_file_that_grows_is_read_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grows.jsonl");
        // As many as are asked about at once.
        let lines = "{\"label\":\"a\"}\n".repeat(SELECTION_ASKED_MAX);
        std::fs::write(&path, &lines).unwrap();
        let asked = std::cell::Cell::new(0);
        // A line more at every question; bounded, in case that nobody stops.
        let grows = |hashes: &[Digest]| {
            asked.set(asked.get() + 1);
            if asked.get() < 1000 {
                let mut file = OpenOptions::new().append(true).open(&path).unwrap();
                // Longer than what is read at once, so that it is not read by chance.
                writeln!(file, "{lines}{}", " ".repeat(READ_BYTES)).unwrap();
            }
            Ok(hashes.iter().copied().collect())
        };
        let mut pass = pass(Choose::InOrder);
        let told =
            feed(&Input::File { path: path.clone() }, &mut pass, &CancellationToken::new(), &grows).unwrap();
        assert_eq!((asked.get(), &told["bytes"]), (1, &json!(lines.len())));
    }

    #[test]
    fn a_million_lines_take_little_memory() {
        alone::play("selection::sources::tests::a_million_lines_alone");
    }

    #[test]
    #[ignore = "played by the test above, in a process of its own"]
    fn a_million_lines_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("many.jsonl");
        let mut file = io::BufWriter::new(File::create(&path).unwrap());
        for n in 0..1_000_000 {
            writeln!(file, r#"{{"label":"Candidate {n}","weight":{}.5,"metadata":{{"n":{n}}}}}"#, n % 7 + 1)
                .unwrap();
        }
        file.flush().unwrap();
        drop(file);
        let growth = Growth::begin();
        let mut pass = pass(Choose::Weighted);
        // Every third candidate is taken.
        let asked = std::cell::Cell::new(0);
        let taken = |hashes: &[Digest]| {
            asked.set(asked.get() + 1);
            Ok(hashes.iter().filter(|hash| hash.0[0].is_multiple_of(3)).copied().collect())
        };
        feed(&Input::File { path }, &mut pass, &CancellationToken::new(), &taken).unwrap();
        let grown = growth.most_bytes();
        let selected = pass.finish(taken).unwrap();
        assert_eq!(selected.report["candidates"], 1_000_000);
        assert_eq!(selected.candidates.len(), orbit_core::limits::SELECTION_KEPT_MAX);
        assert!(grown < 64 << 20, "{grown} bytes more");
        assert!(asked.get() < 20, "{} questions", asked.get());
    }
}
