//! The progress display: one bar on a terminal, a line every few steps elsewhere. Always on stderr.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use rlc_runtime::train::report::{Evaluation, Reporter, StepReport};

use crate::output::Output;

/// Draws a run.
pub struct Progress {
    quiet: bool,
    bar: Option<ProgressBar>,
    total: u64,
    first: u64,
    started: Instant,
    last: String,
    output: Output,
}

impl Progress {
    /// A display; of a quiet one only warnings are seen.
    pub fn new(quiet: bool, output: Output) -> Self {
        Progress {
            quiet,
            bar: None,
            total: 0,
            first: 0,
            started: Instant::now(),
            last: String::new(),
            output,
        }
    }

    /// Ends the bar; its last state stays as a line.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.println(format!("step {}/{}  {}", bar.position(), self.total, self.last));
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None if !self.quiet => eprintln!("{text}"),
            None => {}
        }
    }

    fn left(&self, step: u64) -> String {
        let done = step.saturating_sub(self.first).max(1) as f64;
        let seconds = self.started.elapsed().as_secs_f64() / done * (self.total - step) as f64;
        let seconds = seconds.round() as u64;
        format!("{}:{:02}", seconds / 60, seconds % 60)
    }
}

/// What matters of a step, in one line.
fn describe(r: &StepReport) -> String {
    let mut text = String::new();
    let mut add = |name: &str, value: Option<f64>, digits: usize| {
        if let Some(value) = value {
            text += &format!("{name} {value:.digits$}  ");
        }
    };
    add("reward", r.reward, 3);
    add("loss", Some(r.loss), 4);
    add("approx_kl", r.metrics.get("approx_kl").copied(), 4);
    add("clip", r.metrics.get("clip_fraction").copied(), 3);
    add("tok/s", Some(r.time.tokens_per_second), 0);
    text.trim_end().to_owned()
}

impl Reporter for Progress {
    fn begin(&mut self, done: u64, total: u64) {
        (self.total, self.first, self.started) = (total, done, Instant::now());
        if self.quiet || !std::io::stderr().is_terminal() {
            return;
        }
        let bar = ProgressBar::new(total);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}") {
            bar.set_style(style);
        }
        bar.set_position(done);
        self.bar = Some(bar);
    }

    fn step(&mut self, report: &StepReport) {
        self.last = describe(report);
        let text = format!("{}  left {}", self.last, self.left(report.step));
        match &self.bar {
            Some(bar) => {
                bar.set_position(report.step);
                bar.set_message(text);
            }
            None => {
                let every = (self.total / 20).max(1);
                if report.step.is_multiple_of(every) || report.step == 1 {
                    self.line(&format!("step {}/{}  {text}", report.step, self.total));
                }
            }
        }
    }

    fn evaluation(&mut self, when: &str, e: &Evaluation) {
        let text = match e.correct {
            Some(correct) => format!("accuracy {}", e.share(correct)),
            None => format!("reward {:.3}", e.reward),
        };
        self.line(&format!("held out {when}: {text} ({} problems)", e.problems));
    }

    fn saved(&mut self, _: &Path) {}

    fn note(&mut self, text: &str) {
        self.line(&format!("note: {text}"));
    }

    fn warn(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.warn(text)),
            None => self.output.warn(text),
        }
    }
}
