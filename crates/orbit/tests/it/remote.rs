//! Cycles of the real binary whose second tier, or whose source, is a service on loopback.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::home::{Home, until};
use crate::receiver::{Receiver, Reply};

const LATER: &str = "location: /jobs/7\r\n";

/// A home whose processor `two` is this service; `more` is further YAML.
fn home_with(service: &Receiver, more: &str) -> Home {
    let home = Home::lab(5);
    let text = format!(
        "name: two\nkind: http\nurl: \"{}\"\naddresses: {{ allow: [\"127.0.0.0/8\"] }}\n\
         output: {{ extension: txt, media_type: text/plain }}\n{more}",
        service.url("/v1/{{ initiation.label }}")
    );
    home.write("namespaces/lab/processors/two.yaml", &text);
    home
}

/// Runs one cycle and expects this exit code; the run.
fn cycle(home: &Home, code: i32) -> Value {
    home.json(&["run", "--wait", "60s"], code)["runs"][0].clone()
}

fn record(home: &Home, kind: &str, step: &str) -> Value {
    let records = home.records();
    let found = records.iter().rev().find(|record| record["kind"] == kind && record["body"]["step"] == step);
    found.unwrap_or_else(|| panic!("no {kind} of {step} in {records:?}"))["body"].clone()
}

