//! `retention`.

use super::{Report, path};
use crate::config::NamespaceConfig;
use crate::limits::RETENTION_MIN;

/// What was made a moment ago is never old.
pub(super) fn check(config: &NamespaceConfig, report: &mut Report<'_>) {
    let kept = [("evidence", config.retention.evidence), ("artifacts", config.retention.artifacts)];
    for (name, _) in kept.into_iter().filter(|(_, kept)| *kept < RETENTION_MIN) {
        report.error(path(&["retention", name]), format!("expected at least {RETENTION_MIN}"));
    }
}
