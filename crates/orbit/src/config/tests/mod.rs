//! The loader over whole homes: what each problem reads like, and that none hides another.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Loaded, load};

mod normalize;
mod notify;
mod secrets;
mod services;

const PROCESSOR: &str = "name: p\nkind: exec\nargv: [cat]\n";
const SOURCE: &str = "name: s\nkind: inline\nitems: [ { label: a } ]\n";
const PROFILE: &str = "profile_id: 6f2f6c3e-6d0a-4c53-9a57-8f6f5a0f1b11\nlabel: q\n\
    execution_rules: { tiers: [ { processor: p }, { processor: p }, { processor: p } ] }\n";
const RUN_PROFILE: &str = "run_profile_id: 0f6a2b8e-52b5-4d0e-8d3b-d0c4f6c0a7d2\nlabel: r\n\
    execution_policy: { selection: { source: s }, profiles: [q] }\n";

const VALID: [(&str, &str); 5] = [
    ("orbit.yaml", ""),
    ("namespaces/n/processors/p.yaml", PROCESSOR),
    ("namespaces/n/sources/s.yaml", SOURCE),
    ("namespaces/n/profiles/q.yaml", PROFILE),
    ("namespaces/n/run-profiles/r.yaml", RUN_PROFILE),
];

fn write(home: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = home.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A valid home with these files on top.
fn home(files: &[(&str, &str)]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), &VALID);
    write(home.path(), files);
    home
}

fn shown(loaded: &Loaded) -> String {
    let lines: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    let text = lines.join(
        "
",
    ) + if lines.is_empty() {
        ""
    } else {
        "
"
    };
    text.replace("namespaces/n/", "…/")
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &str) {
    let loaded = load(home(files).path());
    assert_eq!(shown(&loaded), expected);
    let is_wrong = loaded.problems.iter().any(super::Diagnostic::is_error);
    assert_eq!(
        loaded.namespaces.len(),
        usize::from(!is_wrong || files.iter().all(|(name, _)| name.starts_with("orbit")))
    );
}

#[track_caller]
fn check_processor(text: &str, expected: &str) {
    check(&[("namespaces/n/processors/x.yaml", text)], expected);
}

#[track_caller]
fn check_endpoint(text: &str, expected: &str) {
    let text = format!("name: e\n{text}");
    let profile = format!("{PROFILE}distribution_map: [ {{ endpoint: e }} ]\n");
    check(&[("namespaces/n/endpoints/e.yaml", &text), ("namespaces/n/profiles/q.yaml", &profile)], expected);
}

#[test]
fn a_valid_home_gives_a_snapshot() {
    check(&[], "");
    let loaded = load(home(&[("namespaces/n/namespace.yaml", "label: N\n")]).path());
    let snapshot = &loaded.namespaces[0].snapshot;
    assert_eq!(snapshot.config.label, "N");
    assert_eq!(snapshot.run_profiles["r"].execution_policy.profiles, ["q"]);
    let spelled_out = home(&[
        ("namespaces/n/namespace.yaml", "label: N\n"),
        ("namespaces/n/processors/p.yaml", &format!("{PROCESSOR}concurrency: 2\nreuse: false\n")),
    ]);
    assert_eq!(load(spelled_out.path()).namespaces[0].snapshot.digest(), snapshot.digest());
}

