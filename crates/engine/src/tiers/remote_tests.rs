//! Services that answer well, badly, late, elsewhere or not at all, in a network in memory with a clock that jumps.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use orbit_core::config::{NamespaceName, Processor as Document, SecretRef};
use orbit_core::run::Step;
use orbit_core::tiers::Failure;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::processor::{Assignment, Attempted};
use super::remote::Remote;
use super::work::Work;
use crate::clock::Clock;
use crate::http::tests::{Handler, Net, handler, read_request};
use crate::secrets::Secrets;

const INPUT: &[u8] = b"any \x00 input";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\noutput";
const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nlocation: /jobs/7\r\ncontent-length: 0\r\n\r\n";
const WORKING: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n";

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn random(&self) -> [u8; 32] {
        [7; 32]
    }
}

impl Secrets for Fixed {
    fn get(&self, _: &NamespaceName, secret: &SecretRef) -> Option<String> {
        match secret.name() {
            "TOKEN" => Some("s3cret".to_owned()),
            "BROKEN" => Some("s3cret\n".to_owned()),
            _ => None,
        }
    }
}

/// An attempt that is over, and what there is to see of it.
struct Tried {
    attempted: Attempted,
    output: Option<Vec<u8>>,
    /// Heads and bodies, in the order in which they came.
    received: Vec<(String, Vec<u8>)>,
    dialed: Vec<String>,
    took: Duration,
}

