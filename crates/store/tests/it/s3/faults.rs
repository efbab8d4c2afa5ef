//! Every request of putting and reading fails in turn: nothing is acknowledged that is not whole, and it goes on by itself.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use orbit_core::digest::Digest;
use orbit_store::blobs::bucket::{BucketClient, BucketSettings, Probed, Waits};
use orbit_store::blobs::{BlobError, Blobs, BucketFault};

use super::proxy::{Fault, Proxy, Rule};
use super::{blobs, server, settings, soon, unfinished};

/// Two parts of an upload, and one request more than a payload of one.
const PARTS: usize = 9 * 1024 * 1024;
/// How long an answer that never comes is waited for. On a slow machine others may take as long.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// So often what passes is tried again.
const TRIES_MAX: u32 = 30;

struct World {
    folder: tempfile::TempDir,
    bucket: String,
    proxy: Proxy,
}

fn world() -> World {
    let (folder, bucket) = (tempfile::tempdir().unwrap(), server::bucket());
    World { folder, bucket, proxy: Proxy::start(server::address()) }
}

impl World {
    /// A node behind the network that fails, with an empty cache.
    fn node(&self, waits: Waits) -> Blobs {
        let cache = self.folder.path().join("cache");
        _ = fs::remove_dir_all(&cache);
        blobs(self.proxy.address, &self.bucket, &cache, waits)
    }

    /// What another node finds, over a network that does not.
    fn stored(&self, digest: Digest) -> Result<u64, BlobError> {
        blobs(server::address(), &self.bucket, &self.folder.path().join("other"), Waits::default())
            .verify(digest)
    }

    fn fail(&self, from: usize, times: usize, line: &'static str, fault: Fault) {
        self.proxy.set(Some(Rule { from, times, line, fault }));
    }
}

fn content(count: usize, seed: u8) -> Vec<u8> {
    (0..=250).cycle().take(count).map(|byte: u8| byte ^ seed).collect()
}

fn faults() -> [Fault; 5] {
    [
        Fault::Answer(503, "SlowDown"),
        Fault::Answer(500, "InternalError"),
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::Silence,
    ]
}

/// The same waits, with a short one for an answer only where it never comes.
fn waits_for(fault: &Fault, waits: Waits) -> Waits {
    if matches!(fault, Fault::Silence) { Waits { silence_max: SILENCE_MAX, ..waits } } else { waits }
}

/// What comes of it once nothing fails any more: the one who asks is the same, and asks again as the engine does.
fn at_last<T>(act: impl Fn() -> Result<T, BlobError>) -> T {
    for _ in 1..TRIES_MAX {
        match act() {
            Err(failed) if failed.passes() => {}
            answer => return answer.unwrap(),
        }
    }
    act().unwrap()
}

#[test]
fn each_request_of_a_put_fails_once_and_what_is_acknowledged_is_whole() {
    for count in [70_000, PARTS] {
        let world = world();
        world.node(Waits::default()).put_bytes(&content(count, 0)).unwrap();
        let requests = world.proxy.seen().len();
        assert_eq!(requests, if count == PARTS { 5 } else { 2 }, "{:?}", world.proxy.seen());
        let mut seed = 0;
        for nth in 0..requests {
            // A large payload takes long: one fault of each of its requests is played, and of the last one that the server does and nobody hears of.
            let (first, played) = if count == PARTS { (nth + 4, 1) } else { (nth, 5) };
            for fault in faults().into_iter().cycle().skip(first).take(played) {
                seed += 1;
                let content = content(count, seed);
                world.fail(nth, 1, "", fault.clone());
                let node = world.node(waits_for(&fault, Waits::default()));
                let put = node.put_bytes(&content);
                let what = format!("{count} {nth} {fault:?}: {put:?}");
                if let Ok(blob) = put {
                    assert_eq!(world.stored(blob.digest), Ok(count as u64), "{what}");
                } else {
                    assert!(put.unwrap_err().passes(), "{what}");
                }
                world.proxy.set(None);
                let blob = at_last(|| node.put_bytes(&content));
                assert_eq!(world.stored(blob.digest), Ok(count as u64), "{what}");
            }
        }
    }
}

#[test]
fn an_upload_that_fails_for_good_is_aborted_then_or_by_the_next_process() {
    let world = world();
    let node = world.node(soon());
    // The second part fails, and the rest does not.
    world.fail(0, usize::MAX, "partNumber=2", Fault::Answer(500, "InternalError"));
    let failed = node.put_bytes(&content(PARTS, 1)).unwrap_err();
    assert!(matches!(failed, BlobError::Bucket { fault: BucketFault::Failing, .. }), "{failed:?}");
    assert_eq!(unfinished(&world.bucket), 0);
    // Now nobody can be told that it is given up either.
    world.fail(2, usize::MAX, "", Fault::CutBefore);
    node.put_bytes(&content(PARTS, 2)).unwrap_err();
    assert_eq!(unfinished(&world.bucket), 1);
    world.proxy.set(None);
    drop(node);
    let cache = world.folder.path().join("cache");
    assert_eq!(fs::read_dir(cache.join("uploads")).unwrap().count(), 1);
    let again = blobs(world.proxy.address, &world.bucket, &cache, soon());
    again.abort_left().unwrap();
    assert_eq!((unfinished(&world.bucket), fs::read_dir(cache.join("uploads")).unwrap().count()), (0, 0));
    assert!(world.stored(Digest::of(&content(PARTS, 2))).is_err());
}

