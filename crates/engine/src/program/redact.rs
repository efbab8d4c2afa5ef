//! Takes secrets out of what a program said, before it becomes evidence.

use orbit_core::limits::STDERR_TAIL_BYTES_MAX;

const REPLACEMENT: &[u8] = b"[redacted]";

/// The bytes with every secret replaced, a short one too, whatever else it blackens. Of a tail that was cut, a secret's rest at the very beginning
/// is replaced too. What grows beyond the bound of a tail loses its beginning.
pub(super) fn redact(words: &[u8], secrets: &[String]) -> Vec<u8> {
    let mut secrets: Vec<&[u8]> =
        secrets.iter().map(String::as_bytes).filter(|secret| !secret.is_empty()).collect();
    // One secret may hold another: the longer one first, or its rest would remain.
    secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    let cut = words.len() >= STDERR_TAIL_BYTES_MAX;
    let mut redacted = Vec::with_capacity(words.len());
    let mut rest = words;
    if let Some(length) = secrets.iter().filter_map(|secret| rest_length(rest, secret)).max().filter(|_| cut)
    {
        redacted.extend_from_slice(REPLACEMENT);
        rest = &rest[length..];
    }
    while let Some((first, after)) = rest.split_first() {
        if let Some(secret) = secrets.iter().find(|secret| rest.starts_with(secret)) {
            redacted.extend_from_slice(REPLACEMENT);
            rest = &rest[secret.len()..];
        } else {
            redacted.push(*first);
            rest = after;
        }
    }
    redacted.drain(..redacted.len().saturating_sub(STDERR_TAIL_BYTES_MAX));
    redacted
}

/// How many bytes at the beginning are the end of the secret.
fn rest_length(words: &[u8], secret: &[u8]) -> Option<usize> {
    (1..secret.len()).rev().find(|length| words.starts_with(&secret[secret.len() - length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced() {
        let secrets = ["token".to_owned(), "token-and-more".to_owned(), "7b".to_owned(), String::new()];
        let check = |words: &str, expected: &str| {
            assert_eq!(String::from_utf8(redact(words.as_bytes(), &secrets)).unwrap(), expected);
        };
        check("", "");
        check("nothing to hide: 7c", "nothing to hide: 7c");
        check("short: 7b", "short: [redacted]");
        check("a token, two tokens", "a [redacted], two [redacted]s");
        check("token-and-more", "[redacted]");
        check("tokentoken", "[redacted][redacted]");
        check("oken", "oken");
    }

    #[test]
    fn the_rest_of_a_secret_where_the_tail_was_cut() {
        let secrets = ["token".to_owned()];
        let words = format!("en{}", "x".repeat(STDERR_TAIL_BYTES_MAX));
        let redacted = String::from_utf8(redact(words.as_bytes(), &secrets)).unwrap();
        assert!(redacted.starts_with('x') && redacted.len() == STDERR_TAIL_BYTES_MAX);
        let words = "x".repeat(STDERR_TAIL_BYTES_MAX);
        let redacted = redact(words.as_bytes(), &["x".to_owned()]);
        assert!(redacted.len() == STDERR_TAIL_BYTES_MAX && redacted.ends_with(REPLACEMENT));
    }
}
