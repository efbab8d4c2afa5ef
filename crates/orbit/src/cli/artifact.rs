//! `orbit artifacts get`: the bytes of an artifact on standard output.
//!
//! Small ones pass through the socket. Of larger ones the file is read here: whoever may use the home may read it. Its bytes are checked against
//! their digest before the first one is written, and again on the way.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orbit_core::digest::{Digest, Hasher};
use orbit_engine::layout::Layout;

use super::args::Artifacts;
use super::failure::Failure;
use super::{output, read};
use crate::control::Command;
use crate::exit;

/// Bytes that are held in memory at once.
const PIECE_BYTES: usize = 256 * 1024;

/// `orbit artifacts`.
pub async fn artifacts(layout: &Layout, verb: &Artifacts) -> Result<u8, Failure> {
    let Artifacts::Get { digest, namespace } = verb;
    if std::io::stdout().is_terminal() {
        return Err(Failure::usage("an artifact may hold anything, and is not written to a terminal")
            .hint(format!("`orbit artifacts get {digest} > FILE`")));
    }
    let answer =
        read::ask(layout, Command::Artifact { namespace: namespace.clone(), digest: *digest }).await?;
    if let Some(content) = answer["content"].as_str() {
        let content = STANDARD
            .decode(content)
            .map_err(|error| Failure::failed(format!("the artifact cannot be read: {error}")))?;
        if Digest::of(&content) != *digest {
            return Err(Failure::failed(format!("what was read is not `{digest}`")));
        }
        output::bytes(&content)?;
        return Ok(exit::SUCCEEDED);
    }
    let Some(path) = answer["path"].as_str() else {
        return Err(Failure::usage(format!("there is no artifact `{digest}`"))
            .hint("`orbit runs show ID` names what a run made"));
    };
    let path = Path::new(path);
    let unreadable =
        |error: std::io::Error| Failure::failed(format!("cannot read `{}`: {error}", path.display()));
    let mut file = File::open(path).map_err(unreadable)?;
    let corrupt = || {
        Failure::failed(format!("`{}` does not hold the bytes of its name", path.display()))
            .hint("restore it from a backup; the log says which runs made it")
    };
    if copy(&mut file, |_| Ok(()), unreadable)? != *digest {
        return Err(corrupt());
    }
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    if copy(&mut file, output::bytes, unreadable)? != *digest {
        return Err(corrupt());
    }
    Ok(exit::SUCCEEDED)
}

/// Passes every piece on; the digest of all of them.
fn copy(
    file: &mut File,
    mut put: impl FnMut(&[u8]) -> Result<(), Failure>,
    unreadable: impl Fn(std::io::Error) -> Failure,
) -> Result<Digest, Failure> {
    let mut hasher = Hasher::default();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece).map_err(&unreadable)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&piece[..count]);
        put(&piece[..count])?;
    }
}
