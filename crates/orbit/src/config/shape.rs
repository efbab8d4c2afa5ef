//! A document against the JSON Schema of its kind: everything that is wrong with its form, at once and in place.
//!
//! The schema is the one that `orbit schema` prints and that the typed documents generate; reading by it gives every problem
//! where a typed parser stops at the first. What comes out is the value that the typed document is made of. Inside `auth`,
//! `sign` and `env` no text of the document is ever part of a message.

use serde_json::{Map, Value};

use super::scalar;
use super::tree::{Content, Entry, Finding, Node, Place};
use super::words::{elsewhere, is_later, listed, nearest, suggestion};

/// Under these keys secrets are written; a literal one may stand where a reference, or even a key, was expected.
const SECRET_KEYS: [&str; 3] = ["auth", "sign", "env"];

/// Reads a document by its schema: the value, and everything that is wrong.
pub(super) fn read(schema: &Value, document: &Node) -> (Value, Vec<Finding>) {
    let mut reader = Reader { root: schema, findings: Vec::new() };
    let title = schema.get("title").and_then(Value::as_str).unwrap_or_default();
    let value = reader.value(&Spot { schema, name: title, hidden: false }, document);
    (value, reader.findings)
}

/// What is expected at a place.
#[derive(Clone, Copy)]
struct Spot<'a> {
    schema: &'a Value,
    /// The schema's name, for the words that it may know later.
    name: &'a str,
    /// No text may be repeated.
    hidden: bool,
}

struct Reader<'a> {
    root: &'a Value,
    findings: Vec<Finding>,
}

impl<'a> Reader<'a> {
    fn report(&mut self, place: Place, message: impl Into<String>, hint: Option<String>) -> Value {
        self.findings.push(Finding { place, message: message.into(), hint });
        Value::Null
    }

    fn mismatch(&mut self, node: &Node, expected: &str, hint: Option<&str>) -> Value {
        let message = format!("expected {expected}, found {}", scalar::describe(node));
        self.report(node.place, message, hint.map(str::to_owned))
    }

    fn value(&mut self, spot: &Spot<'a>, node: &Node) -> Value {
        if let Some(name) = spot.schema.get("$ref").and_then(Value::as_str) {
            let name = name.rsplit('/').next().unwrap_or_default();
            let schema = self.root.get("$defs").and_then(|defs| defs.get(name)).unwrap_or(&Value::Null);
            return self.value(&Spot { schema, name, hidden: spot.hidden }, node);
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(alternatives) = spot.schema.get(choice).and_then(Value::as_array) {
                return self.alternative(spot, alternatives, node);
            }
        }
        if allows(spot.schema, "null") && node.is_nothing() {
            return Value::Null;
        }
        if let Some(word) = spot.schema.get("const").and_then(Value::as_str) {
            return self.word(spot, &[word], node);
        }
        let allowed = |kind: &str| allows(spot.schema, kind);
        if allowed("object") {
            self.object(spot, node)
        } else if allowed("array") {
            self.list(spot, node)
        } else if allowed("string") {
            self.text(spot, node)
        } else if allowed("boolean") {
            match scalar::plain(node).and_then(scalar::truth) {
                Some(truth) => Value::Bool(truth),
                None => self.mismatch(node, "`true` or `false`", None),
            }
        } else if allowed("integer") || allowed("number") {
            self.number(spot, node)
        } else {
            self.anything(node)
        }
    }

    fn alternative(&mut self, spot: &Spot<'a>, alternatives: &'a [Value], node: &Node) -> Value {
        let nullable = alternatives.iter().any(|schema| is_type(schema, "null"));
        if nullable && node.is_nothing() {
            return Value::Null;
        }
        let rest: Vec<_> = alternatives.iter().filter(|schema| !is_type(schema, "null")).collect();
        let at = |schema| Spot { schema, ..*spot };
        if let [only] = rest[..]
            && only.get("const").is_none()
            && (nullable || !is_type(only, "object"))
        {
            return self.value(&at(only), node);
        }
        let words: Vec<_> = rest.iter().filter_map(|schema| schema.get("const")?.as_str()).collect();
        if words.len() == rest.len() {
            return self.word(spot, &words, node);
        }
        if rest.iter().all(|schema| discriminator(schema).is_some()) {
            return self.by_kind(spot, &rest, node);
        }
        if rest.iter().all(|schema| is_type(schema, "object")) {
            return self.by_key(spot, &rest, node);
        }
        // One value or a list of them.
        let is_list = matches!(node.content, Content::List(_));
        match rest.iter().find(|schema| is_type(schema, "array") == is_list) {
            Some(schema) => self.value(&at(schema), node),
            None => self.anything(node),
        }
    }

