//! Memory: of the real `orbit serve` that has nothing to do, and of an engine that does one run after the other.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;

use crate::home::{Home, memory_mib};
use crate::payload::SMALL_BYTES;
use crate::report::{Better, Measured, Report, bar};
use crate::world::{Commits, World};
use crate::{Effort, Place};

/// What an idle `serve` may hold.
const IDLE_TARGET_MIB: f64 = 24.0;
/// The last fifth against the second: what caches take is taken by then.
const GROWTH_TARGET: f64 = 1.1;
const FIFTHS: u64 = 5;
const IN_FLIGHT: usize = 64;
/// How long a node is left alone before its memory is looked at.
const SETTLES: Duration = Duration::from_secs(3);

pub(crate) async fn measure(place: &Place<'_>, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let folder = place.folder;
    if let Some(orbit) = place.orbit(report) {
        let mib = serve(folder, orbit).await?;
        report.add("memory_idle", Measured::plain(mib, "MiB", Some(IDLE_TARGET_MIB), Better::Lower));
    }
    let world = World::start(folder, (IN_FLIGHT, SMALL_BYTES), Commits::Grouped).await?;
    let bar = bar("memory", usize::try_from(FIFTHS)?);
    let mut sizes = Vec::new();
    for _ in 0..FIFTHS {
        world.run((effort.memory / FIFTHS).max(1)).await?;
        sizes.push(memory_mib(std::process::id(), "VmRSS:")?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    world.stop().await;
    let told: Vec<_> = sizes.iter().map(|size| format!("{size:.1}")).collect();
    report.say(&format!("{} runs: {} MiB after each fifth", effort.memory, told.join(", ")));
    let (Some(second), Some(last)) = (sizes.get(1), sizes.last()) else { bail!("nothing was measured") };
    let growth = Measured::against(*last, "MiB", *second, (GROWTH_TARGET, Better::Lower));
    report.add("memory_over_runs", growth);
    Ok(())
}

async fn serve(below: &Path, orbit: &Path) -> anyhow::Result<f64> {
    let home = Home::init(below, orbit)?;
    let (serving, _) = home.serve()?;
    tokio::time::sleep(SETTLES).await;
    memory_mib(serving.id(), "VmRSS:")
}
