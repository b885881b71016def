//! What one run amounts to: read from its metrics and its result, and reduced to the numbers of a table.

use std::path::Path;

use rlc_runtime::train::report::{Evaluation, StepReport};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};

/// Mean entropy, in nats per token, below which a policy has stopped exploring.
pub const FROZEN: f64 = 0.01;
/// Share of the best accuracy so far below which a run has collapsed.
pub const FALL: f64 = 0.5;
/// Share of a run's steps that its "end" is the mean of.
const END: f64 = 0.1;

/// Metrics that every compared program gets, where it has the columns for them: name, and what it is.
pub const ADDED: [(&str, &str); 3] = [
    ("compare_entropy", "entropy of the policy, nats per token"),
    ("compare_kl", "KL (k3) of the updated policy to the one that sampled, nats per token"),
    ("compare_punished", "share of the tokens of correct steps with a negative advantage"),
];

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// All steps.
    Finished,
    /// It used up its processor time.
    Cut,
    /// It stopped by itself, for a number that was not finite.
    Broken,
}

/// What is kept of a run once it is over: `result.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    /// Identity of program and settings.
    pub identity: String,
    /// How it ended.
    pub end: End,
    /// Seconds of processor time.
    pub core_seconds: f64,
    /// Held out, before training.
    pub before: Option<Evaluation>,
    /// Held out, after training.
    pub after: Option<Evaluation>,
    /// Why it broke.
    pub message: String,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Seed.
    pub seed: u64,
    /// What was kept of it.
    pub kept: Kept,
    /// Its steps.
    pub steps: Vec<StepReport>,
}

/// What is drawn against the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Held-out accuracy (mean reward where no rule judges answers).
    Accuracy,
    /// Mean reward of the batch.
    Reward,
    /// Entropy.
    Entropy,
    /// KL to the sampling policy.
    Kl,
    /// Gradient length before clipping.
    GradNorm,
    /// Share of correct steps' tokens that are pushed down.
    Punished,
}

impl Run {
    /// Reads a run's folder.
    pub fn read(folder: &Path, seed: u64, kept: Kept) -> Outcome<Run> {
        let path = folder.join("metrics.jsonl");
        let broken = |what: String| {
            Failure::running(
                format!("cannot read `{}`: {what}", path.display()),
                "`--force` starts the comparison anew",
            )
        };
        let text = std::fs::read_to_string(&path).map_err(|e| broken(crate::output::plain(&e)))?;
        let steps = text
            .lines()
            .filter(|l| !l.trim().is_empty())
            .map(serde_json::from_str)
            .collect::<Result<Vec<StepReport>, _>>();
        // The last line of a run that was cut off may be half a line.
        let steps = match steps {
            Ok(steps) => steps,
            Err(_) if kept.end == End::Cut => {
                text.lines().map_while(|l| serde_json::from_str(l).ok()).collect()
            }
            Err(error) => return Err(broken(error.to_string())),
        };
        Ok(Run { seed, kept, steps })
    }

    /// A quantity by step; what is not finite is left out.
    pub fn curve(&self, quantity: Quantity) -> Vec<(f64, f64)> {
        let metric = |name: &str, r: &StepReport| r.metrics.get(name).copied();
        let value = |r: &StepReport| match quantity {
            Quantity::Accuracy => r.eval.as_ref().map(accuracy),
            Quantity::Reward => r.reward,
            Quantity::Entropy => metric(ADDED[0].0, r),
            Quantity::Kl => metric(ADDED[1].0, r),
            Quantity::Punished => metric(ADDED[2].0, r),
            Quantity::GradNorm => Some(r.grad_norm),
        };
        let mut points: Vec<(f64, f64)> = Vec::new();
        if let (Quantity::Accuracy, Some(before)) = (quantity, &self.kept.before) {
            points.push((0.0, accuracy(before)));
        }
        points.extend(self.steps.iter().filter_map(|r| Some((r.step as f64, value(r)?))));
        if let (Quantity::Accuracy, Some(after)) = (quantity, &self.kept.after) {
            let last = self.steps.last().map_or(0.0, |r| r.step as f64);
            points.retain(|p| p.0 < last);
            points.push((last, accuracy(after)));
        }
        points.retain(|p| p.1.is_finite());
        points
    }

    /// The last held-out measurement.
    pub fn accuracy(&self) -> Option<f64> {
        self.curve(Quantity::Accuracy).last().map(|p| p.1)
    }

    /// Mean over all steps.
    pub fn mean(&self, quantity: Quantity) -> Option<f64> {
        mean(&self.curve(quantity))
    }

