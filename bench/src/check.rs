//! `orbit check` of a home with very many profiles: how long it takes, and how much memory.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::home::Home;
use crate::report::{Better, Measured, Report};
use crate::{Effort, Place};

/// Profiles of one file.
const FILE_PROFILES: usize = 1_000;
/// Seconds.
const TARGET: f64 = 10.0;
/// MiB.
const TARGET_MEMORY: f64 = 1024.0;

pub(crate) fn measure(place: &Place<'_>, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let Some(orbit) = place.orbit(report) else { return Ok(()) };
    let home = Home::init(place.folder, orbit)?;
    let mut number = 0;
    while number < effort.profiles {
        let first = number;
        let mut text = String::new();
        while number < effort.profiles.min(first + FILE_PROFILES) {
            write_profile(&mut text, number)?;
            number += 1;
        }
        home.write(&format!("namespaces/hello/profiles/many-{first}.yaml"), &text)?;
    }
    let took = home.perform(&["check"])?;
    report.say(&format!("{} profiles are checked", effort.profiles));
    let time = Measured::plain(took.time.as_secs_f64(), "s", Some(TARGET), Better::Lower);
    report.add("check_profiles", time);
    let memory = Measured::plain(took.most_mib, "MiB", Some(TARGET_MEMORY), Better::Lower);
    report.add("check_profiles_memory", memory);
    Ok(())
}

fn write_profile(text: &mut String, number: usize) -> anyhow::Result<()> {
    let id = Uuid::from_u128(u128::try_from(number)? + 1);
    Ok(write!(
        text,
        "---
profile_id: {id}
label: profile-{number}
style_vector: {{ width: 1080, height: 1920, line: \"= {number} =\" }}
execution_rules:
  synthesis: {{ template: \"A greeting for {{{{ initiation.label }}}}\", constraints: {{ words_max: 60 }} }}
  tiers: [{{ processor: greet }}, {{ processor: raise }}, {{ processor: frame }}]
  normalize: {{ processor: tidy }}
"
    )?)
}
