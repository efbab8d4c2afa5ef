//! Measures what a process tree uses, by looking at it from time to time and by what the kernel tells of those that were reaped.

use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, SysconfVar, sysconf};
use orbit_core::config::Limits;
use orbit_core::tiers::{OverLimit, Usage};

use super::SAMPLE_EVERY;
use super::tree::{self, Process};

/// How often it is asked whether the machine has many more processes than at the last look, which costs next to nothing.
const SURGE_EVERY: Duration = Duration::from_millis(20);
/// Clock ticks a second and bytes a page, where the system does not say: what Linux has on every common machine.
const TICKS_DEFAULT: u64 = 100;
const PAGE_BYTES_DEFAULT: u64 = 4096;

/// See the module.
pub(super) struct Meter {
    /// What was used so far, all peaks included.
    pub usage: Usage,
    program: i32,
    own: i32,
    began: Instant,
    next_sample: Instant,
    next_surge: Instant,
    tasks: u64,
    tasks_more_max: u64,
    memory_bytes: u64,
    processes: u32,
    ticks_per_second: u64,
    page_bytes: u64,
}

impl Meter {
    /// A meter for the tree of a program that was started just now.
    pub(super) fn new(program: &Child, limits: &Limits) -> Self {
        let began = Instant::now();
        let system = |name, default| {
            sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok()).unwrap_or(default)
        };
        Self {
            usage: Usage { processes_peak: 1, ..Usage::default() },
            program: i32::try_from(program.id()).unwrap_or(i32::MAX),
            own: Pid::this().as_raw(),
            began,
            next_sample: began + SAMPLE_EVERY,
            next_surge: began + SURGE_EVERY,
            tasks: tree::tasks(),
            tasks_more_max: u64::from(limits.processes),
            memory_bytes: 0,
            processes: 0,
            ticks_per_second: system(SysconfVar::CLK_TCK, TICKS_DEFAULT).max(1),
            page_bytes: system(SysconfVar::PAGE_SIZE, PAGE_BYTES_DEFAULT),
        }
    }

    /// Since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Until there may be something to look at.
    pub(super) fn until_look(&self) -> Duration {
        self.next_sample.min(self.next_surge).saturating_duration_since(Instant::now())
    }

    /// Whether to look at the tree: by the clock, or because the machine has so many more tasks that this tree may have grown beyond its limit. A tree that
    /// doubles all the time must be seen early, or whoever looks gets no turn any more.
    pub(super) fn is_sample_due(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.next_surge {
            self.next_surge = now + SURGE_EVERY;
            if tree::tasks() > self.tasks.saturating_add(self.tasks_more_max) {
                return true;
            }
        }
        now >= self.next_sample
    }

    /// Looks at the tree, takes note of what it uses, and reaps orphans that have ended. The processes that are alive.
    pub(super) fn sample(&mut self) -> Vec<Process> {
        let mut found = tree::descendants(self.own);
        for orphan in
            found.iter().filter(|one| one.ended && one.parent == self.own && one.pid != self.program)
        {
            _ = waitpid(Pid::from_raw(orphan.pid), Some(WaitPidFlag::WNOHANG));
        }
        // What was reaped is part of the kernel's own sum from here on.
        found.retain(|one| !(one.ended && one.parent == self.own));
        let ticks: u64 = found.iter().map(|one| one.cpu_ticks).sum();
        let live_ms = ticks.saturating_mul(1_000) / self.ticks_per_second;
        found.retain(|one| !one.ended);
        let pages: u64 = found.iter().map(|one| one.resident_pages).sum();
        self.memory_bytes = pages.saturating_mul(self.page_bytes);
        self.processes = u32::try_from(found.len()).unwrap_or(u32::MAX);
        self.usage.memory_peak_bytes = self.usage.memory_peak_bytes.max(self.memory_bytes);
        self.usage.processes_peak = self.usage.processes_peak.max(self.processes);
        // A process that nobody waits for leaves both sums when it ends: what was seen once stays used.
        self.usage.cpu_ms = self.usage.cpu_ms.max(reaped_cpu_ms().saturating_add(live_ms));
        self.tasks = tree::tasks();
        self.next_sample = Instant::now() + SAMPLE_EVERY;
        found
    }

    /// The program has ended: whoever is still there is a survivor.
    pub(super) fn count_survivors(&mut self) {
        self.usage.survivors = u32::try_from(self.sample().len()).unwrap_or(u32::MAX);
    }

    /// The first limit that the tree exceeds, as it was last seen.
    pub(super) fn over(&self, limits: &Limits) -> Option<OverLimit> {
        [
            // Before memory, of which many processes take much: the cause rather than the effect.
            (self.processes > limits.processes, OverLimit::Processes),
            (self.memory_bytes > limits.memory.0, OverLimit::Memory),
            (self.usage.output_bytes > limits.output.0, OverLimit::Output),
            (self.usage.cpu_ms > limits.cpu.0, OverLimit::Cpu),
        ]
        .into_iter()
        .find_map(|(over, limit)| over.then_some(limit))
    }

    /// What was used in all, once the tree is gone.
    pub(super) fn finish(mut self) -> Usage {
        self.usage.wall_ms = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.usage.cpu_ms = self.usage.cpu_ms.max(reaped_cpu_ms());
        let largest =
            |who| getrusage(who).ok().and_then(|used| u64::try_from(used.max_rss()).ok()).unwrap_or(0);
        let (program, own) = (largest(UsageWho::RUSAGE_CHILDREN), largest(UsageWho::RUSAGE_SELF));
        // The kernel counts the supervisor's own memory for a child until it becomes another program.
        if program > own {
            self.usage.memory_peak_bytes = self.usage.memory_peak_bytes.max(program.saturating_mul(1024));
        }
        self.usage
    }
}

fn reaped_cpu_ms() -> u64 {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).map(|used| used.user_time() + used.system_time());
    used.ok().and_then(|time| u64::try_from(time.num_milliseconds()).ok()).unwrap_or(0)
}
