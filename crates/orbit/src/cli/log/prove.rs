//! `orbit log prove`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use orbit_engine::layout::Layout;

use crate::cli::args::ProveArgs;
use crate::cli::failure::Failure;
use crate::cli::output::{json, print, say};
use crate::cli::{ids, read};
use crate::control::{Command, LogQuestion, ProofOf, Thing};
use crate::exit;

/// The proof text, to standard output or to a file.
pub(super) async fn prove(layout: &Layout, args: &ProveArgs, as_json: bool) -> Result<u8, Failure> {
    let run_id = ids::whole_if_given(layout, &args.namespace, Thing::Run, args.run.as_ref()).await?;
    let of = match (run_id, args.position) {
        (Some(run_id), _) => ProofOf::Run { run_id },
        (None, position) => ProofOf::Position { position: position.unwrap_or_default() },
    };
    let command = Command::Log { namespace: args.namespace.clone(), question: LogQuestion::Proof(of) };
    let answer = read::ask(layout, command).await?;
    let proof = answer["proof"].as_str().unwrap_or_default();
    match &args.out {
        Some(file) => {
            write(file, proof)?;
            if as_json {
                json(&answer)?;
            } else {
                let (position, checkpoint) = (&answer["position"], &answer["checkpoint"]["number"]);
                say(&format!(
                    "`{}` proves the record at position {position} by checkpoint {checkpoint}; `orbit log verify --proof {} --key VKEY` checks it anywhere",
                    file.display(),
                    file.display()
                ));
            }
        }
        None if as_json => json(&answer)?,
        None => print(proof)?,
    }
    Ok(exit::SUCCEEDED)
}

fn write(path: &Path, proof: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(proof.as_bytes())).map_err(|error| {
        Failure::usage(format!("cannot write `{}`: {error}", path.display()))
            .hint("name a file that is not there yet, in a folder that is")
    })
}
