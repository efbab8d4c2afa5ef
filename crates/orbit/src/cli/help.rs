//! Help that is grouped by what somebody wants to do, and usage errors in the form of every other error.

use std::fmt::Write;

use clap::builder::Styles;
use clap::{Command, CommandFactory};

use super::args::Cli;

/// Every command, in groups, in the order in which somebody meets them.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Set up", &["init", "check", "doctor", "database", "schema", "completions"]),
    ("Work", &["run", "serve", "schedule"]),
    ("Look", &["status", "cycles", "initiations", "runs", "deliveries", "artifacts", "log"]),
    ("Configuration", &["config", "profiles", "run-profiles", "processors", "endpoints"]),
    ("Keep", &["backup", "restore", "gc", "migrate-store"]),
    ("Stop", &["halt", "resume"]),
];
const EXAMPLES: [(&str, &str); 5] = [
    ("orbit init my-home", "make a home that works at once"),
    ("orbit run --dry-run", "see what the next cycle would do"),
    ("orbit run", "run one cycle, and see what came of it"),
    ("orbit runs show ID", "every attempt, duration, size and receipt of a run"),
    ("orbit serve", "run every schedule until stopped"),
];
const EXIT_CODES: [(&str, &str); 6] = [
    ("0", "succeeded"),
    ("1", "failed"),
    ("2", "usage or configuration"),
    ("3", "partial"),
    ("4", "halted or paused"),
    ("5", "nothing to do"),
];

/// The command line with its help.
pub fn command() -> Command {
    let mut root = Cli::command();
    let styles = Styles::styled();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (title, names) in GROUPS {
        _ = write!(text, "\n{header}{title}:{header:#}\n");
        for name in names {
            let about = root.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
            _ = writeln!(text, "  {literal}{name:<13}{literal:#} {}", about.unwrap_or_default());
        }
    }
    _ = write!(text, "\n{header}Options:{header:#}\n{{options}}{{after-help}}");
    let mut after = String::new();
    for (title, width, lines) in [("Examples", 19, &EXAMPLES[..]), ("Exit codes", 1, &EXIT_CODES[..])] {
        _ = write!(after, "{}{header}{title}:{header:#}", if after.is_empty() { "" } else { "\n\n" });
        for (first, meaning) in lines {
            _ = write!(after, "\n  {literal}{first:<width$}{literal:#}  {meaning}");
        }
    }
    root = root.help_template(text).after_help(after);
    root
}

/// What clap says about a wrong command line: `error: …`, then what may have been meant and how it is used as `  hint: …`.
pub fn usage_error(said: &str) -> String {
    let mut shown = Vec::new();
    for line in said.lines().map(|line| line.replace('\'', "`")) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with("For more information") {
            continue;
        }
        let values = trimmed.strip_prefix("[possible values: ").and_then(|values| values.strip_suffix(']'));
        if let Some(values) = values {
            shown.push(format!("  hint: there are: {values}"));
            continue;
        }
        shown.push(match (trimmed.strip_prefix("tip: "), trimmed.strip_prefix("Usage: ")) {
            (Some(tip), _) => format!("  hint: {tip}"),
            (None, Some(usage)) => format!("  hint: usage: `{usage}`; `--help` tells more"),
            (None, None) => line,
        });
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        grouped.sort_unstable();
        let root = Cli::command();
        let mut all: Vec<_> = root.get_subcommands().map(Command::get_name).collect();
        all.sort_unstable();
        assert_eq!(grouped, all);
        command().debug_assert();
    }

    #[test]
    fn usage_errors_look_like_every_error() {
        let check = |args: &[&str], expected: &str| {
            let error = command().try_get_matches_from(args).unwrap_err();
            assert_eq!(usage_error(&error.render().to_string()), expected);
        };
        check(
            &["orbit", "rusn"],
            "error: unrecognized subcommand `rusn`\n  hint: some similar subcommands exist: `run`, `runs`\n  \
             hint: usage: `orbit [OPTIONS] <COMMAND>`; `--help` tells more",
        );
        check(
            &["orbit", "runs", "show", "x"],
            "error: invalid value `x` for `<ID>`: expected an id, or at least its first 8 hex digits",
        );
        check(
            &["orbit", "deliveries", "list", "--state", "gone"],
            "error: invalid value `gone` for `--state <STATE>`\n  hint: there are: waiting, sending, accepted, dead, cancelled",
        );
    }
}
