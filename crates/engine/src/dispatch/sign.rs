//! One pass over a body before it is sent: it proves that the stored bytes are those of the artifact's digest, and makes the digest and
//! the signatures of the body as it goes over the wire.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use orbit_core::digest::{Digest, Hasher};
use orbit_core::dispatch::outcome::AttemptFailure;
use orbit_core::dispatch::signature::{Key, signed_prefix};
use orbit_store::contract::Artifact;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;

use crate::http::{Body, Piece};

/// Bytes that are read at once; between two reads the pass can be cut. A multiple of three, so that only the last piece in base64 is padded.
const READ_BYTES: usize = 96 * 1024;

/// What a signature says besides the body.
pub(super) struct Signing {
    /// The message: the same for all attempts.
    pub(super) id: String,
    /// The seconds since 1970 of this attempt.
    pub(super) timestamp_seconds: i64,
    /// One signature is made for each.
    pub(super) keys: Vec<Key>,
}

/// What the pass came to, of the body as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// SHA-256 of the body.
    pub(super) digest: Digest,
    /// The HMAC-SHA-256 codes, one a key in the order of the keys.
    pub(super) codes: Vec<[u8; 32]>,
}

/// What every byte of the body goes through.
struct Pass<'a> {
    body: Hasher,
    codes: Vec<Hmac<Sha256>>,
    cut: &'a CancellationToken,
}

/// As [`verify_and_sign`], of a body without files: the artifact is in it, and is this.
pub(super) fn verify_and_sign_held(
    body: &Body,
    (artifact, held): (&Artifact, &[u8]),
    signing: &Signing,
    cut: &CancellationToken,
) -> Result<Signed, AttemptFailure> {
    let mut pass = Pass::of(signing, cut)?;
    for piece in &body.pieces {
        match piece {
            Piece::Bytes(bytes) => pass.take(bytes),
            Piece::File { .. } | Piece::Base64 { .. } => {
                return Err(AttemptFailure::Local { message: "the body has a file".to_owned() });
            }
        }
    }
    // The body is the artifact: hashed once, it is known by one digest.
    let digest = if body.pieces.len() == 1 { pass.body.clone().finish() } else { Digest::of(held) };
    pass.signed(artifact, Some((digest, held.len() as u64)))
}

/// Reads every file of the body once. The artifact must be among them, whole. Blocks.
pub(super) fn verify_and_sign(
    body: &Body,
    artifact: &Artifact,
    signing: &Signing,
    cut: &CancellationToken,
) -> Result<Signed, AttemptFailure> {
    let mut pass = Pass::of(signing, cut)?;
    let mut found = None;
    for piece in &body.pieces {
        match piece {
            Piece::Bytes(bytes) => pass.take(bytes),
            // The body is the artifact: hashed once, it is known by one digest.
            Piece::File { path, .. } if body.pieces.len() == 1 => {
                let bytes = pass.read(path, artifact, Pass::take)?;
                found = Some((pass.body.clone().finish(), bytes));
            }
            Piece::File { path, .. } => {
                let mut own = Hasher::default();
                let bytes = pass.read(path, artifact, |pass, read| {
                    own.update(read);
                    pass.take(read);
                })?;
                found = Some((own.finish(), bytes));
            }
            Piece::Base64 { path, .. } => {
                let (mut own, mut encoded) = (Hasher::default(), String::new());
                let bytes = pass.read(path, artifact, |pass, read| {
                    own.update(read);
                    encoded.clear();
                    STANDARD.encode_string(read, &mut encoded);
                    pass.take(encoded.as_bytes());
                })?;
                found = Some((own.finish(), bytes));
            }
        }
    }
    pass.signed(artifact, found)
}

impl<'a> Pass<'a> {
    fn of(signing: &Signing, cut: &'a CancellationToken) -> Result<Self, AttemptFailure> {
        let prefix = signed_prefix(&signing.id, signing.timestamp_seconds);
        let mut codes = Vec::with_capacity(signing.keys.len());
        for key in &signing.keys {
            let mut code = Hmac::<Sha256>::new_from_slice(key.bytes())
                .map_err(|error| AttemptFailure::Local { message: error.to_string() })?;
            code.update(prefix.as_bytes());
            codes.push(code);
        }
        Ok(Self { body: Hasher::default(), codes, cut })
    }

