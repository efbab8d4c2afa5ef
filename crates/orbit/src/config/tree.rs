//! Text to a tree in which every key and value knows its line and column.
//!
//! One event parser reads YAML 1.2 and, being its subset, JSON; a file that calls itself JSON must also be strict JSON.
//! Owns the bounds on nesting and on what aliases may blow up to. Knows nothing of documents: types and meanings come later.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

/// Deepest nesting of lists and maps.
pub(super) const DEPTH_MAX: usize = 32;
/// Values in one file, with every alias counted as what it stands for.
pub(super) const NODES_MAX: usize = 200_000;

const TOO_DEEP: &str = "lists and maps are nested too deep: at most 32";

/// Where something stands: both count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    /// The beginning of a file.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub content: Content,
}

/// What a value can be before types are known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// Text; a plain one may also be read as a number, a truth value or nothing.
    Scalar {
        /// The text, without quotes and with its escapes resolved.
        text: String,
        /// It was written without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map as it was written: in order, and with every repetition of a key.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub place: Place,
    /// The value.
    pub value: Node,
}

/// Something that is wrong at a place. The text never repeats what stands where a secret belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Forest {
    /// The documents that can be read, in order; an empty one is left out.
    pub documents: Vec<Node>,
    /// What is wrong with the others.
    pub findings: Vec<Finding>,
}

impl Node {
    /// The value of this key of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            Content::Scalar { .. } | Content::List(_) => None,
        }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            Content::List(_) | Content::Map(_) => None,
        }
    }

    /// Nothing was written here.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }
}

/// Reads every document of a text; one that cannot be read hides no other.
pub(super) fn read(text: &str, is_json: bool) -> Forest {
    let mut forest = Forest::default();
    if is_json && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        forest.findings.push(not_json(&error));
        return forest;
    }
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    loop {
        let step = match parser.next() {
            None => break,
            Some(Ok((event, span))) => builder.take(event, &span).map(|done| forest.documents.extend(done)),
            Some(Err(error)) => Err(syntax(&error, text)),
        };
        if let Err(error) = step {
            forest.findings.push(error);
            builder = Builder { nodes: builder.nodes, ..Builder::default() };
            if builder.nodes > NODES_MAX || !matches!(parser.proceed_next_document(), Ok(true)) {
                break;
            }
        }
    }
    forest.documents.retain(|document| !document.is_nothing());
    forest
}

fn not_json(error: &serde_json::Error) -> Finding {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or_default();
    let place = Place { line: error.line().max(1), column: error.column().max(1) };
    Finding { place, message: format!("this is not JSON: {message}"), hint: None }
}

fn syntax(error: &ScanError, text: &str) -> Finding {
    let marker = error.marker();
    let place = Place { line: marker.line(), column: marker.col() + 1 };
    let hint = secret_hint(text, place).or_else(|| {
        use granit_parser::ErrorKind as E;
        let tab = matches!(
            error.kind(),
            E::TabNotAllowed | E::TabInBlockIndentation | E::TabInIndentation | E::TabInPlainScalar
        );
        tab.then(|| "YAML is indented with spaces".to_owned())
    });
    let too_deep = *error.kind() == granit_parser::ErrorKind::RecursionLimitExceeded;
    let message = if too_deep { TOO_DEEP.to_owned() } else { format!("this is not YAML: {}", error.info()) };
    Finding { place, message, hint }
}

/// Inside `{…}` and `[…]` an unquoted `${NAME}` ends the value at its own brace; that is the usual cause of an error there.
fn secret_hint(text: &str, place: Place) -> Option<String> {
    let near = text.lines().skip(place.line.saturating_sub(2)).take(2);
    let unquoted =
        near.filter(|line| line.match_indices("${").any(|(at, _)| !line[..at].ends_with(['"', '\''])));
    unquoted.last().map(|_| "a secret reference is quoted inside `{…}` and `[…]`: \"${NAME}\"".to_owned())
}

/// An anchored value, its size and its depth.
struct Anchored {
    node: Node,
    nodes: usize,
    depth: usize,
}

