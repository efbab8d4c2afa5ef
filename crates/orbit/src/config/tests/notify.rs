//! `notify` in `namespace.yaml` and `heartbeat` in `orbit.yaml`.

use super::check;

const OPERATOR: (&str, &str) =
    ("namespaces/n/endpoints/o.yaml", "name: operator\nurl: \"https://o.example/{{ notice.event }}\"\n");
const ARCHIVE: (&str, &str) =
    ("namespaces/n/endpoints/a.yaml", "name: archive\nurl: \"https://a.example/{{ run.run_id }}\"\n");

#[track_caller]
fn check_rules(rules: &str, expected: &str) {
    check(&[OPERATOR, ("namespaces/n/namespace.yaml", rules)], expected);
}

/// As no rule uses it, the endpoint could be for results.
#[track_caller]
fn check_unused(rules: &str, expected: &str) {
    let unused = "…/profiles/q.yaml:1:1: warning: this profile's results go to no endpoint\n  hint: list one: `distribution_map: [ { endpoint: NAME } ]`\n";
    check_rules(rules, &(expected.to_owned() + unused));
}

#[track_caller]
fn check_node(text: &str, expected: &str) {
    check(&[("orbit.yaml", text)], expected);
}

#[test]
fn rules() {
    check_rules("notify: [ { endpoint: operator, on: [ cycle_failed, halted ] } ]\n", "");
    check_unused(
        "notify: [ { endpoint: nobody, on: [ cycle_failed ] } ]\n",
        "…/namespace.yaml:1:23: there is no endpoint `nobody`\n  hint: there are: `operator`\n",
    );
    check_unused(
        "notify: [ { endpoint: operator, on: [] } ]\n",
        "…/namespace.yaml:1:37: expected a list of at least 1, found 0\n",
    );
    check_rules(
        "notify: [ { endpoint: operator, on: [ halted ] }, { endpoint: operator, on: [ dead_letter, halted ] } ]\n",
        "…/namespace.yaml:1:92: `operator` is told of this already\n",
    );
    check_unused(
        "notify: [ { endpoint: operator, on: [ cycle_fails ] } ]\n",
        "…/namespace.yaml:1:39: expected one of `cycle_failed`, `dead_letter`, `endpoint_disabled`, `config_refused`, `disk_floor`, `halted`, `tick_missed`, `anchor_conflict`, found `cycle_fails`\n  hint: did you mean `cycle_failed`?\n",
    );
    check(
        &[ARCHIVE, ("namespaces/n/namespace.yaml", "notify: [ { endpoint: archive, on: [ halted ] } ]\n")],
        "…/namespace.yaml:1:23: `archive` cannot take a notice: its address: the template cannot be rendered: undefined value\n  hint: a notice has `notice.event`, `notice.namespace` and `notice.id`, and no run; give notices an endpoint of their own\n",
    );
    check_unused(
        "heartbeat: { url: \"https://a.example\" }\n",
        "…/namespace.yaml:1:1: unknown key `heartbeat`\n  hint: it belongs to the node: write it into `orbit.yaml`\n",
    );
}

#[test]
fn a_sign_of_life() {
    check_node("heartbeat: { url: \"https://a.example/ping\" }\n", "");
    check_node("heartbeat: { url: \"http://127.0.0.1:9/ping\", every: 10s }\n", "");
    check_node(
        "heartbeat: { url: \"http://a.example/ping\" }\n",
        "orbit.yaml:1:19: warning: the address would leave this machine in plain text\n  hint: use `https://`\n",
    );
    check_node(
        "heartbeat: { url: \"https://u:p@a.example\", every: 9s }\n",
        "orbit.yaml:1:12: expected more than no time, and no more than `every`\n\
         orbit.yaml:1:19: an address holds no user or password (not shown)\n\
         orbit.yaml:1:51: expected at least 10s\n",
    );
    check_node(
        "heartbeat: { url: \"https://a.example/{{ node }}\", timeout: 2m }\n",
        "orbit.yaml:1:19: this address is sent as it stands, without templates\n\
         orbit.yaml:1:60: expected more than no time, and no more than `every`\n",
    );
    check_node(
        "notify: []\n",
        "orbit.yaml:1:1: unknown key `notify`\n  hint: it belongs to a namespace: write it into its `namespace.yaml`\n",
    );
}

#[test]
fn what_is_kept_for_how_long() {
    let file = |text| [("namespaces/n/namespace.yaml", text)];
    check(&file("retention: { evidence: 90d, artifacts: 1d }\n"), "");
    check(
        &file("retention: { evidence: 23h, artifacts: 1m }\n"),
        "…/namespace.yaml:1:24: expected at least 1d\n…/namespace.yaml:1:40: expected at least 1d\n",
    );
}