    /// The end of the pass, if what was found in the body is the artifact.
    fn signed(self, artifact: &Artifact, found: Option<(Digest, u64)>) -> Result<Signed, AttemptFailure> {
        if found != Some((artifact.digest, artifact.bytes)) {
            return Err(AttemptFailure::CorruptArtifact { digest: artifact.digest });
        }
        let codes = self.codes.into_iter().map(|code| code.finalize().into_bytes().into()).collect();
        Ok(Signed { digest: self.body.finish(), codes })
    }

    fn take(&mut self, bytes: &[u8]) {
        self.body.update(bytes);
        for code in &mut self.codes {
            code.update(bytes);
        }
    }

    /// Hands on the whole file, always as many bytes at once as there is room for; its length.
    fn read(
        &mut self,
        path: &Path,
        artifact: &Artifact,
        mut hand_on: impl FnMut(&mut Self, &[u8]),
    ) -> Result<u64, AttemptFailure> {
        let unreadable = |error: io::Error| AttemptFailure::Local {
            message: format!("the artifact cannot be read: {error}"),
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(AttemptFailure::MissingArtifact { digest: artifact.digest });
            }
            Err(error) => return Err(unreadable(error)),
        };
        let (mut buffer, mut bytes) = (Vec::with_capacity(READ_BYTES), 0);
        loop {
            if self.cut.is_cancelled() {
                return Err(AttemptFailure::Cut { by: "before the artifact was sent".to_owned() });
            }
            buffer.clear();
            (&file).take(READ_BYTES as u64).read_to_end(&mut buffer).map_err(unreadable)?;
            if buffer.is_empty() {
                return Ok(bytes);
            }
            bytes += buffer.len() as u64;
            hand_on(self, &buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orbit_core::dispatch::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, header_value};
    use std::io::Write as _;

    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn stored(content: &[u8]) -> (tempfile::NamedTempFile, Artifact) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let artifact = Artifact {
            digest: Digest::of(content),
            bytes: content.len() as u64,
            media_type: "application/octet-stream".to_owned(),
        };
        (file, artifact)
    }

    fn signing(timestamp_seconds: i64, keys: &[&str]) -> Signing {
        let keys = keys.iter().map(|key| Key::parse(key).unwrap()).collect();
        Signing { id: "0f6a2b8e-52b5-5d0e-8d3b-d0c4f6c0a7d2".to_owned(), timestamp_seconds, keys }
    }