#[test]
fn forms_of_a_file() {
    check(
        &[(
            "namespaces/n/processors/x.yaml",
            "name: x\nkind: exec\nargv: [a]\n---\nname: y\nkind: exec\nargv: [a]\n",
        )],
        "",
    );
    check(
        &[(
            "namespaces/n/processors/x.json",
            "{\n\t\"name\": \"x\", \"kind\": \"exec\", \"argv\": [\"a\"]\n}",
        )],
        "",
    );
    check(
        &[("namespaces/n/processors/x.json", "[{\"name\": \"x\", \"kind\": \"exec\", \"argv\": [\"a\"]}]")],
        "",
    );
    check(&[("namespaces/n/processors/x.yml", "\u{feff}name: x\r\nkind: exec\r\nargv: [sleep, 1]\r\n")], "");
    check(&[("namespaces/n/processors/x.yaml", "# name: x\n")], "");
    check(&[("namespaces/n/processors/.x.yaml", "]")], "");
    check(
        &[("namespaces/n/processors/x.yaml", " \n")],
        "…/processors/x.yaml:1:1: warning: the file holds no document\n",
    );
    check(
        &[("namespaces/n/processors/x.yaml", "just text\n")],
        "…/processors/x.yaml:1:1: expected a map, found text\n",
    );
    check(
        &[("namespaces/n/processors/x.yaml", "name: x\n\tkind: exec\n")],
        "…/processors/x.yaml:1:7: this is not YAML: while scanning a plain scalar, found a tab\n  hint: YAML is indented with spaces\n",
    );
    check(&[("orbit.json", "{}")], "orbit.json:1:1: `orbit.yaml` is there too; expected one of them\n");
    check(
        &[("namespaces/n/namespace.yaml", "label: a\n---\nlabel: b\n")],
        "…/namespace.yaml:3:1: expected one document in this file\n",
    );
}

#[test]
fn every_problem_at_once() {
    check(
        &[
            (
                "orbit.yaml",
                "node: { nme: x }\nlimits: { runs_concurrent: 0, drain: 5 }\nlisten: { address: here }\n",
            ),
            ("namespaces/n/processors/a.yaml", "name: [\n"),
            (
                "namespaces/n/processors/b.yaml",
                "kind: exec\nargv: cat\nlimits: { memory: 10 MB }\nretry: { attempts: 4 }\nretry: {}\n",
            ),
            (
                "namespaces/n/sources/c.yaml",
                "name: c\nkind: fil\n---\nname: -d\nkind: inline\nitems: [ { label: a, weight: 0 }, { weight: no } ]\n",
            ),
        ],
        "…/processors/a.yaml:1:7: this is not YAML: unclosed bracket '['\n\
         …/processors/b.yaml:1:1: missing key `name`\n\
         …/processors/b.yaml:2:7: expected a list, found text\n  hint: a list is written `[a, b]`, or a line `- a` for each\n\
         …/processors/b.yaml:3:19: `10 MB` is not a size: expected a whole number and one of B, KiB, MiB, GiB, TiB, as in `10 MiB`\n  \
         hint: sizes are binary: B, KiB, MiB, GiB or TiB, written exactly so\n\
         …/processors/b.yaml:4:20: expected a whole number from 1 to 3, found `4`\n\
         …/processors/b.yaml:5:1: duplicate key `retry`\n\
         …/sources/c.yaml:2:7: expected one of `inline`, `file`, `exec`, `http`, found `fil`\n  hint: did you mean `file`?\n\
         …/sources/c.yaml:4:7: `-d` is not a name: expected 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit\n\
         …/sources/c.yaml:6:30: expected a number greater than 0, found `0`\n\
         …/sources/c.yaml:6:35: missing key `label`\n\
         …/sources/c.yaml:6:45: expected a number greater than 0, found text\n\
         orbit.yaml:1:9: unknown key `nme`\n  hint: did you mean `name`?\n\
         orbit.yaml:2:28: expected a whole number from 1 to 1024, found `0`\n\
         orbit.yaml:2:38: `5` is not a duration: expected whole numbers with d, h, m, s or ms, as in `1h30m`\n  \
         hint: a number needs its unit, as in `30s`\n",
    );
}

#[test]
fn what_later_versions_do() {
    let later = |at: &str, word: &str, hint: &str| {
        format!("…/{at}: `{word}` is not supported by this version\n  hint: {hint}\n")
    };
    check_processor(
        "name: x\nkind: http\nurl: \"https://a.example/\"\ncompletion: callback\n",
        &later("processors/x.yaml:4:13", "callback", "one of `sync`, `poll`"),
    );
    check(
        &[("namespaces/n/namespace.yaml", "caps: { runs_per_day: 3 }\n")],
        &later("namespace.yaml:1:9", "runs_per_day", "leave it out"),
    );
    let text = RUN_PROFILE.replace("source: s", "source: s, choose: { processor: p }");
    check(
        &[("namespaces/n/run-profiles/r.yaml", &text)],
        &later("run-profiles/r.yaml:3:55", "processor", "one of `weighted`, `in_order`"),
    );
    check(
        &[("orbit.yaml", "listen: { public_url: \"https://a.example\" }\n")],
        &later("orbit.yaml:1:11", "public_url", "leave it out").replace("…/", ""),
    );
    check(
        &[("namespaces/n/rules/a.yaml", "x: 1\n")],
        &later("rules:1:1", "rules", "leave them out").replace("`rules` is", "`rules` are"),
    );
}

