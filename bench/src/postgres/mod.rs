//! The same cycle with its rows on a PostgreSQL server of this benchmark's own, which keeps what it acknowledges on the measured disk: runs a second of
//! one node against a bare program, two and three nodes against one, and one run alone.

mod bare;
mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use orbit_store::contract::log::LogStore as _;
use orbit_store::postgres::{CONNECTIONS_MAX, Traffic};

use crate::Effort;
use crate::payload::LARGE_BYTES;
use crate::report::{Better, Measured, Report, bar, median, milliseconds};
use crate::runs::STAGES;
use crate::world::World;
use bare::Rows;
pub(crate) use server::Server;
use server::{Measurements, Views};

/// Runs for each that is in flight.
const RUNS_EACH: usize = 32;
/// Of the bare program's speed.
const TARGET: f64 = 0.4;
/// Of the speed of one node.
const TARGET_THREE: f64 = 1.5;
/// Namespaces that are at work together.
const NAMESPACES: usize = 3;
/// Of what as many bare commits take.
const TARGET_IDLE: f64 = 1.5;
/// Runs before those that count: every connection is open and has planned its statements, which is half as much again in the first hundred runs.
const WARM_UP: usize = 200;

/// One measurement of the engine.
struct Ran {
    speed: f64,
    rows: Rows,
}

pub(crate) async fn measure(folder: &Path, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let server = Server::start(folder).await?;
    of_one(&server, effort, report).await?;
    of_several(&server, effort, report).await?;
    idle(&server, effort, report).await?;
    server.stop();
    Ok(())
}

/// One node against a bare program.
async fn of_one(server: &Server, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let bar = bar("postgres", effort.in_flight.len() * effort.repeats * 3);
    let mut best = None::<[f64; 3]>;
    for in_flight in effort.in_flight.iter().copied() {
        let runs = runs(in_flight, effort);
        let (mut speeds, mut shared, mut single) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..effort.repeats {
            let Ran { speed, rows } = engine(server, 1, (in_flight, runs), report).await?;
            speeds.push(speed);
            bar.inc(1);
            let bare = async |commits| -> anyhow::Result<f64> {
                let took = rows.commit(server, (CONNECTIONS_MAX, commits)).await?;
                anyhow::Ok(rows.runs as f64 / took.as_secs_f64())
            };
            // Runs that are in flight together share a commit a stage, as far as there are connections for.
            let together = in_flight.div_ceil(CONNECTIONS_MAX);
            shared.push(bare((rows.runs * STAGES).div_ceil(together)).await?);
            bar.inc(1);
            single.push(bare(rows.runs * STAGES).await?);
            bar.inc(1);
        }
        let [value, limit, alone] = [&speeds, &shared, &single].map(|speeds| median(speeds));
        report.say(&format!(
            "{in_flight} in flight: the bare program with a commit for each stage of each run writes {alone:.0} runs/s"
        ));
        let measured = Measured::against(value, "runs/s", limit, (TARGET, Better::Higher)).told();
        report.add(&format!("postgres_runs_in_flight_{in_flight}"), measured);
        if best.is_none_or(|[best, ..]| value > best) {
            best = Some([value, limit, alone]);
        }
    }
    bar.finish_and_clear();
    if let Some([value, limit, alone]) = best {
        report.add("postgres_runs", Measured::against(value, "runs/s", limit, (TARGET, Better::Higher)));
        let measured = Measured::against(value, "runs/s", alone, (TARGET, Better::Higher));
        report.add("postgres_runs_beside_single_commits", measured);
    }
    Ok(())
}

