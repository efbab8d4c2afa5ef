//! What comes back, and what does not.

use std::time::Duration;

use orbit_core::dispatch::outcome::{HttpFailure, Phase};
use orbit_core::limits::{ANSWER_HEAD_BYTES_MAX, RECEIPT_BODY_BYTES_MAX};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::{Handler, Net, answering, body, handler, read_request, request, send};
use crate::http::{Body, BodyEnd};

async fn forever() {
    std::future::pending::<()>().await;
}

#[tokio::test(start_paused = true)]
async fn any_status_is_an_answer_and_no_redirect_is_followed() {
    for (answer, status, kept) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], 200, &b"ok"[..]),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n", 201, b""),
        (b"HTTP/1.1 301 Moved\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n", 301, b""),
        (b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", 410, b""),
        (b"HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", 429, b""),
        (b"HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\nwhy", 500, b"why"),
    ] {
        let net = Net::new(answering(answer));
        let exchange = send(&net.client(), request("http://receiver.test/x")).await;
        let found = exchange.result.unwrap();
        assert_eq!((found.status, &found.body[..], found.body_end), (status, kept, BodyEnd::Complete));
        assert_eq!(net.dialed(), ["93.184.216.34:80"], "one connection, {status}");
        if status == 429 {
            assert_eq!(found.headers["retry-after"], "7");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_an_answer() {
    let long: &'static [u8] =
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(ANSWER_HEAD_BYTES_MAX)).leak().as_bytes();
    let many: &'static [u8] = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(500)).leak().as_bytes();
    for (answer, expected) in [
        (&b""[..], "closed"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "closed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed"),
        (b"HTTP/1.1 banana\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: banana\r\n\r\n", "malformed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "malformed"),
        (long, "head_too_large"),
        (many, "head_too_large"),
    ] {
        let net = Net::new(answering(answer));
        let failure = send(&net.client(), request("http://receiver.test/")).await.result.unwrap_err();
        let kind = serde_json::to_value(&failure).unwrap()["kind"].clone();
        assert_eq!(
            kind,
            expected,
            "{failure} for {:?}",
            String::from_utf8_lossy(&answer[..answer.len().min(60)])
        );
    }
}

/// The phase in which an attempt of 30 s that this server never ends is cut.
async fn phase_of(serve: Handler, url: &str, bytes: usize) -> (Phase, u64) {
    let (_path, file) = body(&vec![7; bytes]);
    let mut request = request(url);
    request.body = file;
    let exchange = send(&Net::new(serve).client(), request).await;
    let failure = exchange.result.unwrap_err();
    let HttpFailure::TimedOut { phase, timeout_ms: 30_000 } = failure else { panic!("{failure:?}") };
    (phase, exchange.body_bytes_sent)
}

#[tokio::test(start_paused = true)]
async fn the_deadline_names_the_phase() {
    let silent = || {
        handler(|mut stream| async move {
            read_request(&mut stream).await;
            forever().await;
        })
    };
    assert_eq!(phase_of(silent(), "http://receiver.test/", 10).await, (Phase::Answer, 10));
    let drip = handler(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        while stream.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(phase_of(drip, "http://receiver.test/", 10).await.0, Phase::Answer);
    let deaf = || {
        handler(|stream| async move {
            let _stream = stream;
            forever().await;
        })
    };
    assert_eq!(phase_of(deaf(), "https://receiver.test/", 10).await, (Phase::Tls, 0));
    let bytes = 8 << 20;
    let (phase, sent) = phase_of(deaf(), "http://receiver.test/", bytes).await;
    assert_eq!(phase, Phase::Send);
    assert!(sent < 1 << 20, "a receiver that takes nothing is handed {sent} of {bytes} bytes");
}

#[tokio::test(start_paused = true)]
async fn an_answer_body_never_outlasts_the_deadline_or_the_bound() {
    let endless = |pause: Duration| {
        handler(move |mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(&[b'x'; 1000]).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        })
    };
    for (serve, end, length) in [
        (endless(Duration::ZERO), BodyEnd::Truncated, Some(RECEIPT_BODY_BYTES_MAX)),
        (endless(Duration::from_secs(2)), BodyEnd::TimedOut, None),
        (answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), BodyEnd::Broken, Some(4)),
        (
            answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nbanana\r\n"),
            BodyEnd::Broken,
            Some(0),
        ),
    ] {
        let exchange = send(&Net::new(serve).client(), request("http://receiver.test/")).await;
        let found = exchange.result.unwrap();
        assert_eq!((found.status, found.body_end), (200, end));
        assert!(length.is_none_or(|length| found.body.len() == length), "{end:?} {}", found.body.len());
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_cut_wherever_it_is() {
    let cut = CancellationToken::new();
    cut.cancel();
    let net = Net::new(answering(b""));
    let exchange = net.client().send(request("http://receiver.test/"), &cut).await;
    assert_eq!(exchange.result.unwrap_err(), HttpFailure::Cut { phase: Phase::Resolve });
    assert!(net.dialed().is_empty());

    let cut = CancellationToken::new();
    let token = cut.clone();
    let net = Net::new(handler(move |mut stream| {
        let token = token.clone();
        async move {
            read_request(&mut stream).await;
            token.cancel();
            // Ends when the client goes away.
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        }
    }));
    let exchange = net.client().send(request("http://receiver.test/"), &cut).await;
    assert_eq!(exchange.result.unwrap_err(), HttpFailure::Cut { phase: Phase::Answer });
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_as_announced_is_not_sent() {
    let (path, _) = body(b"four");
    for file in [Body::file(&*path, 5), Body::file("/nowhere/at/all", 4)] {
        let net = Net::new(answering(b""));
        let mut request = request("http://receiver.test/");
        request.body = file;
        let failure = send(&net.client(), request).await.result.unwrap_err();
        assert!(matches!(failure, HttpFailure::Unreadable { .. }), "{failure}");
        assert!(net.dialed().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_shrinks_under_way_is_named() {
    let (path, file) = body(&vec![1; 4 << 20]);
    let shrink = path.to_path_buf();
    let net = Net::new(handler(move |mut stream| {
        let shrink = shrink.clone();
        async move {
            stream.read_u8().await.unwrap();
            std::fs::File::options().write(true).open(shrink).unwrap().set_len(1000).unwrap();
            let mut sink = Vec::new();
            let _ = stream.read_to_end(&mut sink).await;
        }
    }));
    let mut request = request("http://receiver.test/");
    request.body = file;
    let failure = send(&net.client(), request).await.result.unwrap_err();
    assert!(matches!(failure, HttpFailure::Unreadable { .. }), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn addresses_that_cannot_be_used() {
    for (url, kind) in [
        ("ftp://receiver.test/", "unsendable"),
        ("nonsense", "unsendable"),
        ("http://unknown.test/", "resolve"),
    ] {
        let net = Net::new(answering(b""));
        let failure = send(&net.client(), request(url)).await.result.unwrap_err();
        assert_eq!(serde_json::to_value(&failure).unwrap()["kind"], kind, "{failure}");
        assert!(net.dialed().is_empty());
    }
}