#[test]
fn references_and_duplicates() {
    check(
        &[
            ("namespaces/n/processors/p2.yaml", PROCESSOR),
            ("namespaces/n/profiles/q.yaml", &PROFILE.replace("[ { processor: p }", "[ { processor: pp, reference: x }")),
            ("namespaces/n/run-profiles/r.yaml", &RUN_PROFILE.replace("source: s", "source: t").replace("[q]", "[q, z, q]")),
            ("namespaces/n/run-profiles/r2.yaml", &RUN_PROFILE.replace("label: r", "label: r2")),
        ],
        "…/processors/p2.yaml:1:7: processor `p` is there twice\n  hint: the first is at namespaces/n/processors/p.yaml:1:7\n\
         …/profiles/q.yaml:3:42: there is no processor `pp`\n  hint: there are: `p`\n\
         …/profiles/q.yaml:3:57: asset `x` is bound neither here nor by run profile `r2`\n  \
         hint: add it to `asset_bindings` here or to the run profile's `asset_bundle`\n\
         …/profiles/q.yaml:3:57: asset `x` is bound neither here nor by run profile `r`\n  \
         hint: add it to `asset_bindings` here or to the run profile's `asset_bundle`\n\
         …/profiles/q.yaml:3:57: only the third tier takes a reference\n\
         …/run-profiles/r.yaml:3:42: there is no source `t`\n  hint: there are: `s`\n\
         …/run-profiles/r.yaml:3:61: there is no profile `z`\n  \
         hint: there are: `q`\n\
         …/run-profiles/r.yaml:3:64: profile `q` is listed twice\n\
         …/run-profiles/r2.yaml:1:17: the id of a run profile `0f6a2b8e-52b5-4d0e-8d3b-d0c4f6c0a7d2` is there twice\n  \
         hint: the first is at namespaces/n/run-profiles/r.yaml:1:17\n"
            .replace("namespaces/n/", "…/")
            .as_str(),
    );
    // What cannot be read is not said to be missing.
    check(
        &[("namespaces/n/processors/p.yaml", "name: p\nkind: exec\n")],
        "…/processors/p.yaml:1:1: missing key `argv`\n",
    );
    check(
        &[("namespaces/n/processors/p.yaml", "name: p: q\n")],
        "…/processors/p.yaml:1:8: this is not YAML: mapping values are not allowed in this context\n",
    );
}

