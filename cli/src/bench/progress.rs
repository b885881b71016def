//! What a measurement is doing, on a terminal; nothing elsewhere.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::text::seconds;

/// One line on stderr that changes.
pub struct Progress {
    bar: Option<ProgressBar>,
    /// Drawing takes time, which short passes should not pay.
    drawn: Cell<Option<Instant>>,
}

impl Progress {
    /// A line where stderr is a terminal.
    pub fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        if let Some(bar) = &bar
            && let Ok(style) = ProgressStyle::with_template("{spinner} {msg}")
        {
            bar.set_style(style);
        }
        Progress { bar, drawn: Cell::new(None) }
    }

    /// Says what begins now.
    pub fn say(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
            bar.tick();
        }
    }

    /// Says that another pass has ended.
    pub fn pass(&self, times: &[f64], what: &str) {
        let recent = |at: Instant| at.elapsed() < Duration::from_millis(100);
        if self.bar.is_none() || self.drawn.get().is_some_and(recent) {
            return;
        }
        self.drawn.set(Some(Instant::now()));
        let last = times.last().copied().unwrap_or(0.0);
        self.say(&format!("pass {}, {}, {what}", times.len(), seconds(last)));
    }

    /// Takes the line away.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