enum Open {
    List {
        place: Place,
        anchor: usize,
        from: usize,
        depth: usize,
        items: Vec<Node>,
    },
    Map {
        place: Place,
        anchor: usize,
        from: usize,
        depth: usize,
        entries: Vec<Entry>,
        key: Option<(String, Place)>,
    },
}

/// Puts events together; `nodes` counts over the whole file.
#[derive(Default)]
struct Builder {
    nodes: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
}

impl Builder {
    /// Takes an event; answers a document when one is complete.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's events may grow; those left out make no value"
    )]
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<Option<Node>, Finding> {
        let place = Place { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = refuse_tag(tag.as_deref(), place)?;
                self.count(1, 0, place)?;
                let plain = style == ScalarStyle::Plain && !text_tag;
                let node = Node { place, content: Content::Scalar { text: text.into_owned(), plain } };
                self.remember(anchor, &node, 1, 0);
                self.put(node, 0)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), place)?;
                self.count(1, 1, place)?;
                let from = self.nodes - 1;
                self.open.push(Open::List { place, anchor, from, depth: 1, items: Vec::new() });
                Ok(None)
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), place)?;
                self.count(1, 1, place)?;
                let from = self.nodes - 1;
                self.open.push(Open::Map { place, anchor, from, depth: 1, entries: Vec::new(), key: None });
                Ok(None)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => {
                let unknown = || refuse(place, "this alias stands for something that contains it");
                let anchored = self.anchors.get(&id).ok_or_else(unknown)?;
                let (nodes, depth) = (anchored.nodes, anchored.depth);
                self.count(nodes, depth, place)?;
                let content = self.anchors[&id].node.content.clone();
                self.put(Node { place, content }, depth)
            }
            _ => Ok(None),
        }
    }

    fn count(&mut self, nodes: usize, depth: usize, place: Place) -> Result<(), Finding> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            return Err(refuse(place, &format!("the file holds more than {NODES_MAX} values")));
        }
        if self.open.len() + depth > DEPTH_MAX {
            return Err(refuse(place, TOO_DEEP));
        }
        Ok(())
    }

    fn remember(&mut self, anchor: usize, node: &Node, nodes: usize, depth: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, depth });
        }
    }

    fn close(&mut self) -> Result<Option<Node>, Finding> {
        let Some(open) = self.open.pop() else { return Ok(None) };
        let (node, anchor, from, depth) = match open {
            Open::List { place, anchor, from, depth, items } => {
                (Node { place, content: Content::List(items) }, anchor, from, depth)
            }
            Open::Map { place, anchor, from, depth, entries, .. } => {
                (Node { place, content: Content::Map(entries) }, anchor, from, depth)
            }
        };
        self.remember(anchor, &node, self.nodes - from, depth);
        self.put(node, depth)
    }

    /// Puts a complete value of this depth where it belongs.
    fn put(&mut self, node: Node, depth: usize) -> Result<Option<Node>, Finding> {
        match self.open.last_mut() {
            None => return Ok(Some(node)),
            Some(Open::List { items, depth: own, .. }) => {
                *own = (*own).max(depth + 1);
                items.push(node);
            }
            Some(Open::Map { entries, key, depth: own, .. }) => match key.take() {
                Some((key, place)) => {
                    *own = (*own).max(depth + 1);
                    entries.push(Entry { key, place, value: node });
                }
                None => match node.content {
                    Content::Scalar { text, .. } => *key = Some((text, node.place)),
                    Content::List(_) | Content::Map(_) => {
                        return Err(refuse(node.place, "a key must be text"));
                    }
                },
            },
        }
        Ok(None)
    }
}

fn refuse(place: Place, message: &str) -> Finding {
    Finding { place, message: message.to_owned(), hint: None }
}

