//! Profiles.

use std::collections::BTreeSet;

use super::{PathPart, Report, below, key, path, text};
use crate::config::{DistributionTarget, Profile, ValueTag};
use crate::limits::TARGETS_MAX;

pub(super) fn check(profile: &Profile, report: &mut Report<'_>) {
    let rules = &profile.execution_rules;
    report.result(
        path(&["execution_rules", "synthesis", "template"]),
        text::template(&rules.synthesis.template),
    );
    for (index, tier) in rules.tiers.iter().enumerate() {
        if index < 2 && tier.reference.is_some() {
            let at = below(path(&["execution_rules", "tiers"]), [PathPart::Index(index), key("reference")]);
            report.error(at, "only the third tier takes a reference");
        }
    }
    for (asset, file) in &profile.asset_bindings {
        report.result(below(path(&["asset_bindings"]), [key(asset.as_str())]), text::stays_inside(file));
    }
    targets(&profile.distribution_map, "distribution_map", report);
    tags(&profile.value_tags, report);
}

/// Where results go, of a profile or a run profile.
pub(super) fn targets(targets: &[DistributionTarget], list: &str, report: &mut Report<'_>) {
    let mut seen = BTreeSet::new();
    if targets.len() > TARGETS_MAX {
        report.error(
            path(&[list]),
            format!("expected at most {TARGETS_MAX} endpoints, found {}", targets.len()),
        );
    }
    for (index, target) in targets.iter().enumerate() {
        if !seen.insert(&target.endpoint) {
            let at = below(path(&[list]), [PathPart::Index(index), key("endpoint")]);
            report.error(at, format!("endpoint `{}` is listed twice", target.endpoint));
        }
    }
}

/// The value tags of a profile or a run profile.
pub(super) fn tags(tags: &[ValueTag], report: &mut Report<'_>) {
    let mut seen = BTreeSet::new();
    for (index, tag) in tags.iter().enumerate() {
        if !seen.insert(&tag.tag) {
            let at = below(path(&["value_tags"]), [PathPart::Index(index), key("tag")]);
            report.error(at, format!("tag `{}` is listed twice", tag.tag));
        }
    }
}
