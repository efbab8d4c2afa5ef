//! A small snapshot for the tests of synthesis.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{CycleIdentity, ExecutionRequest, InitiationView, SynthesisError, synthesize};
use crate::config::Snapshot;
use crate::digest::Digest;
use crate::id::initiation_id;

/// Settings of the sample that no request may show.
pub(super) const HIDDEN: [&str; 4] = ["secret-program", "ENV_TOKEN", "archive.example", "ARCHIVE_TOKEN"];

/// One profile `main`, one run profile `daily`.
pub(crate) fn snapshot() -> Snapshot {
    let processor = |name: &str| json!({"kind": "exec", "name": name, "argv": ["secret-program", name], "env": {"KEY": "${ENV_TOKEN}"}});
    let endpoint = |name: &str| json!({"name": name, "url": format!("https://archive.example/{name}"), "auth": {"bearer": "${ARCHIVE_TOKEN}"}});
    let asset = |text: &str| json!({"digest": Digest::of(text.as_bytes()), "bytes": text.len()});
    let by_name = |make: &dyn Fn(&str) -> Value, names: &[&str]| {
        Value::Object(names.iter().map(|name| ((*name).to_owned(), make(name))).collect())
    };
    let profile = json!({
        "profile_id": Uuid::from_u128(1),
        "label": "main",
        "style_vector": {"width": 3},
        "asset_bindings": {"own": "a/own", "both": "a/own"},
        "execution_rules": {
            "synthesis": {"template": "{{ initiation.label }} {{ style.width }} {{ profile.label }} {{ cycle.trigger }}"},
            "tiers": [{"processor": "first"}, {"processor": "second"}, {"processor": "second", "reference": "own"}],
            "normalize": {"processor": "last"},
        },
        "distribution_map": [{"endpoint": "archive"}],
        "value_tags": [{"tag": "t", "weight": 2.0}],
    });
    let run_profile = json!({
        "run_profile_id": Uuid::from_u128(2),
        "label": "daily",
        "execution_policy": {"selection": {"source": "list"}, "profiles": ["main"]},
        "asset_bundle": {"shared": "a/shared", "both": "a/shared"},
        "distribution_targets": [{"endpoint": "mirror"}, {"endpoint": "archive"}],
        "value_tags": [{"tag": "u"}, {"tag": "t"}],
    });
    let whole = json!({
        "namespace": "studio",
        "config": crate::config::NamespaceConfig::default(),
        "sources": {},
        "processors": by_name(&processor, &["first", "second", "last"]),
        "endpoints": by_name(&endpoint, &["archive", "mirror"]),
        "profiles": {"main": profile},
        "run_profiles": {"daily": run_profile},
        "assets": by_name(&asset, &["a/own", "a/shared"]),
    });
    serde_json::from_value(whole).unwrap()
}

/// The request of the sample's one profile for an initiation of this label.
pub(crate) fn build(snapshot: &Snapshot, label: &str) -> Result<ExecutionRequest, SynthesisError> {
    let cycle = CycleIdentity {
        id: Uuid::from_u128(3),
        trigger: "manual:k".to_owned(),
        nominal: jiff::Timestamp::UNIX_EPOCH,
    };
    let initiation = InitiationView {
        id: initiation_id(cycle.id),
        label: label.to_owned(),
        weight: 1.0,
        metadata: serde_json::Map::new(),
    };
    synthesize(snapshot, &snapshot.profiles["main"], &snapshot.run_profiles["daily"], initiation, cycle)
}
