//! One pass over an artifact before it is sent: it proves that the stored bytes are those of the digest, and feeds the signatures.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use orbit_core::digest::Hasher;
use orbit_core::dispatch::outcome::AttemptFailure;
use orbit_core::dispatch::signature::{Key, signed_prefix};
use orbit_store::contract::Artifact;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;

/// Bytes that are read at once; between two reads the pass can be cut.
const READ_BYTES: usize = 128 * 1024;

/// What a signature says besides the body.
pub(super) struct Signing {
    /// The message: the same for all attempts.
    pub(super) id: String,
    /// The seconds since 1970 of this attempt.
    pub(super) timestamp_seconds: i64,
    /// One signature is made for each.
    pub(super) keys: Vec<Key>,
}

/// Reads the file once and answers the HMAC-SHA-256 codes, one a key. Blocks.
pub(super) fn verify_and_sign(
    path: &Path,
    artifact: &Artifact,
    signing: &Signing,
    cut: &CancellationToken,
) -> Result<Vec<[u8; 32]>, AttemptFailure> {
    let digest = artifact.digest;
    let unreadable =
        |error: io::Error| AttemptFailure::Local { message: format!("the artifact cannot be read: {error}") };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(AttemptFailure::MissingArtifact { digest });
        }
        Err(error) => return Err(unreadable(error)),
    };
    let prefix = signed_prefix(&signing.id, signing.timestamp_seconds);
    let mut codes = Vec::with_capacity(signing.keys.len());
    for key in &signing.keys {
        let mut code = Hmac::<Sha256>::new_from_slice(key.bytes())
            .map_err(|error| AttemptFailure::Local { message: error.to_string() })?;
        code.update(prefix.as_bytes());
        codes.push(code);
    }
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes: u64 = 0;
    loop {
        if cut.is_cancelled() {
            return Err(AttemptFailure::Cut { by: "before the artifact was sent".to_owned() });
        }
        let piece = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        bytes += piece.len() as u64;
        hasher.update(piece);
        for code in &mut codes {
            code.update(piece);
        }
    }
    if hasher.finish() != digest || bytes != artifact.bytes {
        return Err(AttemptFailure::CorruptArtifact { digest });
    }
    Ok(codes.into_iter().map(|code| code.finalize().into_bytes().into()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use orbit_core::digest::Digest;
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

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the oracle compares with the machine's clock")]
    fn the_reference_library_verifies_every_key() {
        // The reference signs text only.
        let content: Vec<u8> = (b'a'..=b'z').cycle().take(READ_BYTES * 2 + 7).collect();
        let (file, artifact) = stored(&content);
        let now = jiff::Timestamp::now().as_second();
        let signing = signing(now, &[NEW, OLD]);
        let codes = verify_and_sign(file.path(), &artifact, &signing, &CancellationToken::new()).unwrap();
        let mut headers = http::HeaderMap::new();
        headers.insert(ID_HEADER, signing.id.parse().unwrap());
        headers.insert(TIMESTAMP_HEADER, now.into());
        headers.insert(SIGNATURE_HEADER, header_value(&codes).parse().unwrap());
        for key in [NEW, OLD] {
            standardwebhooks::Webhook::new(key).unwrap().verify(&content, &headers).unwrap();
        }
        let stranger = standardwebhooks::Webhook::new("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        assert!(stranger.verify(&content, &headers).is_err());
        let mut changed = content;
        changed[READ_BYTES] ^= 1;
        assert!(standardwebhooks::Webhook::new(NEW).unwrap().verify(&changed, &headers).is_err());
    }

    #[test]
    fn equal_to_the_reference_for_any_timestamp() {
        let (file, artifact) = stored(b"{\"test\": 2432232314}");
        let signing = signing(1_614_265_330, &[OLD]);
        let codes = verify_and_sign(file.path(), &artifact, &signing, &CancellationToken::new()).unwrap();
        let oracle = standardwebhooks::Webhook::new(OLD).unwrap();
        let expected = oracle.sign(&signing.id, 1_614_265_330, b"{\"test\": 2432232314}").unwrap();
        assert_eq!(header_value(&codes), expected);
    }

    #[test]
    fn what_cannot_be_sent() {
        let (file, artifact) = stored(b"abc");
        let check = |path: &Path, artifact: &Artifact, cut: &CancellationToken, expected: AttemptFailure| {
            assert_eq!(verify_and_sign(path, artifact, &signing(0, &[]), cut), Err(expected));
        };
        let go = CancellationToken::new();
        let digest = artifact.digest;
        assert_eq!(verify_and_sign(file.path(), &artifact, &signing(0, &[]), &go), Ok(vec![]));
        check(Path::new("/nowhere/at/all"), &artifact, &go, AttemptFailure::MissingArtifact { digest });
        let other = Artifact { digest: Digest::of(b"abd"), ..artifact.clone() };
        check(file.path(), &other, &go, AttemptFailure::CorruptArtifact { digest: other.digest });
        let longer = Artifact { bytes: 4, ..artifact.clone() };
        check(file.path(), &longer, &go, AttemptFailure::CorruptArtifact { digest });
        let cut = CancellationToken::new();
        cut.cancel();
        let by = "before the artifact was sent".to_owned();
        check(file.path(), &artifact, &cut, AttemptFailure::Cut { by });
    }
}