#[test]
fn processors() {
    let with = |line: &str| format!("name: x\nkind: exec\nargv: [cat]\n{line}\n");
    let check = |line: &str, expected: &str| check_processor(&with(line), expected);
    let at = |column: usize, text: &str| format!("…/processors/x.yaml:4:{column}: {text}\n");
    check("limits: { wall: 0s }", &at(17, "expected more than no time"));
    check("limits: { wall: 9000d }", &at(17, "`9000d` is too long: at most 3650d"));
    check("concurrency: 0", &at(14, "expected a whole number from 1 to 4294967295, found `0`"));
    check(
        "concurrency: \"2\"",
        &at(14, "expected a whole number from 1 to 4294967295, found text\n  hint: remove the quotes"),
    );
    check("validate: { prefix_hex: 0xZZ }", &at(25, "expected 1 to 256 bytes in hex, two digits each"));
    check("validate: { bytes_min: 2 B, bytes_max: 1 B }", &at(40, "less than `bytes_min`, 2 B"));
    check(
        "output: { extension: .wav }",
        &at(
            22,
            "expected 1 to 16 lower-case letters and digits\n  hint: an extension is written without its dot, as in `json`",
        ),
    );
    check("output: { media_type: text }", &at(23, "expected a media type such as `application/json`"));
    check(
        "output: { to: file }",
        &at(
            15,
            "warning: the output is a file, but no argument names it\n  hint: pass `{{ output }}` to the program, or write `to: stdout`",
        ),
    );
    check("retry: { backoff: { factor: 11 } }", &at(29, "expected a number from 1.0 to 10.0, found `11`"));
    check(
        "retry: { backoff: { initial: 2m } }",
        &at(8, "the longest wait is shorter than the first").replace(":4:8", ":4:19"),
    );
    check("success_exit_codes: [0, 256]", &at(25, "expected an exit code from 0 to 255, found `256`"));
    check("env: { ORBIT_X: a }", &at(8, "variables that begin with `ORBIT_` are set by the engine"));
    check("reuse: yes", &at(8, "expected `true` or `false`, found text"));
    check("<<: {}", &at(1, "merge keys are not part of YAML 1.2\n  hint: write the keys out"));
    check_processor(
        "name: x\nkind: exec\nargv: []\n",
        "…/processors/x.yaml:3:7: expected a list of at least 1, found 0\n",
    );
    check_processor(
        "name: x\nkind: exec\nargv: [../x]\n",
        "…/processors/x.yaml:3:8: the path leaves the namespace's folder\n…/processors/x.yaml:3:8: warning: the file is not there\n",
    );
    check_processor(
        "name: x\nkind: exec\nargv: [a, \"{{ input\"]\n",
        "…/processors/x.yaml:3:11: not a template: syntax error: unexpected end of input, expected end of variable block\n",
    );
    check_processor(
        "name: x\nargv: [a]\n",
        "…/processors/x.yaml:1:1: missing key `kind`\n  hint: one of `exec`, `http`\n",
    );
}

#[test]
fn endpoints() {
    let check = |lines: &str, expected: &str| check_endpoint(lines, expected);
    let https = "url: \"https://a.example/{{ run.run_id }}\"\n";
    check(https, "");
    check(
        "url: \"ftp://a\"\n",
        "…/endpoints/e.yaml:2:6: the address does not begin with `http://` or `https://`\n",
    );
    check(
        "url: \"https://{{ run.run_id }}/\"\n",
        "…/endpoints/e.yaml:2:6: a template may stand only after the host and port of the address\n",
    );
    let plain = "auth: { bearer: \"${T}\" }\n";
    check(&format!("url: \"http://127.0.0.1:1/\"\n{plain}"), "");
    check(&format!("url: \"http://[::1]:1/\"\n{plain}"), "");
    check(
        &format!("url: \"http://a.example/\"\n{plain}"),
        "…/endpoints/e.yaml:2:6: warning: credentials would leave this machine in plain text\n  hint: use `https://`\n",
    );
    let with = |line: &str, expected: &str| {
        check(&format!("{https}{line}\n"), &format!("…/endpoints/e.yaml:3:{expected}\n"));
    };
    with("headers: { Host: a }", "12: `Host` is set by the engine");
    with("headers: { \"A B\": a }", "12: expected a header's name");
    with("headers: { A: 1, a: 2 }", "18: `a` is there twice: case does not matter");
    with("headers: { A: \"x\\r\\ny\" }", "15: a header's value is one line");
    with("retry: { attempts: 21 }", "20: expected a whole number from 1 to 20, found `21`");
    with("rate: { per_second: 0 }", "21: expected a number greater than 0, found `0`");
    with(
        "addresses: { allow: [127.0.0.1] }",
        "22: `127.0.0.1` is not a network: expected an address and a prefix\n  hint: one address alone is written `192.0.2.7/32` or `2001:db8::7/128`",
    );
    with("method: GET", "9: expected one of `POST`, `PUT`, `PATCH`, found `GET`");
    with("auth: {}", "7: expected a map with one of `bearer`, `basic`, `header`, found 0 keys");
    check(&format!("{https}sign: {{ standard_webhooks: \"${{A}}\" }}\n"), "");
    check(&format!("{https}sign: {{ standard_webhooks: [\"${{A}}\", \"${{B}}\"] }}\n"), "");
    with("sign: { standard_webhooks: [] }", "28: expected a list of 1 to 10, found 0");
    check(
        &format!(
            "{https}ordered: true\nbreaker: {{ failures: 3, pause: 5s, pause_max: 5s }}\ndisable_after: 2d\n"
        ),
        "",
    );
    with("ordered: first", "10: expected `true` or `false`, found text");
    with("breaker: { failures: 0 }", "22: expected a whole number from 1 to 100, found `0`");
    with("breaker: { pause: 0s }", "19: expected more than no time");
    with(
        "breaker: { pause: 1h }",
        "10: expected at least the pause of 1h\n  hint: the pause grows from `pause` to `pause_max`",
    );
    with(
        "disable_after: 0s",
        "16: expected more than no time\n  hint: a long time, such as `3650d`, is as good as never",
    );
}

