//! What goes wrong, where, and what must come of it.

use std::collections::BTreeMap;

/// One run in five has a fault.
const ONE_IN: u64 = 5;
/// Faults that cost a timeout are rare: each holds a place for as long.
const SLOW_ONE_IN: u64 = 60;

/// Numbers that a seed repeats (`SplitMix64`).
pub struct Dice(pub u64);

/// A fault of a step. The words are those that the program of the tiers knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepFault {
    ExitOnce,
    ExitTwice,
    ExitAlways,
    KillOnce,
    NothingOnce,
    GarbageAlways,
    TooMuchOnce,
    LinkOnce,
    SameAlways,
    Daemon,
    Words,
    HangOnce,
}

/// A fault of the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFault {
    ErrorOnce,
    ErrorTwice,
    BusyOnce,
    CloseOnce,
    RefusedAlways,
    RedirectAlways,
    SilenceOnce,
}

/// What is wrong with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Of the tier at this index.
    Step(usize, StepFault),
    /// Of the delivery.
    Answer(AnswerFault),
}

/// What must come of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub outcome: &'static str,
    /// Attempts of each tier that was begun.
    pub attempts: [u64; 3],
    /// Attempts of the delivery, if it came to that.
    pub deliveries: u64,
}

/// The faults of all runs by the labels of their initiation and profile.
pub struct Plan {
    pub faults: BTreeMap<(String, String), Fault>,
}

/// Attempts that a step has at most, as the documents of this test say.
pub const STEP_ATTEMPTS: u64 = 3;
/// Attempts that a delivery has at most, as the documents of this test say.
pub const DELIVERY_ATTEMPTS: u64 = 4;

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll().is_multiple_of(n)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.roll() % u64::try_from(from.len()).unwrap();
        from[usize::try_from(index).unwrap()]
    }
}

impl StepFault {
    const QUICK: [Self; 11] = [
        Self::ExitOnce,
        Self::ExitTwice,
        Self::ExitAlways,
        Self::KillOnce,
        Self::NothingOnce,
        Self::GarbageAlways,
        Self::TooMuchOnce,
        Self::LinkOnce,
        Self::SameAlways,
        Self::Daemon,
        Self::Words,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Self::ExitOnce => "exit-once",
            Self::ExitTwice => "exit-twice",
            Self::ExitAlways => "exit-always",
            Self::KillOnce => "kill-once",
            Self::NothingOnce => "nothing-once",
            Self::GarbageAlways => "garbage-always",
            Self::TooMuchOnce => "too-much-once",
            Self::LinkOnce => "link-once",
            Self::SameAlways => "same-always",
            Self::Daemon => "daemon",
            Self::Words => "words",
            Self::HangOnce => "hang-once",
        }
    }

    /// Attempts that fail because of it.
    const fn failures(self) -> u64 {
        match self {
            Self::Daemon | Self::Words => 0,
            Self::ExitOnce
            | Self::KillOnce
            | Self::NothingOnce
            | Self::TooMuchOnce
            | Self::LinkOnce
            | Self::HangOnce => 1,
            Self::ExitTwice => 2,
            Self::ExitAlways | Self::GarbageAlways | Self::SameAlways => STEP_ATTEMPTS,
        }
    }
}

impl AnswerFault {
    const QUICK: [Self; 6] = [
        Self::ErrorOnce,
        Self::ErrorTwice,
        Self::BusyOnce,
        Self::CloseOnce,
        Self::RefusedAlways,
        Self::RedirectAlways,
    ];

    /// Attempts that fail because of it.
    pub const fn failures(self) -> u64 {
        match self {
            Self::ErrorOnce | Self::BusyOnce | Self::CloseOnce | Self::SilenceOnce => 1,
            Self::ErrorTwice => 2,
            Self::RefusedAlways | Self::RedirectAlways => DELIVERY_ATTEMPTS,
        }
    }
}

impl Fault {
    fn roll(dice: &mut Dice) -> Self {
        let slow = dice.one_in(SLOW_ONE_IN);
        if dice.one_in(3) {
            let fault = if slow { AnswerFault::SilenceOnce } else { dice.pick(&AnswerFault::QUICK) };
            return Self::Answer(fault);
        }
        let fault = if slow { StepFault::HangOnce } else { dice.pick(&StepFault::QUICK) };
        Self::Step(dice.pick(&[0, 1, 2]), fault)
    }

    /// What must come of a run with this fault.
    pub fn expected(fault: Option<Self>) -> Expected {
        let mut expected = Expected { outcome: "succeeded", attempts: [1; 3], deliveries: 1 };
        match fault {
            None => {}
            Some(Self::Step(tier, fault)) if fault.failures() >= STEP_ATTEMPTS => {
                expected.attempts[tier] = STEP_ATTEMPTS;
                expected.attempts[tier + 1..].fill(0);
                expected.outcome = "failed";
                expected.deliveries = 0;
            }
            Some(Self::Step(tier, fault)) => expected.attempts[tier] += fault.failures(),
            Some(Self::Answer(fault)) if fault.failures() >= DELIVERY_ATTEMPTS => {
                expected.deliveries = DELIVERY_ATTEMPTS;
                expected.outcome = "partial";
            }
            Some(Self::Answer(fault)) => expected.deliveries += fault.failures(),
        }
        expected
    }
}

impl Plan {
    /// Rolls the faults of this many cycles.
    pub fn new(dice: &mut Dice, cycles: usize, profiles: usize) -> Self {
        let runs = (0..cycles).flat_map(|cycle| (0..profiles).map(move |profile| (cycle, profile)));
        let mut faults = BTreeMap::new();
        for (cycle, profile) in runs {
            if dice.one_in(ONE_IN) {
                faults.insert((format!("item-{cycle}"), format!("p{profile:02}")), Fault::roll(dice));
            }
        }
        Self { faults }
    }
}