type Received = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Answers the n-th request with the n-th text, of which the last repeats; an empty one closes the connection.
fn serving(answers: &[&str]) -> (Received, Handler) {
    let (received, answers) =
        (Received::default(), Arc::new(answers.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()));
    let notes = Arc::clone(&received);
    let serve = handler(move |mut stream| {
        let (notes, answers) = (Arc::clone(&notes), Arc::clone(&answers));
        async move {
            let request = read_request(&mut stream).await;
            let number = {
                let mut notes = notes.lock().unwrap();
                notes.push(request);
                notes.len() - 1
            };
            let answer = &answers[number.min(answers.len() - 1)];
            // The client may have had enough before the end.
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (received, serve)
}

fn document(more: &Value) -> Value {
    let mut document =
        json!({"kind": "http", "name": "remote", "url": "http://service.test/v1/{{ initiation.label }}"});
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    document
}

fn job(folder: &std::path::Path, wall: Duration, reference: bool) -> Assignment {
    let settings = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let mut step = json!({"step": "tier3", "processor": {"name": "remote", "settings": settings}});
    if reference {
        step["reference"] = json!("backdrop");
    }
    let request = json!({
        "namespace": "studio", "snapshot": settings,
        "cycle": {"id": Uuid::from_u128(3), "trigger": "schedule", "nominal": "2026-01-01T00:00:00Z"},
        "run": {"run_id": Uuid::from_u128(1)}, "run_profile": {"id": Uuid::nil(), "label": "daily"},
        "profile": {"id": Uuid::from_u128(4), "label": "explainer", "style_vector": {}},
        "initiation": {"id": Uuid::nil(), "label": "a/b", "weight": 1.0, "metadata": {"long": "x".repeat(9000), "line": "a\nb"}},
        "instruction": {"instruction_id": Uuid::nil(), "context_blob": "", "constraints": {}, "priority": 0.5},
        "steps": [step], "assets": {}, "targets": [], "value_tags": [], "deadline": "2h",
    });
    let work = Work::create(folder, Uuid::from_u128(1), Step::Tier3, 2, "bin").unwrap();
    std::fs::write(work.input(), INPUT).unwrap();
    std::fs::write(work.reference(), b"reference").unwrap();
    Assignment {
        request: Arc::new(serde_json::from_value(request).unwrap()),
        step: Step::Tier3,
        attempt: 2,
        idempotency_key: Uuid::from_u128(5),
        wall,
        work: Arc::new(work),
    }
}

fn remote(more: &Value, net: &Arc<Net>) -> Remote {
    let Ok(Document::Http(document)) = serde_json::from_value(document(more)) else { panic!("{more}") };
    Remote {
        document,
        input_media_type: "text/plain".to_owned(),
        namespace: NamespaceName::parse("studio").unwrap(),
        secrets: Arc::new(Fixed),
        client: net.client(),
        clock: Arc::new(Fixed),
    }
}

async fn tried(
    more: &Value,
    names: &[&[&str]],
    (received, serve): (Received, Handler),
    job: &Assignment,
    cancel: &CancellationToken,
) -> Tried {
    let net = Net::with_names(names, &[], serve);
    let started = Instant::now();
    let attempted = remote(more, &net).process(job, cancel).await;
    let took = started.elapsed();
    let output = std::fs::read(job.work.output()).ok();
    let received = received.lock().unwrap().clone();
    Tried { attempted, output, received, dialed: net.dialed(), took }
}

/// An attempt with ten minutes against a service at one public address.
async fn attempt(more: Value, answers: &[&str]) -> Tried {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), Duration::from_mins(10), false);
    tried(&more, &[&["93.184.216.34"]], serving(answers), &job, &CancellationToken::new()).await
}

fn has(head: &str, line: &str) -> bool {
    head.lines().any(|found| found.eq_ignore_ascii_case(line))
}

#[tokio::test(start_paused = true)]
async fn the_answer_is_the_output() {
    let tried = attempt(
        json!({"auth": {"bearer": "${TOKEN}"}, "headers": {"X-Label": "{{ profile.label }}"}}),
        &[OK],
    )
    .await;
    assert_eq!(tried.attempted.result, Ok(()));
    assert_eq!(tried.output.as_deref(), Some(&b"output"[..]));
    let [(head, body)] = &tried.received[..] else { panic!("{:?}", tried.received) };
    assert_eq!(body, INPUT);
    let trace = orbit_core::id::traceparent(Uuid::from_u128(1), Uuid::from_u128(5), 2);
    for line in [
        "POST /v1/a%2Fb HTTP/1.1",
        "authorization: Bearer s3cret",
        "content-length: 11",
        "content-type: text/plain",
        "x-label: explainer",
        &format!("idempotency-key: {}", Uuid::from_u128(5)),
        &format!("traceparent: {trace}"),
        concat!("user-agent: orbit/", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(has(head, line), "no `{line}` in {head}");
    }
    assert!(!head.to_ascii_lowercase().contains("x-orbit-context"), "{head}");
    let told = &tried.attempted.facts["http"];
    assert_eq!(
        (&told["status"], &told["bytes_sent"], &told["body_bytes"]),
        (&json!(200), &json!(11), &json!(6))
    );
    assert_eq!((&told["address"], told.get("polls")), (&json!("93.184.216.34:80"), None));
    assert!(told["timings_ms"]["total"].is_u64());
}

#[tokio::test(start_paused = true)]
async fn the_context_comes_along() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), Duration::from_mins(1), true);
    let send = async |context: &str| {
        let more = json!({"context": context});
        tried(&more, &[&["93.184.216.34"]], serving(&[OK]), &job, &CancellationToken::new()).await
    };
    let part = send("part").await;
    assert_eq!(part.attempted.result, Ok(()));
    let (head, body) = &part.received[0];
    let boundary = format!("orbit-{}", "07".repeat(16));
    assert!(has(head, &format!("content-type: multipart/form-data; boundary={boundary}")), "{head}");
    let body = String::from_utf8(body.clone()).unwrap();
    let parts: Vec<_> = body.split(&format!("--{boundary}")).collect();
    assert_eq!((parts.len(), parts[0], parts[4]), (5, "", "--\r\n"));
    let context = job.request.context_line();
    assert!(parts[1].contains("name=\"context\"\r\nContent-Type: application/json\r\n\r\n{"), "{}", parts[1]);
    assert!(parts[1].ends_with(&format!("\r\n\r\n{context}\r\n")));
    assert!(parts[2].contains(
        "name=\"input\"; filename=\"input\"\r\nContent-Type: text/plain\r\n\r\nany \u{0} input\r\n"
    ));
    assert!(parts[3].contains("name=\"reference\"") && parts[3].ends_with("\r\n\r\nreference\r\n"));

    std::fs::remove_file(job.work.output()).unwrap();
    let header = send("header").await;
    let failure = json!(header.attempted.result.unwrap_err());
    let bytes = STANDARD.encode(&context).len();
    assert_eq!(failure["remote"], json!({"kind": "context_too_large", "bytes": bytes}));
    assert!(header.received.is_empty());
    let mut short = job.clone();
    let mut request = (*short.request).clone();
    request.initiation.metadata.clear();
    short.request = Arc::new(request);
    let more = json!({"context": "header"});
    let header = tried(&more, &[&["93.184.216.34"]], serving(&[OK]), &short, &CancellationToken::new()).await;
    let line = format!("x-orbit-context: {}", STANDARD.encode(short.request.context_line()));
    assert!(header.received[0].0.lines().any(|found| found == line), "{}", header.received[0].0);
    assert_eq!(header.received[0].1, INPUT);
}

