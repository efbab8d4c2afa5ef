//! What goes over the wire: the bodies in which artifacts are sent, read by a receiver that knows only the documents, and tests of endpoints.

use insta::assert_snapshot;
use serde_json::Value;

use crate::home::Home;
use crate::receiver::{Receiver, Reply, Request};
use crate::text::{told, told_as};

const KEYS: [&str; 2] = [
    "whsec_bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleQ==",
    "whsec_b2xkLWtleS1vbGQta2V5LW9sZC1rZXktb2xkLWtleQ==",
];
const SIGN: &str = "sign: { standard_webhooks: [\"${NEW}\", \"${OLD}\"] }\n";

/// A home whose artifact is owed to the receiver in this form.
fn home_with(receiver: &Receiver, more: &str) -> Home {
    let home = Home::lab(5);
    home.processor("three", "cat > /dev/null; printf '\\000\\303\\277--\\r\\n\"}end'", "");
    home.endpoint("archive", &receiver.url("/in/{{ initiation.label }}"), more);
    home.profile("plain", 1, "distribution_map: [{ endpoint: archive }]\n");
    home.secret("NEW", KEYS[0]);
    home.secret("OLD", KEYS[1]);
    home
}

/// The reference signs nothing but text; in it is what could end a part, a line or a string.
const ARTIFACT: &[u8] = b"\x00\xc3\xbf--\r\n\"}end";

/// As a receiver would check it: every signature and the digest, over the body as it came.
fn check_proofs(request: &Request) {
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, request.headers[name].parse().unwrap());
    }
    assert_eq!(request.headers["webhook-signature"].split(' ').count(), KEYS.len());
    for key in KEYS {
        let oracle = standardwebhooks::Webhook::new(key).unwrap();
        let at = request.headers["webhook-timestamp"].parse().unwrap();
        let signature = oracle.sign(&request.headers["webhook-id"], at, &request.body).unwrap();
        assert!(request.headers["webhook-signature"].split(' ').any(|one| one == signature), "{key}");
    }
    let digest = orbit_core::digest::Digest::of(&request.body);
    assert_eq!(request.headers["content-digest"], format!("sha-256=:{}:", base64(&digest.0)));
    assert_eq!(request.headers["content-length"], request.body.len().to_string());
    assert!(!request.headers.contains_key("transfer-encoding"));
}

/// RFC 4648, section 4, written down once more.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - three.len()));
        let digit = |index: usize| {
            if index > three.len() { '=' } else { char::from(DIGITS[bits >> (18 - 6 * index) & 63]) }
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn check_metadata(metadata: &Value, run: &Value) {
    let delivery = &run["deliveries"][0];
    let expected = serde_json::json!({ "id": delivery["delivery_id"], "endpoint": "archive" });
    assert_eq!(metadata["delivery"], expected);
    assert_eq!(metadata["run"]["run_id"], run["run_id"]);
    assert_eq!(metadata["cycle"]["id"], run["cycle_id"]);
    assert_eq!(
        (&metadata["profile"]["label"], &metadata["profile"]["id"]),
        (&"plain".into(), &run["profile_id"])
    );
    assert_eq!(metadata["initiation"]["label"], "item-0");
    assert_eq!(metadata["namespace"], "lab");
    let artifact = serde_json::json!({
        "bytes": ARTIFACT.len(), "digest": orbit_core::digest::Digest::of(ARTIFACT), "media_type": "text/plain",
    });
    assert_eq!(metadata["artifact"], artifact);
}

/// Fails once, so that two attempts can be compared.
fn failing_once() -> Receiver {
    Receiver::start(|_, before| Reply::Status(if before == 0 { 503 } else { 201 }, "", ""))
}

fn sent_twice(body: &str) -> (Request, Value) {
    let receiver = failing_once();
    let home = home_with(&receiver, &format!("body: {body}\n{SIGN}"));
    let run = home.json(&["run", "--wait", "60s"], 0)["runs"][0].clone();
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    requests.iter().for_each(check_proofs);
    // One key, one body: a receiver that remembers what it took can compare.
    for name in ["idempotency-key", "content-digest", "content-type"] {
        assert_eq!(requests[0].headers[name], requests[1].headers[name], "{name}");
    }
    assert_eq!(requests[0].body, requests[1].body);
    (requests[1].clone(), run)
}

#[test]
fn raw_is_the_bytes_alone() {
    let (request, _) = sent_twice("raw");
    assert_eq!((request.headers["content-type"].as_str(), &request.body[..]), ("text/plain", ARTIFACT));
}

#[test]
fn json_holds_metadata_and_the_artifact_in_base64() {
    let (request, run) = sent_twice("json");
    assert_eq!(request.headers["content-type"], "application/json");
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 2);
    check_metadata(&body["metadata"], &run);
    assert_eq!(body["artifact"], base64(ARTIFACT));
}

#[test]
fn multipart_holds_metadata_and_the_artifact_as_it_is() {
    let (request, run) = sent_twice("multipart");
    let boundary = request.headers["content-type"].strip_prefix("multipart/form-data; boundary=").unwrap();
    let parts = parts(&request.body, boundary);
    assert_eq!(parts.len(), 2);
    assert_eq!(
        parts[0].0,
        ["Content-Disposition: form-data; name=\"metadata\"", "Content-Type: application/json"]
    );
    check_metadata(&serde_json::from_slice(parts[0].1).unwrap(), &run);
    let disposition = "Content-Disposition: form-data; name=\"artifact\"; filename=\"artifact\"";
    assert_eq!(parts[1].0, [disposition, "Content-Type: text/plain"]);
    assert_eq!(parts[1].1, ARTIFACT);
}

