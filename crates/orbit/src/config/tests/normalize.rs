//! Batches and reuse: what belongs together.

use super::{PROFILE, check, check_processor};

const BATCHED: &str = "name: b\nkind: exec\nargv: [pack, \"{{ manifest }}\"]\noutput: { to: file }\n";

/// A profile with this normalize rule, and the processor `b`.
#[track_caller]
fn check_rule(rule: &str, processor: &str, expected: &str) {
    let profile = PROFILE.replace("} ] }", &format!("}} ],\n normalize: {rule} }}"));
    check(
        &[("namespaces/n/profiles/q.yaml", &profile), ("namespaces/n/processors/b.yaml", processor)],
        expected,
    );
}

#[test]
fn a_manifest_and_a_batch_belong_together() {
    check_rule("{ processor: b, batch: { items_max: 8, wait_max: 30s } }", BATCHED, "");
    check_rule("{ processor: b, batch: {} }", BATCHED, "");
    check_rule(
        "{ processor: b }",
        BATCHED,
        "…/profiles/q.yaml:4:26: processor `b` takes a manifest, which only a batch has\n  \
         hint: add `batch: { items_max: 8, wait_max: 30s }`\n",
    );
    check_rule(
        "{ processor: p, batch: {} }",
        BATCHED,
        "…/profiles/q.yaml:4:36: no argument of processor `p` names the manifest\n  \
         hint: a batch's program is told of its items by `{{ manifest }}`\n",
    );
    check_rule(
        "{ processor: b, batch: { items_max: 1 } }",
        BATCHED,
        "…/profiles/q.yaml:4:49: expected a whole number from 2 to 64, found `1`\n",
    );
    check_rule(
        "{ processor: b, batch: { items_max: 65, wait: 3s } }",
        BATCHED,
        "…/profiles/q.yaml:4:49: expected a whole number from 2 to 64, found `65`\n\
         …/profiles/q.yaml:4:53: unknown key `wait`\n  hint: known here: `items_max`, `wait_max`\n",
    );
    let profile = PROFILE.replacen("{ processor: p }", "{ processor: b }", 1);
    check(
        &[("namespaces/n/profiles/q.yaml", &profile), ("namespaces/n/processors/b.yaml", BATCHED)],
        "…/profiles/q.yaml:3:42: processor `b` takes a manifest, which a tier does not have\n  \
         hint: only `normalize` works in batches: write `{{ input }}` and `{{ output }}`\n",
    );
}

#[test]
fn what_a_batch_has_not() {
    check_processor(
        "name: x\nkind: exec\nargv: [pack, \"{{ manifest }}\", \"{{ output }}\", \"{{ initiation.label }}\"]\n\
         output: { to: file }\n",
        "…/processors/x.yaml:3:32: a batch has no `output`: its items may belong to different runs\n  \
         hint: what differs from item to item is in the manifest's lines: `item`, `input`, `output`, `media_type`\n\
         …/processors/x.yaml:3:48: a batch has no `initiation`: its items may belong to different runs\n  \
         hint: what differs from item to item is in the manifest's lines: `item`, `input`, `output`, `media_type`\n",
    );
    check_processor(
        "name: x\nkind: exec\nargv: [pack, \"{{ manifest }}\"]\ninput: stdin\nreuse: true\n",
        "…/processors/x.yaml:1:1: a batch's outputs are files: its standard output is for result lines\n  \
         hint: write `to: file`; each line of the manifest names an `output`\n\
         …/processors/x.yaml:4:8: a batch's inputs are files\n  \
         hint: leave it out; each line of the manifest names an `input`\n\
         …/processors/x.yaml:5:8: a processor that takes a manifest cannot have `reuse: true`\n  \
         hint: leave it out: work is not reused in batches\n",
    );
    check_processor("name: x\nkind: exec\nargv: [cat]\nreuse: true\n", "");
}
