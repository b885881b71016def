//! A batch of rollouts, and the table that the objective reads. Completions only: prompts are in the
//! forward pass but never in the table.

use std::collections::BTreeSet;
use std::ops::Range;

use rlc_compiler::table::{Data, Table};

use super::error::TrainError;
use super::reward::Score;

/// One completion.
#[derive(Debug, Clone, Default)]
pub struct Rollout {
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// The completion's tokens, the end token included where it was written.
    pub tokens: Vec<u32>,
    /// The sampler's own log-probs; empty where the rollout came from a file without them.
    pub sampler_logp: Vec<f32>,
    /// Log-probs under the weights at the start of the batch; empty until computed.
    pub old_logp: Vec<f32>,
    /// Log-probs under the initial weights; empty unless needed.
    pub ref_logp: Vec<f32>,
    /// Cut off at the longest length.
    pub truncated: bool,
    /// Tokens of each turn.
    pub turns: Vec<usize>,
    /// Verdicts.
    pub score: Score,
}

impl Rollout {
    /// Tokens of the forward pass: all but the last, which predicts nothing that is scored.
    pub fn inputs(&self) -> impl Iterator<Item = u32> + '_ {
        let all = self.prompt.iter().chain(&self.tokens).copied();
        all.take(self.input_len())
    }

    /// Number of [`Self::inputs`].
    pub fn input_len(&self) -> usize {
        self.prompt.len() + self.tokens.len() - 1
    }
}

/// Rollouts of one step, groups one after the other.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Rollouts of each group.
    pub groups: Vec<usize>,
    /// Identity of each group's prompt.
    pub prompts: Vec<i64>,
    /// All rollouts.
    pub rollouts: Vec<Rollout>,
}

/// Where in the run a batch stands.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Step, from 0.
    pub step: u64,
    /// Steps of the run.
    pub total: u64,
    /// `batch/seed`.
    pub seed: u64,
}

/// Columns that a run can give.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools)] // four independent facts about a task
pub struct Offered {
    /// `rollout/reward`.
    pub reward: bool,
    /// `rollout/correct`.
    pub correct: bool,
    /// `turn/step_correct`, and turns.
    pub steps: bool,
    /// `token/sampler_logp`.
    pub sampler_logp: bool,
}

/// Columns that every run gives, by computing them.
const ALWAYS: [&str; 18] = [
    "batch/train.step",
    "batch/train.total",
    "batch/train.progress",
    "vocab/logits",
    "vocab/old_logits",
    "vocab/ref_logits",
    "token/action",
    "token/mask",
    "token/logp",
    "token/entropy",
    "token/old_logp",
    "token/ref_logp",
    "token/position",
    "rollout/truncated",
    "rollout/length",
    "group/prompt",
    "batch/seed",
    "turn/size",
];

impl Offered {
    /// True when the run can give `column`.
    pub fn has(&self, column: &str) -> bool {
        match column {
            "rollout/reward" => self.reward,
            "rollout/correct" => self.correct,
            "turn/step_correct" => self.steps,
            "token/sampler_logp" => self.sampler_logp,
            _ => ALWAYS.contains(&column),
        }
    }

    /// All columns that the run can give, by name.
    pub fn columns(&self) -> BTreeSet<String> {
        let own = ["rollout/reward", "rollout/correct", "turn/step_correct", "token/sampler_logp"];
        let all = own.into_iter().chain(ALWAYS).filter(|c| self.has(c));
        all.map(str::to_owned).collect()
    }

    /// Words the refusal of a program that needs `missing`.
    pub fn refusal(missing: &str, task: &str) -> TrainError {
        let how = match missing {
            "turn/step_correct" => {
                "use the built-in arithmetic task, a reward of kind \"command\" that gives \
                 step_correct, or an offline file with that field"
            }
            "rollout/reward" => {
                "add a [[reward]] to the run file, or a field \"reward\" to the offline file"
            }
            "rollout/correct" => {
                "add a [[reward]] that compares answers (exact, numeric), or a field \"correct\" to \
                 the offline file"
            }
            "token/sampler_logp" => "read old_logp instead, which is always recomputed",
            _ => {
                "give it a definition or a default in the program (`input name : real @ level = 0.0`), \
                 or compute the objective with `rlc eval` on a batch that has it"
            }
        };
        TrainError::Column(format!(
            "the objective needs the column {missing}, which task \"{task}\" does not give: {how}"
        ))
    }
}

impl Batch {
    /// Number of completion tokens in a range of rollouts.
    pub fn tokens(&self, rollouts: Range<usize>) -> usize {
        self.rollouts[rollouts].iter().map(|r| r.tokens.len()).sum()
    }

    /// Number of forward-pass tokens in a range of rollouts.
    pub fn inputs(&self, rollouts: Range<usize>) -> usize {
        self.rollouts[rollouts].iter().map(Rollout::input_len).sum()
    }

