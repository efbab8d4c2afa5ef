//! The pages of `docs/reference/`, made from the code they describe, so that they cannot fall behind it.

use std::fmt::Write as _;

use clap::Command;
use orbit_core::record::Kind;
use serde_json::{Map, Value};

use crate::cli::help;
use crate::schema;

/// Every page: its file name and its text.
pub fn pages() -> Vec<(&'static str, String)> {
    vec![("commands.md", commands()), ("configuration.md", configuration()), ("records.md", records())]
}

fn commands() -> String {
    let mut page = String::from("# Commands\n\nGenerated from the command line itself.\n");
    let mut root = help::command().term_width(100);
    root.build();
    command(&mut root, "orbit", &mut page);
    page
}

fn command(one: &mut Command, path: &str, page: &mut String) {
    let help = one.render_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    _ = write!(page, "\n## `{path}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    for below in one.get_subcommands_mut().filter(|below| !below.is_hide_set()) {
        let path = format!("{path} {}", below.get_name());
        command(below, &path, page);
    }
}

fn records() -> String {
    let mut page = String::from(
        "# Records\n\nEvery kind of record in a namespace's log. Generated from the code.\n\n| kind | tells |\n| --- | --- |\n",
    );
    for kind in Kind::ALL {
        _ = writeln!(page, "| `{}` | {} |", kind.name(), kind.describe());
    }
    page
}

fn configuration() -> String {
    let mut page = String::from(
        "# Configuration\n\nEvery document and every key, with its default. Generated from the types that read them; `orbit schema KIND` prints the same as \
         JSON Schema. A key without a default is required, unless its default is *none*.\n",
    );
    for kind in schema::KINDS {
        let Some(schema) = schema::schema(Some(kind)) else { continue };
        _ = write!(page, "\n## {kind}\n");
        object(&schema, &mut page);
        for (name, shape) in fields(&schema, "$defs") {
            if !fields(shape, "properties").is_empty() || shape.get("oneOf").is_some() {
                _ = write!(page, "\n### {kind}: {name}\n");
                object(shape, &mut page);
            }
        }
    }
    page
}

/// A shape's description and keys; of a choice, those of every alternative.
fn object(shape: &Value, page: &mut String) {
    if let Some(text) = shape["description"].as_str() {
        _ = write!(page, "\n{}\n", line(text));
    }
    for alternative in shape["oneOf"].as_array().into_iter().flatten() {
        if let Some(word) = alternative.get("const") {
            _ = write!(page, "\n- `{}`: {}", word.as_str().unwrap_or_default(), line(text_of(alternative)));
        } else {
            object(alternative, page);
        }
    }
    let keys = fields(shape, "properties");
    if keys.is_empty() {
        page.push('\n');
        return;
    }
    let required: Vec<_> =
        shape["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    page.push_str("\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
    for (key, value) in keys {
        let default = match (value.get("default"), required.contains(&key.as_str())) {
            (Some(default), _) => format!("`{default}`"),
            (None, true) => "required".to_owned(),
            (None, false) => "none".to_owned(),
        };
        let meaning = line(text_of(value));
        _ = writeln!(page, "| `{key}` | {} | {} | {meaning} |", kind_of(value), default.replace('|', "\\|"));
    }
}

fn text_of(shape: &Value) -> &str {
    shape["description"].as_str().unwrap_or_default()
}

fn kind_of(shape: &Value) -> String {
    if let Some(reference) = shape["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(word) = shape["const"].as_str() {
        return format!("`{word}`");
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(all) = shape[choice].as_array() {
            let names: Vec<_> = all.iter().map(kind_of).filter(|name| name != "null").collect();
            return names.join(" or ");
        }
    }
    match &shape["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind_of(&shape["items"])),
        Value::String(name) => name.clone(),
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .collect::<Vec<_>>()
            .join(" or "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "any".to_owned(),
    }
}

fn fields<'a>(shape: &'a Value, name: &str) -> Vec<(&'a String, &'a Value)> {
    shape[name].as_object().into_iter().flat_map(Map::iter).collect()
}

/// One line of a table.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
