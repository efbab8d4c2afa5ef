//! Every call of the golden history, crashed.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use orbit_testkit::fault::{Effect, Fault, Mode, NOTHING, Plan, Point, Repeat, When};
use orbit_testkit::script::play;
use orbit_testkit::verdict::{Story, differences, judge};
use orbit_testkit::world::World;

/// Histories that are played at once.
const THREADS: usize = 8;
/// A golden history with fewer calls would not be the whole cycle.
const POINTS_MIN: usize = 100;
/// Histories whose order of calls is another one may miss their point; more would be a matrix with holes.
const MISSED_MAX: usize = 3;
/// Where a process that is to die notes what was acknowledged.
const ACKNOWLEDGED: &str = "acknowledged";

/// The whole matrix.
pub(crate) fn all(only: Option<&str>) -> ExitCode {
    let begun = Instant::now();
    let (golden, calls) = golden();
    let changing = calls.iter().filter(|(_, mode)| *mode == Mode::Write).count();
    let records: usize = golden.values().sum();
    println!(
        "golden: {records} records, {} calls of which {changing} change something, in {:?}",
        calls.len(),
        begun.elapsed()
    );
    assert!(calls.len() >= POINTS_MIN, "{calls:?}");
    let mut faults = faults(&calls);
    faults.retain(|fault| only.is_none_or(|name| fault.point.name == name));
    let missed = AtomicUsize::new(0);
    let mut wrong = in_parallel(&faults, |fault| {
        let (hit, found) = crash(fault, &golden);
        missed.fetch_add(usize::from(!hit), Ordering::SeqCst);
        found
    });
    let (crashes, missed) = (faults.len(), missed.into_inner());
    println!(
        "{} points, {crashes} crashes ({missed} not reached), {} violations in {:?}",
        calls.len(),
        wrong.len(),
        begun.elapsed()
    );
    if missed > MISSED_MAX {
        wrong.push(format!("{missed} faults were not reached"));
    }
    if only.is_some() {
        return ExitCode::from(u8::from(!wrong.is_empty()));
    }
    wrong.extend(repeated(&golden));
    wrong.extend(children(&calls, &golden));
    ExitCode::from(u8::from(!wrong.is_empty()))
}

/// Every call that changes something is made twice: the second one changes nothing.
fn repeated(golden: &Story) -> Vec<String> {
    let (world, plan) = (World::new(), Arc::new(Plan::repeating()));
    play(&world, &plan);
    let (story, mut wrong) = judge(&world);
    let told = |story: &Story| story.clone().into_iter().collect::<BTreeSet<_>>();
    let differ = told(golden).symmetric_difference(&told(&story)).cloned().collect::<Vec<_>>();
    wrong.extend(differ.into_iter().map(|one| format!("repeated: {one:?}")));
    let repeats = plan.repeats();
    for Repeat { name, first, second } in &repeats {
        let answer = second.strip_prefix("Ok(").and_then(|rest| rest.strip_suffix(')'));
        if !answer.is_some_and(|answer| answer == first || NOTHING.contains(&answer)) {
            wrong.push(format!("{name} answers {first}, and again {second}"));
        }
    }
    for one in &wrong {
        println!("{one}");
    }
    println!("{} calls made twice, {} violations", repeats.len(), wrong.len());
    wrong
}

/// The first argument of a process that is to die.
pub(crate) const CHILD: &str = "__child";

/// A real process that dies before and after the last call of each kind that changed something.
fn children(calls: &[(Point, Mode)], golden: &Story) -> Vec<String> {
    let changing = calls.iter().filter(|(_, mode)| *mode == Mode::Write);
    let last: BTreeMap<_, _> = changing.map(|(point, _)| (point.name, *point)).collect();
    let sides =
        |point: Point| [When::Before, When::After].map(|when| Fault { point, when, effect: Effect::Abort });
    let faults: Vec<_> = last.into_values().flat_map(sides).collect();
    let wrong = in_parallel(&faults, |fault| child(fault, golden));
    println!("{} processes that died, {} violations", faults.len(), wrong.len());
    wrong
}