    /// Mean over the last tenth of the steps.
    pub fn end(&self, quantity: Quantity) -> Option<f64> {
        let curve = self.curve(quantity);
        let count = ((curve.len() as f64 * END).ceil() as usize).max(1);
        mean(&curve[curve.len().saturating_sub(count)..])
    }

    /// Greatest value.
    pub fn most(&self, quantity: Quantity) -> Option<f64> {
        self.curve(quantity).into_iter().map(|p| p.1).reduce(f64::max)
    }

    /// Completion tokens sampled.
    pub fn tokens(&self) -> u64 {
        self.steps.iter().map(|r| r.tokens).sum()
    }

    /// The step at which it collapsed: it broke, its held-out accuracy fell below [`FALL`] of its best so far, or its
    /// entropy fell below [`FROZEN`] while it answered less than half of the problems right.
    pub fn collapse(&self) -> Option<u64> {
        let mut best: f64 = 0.0;
        let accuracy = self.curve(Quantity::Accuracy);
        let fell = accuracy.iter().find(|(_, a)| {
            best = best.max(*a);
            *a < FALL * best
        });
        let known = |step: f64| accuracy.iter().rev().find(|p| p.0 <= step).map(|p| p.1);
        let frozen = self
            .curve(Quantity::Entropy)
            .into_iter()
            .find(|(step, e)| *e < FROZEN && known(*step).is_some_and(|a| a < 0.5));
        let broke = (self.kept.end == End::Broken).then_some(self.steps.len() as u64 + 1);
        let first = fell.copied().into_iter().chain(frozen).map(|p| p.0 as u64);
        first.chain(broke).min()
    }
}

fn mean(points: &[(f64, f64)]) -> Option<f64> {
    (!points.is_empty()).then(|| points.iter().map(|p| p.1).sum::<f64>() / points.len() as f64)
}

fn accuracy(evaluation: &Evaluation) -> f64 {
    match evaluation.correct {
        Some(correct) => correct as f64 / evaluation.problems.max(1) as f64,
        None => evaluation.reward,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run with these held-out accuracies, one a step after the first, and entropies.
    fn run(accuracy: &[usize], entropy: &[f64], end: End) -> Run {
        let evaluation =
            |n: usize| Evaluation { problems: 100, correct: Some(n), reward: 0.0, greedy: None };
        let step = |(i, e): (usize, &f64)| StepReport {
            step: i as u64 + 1,
            reward: Some(0.5),
            correct: None,
            loss: 0.0,
            metrics: [(ADDED[0].0.to_owned(), *e)].into(),
            grad_norm: 1.0,
            lr: 0.0,
            length: 3.0,
            truncated: 0.0,
            tokens: 30,
            prompts: None,
            eval: accuracy.get(i + 1).map(|n| evaluation(*n)),
            time: rlc_runtime::train::report::Timing::default(),
        };
        let kept = Kept {
            identity: String::new(),
            end,
            core_seconds: 1.0,
            before: Some(evaluation(accuracy[0])),
            after: None,
            message: String::new(),
        };
        Run { seed: 0, kept, steps: entropy.iter().enumerate().map(step).collect() }
    }

    #[test]
    fn collapses() {
        let steady = [0.3; 4];
        assert_eq!(run(&[30, 60, 40, 61], &steady, End::Finished).collapse(), None);
        assert_eq!(run(&[30, 60, 29, 61], &steady, End::Finished).collapse(), Some(2));
        let frozen = [0.3, 0.009, 0.3, 0.3];
        assert_eq!(run(&[30, 40, 40, 40], &frozen, End::Finished).collapse(), Some(2));
        assert_eq!(run(&[30, 60, 60, 60], &frozen, End::Finished).collapse(), None);
        assert_eq!(run(&[30, 60, 60, 60], &steady, End::Broken).collapse(), Some(5));
    }

    #[test]
    fn curves_and_ends() {
        let mut run = run(&[30, 60, 50], &[0.4, 0.3, f64::NAN], End::Finished);
        assert_eq!(run.curve(Quantity::Accuracy), [(0.0, 0.3), (1.0, 0.6), (2.0, 0.5)]);
        assert_eq!(run.curve(Quantity::Entropy), [(1.0, 0.4), (2.0, 0.3)]);
        assert_eq!(
            (run.end(Quantity::Entropy), run.most(Quantity::Entropy)),
            (Some(0.3), Some(0.4))
        );
        assert_eq!(run.tokens(), 90);
        run.kept.after =
            Some(Evaluation { problems: 10, correct: Some(9), reward: 0.0, greedy: None });
        assert_eq!(run.accuracy(), Some(0.9));
    }
}
