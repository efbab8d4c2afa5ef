//! One selection from a file with very many candidates, each of which is read, hashed and weighed; against a bare program that reads the file and hashes its bytes.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use orbit_core::digest::Hasher;

use crate::home::Home;
use crate::report::{Better, Measured, Report, bar, median};
use crate::{Effort, Place};

/// What is read at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Candidates that take no time: what a command takes besides is told, and part of the figure.
const FEW: u64 = 12;

pub(crate) fn measure(place: &Place<'_>, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let Some(orbit) = place.orbit(report) else { return Ok(()) };
    let home = Home::init(place.folder, orbit)?;
    let source = home.path().join("namespaces/hello/many.jsonl");
    let few = candidates(&source, FEW)?;
    home.write("namespaces/hello/sources/places.yaml", "name: places\nkind: file\npath: many.jsonl\n")?;
    let run = ["run", "--dry-run"];
    let besides = home.perform(&run)?.time;
    let bytes = candidates(&source, effort.candidates)?;
    let bar = bar("selection", effort.repeats * 2);
    let (mut times, mut bare, mut most) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..effort.repeats {
        let took = home.perform(&run)?;
        times.push(took.time.as_secs_f64());
        most = most.max(took.most_mib);
        bar.inc(1);
        bare.push(hash(&source)?.as_secs_f64());
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (time, mib) = (median(&times), bytes as f64 / 1024.0 / 1024.0);
    report.say(&format!(
        "{} candidates of {mib:.0} MiB in {time:.3} s and {most:.0} MiB of memory; a command with {few} bytes of them {:.3} s",
        effort.candidates,
        besides.as_secs_f64(),
    ));
    let speeds = (mib / time, mib / median(&bare));
    report.add("selection", Measured::against(speeds.0, "MiB/s", speeds.1, (1.0, Better::Higher)).told());
    Ok(())
}

/// Writes so many; their bytes.
fn candidates(path: &Path, count: u64) -> anyhow::Result<u64> {
    let mut file = BufWriter::new(File::create(path)?);
    for number in 0..count {
        let weight = 1 + number % 7;
        writeln!(
            file,
            "{{\"label\":\"candidate {number}\",\"weight\":{weight},\"metadata\":{{\"text\":\"what is known of number {number}\",\"rank\":{number}}}}}"
        )?;
    }
    file.flush()?;
    Ok(std::fs::metadata(path)?.len())
}

fn hash(path: &Path) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let (mut file, mut hasher, mut piece) = (File::open(path)?, Hasher::default(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            count => hasher.update(&piece[..count]),
        }
    }
    std::hint::black_box(hasher.finish());
    Ok(began.elapsed())
}
