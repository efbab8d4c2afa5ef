//! Snapshots, and what is different between them and documents.

use std::fmt::Write;

use serde_json::Value;

use super::fields::{count, items, some_text, text, time};
use super::text::pad;
use super::units::counted;
use super::{Terminal, document};

/// Fields of one document that are shown; the JSON has more of them.
const FIELDS_SHOWN: usize = 5;

/// A page of snapshots.
pub fn snapshots(page: &Value, out: &Terminal) -> String {
    let mut shown = String::new();
    for one in items(page, "items") {
        let when = time(one, "activated_at").map(|at| out.when(at)).unwrap_or_default();
        let active = if one["active"] == true { "  active" } else { "" };
        _ = writeln!(shown, "{}  {when}{active}", text(one, "digest"));
    }
    if let Some(next) = some_text(page, "next") {
        _ = writeln!(shown, "more with `--cursor {next}`");
    }
    if shown.is_empty() { "nothing was ever active\n".to_owned() } else { shown }
}

/// A snapshot.
pub fn snapshot(answer: &Value) -> String {
    let active = if answer["active"] == true { "active" } else { "not active" };
    format!("snapshot {}  {active}\n{}", text(answer, "digest"), document(&answer["snapshot"]))
}

/// How documents differ from what is active.
pub fn difference(answer: &Value) -> String {
    let mut shown = String::new();
    for one in items(answer, "items") {
        let (name, active) = (text(one, "namespace"), some_text(one, "active"));
        let documents = text(one, "documents");
        match active {
            Some(active) if active == documents => {
                _ = writeln!(shown, "{name}: the documents are what is active, {active}");
            }
            Some(active) => _ = writeln!(shown, "{name}: {active} is active, the documents are {documents}"),
            None => _ = writeln!(shown, "{name}: nothing is active, the documents are {documents}"),
        }
        shown.push_str(&changes(one));
    }
    shown
}

/// What applying came to, as far as something is active that was applied.
pub fn applied(answer: &Value) -> String {
    let mut shown = String::new();
    for one in items(answer, "items") {
        let (name, documents) = (text(one, "namespace"), text(one, "documents"));
        match &*text(one, "outcome") {
            "activated" => {
                let base = some_text(one, "base")
                    .map(|base| format!(", in the place of {base}"))
                    .unwrap_or_default();
                _ = writeln!(shown, "{name}: {documents} is active{base}");
                shown.push_str(&changes(one));
            }
            "unchanged" => _ = writeln!(shown, "{name}: {documents} is active already"),
            _ => {}
        }
    }
    shown
}

/// Why a namespace's documents were not activated, and what to do; none if they were.
pub fn not_applied(one: &Value) -> Option<String> {
    let name = text(one, "namespace");
    match &*text(one, "outcome") {
        "failed" => Some(format!("error: {name}: {}", text(one, "message"))),
        "conflict" => {
            let told = match (some_text(one, "active"), some_text(one, "base")) {
                (None, base) => {
                    let base = base.unwrap_or_default();
                    return Some(format!(
                        "error: {name}: nothing is active, and `{base}` was expected\n  hint: leave out `--expect`"
                    ));
                }
                (Some(active), Some(base)) => format!(
                    "`{active}` is active, and not `{base}`, which these documents were to take the place of"
                ),
                (Some(active), None) => format!(
                    "`{active}` is active, and this home does not know whether its documents come from that"
                ),
            };
            let active = text(one, "active");
            Some(format!(
                "error: {name}: nothing was activated: {told}\n  hint: `orbit config diff -n {name}` shows what would change; if that is what you want, `orbit config apply -n {name} --expect {active}`"
            ))
        }
        _ => None,
    }
}

/// That other nodes do not see some assets.
pub fn unshared(one: &Value) -> Option<String> {
    let assets = usize::try_from(count(one, "assets_unshared")).unwrap_or(usize::MAX);
    (assets > 0).then(|| {
        let assets = counted(assets, "asset");
        format!("warning: {}: {assets} in this home alone, and other nodes work on the store\n  hint: they need the same files in the same place, or `artifacts` in a bucket", text(one, "namespace"))
    })
}

fn changes(one: &Value) -> String {
    let changes = items(one, "changes");
    let widest = changes.iter().map(|change| text(change, "kind").len()).max().unwrap_or(0);
    let mut shown = String::new();
    for change in changes {
        let sign = match &*text(change, "change") {
            "added" => '+',
            "removed" => '-',
            _ => '~',
        };
        let fields: Vec<_> =
            change["fields"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let more = fields.len().saturating_sub(FIELDS_SHOWN);
        let mut named = fields
            .iter()
            .take(FIELDS_SHOWN)
            .map(|field| super::text::clean(field))
            .collect::<Vec<_>>()
            .join(" ");
        if more > 0 {
            _ = write!(named, " and {more} more");
        }
        let line =
            format!("  {sign} {}  {}  {named}", pad(&text(change, "kind"), widest), text(change, "name"));
        _ = writeln!(shown, "{}", line.trim_end());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_applied_and_what_was_not() {
        let item = |outcome: &str, base: Value| {
            json!({ "namespace": "lab", "outcome": outcome, "documents": "sha256:2", "base": base, "active": "sha256:1", "message": "why",
                "assets_unshared": 1, "changes": [
                    { "kind": "source", "name": "words", "change": "changed", "fields": ["/1", "/2", "/3", "/4", "/5", "/6", "/7"] },
                    { "kind": "profile", "name": "plain", "change": "added", "fields": [] }] })
        };
        let check = |outcome: &str, base: Value, shown: &str, refused: Option<&str>| {
            let item = item(outcome, base);
            assert_eq!(applied(&json!({ "items": [item] })), shown);
            let told = not_applied(&item);
            assert_eq!(told.is_some(), refused.is_some(), "{told:?}");
            assert!(told.unwrap_or_default().contains(refused.unwrap_or_default()));
        };
        let activated = "lab: sha256:2 is active, in the place of sha256:0\n  ~ source   words  /1 /2 /3 /4 /5 and 2 more\n  + profile  plain\n";
        check("activated", json!("sha256:0"), activated, None);
        check("unchanged", json!("sha256:2"), "lab: sha256:2 is active already\n", None);
        check("conflict", json!("sha256:0"), "", Some("`sha256:1` is active, and not `sha256:0`"));
        check("conflict", Value::Null, "", Some("--expect sha256:1"));
        check("failed", Value::Null, "", Some("error: lab: why"));
        assert!(
            unshared(&item("activated", Value::Null))
                .is_some_and(|told| told.contains("1 asset in this home alone"))
        );
    }
}
