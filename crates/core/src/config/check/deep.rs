//! The two checks that belong to other stages: what a schedule compiles to, and what an address may look like.
//!
//! Each has one call site, here.

use super::{PathPart, key};
use crate::config::ScheduleSpec;

/// Every entry that does not compile: the path below the schedule, and what is wrong.
pub(super) fn schedule(spec: &ScheduleSpec) -> Vec<(Vec<PathPart>, String)> {
    let place = |error: crate::schedule::ScheduleError| {
        let mut path = vec![PathPart::Index(error.entry)];
        path.extend(path_of(&error.field));
        (path, error.message)
    };
    crate::schedule::problems(spec).into_iter().map(place).collect()
}

/// `exclude[1].from` in parts.
fn path_of(field: &str) -> Vec<PathPart> {
    let part = |text: &str| text.parse().map_or_else(|_| key(text), PathPart::Index);
    field.split(['.', '[', ']']).filter(|text| !text.is_empty()).map(part).collect()
}

/// Whether this is an address of an endpoint.
pub(super) fn url(text: &str) -> Result<(), String> {
    crate::dispatch::check_url(text).map_err(|error| error.to_string())
}
