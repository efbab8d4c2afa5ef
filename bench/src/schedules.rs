//! Very many schedules that come due within one minute, each once: how late each cycle fires. Their source has nothing new, so that nothing is measured but
//! that they fire and are selected for.
//!
//! What is late is the decision, which the cycle's row tells; its commit follows.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use orbit_core::config::Snapshot;
use orbit_engine::clock::{Clock as _, SystemClock};
use orbit_engine::layout::Layout;
use orbit_engine::namespace::Namespace;
use orbit_engine::node::Duty;
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Effort;
use crate::report::{Better, Measured, Report, bar};
use crate::world::{Commits, NAMESPACE, blobs, files, node};

/// How often each fires.
const EVERY: Duration = Duration::from_hours(24);
/// Between the last word on when each is due and the first that is, besides the time within which all are: they have to be taken in before.
const AHEAD: Duration = Duration::from_secs(2);
/// How often it is looked how many have fired.
const LOOK: Duration = Duration::from_millis(500);
/// The scheduler is waited for as long as this, when it begins and when it fires. What has not fired then counts as late as it is.
const PATIENCE: Duration = Duration::from_mins(4);
/// Milliseconds of delay that all but one in a hundred stay below.
const TARGET: f64 = 250.0;

pub(crate) async fn measure(folder: &Path, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let (count, minute) = effort.schedules;
    let bar = bar("schedules", count);
    let folder = tempfile::tempdir_in(folder)?;
    let (store, stores) = files(folder.path(), Commits::Grouped)?;
    let resting = snapshot(count, SystemClock.now().checked_add(EVERY / 2)?, minute)?;
    let blobs = blobs(folder.path(), &stores.name)?;
    let (node, namespace) = node((folder.path(), 0), stores, blobs, (resting, 0), Duty::Serve).await?;
    // From when on each is decided.
    let began = Instant::now();
    let database = Layout::new(folder.path()).database(&namespace.name);
    let all_decided = until(&namespace, async |_| Ok(decided(&database)? >= count)).await?;
    anyhow::ensure!(all_decided, "{:?} after the start not every schedule is decided", began.elapsed());
    report.say(&format!("the first decision on each took {:.1} s", began.elapsed().as_secs_f64()));
    let began = Instant::now();
    let first = SystemClock.now().checked_add(AHEAD + minute)?;
    namespace.activate(snapshot(count, first, minute)?).await?;
    report.say(&format!("the schedules were made and activated in {:.1} s", began.elapsed().as_secs_f64()));
    let fired = async |namespace: &Namespace| {
        let counts = namespace.store.counts().await?;
        let fired: u64 = counts.cycles.values().sum();
        bar.set_position(fired);
        Ok(fired >= u64::try_from(count)?)
    };
    until(&namespace, fired).await?;
    let late = SystemClock.now().duration_since(first).as_secs_f64() * 1_000.0;
    bar.finish_and_clear();
    drop(store);
    node.stop(Duration::from_secs(5), CancellationToken::new()).await;
    let mut delays = delays(&database)?;
    let missing = count.saturating_sub(delays.len());
    delays.resize(count, late);
    let of = |part: usize| delays.get((delays.len() - 1) * part / 100).copied().context("nothing fired");
    report.say(&format!(
        "{count} schedules in {minute:?}: the latest {:.0} ms late, {missing} not fired",
        of(100)?
    ));
    report.add("schedule_delay_p50", Measured::plain(of(50)?, "ms", None, Better::Lower));
    report.add("schedule_delay_p99", Measured::plain(of(99)?, "ms", Some(TARGET), Better::Lower));
    Ok(())
}

/// Waits until it is so; whether it came to that.
async fn until(
    namespace: &Arc<Namespace>,
    is_so: impl AsyncFn(&Namespace) -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let began = Instant::now();
    while !is_so(namespace).await? {
        if began.elapsed() > PATIENCE {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(true)
}

/// Run profiles of which each fires once a day, the first at this instant and the others within so long afterwards.
fn snapshot(count: usize, first: Timestamp, within: Duration) -> anyhow::Result<Snapshot> {
    let day = i64::try_from(EVERY.as_millis())?;
    let mut run_profiles = Map::new();
    for number in 0..count {
        let after = i64::try_from(within.as_millis() * u128::try_from(number)? / u128::try_from(count)?)?;
        let offset = (first.as_millisecond() + after) % day;
        let label = format!("number-{number}");
        let policy = json!({
            "schedule": { "every": format!("{day}ms"), "offset": format!("{offset}ms") },
            "selection": { "source": "nothing" }, "profiles": ["plain"],
        });
        let id = Uuid::from_u128(u128::try_from(number)? + 1);
        run_profiles.insert(
            label.clone(),
            json!({ "run_profile_id": id, "label": label, "execution_policy": policy }),
        );
    }
    let tier = json!({ "processor": "fill" });
    Ok(serde_json::from_value(json!({
        "namespace": NAMESPACE, "config": { "disk_floor": "0 B" },
        "sources": { "nothing": { "kind": "inline", "name": "nothing", "items": [] } },
        "processors": { "fill": { "kind": "exec", "name": "fill", "argv": ["fill"] } },
        "endpoints": {},
        "profiles": { "plain": {
            "profile_id": Uuid::from_u128(7), "label": "plain",
            "execution_rules": { "tiers": [tier, tier, tier], "normalize": tier },
        } },
        "run_profiles": run_profiles, "assets": {},
    }))?)
}

/// How many were decided about once at least.
fn decided(database: &Path) -> anyhow::Result<usize> {
    let connection = rusqlite::Connection::open(database)?;
    let count: i64 = connection.query_row("SELECT count(*) FROM schedule_cursors", (), |row| row.get(0))?;
    Ok(usize::try_from(count)?)
}

/// In milliseconds, the least first.
fn delays(database: &Path) -> anyhow::Result<Vec<f64>> {
    let connection = rusqlite::Connection::open(database)?;
    let mut select = connection.prepare("SELECT fired_at - nominal FROM cycles ORDER BY 1")?;
    let microseconds = select.query_map((), |row| row.get::<_, f64>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(microseconds.iter().map(|delay| delay / 1_000.0).collect())
}