#[expect(clippy::disallowed_methods, reason = "a test stands outside of what it tests")]
fn child(fault: Fault, golden: &Story) -> Vec<String> {
    let world = World::new();
    let when = if fault.when == When::Before { "before" } else { "after" };
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.arg(CHILD).arg(world.home()).arg(&world.address);
    command.args([fault.point.name, &fault.point.nth.to_string(), when]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let mut wrong = Vec::new();
    if status.code().is_some() {
        wrong.push(format!("the process did not die: {status}"));
    }
    wrong.extend(acknowledged_is_there(&world));
    play(&world, &Arc::new(Plan::default()));
    let (story, found) = judge(&world);
    wrong.extend(found);
    wrong.extend(differences(golden, &story));
    wrong
}

/// As many records as were durable when the last call was answered are there.
fn acknowledged_is_there(world: &World) -> Vec<String> {
    let text = std::fs::read_to_string(world.home().join(ACKNOWLEDGED)).unwrap_or_default();
    let acknowledged: usize = text.lines().last().map_or(0, |line| line.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let there = runtime.block_on(world.alive.records()).len();
    let lost = acknowledged > there;
    lost.then(|| format!("{acknowledged} records were acknowledged, {there} are there")).into_iter().collect()
}

/// The process that dies.
pub(crate) fn be_a_child(arguments: &[String]) -> ExitCode {
    let [home, address, name, nth, when] = arguments else { panic!("{arguments:?}") };
    let world = World::of_another(Path::new(home), address.clone());
    let when = if when == "before" { When::Before } else { When::After };
    let point = Point { name: name.clone().leak(), nth: nth.parse().unwrap() };
    let plan = Plan::with(Fault { point, when, effect: Effect::Abort });
    play(&world, &Arc::new(plan.noting(world.home().join(ACKNOWLEDGED))));
    ExitCode::SUCCESS
}

/// Plays one history for each fault, several at once; what is wrong in them.
fn in_parallel(faults: &[Fault], play: impl Fn(Fault) -> Vec<String> + Sync) -> Vec<String> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let played = catch_unwind(AssertUnwindSafe(|| play(*fault)));
                    let found = played.unwrap_or_else(|_| vec!["could not be played to its end".to_owned()]);
                    // Told at once: where the whole takes too long, this says how far it came.
                    for what in &found {
                        println!("{fault}: {what}");
                    }
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

/// The history without a fault.
fn golden() -> (Story, Vec<(Point, Mode)>) {
    let (world, plan) = (World::new(), Arc::new(Plan::default()));
    assert_eq!(play(&world, &plan), 1);
    let (story, wrong) = judge(&world);
    assert!(wrong.is_empty(), "{wrong:#?}\n{story:#?}");
    (story, plan.calls())
}

/// A call that changes something fails and ends the process before and after. One that changes nothing, or that this time found nothing to do, fails; a
/// process that ends there ends where one ends after the call before, so that only the first of each name does.
fn faults(calls: &[(Point, Mode)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (point, mode) in calls {
        let changes = *mode == Mode::Write;
        let mut add = |when, effect| faults.push(Fault { point: *point, when, effect });
        add(When::Before, Effect::Io);
        if changes || point.nth == 1 {
            add(When::Before, Effect::End);
        }
        if changes {
            add(When::After, Effect::Full);
            add(When::After, Effect::End);
        }
    }
    faults
}

/// Calls in which something is claimed. If their answer is lost as an error, nobody knows of the claim until the next start.
const CLAIMS: [&str; 7] = [
    "claim_cycles",
    "claim_steps",
    "claim_batch",
    "claim_deliveries",
    "claim_next_in_order",
    "claim_notices",
    "commit_step",
];

/// Plays the cycle with this fault: whether it happened, and what is wrong at the end.
fn crash(fault: Fault, golden: &Story) -> (bool, Vec<String>) {
    let (world, plan) = (World::new(), Arc::new(Plan::with(fault)));
    let processes = play(&world, &plan);
    let (story, mut wrong) = judge(&world);
    wrong.extend(differences(golden, &story));
    if fault.point.name == "payload" {
        // An input that could not be read is a failed attempt of its step, which is made again.
        wrong.retain(|what| !what.starts_with("`step_failed "));
    }
    let at_start = ["active", "halted", "recover"].contains(&fault.point.name);
    let lost = fault.when == When::After && CLAIMS.contains(&fault.point.name);
    if fault.effect != Effect::End && processes > 1 && !at_start && !lost {
        wrong.push(format!("it took {processes} processes"));
    }
    (plan.was_hit(), wrong)
}
