//! Services behind HTTP, as processors and as sources.

use super::endpoint::{self, Outgoing};
use super::{Report, below, key, name, path, processor};
use crate::config::{ByteSize, Completion, HttpProcessor, HttpSource, Millis, Poll};
use crate::limits::POLL_EVERY_MIN;

/// Headers that begin so are set by the engine.
const RESERVED_PREFIX: &str = "x-orbit-";

pub(super) fn check_processor(http: &HttpProcessor, report: &mut Report<'_>) {
    let outgoing =
        Outgoing { url: &http.url, auth: http.auth.as_ref(), signs: false, headers: &http.headers };
    endpoint::outgoing(&outgoing, report);
    for header in http.headers.keys() {
        if header.to_ascii_lowercase().starts_with(RESERVED_PREFIX) {
            let at = below(path(&["headers"]), [name(header)]);
            report.error(at, format!("`{header}` is set by the engine"));
        }
    }
    time("timeout", http.timeout, report);
    if http.limits.wall == Millis(0) {
        report.error(path(&["limits", "wall"]), "expected more than no time");
    }
    bytes(http.limits.output, report);
    if http.poll.every < POLL_EVERY_MIN {
        report.error(path(&["poll", "every"]), format!("expected at least {POLL_EVERY_MIN}"));
    } else if http.completion == Completion::Sync && http.poll != Poll::default() {
        report
            .error(
                path(&["poll"]),
                "`poll` is for `completion: poll`: this service's first answer is its output",
            )
            .hint("add `completion: poll`, or leave it out");
    }
    processor::declared(&http.output.extension, &http.output.media_type, report);
    processor::rules(&http.validate, &http.retry, report);
    if http.reuse {
        report
            .error(path(&["reuse"]), "`reuse: true` is for programs: a service is asked every time")
            .hint("leave it out");
    }
}

pub(super) fn check_source(http: &HttpSource, report: &mut Report<'_>) {
    let outgoing =
        Outgoing { url: &http.url, auth: http.auth.as_ref(), signs: false, headers: &http.headers };
    endpoint::outgoing(&outgoing, report);
    let literal = "no template is rendered here: a source knows nothing of a run";
    let is_template = |text: &str| ["{{", "{%", "{#"].iter().any(|open| text.contains(open));
    if is_template(&http.url) {
        report.error(path(&["url"]), literal);
    }
    for (header, value) in &http.headers {
        if is_template(value) {
            report.error(below(path(&["headers"]), [key(header)]), literal);
        }
    }
    time("timeout", http.timeout, report);
    bytes(http.limits.output, report);
}

fn time(field: &str, value: Millis, report: &mut Report<'_>) {
    if value == Millis(0) {
        report.error(path(&[field]), "expected more than no time");
    }
}

fn bytes(output: ByteSize, report: &mut Report<'_>) {
    if output == ByteSize(0) {
        report.error(path(&["limits", "output"]), "expected more than no bytes");
    }
}
