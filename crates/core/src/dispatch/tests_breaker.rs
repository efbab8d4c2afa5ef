//! The breaker by table, and by property over any history of an endpoint.

use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::dispatch::outcome::Phase;

const RULE: Rule = Rule {
    breaker: BreakerRule { failures: 3, pause: Millis::seconds(10), pause_max: Millis::seconds(30) },
    disable_after: Millis::seconds(100),
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// The answer to an attempt; what it led to, as words, and the health after it.
fn answer(health: &mut Health, number: u128, signal: Signal, seconds: i64) -> String {
    let events = health.after(Answer { delivery_id: id(number), signal, at: at(seconds) }, &RULE);
    *health = events.iter().fold(health.clone(), |health, event| health.next(event));
    let word = |event: &HealthEvent| match event {
        HealthEvent::Answered(_) => String::new(),
        HealthEvent::Opened { until, pause_ms } => {
            assert_eq!(*until, at(seconds) + SignedDuration::from_millis((*pause_ms).try_into().unwrap()));
            format!("opened {pause_ms} ")
        }
        HealthEvent::HalfOpened { .. } => "half_opened ".to_owned(),
        HealthEvent::Closed => "closed ".to_owned(),
        HealthEvent::Failing => "failing ".to_owned(),
        HealthEvent::Disabled { .. } => "disabled ".to_owned(),
        HealthEvent::Enabled => "enabled ".to_owned(),
    };
    events.iter().map(word).collect::<String>().trim_end().to_owned()
}

#[test]
fn what_an_attempt_says() {
    let check = |failure: AttemptFailure, expected: Signal| {
        assert_eq!(Signal::of(&Err(failure.clone())), expected, "{failure}");
    };
    let status = |status| AttemptFailure::Status { status, retry_after_seconds: None };
    assert_eq!(Signal::of(&Ok(())), Signal::Accepted);
    for code in [301, 400, 401, 404, 410, 413, 422] {
        check(status(code), Signal::Alive);
    }
    for code in [408, 429, 500, 502, 503, 599] {
        check(status(code), Signal::Down);
    }
    let text = || "x".to_owned();
    check(HttpFailure::Resolve { host: text(), message: text() }.into(), Signal::Down);
    check(HttpFailure::Connect { address: text(), message: text() }.into(), Signal::Down);
    check(HttpFailure::TimedOut { phase: Phase::Body, timeout_ms: 1 }.into(), Signal::Down);
    check(HttpFailure::HeadTooLarge.into(), Signal::Down);
    check(HttpFailure::Unreadable { message: text() }.into(), Signal::Silent);
    check(HttpFailure::Cut { phase: Phase::Send }.into(), Signal::Silent);
    check(AttemptFailure::MissingSecret { variable: text() }, Signal::Silent);
    check(AttemptFailure::CorruptArtifact { digest: Digest::of(b"") }, Signal::Silent);
    check(AttemptFailure::Cut { by: text() }, Signal::Silent);
}

#[test]
fn it_opens_probes_and_closes() {
    let mut health = Health::default();
    assert_eq!(health.admits(at(0)), Admits::Any);
    assert_eq!(answer(&mut health, 1, Signal::Down, 0), "");
    assert_eq!(answer(&mut health, 2, Signal::Down, 1), "");
    assert_eq!(answer(&mut health, 3, Signal::Alive, 2), "", "an answer begins the count anew");
    for number in 4..6 {
        assert_eq!(answer(&mut health, number, Signal::Down, 3), "");
    }
    assert_eq!(answer(&mut health, 6, Signal::Silent, 3), "", "and what says nothing counts nothing");
    assert_eq!(answer(&mut health, 7, Signal::Down, 4), "opened 10000");
    assert_eq!(answer(&mut health, 8, Signal::Down, 5), "", "it was under way when the breaker opened");
    assert_eq!((health.admits(at(13)), health.admits(at(14))), (Admits::Nothing, Admits::Probe));
    let mut waited = 14;
    for pause in [20, 30, 30] {
        health = health.next(&HealthEvent::HalfOpened { probe: id(9) });
        assert_eq!(health.admits(at(waited + 1000)), Admits::Nothing, "one probe at a time");
        assert_eq!(answer(&mut health, 8, Signal::Down, waited), "", "not the probe");
        assert_eq!(answer(&mut health, 9, Signal::Down, waited), format!("opened {pause}000"));
        waited += pause;
        if waited > 60 {
            break;
        }
    }
    health = health.next(&HealthEvent::HalfOpened { probe: id(10) });
    assert_eq!(answer(&mut health, 10, Signal::Silent, waited), "", "cut short by a halt or a crash");
    assert_eq!(health.admits(at(waited)), Admits::Probe);
    health = health.next(&HealthEvent::HalfOpened { probe: id(10) });
    assert_eq!(answer(&mut health, 10, Signal::Accepted, waited), "closed");
    assert_eq!(health, Health::default());
}

#[test]
fn an_old_attempt_that_succeeds_closes_it() {
    let mut health = Health::default();
    for number in 0..3 {
        answer(&mut health, number, Signal::Down, 0);
    }
    assert_eq!(answer(&mut health, 4, Signal::Accepted, 1), "closed");
    assert_eq!(health, Health::default());
}

#[test]
fn a_warning_comes_before_the_end() {
    let mut health = Health::default();
    assert_eq!(answer(&mut health, 1, Signal::Alive, 0), "");
    assert_eq!(answer(&mut health, 1, Signal::Alive, 49), "");
    assert_eq!(answer(&mut health, 1, Signal::Silent, 60), "");
    assert_eq!(answer(&mut health, 1, Signal::Alive, 500), "failing", "never the end without a warning");
    assert_eq!(answer(&mut health, 1, Signal::Silent, 501), "");
    assert_eq!(answer(&mut health, 1, Signal::Alive, 501), "disabled");
    let Health::Disabled { reason, at: since } = &health else { panic!("disabled") };
    assert!(reason.contains("since 2023-11-14T22:13:20Z"), "{reason}");
    assert_eq!(*since, at(501));
    assert_eq!(answer(&mut health, 1, Signal::Accepted, 502), "", "it stays so until it is enabled");
    assert_eq!(health.admits(at(999)), Admits::Nothing);
    assert_eq!(health.next(&HealthEvent::Enabled), Health::default());
    // One that accepts anything in between is not failing.
    let mut health = Health::default();
    for second in 0..200 {
        let signal = if second % 40 == 39 { Signal::Accepted } else { Signal::Alive };
        assert_eq!(answer(&mut health, 1, signal, second), "");
    }
}

#[test]
fn it_is_written_and_read_back() {
    let breaker = Breaker::HalfOpen { probe: id(7), until: at(3), pause_ms: 10 };
    for health in [
        Health::default(),
        Health::Enabled { breaker, failing: Some(Failing { since: at(1), warned: true }) },
        Health::Disabled { reason: "gone".to_owned(), at: at(2) },
    ] {
        let text = serde_json::to_string(&health).unwrap();
        assert_eq!(serde_json::from_str::<Health>(&text).unwrap(), health, "{text}");
    }
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![
        1 => Just(Signal::Accepted), 1 => Just(Signal::Alive), 5 => Just(Signal::Down), 1 => Just(Signal::Silent)
    ]
}

proptest! {
    /// Attempts begin as the breaker admits them and end in any order; a lost one ends silently.
    #[test]
    fn whatever_happens_one_attempt_probes(
        steps in proptest::collection::vec((any::<bool>(), any::<usize>(), signal(), 0..40_i64), 1..200)
    ) {
        let (mut health, mut now, mut number, mut under_way) = (Health::default(), 0, 0, Vec::<u128>::new());
        let mut downs = 0;
        for (begins, which, signal, seconds) in steps {
            now += seconds;
            if begins || under_way.is_empty() {
                number += 1;
                match health.admits(at(now)) {
                    Admits::Any => under_way.push(number),
                    Admits::Probe => {
                        health = health.next(&HealthEvent::HalfOpened { probe: id(number) });
                        under_way.push(number);
                    }
                    Admits::Nothing => {}
                }
            } else {
                let ended = under_way.swap_remove(which % under_way.len());
                let word = answer(&mut health, ended, signal, now);
                downs = match signal {
                    Signal::Down => downs + 1,
                    Signal::Accepted | Signal::Alive => 0,
                    Signal::Silent => downs,
                };
                prop_assert!(!word.contains("opened") || downs >= 3, "{word} after {downs}");
                prop_assert!(!word.contains("opened 3") || word.contains("opened 30000"), "never beyond the longest");
            }
            if let Health::Enabled { breaker: Breaker::HalfOpen { probe, .. }, .. } = &health {
                prop_assert!(under_way.iter().any(|one| id(*one) == *probe), "no half-open breaker without a probe");
            }
            if matches!(health, Health::Disabled { .. }) {
                health = health.next(&HealthEvent::Enabled);
                downs = 0;
            }
        }
    }
}
