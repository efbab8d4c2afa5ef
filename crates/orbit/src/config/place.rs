//! From a path within a document to the line and column where it was written.

use orbit_core::config::check::PathPart;

use super::tree::{Content, Node, Place};

/// The place of this path; of what was left out, the place of the innermost part that was written.
pub(super) fn find(document: &Node, path: &[PathPart]) -> Place {
    let mut node = document;
    for part in path {
        match (part, &node.content) {
            (PathPart::Key(key), Content::Map(entries)) => {
                match entries.iter().find(|entry| entry.key == *key) {
                    Some(entry) => node = &entry.value,
                    None => return node.place,
                }
            }
            (PathPart::Name(key), Content::Map(entries)) => {
                return entries
                    .iter()
                    .find(|entry| entry.key == *key)
                    .map_or(node.place, |entry| entry.place);
            }
            (PathPart::Index(index), Content::List(items)) => match items.get(*index) {
                Some(item) => node = item,
                None => return node.place,
            },
            // One value stands where a list may.
            (PathPart::Index(0), Content::Map(_) | Content::Scalar { .. }) => {}
            (PathPart::Key(_) | PathPart::Name(_) | PathPart::Index(_), _) => return node.place,
        }
    }
    node.place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::read;

    #[test]
    fn found() {
        let text = "a:\n  - { b: 1, c: [x, y] }\nd: { e: 2 }\n";
        let document = read(text, false).documents.remove(0);
        let key = |key: &str| PathPart::Key(key.to_owned());
        let check = |path: &[PathPart], line: usize, column: usize| {
            assert_eq!(find(&document, path), Place { line, column }, "{path:?}");
        };
        check(&[], 1, 1);
        check(&[key("a"), PathPart::Index(0), key("c"), PathPart::Index(1)], 2, 20);
        check(&[key("a"), PathPart::Index(0), PathPart::Name("c".to_owned())], 2, 13);
        check(&[key("d"), PathPart::Index(0), key("e")], 3, 9);
        check(&[key("d"), key("left"), key("out")], 3, 4);
        check(&[key("a"), PathPart::Index(7)], 2, 3);
    }
}
