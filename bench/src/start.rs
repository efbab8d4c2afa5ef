//! From the start of `orbit serve` to the word that it is ready, and how large that program is.

use crate::home::Home;
use crate::report::{Better, Measured, Report, bar, median, milliseconds};
use crate::{Effort, Place};

/// Milliseconds.
const TARGET_START: f64 = 60.0;
/// Megabytes, of a release build as it is shipped.
const TARGET_SIZE: f64 = 40.0;

pub(crate) fn measure(place: &Place<'_>, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let Some(orbit) = place.orbit(report) else { return Ok(()) };
    let size = std::fs::metadata(orbit)?.len() as f64 / 1_000_000.0;
    report.add("binary_size", Measured::plain(size, "MB", Some(TARGET_SIZE), Better::Lower));
    let home = Home::init(place.folder, orbit)?;
    let (serving, first) = home.serve()?;
    drop(serving);
    let bar = bar("start", effort.starts);
    let mut starts = Vec::new();
    for _ in 0..effort.starts {
        let (serving, took) = home.serve()?;
        drop(serving);
        starts.push(milliseconds(took));
        bar.inc(1);
    }
    bar.finish_and_clear();
    report.say(&format!("the first start, which makes the stores, took {:.1} ms", milliseconds(first)));
    let measured = Measured::plain(median(&starts), "ms", Some(TARGET_START), Better::Lower);
    report.add("start_to_ready", measured);
    Ok(())
}