fn poll() -> Value {
    json!({"completion": "poll", "auth": {"bearer": "${TOKEN}"}, "method": "PUT"})
}

#[tokio::test(start_paused = true)]
async fn a_service_is_asked_until_it_has_finished() {
    let moved = "HTTP/1.1 202 Accepted\r\nlocation: http://service.test/jobs/8\r\ncontent-length: 0\r\n\r\n";
    let tried = attempt(poll(), &[ACCEPTED, WORKING, moved, OK]).await;
    assert_eq!(tried.attempted.result, Ok(()));
    assert_eq!(tried.output.as_deref(), Some(&b"output"[..]));
    let lines: Vec<_> = tried.received.iter().map(|(head, _)| head.lines().next().unwrap()).collect();
    let expected =
        ["PUT /v1/a%2Fb HTTP/1.1", "GET /jobs/7 HTTP/1.1", "GET /jobs/7 HTTP/1.1", "GET /jobs/8 HTTP/1.1"];
    assert_eq!(lines, expected);
    for (head, body) in &tried.received[1..] {
        assert!(has(head, "authorization: Bearer s3cret") && has(head, "host: service.test"), "{head}");
        assert!(!head.to_ascii_lowercase().contains("content-") && body.is_empty(), "{head}");
    }
    assert_eq!(tried.took, Duration::from_secs(6), "the document's wait before each question");
    let told = &tried.attempted.facts["http"];
    assert_eq!(
        (&told["polls"], &told["status"], &told["first"]["status"]),
        (&json!(3), &json!(200), &json!(202))
    );
    assert_eq!(attempt(poll(), &[OK]).await.output.as_deref(), Some(&b"output"[..]), "finished at once");
}

