//! The supervisor's side: one thread that starts a program, watches its process tree, and does not end before the tree has.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};
use orbit_core::config::Limits;
use orbit_core::tiers::{EnforcedBy, How, OverLimit};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::control::{Control, Stop};
use super::meter::Meter;
use super::pipes::{Pipe, Tail};
use super::protocol::{Ended, Program};
use super::start::{Started, start};
use super::{CANCEL_GRACE_MAX, KILL_WAIT_MAX};

/// How often what was killed is looked for again.
const KILL_EVERY: Duration = Duration::from_millis(10);

/// The body of the hidden subcommand: reads a program from standard input, runs it, and prints how it ended. The exit code, 0 unless there was
/// nothing to do. To be called before the process has a second thread.
pub fn main() -> u8 {
    // A session of its own, so that no terminal reaches this process or the program.
    _ = setsid();
    let Ok(signals) = hear_signals() else { return 1 };
    if prctl::set_child_subreaper(true).is_err() {
        return 1;
    }
    let mut control = Control::new();
    let Some(line) = control.first_line() else { return 1 };
    let could_not_start = |message| Ended::only(How::CouldNotStart { message });
    let ended = match serde_json::from_slice::<Program>(&line) {
        Ok(program) => match start(&program) {
            Ok(started) => Watch::new(&program.limits, control, signals, started).run(),
            Err(message) => could_not_start(message),
        },
        Err(error) => could_not_start(format!("the program cannot be read: {error}")),
    };
    let Ok(mut answer) = serde_json::to_vec(&ended) else { return 1 };
    answer.push(b'\n');
    // The engine may be gone by now; then nobody wants to know.
    _ = std::io::stdout().write_all(&answer).and_then(|()| std::io::stdout().flush());
    0
}

/// The end of a child can be read from the stream. Signals that would end this process before its tree are noted and do nothing; they are caught
/// rather than blocked, because the program would inherit a mask and does not inherit a handler.
fn hear_signals() -> io::Result<UnixStream> {
    let (hear, tell) = UnixStream::pair()?;
    hear.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(SIGCHLD, tell)?;
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    Ok(hear)
}

struct Watch<'a> {
    limits: &'a Limits,
    control: Control,
    signals: UnixStream,
    program: Child,
    /// Known once the program itself has ended.
    status: Option<ExitStatus>,
    stdout: Pipe<ChildStdout>,
    stdout_file: Option<File>,
    stderr: Pipe<ChildStderr>,
    tail: Tail,
    meter: Meter,
}

impl<'a> Watch<'a> {
    fn new(limits: &'a Limits, control: Control, signals: UnixStream, started: Started) -> Self {
        let Started { child: mut program, stdout: stdout_file } = started;
        Self {
            limits,
            control,
            signals,
            status: None,
            stdout: Pipe::new(program.stdout.take()),
            stdout_file,
            stderr: Pipe::new(program.stderr.take()),
            tail: Tail::default(),
            meter: Meter::new(&program, limits),
            program,
        }
    }

    fn run(mut self) -> Ended {
        let mut how = self.until_it_ends();
        // A look at the tree takes as long as a small program, and mostly there is none any more.
        if matches!(how, How::Exited { .. } | How::Signalled { .. }) && !self.reap() {
            self.meter.count_survivors();
        }
        if !self.end_tree() {
            let left = self.meter.sample().len();
            how = How::Lost { message: format!("{left} of its processes could not be ended") };
        }
        self.drain();
        Ended { how, usage: self.meter.finish(), stderr_tail: self.tail.into_bytes() }
    }

    /// Watches until the program has ended or must end.
    fn until_it_ends(&mut self) -> How {
        let wall = self.limits.wall.to_duration();
        loop {
            self.reap();
            if let Some(status) = self.status {
                return self.how_it_ended(status);
            }
            if self.control.stop().is_some() {
                return How::Cancelled;
            }
            let passed = self.meter.elapsed();
            if passed >= wall {
                return How::TimedOut;
            }
            if let Some(limit) = self.over_limit() {
                return How::OverLimit { limit };
            }
            self.wait(wall.saturating_sub(passed).min(self.meter.until_look()));
        }
    }

    fn how_it_ended(&mut self, status: ExitStatus) -> How {
        self.drain();
        self.measure_stdout();
        let over = |limit| How::OverLimit { limit };
        let signal = status.signal().unwrap_or_default();
        if signal == Signal::SIGXCPU as i32 {
            self.meter.usage.enforced_by = EnforcedBy::Rlimit;
            return over(OverLimit::Cpu);
        }
        if signal == Signal::SIGXFSZ as i32 || self.meter.usage.output_bytes > self.limits.output.0 {
            // A pipe is only ever cut by looking; a file that is too long now was cut by the kernel.
            if self.stdout_file.is_some() || signal != 0 {
                self.meter.usage.enforced_by = EnforcedBy::Rlimit;
            }
            return over(OverLimit::Output);
        }
        match status.code() {
            Some(code) => How::Exited { code },
            None => How::Signalled { signal },
        }
    }

