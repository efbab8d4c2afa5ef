//! What is different between two snapshots: which documents, and where in them.
//!
//! Values are not told: what this says is printed by deployments and kept in their logs, and a document may hold what should not be there.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Snapshot;
use crate::limits::CHANGED_FIELDS_MAX;

/// A document that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `namespace`, `source`, `processor`, `endpoint`, `profile`, `run-profile` or `asset`.
    pub kind: &'static str,
    /// Its name or label, or the path of an asset.
    pub name: String,
    /// What happened to it.
    pub change: What,
    /// JSON Pointers (RFC 6901) to the values of a changed document that differ, as far as [`CHANGED_FIELDS_MAX`] goes.
    pub fields: Vec<String>,
}

/// See [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It is only in the later one.
    Added,
    /// It is only in the earlier one.
    Removed,
    /// It is in both, and not the same.
    Changed,
}

/// Kinds of documents, and where a snapshot has them.
const SECTIONS: [(&str, &str); 6] = [
    ("source", "sources"),
    ("processor", "processors"),
    ("endpoint", "endpoints"),
    ("profile", "profiles"),
    ("run-profile", "run_profiles"),
    ("asset", "assets"),
];

/// What is different in `after`, by kind and name; everything is added where there is nothing before. Empty if, and only if, both have the same digest.
pub fn changes(before: Option<&Snapshot>, after: &Snapshot) -> Vec<Change> {
    let written = |snapshot: &Snapshot| serde_json::to_value(snapshot).unwrap_or_default();
    let (before, after) = (before.map(written).unwrap_or_default(), written(after));
    let mut changes = Vec::new();
    let name = after["namespace"].as_str().unwrap_or_default();
    changes.extend(compared("namespace", name, before.get("config"), after.get("config")));
    for (kind, section) in SECTIONS {
        let (before, after) = (before[section].as_object(), after[section].as_object());
        for name in names(before, after) {
            let of = |section: Option<&'_ Map<String, Value>>| section.and_then(|one| one.get(name)).cloned();
            changes.extend(compared(kind, name, of(before).as_ref(), of(after).as_ref()));
        }
    }
    changes
}

fn names<'a>(
    before: Option<&'a Map<String, Value>>,
    after: Option<&'a Map<String, Value>>,
) -> BTreeSet<&'a String> {
    before.into_iter().chain(after).flat_map(Map::keys).collect()
}

fn compared(kind: &'static str, name: &str, before: Option<&Value>, after: Option<&Value>) -> Option<Change> {
    let (change, fields) = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => (What::Added, Vec::new()),
        (Some(_), None) => (What::Removed, Vec::new()),
        (Some(before), Some(after)) => {
            let mut fields = Vec::new();
            differing(before, after, String::new(), &mut fields);
            if fields.is_empty() {
                return None;
            }
            (What::Changed, fields)
        }
    };
    Some(Change { kind, name: name.to_owned(), change, fields })
}

/// As deep as documents are, which is bounded by their types.
fn differing(before: &Value, after: &Value, at: String, found: &mut Vec<String>) {
    if before == after || found.len() >= CHANGED_FIELDS_MAX {
        return;
    }
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            for key in names(Some(one), Some(other)) {
                let null = Value::Null;
                let (before, after) = (one.get(key).unwrap_or(&null), other.get(key).unwrap_or(&null));
                let key = key.replace('~', "~0").replace('/', "~1");
                differing(before, after, format!("{at}/{key}"), found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (before, after)) in one.iter().zip(other).enumerate() {
                differing(before, after, format!("{at}/{index}"), found);
            }
        }
        _ => found.push(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn snapshot(change: impl Fn(&mut Value)) -> Snapshot {
        let mut value = json!({
            "namespace": "studio", "config": { "label": "Studio" },
            "sources": { "words": { "kind": "inline", "name": "words", "items": [{ "label": "a" }] } },
            "processors": {}, "endpoints": {}, "profiles": {}, "run_profiles": {},
            "assets": { "a/b.bin": { "digest": crate::digest::Digest::of(b"a"), "bytes": 1 } },
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_told() {
        let before = snapshot(|_| {});
        let check = |change: &dyn Fn(&mut Value), expected: Value| {
            let after = snapshot(change);
            let told = changes(Some(&before), &after);
            assert_eq!(json!(told), expected);
            assert_eq!(told.is_empty(), before.digest() == after.digest());
        };
        check(&|_| {}, json!([]));
        // A default that is spelt out changes nothing.
        check(&|value| value["sources"]["words"]["items"][0]["weight"] = json!(1.0), json!([]));
        let told = |kind: &str, name: &str, change: &str, fields: &[&str]| json!([{ "kind": kind, "name": name, "change": change, "fields": fields }]);
        check(
            &|value| value["config"]["label"] = json!("Other"),
            told("namespace", "studio", "changed", &["/label"]),
        );
        check(
            &|value| value["sources"]["words"]["items"][0]["label"] = json!("b"),
            told("source", "words", "changed", &["/items/0/label"]),
        );
        check(
            &|value| value["sources"]["words"]["items"] = json!([{ "label": "a" }, { "label": "b" }]),
            told("source", "words", "changed", &["/items"]),
        );
        check(
            &|value| {
                let one = json!({ "kind": "inline", "name": "more", "items": [{ "label": "x" }] });
                value["sources"]["more"] = one;
            },
            told("source", "more", "added", &[]),
        );
        check(&|value| value["assets"] = json!({}), told("asset", "a/b.bin", "removed", &[]));
    }

    #[test]
    fn everything_is_new_where_there_is_nothing() {
        let kinds: Vec<_> =
            changes(None, &snapshot(|_| {})).into_iter().map(|one| (one.kind, one.change)).collect();
        assert_eq!(kinds, [("namespace", What::Added), ("source", What::Added), ("asset", What::Added)]);
    }
}
