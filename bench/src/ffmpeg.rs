//! A batch of FFmpeg's work, two at a time: one cycle of the real `orbit run` with a run for each item, against `xargs -P 2` with the same commands.
//!
//! An item is four commands, one after the other: a picture is drawn, and three more make something else of what the one before has left.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use crate::home::Home;
use crate::report::{Better, Measured, Report, bar, median};
use crate::{Effort, Place};

/// Items at a time.
const AT_ONCE: usize = 2;
/// Of the time of `xargs`.
const TARGET: f64 = 1.02;
const NAMES: [&str; 4] = ["draw", "colour", "turn", "even"];

pub(crate) fn measure(place: &Place<'_>, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let Some(orbit) = place.orbit(report) else { return Ok(()) };
    if !has_ffmpeg() {
        report.say("there is no `ffmpeg`: its batch is not measured");
        return Ok(());
    }
    let bar = bar("ffmpeg", effort.repeats * 2);
    let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.repeats {
        let home = home(place.folder, orbit, effort)?;
        // Stores are made once in the life of a home, by the first node that starts in it.
        drop(home.serve()?);
        let own =
            home.perform(&["run", "batch", "--namespace", "batch", "--wait", "10m"])?.time.as_secs_f64();
        bar.inc(1);
        let other = xargs(place.folder, effort)?.as_secs_f64();
        bar.inc(1);
        ratios.push(own / other);
        ours.push(own);
        bare.push(other);
    }
    bar.finish_and_clear();
    let told: Vec<_> = ratios.iter().map(|ratio| format!("{ratio:.3}")).collect();
    let items = effort.clips;
    report.say(&format!("{items} items, {} commands: pair by pair {}", items * NAMES.len(), told.join(", ")));
    report.add("ffmpeg_batch", Measured::against(median(&ours), "s", median(&bare), (TARGET, Better::Lower)));
    Ok(())
}

/// What is called with which arguments, where the files are named so.
fn commands(input: &str, output: &str, seconds: &str) -> [Vec<String>; 4] {
    let source = format!("testsrc2=size=640x360:rate=25:duration={seconds}");
    let of = |between: &[&str]| {
        let before = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-filter_threads", "1"];
        let after =
            ["-threads", "1", "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", output];
        before.iter().chain(between).chain(&after).map(|&word| word.to_owned()).collect()
    };
    [
        of(&["-f", "lavfi", "-i", &source]),
        of(&["-threads", "1", "-i", input, "-vf", "hue=s=0.7"]),
        of(&["-threads", "1", "-i", input, "-vf", "hflip"]),
        of(&["-threads", "1", "-i", input, "-movflags", "+faststart"]),
    ]
}

fn home(below: &Path, orbit: &Path, effort: &Effort) -> anyhow::Result<Home> {
    let home = Home::init(below, orbit)?;
    let mut documents = Vec::new();
    let seconds = effort.clip_seconds.to_string();
    for (name, argv) in NAMES.iter().zip(commands("{{ input }}", "{{ output }}", &seconds)) {
        let input = if *name == "draw" { "none" } else { "file" };
        let output = json!({ "to": "file", "extension": "mp4", "media_type": "video/mp4" });
        documents
            .push(json!({ "name": name, "kind": "exec", "argv": argv, "input": input, "output": output, "concurrency": AT_ONCE }));
    }
    home.write("namespaces/batch/processors/steps.yaml", &yaml(&documents))?;
    home.write("namespaces/batch/namespace.yaml", "disk_floor: 1 MiB\n")?;
    home.write("namespaces/batch/sources/all.yaml", "name: all\nkind: inline\nitems: [{ label: one }]\n")?;
    let (mut documents, mut labels) = (Vec::new(), Vec::new());
    for number in 0..effort.clips {
        let label = format!("item-{number}");
        let tiers: Vec<_> = NAMES[..3].iter().map(|name| json!({ "processor": name })).collect();
        let rules = json!({ "tiers": tiers, "normalize": { "processor": NAMES[3] } });
        let id = Uuid::from_u128(u128::try_from(number)? + 1);
        documents.push(json!({ "profile_id": id, "label": label, "execution_rules": rules }));
        labels.push(label);
    }
    home.write("namespaces/batch/profiles/items.yaml", &yaml(&documents))?;
    let policy = json!({ "selection": { "source": "all" }, "profiles": labels });
    let document =
        json!({ "run_profile_id": Uuid::from_u128(9), "label": "batch", "execution_policy": policy });
    home.write("namespaces/batch/run-profiles/batch.yaml", &document.to_string())?;
    Ok(home)
}

/// JSON is YAML.
fn yaml(documents: &[serde_json::Value]) -> String {
    documents
        .iter()
        .flat_map(|document| ["---\n".to_owned(), document.to_string(), "\n".to_owned()])
        .collect()
}

/// The same without the engine.
#[expect(clippy::disallowed_methods, reason = "what the engine is compared with")]
fn xargs(below: &Path, effort: &Effort) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir_in(below)?;
    let mut script = "set -e\n".to_owned();
    for number in 0..NAMES.len() {
        let (input, output) = (format!("$1-{}.mp4", number.saturating_sub(1)), format!("$1-{number}.mp4"));
        let argv = &commands(&input, &output, &effort.clip_seconds.to_string())[number];
        let words: Vec<_> = argv.iter().map(|word| format!("\"{word}\"")).collect();
        script.extend([words.join(" "), "\n".to_owned()]);
    }
    std::fs::write(folder.path().join("item.sh"), script)?;
    let items: Vec<_> = (0..effort.clips).map(|number| format!("item-{number}\n")).collect();
    std::fs::write(folder.path().join("items"), items.concat())?;
    let began = Instant::now();
    let status = Command::new("xargs")
        .args(["-P", &AT_ONCE.to_string(), "-n", "1", "sh", "item.sh"])
        .current_dir(folder.path())
        .stdin(std::fs::File::open(folder.path().join("items"))?)
        .status()?;
    anyhow::ensure!(status.success(), "xargs ended with {status}");
    Ok(began.elapsed())
}

#[expect(clippy::disallowed_methods, reason = "what is measured")]
fn has_ffmpeg() -> bool {
    let mut command = Command::new("ffmpeg");
    command.arg("-version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
