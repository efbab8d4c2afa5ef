//! A home of many profiles, the program of their tiers, and a receiver: all of them know the plan.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::faults::{AnswerFault, DELIVERY_ATTEMPTS, Fault, Plan, STEP_ATTEMPTS};
use crate::home::{Home, Serving, until};
use crate::receiver::{Receiver, Reply, Request};
use crate::{PROFILES, STANDSTILL_MAX};

/// `TIER LABEL PROFILE INPUT OUTPUT`: repeats the input with a line more, or does what its plan says.
const PROGRAM: &str = r#"#!/bin/sh
plan=${0%/*}/plan/$2-$3-$1
fault=none
if [ -r "$plan" ]; then read -r fault < "$plan"; fi
before() { [ "$ORBIT_ATTEMPT" -le "$1" ]; }
case $fault in
    exit-once) if before 1; then echo "gave up" >&2; exit 3; fi ;;
    exit-twice) if before 2; then exit 3; fi ;;
    exit-always) exit 3 ;;
    kill-once) if before 1; then kill -KILL $$; fi ;;
    nothing-once) if before 1; then exit 0; fi ;;
    garbage-always) echo garbage > "$5"; exit 0 ;;
    too-much-once) if before 1; then head -c 100000 /dev/zero > "$5"; exit 0; fi ;;
    link-once) if before 1; then ln -s /etc/hostname "$5"; exit 0; fi ;;
    same-always) cat "$4" > "$5"; exit 0 ;;
    daemon) (setsid sleep 1000 > /dev/null 2>&1 &) ;;
    words) head -c 100000 /dev/zero | tr '\0' x >&2 ;;
    hang-once) if before 1; then trap '' TERM; sleep 1000; sleep 1000; fi ;;
esac
{ echo "ok:$1"; cat "$4"; } > "$5"
"#;

pub struct World {
    pub home: Home,
    pub receiver: Receiver,
    pub plan: Arc<Plan>,
}

impl World {
    pub fn new(plan: Plan, cycles: usize) -> Self {
        let plan = Arc::new(plan);
        let receiver = receiver(Arc::clone(&plan));
        let home = Home::new();
        home.items(cycles);
        home.write(
            "orbit.yaml",
            "listen: { address: \"127.0.0.1:0\" }\nlimits: { runs_concurrent: 12, drain: 10s }\n",
        );
        home.write("namespaces/lab/programs/tier", PROGRAM);
        let program = home.path("namespaces/lab/programs/tier");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        for ((label, profile), fault) in &plan.faults {
            if let Fault::Step(tier, fault) = fault {
                let file = format!("namespaces/lab/programs/plan/{label}-{profile}-tier{}", tier + 1);
                home.write(&file, fault.word());
            }
        }
        for tier in 1..=3 {
            home.write(&format!("namespaces/lab/processors/tier{tier}.yaml"), &processor(tier));
        }
        let more = format!(
            "headers: {{ X-Run: \"{{{{ initiation.label }}}}/{{{{ profile.label }}}}\" }}\nconcurrency: 8\nretry: {{ attempts: {DELIVERY_ATTEMPTS}, schedule: [30ms] }}\n"
        );
        home.endpoint("sink", &receiver.url("/in"), &more);
        let mut profiles = Vec::new();
        for number in 0..PROFILES {
            let label = format!("p{number:02}");
            home.profile_of(
                &label,
                u8::try_from(number + 1).unwrap(),
                ["tier1", "tier2", "tier3"],
                "distribution_map: [{ endpoint: sink }]\n",
            );
            profiles.push(label);
        }
        home.run_profile("daily", 1, &format!("[{}]", profiles.join(", ")), "");
        Self { home, receiver, plan }
    }

    /// Fires the cycles, which need not begin at once.
    pub fn fire(&self, cycles: usize) {
        for number in 0..cycles {
            let answer = self.home.run(&["run", "--no-wait", "--key", &format!("key-{number}")]);
            assert_eq!(answer.code, 0, "{answer:?}");
        }
    }

    /// Waits until this many runs are finished; how many there were then.
    pub fn wait_for(&self, runs: usize) -> u64 {
        let runs = u64::try_from(runs).unwrap();
        let (mut finished, mut moved) = (0, (0, Instant::now()));
        loop {
            let status = self.home.json(&["status"], 0);
            let counts = &status["namespaces"][0]["counts"];
            finished = counts["runs"]["finished"].as_u64().unwrap_or(finished);
            if finished >= runs {
                return finished;
            }
            let records = counts["records"].as_u64().unwrap_or_default();
            if records > moved.0 {
                moved = (records, Instant::now());
            }
            assert!(moved.1.elapsed() < STANDSTILL_MAX, "nothing moves at {finished} runs: {status}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Work folders, programs and descriptors are as before.
    pub fn nothing_is_left(&self, serving: &Serving, open_before: usize) {
        until("every work folder to be gone", || {
            fs::read_dir(self.home.path("data/lab/work")).map_or(0, Iterator::count) == 0
        });
        until("every program to be gone", || self.home.processes() == [serving.pid()]);
        // Readers of the store are opened when they are first needed, a few of them.
        until("every descriptor to be closed", || open_files(serving) <= open_before + 12);
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", serving.pid()));
        assert_eq!(children.unwrap_or_default().trim(), "", "a child was not reaped");
    }
}

/// What the process holds in memory.
pub fn resident_kib(serving: &Serving) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", serving.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How many descriptors the process has open.
pub fn open_files(serving: &Serving) -> usize {
    fs::read_dir(format!("/proc/{}/fd", serving.pid())).unwrap().count()
}

fn processor(tier: usize) -> String {
    let mut text = format!("name: tier{tier}\nkind: exec\n");
    _ = writeln!(
        text,
        "argv: [programs/tier, tier{tier}, \"{{{{ initiation.label }}}}\", \"{{{{ profile.label }}}}\", \"{{{{ input }}}}\", \"{{{{ output }}}}\"]"
    );
    _ = writeln!(text, "output: {{ to: file, extension: txt, media_type: text/plain }}");
    _ = writeln!(text, "limits: {{ wall: 15s, grace: 100ms }}");
    // `ok:` in hex.
    _ = writeln!(
        text,
        "validate: {{ bytes_min: 4 B, bytes_max: 64 KiB, differs_from_input: true, prefix_hex: \"6f6b3a\" }}"
    );
    _ = writeln!(
        text,
        "retry: {{ attempts: {STEP_ATTEMPTS}, backoff: {{ initial: 10ms, factor: 1, max: 10ms, jitter: none }} }}"
    );
    _ = writeln!(text, "concurrency: 12");
    text
}

fn receiver(plan: Arc<Plan>) -> Receiver {
    let seen: Mutex<HashMap<String, u64>> = Mutex::default();
    Receiver::start(move |request: &Request, _| {
        let run = request.headers["x-run"].clone();
        let attempt = {
            let mut seen = seen.lock().unwrap();
            let attempts = seen.entry(run.clone()).or_default();
            *attempts += 1;
            *attempts
        };
        let (label, profile) = run.split_once('/').unwrap();
        match plan.faults.get(&(label.to_owned(), profile.to_owned())) {
            Some(Fault::Answer(fault)) if attempt <= fault.failures() => match fault {
                AnswerFault::ErrorOnce | AnswerFault::ErrorTwice => Reply::Status(500, "", "no"),
                AnswerFault::BusyOnce => Reply::Status(429, "", "later"),
                AnswerFault::CloseOnce => Reply::Close,
                AnswerFault::RefusedAlways => Reply::Status(422, "", "never"),
                AnswerFault::RedirectAlways => Reply::Status(302, "location: http://10.0.0.1/\r\n", ""),
                AnswerFault::SilenceOnce => Reply::Silence,
            },
            Some(Fault::Answer(_) | Fault::Step(..)) | None => Reply::Status(200, "", "ok"),
        }
    })
}
