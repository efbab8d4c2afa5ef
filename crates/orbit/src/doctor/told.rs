//! Whether people are told: the last heartbeat, notices that wait, and checkpoints that do not reach the anchor. Only the process that serves the home knows.

use serde_json::Value;

use super::Finding;

/// What its status says.
pub(super) fn findings(status: &Value) -> Vec<Finding> {
    let beat = &status["heartbeat"];
    let mut found = Vec::new();
    match (beat["heard"].as_bool(), beat["failure"].as_str()) {
        (Some(true), _) => found.push(Finding::ok("heartbeat", "the last one was heard")),
        (Some(false), failure) => found.push(Finding::warning(
            "heartbeat",
            format!("the last one was not heard: {}", failure.unwrap_or("no reason is known")),
            "look at `heartbeat` in `orbit.yaml` and at who listens there",
        )),
        (None, _) => {}
    }
    found.extend(anchor("system", &status["log"]));
    for namespace in status["namespaces"].as_array().into_iter().flatten() {
        found.extend(anchor(namespace["namespace"].as_str().unwrap_or_default(), &namespace["log"]));
        let waiting = namespace["notices_waiting"].as_u64().unwrap_or(0);
        if waiting > 0 {
            let name = namespace["namespace"].as_str().unwrap_or_default();
            let message = format!("{waiting} of `{name}` wait to be heard");
            let hint = format!("`orbit deliveries list -n {name}` shows those under way");
            found.push(Finding::warning("notices", message, hint));
        }
    }
    found
}

/// Whether checkpoints reach the anchor, where there is one.
fn anchor(namespace: &str, log: &Value) -> Option<Finding> {
    let anchor = &log["anchor"];
    let folder = anchor["folder"].as_str()?;
    if let Some(conflict) = anchor["conflict"].as_str() {
        let message = format!("of `{namespace}` in `{folder}`: {conflict}");
        let hint = "the log was put back or changed, or somebody wrote to the anchor: compare them";
        return Some(Finding::problem("anchor", message, hint));
    }
    let message = format!("of `{namespace}`, `{folder}` cannot be written: {}", anchor["failure"].as_str()?);
    Some(Finding::warning("anchor", message, "look at permissions, disk and mount; it is tried again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use serde_json::json;

    #[test]
    fn what_is_worth_a_line() {
        let check = |status: Value, expected: &[(Level, &str)]| {
            let found = findings(&status);
            let found: Vec<_> = found.iter().map(|one| (one.level, one.message.as_str())).collect();
            assert_eq!(found, expected, "{status}");
        };
        check(json!({}), &[]);
        check(json!({ "heartbeat": null, "namespaces": [{ "notices_waiting": 0 }] }), &[]);
        let anchor = |more: Value| json!({ "log": { "anchor": more } });
        check(anchor(json!({ "folder": "/a", "number": 3 })), &[]);
        check(
            anchor(json!({ "folder": "/a", "failure": "no" })),
            &[(Level::Warning, "of `system`, `/a` cannot be written: no")],
        );
        check(
            anchor(json!({ "folder": "/a", "conflict": "other" })),
            &[(Level::Problem, "of `system` in `/a`: other")],
        );
        check(json!({ "heartbeat": { "heard": true } }), &[(Level::Ok, "the last one was heard")]);
        check(
            json!({
                "heartbeat": { "heard": false, "failure": "the watcher answered 500" },
                "namespaces": [{ "namespace": "lab", "notices_waiting": 2 }],
            }),
            &[
                (Level::Warning, "the last one was not heard: the watcher answered 500"),
                (Level::Warning, "2 of `lab` wait to be heard"),
            ],
        );
    }
}
