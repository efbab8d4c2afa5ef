//! What the documents need besides programs: secrets and certificates.

use orbit_core::config::{Auth, Processor, SecretRef, Sign, Snapshot, Source, TextOrSecret};

use super::Finding;

/// Every secret that is spoken of, with the document that does.
fn secrets(snapshot: &Snapshot) -> Vec<(String, &SecretRef)> {
    let mut found = Vec::new();
    for (document, auth) in auths(snapshot) {
        found.extend(auth.map(|auth| match auth {
            Auth::Bearer(secret) => (document, secret),
            Auth::Basic(basic) => (document, &basic.password),
            Auth::Header(header) => (document, &header.value),
        }));
    }
    for (name, endpoint) in &snapshot.endpoints {
        let put = |secret| found.push((format!("endpoint `{name}`"), secret));
        match &endpoint.sign {
            Some(Sign::StandardWebhooks(secrets)) => secrets.iter().for_each(put),
            None => {}
        }
    }
    let environments = snapshot.processors.iter().filter_map(|(name, processor)| match processor {
        Processor::Exec(exec) => Some((format!("processor `{name}`"), &exec.env)),
        Processor::Http(_) => None,
    });
    let sources = snapshot.sources.iter().filter_map(|(name, source)| match source {
        Source::Exec(exec) => Some((format!("source `{name}`"), &exec.env)),
        Source::Inline(_) | Source::File(_) | Source::Http(_) => None,
    });
    for (document, env) in environments.chain(sources) {
        found.extend(env.values().filter_map(|value| match value {
            TextOrSecret::Secret(secret) => Some((document.clone(), secret)),
            TextOrSecret::Text(_) => None,
        }));
    }
    found
}

/// Every document that makes requests, with how they prove who sends them.
fn auths(snapshot: &Snapshot) -> Vec<(String, Option<&Auth>)> {
    let endpoints = snapshot.endpoints.iter();
    let endpoints = endpoints.map(|(name, endpoint)| (format!("endpoint `{name}`"), endpoint.auth.as_ref()));
    let processors = snapshot.processors.iter().filter_map(|(name, processor)| match processor {
        Processor::Http(http) => Some((format!("processor `{name}`"), http.auth.as_ref())),
        Processor::Exec(_) => None,
    });
    let sources = snapshot.sources.iter().filter_map(|(name, source)| match source {
        Source::Http(http) => Some((format!("source `{name}`"), http.auth.as_ref())),
        Source::Inline(_) | Source::File(_) | Source::Exec(_) => None,
    });
    endpoints.chain(processors).chain(sources).collect()
}

/// Secrets without a value, each by the variable that should hold it.
pub(super) fn unset_secrets(snapshot: &Snapshot, is_set: impl Fn(&SecretRef) -> bool) -> Vec<Finding> {
    let all = secrets(snapshot);
    let unset = all.iter().filter(|(_, secret)| !is_set(secret)).map(|(document, secret)| {
        let variable = secret.variable(&snapshot.namespace);
        Finding::problem(
            "secrets",
            format!("{document} needs `{variable}`, which is not set"),
            "set it in `.env`",
        )
    });
    let unset: Vec<_> = unset.collect();
    match (all.len(), unset.is_empty()) {
        (0, _) => Vec::new(),
        (count, true) => {
            vec![Finding::ok(
                "secrets",
                format!("all {count} that `{}` speaks of are set", snapshot.namespace),
            )]
        }
        (_, false) => unset,
    }
}

/// Whether anything is reached by `https`.
pub(super) fn speaks_tls(snapshot: &Snapshot) -> bool {
    let endpoints = snapshot.endpoints.values().map(|endpoint| &endpoint.url);
    let processors = snapshot.processors.values().filter_map(|processor| match processor {
        Processor::Http(http) => Some(&http.url),
        Processor::Exec(_) => None,
    });
    let sources = snapshot.sources.values().filter_map(|source| match source {
        Source::Http(http) => Some(&http.url),
        Source::Inline(_) | Source::File(_) | Source::Exec(_) => None,
    });
    let secure = |url: &String| url.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("https:"));
    endpoints.chain(processors).chain(sources).any(secure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use serde_json::json;

    fn snapshot() -> Snapshot {
        serde_json::from_value(json!({
            "namespace": "studio", "config": {}, "profiles": {}, "run_profiles": {}, "assets": {},
            "sources": { "list": { "kind": "exec", "name": "list", "argv": ["x"], "env": { "A": "${LIST_KEY}", "B": "plain" } } },
            "processors": {
                "write": { "kind": "exec", "name": "write", "argv": ["x"], "env": { "A": "${WRITE_KEY}" } },
                "remote": { "kind": "http", "name": "remote", "url": "http://x/", "auth": { "bearer": "${REMOTE_KEY}" } },
            },
            "endpoints": {
                "archive": { "name": "archive", "url": "HTTPS://x/", "auth": { "bearer": "${TOKEN}" }, "sign": { "standard_webhooks": ["${S1}", "${S2}"] } },
                "press": { "name": "press", "url": "http://x/", "auth": { "basic": { "user": "u", "password": "${PASSWORD}" } } },
            } }))
        .unwrap()
    }

    #[test]
    fn secrets_are_named_by_their_variables() {
        let snapshot = snapshot();
        let missing =
            unset_secrets(&snapshot, |secret| !matches!(secret.name(), "S2" | "LIST_KEY" | "REMOTE_KEY"));
        let messages: Vec<_> = missing.iter().map(|found| found.message.as_str()).collect();
        let expected = [
            "processor `remote` needs `ORBIT_SECRET_STUDIO_REMOTE_KEY`, which is not set",
            "endpoint `archive` needs `ORBIT_SECRET_STUDIO_S2`, which is not set",
            "source `list` needs `ORBIT_SECRET_STUDIO_LIST_KEY`, which is not set",
        ];
        assert_eq!(messages, expected);
        let all = unset_secrets(&snapshot, |_| true);
        assert_eq!(
            (all[0].level, all[0].message.as_str()),
            (Level::Ok, "all 7 that `studio` speaks of are set")
        );
    }

    #[test]
    fn certificates_are_needed_for_https_alone() {
        let mut snapshot = snapshot();
        assert!(speaks_tls(&snapshot));
        snapshot.endpoints.remove("archive");
        assert!(!speaks_tls(&snapshot));
        let Some(Processor::Http(remote)) = snapshot.processors.get_mut("remote") else { unreachable!() };
        remote.url = "https://x/".to_owned();
        assert!(speaks_tls(&snapshot));
    }
}
