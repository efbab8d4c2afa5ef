//! `orbit run`: one cycle now, watched until it is settled.

use std::time::{Duration, Instant};

use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;
use serde_json::{Value, json};

use super::args::{RetryArgs, RunArgs};
use super::failure::Failure;
use super::request::{new_key, read_requests};
use super::session::Session;
use super::signals::Signals;
use super::{ids, output};
use crate::control::{Command, Fired, List, NamespaceChoice, Order, Thing};
use crate::exit;
use crate::render::progress::Progress;
use crate::render::{Terminal, cycle_summary};

/// How often a cycle under way is asked after, at first and once it takes longer; see [`pause`].
const ASK_EVERY: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];
/// Records that one question brings.
const RECORDS_A_QUESTION: u32 = 500;
/// Every so many questions the gate is looked at too.
const GATE_EVERY: u32 = 5;
/// Runs of one cycle: more than a run profile may have surfaces.
const RUNS_MAX: u32 = 1000;

/// A cycle when watching it ended.
struct Watched {
    cycle: Value,
    runs: Vec<Value>,
    why: Ended,
}

/// Why watching ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ended {
    /// There is nothing left to wait for.
    Settled,
    /// `--wait` is over.
    TimeIsUp,
    /// TERM or INT.
    Signal,
    /// Work is halted or paused, for this reason.
    Closed(String),
}

/// Whether to wait, and how long.
#[derive(Clone, Copy)]
struct Waiting {
    at_most: Option<Duration>,
    not_at_all: bool,
}

/// Runs a cycle; the answer is the exit code.
pub async fn run(layout: &Layout, args: &RunArgs, out: &Terminal, as_json: bool) -> Result<u8, Failure> {
    let requests = args.request.as_deref().map(read_requests).transpose()?.unwrap_or(Value::Null);
    let key = args.key.clone().unwrap_or_else(|| new_key(&requests));
    let (namespace, run_profile) = (args.namespace.clone(), args.run_profile.clone());
    if args.dry_run {
        return dry_run(layout, Command::DryRun { namespace, run_profile, key }).await;
    }
    let fire = Command::Run { namespace, run_profile, key, requests };
    let at_most = args.wait.map(orbit_core::config::Millis::to_duration);
    perform(layout, fire, Waiting { at_most, not_at_all: args.no_wait }, (out, as_json)).await
}

/// Does a run again: a cycle as every other; the answer is the exit code.
pub async fn retry(layout: &Layout, args: &RetryArgs, out: &Terminal, as_json: bool) -> Result<u8, Failure> {
    let namespace = args.which.namespace.clone();
    let run_id = ids::whole(layout, &namespace, Thing::Run, &args.which.id).await?;
    let key = args.key.clone().unwrap_or_else(|| new_key(&Value::Null));
    let order = Order::Retry { run_id, from: args.from.step(), key, pinned: args.pinned };
    let at_most = args.wait.map(orbit_core::config::Millis::to_duration);
    let waiting = Waiting { at_most, not_at_all: args.no_wait };
    perform(layout, Command::Operate { namespace, order }, waiting, (out, as_json)).await
}

async fn perform(
    layout: &Layout,
    fire: Command,
    waiting: Waiting,
    (out, as_json): (&Terminal, bool),
) -> Result<u8, Failure> {
    if waiting.not_at_all {
        return fire_only(layout, fire, as_json).await;
    }
    // Signals first: a TERM that comes while the home opens is a soft stop too.
    let mut signals = Signals::new()?;
    let mut session = Session::open(layout, Duty::RunOnly).await?;
    // From here on the home may be this process's, which then ends what it runs in good order, whatever happens.
    let watched = fire_and_watch(&mut session, fire, waiting.at_most, out, &mut signals).await;
    if session.engine().is_none() && watched.as_ref().is_ok_and(|watched| watched.why == Ended::Signal) {
        output::say("no longer watched; the cycle goes on where it runs");
    }
    session.close(signals.second()).await;
    report(&watched?, out, as_json)
}

/// Prints the requests; changes nothing.
async fn dry_run(layout: &Layout, command: Command) -> Result<u8, Failure> {
    let mut session = Session::open(layout, Duty::None).await?;
    if let Some(engine) = session.engine() {
        engine.preview()?;
    }
    let requests = session.ask(command).await?;
    output::json(&requests)?;
    let none = requests["items"].as_array().is_none_or(Vec::is_empty);
    Ok(if none { exit::NOTHING } else { exit::SUCCEEDED })
}

