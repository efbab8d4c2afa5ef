//! Stores whose schema is older than this binary's, and the copies that were made before a schema changed.

use std::fs;

use orbit_core::config::NamespaceName;
use orbit_engine::layout::Layout;
use orbit_store::sqlite::{SCHEMA, schema_of};

use super::Finding;
use crate::render::units::bytes;

/// A store that opening would change, which is not for a look.
pub(super) fn older(layout: &Layout, name: &NamespaceName) -> Option<Finding> {
    let schema = schema_of(&layout.database(name)).filter(|schema| *schema < SCHEMA)?;
    let message = format!("the store of `{name}` has schema {schema}, and this binary has {SCHEMA}");
    let hint = "it is copied and brought up to date at the next start; an older binary cannot use it then";
    Some(Finding::warning("store", message, hint))
}

/// The copies that lie beside the stores of a home.
pub(super) fn all(layout: &Layout) -> Vec<Finding> {
    let entries = fs::read_dir(layout.home().join("data")).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| NamespaceName::parse(entry.file_name().to_str()?).ok()).collect();
    names.sort();
    names.iter().flat_map(|name| kept(layout, name)).collect()
}

/// The copies of a store that lie beside it.
fn kept(layout: &Layout, name: &NamespaceName) -> Vec<Finding> {
    let database = layout.database(name);
    let before = database.file_name().map(|file| format!("{}.before-", file.to_string_lossy()));
    let is_copy = |file: &str| {
        before
            .as_deref()
            .and_then(|before| file.strip_prefix(before))
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut found: Vec<_> = fs::read_dir(layout.data(name))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_copy))
        .map(|entry| {
            let length = entry.metadata().map_or(0, |found| found.len());
            let message = format!(
                "`{}` is the store before its schema changed, {}",
                entry.path().display(),
                bytes(length)
            );
            Finding::ok("store", format!("{message}; remove it when you will not go back"))
        })
        .collect();
    found.sort_by(|a, b| a.message.cmp(&b.message));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_told_from_other_files() {
        let home = tempfile::tempdir().unwrap();
        let (layout, name) = (Layout::new(home.path()), NamespaceName::parse("lab").unwrap());
        fs::create_dir_all(layout.data(&name)).unwrap();
        for file in
            ["orbit.db", "orbit.db.before-2", "orbit.db.before-2.half", "orbit.db.before-", "orbit.db-wal"]
        {
            fs::write(layout.data(&name).join(file), "12345").unwrap();
        }
        let found = kept(&layout, &name);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].message.contains("orbit.db.before-2") && found[0].message.contains("5 B"),
            "{found:?}"
        );
        assert_eq!(older(&layout, &name), None, "what is no store has no schema");
    }
}
