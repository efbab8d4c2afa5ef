//! Templates: `{{ … }}` over JSON values, bounded in source, output and work, strict about names.
//!
//! MiniJinja is the engine. Nothing can be included, imported or called that reaches outside the values given.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::Value;

use crate::limits::{TEMPLATE_FUEL, TEMPLATE_OUTPUT_BYTES_MAX, TEMPLATE_SOURCE_BYTES_MAX};

/// A template that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The source is longer than [`TEMPLATE_SOURCE_BYTES_MAX`].
    #[error("the template has {bytes} bytes, at most {TEMPLATE_SOURCE_BYTES_MAX} are allowed")]
    SourceTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The source is not a template.
    #[error("not a template: {message}")]
    Syntax {
        /// What is wrong, and in which line.
        message: String,
    },
    /// A name has no value, a filter refused its input, or the work was too much.
    #[error("the template cannot be rendered: {message}")]
    Render {
        /// What is wrong, and in which line.
        message: String,
    },
    /// The output is longer than [`TEMPLATE_OUTPUT_BYTES_MAX`].
    #[error("the template renders more than {TEMPLATE_OUTPUT_BYTES_MAX} bytes")]
    OutputTooLong,
}

/// How a value is written into the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    Nothing,
    /// Every byte but RFC 3986 unreserved ones is percent-encoded.
    Url,
}

/// Whether the source is a template; the values are not known yet.
pub fn check(source: &str) -> Result<(), TemplateError> {
    bounded(source)?;
    environment(Escape::Nothing).template_from_str(source).map(drop).map_err(|error| syntax(&error))
}

/// The text that the template makes of these values (an object).
pub fn render(source: &str, values: &Value) -> Result<String, TemplateError> {
    evaluate(source, values, Escape::Nothing)
}

/// As [`render`], with every interpolated value percent-encoded, so that it is data within one part of an address
/// and never a `/`, `?`, `#`, `@` or `:` of it (RFC 3986, section 2).
pub fn render_url(source: &str, values: &Value) -> Result<String, TemplateError> {
    evaluate(source, values, Escape::Url)
}

/// The names that the template looks up in its values; none of a source that is no template.
pub fn names(source: &str) -> BTreeSet<String> {
    /// What a template may call without being given it.
    const BUILT_IN: [&str; 4] = ["range", "dict", "debug", "namespace"];
    if !source.contains('{') {
        return BTreeSet::new();
    }
    let environment = environment(Escape::Nothing);
    let template = environment.template_from_str(source);
    let names = template.map(|template| template.undeclared_variables(false)).unwrap_or_default();
    names.into_iter().filter(|name| !BUILT_IN.contains(&name.as_str())).collect()
}

/// Whether the source begins with an interpolation: its value decides how the text begins.
pub fn begins_with_interpolation(source: &str) -> bool {
    source.starts_with("{{") || source.starts_with("{%")
}

fn evaluate(source: &str, values: &Value, escape: Escape) -> Result<String, TemplateError> {
    bounded(source)?;
    if !source.contains('{') {
        return Ok(source.to_owned());
    }
    let environment = environment(escape);
    let template = environment.template_from_str(source).map_err(|error| syntax(&error))?;
    let mut output = Bounded::default();
    match template.render_captured_to(Serde(values), &mut output) {
        Ok(_) => String::from_utf8(output.bytes).map_err(|_| TemplateError::OutputTooLong),
        Err(_) if output.full => Err(TemplateError::OutputTooLong),
        Err(error) => Err(TemplateError::Render { message: describe(&error) }),
    }
}

fn environment(escape: Escape) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(TEMPLATE_FUEL));
    // The default syntax drops a final line end; a template's text is kept as it stands.
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    if escape == Escape::Url {
        environment.set_formatter(|output, _, value| {
            if value.is_undefined() {
                return Err(minijinja::Error::from(minijinja::ErrorKind::UndefinedError));
            }
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Ok(output.write_str(&percent_encode(&text))?)
        });
    }
    environment
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            _ = write!(encoded, "%{byte:02X}");
        }
    }
    // `.` and `..` alone are steps in a path, not data.
    if encoded == "." || encoded == ".." { encoded.replace('.', "%2E") } else { encoded }
}

fn bounded(source: &str) -> Result<(), TemplateError> {
    let bytes = source.len();
    if bytes > TEMPLATE_SOURCE_BYTES_MAX { Err(TemplateError::SourceTooLong { bytes }) } else { Ok(()) }
}

fn syntax(error: &minijinja::Error) -> TemplateError {
    TemplateError::Syntax { message: describe(error) }
}

fn describe(error: &minijinja::Error) -> String {
    let detail = error.detail().unwrap_or_default();
    let separator = if detail.is_empty() { "" } else { ": " };
    match error.line() {
        Some(line) if line > 1 => format!("{}{separator}{detail} (line {line})", error.kind()),
        Some(_) | None => format!("{}{separator}{detail}", error.kind()),
    }
}

/// Takes no more than the limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > TEMPLATE_OUTPUT_BYTES_MAX {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rendered() {
        let values = json!({"initiation": {"label": "A <b> & c/d", "metadata": {"n": 3}}, "dots": ".."});
        let check = |source: &str, expected: Result<&str, &str>| {
            let rendered = render(source, &values).map_err(|error| error.to_string());
            match expected {
                Ok(text) => assert_eq!(rendered.as_deref(), Ok(text), "{source}"),
                Err(part) => assert!(rendered.unwrap_err().contains(part), "{source}"),
            }
        };
        check("plain", Ok("plain"));
        check("{{ initiation.label }}!\n", Ok("A <b> & c/d!\n"));
        check("{{ initiation.metadata.n + 1 }}", Ok("4"));
        check("{{ initiation.metadata | tojson }}", Ok("{\"n\": 3}"));
        check("{% if initiation.metadata.n > 2 %}many{% endif %}", Ok("many"));
        check("{{ initiation.title }}", Err("undefined"));
        check("{{ nothing }}", Err("undefined"));
        check("{{ initiation.label", Err("not a template"));
        check("{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}", Err("fuel"));
        check("{{ 'x' * 300000 }}", Err("more than"));
        check("{% include 'a' %}", Err(""));
    }

    #[test]
    fn in_an_address_a_value_is_data() {
        let values = json!({"label": "A <b> & c/d?#@:", "dots": "..", "n": 5});
        assert_eq!(
            render_url("/x/{{ label }}?n={{ n }}", &values).unwrap(),
            "/x/A%20%3Cb%3E%20%26%20c%2Fd%3F%23%40%3A?n=5"
        );
        assert_eq!(render_url("/x/{{ dots }}/y", &values).unwrap(), "/x/%2E%2E/y");
        assert!(render_url("/x/{{ missing }}", &values).is_err());
    }

    #[test]
    fn names_that_are_looked_up() {
        let check = |source: &str, expected: &[&str]| {
            assert_eq!(names(source).iter().map(String::as_str).collect::<Vec<_>>(), expected, "{source}");
        };
        check("plain manifest", &[]);
        check("{{ manifest }}", &["manifest"]);
        check("{{ initiation.label }}-{{ input | upper }}", &["initiation", "input"]);
        check("{% for n in range(3) %}{{ n }}{{ style.x }}{% endfor %}", &["style"]);
        check("{% set a = 1 %}{{ a }}", &[]);
        check("{{ broken", &[]);
    }

    #[test]
    fn a_long_source_is_refused() {
        let long = "x".repeat(TEMPLATE_SOURCE_BYTES_MAX + 1);
        assert_eq!(check(&long), Err(TemplateError::SourceTooLong { bytes: long.len() }));
    }
}