    /// The objective's view.
    pub fn table(&self, offered: Offered, moment: Moment) -> Table {
        let rollouts = &self.rollouts;
        let floats =
            |f: &dyn Fn(&Rollout) -> f64| Data::F32(rollouts.iter().map(|r| f(r) as f32).collect());
        let mut table = Table::default();
        table.set("group/size", Data::I64(self.groups.iter().map(|g| *g as i64).collect()));
        table.set("group/prompt", Data::I64(self.prompts.clone()));
        table.set(
            "rollout/size",
            Data::I64(rollouts.iter().map(|r| r.tokens.len() as i64).collect()),
        );
        table.set(
            "rollout/truncated",
            Data::U8(rollouts.iter().map(|r| u8::from(r.truncated)).collect()),
        );
        table.set(
            "token/action",
            Data::I64(rollouts.iter().flat_map(|r| &r.tokens).map(|t| i64::from(*t)).collect()),
        );
        if offered.reward {
            table.set("rollout/reward", floats(&|r| r.score.reward));
        }
        if offered.correct {
            table.set(
                "rollout/correct",
                Data::U8(
                    rollouts.iter().map(|r| u8::from(r.score.correct == Some(true))).collect(),
                ),
            );
        }
        if rollouts.iter().all(|r| !r.turns.is_empty()) {
            let sizes = rollouts.iter().flat_map(|r| &r.turns).map(|t| *t as i64);
            table.set("turn/size", Data::I64(sizes.collect()));
        }
        if offered.steps {
            let steps = rollouts.iter().flat_map(|r| r.score.steps.iter().flatten());
            table.set("turn/step_correct", Data::F32(steps.map(|s| *s as f32).collect()));
        }
        for (name, column) in [
            ("token/sampler_logp", Rollout::sampler_logp as fn(&Rollout) -> &Vec<f32>),
            ("token/old_logp", Rollout::old_logp),
            ("token/ref_logp", Rollout::ref_logp),
        ] {
            if rollouts.iter().all(|r| column(r).len() == r.tokens.len()) {
                let values = rollouts.iter().flat_map(column).copied();
                table.set(name, Data::F32(values.collect()));
            }
        }
        table.set("batch/train.step", Data::I64(vec![moment.step as i64]));
        table.set("batch/train.total", Data::I64(vec![moment.total as i64]));
        let progress = moment.step as f64 / moment.total.max(1) as f64;
        table.set("batch/train.progress", Data::F64(vec![progress]));
        // A seed is read as i64: the sign bit stays clear so that it survives any reader.
        table.set("batch/seed", Data::I64(vec![(moment.seed >> 1) as i64]));
        table
    }
}

impl Rollout {
    fn sampler_logp(&self) -> &Vec<f32> {
        &self.sampler_logp
    }
    fn old_logp(&self) -> &Vec<f32> {
        &self.old_logp
    }
    fn ref_logp(&self) -> &Vec<f32> {
        &self.ref_logp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_columns_are_named() {
        let offered = Offered { reward: true, ..Default::default() }.columns();
        assert!(offered.contains("rollout/reward") && offered.contains("batch/train.step"));
        assert!(!offered.contains("turn/step_correct"));
        let e = Offered::refusal("turn/step_correct", "prompts").to_string();
        assert!(e.contains("turn/step_correct") && e.contains("\"prompts\""), "{e}");
    }

    #[test]
    fn table_holds_completions_only() {
        let rollout = |tokens: Vec<u32>, turns: Vec<usize>| Rollout {
            prompt: vec![9, 9, 9],
            old_logp: vec![-1.0; tokens.len()],
            tokens,
            turns,
            ..Default::default()
        };
        let batch = Batch {
            groups: vec![2],
            prompts: vec![4],
            rollouts: vec![rollout(vec![1, 2, 3], vec![2, 1]), rollout(vec![5], vec![1])],
        };
        assert_eq!(batch.rollouts[0].inputs().collect::<Vec<_>>(), [9, 9, 9, 1, 2]);
        assert_eq!(batch.inputs(0..2), 8);
        let table = batch.table(Offered::default(), Moment { step: 1, total: 4, seed: 6 });
        let get = |name: &str| table.get(name).map(|a| a.data.clone());
        assert_eq!(get("token/action"), Some(Data::I64(vec![1, 2, 3, 5])));
        assert_eq!(get("turn/size"), Some(Data::I64(vec![2, 1, 1])));
        assert_eq!(get("batch/train.progress"), Some(Data::F64(vec![0.25])));
        assert_eq!(get("token/old_logp").map(|d| d.len()), Some(4));
        assert_eq!(get("token/ref_logp"), None);
        assert_eq!(get("rollout/reward"), None);
    }
}
