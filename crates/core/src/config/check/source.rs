//! Sources.

use super::{PathPart, Report, below, http, path, processor, text};
use crate::config::{CandidateItem, Source};
use crate::limits::LABEL_BYTES_MAX;

pub(super) fn check(source: &Source, report: &mut Report<'_>) {
    match source {
        Source::Inline(inline) => {
            for (index, item) in inline.items.iter().enumerate() {
                item_label(index, item, report);
            }
        }
        Source::File(file) => {
            let extension = file.path.rsplit_once('.').map(|(_, extension)| extension);
            report.result(path(&["path"]), text::stays_inside(&file.path));
            if !matches!(extension, Some("jsonl" | "csv")) {
                report
                    .error(path(&["path"]), "expected a file named `….jsonl` or `….csv`")
                    .hint("the extension says how the lines are read");
            }
        }
        Source::Exec(exec) => {
            processor::program(&exec.argv, report);
            processor::environment(&exec.env, report);
            processor::limits(&exec.limits, report);
        }
        Source::Http(source) => http::check_source(source, report),
    }
}

fn item_label(index: usize, item: &CandidateItem, report: &mut Report<'_>) {
    if item.label.is_empty() || item.label.len() > LABEL_BYTES_MAX {
        let at = below(path(&["items"]), [PathPart::Index(index), super::key("label")]);
        report.error(at, format!("expected a label of 1 to {LABEL_BYTES_MAX} bytes"));
    }
}
