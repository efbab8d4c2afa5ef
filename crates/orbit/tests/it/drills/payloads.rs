//! Stored payloads that were damaged or taken away: named by their digest, for the run that needs them and for no other.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use orbit_core::digest::Digest;
use serde_json::Value;

use super::leaks::Leaks;
use crate::home::Home;
use crate::receiver::{Receiver, Reply};

/// Damages or takes away the payload that it was given, and fails, so that the next attempt is given it again.
const OF_ITS_INPUT: &str =
    "d=$(sha256sum | cut -c1-64); p=../../../blobs/$(echo $d | cut -c1-2)/$(echo $d | cut -c3-)";

fn damage(blob: &Path) {
    fs::set_permissions(blob, fs::Permissions::from_mode(0o600)).unwrap();
    let bytes = fs::read(blob).unwrap();
    fs::write(blob, bytes.to_ascii_uppercase()).unwrap();
}

fn take_away(blob: &Path) {
    fs::remove_file(blob).unwrap();
}

/// Does this to the payload that it receives first, and fails; what it gets then it would take.
fn receiver(home: &Home, act: fn(&Path)) -> Receiver {
    let blobs = home.path("data/lab/blobs");
    Receiver::start(move |request, before| {
        if before > 0 {
            return Reply::Status(200, "", "");
        }
        let hex = Digest::of(&request.body).hex();
        act(&blobs.join(&hex[..2]).join(&hex[2..]));
        Reply::Status(503, "", "")
    })
}

#[test]
fn a_damaged_or_missing_payload_is_named_and_fails_its_own_run_alone() {
    let home = Home::lab(5);
    // Every payload is large enough to be a file.
    home.processor("one", "cat; seq 20000; echo one", "");
    let retry = "retry: { attempts: 3, backoff: { initial: 10ms } }\n";
    home.processor("damages", &format!("{OF_ITS_INPUT}; chmod 600 $p; echo damaged >$p; exit 1"), retry);
    home.processor("removes", &format!("{OF_ITS_INPUT}; rm -f $p; exit 1"), retry);
    let (damaged, removed, alive) =
        (receiver(&home, damage), receiver(&home, take_away), Receiver::accepting());
    for (name, receiver) in [("damaged", &damaged), ("removed", &removed), ("alive", &alive)] {
        home.endpoint(name, &receiver.url("/"), "");
    }
    home.profile("plain", 1, "distribution_map: [{ endpoint: alive }]\n");
    home.profile_of("damages", 2, ["one", "damages", "three"], "");
    home.profile_of("removes", 3, ["one", "removes", "three"], "");
    home.profile("damaged", 4, "distribution_map: [{ endpoint: damaged }]\n");
    home.profile("removed", 5, "distribution_map: [{ endpoint: removed }]\n");
    home.run_profile("hostile", 2, "[plain, damages, removes, damaged, removed]", "");
    let serving = home.serve();
    assert_eq!(home.run(&["run", "daily", "--wait", "110s"]).code, 0);
    let leaks = Leaks::before(&home, &serving);
    let answer = home.json(&["run", "hostile", "--wait", "110s"], 3);
    let runs = answer["runs"].as_array().unwrap();
    let run_of = |label: &str| runs.iter().find(|run| run["profile"] == label).unwrap();
    assert_eq!(run_of("plain")["outcome"], "succeeded");
    for (label, words) in [("damages", "is damaged in the store"), ("removes", "is not in the store")] {
        let run = run_of(label);
        let expected = format!("the payload {} {words}", run["steps"][0]["digest"].as_str().unwrap());
        assert_eq!(run["outcome"], "failed", "{run}");
        assert!(run["reason"].as_str().unwrap().contains(&expected), "{expected}: {run}");
        // The attempt that found it was the last one, though there were more.
        assert_eq!(run["steps"][1]["attempts"], 2, "{run}");
    }
    for (label, before, after) in [
        ("damaged", "the stored bytes of artifact ", " are not those of its digest"),
        ("removed", "the artifact ", " is not stored"),
    ] {
        let run = run_of(label);
        let delivery = &run["deliveries"][0];
        let expected = format!("{before}{}{after}", delivery["digest"].as_str().unwrap());
        assert_eq!(
            (&run["outcome"], &delivery["state"]),
            (&Value::from("partial"), &Value::from("dead")),
            "{run}"
        );
        assert!(delivery["reason"].as_str().unwrap().contains(&expected), "{expected}: {delivery}");
        assert_eq!(delivery["receipts"].as_array().unwrap().len(), 2, "{delivery}");
    }
    // Nothing damaged was sent.
    assert_eq!((damaged.requests().len(), removed.requests().len()), (1, 1));
    leaks.none();
    assert_eq!(home.run(&["run", "daily", "--wait", "110s"]).code, 0);
    assert_eq!(serving.stop(), 0);
}
