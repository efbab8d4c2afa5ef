//! Which nodes work in a namespace, where there can be several.

use std::fmt::Write;

use jiff::SignedDuration;
use serde_json::Value;

use super::fields::{count, items, text, time};
use super::units::{counted, duration};
use super::{Terminal, Tone};

/// A line for each node whose lease can end.
pub(super) fn nodes(namespace: &Value, out: &Terminal) -> String {
    let mut shown = String::new();
    for node in items(namespace, "nodes") {
        let Some(left_ms) = node["expires_in_ms"].as_i64() else { continue };
        let since = time(node, "started_at").map(|at| out.when(at)).unwrap_or_default();
        let of_load = |what| usize::try_from(count(&node["load"], what)).unwrap_or(usize::MAX);
        let load = format!("{}, {}", counted(of_load("runs"), "run"), counted(of_load("tasks"), "task"));
        let length = duration(SignedDuration::from_millis(left_ms.saturating_abs()));
        let lease = if left_ms > 0 {
            format!("its lease ends in {length}")
        } else {
            out.paint(Tone::Bad, &format!("its lease ended {length} ago"))
        };
        _ = writeln!(
            shown,
            "  node `{}` ({}, {}) joined {since}: {load} under way; {lease}",
            text(node, "node"),
            count(node, "epoch"),
            text(node, "version")
        );
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::terminal;
    use super::*;

    #[test]
    fn each_node_with_a_lease_has_a_line() {
        let node = |name: &str, expires_in_ms: Value| {
            json!({ "epoch": 7, "node": name, "version": "0.1.0", "schema": 2, "started_at": "2026-11-25T09:00:00Z", "age_ms": 1,
                "expires_in_ms": expires_in_ms, "load": { "runs": 1, "tasks": 3 } })
        };
        let namespace =
            json!({ "nodes": [node("a", json!(9000)), node("b", json!(-4000)), node("c", Value::Null)] });
        let expected = "  node `a` (7, 0.1.0) joined 3h ago: 1 run, 3 tasks under way; its lease ends in 9.0s
  node `b` (7, 0.1.0) joined 3h ago: 1 run, 3 tasks under way; its lease ended 4.0s ago\n";
        assert_eq!(nodes(&namespace, &terminal(Some(100))), expected);
        assert_eq!(nodes(&json!({}), &terminal(None)), "");
    }
}