    /// The artifact as it is, in a form of pieces, and in base64; and what goes over the wire then.
    fn bodies(path: &Path, content: &[u8]) -> [(Body, Vec<u8>); 3] {
        let (path, bytes) = (path.to_path_buf(), content.len() as u64);
        let around = |piece| {
            let text = |text: &'static str| Piece::Bytes(bytes::Bytes::from_static(text.as_bytes()));
            Body { pieces: vec![text("before "), piece, text(" after")] }
        };
        let encoded = STANDARD.encode(content).into_bytes();
        [
            (Body::file(&path, bytes), content.to_vec()),
            (around(Piece::File { path: path.clone(), bytes }), [b"before ", content, b" after"].concat()),
            (around(Piece::Base64 { path, bytes }), [b"before ", &encoded[..], b" after"].concat()),
        ]
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the oracle compares with the machine's clock")]
    fn the_reference_library_verifies_every_key_over_every_body() {
        // The reference signs text only.
        let content: Vec<u8> = (b'a'..=b'z').cycle().take(READ_BYTES * 2 + 7).collect();
        let (file, artifact) = stored(&content);
        let now = jiff::Timestamp::now().as_second();
        let signing = signing(now, &[NEW, OLD]);
        for (body, sent) in bodies(file.path(), &content) {
            let signed = verify_and_sign(&body, &artifact, &signing, &CancellationToken::new()).unwrap();
            assert_eq!(signed.digest, Digest::of(&sent));
            assert_eq!(body.bytes(), sent.len() as u64);
            let mut headers = http::HeaderMap::new();
            headers.insert(ID_HEADER, signing.id.parse().unwrap());
            headers.insert(TIMESTAMP_HEADER, now.into());
            headers.insert(SIGNATURE_HEADER, header_value(&signed.codes).parse().unwrap());
            for key in [NEW, OLD] {
                standardwebhooks::Webhook::new(key).unwrap().verify(&sent, &headers).unwrap();
            }
            // The newest key comes first, and each signs for itself alone.
            for (key, code) in [NEW, OLD].into_iter().zip(&signed.codes) {
                headers.insert(SIGNATURE_HEADER, header_value(&[*code]).parse().unwrap());
                for other in [NEW, OLD] {
                    let verified = standardwebhooks::Webhook::new(other).unwrap().verify(&sent, &headers);
                    assert_eq!(verified.is_ok(), other == key);
                }
            }
            let stranger = standardwebhooks::Webhook::new("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
            assert!(stranger.verify(&sent, &headers).is_err());
            let mut changed = sent;
            changed[READ_BYTES] ^= 1;
            assert!(standardwebhooks::Webhook::new(OLD).unwrap().verify(&changed, &headers).is_err());
        }
    }

    #[test]
    fn equal_to_the_reference_for_any_timestamp() {
        let content = b"{\"test\": 2432232314}";
        let (file, artifact) = stored(content);
        let signing = signing(1_614_265_330, &[OLD]);
        for (body, sent) in bodies(file.path(), content) {
            let go = CancellationToken::new();
            let signed = verify_and_sign(&body, &artifact, &signing, &go).unwrap();
            let held = Body { pieces: vec![Piece::Bytes(sent.clone().into())] };
            let whole = Artifact { digest: Digest::of(&sent), bytes: sent.len() as u64, ..artifact.clone() };
            assert_eq!(verify_and_sign_held(&held, (&whole, &sent), &signing, &go), Ok(signed.clone()));
            let corrupt = verify_and_sign_held(&held, (&artifact, b"abc"), &signing, &go);
            assert!(matches!(corrupt, Err(AttemptFailure::CorruptArtifact { .. })), "{corrupt:?}");
            let oracle = standardwebhooks::Webhook::new(OLD).unwrap();
            let expected = oracle.sign(&signing.id, 1_614_265_330, &sent).unwrap();
            assert_eq!(header_value(&signed.codes), expected);
        }
    }

    #[test]
    fn base64_is_padded_at_the_end_alone() {
        for length in [0, 1, 2, 3, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES + 2] {
            let content: Vec<u8> = (0..=255).cycle().take(length).collect();
            let (file, artifact) = stored(&content);
            for (body, sent) in bodies(file.path(), &content) {
                let signed = verify_and_sign(&body, &artifact, &signing(0, &[]), &CancellationToken::new());
                assert_eq!(signed.unwrap().digest, Digest::of(&sent), "{length}");
            }
        }
    }

    #[test]
    fn what_cannot_be_sent() {
        let (file, artifact) = stored(b"abc");
        let go = CancellationToken::new();
        let digest = artifact.digest;
        let gone = bodies(Path::new("/nowhere/at/all"), b"abc");
        for ((body, sent), (gone, _)) in bodies(file.path(), b"abc").into_iter().zip(gone) {
            let check =
                |body: &Body, artifact: &Artifact, cut: &CancellationToken, expected: AttemptFailure| {
                    assert_eq!(verify_and_sign(body, artifact, &signing(0, &[]), cut), Err(expected));
                };
            let signed = Signed { digest: Digest::of(&sent), codes: vec![] };
            assert_eq!(verify_and_sign(&body, &artifact, &signing(0, &[]), &go), Ok(signed));
            check(&gone, &artifact, &go, AttemptFailure::MissingArtifact { digest });
            let other = Artifact { digest: Digest::of(b"abd"), ..artifact.clone() };
            check(&body, &other, &go, AttemptFailure::CorruptArtifact { digest: other.digest });
            let longer = Artifact { bytes: 4, ..artifact.clone() };
            check(&body, &longer, &go, AttemptFailure::CorruptArtifact { digest });
            let cut = CancellationToken::new();
            cut.cancel();
            let by = "before the artifact was sent".to_owned();
            check(&body, &artifact, &cut, AttemptFailure::Cut { by });
        }
        let without = Body { pieces: vec![Piece::Bytes(bytes::Bytes::from_static(b"abc"))] };
        let unproven = verify_and_sign(&without, &artifact, &signing(0, &[]), &go);
        assert_eq!(unproven, Err(AttemptFailure::CorruptArtifact { digest }));
    }
}
