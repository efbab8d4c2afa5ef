//! What an artifact is sent in: its bytes alone, a form of two parts, or JSON. The same bytes for every attempt of a delivery.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use orbit_core::config::BodyMode;
use orbit_core::dispatch::metadata::{Enclosed, boundary, metadata};
use orbit_core::dispatch::outcome::AttemptFailure;
use orbit_core::synthesis::ExecutionRequest;
use orbit_store::contract::dispatch::ClaimedDelivery;
use orbit_store::payloads::Content;

use crate::http::{Body, Part, Piece, multipart};

/// A body and what it is. Exactly one of its pieces is the artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    /// The pieces.
    pub(super) body: Body,
    /// The value of `Content-Type`.
    pub(super) media_type: HeaderValue,
}

/// The artifact as the endpoint wants it.
pub(super) fn enclose(
    mode: BodyMode,
    delivery: &ClaimedDelivery,
    request: &ExecutionRequest,
    content: Content,
) -> Result<Envelope, AttemptFailure> {
    let artifact = &delivery.artifact;
    let unsendable = |error: http::header::InvalidHeaderValue| AttemptFailure::Request {
        message: format!("the media type of the artifact cannot be sent: {error}"),
    };
    // Also where it stands inside of the body: a line end in it would be one there.
    let own = HeaderValue::from_bytes(artifact.media_type.as_bytes()).map_err(unsendable)?;
    let metadata = || {
        let enclosed =
            Enclosed { digest: artifact.digest, bytes: artifact.bytes, media_type: &artifact.media_type };
        metadata(request, delivery.claim.id, &delivery.endpoint, enclosed)
    };
    let bytes = artifact.bytes;
    let as_it_is = |content| match content {
        Content::Memory(held) => Piece::Bytes(held),
        Content::File(path) => Piece::File { path, bytes },
    };
    Ok(match mode {
        BodyMode::Raw => Envelope { body: Body { pieces: vec![as_it_is(content)] }, media_type: own },
        BodyMode::Json => Envelope {
            body: Body {
                pieces: vec![
                    text(format!("{{\"metadata\":{},\"artifact\":\"", metadata())),
                    match content {
                        Content::Memory(held) => text(STANDARD.encode(held)),
                        Content::File(path) => Piece::Base64 { path, bytes },
                    },
                    text("\"}".to_owned()),
                ],
            },
            media_type: HeaderValue::from_static("application/json"),
        },
        BodyMode::Multipart => {
            let part = |name, media_type: &str, is_file, content| Part {
                name,
                media_type: media_type.to_owned(),
                is_file,
                content,
            };
            let parts = vec![
                part("metadata", "application/json", false, text(metadata())),
                part("artifact", &artifact.media_type, true, as_it_is(content)),
            ];
            let (media_type, body) = multipart(&boundary(delivery.claim.id, artifact.digest), parts);
            Envelope { body, media_type: HeaderValue::try_from(media_type).map_err(unsendable)? }
        }
    })
}

fn text(text: String) -> Piece {
    Piece::Bytes(Bytes::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::compose::tests::delivery;

    fn enclosed(mode: BodyMode, delivery: &ClaimedDelivery) -> Result<Envelope, AttemptFailure> {
        let request = serde_json::from_value(delivery.request.clone()).unwrap();
        enclose(mode, delivery, &request, Content::File("/nowhere".into()))
    }

    fn written(envelope: &Envelope) -> String {
        let pieces = envelope.body.pieces.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Piece::File { bytes, .. } => format!("<{bytes} bytes>"),
            Piece::Base64 { bytes, .. } => format!("<{bytes} bytes in base64>"),
        });
        pieces.collect()
    }

    #[test]
    fn the_three_forms() {
        let delivery = delivery();
        let (digest, id) = (delivery.artifact.digest, delivery.claim.id);
        let request: ExecutionRequest = serde_json::from_value(delivery.request.clone()).unwrap();
        let media_type = "text/plain; charset=utf-8";
        let metadata = metadata(&request, id, "archive", Enclosed { digest, bytes: 3, media_type });
        let boundary = boundary(id, digest);
        let check = |mode: BodyMode, expected_type: &str, expected: &str| {
            let envelope = enclosed(mode, &delivery).unwrap();
            assert_eq!(envelope.media_type, expected_type);
            assert_eq!(written(&envelope), expected);
        };
        check(BodyMode::Raw, media_type, "<3 bytes>");
        check(
            BodyMode::Json,
            "application/json",
            &format!("{{\"metadata\":{metadata},\"artifact\":\"<3 bytes in base64>\"}}"),
        );
        check(
            BodyMode::Multipart,
            &format!("multipart/form-data; boundary={boundary}"),
            &format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json\r\n\r\n\
                 {metadata}\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"artifact\"; filename=\"artifact\"\r\n\
                 Content-Type: {media_type}\r\n\r\n<3 bytes>\r\n--{boundary}--\r\n"
            ),
        );
    }

    #[test]
    fn what_is_held_in_memory_is_sent_as_a_file_is() {
        let delivery = delivery();
        let request = serde_json::from_value(delivery.request.clone()).unwrap();
        let held = Content::Memory(Bytes::from_static(b"abc"));
        for mode in [BodyMode::Raw, BodyMode::Json, BodyMode::Multipart] {
            let envelope = enclose(mode, &delivery, &request, held.clone()).unwrap();
            let of_file = enclosed(mode, &delivery).unwrap();
            assert_eq!(envelope.media_type, of_file.media_type);
            assert_eq!(envelope.body.bytes(), of_file.body.bytes());
            let file = written(&of_file);
            let expected = file.replace("<3 bytes in base64>", "YWJj").replace("<3 bytes>", "abc");
            assert_eq!(written(&envelope), expected);
        }
    }

    #[test]
    fn every_attempt_sends_the_same_and_a_line_end_in_a_media_type_is_never_sent() {
        for mode in [BodyMode::Raw, BodyMode::Json, BodyMode::Multipart] {
            let mut one = delivery();
            let first = enclosed(mode, &one).unwrap();
            (one.attempt, one.attempt_in_round) = (7, 3);
            assert_eq!(enclosed(mode, &one).unwrap(), first);
            one.artifact.media_type = "text/plain\r\nX: y".to_owned();
            assert!(matches!(enclosed(mode, &one), Err(AttemptFailure::Request { .. })), "{mode:?}");
        }
    }
}
