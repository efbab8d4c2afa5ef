//! `orbit profiles` and `orbit run-profiles`: what the active snapshot says.

use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;

use super::args::Documents;
use super::failure::Failure;
use super::output::either;
use super::session::Session;
use crate::control::{Command, DocumentKind, List};
use crate::exit;
use crate::render::{self, Terminal};

/// Names that a hint lists at most.
const NAMES_MAX: u32 = 20;

/// `orbit profiles`.
pub async fn profiles(layout: &Layout, verb: &Documents, out: &Terminal, json: bool) -> Result<u8, Failure> {
    perform(layout, verb, DocumentKind::Profile, (out, json)).await
}

/// `orbit run-profiles`.
pub async fn run_profiles(
    layout: &Layout,
    verb: &Documents,
    out: &Terminal,
    json: bool,
) -> Result<u8, Failure> {
    perform(layout, verb, DocumentKind::RunProfile, (out, json)).await
}

async fn perform(
    layout: &Layout,
    verb: &Documents,
    kind: DocumentKind,
    (out, json): (&Terminal, bool),
) -> Result<u8, Failure> {
    let mut session = Session::open(layout, Duty::None).await?;
    if let Some(engine) = session.engine() {
        // Nobody serves: what counts is what would be active if somebody did.
        engine.preview()?;
    }
    match verb {
        Documents::List { page, archived } => {
            let archived = *archived;
            let list = match kind {
                DocumentKind::Profile => List::Profiles { archived },
                DocumentKind::RunProfile => List::RunProfiles { archived },
            };
            super::read::list_in(&mut session, page, list, (out, json)).await
        }
        Documents::Show { reference, namespace } => {
            let command =
                Command::Document { namespace: namespace.clone(), kind, reference: reference.clone() };
            let document = session.ask(command).await?;
            if document.is_null() {
                let (word, verb) = match kind {
                    DocumentKind::Profile => ("profile", "profiles"),
                    DocumentKind::RunProfile => ("run profile", "run-profiles"),
                };
                let list = match kind {
                    DocumentKind::Profile => List::Profiles { archived: true },
                    DocumentKind::RunProfile => List::RunProfiles { archived: true },
                };
                let command =
                    Command::List { namespace: namespace.clone(), list, cursor: None, limit: NAMES_MAX };
                let all = session.ask(command).await?;
                let names: Vec<_> = all["items"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|one| one["label"].as_str())
                    .collect();
                let hint = match names.as_slice() {
                    [] => format!("`orbit {verb} list` shows what there is"),
                    names => format!("there are: {}", names.join(", ")),
                };
                return Err(Failure::usage(format!("there is no {word} `{reference}`")).hint(hint));
            }
            either(&document, json, render::document)?;
            Ok(exit::SUCCEEDED)
        }
    }
}