async fn fire_only(layout: &Layout, fire: Command, as_json: bool) -> Result<u8, Failure> {
    let Some(mut session) = Session::with_holder(layout).await? else {
        return Err(Failure::usage("nobody serves this home, so nobody would run the cycle")
            .hint("leave out `--no-wait`, or start `orbit serve`"));
    };
    let fired: Fired = session.ask_as(fire).await?;
    output::either(&json!(fired), as_json, |_| format!("{}\n", fired.cycle_id))?;
    Ok(exit::SUCCEEDED)
}

async fn fire_and_watch(
    session: &mut Session,
    fire: Command,
    wait: Option<Duration>,
    out: &Terminal,
    signals: &mut Signals,
) -> Result<Watched, Failure> {
    let fired: Fired = session.ask_as(fire).await?;
    if !fired.new {
        output::say("this key was used before; this is what came of it");
    }
    let mut progress = Progress::new(out.progress, out.colour);
    let watched = watch(session, &fired, wait, (&mut progress, signals)).await;
    progress.finish();
    watched
}

async fn watch(
    session: &mut Session,
    fired: &Fired,
    wait: Option<Duration>,
    (progress, signals): (&mut Progress, &mut Signals),
) -> Result<Watched, Failure> {
    let namespace = Some(fired.namespace.clone());
    let give_up = tokio::time::sleep(wait.unwrap_or(Duration::MAX / 4));
    tokio::pin!(give_up);
    let (mut after, mut questions, began) = (None, 0_u32, Instant::now());
    loop {
        // The cycle first: what its records tell then is at least as new, so that the last ones are not missed.
        let (cycle, runs) = look(session, &namespace, fired).await?;
        while show_records(session, &namespace, fired, (&mut after, progress)).await? {}
        if settled(&cycle, &runs, wait.is_some()) {
            return Ok(Watched { cycle, runs, why: Ended::Settled });
        }
        questions += 1;
        if questions.is_multiple_of(GATE_EVERY)
            && let Some(reason) = closed(session, &fired.namespace).await?
        {
            return Ok(Watched { cycle, runs, why: Ended::Closed(reason) });
        }
        progress.tick();
        tokio::select! {
            () = tokio::time::sleep(pause(began.elapsed())) => {}
            () = &mut give_up => return Ok(Watched { cycle, runs, why: Ended::TimeIsUp }),
            () = signals.first() => return Ok(Watched { cycle, runs, why: Ended::Signal }),
        }
    }
}

/// The pause before the next question: an eighth of what it has taken so far, so that a short cycle is not waited for longer than it takes.
fn pause(taken: Duration) -> Duration {
    let [least, most] = ASK_EVERY;
    (taken / 8).clamp(least, most)
}

/// The cycle and its runs.
async fn look(
    session: &mut Session,
    namespace: &NamespaceChoice,
    fired: &Fired,
) -> Result<(Value, Vec<Value>), Failure> {
    let show = Command::Show { namespace: namespace.clone(), thing: Thing::Cycle, id: fired.cycle_id };
    let cycle = session.ask(show).await?;
    let list = List::Runs { cycle_id: Some(fired.cycle_id) };
    let list = Command::List { namespace: namespace.clone(), list, cursor: None, limit: RUNS_MAX };
    let runs = session.ask(list).await?["items"].as_array().cloned().unwrap_or_default();
    Ok((cycle, runs))
}

/// Shows the next records; true if there may be more.
async fn show_records(
    session: &mut Session,
    namespace: &NamespaceChoice,
    fired: &Fired,
    (after, progress): (&mut Option<u64>, &mut Progress),
) -> Result<bool, Failure> {
    let command = Command::Records {
        namespace: namespace.clone(),
        after: *after,
        run_id: None,
        cycle_id: Some(fired.cycle_id),
        limit: RECORDS_A_QUESTION,
    };
    let answer = session.ask(command).await?;
    let records = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
    for record in records {
        *after = record["position"].as_u64().or(*after);
        progress.record(record);
    }
    Ok(u32::try_from(records.len()).is_ok_and(|count| count >= RECORDS_A_QUESTION))
}

