//! Answers that are streamed into a file.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use orbit_core::dispatch::outcome::HttpFailure;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::{Handler, Net, answering, handler, read_request, request};
use crate::http::{Answer, BodyEnd, Keep};

const MAX: u64 = 1000;

async fn fetch(serve: Handler, path: &std::path::Path) -> Result<Answer, HttpFailure> {
    let keep = Keep::File { path: path.to_owned(), bytes_max: MAX, wanted: |status| status == 200 };
    let request = request("http://receiver.test/");
    Net::new(serve).client().fetch(request, keep, &CancellationToken::new()).await.result
}

fn of_length(length: usize) -> Handler {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length));
    answering(answer.leak().as_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_body_is_kept_up_to_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    for (length, end) in [
        (0, BodyEnd::Complete),
        (1000, BodyEnd::Complete),
        (1001, BodyEnd::Truncated),
        (90_000, BodyEnd::Truncated),
    ] {
        let path = folder.path().join(length.to_string());
        let answer = fetch(of_length(length), &path).await.unwrap();
        let expected = (length as u64).min(MAX);
        assert_eq!((answer.body_end, answer.body_bytes), (end, expected), "{length}");
        assert!(answer.body.is_empty());
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (expected, 0o600), "{length}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output");
    let answer = fetch(answering(b"HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\nwhy"), &path).await.unwrap();
    assert_eq!((answer.status, &answer.body[..], answer.body_bytes), (500, &b"why"[..], 3));
    assert!(!path.exists());
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_not_overwritten() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let failure = fetch(of_length(3), file.path()).await.unwrap_err();
    assert!(matches!(failure, HttpFailure::Unwritable { .. }), "{failure}");
    assert_eq!(std::fs::metadata(file.path()).unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn every_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let slow = handler(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let answer = fetch(slow, &folder.path().join("slow")).await.unwrap();
    assert_eq!(answer.body_end, BodyEnd::TimedOut);
    let half = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    let answer = fetch(half, &folder.path().join("half")).await.unwrap();
    assert_eq!((answer.body_end, answer.body_bytes), (BodyEnd::Broken, 4));
}
