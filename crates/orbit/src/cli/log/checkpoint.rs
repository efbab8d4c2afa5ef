//! `orbit log checkpoint`.

use orbit_engine::layout::Layout;

use crate::cli::args::CheckpointArgs;
use crate::cli::failure::Failure;
use crate::cli::output::either;
use crate::cli::read;
use crate::control::{Command, LogQuestion};
use crate::exit;

/// The signed note as it is, or the public key on a line.
pub(super) async fn checkpoint(layout: &Layout, args: &CheckpointArgs, json: bool) -> Result<u8, Failure> {
    let question = if args.key { LogQuestion::Key } else { LogQuestion::Checkpoint { number: args.number } };
    let command = Command::Log { namespace: args.namespace.clone(), question };
    let answer = read::ask(layout, command).await?;
    let text = |name: &str| answer[name].as_str().unwrap_or_default();
    either(
        &answer,
        json,
        |_| if args.key { format!("{}\n", text("vkey")) } else { text("note").to_owned() },
    )?;
    Ok(exit::SUCCEEDED)
}
