//! `orbit log verify --proof`: with nothing but the proof and the key, so that whoever has both needs neither a home nor ORBIT's word.

use std::io::Read;
use std::path::Path;

use orbit_core::limits::PROOF_BYTES_MAX;
use orbit_core::record::bundle::Proven;
use orbit_core::record::{Bundle, Verifier};
use serde_json::{Value, json};

use crate::cli::args::VerifyArgs;
use crate::cli::failure::Failure;
use crate::cli::output::either;
use crate::exit;

/// Checks a proof and prints the record that it proves.
pub(super) fn proof(args: &VerifyArgs, json: bool) -> Result<u8, Failure> {
    let (Some(path), Some(key)) = (&args.proof, &args.key) else {
        return Err(Failure::usage("a proof needs a key").hint("`orbit log verify --proof FILE --key VKEY`"));
    };
    let key = verifier(key)?;
    let text = read(path)?;
    let (proven, leaf) = check(&text, &key).map_err(|why| {
        Failure::failed(format!("`{}` proves nothing: {why}", path.display())).hint(
            "get the proof again, and the key from somebody whom you trust; if both are right, the log was changed",
        )
    })?;
    let checkpoint = &proven.checkpoint;
    let record: Value = serde_json::from_str(&leaf).unwrap_or(Value::Null);
    let answer = json!({
        "proven": true,
        "origin": checkpoint.origin,
        "position": proven.position,
        "size": checkpoint.size,
        "root": checkpoint.root,
        "key": key.to_string(),
        "leaf": leaf,
        "record": record,
    });
    either(&answer, json, |_| {
        format!(
            "the log `{}` has this record at position {}, by a checkpoint of {} records that its key signed:\n{leaf}\n",
            checkpoint.origin, proven.position, checkpoint.size
        )
    })?;
    Ok(exit::SUCCEEDED)
}

/// What the proof shows of which leaf, or why nothing.
fn check(text: &str, key: &Verifier) -> Result<(Proven, String), String> {
    let bundle = Bundle::parse(text).map_err(|error| error.to_string())?;
    let (Some(extra), Some(leaf)) = (&bundle.extra, bundle.leaf()) else {
        return Err("it has no `extra` line, in which the record would be".to_owned());
    };
    let proven = bundle.verify(key, &leaf).map_err(|error| error.to_string())?;
    let record = std::str::from_utf8(extra).map_err(|_| "the record is not text".to_owned())?;
    Ok((proven, record.to_owned()))
}

/// The key itself, or a file that holds it.
pub(super) fn verifier(given: &str) -> Result<Verifier, Failure> {
    let wrong = |message: String| {
        Failure::usage(message).hint("`orbit log checkpoint --key` prints it: `name+id+key` on one line")
    };
    match given.parse() {
        Ok(key) => Ok(key),
        Err(_) if Path::new(given).exists() => {
            let text = read(Path::new(given))?;
            text.trim().parse().map_err(|error| wrong(format!("`{given}` holds no key: {error}")))
        }
        Err(error) => Err(wrong(format!("{error}, and there is no such file"))),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let most = u64::try_from(PROOF_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let mut text = String::new();
    let outcome = if path == Path::new("-") {
        std::io::stdin().take(most).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    outcome.map_err(|error| Failure::usage(format!("cannot read `{}`: {error}", path.display())))?;
    Ok(text)
}