    /// A map told apart by the text of its `kind`.
    fn by_kind(&mut self, spot: &Spot<'a>, alternatives: &[&'a Value], node: &Node) -> Value {
        let Content::Map(_) = &node.content else { return self.mismatch(node, "a map", None) };
        let kinds: Vec<_> = alternatives.iter().filter_map(|schema| discriminator(schema)).collect();
        let Some(kind) = node.get("kind") else {
            return self.report(
                node.place,
                "missing key `kind`",
                Some(format!("one of {}", listed(kinds.iter().copied()))),
            );
        };
        let chosen = alternatives.iter().find(|schema| discriminator(schema) == kind.text());
        match chosen {
            Some(schema) => self.object(&Spot { schema, ..*spot }, node),
            None => self.word(spot, &kinds, kind),
        }
    }

    /// A map with exactly one key, which says what its value is.
    fn by_key(&mut self, spot: &Spot<'a>, alternatives: &[&'a Value], node: &Node) -> Value {
        let known: Vec<_> =
            alternatives.iter().flat_map(|schema| properties(schema).map(|(key, _)| key)).collect();
        let expected = format!("a map with one of {}", listed(known.iter().copied()));
        let Content::Map(entries) = &node.content else { return self.mismatch(node, &expected, None) };
        let [entry] = entries.as_slice() else {
            return self.report(
                node.place,
                format!("expected {expected}, found {} keys", entries.len()),
                None,
            );
        };
        let found =
            alternatives.iter().find_map(|schema| properties(schema).find(|(key, _)| *key == entry.key));
        match found {
            Some((key, schema)) => {
                let value = self.value(&Spot { schema, ..*spot }, &entry.value);
                Value::Object(Map::from_iter([(key.to_owned(), value)]))
            }
            None => self.unknown_key(spot, entry, &known),
        }
    }

    fn object(&mut self, spot: &Spot<'a>, node: &Node) -> Value {
        let Content::Map(entries) = &node.content else { return self.mismatch(node, "a map", None) };
        let known: Vec<_> = properties(spot.schema).map(|(key, _)| key).collect();
        let other = spot.schema.get("additionalProperties").filter(|schema| **schema != Value::Bool(false));
        let patterned = spot.schema.get("patternProperties").and_then(Value::as_object);
        let other = other.or_else(|| patterned.and_then(|patterns| patterns.values().next()));
        let mut map = Map::new();
        for entry in entries {
            let hidden = spot.hidden || SECRET_KEYS.contains(&entry.key.as_str());
            let property = spot.schema.get("properties").and_then(|known| known.get(&entry.key));
            let Some(schema) = property.or(other) else {
                self.unknown_key(spot, entry, &known);
                continue;
            };
            if patterned.is_some() {
                self.check_key(entry);
            }
            let value = self.value(&Spot { schema, name: spot.name, hidden }, &entry.value);
            if map.insert(entry.key.clone(), value).is_some() {
                self.duplicate(entry, spot.hidden);
            }
        }
        for key in required(spot.schema).filter(|key| !entries.iter().any(|entry| entry.key == *key)) {
            self.report(node.place, format!("missing key `{key}`"), None);
        }
        Value::Object(map)
    }

    fn check_key(&mut self, entry: &Entry) {
        if let Err(error) = orbit_core::config::DocName::parse(&entry.key) {
            self.report(entry.place, error.to_string(), None);
        }
    }

    fn duplicate(&mut self, entry: &Entry, hidden: bool) {
        let message =
            if hidden { "duplicate key".to_owned() } else { format!("duplicate key `{}`", entry.key) };
        self.report(entry.place, message, None);
    }

    fn unknown_key(&mut self, spot: &Spot<'a>, entry: &Entry, known: &[&str]) -> Value {
        let key = &entry.key;
        let (message, hint) = if is_later(spot.name, key) {
            (format!("`{key}` is not supported by this version"), "leave it out".to_owned())
        } else if spot.hidden {
            ("unknown key (not shown)".to_owned(), format!("known here: {}", listed(known.iter().copied())))
        } else if key == "<<" {
            ("merge keys are not part of YAML 1.2".to_owned(), "write the keys out".to_owned())
        } else {
            let hint = elsewhere(spot.name, key).map_or_else(|| suggestion(key, known), str::to_owned);
            (format!("unknown key `{key}`"), hint)
        };
        self.report(entry.place, message, Some(hint))
    }

    fn list(&mut self, spot: &Spot<'a>, node: &Node) -> Value {
        let Content::List(items) = &node.content else {
            return self.mismatch(
                node,
                "a list",
                Some("a list is written `[a, b]`, or a line `- a` for each"),
            );
        };
        let bound = |key: &str| spot.schema.get(key).and_then(Value::as_u64);
        let (least, most) = (bound("minItems").unwrap_or(0), bound("maxItems").unwrap_or(u64::MAX));
        let count = items.len() as u64;
        if !(least..=most).contains(&count) {
            let expected = match (least, most) {
                (least, most) if least == most => format!("exactly {least}"),
                (least, u64::MAX) => format!("at least {least}"),
                (least, most) => format!("{least} to {most}"),
            };
            self.report(node.place, format!("expected a list of {expected}, found {count}"), None);
        }
        match spot.schema.get("items") {
            Some(schema) => items.iter().map(|item| self.value(&Spot { schema, ..*spot }, item)).collect(),
            None => items.iter().map(|item| self.anything(item)).collect(),
        }
    }

    /// One of these words; a map may be a form of the contract that comes later.
    fn word(&mut self, spot: &Spot<'a>, known: &[&str], node: &Node) -> Value {
        let expected = format!("one of {}", listed(known.iter().copied()));
        if let Content::Map(entries) = &node.content
            && let Some(entry) = entries.iter().find(|entry| is_later(spot.name, &entry.key))
        {
            let message = format!("`{}` is not supported by this version", entry.key);
            return self.report(entry.place, message, Some(expected));
        }
        let Some(text) = node.text() else { return self.mismatch(node, &expected, None) };
        if known.contains(&text) {
            return Value::String(text.to_owned());
        }
        if is_later(spot.name, text) {
            return self.report(
                node.place,
                format!("`{text}` is not supported by this version"),
                Some(expected),
            );
        }
        if spot.hidden {
            return self.mismatch(node, &expected, None);
        }
        let hint = nearest(text, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        self.report(node.place, format!("expected {expected}, found `{}`", scalar::shortened(text)), hint)
    }

    fn text(&mut self, spot: &Spot<'a>, node: &Node) -> Value {
        let Content::Scalar { text, .. } = &node.content else { return self.mismatch(node, "text", None) };
        if node.is_nothing() {
            let hint = (!text.is_empty()).then_some("quote it if the word itself is meant");
            return self.mismatch(node, "text", hint);
        }
        let format = spot.schema.get("format").and_then(Value::as_str);
        if let Err(refusal) = scalar::check_text(format.unwrap_or(spot.name), text) {
            let message = if spot.hidden { refusal.message_without_text } else { refusal.message };
            return self.report(node.place, message, refusal.hint);
        }
        Value::String(text.clone())
    }

    fn number(&mut self, spot: &Spot<'a>, node: &Node) -> Value {
        let whole = !allows(spot.schema, "number");
        let range = scalar::Range::of(spot.schema, whole);
        let Some(text) = scalar::plain(node) else {
            let hint = node.text().and_then(scalar::number).map(|_| "remove the quotes");
            return self.mismatch(node, &range.to_string(), hint);
        };
        match scalar::number(text) {
            Some(number) if range.contains(&number) => Value::Number(number),
            Some(_) if !spot.hidden => self.report(
                node.place,
                format!("expected {range}, found `{}`", scalar::shortened(text)),
                None,
            ),
            Some(_) | None => self.mismatch(node, &range.to_string(), None),
        }
    }

    /// A value without a schema, by the core schema of YAML 1.2.
    fn anything(&mut self, node: &Node) -> Value {
        match &node.content {
            Content::Scalar { text, plain: false } => Value::String(text.clone()),
            Content::Scalar { text, plain: true } => scalar::resolve(text).unwrap_or_else(|| {
                self.report(
                    node.place,
                    "expected a finite number",
                    Some("quote it if text is meant".to_owned()),
                )
            }),
            Content::List(items) => items.iter().map(|item| self.anything(item)).collect(),
            Content::Map(entries) => {
                let mut map = Map::new();
                for entry in entries {
                    let value = self.anything(&entry.value);
                    if map.insert(entry.key.clone(), value).is_some() {
                        self.duplicate(entry, false);
                    }
                }
                Value::Object(map)
            }
        }
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(key, schema)| (key.as_str(), schema))
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn discriminator(schema: &Value) -> Option<&str> {
    schema.get("properties")?.get("kind")?.get("const")?.as_str()
}

/// The schema allows this type and no other.
fn is_type(schema: &Value, kind: &str) -> bool {
    schema.get("type").and_then(Value::as_str) == Some(kind)
}

/// The schema allows this type, among others perhaps.
fn allows(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
        _ => false,
    }
}
