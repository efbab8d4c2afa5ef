//! Processors, and what programs of any kind have in common.

use std::collections::BTreeMap;

use super::{PathPart, Report, below, http, key, name, normalize, path, text};
use crate::config::{
    ByteSize, ExecProcessor, Limits, Millis, OutputTarget, Processor, StepRetry, TextOrSecret, Validate,
};
use crate::digest::unhex;

/// Longest extension of an output.
const EXTENSION_BYTES_MAX: usize = 16;
/// Longest prefix that `validate` may require, in bytes.
const PREFIX_BYTES_MAX: usize = 256;
/// A variable with one of these in its name is expected to hold a secret.
const SECRET_WORDS: [&str; 4] = ["TOKEN", "SECRET", "PASSWORD", "KEY"];

pub(super) fn check(processor: &Processor, report: &mut Report<'_>) {
    match processor {
        Processor::Exec(exec) => check_exec(exec, report),
        Processor::Http(service) => http::check_processor(service, report),
    }
}

fn check_exec(exec: &ExecProcessor, report: &mut Report<'_>) {
    program(&exec.argv, report);
    for (index, argument) in exec.argv.iter().enumerate() {
        report.result(below(path(&["argv"]), [PathPart::Index(index)]), text::template(argument));
    }
    environment(&exec.env, report);
    limits(&exec.limits, report);
    output(exec, report);
    if exec.success_exit_codes.is_empty() {
        report.error(path(&["success_exit_codes"]), "expected at least one exit code");
    }
    for (index, code) in exec.success_exit_codes.iter().enumerate() {
        if !(0..=255).contains(code) {
            let at = below(path(&["success_exit_codes"]), [PathPart::Index(index)]);
            report.error(at, format!("expected an exit code from 0 to 255, found `{code}`"));
        }
    }
    normalize::check_exec(exec, report);
    rules(&exec.validate, &exec.retry, report);
}

fn output(exec: &ExecProcessor, report: &mut Report<'_>) {
    declared(&exec.output.extension, &exec.output.media_type, report);
    let names_output = exec.argv.iter().any(|argument| argument.contains("output"));
    if exec.output.to == OutputTarget::File && !names_output && !normalize::takes_batches(exec) {
        report
            .warning(path(&["output", "to"]), "the output is a file, but no argument names it")
            .hint("pass `{{ output }}` to the program, or write `to: stdout`");
    }
}

/// What the output of any processor is said to be.
pub(super) fn declared(extension: &str, media_type: &str, report: &mut Report<'_>) {
    let fits = (1..=EXTENSION_BYTES_MAX).contains(&extension.len());
    if !fits || !extension.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        report
            .error(path(&["output", "extension"]), "expected 1 to 16 lower-case letters and digits")
            .hint("an extension is written without its dot, as in `json`");
    }
    if !text::is_media_type(media_type) {
        report.error(path(&["output", "media_type"]), "expected a media type such as `application/json`");
    }
}

/// What the output of any processor must satisfy, and when it is tried again.
pub(super) fn rules(validate: &Validate, retry: &StepRetry, report: &mut Report<'_>) {
    if let (Some(least), Some(most)) = (validate.bytes_min, validate.bytes_max)
        && least > most
    {
        report.error(path(&["validate", "bytes_max"]), format!("less than `bytes_min`, {least}"));
    }
    let prefix = validate.prefix_hex.as_deref().map(unhex);
    let fits = |prefix: &Vec<u8>| (1..=PREFIX_BYTES_MAX).contains(&prefix.len());
    if prefix.is_some_and(|prefix| !prefix.as_ref().is_some_and(fits)) {
        report.error(
            path(&["validate", "prefix_hex"]),
            format!("expected 1 to {PREFIX_BYTES_MAX} bytes in hex, two digits each"),
        );
    }
    if retry.backoff.max < retry.backoff.initial {
        report.error(path(&["retry", "backoff", "max"]), "the longest wait is shorter than the first");
    }
}

/// The arguments of any program.
pub(super) fn program(argv: &[String], report: &mut Report<'_>) {
    let at = |index| below(path(&["argv"]), [PathPart::Index(index)]);
    if let Some(program) = argv.first() {
        report.result(at(0), text::program(program));
    }
    for (index, argument) in argv.iter().enumerate() {
        report.result(at(index), text::argument(argument));
    }
}

/// The environment of any program. Neither names nor values become part of a message.
pub(super) fn environment(env: &BTreeMap<String, TextOrSecret>, report: &mut Report<'_>) {
    for (variable, value) in env {
        let at_name = || below(path(&["env"]), [name(variable)]);
        let at_value = || below(path(&["env"]), [key(variable)]);
        if !text::is_variable(variable) {
            report.error(
                at_name(),
                "expected a variable's name: letters, digits and `_`, not beginning with a digit",
            );
        } else if variable.starts_with("ORBIT_") {
            report.error(at_name(), "variables that begin with `ORBIT_` are set by the engine");
        }
        let TextOrSecret::Text(literal) = value else { continue };
        let upper = variable.to_ascii_uppercase();
        if literal.contains('\0') {
            report.error(at_value(), "a variable cannot hold a zero byte");
        } else if literal.contains("${") {
            report
                .warning(at_value(), "this is literal text (not shown), not a secret reference")
                .hint("a reference stands alone: \"${NAME}\" with a name of capitals, digits and single `_`");
        } else if !literal.is_empty() && SECRET_WORDS.iter().any(|word| upper.contains(word)) {
            report
                .warning(at_value(), "this looks like a secret written into the document (not shown)")
                .hint(
                    "put the value into `.env` as ORBIT_SECRET_<NAMESPACE>_<NAME> and write \"${NAME}\" here",
                );
        }
    }
}

/// The limits of any program.
pub(super) fn limits(limits: &Limits, report: &mut Report<'_>) {
    for (field, value) in [("wall", limits.wall), ("cpu", limits.cpu)] {
        if value == Millis(0) {
            report.error(path(&["limits", field]), "expected more than no time");
        }
    }
    for (field, value) in [("memory", limits.memory), ("output", limits.output)] {
        if value == ByteSize(0) {
            report.error(path(&["limits", field]), "expected more than no bytes");
        }
    }
}
