//! `artifacts` of the node.

use url::{Host, Url};

use super::{Report, path};
use crate::config::{ArtifactBackend, Artifacts};

/// Bytes of a bucket's name, by the protocol.
const BUCKET_BYTES: std::ops::RangeInclusive<usize> = 3..=63;
/// Bytes of a prefix at most.
const PREFIX_BYTES_MAX: usize = 256;

pub(super) fn check(artifacts: &Artifacts, report: &mut Report<'_>) {
    let Artifacts { backend, bucket, endpoint, region, prefix, allow_http } = artifacts;
    match backend {
        ArtifactBackend::Folder => {
            let is_said = bucket.is_some() || endpoint.is_some() || !prefix.is_empty() || *allow_http;
            if is_said || *region != Artifacts::default().region {
                report
                    .error(path(&["artifacts"]), "a bucket is described, but payloads are kept in a folder")
                    .hint("add `backend: s3`, or remove the rest");
            }
            return;
        }
        ArtifactBackend::S3 => {}
    }
    match bucket {
        None => report
            .error(path(&["artifacts"]), "`backend: s3` needs a `bucket`")
            .hint("as in `bucket: studio-artifacts`; it must exist already"),
        Some(name) if !is_bucket(name) => report
            .error(path(&["artifacts", "bucket"]), "expected the name of a bucket")
            .hint("3 to 63 of lower-case letters, digits, `.` and `-`, without an address"),
        Some(_) => {}
    }
    match endpoint {
        None => report
            .error(path(&["artifacts"]), "`backend: s3` needs an `endpoint`")
            .hint("the address of the service, as in `endpoint: https://objects.example.net`"),
        Some(address) => check_endpoint(address, *allow_http, report),
    }
    if region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        report.error(path(&["artifacts", "region"]), "expected the name of a region, as in `us-east-1`");
    }
    if !is_prefix(prefix) {
        report
            .error(path(&["artifacts", "prefix"]), "expected names joined by `/`, as in `orbit/production`")
            .hint("letters, digits, `.`, `_` and `-`; no `/` at the ends");
    }
}

fn check_endpoint(address: &str, allow_http: bool, report: &mut Report<'_>) {
    let at = || path(&["artifacts", "endpoint"]);
    let Ok(url) = Url::parse(address) else {
        report.error(at(), "expected an address that begins with `https://`");
        return;
    };
    let has_more = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        report.error(at(), "expected an address that begins with `https://`");
    } else if !url.username().is_empty() || url.password().is_some() {
        // Not echoed: it is a secret.
        report
            .error(at(), "an address must hold no credentials")
            .hint("write `ORBIT_S3_ACCESS_KEY_ID` and `ORBIT_S3_SECRET_ACCESS_KEY` into `.env`");
    } else if has_more {
        report
            .error(at(), "expected the address of the service alone")
            .hint("the bucket has its own key, `bucket`, and what its keys begin with is `prefix`");
    } else if url.scheme() == "http" && !is_loopback(&url) {
        if allow_http {
            report
                .warning(at(), "payloads travel to the bucket without encryption")
                .hint("use `https` unless nobody else is on the network between");
        } else {
            report
                .error(at(), "plain `http` is only for addresses of this machine")
                .hint("use `https`, or `allow_http: true` where nobody else is on the network between");
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_bucket(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    BUCKET_BYTES.contains(&name.len())
        && name.bytes().all(|byte| is_plain(byte) || matches!(byte, b'.' | b'-'))
        && name.bytes().next().is_some_and(is_plain)
        && name.bytes().next_back().is_some_and(is_plain)
}

fn is_prefix(prefix: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_name = |name: &str| !name.is_empty() && !matches!(name, "." | "..") && name.bytes().all(is_plain);
    prefix.is_empty() || (prefix.len() <= PREFIX_BYTES_MAX && prefix.split('/').all(is_name))
}

#[cfg(test)]
mod tests {
    use super::super::{Severity, check_node};
    use super::*;
    use crate::config::NodeConfig;

    fn problems(artifacts: Artifacts) -> Vec<(Severity, String)> {
        let node = NodeConfig { artifacts, ..NodeConfig::default() };
        check_node(&node).into_iter().map(|problem| (problem.severity, problem.message)).collect()
    }

    fn bucket(endpoint: &str) -> Artifacts {
        Artifacts {
            backend: ArtifactBackend::S3,
            bucket: Some("studio-artifacts".to_owned()),
            endpoint: Some(endpoint.to_owned()),
            prefix: "orbit/a".to_owned(),
            ..Artifacts::default()
        }
    }

    #[test]
    fn addresses() {
        let check = |endpoint: &str, allow_http: bool, expected: Option<(Severity, &str)>| {
            let found = problems(Artifacts { allow_http, ..bucket(endpoint) });
            assert_eq!(found.len(), usize::from(expected.is_some()), "{endpoint}: {found:?}");
            if let Some((severity, text)) = expected {
                assert!(found[0].0 == severity && found[0].1.contains(text), "{endpoint}: {found:?}");
                assert!(!found[0].1.contains("canary"));
            }
        };
        check("https://objects.example.net", false, None);
        check("http://127.0.0.1:9000/", false, None);
        check("http://[::1]:9000", false, None);
        check("http://localhost:9000", false, None);
        check(
            "http://objects.example.net",
            false,
            Some((Severity::Error, "only for addresses of this machine")),
        );
        check("http://objects.example.net", true, Some((Severity::Warning, "without encryption")));
        check("https://a:canary@objects.example.net", false, Some((Severity::Error, "no credentials")));
        check("https://objects.example.net/bucket", false, Some((Severity::Error, "alone")));
        check("objects.example.net", false, Some((Severity::Error, "https://")));
        check("ftp://objects.example.net", false, Some((Severity::Error, "https://")));
    }

    #[test]
    fn names() {
        let check = |change: fn(&mut Artifacts), expected: &[&str]| {
            let mut artifacts = bucket("https://objects.example.net");
            change(&mut artifacts);
            let found = problems(artifacts);
            let fits = found.iter().zip(expected).all(|(found, expected)| found.1.contains(expected));
            assert!(found.len() == expected.len() && fits, "{found:?} {expected:?}");
        };
        check(|_| {}, &[]);
        check(|one| one.bucket = None, &["needs a `bucket`"]);
        check(|one| one.endpoint = None, &["needs an `endpoint`"]);
        check(|one| one.bucket = Some("Upper".to_owned()), &["name of a bucket"]);
        check(|one| one.region = "a b".to_owned(), &["region"]);
        check(|one| one.prefix = "/a".to_owned(), &["joined by"]);
        check(|one| one.prefix = "a/../b".to_owned(), &["joined by"]);
        check(|one| one.backend = ArtifactBackend::Folder, &["in a folder"]);
        check(|one| *one = Artifacts::default(), &[]);
    }
}
