//! What the bucket's refusals mean. Bodies of answers are never shown: they may repeat the key that signed the request.

use std::fmt::{self, Write as _};

use object_store::client::HttpError;

use crate::blobs::BlobError;

/// What is wrong with a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketFault {
    /// Nobody answers, or the answer ends early.
    Unreachable,
    /// The keys, the bucket's name or its rules do not let this node do it.
    Refused,
    /// It is asked too often.
    Throttled,
    /// It answers that it cannot.
    Failing,
    /// The prefix belongs to another store.
    Taken,
}

impl fmt::Display for BucketFault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Unreachable => "cannot be reached",
            Self::Refused => "refuses",
            Self::Throttled => "is asked too often",
            Self::Failing => "fails",
            Self::Taken => "is not this home's",
        })
    }
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// What the client says.
    Store(object_store::Error),
    /// It was not answered in time.
    Late,
    /// The process is ending.
    Ended,
}

impl Unanswered {
    /// Whether there is no such object. A bucket that does not exist is not that.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Store(error @ object_store::Error::NotFound { .. }) if code(error).as_deref() != Some("NoSuchBucket"))
    }

    /// Whether the object is there already, or is being made by another node.
    pub(super) const fn is_there(&self) -> bool {
        matches!(
            self,
            Self::Store(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })
        )
    }

    /// The same for whoever asked.
    pub(super) fn of(self, bucket: &str) -> BlobError {
        let (fault, message) = match self {
            Self::Store(error) => judge(&error),
            Self::Late => (BucketFault::Unreachable, "no answer in time".to_owned()),
            Self::Ended => (BucketFault::Unreachable, "the process is ending".to_owned()),
        };
        BlobError::Bucket { bucket: bucket.to_owned(), fault, message }
    }
}

fn judge(error: &object_store::Error) -> (BucketFault, String) {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(found) = cause {
        if let Some(http) = found.downcast_ref::<HttpError>() {
            return (BucketFault::Unreachable, format!("{:?}", http.kind()).to_lowercase());
        }
        cause = found.source();
    }
    let status = status(error);
    let fault = match status {
        Some(429) => BucketFault::Throttled,
        Some(300..500) => BucketFault::Refused,
        Some(_) if code(error).as_deref() == Some("SlowDown") => BucketFault::Throttled,
        None | Some(_) => BucketFault::Failing,
    };
    let said = match (status, code(error)) {
        (Some(status), Some(code)) => format!("{status} {code}"),
        (Some(status), None) => format!("status {status}"),
        (None, Some(code)) => code,
        (None, None) => "it answers what is no answer of this protocol".to_owned(),
    };
    (fault, said)
}

/// What the error says, and everything that it comes from.
fn text(error: &object_store::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(found) = cause {
        _ = writeln!(text, "{found}");
        cause = found.source();
    }
    text
}

/// The client keeps the type of the failed request to itself; its text is all there is.
fn status(error: &object_store::Error) -> Option<u16> {
    let text = text(error);
    let (_, after) = text.split_once("status code: ")?;
    after.get(..3)?.parse().ok()
}

/// The protocol's own word for what is wrong.
fn code(error: &object_store::Error) -> Option<String> {
    let text = text(error);
    let (code, _) = text.split_once("<Code>")?.1.split_once("</Code>")?;
    let is_word = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, code: &str) -> object_store::Error {
        let text = format!(
            "Server returned non-2xx status code: {status} Odd: <Error><Code>{code}</Code><AWSAccessKeyId>canary</AWSAccessKeyId></Error>"
        );
        object_store::Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn faults_have_types_and_repeat_no_key() {
        let check = |status, code, fault, said: &str| {
            let error = Unanswered::Store(answered(status, code)).of("b");
            let expected = BlobError::Bucket { bucket: "b".to_owned(), fault, message: said.to_owned() };
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("canary"));
        };
        check(503, "SlowDown", BucketFault::Throttled, "503 SlowDown");
        check(429, "TooMany", BucketFault::Throttled, "429 TooMany");
        check(503, "ServiceUnavailable", BucketFault::Failing, "503 ServiceUnavailable");
        check(403, "AccessDenied", BucketFault::Refused, "403 AccessDenied");
        check(404, "NoSuchBucket", BucketFault::Refused, "404 NoSuchBucket");
    }

    #[test]
    fn a_missing_bucket_is_no_missing_payload() {
        let missing = |code: &str| {
            let source = Box::new(answered(404, code));
            Unanswered::Store(object_store::Error::NotFound { path: "x".to_owned(), source }).is_missing()
        };
        assert!(missing("NoSuchKey"));
        assert!(!missing("NoSuchBucket"));
    }
}