#[test]
fn what_is_cut_short_is_read_on_and_what_stays_short_passes_and_is_no_damage() {
    let world = world();
    let content = content(300_000, 3);
    let digest = world.node(soon()).put_bytes(&content).unwrap().digest;
    let copy = world.folder.path().join("copy");
    let mut all = faults().to_vec();
    all.push(Fault::Truncate(0));
    for fault in all {
        world.fail(0, 1, "GET", fault.clone());
        let node = world.node(waits_for(&fault, Waits::default()));
        assert_eq!(node.copy_to(digest, &copy), Ok(300_000), "{fault:?}");
        assert_eq!(fs::read(&copy).unwrap(), content);
        world.fail(0, usize::MAX, "GET", fault.clone());
        let node = world.node(waits_for(&fault, soon()));
        let failed = node.copy_to(digest, &copy).unwrap_err();
        assert!(matches!(failed, BlobError::Bucket { .. }) && failed.passes(), "{fault:?}: {failed:?}");
        assert!(!failed.to_string().contains("canary"), "{failed}");
        world.proxy.set(None);
        assert_eq!(at_last(|| node.copy_to(digest, &copy)), 300_000, "by itself, after {fault:?}");
    }
    // Always cut short, but each time later: asked for again from where it ended.
    world.fail(0, usize::MAX, "GET", Fault::Truncate(100_000));
    assert_eq!(world.node(Waits::default()).copy_to(digest, &copy), Ok(300_000));
    assert_eq!(world.proxy.seen().len(), 3);
}

#[test]
fn a_byte_that_changed_on_the_way_is_no_damage_and_one_that_is_always_another_is() {
    let world = world();
    let digest = world.node(soon()).put_bytes(&content(70_000, 4)).unwrap().digest;
    world.fail(0, 1, "GET", Fault::Flip);
    assert_eq!(world.node(soon()).read(digest).unwrap(), content(70_000, 4));
    world.fail(0, usize::MAX, "GET", Fault::Flip);
    assert_eq!(world.node(soon()).read(digest), Err(BlobError::Corrupt { digest }));
}

#[test]
fn refusals_have_types_and_hold_no_key() {
    let world = world();
    let node = world.node(soon());
    let digest = node.put_bytes(b"payload").unwrap().digest;
    let check = |status, word, expected: BucketFault| {
        world.fail(0, usize::MAX, "", Fault::Answer(status, word));
        for failed in [node.put_bytes(b"new").unwrap_err(), node.verify(digest).unwrap_err()] {
            let BlobError::Bucket { fault, .. } = &failed else { panic!("{failed:?}") };
            // A HEAD has no body, and so no word.
            let by_status = status == 503 && *fault == BucketFault::Failing;
            assert!(*fault == expected || by_status, "{status} {word}: {failed:?}");
            assert!(!failed.to_string().contains("canary"), "{failed}");
        }
    };
    check(403, "AccessDenied", BucketFault::Refused);
    check(429, "TooManyRequests", BucketFault::Throttled);
    check(503, "SlowDown", BucketFault::Throttled);
    check(500, "InternalError", BucketFault::Failing);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cache = world.folder.path().join("nobody");
    let failed = blobs(nobody, &world.bucket, &cache, soon()).put_bytes(b"x").unwrap_err();
    assert!(matches!(failed, BlobError::Bucket { fault: BucketFault::Unreachable, .. }), "{failed:?}");
    let failed = blobs(server::address(), "no-such-bucket", &cache, soon()).put_bytes(b"x").unwrap_err();
    assert!(matches!(failed, BlobError::Bucket { fault: BucketFault::Refused, .. }), "{failed:?}");
}

#[test]
fn a_probe_says_what_may_not_be_done_and_leaves_nothing() {
    let world = world();
    let client = |bucket: &str| {
        BucketClient::new(BucketSettings { waits: soon(), ..settings(world.proxy.address, bucket) }).unwrap()
    };
    client(&world.bucket).probe().unwrap();
    let check = |line, expected: Probed| {
        world.fail(0, usize::MAX, line, Fault::Answer(403, "AccessDenied"));
        assert_eq!(client(&world.bucket).probe().unwrap_err().0, expected);
        world.proxy.set(None);
    };
    check("PUT", Probed::Write);
    check("GET /bucket-", Probed::Read);
    check("list-type", Probed::List);
    let (_, listed) = server::request("GET", &format!("/{}?list-type=2", world.bucket), b"");
    assert!(!String::from_utf8(listed).unwrap().contains("probe/"), "what was put is gone");
    check("DELETE", Probed::Delete);
    assert_eq!(client("no-such-bucket").probe().unwrap_err().0, Probed::Write);
}