#[test]
fn run_profiles_and_sources() {
    let policy =
        |text: &str| RUN_PROFILE.replace("execution_policy: { ", &format!("execution_policy: {{ {text}, "));
    let check_policy = |text: &str, expected: &str| {
        check(
            &[("namespaces/n/run-profiles/r.yaml", &policy(text))],
            &format!("…/run-profiles/r.yaml:3:{expected}\n"),
        );
    };
    check(
        &[(
            "namespaces/n/run-profiles/r.yaml",
            &policy("schedule: [ { every: 10m }, { cron: \"0 6 * * *\" } ]"),
        )],
        "",
    );
    check_policy(
        "schedule: { every: 10m, cron: \"* * * * *\" }",
        "40: expected either `cron` or `every`, not both",
    );
    check_policy("schedule: [ { every: 10m }, {} ]", "49: expected `cron` or `every`");
    check_policy("schedule: []", "31: expected a list of 1 to 32, found 0");
    check_policy("deadline: 0s", "31: expected more than no time");
    check_policy(
        "overlap: queue",
        "30: expected one of `skip`, `queue_one`, `queue_all`, `cancel_other`, `allow`, found `queue`",
    );
    let source = |text: &str, expected: &str| check(&[("namespaces/n/sources/x.yaml", text)], expected);
    source(
        "name: x\nkind: file\npath: ../a.csv\n",
        "…/sources/x.yaml:3:7: the path leaves the namespace's folder\n…/sources/x.yaml:3:7: warning: the file is not there\n",
    );
    source(
        "name: x\nkind: inline\nitems: [ { label: \"\" } ]\n",
        "…/sources/x.yaml:3:19: expected a label of 1 to 4096 bytes\n",
    );
    source(
        "name: x\nkind: inline\nitems: [ { label: a, metadata: { n: .nan } } ]\n",
        "…/sources/x.yaml:3:37: expected a finite number\n  hint: quote it if text is meant\n",
    );
}

