//! `orbit endpoints`: one request to an endpoint, on purpose, and what came of it.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;

use super::failure::Failure;
use super::output::either;
use super::session::Session;
use crate::control::{Command, EndpointTest};
use crate::exit;
use crate::render::{self, Terminal};

/// `orbit endpoints`.
#[derive(Debug, Subcommand)]
pub enum Endpoints {
    /// Send one request, marked as a test, and show what came of it
    Test {
        /// Its name
        name: String,
        /// The namespace; needed if the home has several
        #[arg(short, long)]
        namespace: Option<String>,
        /// Send this file as the artifact; a small JSON document, if nothing is said
        #[arg(long, value_name = "FILE")]
        input: Option<PathBuf>,
        /// What the file is, such as `image/png`
        #[arg(long, value_name = "TYPE", requires = "input")]
        media_type: Option<String>,
    },
}

/// `orbit endpoints`: 0 if the endpoint took it.
pub async fn endpoints(layout: &Layout, verb: &Endpoints, out: &Terminal, json: bool) -> Result<u8, Failure> {
    let Endpoints::Test { name, namespace, input, media_type } = verb;
    // Whoever sends it may stand in another folder.
    let input = input.as_deref().map(absolute).transpose()?;
    let mut session = Session::open(layout, Duty::None).await?;
    if let Some(engine) = session.engine() {
        // Nobody serves: what counts is what would be active if somebody did.
        engine.preview()?;
    }
    let command = Command::TestEndpoint(EndpointTest {
        namespace: namespace.clone(),
        endpoint: name.clone(),
        input,
        media_type: media_type.clone(),
    });
    let account = session.ask(command).await?;
    either(&account, json, |account| render::endpoint_test(account, out))?;
    Ok(if account["receipt"]["outcome"] == "accepted" { exit::SUCCEEDED } else { exit::FAILED })
}

fn absolute(file: &Path) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(file)
        .map_err(|error| Failure::usage(format!("cannot read `{}`: {error}", file.display())))
}