/// The parts of a form (RFC 2046, section 5.1.1): the header lines and the content of each.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<(Vec<&'a str>, &'a [u8])> {
    let find = |within: &[u8], what: &[u8]| within.windows(what.len()).position(|part| part == what);
    let (delimiter, mut parts) = (format!("\r\n--{boundary}"), Vec::new());
    let mut rest = body.strip_prefix(&delimiter.as_bytes()[2..]).unwrap();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let head = find(part, b"\r\n\r\n").unwrap();
        let content = &part[head + 4..];
        let end = find(content, delimiter.as_bytes()).unwrap();
        parts.push((std::str::from_utf8(&part[..head]).unwrap().lines().collect(), &content[..end]));
        rest = &content[end + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n");
    parts
}

/// A home whose endpoint needs a secret, and renders what a run would give it.
fn tested(receiver: &Receiver) -> Home {
    let home = home_with(
        receiver,
        &format!(
            "{SIGN}auth: {{ bearer: \"${{TOKEN}}\" }}\nheaders: {{ X-Label: \"{{{{ profile.label }}}}\" }}\n"
        ),
    );
    home.secret("TOKEN", "token-of-the-receiver");
    home
}

#[test]
fn a_test_is_a_delivery_that_is_owed_to_nobody() {
    let receiver = Receiver::accepting();
    let home = tested(&receiver);
    home.write("thing.bin", "any bytes");
    let check = |args: &[&str], body: &[u8], media_type: &str| {
        let account = home.json(args, 0);
        let request = receiver.requests().pop().unwrap();
        check_proofs(&request);
        let of = |name: &str| request.headers[name].as_str();
        assert_eq!((of("x-orbit-test"), of("authorization")), ("true", "Bearer token-of-the-receiver"));
        assert_eq!((of("x-label"), of("content-type"), &request.body[..]), ("plain", media_type, body));
        assert_eq!((request.path.as_str(), request.method.as_str()), ("/in/test", "POST"));
        assert_eq!(of("idempotency-key"), account["test_id"]);
        assert_eq!(account["receipt"]["status"], 201);
        assert_eq!(account["answer"]["body"], "{\"stored\":true}");
        account["test_id"].clone()
    };
    let small = b"{\"test\":true}\n";
    let file = home.path("thing.bin");
    let with_input = ["endpoints", "test", "archive", "--input", file.to_str().unwrap()];
    let first = check(&["endpoints", "test", "archive"], small, "application/json");
    check(&with_input, b"any bytes", "application/octet-stream");
    check(&[&with_input[..], &["--media-type", "text/plain"]].concat(), b"any bytes", "text/plain");
    let serving = home.serve();
    let last = check(&["endpoints", "test", "archive"], small, "application/json");
    assert_ne!(first, last, "every test has a key of its own");
    assert_eq!(home.json(&["deliveries", "list"], 0)["items"], serde_json::json!([]));
    assert_eq!(serving.stop(), 0);
    let records = home.records();
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).count();
    assert_eq!((of("test_started"), of("endpoint_tested"), of("attempt_started")), (4, 4, 0));
    let remembered: String = records.iter().map(Value::to_string).collect();
    assert!(!remembered.contains("token-of-the-receiver"));
}

#[test]
fn a_test_changes_nothing_that_is_owed() {
    let receiver = Receiver::start(|request, _| {
        Reply::Status(if request.headers.contains_key("x-orbit-test") { 410 } else { 200 }, "", "")
    });
    let home = tested(&receiver);
    let account = home.json(&["endpoints", "test", "archive"], 1);
    assert_eq!(account["receipt"]["cause"], serde_json::json!({ "kind": "status", "status": 410 }));
    // A delivery that is answered so disables the endpoint; after a test it goes on.
    assert_eq!(home.json(&["run"], 0)["runs"][0]["outcome"], "succeeded");
    assert!(!home.kinds().contains(&"endpoint_disabled".to_owned()));
}

#[test]
fn tests_of_endpoints() {
    let receiver = Receiver::start(|request, _| match request.path.as_str() {
        "/in/test" => Reply::Status(201, "", "{\"stored\":true}"),
        "/long" => {
            Reply::Status(200, "", concat!("one\ntwo\n\x1b[31mthree\n", "4\n5\n6\n7\n8\n9\n10\n11\n12\n"))
        }
        _ => Reply::Status(401, "", "who are you?"),
    });
    let home = tested(&receiver);
    home.endpoint("long", &receiver.url("/long"), "body: multipart\n");
    home.endpoint("strict", &receiver.url("/strict"), "");
    home.endpoint("secret", &receiver.url("/in"), "auth: { bearer: \"${ABSENT}\" }\n");
    home.endpoint("rendered", &receiver.url("/{{ initiation.metadata.absent }}"), "");
    home.write("namespaces/lab/endpoints/private.yaml", "name: private\nurl: \"http://2130706433:1/\"\n");
    let test = |name: &str| told(&home, &["endpoints", "test", name]);
    let names = ["archive", "long", "strict", "secret", "rendered", "private", "archiv"];
    let mut shown: Vec<_> = names.into_iter().map(test).collect();
    let nowhere = ["endpoints", "test", "archive", "--input", "nowhere.bin"];
    shown.push(told(&home, &nowhere));
    shown.push(told(&home, &["halt"]));
    shown.push(test("archive"));
    assert_snapshot!("endpoint_tests", shown.join("\n"));
    let help = home.run(&["endpoints", "test", "--help"]);
    assert_snapshot!("endpoint_test_help", told_as(&home, &["endpoints", "test", "--help"], &help));
}
