//! `notify` and `heartbeat`.

use std::collections::BTreeSet;

use super::{Document, PathPart, Report, below, endpoint, key, path};
use crate::config::{DocName, Endpoint, Heartbeat, Millis, NamespaceConfig, NotifyEvent};
use crate::dispatch::header::render_header;
use crate::dispatch::{check_url, target_url};
use crate::limits::{HEARTBEAT_EVERY_MIN, NOTIFY_RULES_MAX};
use crate::notify::template_values;

/// That each endpoint is there is checked with the other references.
pub(super) fn check(config: &NamespaceConfig, documents: &[Document], report: &mut Report<'_>) {
    if config.notify.len() > NOTIFY_RULES_MAX {
        report.error(path(&["notify"]), format!("a namespace has at most {NOTIFY_RULES_MAX} rules"));
        return;
    }
    let mut told = BTreeSet::new();
    let mut judged = BTreeSet::new();
    for (number, rule) in config.notify.iter().enumerate() {
        let at = |field: &str| below(path(&["notify"]), [PathPart::Index(number), key(field)]);
        for (place, event) in rule.on.iter().enumerate() {
            if !told.insert((&rule.endpoint, event)) {
                report.error(
                    below(at("on"), [PathPart::Index(place)]),
                    format!("`{}` is told of this already", rule.endpoint),
                );
            }
        }
        if judged.insert(&rule.endpoint)
            && let Some(endpoint) = find(documents, &rule.endpoint)
            && let Some(&event) = rule.on.first()
            && let Err(message) = renders(endpoint, event)
        {
            report
                .error(at("endpoint"), format!("`{}` cannot take a notice: {message}", rule.endpoint))
                .hint("a notice has `notice.event`, `notice.namespace` and `notice.id`, and no run; give notices an endpoint of their own");
        }
    }
}

fn find<'a>(documents: &'a [Document], name: &DocName) -> Option<&'a Endpoint> {
    documents.iter().find_map(|document| match document {
        Document::Endpoint(endpoint) if endpoint.name == *name => Some(endpoint),
        Document::Endpoint(_)
        | Document::Namespace(_)
        | Document::Source(_)
        | Document::Processor(_)
        | Document::Profile(_)
        | Document::RunProfile(_) => None,
    })
}

/// Whether address and headers can be made without a run. What is wrong with them in any case is told at the endpoint.
fn renders(endpoint: &Endpoint, event: NotifyEvent) -> Result<(), String> {
    let values = template_values(event, "namespace", uuid::Uuid::nil());
    if check_url(&endpoint.url).is_ok() {
        target_url(endpoint, &values).map_err(|error| format!("its address: {error}"))?;
    }
    for (name, source) in &endpoint.headers {
        if crate::dispatch::header::check_header(name, source).is_ok() {
            render_header(name, source, &values).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// The node's sign of life.
pub(super) fn check_heartbeat(heartbeat: &Heartbeat, report: &mut Report<'_>) {
    let at = |field: &str| path(&["heartbeat", field]);
    let url = heartbeat.url.as_str();
    let authority = endpoint::authority(url);
    if authority.is_some_and(|authority| authority.contains('@')) {
        report.error(at("url"), "an address holds no user or password (not shown)");
    } else if ["{{", "{%", "{#"].iter().any(|begin| url.contains(begin)) {
        report.error(at("url"), "this address is sent as it stands, without templates");
    } else if let Err(error) = check_url(url) {
        report.error(at("url"), error.to_string());
    } else if url.starts_with("http://") && !authority.is_some_and(endpoint::is_loopback) {
        report
            .warning(at("url"), "the address would leave this machine in plain text")
            .hint("use `https://`");
    }
    if heartbeat.every < HEARTBEAT_EVERY_MIN {
        report.error(at("every"), format!("expected at least {HEARTBEAT_EVERY_MIN}"));
    }
    if heartbeat.timeout == Millis(0) || heartbeat.timeout > heartbeat.every {
        report.error(at("timeout"), "expected more than no time, and no more than `every`");
    }
}
