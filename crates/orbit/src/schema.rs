//! JSON Schema of every kind of document, derived from the types that read it, with every default stated.
//!
//! The same schema guides the loader (`config::shape`), so that what an editor accepts and what `orbit check` accepts
//! cannot drift apart. `schemas/` at the root of the repository holds a copy of each; a test compares them.

use orbit_core::config::{Endpoint, NamespaceConfig, NodeConfig, Processor, Profile, RunProfile, Source};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// The kinds of document, in the order in which a cycle meets them.
pub const KINDS: [&str; 7] =
    ["node", "namespace", "source", "processor", "endpoint", "profile", "run-profile"];

/// The schema of one kind, or with no kind an object that holds all of them; nothing if there is no such kind.
pub fn schema(kind: Option<&str>) -> Option<Value> {
    let Some(kind) = kind else {
        let all = KINDS.iter().filter_map(|kind| Some(((*kind).to_owned(), schema(Some(kind))?)));
        return Some(Value::Object(all.collect()));
    };
    let schema = match kind {
        "node" => of::<NodeConfig>(),
        "namespace" => of::<NamespaceConfig>(),
        "source" => of::<Source>(),
        "processor" => of::<Processor>(),
        "endpoint" => of::<Endpoint>(),
        "profile" => of::<Profile>(),
        "run-profile" => of::<RunProfile>(),
        _ => return None,
    };
    Some(schema.to_value())
}

fn of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_committed_schemas_are_current() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
        for kind in KINDS {
            let current = format!("{:#}\n", schema(Some(kind)).unwrap());
            let committed = std::fs::read_to_string(folder.join(format!("{kind}.json"))).unwrap_or_default();
            assert!(
                current == committed,
                "schemas/{kind}.json is not current: `orbit schema {kind} > schemas/{kind}.json` makes it so"
            );
        }
        assert_eq!(schema(None).unwrap().as_object().unwrap().len(), KINDS.len());
        assert_eq!(schema(Some("rule")), None);
    }

    /// The loader knows the forms of these texts and takes any text elsewhere; a new one must be looked at there.
    #[test]
    fn every_text_with_a_form_is_known_to_the_loader() {
        let all = schema(None).unwrap();
        let mut forms = std::collections::BTreeSet::new();
        for (name, definition) in all
            .as_object()
            .unwrap()
            .values()
            .filter_map(|kind| kind.get("$defs"))
            .flat_map(|defs| defs.as_object().unwrap())
        {
            if definition["type"] == "string" {
                forms.insert(name.as_str());
            }
        }
        let known =
            ["ByteSize", "DedupeWindow", "DocName", "Duration", "Network", "SecretRef", "TextOrSecret"];
        assert_eq!(forms.into_iter().collect::<Vec<_>>(), known);
    }
}