    /// What the tree uses too much of, if it does.
    fn over_limit(&mut self) -> Option<OverLimit> {
        if self.meter.is_sample_due() {
            self.meter.sample();
            self.measure_stdout();
        }
        self.meter.over(self.limits)
    }

    fn measure_stdout(&mut self) {
        if let Some(Ok(metadata)) = self.stdout_file.as_ref().map(File::metadata) {
            self.meter.usage.output_bytes = metadata.len();
        }
    }

    /// Ends every process of the tree; false if some of them could not be ended.
    fn end_tree(&mut self) -> bool {
        if self.reap() {
            return true;
        }
        self.signal(Signal::SIGTERM);
        // A stopped process takes no note of TERM.
        self.signal(Signal::SIGCONT);
        let asked = Instant::now();
        while !self.reap() {
            let left = self.grace().saturating_sub(asked.elapsed());
            if left.is_zero() || self.endangers_others() {
                break;
            }
            self.wait(left.min(self.meter.until_look()));
        }
        let killed = Instant::now();
        while !self.reap() {
            if killed.elapsed() >= KILL_WAIT_MAX {
                return false;
            }
            self.signal(Signal::SIGKILL);
            self.wait(KILL_EVERY);
        }
        true
    }

    fn grace(&self) -> Duration {
        let grace = self.limits.grace.to_duration();
        match self.control.stop() {
            Some(Stop::Asked) => grace.min(CANCEL_GRACE_MAX),
            Some(Stop::Abandoned) | None => grace,
        }
    }

    /// Whether a tree that was asked to end still takes more memory or processes than it may, at the next look: then its grace is over.
    fn endangers_others(&mut self) -> bool {
        if !self.meter.is_sample_due() {
            return false;
        }
        self.meter.sample();
        matches!(self.meter.over(self.limits), Some(OverLimit::Memory | OverLimit::Processes))
    }

    /// Sends a signal to the whole tree. The program's group comes first: the kernel reaches all of it at once, however fast it forks, and a look
    /// at the tree takes long when there are many processes.
    fn signal(&mut self, signal: Signal) {
        let group = Pid::from_raw(i32::try_from(self.program.id()).unwrap_or(i32::MAX));
        // The number belongs to the group for as long as the program is not reaped or the group has a member.
        let mut reached = self.status.is_none();
        if reached {
            _ = killpg(group, signal);
        }
        for process in self.meter.sample() {
            if process.group != group.as_raw() {
                _ = kill(Pid::from_raw(process.pid), signal);
            } else if !reached {
                _ = killpg(group, signal);
                reached = true;
            }
        }
    }

    /// Takes note of processes that have ended; true once none is left. Every orphan of the tree is a child of this process, so "no child" means "no
    /// process".
    fn reap(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.program.try_wait().ok().flatten();
        }
        // Before the program itself has ended, waiting for any child could take its status away.
        while self.status.is_some() {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return false,
                Err(Errno::ECHILD) => return true,
                // One has ended; an invalid status is a signal that has no name.
                Ok(_) | Err(Errno::EINVAL | Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Sleeps until something happens or the time is over, and reads what has come.
    fn wait(&mut self, time: Duration) {
        let mut waiting = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        waiting.extend(self.stdout.open().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        waiting.extend(self.stderr.open().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        // Last, so that it is known where to find it.
        waiting.extend(self.control.pending().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        // Rounded up: a timeout of zero would spin.
        let time = time.saturating_add(Duration::from_millis(1));
        let ready =
            poll(&mut waiting, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)).unwrap_or(0) > 0;
        let asked = self.control.pending().is_some()
            && waiting.last().and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
        if ready {
            drop(waiting);
            // How often a child ended does not matter: all of them are looked for.
            while matches!(self.signals.read(&mut [0; 256]), Ok(1..)) {}
            if asked {
                self.control.note();
            }
            self.drain();
        }
    }

    fn drain(&mut self) {
        let Self { stdout, stderr, tail, meter, .. } = self;
        stdout.read(|bytes| {
            meter.usage.output_bytes = meter.usage.output_bytes.saturating_add(bytes.len() as u64);
        });
        stderr.read(|bytes| tail.push(bytes));
    }
}
