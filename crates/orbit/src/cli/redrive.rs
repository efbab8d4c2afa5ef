//! `orbit deliveries redrive`: asks until every dead letter that matches waits again.

use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;

use super::args::Deliveries;
use super::failure::Failure;
use super::output::{either, say};
use super::session::Session;
use crate::control::{Command, Redriven};
use crate::exit;
use crate::render::Terminal;

/// See the module.
pub async fn redrive(layout: &Layout, verb: &Deliveries, out: &Terminal, json: bool) -> Result<u8, Failure> {
    let mut session = Session::open(layout, Duty::None).await?;
    let mut all = Redriven::default();
    loop {
        let Some(command) = command(verb, &all)? else { return Ok(exit::USAGE) };
        let answer: Redriven = session.ask_as(command).await?;
        all.dry_run = answer.dry_run;
        all.add(answer);
        if all.next.is_none() {
            break;
        }
        if out.progress {
            say(&format!("  {} wait again so far", all.count));
        }
    }
    let value = serde_json::to_value(&all).map_err(|error| Failure::failed(error.to_string()))?;
    either(&value, json, |_| told(&all))?;
    Ok(if all.count == 0 { exit::NOTHING } else { exit::SUCCEEDED })
}

/// The next command; none of another verb.
fn command(verb: &Deliveries, so_far: &Redriven) -> Result<Option<Command>, Failure> {
    let Deliveries::Redrive { id, run, endpoint, since, until, all, dry_run, namespace } = verb else {
        return Ok(None);
    };
    let named = id.is_some() || run.is_some() || endpoint.is_some() || since.is_some() || until.is_some();
    if !named && !all {
        return Err(Failure::usage("nothing says which dead letters to redrive").hint(
            "name a delivery, `--run ID`, `--endpoint NAME`, `--since INSTANT`, `--until INSTANT` or `--all`",
        ));
    }
    Ok(Some(Command::Redrive {
        namespace: namespace.clone(),
        delivery_id: *id,
        run_id: *run,
        endpoint: endpoint.clone(),
        since: *since,
        until: *until,
        dry_run: *dry_run,
        from: so_far.next,
    }))
}

fn told(all: &Redriven) -> String {
    match (all.dry_run, all.count) {
        (_, 0) => "no dead letter matches; `orbit deliveries list --state dead` shows them\n".to_owned(),
        (true, 1) => "1 dead letter would wait again\n".to_owned(),
        (true, count) => format!("{count} dead letters would wait again\n"),
        (false, 1) => "1 dead letter waits again; `orbit serve` sends it\n".to_owned(),
        (false, count) => format!("{count} dead letters wait again; `orbit serve` sends them\n"),
    }
}
