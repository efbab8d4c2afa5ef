//! How far a log is signed and copied, a line each.

use serde_json::Value;

use super::fields::{count, some_text, text, time};
use super::{Terminal, Tone};

/// `number 12 of 1200 records, the last of them 2m ago`.
pub(super) fn checkpoint(log: &Value, out: &Terminal) -> String {
    let checkpoint = &log["checkpoint"];
    if checkpoint.is_null() {
        return if count(log, "size") == 0 { String::new() } else { "none yet".to_owned() };
    }
    let age = time(checkpoint, "covered_until").map(|at| format!(", the last of them {}", out.when(at)));
    let (number, size) = (count(checkpoint, "number"), count(checkpoint, "size"));
    format!("number {number} of {size} records{}", age.unwrap_or_default())
}

/// What the anchor has, or what is wrong with it; nothing where there is none.
pub(super) fn anchor(log: &Value, out: &Terminal) -> String {
    let anchor = &log["anchor"];
    let Some(folder) = some_text(anchor, "folder") else { return String::new() };
    if let Some(conflict) = some_text(anchor, "conflict") {
        let told = format!("{conflict}: somebody changed the log or the anchor; compare them");
        return format!("{} ({folder})", out.paint(Tone::Bad, &told));
    }
    if let Some(failure) = some_text(anchor, "failure") {
        return format!("{} ({folder})", out.paint(Tone::Watch, &format!("cannot be written: {failure}")));
    }
    match anchor["number"].as_u64() {
        Some(_) => format!("has checkpoint {} ({folder})", text(anchor, "number")),
        None => format!("is empty ({folder})"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::terminal;
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_signed_and_where_it_is_copied() {
        let check = |log: Value, signed: &str, copied: &str| {
            let told = (checkpoint(&log, &terminal(Some(100))), anchor(&log, &terminal(None)));
            assert_eq!(told, (signed.to_owned(), copied.to_owned()));
        };
        check(json!({ "size": 0, "checkpoint": null, "anchor": null }), "", "");
        check(json!({ "size": 3, "checkpoint": null }), "none yet", "");
        let signed = json!({ "number": 12, "size": 1200, "covered_until": "2026-11-25T11:58:00Z" });
        let told = "number 12 of 1200 records, the last of them 2m ago";
        let with = |anchor: Value| json!({ "size": 1201, "checkpoint": signed, "anchor": anchor });
        check(with(json!({ "folder": "/a", "number": 11 })), told, "has checkpoint 11 (/a)");
        check(with(json!({ "folder": "/a", "number": null })), told, "is empty (/a)");
        check(with(json!({ "folder": "/a", "failure": "no" })), told, "cannot be written: no (/a)");
        let conflict = "it has another: somebody changed the log or the anchor; compare them (/a)";
        check(with(json!({ "folder": "/a", "conflict": "it has another", "failure": "no" })), told, conflict);
    }
}
