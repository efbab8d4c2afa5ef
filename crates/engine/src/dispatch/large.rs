//! Large artifacts: the pass and the wire hold only pieces, and no length is cut to 32 bits.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use http::{HeaderMap, Method};
use orbit_core::config::BodyMode;
use orbit_core::dispatch::signature::Key;
use orbit_store::payloads::Content;
use tokio_util::sync::CancellationToken;

use super::compose::tests::delivery;
use super::envelope::enclose;
use super::sign::{Signing, verify_and_sign};
use crate::alone::{self, Growth};
use crate::http::{Client, Request};

/// SHA-256 of 512 MiB and one byte of zeros, and of 4 GiB and one.
const DIGESTS: [(u64, &str); 2] = [
    (MANY, "sha256:7c40fe5ce847740d0f0d0cdde3949d6585804cdec3ae61a15b923165699c8137"),
    (MORE_THAN_32_BITS, "sha256:fbb82f7b353676bb562eb82157fcf0ea42c36492ca13ee56dbf82c08b6802c5c"),
];
const MANY: u64 = (512 << 20) + 1;
const MORE_THAN_32_BITS: u64 = (4 << 30) + 1;
const GROWTH_BYTES_MAX: u64 = 32 << 20;

#[test]
fn a_large_artifact_is_signed_and_sent_in_constant_memory() {
    alone::play("dispatch::large::a_large_artifact_alone");
}

#[tokio::test]
#[ignore = "played by the test above, in a process of its own"]
async fn a_large_artifact_alone() {
    signed_and_sent(BodyMode::Raw, MANY).await;
    signed_and_sent(BodyMode::Json, MANY).await;
}

#[tokio::test]
#[ignore = "hashes and sends tens of GiB: `make test-large` runs it"]
async fn more_than_32_bits_are_signed_and_sent_in_constant_memory() {
    signed_and_sent(BodyMode::Raw, MORE_THAN_32_BITS).await;
    signed_and_sent(BodyMode::Json, MORE_THAN_32_BITS).await;
    signed_and_sent(BodyMode::Multipart, MORE_THAN_32_BITS).await;
}

async fn signed_and_sent(mode: BodyMode, bytes: u64) {
    // A file of one hole: it takes no room on the disk.
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(bytes).unwrap();
    let mut owed = delivery();
    let digest = DIGESTS.iter().find(|(length, _)| *length == bytes).unwrap().1;
    (owed.artifact.bytes, owed.artifact.digest) = (bytes, digest.parse().unwrap());
    let request = serde_json::from_value(owed.request.clone()).unwrap();
    let envelope = enclose(mode, &owed, &request, Content::File(file.path().into())).unwrap();
    let text = envelope.body.pieces.iter().map(|piece| match piece {
        crate::http::Piece::Bytes(bytes) => bytes.len() as u64,
        crate::http::Piece::File { .. } | crate::http::Piece::Base64 { .. } => 0,
    });
    let carried = if mode == BodyMode::Json { bytes.div_ceil(3) * 4 } else { bytes };
    let expected = text.sum::<u64>() + carried;

    let (address, received) = counting();
    let growth = Growth::begin();
    let signing = Signing {
        id: "m".to_owned(),
        timestamp_seconds: 1,
        keys: vec![Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()],
    };
    let (body, artifact) = (envelope.body.clone(), owed.artifact.clone());
    let pass = tokio::task::spawn_blocking(move || {
        verify_and_sign(&body, &artifact, &signing, &CancellationToken::new())
    });
    let signed = pass.await.unwrap().unwrap();
    assert_eq!(signed.digest == owed.artifact.digest, mode == BodyMode::Raw);
    let request = Request {
        method: Method::POST,
        url: format!("http://{address}/"),
        headers: HeaderMap::new(),
        body: envelope.body,
        timeout: Duration::from_mins(10),
        allow: vec!["127.0.0.0/8".parse().unwrap()],
    };
    let exchange = Client::system().send(request, &CancellationToken::new()).await;
    assert_eq!(exchange.result.unwrap().status, 200);
    let most = growth.most_bytes();
    assert_eq!(exchange.body_bytes_sent, expected, "{mode:?}");
    assert_eq!(received.join().unwrap(), (expected, expected), "{mode:?}");
    assert!(most < GROWTH_BYTES_MAX, "{mode:?}: {most} bytes more under way");
}

/// A receiver of one request that throws its body away: the length that was announced, and the bytes that came.
fn counting() -> (SocketAddr, std::thread::JoinHandle<(u64, u64)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = move || {
        let mut stream = listener.accept().unwrap().0;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let announced: u64 =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let (mut buffer, mut came) = (vec![0; 256 << 10], 0);
        while came < announced {
            let read = stream.read(&mut buffer).unwrap();
            assert_ne!(read, 0, "closed after {came} of {announced} bytes");
            came += read as u64;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        (announced, came)
    };
    (address, std::thread::spawn(count))
}
