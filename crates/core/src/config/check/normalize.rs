//! Batches and reuse: a processor that takes a manifest is used in batches, and no other is.

use super::{PathPart, Report, below, key, path};
use crate::config::{DocName, ExecProcessor, ExecutionRules, InputMode, OutputTarget, Processor};
use crate::template;

/// The path that only a batch has.
const MANIFEST: &str = "manifest";

/// Whether a program is told of its items by a manifest.
pub(super) fn takes_batches(exec: &ExecProcessor) -> bool {
    exec.argv.iter().any(|argument| template::names(argument).contains(MANIFEST))
}

/// What holds for a processor by itself.
pub(super) fn check_exec(exec: &ExecProcessor, report: &mut Report<'_>) {
    if !takes_batches(exec) {
        return;
    }
    for (index, argument) in exec.argv.iter().enumerate() {
        for name in template::names(argument).iter().filter(|name| *name != MANIFEST) {
            let at = below(path(&["argv"]), [PathPart::Index(index)]);
            report
                .error(at, format!("a batch has no `{name}`: its items may belong to different runs"))
                .hint("what differs from item to item is in the manifest's lines: `item`, `input`, `output`, `media_type`");
        }
    }
    if exec.output.to == OutputTarget::Stdout {
        report
            .error(
                path(&["output", "to"]),
                "a batch's outputs are files: its standard output is for result lines",
            )
            .hint("write `to: file`; each line of the manifest names an `output`");
    }
    if exec.input != InputMode::File {
        report
            .error(path(&["input"]), "a batch's inputs are files")
            .hint("leave it out; each line of the manifest names an `input`");
    }
    if exec.reuse {
        report
            .error(path(&["reuse"]), "a processor that takes a manifest cannot have `reuse: true`")
            .hint("leave it out: work is not reused in batches");
    }
}

/// What holds for the processors that a profile names.
pub(super) fn check_rules(rules: &ExecutionRules, processors: &[&Processor], report: &mut Report<'_>) {
    let takes = |name: &DocName| {
        let found = processors.iter().find(|processor| processor.name() == name)?;
        Some(match found {
            Processor::Exec(exec) => takes_batches(exec),
            Processor::Http(_) => false,
        })
    };
    for (number, tier) in rules.tiers.iter().enumerate() {
        if takes(&tier.processor) == Some(true) {
            let at = below(path(&["execution_rules", "tiers"]), [PathPart::Index(number), key("processor")]);
            report
                .error(
                    at,
                    format!("processor `{}` takes a manifest, which a tier does not have", tier.processor),
                )
                .hint("only `normalize` works in batches: write `{{ input }}` and `{{ output }}`");
        }
    }
    let Some(rule) = &rules.normalize else { return };
    let name = &rule.processor;
    match (rule.batch, takes(name)) {
        (Some(_), Some(false)) => report
            .error(
                path(&["execution_rules", "normalize", "batch"]),
                format!("no argument of processor `{name}` names the manifest"),
            )
            .hint("a batch's program is told of its items by `{{ manifest }}`"),
        (None, Some(true)) => report
            .error(
                path(&["execution_rules", "normalize", "processor"]),
                format!("processor `{name}` takes a manifest, which only a batch has"),
            )
            .hint("add `batch: { items_max: 8, wait_max: 30s }`"),
        (Some(_), Some(true) | None) | (None, Some(false) | None) => {}
    }
}
