//! What a run says while it goes, as data: the command line draws it, tests ignore it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One training step. All but `time` follow from the configuration alone and are the same on every
/// run of it on one machine and build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Step, from 1.
    pub step: u64,
    /// Mean reward of the batch; absent where rollouts have none.
    pub reward: Option<f64>,
    /// Share of right answers.
    pub correct: Option<f64>,
    /// Loss, as the mean over the batch's updates.
    pub loss: f64,
    /// The program's metrics, as means over the batch's updates.
    pub metrics: BTreeMap<String, f64>,
    /// Gradient length before clipping, as the mean over the batch's updates.
    pub grad_norm: f64,
    /// Learning rate of the last update.
    pub lr: f64,
    /// Mean number of tokens of a completion.
    pub length: f64,
    /// Share of completions cut off at the longest length.
    pub truncated: f64,
    /// Completion tokens in the batch.
    pub tokens: u64,
    /// How the batch's prompts were drawn, where the program has `sample` statements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Prompts>,
    /// Held-out measurement after this step, where one is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval: Option<Evaluation>,
    /// Measured times: the only fields that differ between equal runs.
    pub time: Timing,
}

/// How a batch's prompts were drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prompts {
    /// Prompts in the batch.
    pub count: usize,
    /// Of these, prompts drawn for the first time; absent without `sample weight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<usize>,
    /// (sum w)^2 / (sum w^2) over the weights of all prompts; absent without `sample weight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<f64>,
    /// Mean number of rollouts of a prompt.
    pub rollouts: f64,
}

/// How long a step took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Timing {
    /// Seconds of the whole step.
    pub seconds: f64,
    /// Seconds of these spent on sampling.
    pub sampling: f64,
    /// Completion tokens per second of the whole step.
    pub tokens_per_second: f64,
}

/// A measurement on held-out problems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Problems.
    pub problems: usize,
    /// Right answers when sampling as in training; absent where no rule judges answers.
    pub correct: Option<usize>,
    /// Mean reward.
    pub reward: f64,
    /// Right answers with greedy decoding.
    pub greedy: Option<usize>,
}

impl Evaluation {
    /// `0.312 [0.273, 0.354]` for `count` right answers.
    pub fn share(&self, count: usize) -> String {
        let (low, high) = wilson(count, self.problems);
        format!("{:.3} [{low:.3}, {high:.3}]", count as f64 / self.problems.max(1) as f64)
    }
}

/// Wilson's 95% interval for a share.
pub fn wilson(count: usize, of: usize) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let (n, p, z) = (of as f64, count as f64 / of as f64, 1.959_964);
    let centre = p + z * z / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    (((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0))
}

/// Listens to a run.
pub trait Reporter {
    /// Training begins after step `done` of `total`.
    fn begin(&mut self, done: u64, total: u64);
    /// A step is done.
    fn step(&mut self, report: &StepReport);
    /// A measurement is done; `when` is `before`, `after` or `step N`.
    fn evaluation(&mut self, when: &str, evaluation: &Evaluation);
    /// A checkpoint is on disk.
    fn saved(&mut self, path: &Path);
    /// Anything else worth a line.
    fn note(&mut self, text: &str);
    /// What is likely to make the run useless.
    fn warn(&mut self, text: &str);
}

/// Says nothing.
pub struct Silent;

impl Reporter for Silent {
    fn begin(&mut self, _: u64, _: u64) {}
    fn step(&mut self, _: &StepReport) {}
    fn evaluation(&mut self, _: &str, _: &Evaluation) {}
    fn saved(&mut self, _: &Path) {}
    fn note(&mut self, _: &str) {}
    fn warn(&mut self, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_interval() {
        // R: prop.test(30, 100, correct = FALSE)
        let (low, high) = wilson(30, 100);
        assert!((low - 0.2189).abs() < 1e-4 && (high - 0.3958).abs() < 1e-4, "{low} {high}");
        assert_eq!(wilson(0, 0), (0.0, 1.0));
        assert!(wilson(0, 10).0 == 0.0 && wilson(10, 10).1 <= 1.0);
    }
}
