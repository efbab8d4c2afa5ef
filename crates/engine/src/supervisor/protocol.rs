//! What the engine and the supervisor say to each other: one JSON line each way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use orbit_core::config::Limits;
use orbit_core::tiers::{How, Usage};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest line that a supervisor reads; the kernel takes fewer bytes of arguments and environment.
pub(super) const PROGRAM_BYTES_MAX: usize = 16 << 20;
/// Longest answer that the engine reads.
pub(super) const ENDED_BYTES_MAX: u64 = 256 << 10;
/// The byte by which the engine asks for the end.
pub(super) const STOP: &[u8] = b"!";

/// A program to run and what it may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// The program and its arguments. A name without `/` is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// Its whole environment; the marks are added to it.
    pub env: BTreeMap<String, String>,
    /// Where it runs.
    pub cwd: PathBuf,
    /// Its standard input, opened for reading; none for `/dev/null`.
    pub stdin: Option<PathBuf>,
    /// Its standard output, a file that must not exist; none to drop and count it. Either way it ends at `limits.output`.
    pub stdout: Option<PathBuf>,
    /// What its process tree may use.
    pub limits: Limits,
    /// The mark of the home: see [`super::marker`].
    pub marker: String,
}

/// How a program ended. No process of its tree is left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// In which way.
    pub how: How,
    /// What the tree used.
    pub usage: Usage,
    /// The last bytes on standard error, at most [`orbit_core::limits::STDERR_TAIL_BYTES_MAX`].
    #[serde(serialize_with = "as_hex", deserialize_with = "from_hex")]
    pub stderr_tail: Vec<u8>,
}

impl Ended {
    /// An end of which nothing more is known.
    pub fn only(how: How) -> Self {
        Self { how, usage: Usage::default(), stderr_tail: Vec::new() }
    }
}

fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&orbit_core::digest::hex(bytes))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    orbit_core::digest::unhex(&text).ok_or_else(|| serde::de::Error::custom("expected hex"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_each_way() {
        let ended = Ended {
            how: How::Exited { code: 7 },
            usage: Usage { cpu_ms: 5, ..Usage::default() },
            stderr_tail: b"a\n\xff".to_vec(),
        };
        let line = serde_json::to_string(&ended).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Ended>(&line).unwrap(), ended);
        let program = Program {
            argv: vec!["a\nb".to_owned()],
            env: BTreeMap::from([("K".to_owned(), "v\n".to_owned())]),
            cwd: "/".into(),
            stdin: None,
            stdout: Some("/x".into()),
            limits: Limits::default(),
            marker: "m".to_owned(),
        };
        let line = serde_json::to_string(&program).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Program>(&line).unwrap(), program);
    }
}