/// Two and three nodes of one namespace, and three of a namespace each, against one; each node with so many runs in flight.
async fn of_several(server: &Server, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let Some(each) = effort.in_flight.iter().copied().max_by_key(|number| (*number).min(NODE_IN_FLIGHT))
    else {
        return Ok(());
    };
    let bar = bar("nodes", effort.repeats * 4);
    let (mut speeds, mut apart) = ([const { Vec::new() }; 3], Vec::new());
    for _ in 0..effort.repeats {
        for (number, speeds) in (1..).zip(&mut speeds) {
            let in_flight = each * number;
            speeds.push(engine(server, number, (in_flight, runs(in_flight, effort)), report).await?.speed);
            bar.inc(1);
        }
        apart.push(namespaces(server, (each, runs(each, effort)), report).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let [one, two, three] = speeds.map(|speeds| median(&speeds));
    let of_two = Measured::against(two, "runs/s", one, (1.0, Better::Higher)).told();
    report.add("postgres_two_nodes", of_two);
    report
        .add("postgres_three_nodes", Measured::against(three, "runs/s", one, (TARGET_THREE, Better::Higher)));
    let apart = Measured::against(median(&apart), "runs/s", one, (TARGET_THREE, Better::Higher)).told();
    report.add("postgres_three_namespaces", apart);
    Ok(())
}

/// Runs in flight of each node, where there are several, at most.
const NODE_IN_FLIGHT: usize = 64;

fn runs(in_flight: usize, effort: &Effort) -> usize {
    (in_flight * RUNS_EACH).clamp(effort.runs.0, effort.runs.1 / 2)
}

/// Runs a second, and the rows that they left. They are over when their records have positions too.
async fn engine(
    server: &Server,
    nodes: usize,
    (in_flight, runs): (usize, usize),
    report: &Report,
) -> anyhow::Result<Ran> {
    let world = server.world(nodes, (in_flight, LARGE_BYTES)).await?;
    world.run(u64::try_from(in_flight.max(WARM_UP))?).await?;
    positioned(&world).await?;
    server.analyze(&world.store.database).await?;
    let (traffic, before) = (world.store.traffic(), Measurements::take(server, &world.store.database).await?);
    let began = Instant::now();
    world.run(u64::try_from(runs)?).await?;
    positioned(&world).await?;
    let took = began.elapsed().as_secs_f64();
    let traffic = traffic.until(world.store.traffic());
    let used = before.until(&Measurements::take(server, &world.store.database).await?);
    let speed = runs as f64 / took;
    report.say(&format!(
        "{nodes} node(s), {in_flight} in flight: {speed:.0} runs/s; a run is {}; {}",
        told(traffic, runs),
        used.told(runs, took)
    ));
    let database = world.store.database.clone();
    drop(world.stop().await);
    let rows = Rows::read(server, &database, runs + in_flight.max(WARM_UP)).await?;
    report.say(&format!(
        "{:.1} rows and {:.1} KiB a run",
        rows.each(rows.count),
        rows.each(rows.bytes) / 1024.0
    ));
    server.drop(&database).await?;
    Ok(Ran { speed, rows })
}

/// Runs a second of several namespaces in one database together, each with a node of its own and so many runs in flight.
async fn namespaces(
    server: &Server,
    (in_flight, runs): (usize, usize),
    report: &Report,
) -> anyhow::Result<f64> {
    let database = server.database().await?;
    let mut worlds = Vec::new();
    for place in 0..NAMESPACES {
        let (database, name) = (database.clone(), format!("bench-{place}"));
        worlds.push(server.world_in(database, &name, 1, (in_flight, LARGE_BYTES)).await?);
    }
    let all = async |runs: usize| -> anyhow::Result<()> {
        let runs = u64::try_from(runs)?;
        try_join_all(worlds.iter().map(async |world| -> anyhow::Result<()> {
            world.run(runs).await?;
            positioned(world).await
        }))
        .await
        .map(drop)
    };
    all(in_flight.max(WARM_UP)).await?;
    server.analyze(&database).await?;
    let before = Measurements::take(server, &database).await?;
    let began = Instant::now();
    let each = runs / NAMESPACES;
    all(each).await?;
    let took = began.elapsed().as_secs_f64();
    let used = before.until(&Measurements::take(server, &database).await?);
    let speed = (each * NAMESPACES) as f64 / took;
    report.say(&format!(
        "{NAMESPACES} namespaces with a node each, {in_flight} in flight in each: {speed:.0} runs/s; a run is {}",
        used.told(each * NAMESPACES, took)
    ));
    for world in worlds {
        drop(world.stop().await);
    }
    server.drop(&database).await?;
    Ok(speed)
}

fn told(traffic: Traffic, runs: usize) -> String {
    let each = |count: u64| count as f64 / runs as f64;
    format!(
        "{:.1} transactions ({:.2} of them again), {:.1} round trips, {:.1} statements, {:.2} flushes",
        each(traffic.transactions),
        each(traffic.again),
        each(traffic.round_trips),
        each(traffic.statements),
        each(traffic.flushes)
    )
}

/// Every record has its position.
async fn positioned(world: &World<Views>) -> anyhow::Result<()> {
    let first = world.store.stores.first().context("no node")?;
    Arc::clone(first).log_state().await?;
    Ok(())
}

/// One run alone, against as many bare transactions of one row as it has that write.
async fn idle(server: &Server, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let world = server.world(1, (1, LARGE_BYTES)).await?;
    for _ in 0..WARM_UP {
        world.succeeded(world.fire().await?).await?;
    }
    server.analyze(&world.store.database).await?;
    let before = world.store.traffic();
    let (mut runs, mut bare) = (Vec::new(), Vec::new());
    let client = server.client(&world.store.database).await?;
    client.batch_execute("CREATE TABLE IF NOT EXISTS bare (content BYTEA)").await?;
    let insert = client.prepare("INSERT INTO bare VALUES ($1)").await?;
    let content = vec![7_u8; LARGE_BYTES / 2];
    for _ in 0..effort.idle {
        let began = Instant::now();
        world.succeeded(world.fire().await?).await?;
        runs.push(milliseconds(began.elapsed()));
        let began = Instant::now();
        for _ in 0..COMMITS {
            client.execute(&insert, &[&content]).await?;
        }
        bare.push(milliseconds(began.elapsed()));
    }
    let traffic = before.until(world.store.traffic());
    report.say(&format!("one idle run: {}", told(traffic, effort.idle)));
    drop(world.stop().await);
    let measured = Measured::against(median(&runs), "ms", median(&bare), (TARGET_IDLE, Better::Lower));
    report.add("postgres_idle_run", measured);
    Ok(())
}

/// Commits of a run that nobody else shares: fired, claimed, admitted, started, four steps done, its delivery claimed and settled.
const COMMITS: usize = 10;
