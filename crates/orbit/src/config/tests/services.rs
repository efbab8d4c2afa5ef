//! Processors and sources behind HTTP.

use super::{PROFILE, check, check_processor};

fn service(more: &str) -> String {
    format!("name: x\nkind: http\nurl: \"https://a.example/v1\"\n{more}")
}

#[test]
fn every_key_of_a_service() {
    check_processor(&service(""), "");
    check_processor(
        &service(
            "method: PUT\nauth: { bearer: \"${A}\" }\nheaders: { X-A: \"{{ initiation.label }}\" }\n\
             addresses: { allow: [127.0.0.0/8] }\ncompletion: poll\npoll: { every: 5s }\ncontext: part\n\
             output: { extension: txt, media_type: text/plain }\nlimits: { wall: 1h, output: 2 GiB }\ntimeout: 5m\n\
             validate: { bytes_min: 1 B }\nretry: { attempts: 2 }\nconcurrency: 8\nreuse: false\n",
        ),
        "",
    );
}

#[test]
fn what_a_service_may_not_say() {
    let check = |more: &str, at: &str, expected: &str| {
        check_processor(&service(more), &format!("…/processors/x.yaml:{at}: {expected}\n"));
    };
    check("timeout: 0s\n", "4:10", "expected more than no time");
    check("limits: { wall: 0s }\n", "4:17", "expected more than no time");
    check("limits: { output: 0 B }\n", "4:19", "expected more than no bytes");
    check("poll: { every: 50ms }\n", "4:16", "expected at least 100ms");
    check(
        "poll: { every: 5s }\n",
        "4:7",
        "`poll` is for `completion: poll`: this service's first answer is its output\n  hint: add `completion: poll`, or leave it out",
    );
    check("headers: { X-Orbit-Context: a }\n", "4:12", "`X-Orbit-Context` is set by the engine");
    check("headers: { Content-Type: a/b }\n", "4:12", "`Content-Type` is set by the engine");
    check(
        "headers: { Authorization: a }\n",
        "4:12",
        "`Authorization` carries a credential (not shown)\n  hint: use `auth`",
    );
    check("output: { media_type: plain }\n", "4:23", "expected a media type such as `application/json`");
    check(
        "reuse: true\n",
        "4:8",
        "`reuse: true` is for programs: a service is asked every time\n  hint: leave it out",
    );
    check("validate: { bytes_min: 2 B, bytes_max: 1 B }\n", "4:40", "less than `bytes_min`, 2 B");
    check("contxt: part\n", "4:1", "unknown key `contxt`\n  hint: did you mean `context`?");
    check_processor(
        "name: x\nkind: http\nurl: \"https://{{ profile.label }}/\"\n",
        "…/processors/x.yaml:3:6: a template may stand only after the host and port of the address\n",
    );
    check_processor(
        "name: x\nkind: http\nurl: \"http://a.example/\"\nauth: { bearer: \"${A}\" }\n",
        "…/processors/x.yaml:3:6: warning: credentials would leave this machine in plain text\n  hint: use `https://`\n",
    );
}

#[test]
fn a_reference_needs_a_part() {
    let profile = PROFILE.replace("{ processor: p } ]", "{ processor: x, reference: a } ]");
    let files = |context: &str, expected: &str| {
        let processor = service(&format!("context: {context}\n"));
        let profile = format!("{profile}asset_bindings: {{ a: a.png }}\n");
        check(
            &[
                ("namespaces/n/processors/x.yaml", &processor),
                ("namespaces/n/profiles/q.yaml", &profile),
                ("namespaces/n/a.png", "png"),
            ],
            expected,
        );
    };
    files("part", "");
    let hint = "an http processor takes one as a part of its body: write `context: part` there";
    files(
        "header",
        &format!("…/profiles/q.yaml:3:92: processor `x` has no place for a reference\n  hint: {hint}\n"),
    );
}

#[test]
fn sources_behind_http() {
    let check = |more: &str, expected: &str| {
        let text = format!("name: s\nkind: http\nurl: \"https://a.example/list{more}");
        check(&[("namespaces/n/sources/s.yaml", &text)], expected);
    };
    check("\"\n", "");
    check("?a=b\"\nformat: csv\nauth: { bearer: \"${A}\" }\nlimits: { output: 1 MiB }\ntimeout: 5s\n", "");
    check("\"\nformat: xml\n", "…/sources/s.yaml:4:9: expected one of `jsonl`, `csv`, found `xml`\n");
    check("\"\ntimeout: 0s\n", "…/sources/s.yaml:4:10: expected more than no time\n");
    let literal = "no template is rendered here: a source knows nothing of a run";
    check("/{{ run.run_id }}\"\n", &format!("…/sources/s.yaml:3:6: {literal}\n"));
    check("\"\nheaders: { X-A: \"{{ a }}\" }\n", &format!("…/sources/s.yaml:4:17: {literal}\n"));
}
