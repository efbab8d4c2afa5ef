//! Bodies made of pieces: what arrives, and what is announced for it.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use orbit_core::dispatch::outcome::HttpFailure;
use tokio::io::AsyncWriteExt as _;

use super::{Net, body, handler, read_request, request, send};
use crate::http::{Body, Piece};

/// What a receiver is given: the head and as many bytes as were announced.
async fn arrived(method: Method, body: Body) -> (String, Vec<u8>) {
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let net = Net::new(handler(move |mut stream| {
        let keep = Arc::clone(&keep);
        async move {
            let received = read_request(&mut stream).await;
            *keep.lock().unwrap() = Some(received);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    }));
    let announced = body.bytes();
    let mut request = request("http://receiver.test/");
    (request.method, request.body) = (method, body);
    let exchange = send(&net.client(), request).await;
    assert_eq!((exchange.result.unwrap().status, exchange.body_bytes_sent), (204, announced));
    seen.lock().unwrap().take().unwrap()
}

fn base64_of(content: &[u8]) -> (tempfile::TempPath, Piece) {
    let (path, _) = body(content);
    let piece = Piece::Base64 { path: path.to_path_buf(), bytes: content.len() as u64 };
    (path, piece)
}

#[tokio::test(start_paused = true)]
async fn pieces_arrive_in_order_and_whole() {
    let (_first, file) = body(b"of a file");
    let (_second, encoded) = base64_of(b"\x00\xffany");
    let (_third, empty) = body(b"");
    let mut pieces = vec![Piece::Bytes(Bytes::from_static(b"{")), Piece::Bytes(Bytes::new())];
    pieces.extend(file.pieces);
    pieces.extend(empty.pieces);
    pieces.extend([encoded, Piece::Bytes(Bytes::from_static(b"}"))]);
    let (head, content) = arrived(Method::POST, Body { pieces }).await;
    let expected = [&b"{of a file"[..], STANDARD.encode(b"\x00\xffany").as_bytes(), b"}"].concat();
    assert_eq!(content, expected);
    assert!(head.contains(&format!("content-length: {}\r\n", expected.len())), "{head}");
}

#[tokio::test(start_paused = true)]
async fn base64_is_the_same_whatever_the_length() {
    for length in [0, 1, 2, 3, 4, 65_534, 65_535, 65_536, 65_537, 200_001] {
        let content: Vec<u8> =
            (0..length).map(|index: u32| index.wrapping_mul(31).to_be_bytes()[3]).collect();
        let (_path, piece) = base64_of(&content);
        assert_eq!(piece.bytes(), STANDARD.encode(&content).len() as u64);
        let (_, received) = arrived(Method::POST, Body { pieces: vec![piece] }).await;
        assert!(received == STANDARD.encode(&content).as_bytes(), "{length} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_method_that_carries_a_body_announces_an_empty_one() {
    let (head, _) = arrived(Method::PUT, Body::default()).await;
    assert!(head.contains("content-length: 0\r\n"), "{head}");
    let (head, _) = arrived(Method::GET, Body::default()).await;
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
}

#[tokio::test(start_paused = true)]
async fn a_piece_that_is_not_as_announced_is_not_sent() {
    let (_path, mut piece) = base64_of(b"four");
    let Piece::Base64 { bytes, .. } = &mut piece else { unreachable!() };
    *bytes = 5;
    let net = Net::new(super::answering(b""));
    let mut request = request("http://receiver.test/");
    request.body = Body { pieces: vec![Piece::Bytes(Bytes::from_static(b"first")), piece] };
    let failure = send(&net.client(), request).await.result.unwrap_err();
    assert!(matches!(failure, HttpFailure::Unreadable { .. }), "{failure}");
    assert!(net.dialed().is_empty());
}
