//! The bucket of the larger payloads: whether it answers, and lets this node write, read, list and delete.

use orbit_core::config::Artifacts;
use orbit_store::blobs::bucket::Probed;
use orbit_store::blobs::{BlobError, BucketFault};

use super::Finding;
use crate::bucket::{Place, TAKEN_HINT};
use crate::environment::Environment;

/// Does each once with an object of its own. None where payloads lie in a folder.
pub(super) async fn probe(artifacts: &Artifacts, environment: &Environment) -> Option<Finding> {
    let client = match Place::new(artifacts, environment) {
        Ok(Place::Folder) => return None,
        Ok(Place::Bucket(client)) => client,
        Err(error) => return Some(Finding::problem("bucket", error.to_string(), error.hint())),
    };
    let name = client.name();
    let probed = tokio::task::spawn_blocking(move || client.probe()).await;
    Some(match probed {
        Ok(Ok(())) => Finding::ok("bucket", format!("`{name}` lets this node write, read, list and delete")),
        Ok(Err((act, error))) => refused(act, &error),
        Err(error) => Finding::problem("bucket", error.to_string(), "please report this"),
    })
}

fn refused(act: Probed, error: &BlobError) -> Finding {
    let what = match act {
        Probed::Write => "cannot write an object",
        Probed::Read => "cannot read an object that it wrote",
        Probed::List => "cannot list objects",
        Probed::Delete => "cannot delete an object",
    };
    Finding::problem("bucket", format!("this node {what}: {error}"), hint(error))
}

fn hint(error: &BlobError) -> &'static str {
    let BlobError::Bucket { fault, message, .. } = error else {
        return "look at `artifacts` in `orbit.yaml`";
    };
    match fault {
        BucketFault::Unreachable => {
            "look at `artifacts.endpoint`, at the service, and at what is between; work waits until it answers"
        }
        BucketFault::Refused if message.contains("NoSuchBucket") => {
            "make the bucket, or correct `artifacts.bucket`: it is never made for you"
        }
        BucketFault::Refused => {
            "the key in `.env` must be right and may need more rights: PutObject, GetObject, DeleteObject, ListBucket, AbortMultipartUpload"
        }
        BucketFault::Throttled => "the service has a limit that is reached; ask again later, or raise it",
        BucketFault::Taken => TAKEN_HINT,
        BucketFault::Failing => "the service answers that it cannot; look at its own state and logs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[tokio::test]
    async fn a_folder_has_no_bucket_and_missing_keys_are_named() {
        let environment = Environment::default();
        assert_eq!(probe(&Artifacts::default(), &environment).await, None);
        let artifacts = Artifacts {
            backend: orbit_core::config::ArtifactBackend::S3,
            bucket: Some("b-1".to_owned()),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            ..Artifacts::default()
        };
        let found = probe(&artifacts, &environment).await.unwrap();
        assert_eq!((found.level, found.area), (Level::Problem, "bucket"));
        assert!(found.message.contains("`ORBIT_S3_ACCESS_KEY_ID` is not set"), "{}", found.message);
    }

    #[test]
    fn hints_follow_what_is_wrong() {
        let check = |fault, message: &str, expected: &str| {
            let error = BlobError::Bucket { bucket: "b".to_owned(), fault, message: message.to_owned() };
            let found = refused(Probed::Write, &error);
            let hint = found.hint.unwrap();
            assert!(hint.contains(expected), "{hint}");
        };
        check(BucketFault::Unreachable, "connect", "artifacts.endpoint");
        check(BucketFault::Refused, "404 NoSuchBucket", "make the bucket");
        check(BucketFault::Refused, "403 AccessDenied", "PutObject");
        check(BucketFault::Throttled, "503 SlowDown", "limit");
        check(BucketFault::Failing, "500", "its own state");
    }
}