fn output(home: &Home, run: &Value) -> String {
    let digest = run["steps"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap().to_owned();
    home.run(&["artifacts", "get", &digest]).stdout
}

#[test]
fn a_service_takes_the_place_of_a_program() {
    let service = Receiver::start(|_, _| Reply::Status(200, "", "from the service\n"));
    let home = home_with(&service, "auth: { bearer: \"${TOKEN}\" }\n");
    home.secret("TOKEN", "token-of-the-service");
    let run = cycle(&home, 0);
    assert_eq!(output(&home, &run), "from the service\nthree\n");
    let requests = service.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/item-0"));
    assert_eq!(request.headers["authorization"], "Bearer token-of-the-service");
    assert_eq!(request.headers["content-type"], "text/plain");
    assert!(request.body.ends_with(b"\none\n"), "{:?}", String::from_utf8_lossy(&request.body));
    let started = record(&home, "step_started", "tier2");
    assert_eq!(request.headers["idempotency-key"], started["idempotency_key"].as_str().unwrap());
    let trace = run["run_id"].as_str().unwrap().replace('-', "");
    assert!(request.headers["traceparent"].contains(&trace));
    let told = record(&home, "step_succeeded", "tier2");
    assert_eq!(told["http"]["status"], 200);
    assert_eq!(told["http"]["bytes_sent"], request.body.len());
    assert!(told["http"]["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    let remembered: String = home.records().iter().map(Value::to_string).collect();
    assert!(!remembered.contains("token-of-the-service"), "a record holds the secret");
}

#[test]
fn a_service_that_works_on_is_asked() {
    let service = Receiver::start(|request, before| match (request.method.as_str(), before) {
        ("PUT", _) | ("GET", ..3) => Reply::Status(202, LATER, ""),
        _ => Reply::Status(200, "", "done\n"),
    });
    let home = home_with(&service, "method: PUT\ncompletion: poll\npoll: { every: 100ms }\ncontext: part\n");
    let run = cycle(&home, 0);
    assert_eq!(output(&home, &run), "done\nthree\n");
    let requests = service.requests();
    let lines: Vec<_> =
        requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    assert_eq!(lines, ["PUT /v1/item-0", "GET /jobs/7", "GET /jobs/7", "GET /jobs/7"]);
    assert!(requests[0].headers["content-type"].starts_with("multipart/form-data; boundary="));
    assert!(String::from_utf8_lossy(&requests[0].body).contains("name=\"context\""));
    assert_eq!(record(&home, "step_succeeded", "tier2")["http"]["polls"], 3);
}

#[test]
fn a_service_that_fails_is_tried_again_with_the_same_key() {
    let service = Receiver::start(|_, before| match before {
        ..2 => Reply::Status(500, "", "no room for token-of-the-service\n"),
        _ => Reply::Status(200, "", "done\n"),
    });
    let more =
        "auth: { bearer: \"${TOKEN}\" }\nretry: { attempts: 3, backoff: { initial: 10ms, max: 20ms } }\n";
    let home = home_with(&service, more);
    home.secret("TOKEN", "token-of-the-service");
    let run = cycle(&home, 0);
    assert_eq!(output(&home, &run), "done\nthree\n");
    let requests = service.requests();
    assert_eq!(requests.len(), 3);
    let of =
        |name: &str| requests.iter().map(|request| request.headers[name].clone()).collect::<BTreeSet<_>>();
    assert_eq!(of("idempotency-key").len(), 1);
    assert_eq!(of("traceparent").len(), 3, "each attempt is a span of its own");
    let failed = record(&home, "step_failed", "tier2");
    let expected = json!({"failure": "remote", "remote": {"kind": "status", "status": 500}});
    assert_eq!((&failed["failure"], failed["http"]["status"].as_u64()), (&expected, Some(500)));
    let said = record(&home, "step_output", "tier2");
    assert_eq!(said["answer"]["body"], "no room for [redacted]\n");
    let remembered: String = home.records().iter().map(Value::to_string).collect();
    assert!(!remembered.contains("token-of-the-service"), "a record holds the secret");
}

#[test]
fn what_would_be_the_same_again_fails_at_once() {
    let check = |more: &str, reply: fn() -> Reply, expected: &str, shown: &str| {
        let service = Receiver::start(move |_, _| reply());
        let home = home_with(&service, more);
        let run = cycle(&home, 1);
        assert_eq!((service.requests().len(), &run["outcome"]), (1, &json!("failed")), "{run}");
        let failed = record(&home, "step_failed", "tier2");
        assert_eq!(failed["failure"]["remote"]["kind"], expected, "{failed}");
        let story = home.run(&["runs", "show", run["run_id"].as_str().unwrap()]).stdout;
        assert!(story.contains(shown), "{story}");
    };
    check("", || Reply::Status(404, "", "no such thing"), "status", "the service answered 404");
    check("", || Reply::Status(404, "", "no such thing"), "status", "| no such thing");
    check("", || Reply::Status(302, "location: /elsewhere\r\n", ""), "status", "302, a redirect");
    check("", || Reply::Status(202, LATER, ""), "not_finished", "`completion: sync`");
    let elsewhere = || Reply::Status(202, "location: http://127.0.0.2:1/jobs/7\r\n", "");
    check("completion: poll\n", elsewhere, "location_refused", "it leads to `http://127.0.0.2:1`");
}

#[test]
fn a_service_on_this_machine_must_be_allowed() {
    let service = Receiver::accepting();
    let home = home_with(&service, "retry: { attempts: 1 }\n");
    let path = "namespaces/lab/processors/two.yaml";
    let text = fs::read_to_string(home.path(path)).unwrap();
    home.write(path, &text.replace("addresses: { allow: [\"127.0.0.0/8\"] }\n", ""));
    cycle(&home, 1);
    let failed = record(&home, "step_failed", "tier2");
    assert_eq!(failed["failure"]["remote"]["failure"]["kind"], "refused", "{failed}");
    assert!(service.requests().is_empty());
}

#[test]
fn a_halt_ends_the_wait_for_a_service() {
    let service = Receiver::start(|_, _| Reply::Status(202, LATER, ""));
    let home = home_with(&service, "completion: poll\npoll: { every: 1h }\nlimits: { wall: 2h }\n");
    let serving = home.serve();
    assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    until("the service to be asked", || service.requests().len() == 1);
    home.json(&["halt", "--reason", "enough"], 0);
    until("the step to be interrupted", || home.kinds().iter().any(|kind| kind == "step_interrupted"));
    assert_eq!(service.requests().len(), 1);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn candidates_from_a_service() {
    let list = "{\"label\": \"one\"}\nnonsense\n{\"label\": \"two\"}\n";
    let service = Receiver::start(move |request, _| match request.path.as_str() {
        "/list" => Reply::Status(200, "", list),
        "/table" => Reply::Status(200, "content-type: text/csv\r\n", "label,mood\nthree,calm\n"),
        "/cut" => Reply::Large(2000),
        _ => Reply::Status(503, "retry-after: 5\r\n", "later"),
    });
    let home = Home::lab(1);
    let source = |path: &str, more: &str| {
        let text = format!(
            "name: words\nkind: http\nurl: \"{}\"\nauth: {{ header: {{ name: X-Key, value: \"${{KEY}}\" }} }}\n\
             addresses: {{ allow: [\"127.0.0.0/8\"] }}\n{more}",
            service.url(path)
        );
        home.write("namespaces/lab/sources/words.yaml", &text);
    };
    home.secret("KEY", "key-of-the-list");
    source("/list", "");
    assert_eq!(home.json(&["run"], 0)["cycle"]["initiation"], "one");
    assert_eq!(home.json(&["run"], 0)["cycle"]["initiation"], "two");
    assert_eq!(home.json(&["run"], 5)["cycle"]["outcome"], "skipped");
    let request = service.requests()[0].clone();
    assert_eq!((request.method.as_str(), request.headers["x-key"].as_str()), ("GET", "key-of-the-list"));
    source("/table", "format: csv\n");
    home.activate();
    assert_eq!(home.json(&["run"], 0)["cycle"]["initiation"], "three");
    let records = home.records();
    let selected = records.iter().find(|record| record["kind"] == "initiation_selected").unwrap();
    let report = selected["body"].to_string();
    for part in [r#""kind":"http""#, r#""status":200"#, r#""digest":"sha256:"#, r#""malformed":1"#] {
        assert!(report.contains(part), "no {part} in {report}");
    }
    assert!(!records.iter().any(|record| record.to_string().contains("key-of-the-list")));

    let fails = |path: &str, more: &str, expected: &str| {
        source(path, more);
        home.activate();
        home.json(&["run"], 1);
        let records = home.records();
        let failed = records.iter().rev().find(|record| record["kind"] == "selection_failed").unwrap();
        assert!(failed.to_string().contains(expected), "{failed}");
    };
    fails("/busy", "", "the service answered 503: it failed itself");
    fails("/cut", "limits: { output: 1 KiB }\n", "longer than `limits.output`, 1 KiB");
}

#[test]
fn large_bodies_pass_in_constant_memory_both_ways() {
    const BYTES: u64 = 96 << 20;
    let service = Receiver::start(|_, _| Reply::Large(BYTES));
    let home = home_with(&service, "timeout: 2m\n");
    home.processor("one", &format!("head -c {BYTES} /dev/zero"), "");
    home.processor("three", "wc -c", "");
    let serving = home.serve();
    let memory = |field: &str| -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", serving.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap().to_owned();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    let before = memory("VmRSS:");
    let run = cycle(&home, 0);
    assert_eq!(output(&home, &run).trim(), BYTES.to_string());
    assert_eq!(service.requests()[0].body.len() as u64, BYTES);
    let above = memory("VmHWM:").saturating_sub(before);
    assert!(above < BYTES / 4, "{above} bytes above the {before} of an idle node");
}