#[tokio::test(start_paused = true)]
async fn the_service_says_how_long_to_wait() {
    let check = async |retry_after: &str, every: &str, expected: Duration| {
        let first = format!(
            "HTTP/1.1 202 Accepted\r\nlocation: /j\r\nretry-after: {retry_after}\r\ncontent-length: 0\r\n\r\n"
        );
        let home = tempfile::tempdir().unwrap();
        let job = job(home.path(), Duration::from_hours(3), false);
        let more = json!({"completion": "poll", "poll": {"every": every}});
        let names: &[&[&str]] = &[&["93.184.216.34"]];
        let tried = tried(&more, names, serving(&[&first, OK]), &job, &CancellationToken::new()).await;
        assert_eq!((tried.attempted.result, tried.took), (Ok(()), expected), "{retry_after}");
    };
    check("30", "2s", Duration::from_secs(30)).await;
    check("1", "2s", Duration::from_secs(2)).await;
    check("Thu, 01 Jan 1970 00:01:00 GMT", "2s", Duration::from_mins(1)).await;
    check("soon", "2s", Duration::from_secs(2)).await;
    check("999999999", "2s", Duration::from_hours(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_not_answered_is_asked_again_a_few_times() {
    let tried =
        attempt(poll(), &[ACCEPTED, BUSY, "", "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", OK]).await;
    assert_eq!((tried.attempted.result, tried.received.len()), (Ok(()), 5));
    assert_eq!(tried.took, Duration::from_secs(2 + 30 + 2 + 2));
    let tried = attempt(poll(), &[ACCEPTED, BUSY]).await;
    assert_eq!(tried.received.len(), 7, "once and five times again");
    let failure = json!(tried.attempted.result.unwrap_err());
    assert_eq!(failure["remote"], json!({"kind": "status", "status": 503, "retry_after_seconds": 30}));
    let tried = attempt(poll(), &[ACCEPTED, BUSY, BUSY, BUSY, WORKING, BUSY, BUSY, BUSY, OK]).await;
    assert_eq!(tried.attempted.result, Ok(()), "the count begins anew");
}

#[tokio::test(start_paused = true)]
async fn an_output_elsewhere_is_fetched_once() {
    let see = "HTTP/1.1 303 See Other\r\nlocation: /results/7\r\ncontent-length: 0\r\n\r\n";
    let tried = attempt(poll(), &[ACCEPTED, see, OK]).await;
    assert_eq!(tried.output.as_deref(), Some(&b"output"[..]));
    assert!(tried.received[2].0.starts_with("GET /results/7 "));
    let tried = attempt(poll(), &[ACCEPTED, see, see]).await;
    let failure = json!(tried.attempted.result.unwrap_err());
    assert_eq!(failure["remote"], json!({"kind": "status", "status": 303}));
}

#[tokio::test(start_paused = true)]
async fn credentials_stay_at_their_origin() {
    for location in
        ["http://evil.test/jobs/7", "//evil.test/", "https://service.test/jobs/7", "http://service.test:81/"]
    {
        for status in ["202 Accepted", "303 See Other"] {
            let leads = format!("HTTP/1.1 {status}\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            let answers: &[&str] =
                if status.starts_with("303") { &[ACCEPTED, &leads, OK] } else { &[&leads, OK] };
            let tried = attempt(poll(), answers).await;
            let failure = json!(tried.attempted.result.unwrap_err());
            assert_eq!(failure["remote"]["kind"], "location_refused", "{location}: {failure}");
            assert_eq!(failure["remote"]["error"]["kind"], "foreign", "{location}: {failure}");
            let requests = answers.len() - 1;
            assert_eq!((tried.received.len(), tried.dialed.len()), (requests, requests), "{location}");
            assert!(tried.dialed.iter().all(|address| address == "93.184.216.34:80"));
            assert_eq!(tried.output, None);
        }
    }
    let redirect =
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://evil.test/\r\ncontent-length: 0\r\n\r\n";
    let tried = attempt(json!({"auth": {"bearer": "${TOKEN}"}}), &[redirect, OK]).await;
    assert_eq!(json!(tried.attempted.result.unwrap_err())["remote"]["status"], 307);
    assert_eq!(tried.dialed.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_hop_is_guarded() {
    let check = async |names: &[&[&str]], allow: &[&str], dialed: &[&str], kind: &str| {
        let home = tempfile::tempdir().unwrap();
        let job = job(home.path(), Duration::from_mins(10), false);
        let more = json!({"completion": "poll", "addresses": {"allow": allow}});
        let tried = tried(&more, names, serving(&[ACCEPTED, OK]), &job, &CancellationToken::new()).await;
        let found =
            tried.attempted.result.err().map(|failure| json!(failure)["remote"]["failure"]["kind"].clone());
        assert_eq!(
            found.unwrap_or_default(),
            if kind.is_empty() { Value::Null } else { json!(kind) },
            "{names:?}"
        );
        assert_eq!(tried.dialed, dialed, "{names:?}");
    };
    check(&[&["10.0.0.1"]], &[], &[], "refused").await;
    check(&[&["169.254.169.254"]], &["10.0.0.0/8"], &[], "refused").await;
    check(&[&["10.0.0.1"]], &["10.0.0.0/8"], &["10.0.0.1:80", "10.0.0.1:80"], "").await;
    // The name changes its address between the request and the question.
    check(&[&["93.184.216.34"], &["127.0.0.1"]], &[], &["93.184.216.34:80"], "refused").await;
}

#[tokio::test(start_paused = true)]
async fn what_gives_no_output() {
    let check = async |more: Value, answers: &[&str], expected: Value| {
        let tried = attempt(more, answers).await;
        let failure = json!(tried.attempted.result.unwrap_err());
        let found = if failure["failure"] == "remote" { &failure["remote"] } else { &failure };
        assert_eq!(*found, expected, "{answers:?}");
    };
    let status = |status: u16| json!({"kind": "status", "status": status});
    check(json!({}), &["HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"], status(404)).await;
    check(json!({}), &["HTTP/1.1 206 Partial\r\ncontent-length: 1\r\n\r\nx"], status(206)).await;
    check(json!({}), &[BUSY], json!({"kind": "status", "status": 503, "retry_after_seconds": 30})).await;
    check(json!({}), &[ACCEPTED], json!({"kind": "not_finished"})).await;
    check(poll(), &[WORKING], json!({"kind": "location_missing", "status": 202})).await;
    check(poll(), &[BUSY], json!({"kind": "status", "status": 503, "retry_after_seconds": 30})).await;
    check(poll(), &["HTTP/1.1 201 Created\r\nlocation: /jobs/7\r\ncontent-length: 0\r\n\r\n"], status(201))
        .await;
    check(poll(), &[ACCEPTED, "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n"], status(410)).await;
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
    check(json!({}), &[half], json!({"kind": "broke_off", "bytes": 4})).await;
    check(poll(), &[ACCEPTED, half], json!({"kind": "broke_off", "bytes": 4})).await;
    let small = json!({"limits": {"output": "5 B"}});
    check(small, &[OK], json!({"kind": "too_large", "bytes_max": 5})).await;
    let kind = "HTTP/1.1 banana\r\n\r\n";
    let tried = attempt(json!({}), &[kind]).await;
    assert_eq!(json!(tried.attempted.result.unwrap_err())["remote"]["failure"]["kind"], "malformed");
    let missing = json!({"failure": "secret_missing", "variable": "ORBIT_SECRET_STUDIO_NONE"});
    check(json!({"auth": {"bearer": "${NONE}"}}), &[OK], missing).await;
    let tried = attempt(json!({"auth": {"bearer": "${BROKEN}"}}), &[OK]).await;
    assert_eq!(json!(tried.attempted.result.unwrap_err())["remote"]["kind"], "secret_unusable");
    for more in [
        json!({"headers": {"X-A": "{{ initiation.metadata.line }}"}}),
        json!({"url": "http://a.test/{{ nothing }}"}),
    ] {
        let tried = attempt(more, &[OK]).await;
        assert_eq!(json!(tried.attempted.result.unwrap_err())["remote"]["kind"], "unsendable");
        assert!(tried.dialed.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_answer_is_kept_without_secrets() {
    let echo = "HTTP/1.1 400 No\r\ncontent-length: 22\r\n\r\nno such token: s3cret!";
    let tried = attempt(json!({"auth": {"bearer": "${TOKEN}"}}), &[echo]).await;
    let answer = tried.attempted.answer.unwrap();
    assert_eq!(answer, json!({"encoding": "utf-8", "body": "no such token: [redacted]!", "end": "complete"}));
    assert_eq!(tried.attempted.facts["http"]["status"], 400);
    assert_eq!(tried.output, None);
    assert_eq!(attempt(json!({}), &[OK]).await.attempted.answer, None);
}

/// Reads every request and says nothing, or the head of an answer and then nothing.
fn stalling(first: &'static str, then: &'static str) -> (Received, Handler) {
    let received = Received::default();
    let notes = Arc::clone(&received);
    let serve = handler(move |mut stream| {
        let notes = Arc::clone(&notes);
        async move {
            let request = read_request(&mut stream).await;
            let is_first = {
                let mut notes = notes.lock().unwrap();
                notes.push(request);
                notes.len() == 1
            };
            let answer = if is_first { first } else { then };
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.is_empty() || answer.ends_with("half") {
                std::future::pending::<()>().await;
            }
        }
    });
    (received, serve)
}

#[tokio::test(start_paused = true)]
async fn time_runs_out() {
    let check = async |more: Value, wall: u64, serve: (Received, Handler), expected: Value, took: u64| {
        let home = tempfile::tempdir().unwrap();
        let job = job(home.path(), Duration::from_secs(wall), false);
        let tried = tried(&more, &[&["93.184.216.34"]], serve, &job, &CancellationToken::new()).await;
        let failure = json!(tried.attempted.result.unwrap_err());
        let found = if failure["failure"] == "remote" { &failure["remote"]["failure"] } else { &failure };
        assert_eq!(*found, expected);
        assert_eq!(tried.took, Duration::from_secs(took));
    };
    let of_request = |phase: &str| json!({"kind": "timed_out", "phase": phase, "timeout_ms": 30_000});
    let of_attempt = |ms: u64| json!({"failure": "timed_out", "wall_ms": ms});
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
    check(json!({}), 600, stalling("", ""), of_request("answer"), 30).await;
    check(json!({}), 600, stalling(half, ""), of_request("body"), 30).await;
    check(json!({"url": "https://service.test/"}), 600, silent(), of_request("tls"), 30).await;
    check(json!({}), 10, stalling("", ""), of_attempt(10_000), 10).await;
    check(json!({}), 10, stalling(half, ""), of_attempt(10_000), 10).await;
    check(poll(), 60, stalling(ACCEPTED, half), of_request("body"), 32).await;
    // Six questions without an answer would take longer.
    check(poll(), 60, stalling(ACCEPTED, ""), of_attempt(60_000), 60).await;
    check(poll(), 3600, stalling(ACCEPTED, ""), of_request("answer"), 6 * 32).await;
    check(poll(), 61, serving(&[ACCEPTED, WORKING]), of_attempt(61_000), 61).await;
}

/// Takes every connection and nothing that is sent over it.
fn silent() -> (Received, Handler) {
    let serve = handler(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    });
    (Received::default(), serve)
}

#[tokio::test(start_paused = true)]
async fn the_number_of_questions_is_bounded() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), Duration::from_hours(10), false);
    let more = json!({"completion": "poll", "poll": {"every": "100ms"}});
    let tried =
        tried(&more, &[&["93.184.216.34"]], serving(&[ACCEPTED, WORKING]), &job, &CancellationToken::new())
            .await;
    let failure = json!(tried.attempted.result.unwrap_err());
    assert_eq!(failure["remote"], json!({"kind": "polls_exhausted", "polls": 10_000}));
    assert_eq!(tried.received.len(), 10_001);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_attempt_ends_at_once() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), Duration::from_hours(3), false);
    let more = json!({"completion": "poll", "poll": {"every": "1h"}});
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(7)).await;
        token.cancel();
    });
    let waiting = tried(&more, &[&["93.184.216.34"]], serving(&[ACCEPTED, OK]), &job, &cancel).await;
    assert_eq!((waiting.attempted.result, waiting.took), (Err(Failure::Cancelled), Duration::from_secs(7)));
    let cut = tried(&more, &[&["93.184.216.34"]], serving(&[ACCEPTED, OK]), &job, &cancel).await;
    assert_eq!((cut.attempted.result, cut.dialed.len()), (Err(Failure::Cancelled), 0));
}
