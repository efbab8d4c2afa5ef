//! `orbit processors`: one attempt outside of any run, and the end of a quarantine.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;
use serde_json::Value;

use super::args::{Processors, TestArgs};
use super::failure::Failure;
use super::output::{self, either};
use super::session::Session;
use crate::control::{Command, Order};
use crate::exit;
use crate::render::{self, Terminal};

/// `orbit processors`.
pub async fn processors(
    layout: &Layout,
    verb: &Processors,
    out: &Terminal,
    json: bool,
) -> Result<u8, Failure> {
    match verb {
        Processors::Test(wanted) => test(layout, wanted, out, json).await,
        Processors::Release { name, namespace } => {
            let order = Order::ReleaseProcessor { name: name.clone() };
            let answer = ask(layout, namespace.as_ref(), order).await?;
            let none = answer["released"].as_array().is_none_or(Vec::is_empty);
            either(&answer, json, |_| {
                let was = if none { "was not" } else { "is no longer" };
                format!("processor `{name}` {was} quarantined\n")
            })?;
            Ok(if none { exit::NOTHING } else { exit::SUCCEEDED })
        }
    }
}

async fn ask(layout: &Layout, namespace: Option<&String>, order: Order) -> Result<Value, Failure> {
    let mut session = Session::open(layout, Duty::None).await?;
    if let Some(engine) = session.engine() {
        // Nobody serves: what counts is what would be active if somebody did.
        engine.preview()?;
    }
    session.ask(Command::Operate { namespace: namespace.cloned(), order }).await
}

async fn test(layout: &Layout, wanted: &TestArgs, out: &Terminal, json: bool) -> Result<u8, Failure> {
    let to_stdout = wanted.output.as_deref() == Some(Path::new("-"));
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(Failure::usage("an output may hold anything, and is not written to a terminal")
            .hint("name a file with `--output`"));
    }
    if to_stdout && json {
        return Err(Failure::usage("standard output cannot be both the output and JSON")
            .hint("name a file with `--output`"));
    }
    let order = Order::TestProcessor {
        name: wanted.name.clone(),
        profile: wanted.profile.clone(),
        input: wanted.input.as_deref().map(absolute).transpose()?,
        keep: wanted.output.is_some(),
    };
    let mut answer = ask(layout, wanted.namespace.as_ref(), order).await?;
    let kept = answer["kept"].as_str().map(PathBuf::from);
    if let Value::Object(fields) = &mut answer {
        fields.remove("kept");
    }
    // The report is read whether the output can be written or not.
    let written = match (&kept, &wanted.output) {
        (Some(kept), Some(to)) => fetch(kept, to),
        (Some(_) | None, _) => Ok(()),
    };
    if to_stdout {
        output::say(render::processor_trial(&answer, out).trim_end());
    } else {
        either(&answer, json, |answer| render::processor_trial(answer, out))?;
    }
    written?;
    Ok(if answer["outcome"] == "succeeded" { exit::SUCCEEDED } else { exit::FAILED })
}

/// The process that holds the home may stand elsewhere.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let unreadable = |error| Failure::usage(format!("cannot read `{}`: {error}", path.display()));
    let whole = fs::canonicalize(path).map_err(unreadable)?;
    if whole.is_file() {
        return Ok(whole);
    }
    Err(Failure::usage(format!("`{}` is not a file", path.display())))
}

/// Moves the output to where it is wanted; nothing of it stays behind.
fn fetch(kept: &Path, to: &Path) -> Result<(), Failure> {
    let fetched = if to == Path::new("-") {
        let mut file = fs::File::open(kept);
        let copied = file.as_mut().map(|file| std::io::copy(file, &mut std::io::stdout().lock()));
        match copied {
            Ok(copied) => copied.map(drop),
            Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
        }
    } else {
        fs::copy(kept, to).map(drop)
    };
    _ = fs::remove_file(kept);
    if let Some(folder) = kept.parent() {
        _ = fs::remove_dir(folder);
    }
    fetched.map_err(|error| Failure::failed(format!("cannot write `{}`: {error}", to.display())))
}
