//! Whether rewards tell a run's rollouts apart. Where they do not from the first step on, nothing is learned from them, and
//! loss curves do not show it: said once, with what to look at. Never changes what is trained.

use std::collections::BTreeSet;

use super::batch::Batch;
use super::config::Config;

/// Steps from the start without a signal before something is said. Rare rewards need a few batches to turn up; the smallest
/// usual batches have 64 rollouts.
pub const STEPS: u64 = 5;

/// Columns through which a rollout is judged beside its reward.
const OTHER_VERDICTS: [&str; 2] = ["rollout/correct", "turn/step_correct"];

/// What was seen of a run's rewards so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signal {
    /// Steps without a signal.
    silent: u64,
    rollouts: u64,
    truncated: u64,
    /// Least and greatest reward.
    range: Option<(f64, f64)>,
}

impl Signal {
    /// Looks at a step's batch. A program that reads no reward is none of its concern.
    pub fn see(&mut self, batch: &Batch, reads: &BTreeSet<String>, grad_norm: f64) {
        if !reads.contains("rollout/reward") || tells_apart(batch, reads, grad_norm) {
            return;
        }
        self.silent += 1;
        for rollout in &batch.rollouts {
            let reward = rollout.score.reward;
            let (low, high) = self.range.unwrap_or((reward, reward));
            self.range = Some((low.min(reward), high.max(reward)));
            self.rollouts += 1;
            self.truncated += u64::from(rollout.truncated);
        }
    }

    /// What to say after `step` steps: something once, and only where each of them had no signal.
    pub fn warning(&self, step: u64, config: &Config) -> Option<String> {
        if step != STEPS || self.silent != STEPS {
            return None;
        }
        let (low, high) = self.range?;
        let each = if low == high { format!(" (all of them {low})") } else { String::new() };
        let file = config.data.file.as_deref().unwrap_or(&config.data.task);
        let recorded = config.data.task == "offline";
        let whose = if recorded {
            format!("the rewards recorded in {file}")
        } else {
            let rewards: Vec<String> =
                config.reward.iter().map(|r| format!("`{}`", r.kind)).collect();
            format!("the reward {} on {file}", rewards.join(" + "))
        };
        let mut text = format!(
            "{whose} gave all rollouts of a group the same in each of the first {STEPS} steps{each}: \
             advantages are 0, and nothing is learned from them"
        );
        let mut tries = Vec::new();
        if recorded {
            tries.push("record several rollouts of a prompt, good and bad ones".to_owned());
        } else if config.rollout.samples == 1 {
            tries.push("compare several rollouts of a prompt, as in --samples 8".to_owned());
        } else {
            tries
                .push("read some completions: does the reward find the answer in them?".to_owned());
            let easier = "prompts that the model sometimes gets right and sometimes wrong";
            tries.push(format!("{easier}, more --samples, a higher --temperature"));
            tries.push("a second --reward that grants a part, such as one for the form".to_owned());
        }
        // Cut off, an answer at the end is never seen.
        if !recorded && 2 * self.truncated > self.rollouts {
            let share = 100.0 * self.truncated as f64 / self.rollouts as f64;
            tries.push(format!("more --max-new-tokens: {share:.0} % of completions were cut off"));
        }
        for one in tries {
            text += &format!("\n  try: {one}");
        }
        Some(text)
    }
}

/// True where rewards differ within a group, or where what a batch is judged by differs otherwise and moved the weights.
fn tells_apart(batch: &Batch, reads: &BTreeSet<String>, grad_norm: f64) -> bool {
    let mut rest = batch.rollouts.iter().map(|r| r.score.reward);
    let mut all: Option<f64> = None;
    let mut one_value = true;
    for &size in &batch.groups {
        let Some(first) = rest.next() else { break };
        if rest.by_ref().take(size.saturating_sub(1)).any(|reward| reward != first) {
            return true;
        }
        one_value &= *all.get_or_insert(first) == first;
    }
    let judged_otherwise = OTHER_VERDICTS.iter().any(|c| reads.contains(*c));
    // A penalty or a bonus beside the reward moves the weights too, but teaches nothing about the task.
    grad_norm != 0.0 && (judged_otherwise || !one_value)
}

#[cfg(test)]
mod tests {
    use super::super::batch::Rollout;
    use super::super::reward::Score;
    use super::*;

    fn batch(groups: &[&[f64]]) -> Batch {
        let rollout = |reward: &f64| Rollout {
            score: Score { reward: *reward, correct: None, steps: None },
            truncated: true,
            ..Rollout::default()
        };
        Batch {
            groups: groups.iter().map(|g| g.len()).collect(),
            prompts: (0..groups.len() as i64).collect(),
            rollouts: groups.iter().flat_map(|g| g.iter().map(rollout)).collect(),
        }
    }

    fn reads(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn a_batch_tells_rollouts_apart() {
        let reward = reads(&["rollout/reward"]);
        let steps = reads(&["rollout/reward", "turn/step_correct"]);
        // (rewards, columns read, gradient's length, a signal)
        let zero: &[&[f64]] = &[&[0.0, 0.0], &[0.0, 0.0]];
        let between: &[&[f64]] = &[&[0.0, 0.0], &[1.0, 1.0]];
        let within: &[&[f64]] = &[&[1.0, 1.0], &[0.0, 1.0]];
        let cases = [
            (within, &reward, 0.0, true),
            (zero, &reward, 0.0, false),
            (zero, &reward, 0.1, false),
            (between, &reward, 0.0, false),
            (between, &reward, 0.1, true),
            (zero, &steps, 0.1, true),
            (zero, &steps, 0.0, false),
        ];
        for (groups, columns, grad_norm, signal) in cases {
            let told = tells_apart(&batch(groups), columns, grad_norm);
            assert_eq!(told, signal, "{groups:?} {columns:?} {grad_norm}");
        }
    }

    #[test]
    fn it_is_said_once_and_only_of_the_start() {
        let config = Config::default();
        let columns = reads(&["rollout/reward"]);
        let mut signal = Signal::default();
        let mut said = Vec::new();
        for step in 1..=8 {
            signal.see(&batch(&[&[0.0, 0.0]]), &columns, 0.0);
            said.extend(signal.warning(step, &config));
        }
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("all of them 0") && said[0].contains("100 %"), "{}", said[0]);
        let mut signal = Signal::default();
        for step in 1..=8 {
            let rewards: &[f64] = if step == 2 { &[0.0, 1.0] } else { &[0.0, 0.0] };
            signal.see(&batch(&[rewards]), &columns, 0.0);
            assert_eq!(signal.warning(step, &config), None);
        }
        let mut signal = Signal::default();
        for step in 1..=8 {
            signal.see(&batch(&[&[0.0, 0.0]]), &reads(&["token/mask"]), 0.0);
            assert_eq!(signal.warning(step, &config), None);
        }
    }
}