/// Why nothing goes on in the namespace, if work is halted or paused and nothing is under way any more.
async fn closed(session: &mut Session, namespace: &str) -> Result<Option<String>, Failure> {
    let status = session.ask(Command::Status).await?;
    let namespaces = status["namespaces"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(ours) = namespaces.iter().find(|one| one["namespace"] == namespace) else { return Ok(None) };
    let stopped = !status["halt"].is_null() || status["paused"] == true || !ours["halt"].is_null();
    let quiet = ours["running"].as_u64() == Some(0);
    Ok((stopped && quiet).then(|| ours["closed"].as_str().unwrap_or("halted").to_owned()))
}

/// Whether there is nothing left to watch. Without `--wait`, a delivery that waits for a later attempt is left to `orbit serve`.
fn settled(cycle: &Value, runs: &[Value], patient: bool) -> bool {
    if cycle["state"] == "finished" {
        return true;
    }
    let retrying =
        |delivery: &Value| delivery["state"] == "waiting" && delivery["attempts"].as_u64() > Some(0);
    let settled = |delivery: &Value| !matches!(delivery["state"].as_str(), Some("waiting" | "sending"));
    let at_rest = |run: &Value| match run["state"].as_str() {
        Some("finished") => true,
        Some("dispatching") => run["deliveries"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|delivery| settled(delivery) || retrying(delivery)),
        _ => false,
    };
    // The cycle was read before its runs: where all of these are finished, the next look shows the cycle finished too.
    let owing = runs.iter().any(|run| run["state"] == "dispatching");
    !patient && owing && runs.iter().all(at_rest)
}

fn report(watched: &Watched, out: &Terminal, as_json: bool) -> Result<u8, Failure> {
    let Watched { cycle, runs, why } = watched;
    let code = exit_code(cycle, why);
    let printed = output::either(&json!({ "cycle": cycle, "runs": runs }), as_json, |_| {
        cycle_summary(cycle, runs, out)
    });
    match why {
        Ended::Settled => {}
        Ended::TimeIsUp => output::say("the time given with `--wait` is over; the cycle is not finished"),
        Ended::Signal => {
            output::say(
                "interrupted; what is unfinished goes on under `orbit serve` or the next `orbit run`",
            );
        }
        Ended::Closed(reason) => output::say(&crate::render::text::clean_lines(&format!(
            "nothing goes on: {reason}\n  hint: `orbit status` tells more; a halt is lifted with `orbit resume`"
        ))),
    }
    match printed {
        // The outcome counts, whether anybody reads the summary or not.
        Err(failure) if failure.exit != exit::SUCCEEDED => Err(failure),
        Ok(()) | Err(_) => Ok(code),
    }
}

fn exit_code(cycle: &Value, why: &Ended) -> u8 {
    match (cycle["outcome"].as_str(), why) {
        (Some("succeeded"), _) => exit::SUCCEEDED,
        (Some("skipped"), _) => exit::NOTHING,
        (Some("failed" | "cancelled"), _) => exit::FAILED,
        (None, Ended::Closed(_)) => exit::HALTED,
        // Partial, or not finished: some of it is still owed.
        (Some(_) | None, _) => exit::PARTIAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let check =
            |cycle: Value, why: Ended, expected: u8| assert_eq!(exit_code(&cycle, &why), expected, "{cycle}");
        check(json!({ "outcome": "succeeded" }), Ended::Settled, exit::SUCCEEDED);
        check(json!({ "outcome": "partial" }), Ended::Settled, exit::PARTIAL);
        check(json!({ "outcome": "failed" }), Ended::Settled, exit::FAILED);
        check(json!({ "outcome": "cancelled" }), Ended::Settled, exit::FAILED);
        check(json!({ "outcome": "skipped" }), Ended::Settled, exit::NOTHING);
        check(json!({ "outcome": null }), Ended::Settled, exit::PARTIAL);
        check(json!({ "outcome": null }), Ended::TimeIsUp, exit::PARTIAL);
        check(json!({ "outcome": null }), Ended::Closed("halted: x".to_owned()), exit::HALTED);
    }

    #[test]
    fn a_short_cycle_is_asked_after_more_often() {
        let check = |taken, expected| {
            assert_eq!(pause(Duration::from_millis(taken)), Duration::from_millis(expected), "{taken}");
        };
        check(0, 5);
        check(40, 5);
        check(400, 50);
        check(800, 100);
        check(86_400_000, 100);
    }

    #[test]
    fn what_is_left_to_watch() {
        let run = |state: &str, deliveries: Value| json!({ "state": state, "deliveries": deliveries });
        let check = |runs: &[Value], patient: bool, expected: bool| {
            assert_eq!(settled(&json!({ "state": "running" }), runs, patient), expected, "{runs:?}");
        };
        let later = json!([{ "state": "waiting", "attempts": 1 }]);
        let first = json!([{ "state": "waiting", "attempts": 0 }]);
        check(&[], false, false);
        check(&[run("finished", json!([]))], false, false);
        check(&[run("working", json!([]))], false, false);
        check(&[run("finished", json!([])), run("dispatching", later.clone())], false, true);
        check(&[run("dispatching", later)], true, false);
        check(&[run("dispatching", first)], false, false);
        check(&[run("dispatching", json!([{ "state": "dead" }, { "state": "sending" }]))], false, false);
        assert!(settled(&json!({ "state": "finished" }), &[], true));
    }
}
