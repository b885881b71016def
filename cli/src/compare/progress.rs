//! How far a comparison is: a bar over all steps of all runs on a terminal, else a line for each run that is over.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use super::plan::Plan;
use super::pool::Job;

/// Says how far it is, on stderr.
pub struct Progress {
    quiet: bool,
    bar: Option<ProgressBar>,
    /// Runs over, runs in all, steps of one.
    over: u64,
    runs: u64,
    steps: u64,
}

impl Progress {
    /// `over` of `runs` runs are kept from before.
    pub fn new(quiet: bool, over: u64, runs: u64, steps: u64) -> Progress {
        let mut progress = Progress { quiet, bar: None, over, runs, steps };
        if !quiet && std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(runs * steps);
            if let Ok(style) =
                ProgressStyle::with_template("{bar:24} {percent}%  {msg}  {eta} left")
            {
                bar.set_style(style);
            }
            bar.set_position(over * steps);
            // What was kept took no time.
            bar.reset_eta();
            progress.bar = Some(bar);
        }
        progress
    }

    /// A run is over.
    pub fn done(&mut self, job: &Job<'_>, core_seconds: f64) {
        self.over += 1;
        let line = format!(
            "{}/{}  {} seed {}  {core_seconds:.0} s",
            self.over, self.runs, job.program.name, job.seed
        );
        match &self.bar {
            Some(bar) => bar.println(line),
            None if !self.quiet => eprintln!("{line}"),
            None => {}
        }
    }

    /// Runs that are under way.
    pub fn under_way<'a>(&self, jobs: impl Iterator<Item = &'a Job<'a>>, plan: &Plan) {
        let Some(bar) = &self.bar else { return };
        let (mut steps, mut names) = (self.over * self.steps, Vec::new());
        for job in jobs {
            let path = plan.folder(job.program, job.seed).join("metrics.jsonl");
            let lines = std::fs::read_to_string(path).map_or(0, |t| t.lines().count());
            steps += (lines as u64).min(self.steps);
            names.push(format!("{} seed {}", job.program.name, job.seed));
        }
        bar.set_position(steps);
        bar.set_message(format!("{}/{} runs: {}", self.over, self.runs, names.join(", ")));
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
