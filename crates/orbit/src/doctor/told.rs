//! Whether people are told: the last heartbeat, and notices that wait. Only the process that serves the home knows.

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
    for namespace in status["namespaces"].as_array().into_iter().flatten() {
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
