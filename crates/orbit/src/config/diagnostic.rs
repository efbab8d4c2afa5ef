//! What the operator reads about a document: where, what is wrong, and what to do about it.

use std::fmt;

use serde::Serialize;

use super::tree::{Finding, Place};

/// A problem at a place. No text that stands where a secret belongs is ever part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    /// The file, relative to the home.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// Whether the configuration can be used nevertheless.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Whether a configuration with this problem can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but somebody should look.
    Warning,
}

impl Diagnostic {
    /// A problem with a file as a whole.
    pub fn of_file(path: &str, severity: Severity, message: impl Into<String>) -> Self {
        let Place { line, column } = Place::START;
        Self { path: path.to_owned(), line, column, severity, message: message.into(), hint: None }
    }

    /// What was found at a place in this file.
    pub(super) fn at(path: &str, severity: Severity, finding: Finding) -> Self {
        let Place { line, column } = finding.place;
        Self { path: path.to_owned(), line, column, severity, message: finding.message, hint: finding.hint }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the configuration cannot be used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        write!(f, "{}:{}:{}: {word}{}", self.path, self.line, self.column, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed() {
        let finding = Finding { place: Place { line: 3, column: 7 }, message: "bad".to_owned(), hint: None };
        let error = Diagnostic::at("orbit.yaml", Severity::Error, finding);
        assert_eq!(error.to_string(), "orbit.yaml:3:7: bad");
        let warning = Diagnostic::of_file(".env", Severity::Warning, "open").hint("close it");
        assert_eq!(warning.to_string(), ".env:1:1: warning: open\n  hint: close it");
        assert!(error.is_error() && !warning.is_error());
        let json = serde_json::to_value(&error).unwrap();
        assert_eq!(json["severity"], "error");
        assert_eq!(json.get("hint"), None);
    }
}
