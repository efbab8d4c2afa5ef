//! `orbit config`: what is active, and that the documents become it.

use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;
use serde_json::Value;

use super::args::Config;
use super::failure::Failure;
use super::output::{either, say};
use super::session::Session;
use crate::control::{Command, ConfigQuestion, NamespaceChoice};
use crate::exit;
use crate::render::{self, Terminal};

/// `orbit config`.
pub async fn config(layout: &Layout, verb: &Config, out: &Terminal, json: bool) -> Result<u8, Failure> {
    match verb {
        Config::History(page) => {
            let question = ConfigQuestion::History { cursor: page.cursor.clone(), limit: page.limit };
            let answer = ask(layout, &page.namespace, question).await?;
            either(&answer, json, |answer| render::snapshots(answer, out))?;
            Ok(exit::SUCCEEDED)
        }
        Config::Show { digest, namespace } => {
            let answer = ask(layout, namespace, ConfigQuestion::Show { digest: *digest }).await?;
            if answer.is_null() {
                let which = digest.map_or("nothing is active".to_owned(), |digest| {
                    format!("there is no snapshot `{digest}`")
                });
                return Err(Failure::usage(which).hint("`orbit config history` lists what there is"));
            }
            either(&answer, json, render::snapshot)?;
            Ok(exit::SUCCEEDED)
        }
        Config::Diff { namespace } => {
            let answer = ask(layout, namespace, ConfigQuestion::Diff).await?;
            either(&answer, json, render::difference)?;
            Ok(exit::SUCCEEDED)
        }
        Config::Apply { namespace, expect } => {
            let answer = ask(layout, namespace, ConfigQuestion::Apply { expect: *expect }).await?;
            either(&answer, json, render::applied)?;
            Ok(judge(&answer))
        }
    }
}

async fn ask(
    layout: &Layout,
    namespace: &NamespaceChoice,
    question: ConfigQuestion,
) -> Result<Value, Failure> {
    let mut session = Session::open(layout, Duty::None).await?;
    session.ask(Command::Config { namespace: namespace.clone(), question }).await
}

/// Says what to do where something was not activated; the exit code.
fn judge(answer: &Value) -> u8 {
    let items: Vec<_> = answer["items"].as_array().into_iter().flatten().collect();
    let mut refused = 0;
    for item in &items {
        let told = render::not_applied(item);
        refused += usize::from(told.is_some());
        told.iter().chain(render::unshared(item).iter()).for_each(|told| say(told));
    }
    match refused {
        0 => exit::SUCCEEDED,
        _ if refused == items.len() => exit::FAILED,
        _ => exit::PARTIAL,
    }
}