#[test]
fn files_that_cannot_be_read() {
    let home = home(&[("outside.txt", "x"), ("namespaces/n/assets/a.txt", "abc")]);
    let namespace = home.path().join("namespaces/n");
    fs::write(namespace.join("processors/latin.yaml"), b"name: x\nlabel: \xe9\n").unwrap();
    symlink(home.path().join("outside.txt"), namespace.join("processors/link.yaml")).unwrap();
    symlink("nowhere", namespace.join("processors/none.yaml")).unwrap();
    fs::create_dir(namespace.join("processors/folder.yaml")).unwrap();
    fs::write(namespace.join("processors/large.yaml"), vec![b'#'; (4 << 20) + 1]).unwrap();
    fs::create_dir(namespace.join("processor")).unwrap();
    fs::create_dir_all(home.path().join("namespaces/Bad Name")).unwrap();
    fs::create_dir_all(home.path().join("namespaces/system")).unwrap();
    symlink(home.path().join("outside.txt"), namespace.join("assets/link.txt")).unwrap();
    let bound = "asset_bindings: { a: assets/a.txt, b: assets/b.txt, c: assets/link.txt, d: /etc/passwd }\n";
    fs::write(namespace.join("profiles/q.yaml"), format!("{PROFILE}{bound}")).unwrap();
    let loaded = load(home.path());
    assert_eq!(
        shown(&loaded),
        "namespaces/Bad Name:1:1: `Bad Name` is not a namespace name: expected lower-case letters and digits in words joined by `-`, at most 40 bytes\n\
         …/processor:1:1: warning: no document is read from this folder\n  hint: did you mean `processors`?\n\
         …/processors/folder.yaml:1:1: expected a regular file\n\
         …/processors/large.yaml:1:1: the file is larger than 4 MiB\n\
         …/processors/latin.yaml:2:8: the file is not UTF-8\n\
         …/processors/link.yaml:1:1: the file is a symbolic link that leaves its folder\n\
         …/processors/none.yaml:1:1: the file cannot be read: No such file or directory (os error 2)\n\
         …/profiles/q.yaml:4:39: the file cannot be read: No such file or directory (os error 2)\n\
         …/profiles/q.yaml:4:56: the file is a symbolic link that leaves its folder\n\
         …/profiles/q.yaml:4:76: expected a path relative to the namespace's folder\n\
         …/profiles/q.yaml:4:76: the file is a symbolic link that leaves its folder\n\
         namespaces/system:1:1: the namespace `system` is built in and has no documents\n"
    );
    assert!(loaded.namespaces.is_empty());
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        shown(&load(empty.path())),
        "orbit.yaml:1:1: this folder is not a home\n  hint: make one with `orbit init DIR`\n"
    );
}

#[test]
fn assets_are_pinned() {
    let profile = format!("{PROFILE}asset_bindings: {{ a: assets/a.txt }}\n");
    let home = home(&[("namespaces/n/assets/a.txt", "abc"), ("namespaces/n/profiles/q.yaml", &profile)]);
    let loaded = load(home.path());
    assert_eq!(shown(&loaded), "");
    let namespace = &loaded.namespaces[0];
    let asset = &namespace.assets[0];
    assert_eq!((asset.bytes, asset.digest), (3, orbit_core::digest::Digest::of(b"abc")));
    assert!(asset.path.is_absolute());
    assert_eq!(namespace.snapshot.assets["assets/a.txt"].digest, asset.digest);
    fs::write(home.path().join("namespaces/n/assets/a.txt"), "abd").unwrap();
    assert_ne!(load(home.path()).namespaces[0].snapshot.digest(), namespace.snapshot.digest());
}

#[test]
fn one_namespace_does_not_hide_another() {
    let home =
        home(&[("namespaces/m/processors/x.yaml", "name: x\nkind: exe\n"), (".env", "ORBIT_PAUSED=maybe\n")]);
    let loaded = load(home.path());
    assert!(
        shown(&loaded)
            .contains("namespaces/m/processors/x.yaml:2:7: expected one of `exec`, `http`, found `exe`")
    );
    assert!(shown(&loaded).contains(".env:1:1: `ORBIT_PAUSED` in `.env` is neither"));
    let names: Vec<_> = loaded.namespaces.iter().map(|namespace| namespace.name.as_str()).collect();
    assert_eq!(names, ["n"]);
}

#[test]
fn limits_of_profiles_and_run_profiles() {
    let of = |count: u32| {
        let run_profile = RUN_PROFILE.replace("[q]", &format!("[q], concurrency: {count}"));
        (format!("{PROFILE}concurrency: {count}\n"), run_profile)
    };
    let (profile, run_profile) = of(0);
    let wrong = "expected a whole number from 1 to 4294967295, found `0`";
    check(
        &[("namespaces/n/profiles/q.yaml", &profile), ("namespaces/n/run-profiles/r.yaml", &run_profile)],
        &format!("…/profiles/q.yaml:4:14: {wrong}\n…/run-profiles/r.yaml:3:75: {wrong}\n"),
    );
    let (profile, run_profile) = of(3);
    check(
        &[("namespaces/n/profiles/q.yaml", &profile), ("namespaces/n/run-profiles/r.yaml", &run_profile)],
        "",
    );
}
