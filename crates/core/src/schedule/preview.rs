//! What a schedule will do, for people.

use jiff::Timestamp;
use serde::Serialize;

use super::{Change, Firing, Schedule};
use crate::limits::PREVIEW_MAX;

/// One row of a preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The instant that the firing stands for.
    pub nominal: Timestamp,
    /// When it happens.
    pub due: Timestamp,
    /// The nominal instant on the wall clock of the entry's zone.
    pub local: String,
    /// Whether an exclusion holds it.
    pub excluded: bool,
    /// What is special about it; null if nothing is.
    pub note: Option<String>,
}

/// The next nominal instants after `from`, the excluded ones marked; `count` of them, at most [`PREVIEW_MAX`].
pub fn preview(schedule: &Schedule, from: Timestamp, count: usize) -> Vec<Preview> {
    schedule.firings(from).take(count.min(PREVIEW_MAX)).map(|firing| row(schedule, &firing)).collect()
}

fn row(schedule: &Schedule, firing: &Firing) -> Preview {
    let zone = schedule.entries[firing.entry].zone.clone();
    let change = firing.change.map(Change::describe);
    let note = if firing.excluded { Some("excluded".to_owned()) } else { change };
    Preview {
        nominal: firing.nominal,
        due: firing.due,
        local: firing.nominal.to_zoned(zone).to_string(),
        excluded: firing.excluded,
        note,
    }
}

impl Change {
    /// In words.
    pub fn describe(self) -> String {
        match self {
            Self::Shifted(wall) => format!("shifted: {} does not exist", wall.time()),
            Self::First(wall) => format!("the first of two {}", wall.time()),
            Self::Second(wall) => format!("the second of two {}", wall.time()),
        }
    }
}
