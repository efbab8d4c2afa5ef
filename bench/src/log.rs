//! The log: records appended a second, verification against a bare SHA-256 of the same bytes, and one proof of inclusion.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;
use orbit_core::config::NamespaceName;
use orbit_core::digest::Hasher;
use orbit_core::record::{Begin, Kind, Record, Seed, Subject};
use orbit_store::blobs::{Blobs, FolderBlobs};
use orbit_store::contract::log::LogStore as _;
use orbit_store::contract::record::RecordStore as _;
use orbit_store::sqlite::SqliteStore;
use orbit_store::sqlite::verify::{Report as Verified, Request, verify};
use serde_json::json;

use crate::Effort;
use crate::payload::LARGE_BYTES;
use crate::report::{Better, Measured, Report, bar, median, milliseconds};
use crate::world::{Commits, World};

/// Records of one transaction while the long log is made.
const APPEND_EACH: u64 = 500;
/// Transactions that wait together then.
const APPEND_TOGETHER: u64 = 16;
/// Proofs of which the middle one counts.
const PROOFS: u64 = 101;
/// Of the speed of SHA-256 over the same bytes.
const TARGET: f64 = 0.3;
/// Milliseconds of one proof.
const TARGET_PROOF: f64 = 10.0;

pub(crate) async fn measure(folder: &Path, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    of_runs(folder, effort, report).await?;
    of_a_long_log(folder, effort, report).await
}

/// Verification of what real runs leave: records, nodes, folds of runs, and payloads.
async fn of_runs(folder: &Path, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let world = World::start(folder, (64, LARGE_BYTES), Commits::Grouped).await?;
    world.run(u64::try_from(effort.runs.1)?).await?;
    let (database, blobs) = (world.database(), world.blobs());
    let kept = world.stop().await;
    compare("verify", (&database, &blobs), effort, report)?;
    drop(kept);
    Ok(())
}

/// A log of many records without payloads: how fast it is made, verified, and proved from.
async fn of_a_long_log(folder: &Path, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let kept = tempfile::tempdir_in(folder)?;
    let (database, blobs) = (kept.path().join("orbit.db"), kept.path().join("blobs"));
    let name = NamespaceName::parse("bench")?;
    let signer = Seed::new([7; 32]).signer(name.as_str(), "orbit/bench/0123456789abcdef")?;
    let store = Arc::new(SqliteStore::open(&database, &name)?);
    store.begin_signing(Begin::First(signer.clone()), Timestamp::UNIX_EPOCH).await?;
    let bar = bar("log", usize::try_from(effort.records / APPEND_EACH)?);
    let began = Instant::now();
    let mut made = 0;
    while made < effort.records {
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..APPEND_TOGETHER {
            let (store, records) = (Arc::clone(&store), records(made)?);
            waiting.spawn(async move { store.append(records).await });
            made += APPEND_EACH;
        }
        while let Some(appended) = waiting.join_next().await {
            appended??;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let speed = made as f64 / began.elapsed().as_secs_f64();
    report.add("log_append", Measured::plain(speed, "records/s", None, Better::Higher));
    store.checkpoint(&signer).await?.context("no checkpoint")?;
    let mut proofs = Vec::new();
    for number in 0..PROOFS {
        let position = number * (made / PROOFS);
        let began = Instant::now();
        let found = store.inclusion(position).await?.context("no proof")?;
        proofs.push(milliseconds(began.elapsed()));
        anyhow::ensure!(found.path.len() > 8, "a proof of {} hashes", found.path.len());
    }
    drop(store);
    report.say(&format!("the log has {made} records; the slowest proof took {:.2} ms", worst(&proofs)));
    report.add("prove", Measured::plain(median(&proofs), "ms", Some(TARGET_PROOF), Better::Lower));
    compare("verify_long_log", (&database, &blobs), effort, report)
}

/// Facts of the usual size that no run follows from.
fn records(from: u64) -> anyhow::Result<Vec<Record>> {
    let record = |number: u64| {
        let at = Timestamp::from_millisecond(i64::try_from(1_700_000_000_000 + number)?)?;
        let body = json!({
            "service": "bench", "number": number,
            "message": "a text of about the length that the facts of a step have, with a digest and some numbers",
        });
        Ok(Record::fact(at, Kind::ServiceFailed, Subject::default(), body))
    };
    (from..from + APPEND_EACH).map(record).collect()
}

/// Verifies and hashes, one after the other and all of it several times.
fn compare(
    name: &str,
    (database, blobs): (&Path, &Path),
    effort: &Effort,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (mut speeds, mut bare) = (Vec::new(), Vec::new());
    let mut last = Verified::default();
    for _ in 0..effort.repeats {
        let blobs = Blobs::from(FolderBlobs::reading(blobs));
        let request = Request { database, blobs: Some(&blobs), against: None, key: None, positioned: None };
        let began = Instant::now();
        last = verify(&request, &mut |_| ())?;
        anyhow::ensure!(last.faults.count == 0, "{:?}", last.faults.kept);
        speeds.push(mebibytes(last.bytes) / began.elapsed().as_secs_f64());
        bare.push(mebibytes(last.bytes) / hash(last.bytes).as_secs_f64());
    }
    let Verified { size, runs, payloads, bytes, .. } = last;
    report.say(&format!(
        "{name}: {size} records, {runs} runs, {payloads} payloads, {:.0} MiB; {} MiB resident at most so far",
        mebibytes(bytes),
        resident_most()? / 1024
    ));
    let measured = Measured::against(median(&speeds), "MiB/s", median(&bare), (TARGET, Better::Higher));
    report.add(name, measured);
    Ok(())
}

/// How long SHA-256 takes for so many bytes.
fn hash(bytes: u64) -> std::time::Duration {
    let piece = vec![7_u8; 256 * 1024];
    let mut hasher = Hasher::default();
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    let began = Instant::now();
    while left > 0 {
        let now = left.min(piece.len());
        hasher.update(&piece[..now]);
        left -= now;
    }
    std::hint::black_box(hasher.finish());
    began.elapsed()
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// The most that this process ever had in memory, in KiB.
fn resident_most() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(PathBuf::from("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
