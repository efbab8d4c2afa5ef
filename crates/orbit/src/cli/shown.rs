//! How far long work is, on standard error: a bar on a terminal, and else a line now and then.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::say;

/// How often a line is printed where no bar can be shown.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub struct Shown {
    namespace: String,
    bar: ProgressBar,
    terminal: bool,
    told: Instant,
    what: String,
}

impl Shown {
    /// For work on a namespace.
    pub fn new(namespace: &str, terminal: bool) -> Self {
        let bar = ProgressBar::new(0);
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        bar.set_draw_target(target);
        let template = "  {prefix} {bar:30} {human_pos}/{human_len} {msg}, {eta} left";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let namespace = namespace.to_owned();
        Self { namespace, bar, terminal, told: Instant::now(), what: String::new() }
    }

    /// So many of what is counted are done; the detail says how.
    pub fn tell(&mut self, what: &str, (done, total): (u64, u64), detail: &str) {
        if self.what != what {
            what.clone_into(&mut self.what);
            self.bar.reset();
        }
        self.bar.set_length(total);
        self.bar.set_prefix(self.namespace.clone());
        self.bar.set_message(format!("{what}, {detail}"));
        self.bar.set_position(done);
        if !self.terminal && self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            say(&format!("{}: {done} of {total} {what}, {detail}", self.namespace));
        }
    }

    /// The bar is gone.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