/// Answers whether the tag makes the value text; any other tag is refused.
fn refuse_tag(tag: Option<&Tag>, place: Place) -> Result<bool, Finding> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema_tag("str") => Ok(true),
        Some(_) => Err(Finding {
            place,
            message: "a tag has no meaning here".to_owned(),
            hint: Some("quote a text that begins with `!`".to_owned()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    /// `line:column key` of every key, in order, at any depth.
    fn keys(node: &Node, found: &mut Vec<String>) {
        match &node.content {
            Content::Scalar { .. } => {}
            Content::List(items) => items.iter().for_each(|item| keys(item, found)),
            Content::Map(entries) => {
                for entry in entries {
                    let Place { line, column } = entry.value.place;
                    found.push(format!(
                        "{}:{} {} {line}:{column}",
                        entry.place.line, entry.place.column, entry.key
                    ));
                    keys(&entry.value, found);
                }
            }
        }
    }

    fn check(text: &str, is_json: bool, expected: &[&str], unreadable: &[&str]) {
        let forest = read(text, is_json);
        let mut found = Vec::new();
        forest.documents.iter().for_each(|document| keys(document, &mut found));
        assert_eq!(found, expected, "{text:?}");
        let errors: Vec<_> = forest
            .findings
            .iter()
            .map(|error| format!("{}:{}: {}", error.place.line, error.place.column, error.message))
            .collect();
        assert_eq!(errors, unreadable, "{text:?}");
    }

    #[test]
    fn places() {
        check(
            "a: 1\nb: { c: x, d: [ { e: y } ] }\n",
            false,
            &["1:1 a 1:4", "2:1 b 2:4", "2:6 c 2:9", "2:12 d 2:15", "2:19 e 2:22"],
            &[],
        );
        check("ä: { \"ö\": 1, z: 2 }", false, &["1:1 ä 1:4", "1:6 ö 1:11", "1:14 z 1:17"], &[]);
        check("\u{feff}a: 1\r\nb:\r\n  c: 2\r\n", false, &["1:1 a 1:4", "2:1 b 3:3", "3:3 c 3:6"], &[]);
        check("{\n\t\"a\": 1,\n\t\"b\": \"\\ud83d\\ude00\\/\"\n}", true, &["2:2 a 2:7", "3:2 b 3:7"], &[]);
        check("a: 1\n---\n# nothing\n---\nb: 2\n...\n", false, &["1:1 a 1:4", "5:1 b 5:4"], &[]);
        check("", false, &[], &[]);
        check("# only words\n", false, &[], &[]);
    }

    #[test]
    fn a_document_that_cannot_be_read_hides_no_other() {
        check(
            "a: [1, 2\n---\nb: 2\n---\nc: !odd x\n---\nd: 4\n",
            false,
            &["3:1 b 3:4", "7:1 d 7:4"],
            &["1:4: this is not YAML: unclosed bracket '['", "5:9: a tag has no meaning here"],
        );
        check(
            "a:\n\tb: 1\n",
            false,
            &[],
            &["2:2: this is not YAML: tabs disallowed within this context (block indentation)"],
        );
        check("? [a]\n: b\n", false, &[], &["1:3: a key must be text"]);
        check("{\"a\": 1,}", true, &[], &["1:9: this is not JSON: key must be a string"]);
        check("{a: 1}", true, &[], &["1:2: this is not JSON: key must be a string"]);
    }

    #[test]
    fn bombs() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            _ = writeln!(bomb, "a{level}: &a{level} [{aliases}]");
        }
        let forest = read(&bomb, false);
        assert_eq!(forest.findings[0].message, "the file holds more than 200000 values");
        for deep in ["[".repeat(5000), "{a: ".repeat(5000), "- ".repeat(5000)] {
            let forest = read(&deep, false);
            assert_eq!(forest.findings[0].message, TOO_DEEP);
        }
        let mut stairs = "a0: &a0 [x]\n".to_owned();
        for level in 1..40 {
            _ = writeln!(stairs, "a{level}: &a{level} [*a{}]", level - 1);
        }
        assert_eq!(read(&stairs, false).findings[0].message, TOO_DEEP);
        assert_eq!(read("a: &a [*a]\n", false).findings.len(), 1);
    }

    #[test]
    fn an_unquoted_secret_is_explained() {
        let hint = |text: &str| read(text, false).findings.first().and_then(|error| error.hint.clone());
        assert!(hint("auth: { bearer: ${TOKEN} }\n").is_some());
        assert!(hint("sign: { standard_webhooks: [${TOKEN}] }\n").is_some());
        assert_eq!(hint("auth: { bearer: \"${TOKEN}\" }\n"), None);
        assert_eq!(hint("auth: { bearer: [ }\n"), None);
    }
}
