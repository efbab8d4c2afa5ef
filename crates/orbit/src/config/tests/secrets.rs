//! No text that stands where a secret belongs is ever part of a problem, however it is spelled.

use super::{home, shown};
use crate::config::{Diagnostic, load};

/// The text of a secret that somebody wrote into a document.
const CANARY: &str = "sk-canary-5b1f";

#[test]
fn a_literal_secret_is_refused_and_never_shown() {
    let positions = [
        "auth: { bearer: @ }",
        "auth: { basic: { user: u, password: @ } }",
        "auth: { header: { name: X-Key, value: @ } }",
        "auth: { bearer: [ @ ] }",
        "auth: { bearer: { @: x } }",
        "auth: { @: x }",
        "auth: @",
        "auth: [ @ ]",
        "auth: { basic: { user: u, password: \"${A}\", @: x } }",
        "auth: { basic: { user: @, user: @, password: \"${A}\" } }",
        "auth: { header: { name: \"@ @\", value: \"${A}\" } }",
        "auth: { basic: { user: \"@:x\", password: \"${A}\" } }",
        "sign: { standard_webhooks: @ }",
        "sign: { standard_webhooks: [ @, \"${A}\" ] }",
        "sign: { standard_webhooks: [ [ @ ] ] }",
        "sign: @",
        "headers: { Authorization: \"Bearer @\" }",
        "headers: { Cookie: \"{{ @\" }",
    ];
    for (position, spelling) in spellings(&positions) {
        let text = position.replace('@', &spelling);
        let text = format!("name: e\nurl: \"https://a.example/\"\n{text}\n");
        never_shown("namespaces/n/endpoints/e.yaml", &text, true);
    }
    never_shown(
        "namespaces/n/endpoints/e.yaml",
        &format!("name: e\nurl: \"https://u:{CANARY}@a.example/\"\n"),
        true,
    );
    never_shown(
        "namespaces/n/endpoints/e.yaml",
        &format!("name: e\nurl: \"https://a/\"\nauth: {{ bearer: ${{{CANARY}}} }}\n"),
        true,
    );
    never_shown(
        "namespaces/n/endpoints/e.json",
        &format!("{{\"name\": \"e\", \"url\": \"https://a/\", \"auth\": {{\"bearer\": \"{CANARY}\"}}}}"),
        true,
    );
    never_shown(
        "namespaces/n/endpoints/e.json",
        &format!("{{\"name\": \"e\", \"url\": \"https://a/\", \"auth\": {{\"bearer\": \"{CANARY}\\x\"}}}}"),
        true,
    );
}

#[test]
fn the_environment_of_a_program_is_never_shown() {
    let positions = [
        ("env: { API_TOKEN: @ }", false),
        ("env: { A: \"${@}\" }", false),
        ("env: { A: [ @ ] }", true),
        ("env: { A: { B: @ } }", true),
        ("env: { \"@ b\": x }", true),
        ("env: { A: \"@\\0\" }", true),
        ("env: [ @ ]", true),
        ("env: @", true),
        ("env: { \"@\": x, \"@\": y }", true),
    ];
    for (position, is_error) in positions {
        for spelling in [CANARY.to_owned(), CANARY.replace('-', "_")] {
            let text = format!("name: x\nkind: exec\nargv: [a]\n{}\n", position.replace('@', &spelling));
            never_shown("namespaces/n/processors/x.yaml", &text, is_error);
        }
    }
}

/// Each position with the canary plain, quoted, as an alias, an anchor, a tag and a broken escape.
fn spellings<'a>(positions: &[&'a str]) -> Vec<(&'a str, String)> {
    let spelled = ["@", "\"@\"", "'@'", "*@", "&@ x", "!@ x", "\"@\\q\"", "${@}", "\"${@}\"", "12@"];
    positions
        .iter()
        .flat_map(|position| {
            // Inside quotes only the plain text can stand.
            let count = if position.contains("@\"") || position.contains("@ @") || position.contains("\"@") {
                1
            } else {
                spelled.len()
            };
            spelled[..count].iter().map(move |spelling| (*position, spelling.replace('@', CANARY)))
        })
        .collect()
}

#[track_caller]
fn never_shown(path: &str, text: &str, is_error: bool) {
    let loaded = load(home(&[(path, text)]).path());
    let json = serde_json::to_string(&loaded.problems).unwrap();
    let all = format!("{}{json}", shown(&loaded));
    for canary in [CANARY, "canary", "5b1f"] {
        assert!(!all.contains(canary), "{text}\n{all}");
    }
    assert_eq!(loaded.problems.iter().any(Diagnostic::is_error), is_error, "{text}\n{all}");
    assert!(!loaded.problems.is_empty(), "{text}");
}
