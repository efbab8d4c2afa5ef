//! What came of a test of an endpoint.

use std::fmt::Write;

use jiff::SignedDuration;
use serde_json::Value;

use super::fields::{count, some_text, text};
use super::text::{clean, clean_lines, short};
use super::units::{bytes, duration};
use super::{Terminal, Tone, block};

/// Lines of an answer that are shown.
const ANSWER_LINES_MAX: usize = 10;
/// Characters of an answer that are shown.
const ANSWER_CHARS_MAX: usize = 1000;
/// The phases of an exchange in their order.
const PHASES: [&str; 6] = ["resolve", "connect", "tls", "send", "answer", "body"];

/// The request, how long each part of it took, the answer, and what to do if it is not the wanted one.
pub fn endpoint_test(account: &Value, out: &Terminal) -> String {
    let (receipt, artifact) = (&account["receipt"], &account["artifact"]);
    let accepted = text(receipt, "outcome") == "accepted";
    let tone = if accepted { Tone::Good } else { Tone::Bad };
    let word = match receipt["status"].as_u64() {
        Some(status) => format!("{status} {}", text(receipt, "outcome")),
        None => text(receipt, "outcome"),
    };
    let mut shown = format!("endpoint {}  {}\n", text(account, "endpoint"), out.paint(tone, &word));
    let payload = format!(
        "{}, {}, {}",
        short(&text(artifact, "digest")),
        bytes(count(artifact, "bytes")),
        text(artifact, "media_type")
    );
    let request = some_text(account, "url").map(|url| format!("{} {url}", text(account, "method")));
    shown.push_str(&block(&[
        ("request", request.unwrap_or_default()),
        ("test", text(account, "test_id")),
        ("artifact", payload),
        ("body", text(account, "body")),
        ("sent", sent(receipt)),
        ("address", text(receipt, "address")),
        ("took", took(&receipt["timings_ms"])),
        ("failure", text(receipt, "failure")),
    ]));
    if let Some(hint) = hint(receipt) {
        _ = writeln!(shown, "  hint: {hint}");
    }
    shown.push_str(&answer(&account["answer"]));
    shown
}

fn sent(receipt: &Value) -> String {
    receipt["bytes_sent"].as_u64().map(bytes).unwrap_or_default()
}

fn took(timings: &Value) -> String {
    let told = |name: &str| {
        let spent = i64::try_from(timings[name].as_u64()?).unwrap_or(i64::MAX);
        Some(format!("{name} {}", duration(SignedDuration::from_millis(spent))))
    };
    PHASES.iter().chain(&["total"]).filter_map(|name| told(name)).collect::<Vec<_>>().join(", ")
}

/// The beginning of the answer's body.
fn answer(answer: &Value) -> String {
    let Some(body) = answer["body"].as_str() else { return String::new() };
    if answer["encoding"] != "utf-8" {
        return format!(
            "\nanswer, in base64\n  {}\n",
            clean(&body.chars().take(ANSWER_CHARS_MAX).collect::<String>())
        );
    }
    let beginning: String = body.chars().take(ANSWER_CHARS_MAX).collect();
    let mut shown = "\nanswer\n".to_owned();
    for line in clean_lines(&beginning).lines().take(ANSWER_LINES_MAX) {
        _ = writeln!(shown, "  {line}");
    }
    if beginning.len() < body.len() || body.lines().count() > ANSWER_LINES_MAX || answer["end"] != "complete"
    {
        shown.push_str("  …\n");
    }
    shown
}

/// What to do about a failure, by its cause.
fn hint(receipt: &Value) -> Option<&'static str> {
    let cause = &receipt["cause"];
    let kind = cause["kind"].as_str()?;
    Some(match (kind, cause["failure"]["kind"].as_str()) {
        ("status", _) => return of_status(cause["status"].as_u64()?),
        ("missing_secret", _) => "set it in `.env`",
        ("unusable_secret", _) => "correct it in `.env`; a signing key is `whsec_` and base64",
        ("request", _) => {
            "a test renders templates from an initiation `test` whose metadata is `{\"test\": true}`"
        }
        ("http", Some("resolve")) => "the name in `url`, or the resolver of this machine",
        ("http", Some("refused")) => "if it is meant, list its network in `addresses.allow`",
        ("http", Some("connect")) => "is the receiver running, and does a firewall let this machine through?",
        ("http", Some("tls")) => "its certificate, or `ca-certificates` of this machine; see `orbit doctor`",
        ("http", Some("timed_out")) => "the receiver is slow, or `timeout` is too short",
        ("http", Some("malformed" | "closed" | "head_too_large")) => {
            "is it an HTTP server? `http://` and `https://` are often mixed up"
        }
        _ => return None,
    })
}

fn of_status(status: u64) -> Option<&'static str> {
    Some(match status {
        300..=399 => "write the address that it moved to into `url`; redirects are not followed",
        401 | 403 => "`auth` or `sign`, or the secret in `.env`",
        404 | 405 => "the path in `url`, or `method`",
        410 => "a delivery would disable the endpoint; a test does not",
        413 => "the receiver's limit; `body: raw` is the smallest form",
        415 | 422 => "`body`, or the media type; `--input FILE --media-type TYPE` sends the real thing",
        429 => "`rate`: the receiver wants fewer requests",
        500..=599 => "the receiver's own log",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::terminal;
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_shown_as_far_as_it_is_short_and_never_moves_the_cursor() {
        let check = |value: Value, expected: &str| assert_eq!(answer(&value), expected);
        let whole = |body: &str| json!({ "encoding": "utf-8", "body": body, "end": "complete" });
        check(Value::Null, "");
        check(whole("ok"), "\nanswer\n  ok\n");
        check(whole("a\u{1b}[2Jb"), "\nanswer\n  ab\n");
        check(json!({ "encoding": "utf-8", "body": "cut", "end": "truncated" }), "\nanswer\n  cut\n  …\n");
        check(
            json!({ "encoding": "base64", "body": "//4=", "end": "complete" }),
            "\nanswer, in base64\n  //4=\n",
        );
        let long = answer(&whole(&"line\n".repeat(50)));
        assert_eq!(long.lines().count(), ANSWER_LINES_MAX + 3);
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let check = |cause: Value, expected: Option<&str>| {
            let receipt = json!({ "outcome": "failed", "cause": cause });
            let found = hint(&receipt);
            assert_eq!(found.is_some(), expected.is_some(), "{receipt}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{found:?}");
            endpoint_test(&json!({ "receipt": receipt }), &terminal(None));
        };
        check(json!({ "kind": "status", "status": 401 }), Some("`auth`"));
        check(json!({ "kind": "status", "status": 302 }), Some("redirects"));
        check(json!({ "kind": "status", "status": 418 }), None);
        check(json!({ "kind": "missing_secret" }), Some(".env"));
        check(json!({ "kind": "http", "failure": { "kind": "refused" } }), Some("addresses.allow"));
        check(json!({ "kind": "http", "failure": { "kind": "cut" } }), None);
        check(json!({ "kind": "cut" }), None);
        check(Value::Null, None);
    }
}
