//! Run profiles.

use std::collections::BTreeSet;

use super::{PathPart, Report, below, deep, key, path, profile, text};
use crate::config::{DedupeWindow, Millis, RunProfile};
use crate::limits::SURFACES_MAX;

pub(super) fn check(run_profile: &RunProfile, report: &mut Report<'_>) {
    let policy = &run_profile.execution_policy;
    for (parts, message) in deep::schedule(&policy.schedule) {
        report.error(below(path(&["execution_policy", "schedule"]), parts), message);
    }
    let at = path(&["execution_policy", "profiles"]);
    if policy.profiles.len() > SURFACES_MAX {
        report.error(
            at.clone(),
            format!("expected at most {SURFACES_MAX} profiles, found {}", policy.profiles.len()),
        );
    }
    let mut seen = BTreeSet::new();
    for (index, reference) in policy.profiles.iter().enumerate() {
        if !seen.insert(reference) {
            let at = below(at.clone(), [PathPart::Index(index)]);
            report.error(at, format!("profile `{reference}` is listed twice"));
        }
    }
    if policy.deadline == Millis(0) {
        report.error(path(&["execution_policy", "deadline"]), "expected more than no time");
    }
    if policy.selection.dedupe.window == DedupeWindow::For(Millis(0)) {
        report
            .error(path(&["execution_policy", "selection", "dedupe", "window"]), "expected more than no time")
            .hint("`forever`, or a duration such as `30d`");
    }
    for (asset, file) in &run_profile.asset_bundle {
        report.result(below(path(&["asset_bundle"]), [key(asset.as_str())]), text::stays_inside(file));
    }
    profile::targets(&run_profile.distribution_targets, "distribution_targets", report);
    profile::tags(&run_profile.value_tags, report);
}
