//! The machine's own network, loopback only.

use std::net::SocketAddr;

use http::Method;
use orbit_core::digest::Digest;
use orbit_core::digest::Hasher;
use orbit_core::dispatch::outcome::HttpFailure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{body, read_request, request, send};
use crate::alone::{self, Growth};
use crate::http::{Body, Client, Request};

fn to(address: SocketAddr, file: Body) -> Request {
    let mut request = request(&format!("http://localhost:{}/in/a%2Fb?q=1", address.port()));
    request.allow = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    request.body = file;
    request
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn a_request_arrives_as_it_was_meant() {
    let (listener, address) = listen().await;
    let served = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        let received = read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
        received
    });
    let (_path, file) = body(b"any bytes\x00\xff");
    let mut request = to(address, file);
    request.method = Method::PUT;
    request.headers.insert("x-label", "a".parse().unwrap());
    let exchange = send(&Client::system(), request).await;
    let answer = exchange.result.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (202, &b"hello"[..]));
    assert_eq!((exchange.address, exchange.body_bytes_sent), (Some(address), 11));
    let (head, content) = served.await.unwrap();
    assert_eq!(content, b"any bytes\x00\xff");
    let mut lines: Vec<_> = head.trim_end().lines().collect();
    lines[1..].sort_unstable();
    let host = format!("host: localhost:{}", address.port());
    let expected =
        ["PUT /in/a%2Fb?q=1 HTTP/1.1", "connection: close", "content-length: 11", &host, "x-label: a"];
    assert_eq!(lines, expected);
}

#[test]
fn a_large_body_is_streamed_whole_and_held_in_small_pieces() {
    alone::play("http::tests::loopback::a_large_body_alone");
}

#[tokio::test]
#[ignore = "played by the test above, in a process of its own"]
async fn a_large_body_alone() {
    const BYTES: u64 = 512 << 20;
    let (listener, address) = listen().await;
    let served = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        let received = drain(&mut stream, BYTES).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        received
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(BYTES).unwrap();
    let growth = Growth::begin();
    let exchange = send(&Client::system(), to(address, Body::file(file.path(), BYTES))).await;
    assert_eq!((exchange.result.unwrap().status, exchange.body_bytes_sent), (200, BYTES));
    let (digest, most) = (served.await.unwrap(), growth.most_bytes());
    let mut expected = Hasher::default();
    let zeros = vec![0; 1 << 20];
    (0..BYTES >> 20).for_each(|_| expected.update(&zeros));
    assert_eq!(digest, expected.finish());
    assert!(most < 32 << 20, "{most} bytes more under way");
}

/// Reads past the head and this many bytes; their digest.
async fn drain(stream: &mut TcpStream, bytes: u64) -> Digest {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let (mut hasher, mut left) = (Hasher::default(), bytes);
    let mut buffer = vec![0; 1 << 20];
    while left > 0 {
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "closed with {left} bytes to come");
        hasher.update(&buffer[..read]);
        left -= read as u64;
    }
    hasher.finish()
}

#[tokio::test]
async fn a_receiver_that_goes_away() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        stream.read_u8().await.unwrap();
        // What is unread makes the kernel reset the connection.
    });
    let (_path, file) = body(&vec![1; 8 << 20]);
    let failure = send(&Client::system(), to(address, file)).await.result.unwrap_err();
    assert!(matches!(failure, HttpFailure::Closed { .. }), "{failure}");

    let (listener, address) = listen().await;
    drop(listener);
    let (_path, file) = body(b"x");
    let failure = send(&Client::system(), to(address, file)).await.result.unwrap_err();
    assert!(matches!(failure, HttpFailure::Connect { .. }), "{failure}");
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_was_read_counts() {
    let (listener, address) = listen().await;
    let (done, wait) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let _ = wait.await;
    });
    let (_path, file) = body(&vec![1; 32 << 20]);
    let exchange = send(&Client::system(), to(address, file)).await;
    assert_eq!(exchange.result.unwrap().status, 413);
    assert!(exchange.body_bytes_sent < 32 << 20);
    done.send(()).unwrap();
    served.await.unwrap();
}
