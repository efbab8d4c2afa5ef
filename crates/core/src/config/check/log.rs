//! `log`, of the node and of a namespace.

use super::{Report, path};
use crate::config::LogConfig;

pub(super) fn check(log: &LogConfig, report: &mut Report<'_>) {
    let Some(anchor) = &log.anchor else { return };
    // A relative one would lie in the home, where whoever rewrites the log rewrites it too.
    if !anchor.starts_with('/') || anchor.contains('\0') {
        report
            .error(path(&["log", "anchor"]), "expected the absolute path of a folder")
            .hint("a folder outside of the home, best one that this user may only add to, as in `/mnt/elsewhere/orbit`");
    }
}
