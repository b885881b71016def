//! The run file: every setting of a run, its default and its check. Unknown keys are errors with the
//! nearest known one. What a run used is written back in full (`config.resolved.toml`), so defaults
//! that depend on other settings are decided here, once, and never later.

use std::collections::BTreeMap;
use std::path::Path;

use rlc_compiler::diagnostic::nearest;
use serde::{Deserialize, Serialize};

use super::error::{Result, TrainError, at};

/// All settings of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The objective: a file or a name of the standard library.
    pub objective: String,
    /// Every random choice of the run follows from this.
    pub seed: u64,
    /// Rollout batches.
    pub steps: Option<u64>,
    /// Values of the program's params.
    pub params: BTreeMap<String, f64>,
    /// Where the weights come from.
    pub model: ModelConfig,
    /// Where prompts or rollouts come from.
    pub data: DataConfig,
    /// What a completion earns; the weighted sum is `reward`.
    pub reward: Vec<RewardConfig>,
    /// How completions are drawn.
    pub rollout: RolloutConfig,
    /// How the weights move.
    pub optimizer: OptimizerConfig,
    /// When the run is saved.
    pub checkpoint: CheckpointConfig,
    /// How held-out accuracy is measured.
    pub eval: EvalConfig,
}

/// Where the weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// `embedded`, `random` (the embedded shape, new weights), `random:DIR` (the shape and tokenizer
    /// of a folder, new weights), or a Hugging Face folder.
    pub init: String,
    /// Type of the weights in checkpoints' exported folder at the end of the run: `f32` or `bf16`.
    /// Checkpoints to resume from are always f32.
    pub export: String,
    /// `cpu`, `cuda`, `cuda:N`, or `cpu-candle` (what a GPU does, slowly and on the CPU: for comparing).
    pub device: String,
    /// Type of activations and matrix products on a GPU: `bf16` (when absent) or `f32`. Weights, their
    /// gradients and the optimiser's moments are f32 everywhere.
    pub dtype: Option<String>,
    /// Keeps the reference model in the CPU's memory between its uses.
    pub offload_reference: bool,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            init: "embedded".into(),
            export: "f32".into(),
            device: "cpu".into(),
            dtype: None,
            offload_reference: false,
        }
    }
}

/// Where prompts or rollouts come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// `arithmetic` (built in), `prompts` (a JSONL file) or `offline` (rollouts from a JSONL file).
    pub task: String,
    /// The JSONL file of `prompts` and `offline`.
    pub file: Option<String>,
    /// Held-out prompts in a file of their own; without it `held_out` are taken from `file`.
    pub eval_file: Option<String>,
    /// How many lines of `file` are held out, when there is no `eval_file`.
    pub held_out: usize,
    /// Name of the prompt's field.
    pub prompt_key: String,
    /// Name of the answer's field.
    pub answer_key: String,
    /// Name of the completion's field (`offline`).
    pub completion_key: String,
    /// Text around a prompt; `{prompt}` stands for it.
    pub template: String,
    /// Digits of each number of `arithmetic`.
    pub digits: u32,
    /// Cuts completions into turns at line ends (always so for `arithmetic`).
    pub line_turns: bool,
    /// Adds the end token to every completion (`offline`).
    pub append_eos: bool,
    /// Completions in a batch (`offline`).
    pub batch: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            task: "arithmetic".into(),
            file: None,
            eval_file: None,
            held_out: 0,
            prompt_key: "prompt".into(),
            answer_key: "answer".into(),
            completion_key: "completion".into(),
            template: "{prompt}".into(),
            digits: 3,
            line_turns: false,
            append_eos: true,
            batch: 64,
        }
    }
}

/// One reward.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// `exact`, `numeric`, `regex`, `length`, `command` or `arithmetic`.
    pub kind: String,
    /// Factor in the sum; 1 when absent.
    pub weight: Option<f64>,
    /// Pattern of `regex`: 1 where it matches the completion.
    pub pattern: Option<String>,
    /// Bound of `length`, in tokens: 1 up to it, falling to 0 over the next `slack` tokens.
    pub max: Option<u64>,
    /// See `max`.
    pub slack: Option<u64>,
    /// Program and arguments of `command`.
    pub command: Option<Vec<String>>,
    /// Seconds that `command` may take for one line; 10 when absent.
    pub timeout: Option<f64>,
}

/// How completions are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutConfig {
    /// Prompts in a batch.
    pub prompts: usize,
    /// Completions of each prompt.
    pub samples: usize,
    /// Most completions that the program's `sample rollouts` may ask for.
    pub max_samples: usize,
    /// Temperature of the sampler and of the program's `logp`.
    pub temperature: f64,
    /// Nucleus; 1 keeps all.
    pub top_p: f64,
    /// Number of candidates; 0 keeps all.
    pub top_k: usize,
    /// Longest completion.
    pub max_new_tokens: usize,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        RolloutConfig {
            prompts: 32,
            samples: 8,
            max_samples: 64,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            max_new_tokens: 40,
        }
    }
}

/// How the weights move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Highest learning rate. When absent: 3e-4 for `embedded` and `random` weights, else 1e-6.
    pub lr: Option<f64>,
    /// AdamW's two decay rates.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay; not applied to vectors (norms and biases).
    pub weight_decay: f64,
    /// Optimiser steps over which the learning rate rises.
    pub warmup: u64,
    /// After the warm-up: `constant`, `linear` or `cosine`.
    pub schedule: String,
    /// Learning rate at the end, as a share of `lr`.
    pub final_lr: f64,
    /// Longest gradient; 0 for no limit.
    pub max_grad_norm: f64,
    /// Optimiser steps on each batch, each over all of it.
    pub updates_per_batch: u64,
    /// Tokens (prompts included) in one forward pass; a batch is cut where the objective allows.
    pub micro_batch_tokens: usize,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig {
            lr: None,
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.0,
            warmup: 10,
            schedule: "linear".into(),
            final_lr: 0.1,
            max_grad_norm: 1.0,
            updates_per_batch: 2,
            micro_batch_tokens: 4096,
        }
    }
}

/// When the run is saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// The run's folder. When absent: `runs/OBJECTIVE-N`, the first N that is free.
    pub dir: Option<String>,
    /// Steps between checkpoints; one is always written at the end.
    pub every: u64,
    /// Checkpoints kept.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        CheckpointConfig { dir: None, every: 10, keep: 2 }
    }
}

/// How held-out accuracy is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Held-out problems, before and after training; 0 measures nothing.
    pub problems: usize,
    /// Steps between measurements during the run; 0 for none.
    pub every: u64,
    /// Also with greedy decoding.
    pub greedy: bool,
}

impl Default for EvalConfig {
    fn default() -> Self {
        EvalConfig { problems: 500, every: 0, greedy: true }
    }
}

impl Config {
    /// Reads a run file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(at("read", path))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a run file's text; `name` stands in messages.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| {
            let line =
                e.span().map_or(1, |s| text[..s.start.min(text.len())].lines().count().max(1));
            // A span that begins after a newline belongs to the next line.
            let line = match e.span() {
                Some(s) if s.start > 0 && text[..s.start.min(text.len())].ends_with('\n') => {
                    line + 1
                }
                _ => line,
            };
            TrainError::Config(format!("{name}:{line}: {}", explain(e.message())))
        })
    }

    /// The text of `config.resolved.toml`.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| TrainError::Config(format!("cannot write settings: {e}")))
    }

    /// Fills in the defaults that depend on other settings and checks every number.
    pub fn resolve(mut self) -> Result<Self> {
        let own = self.model.init == "embedded" || self.model.init.starts_with("random");
        if self.optimizer.lr.is_none() {
            self.optimizer.lr = Some(if own { 3e-4 } else { 1e-6 });
        }
        if self.steps.is_none() {
            self.steps = Some(if self.data.task == "arithmetic" { 100 } else { 200 });
        }
        if self.data.task == "arithmetic" {
            self.data.line_turns = true;
            if self.reward.is_empty() {
                self.reward.push(RewardConfig { kind: "arithmetic".into(), ..Default::default() });
            }
        }
        if self.data.task == "prompts" && self.reward.is_empty() {
            self.reward.push(RewardConfig { kind: "numeric".into(), ..Default::default() });
        }
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<()> {
        one_of("data.task", &self.data.task, &["arithmetic", "prompts", "offline"])?;
        one_of("optimizer.schedule", &self.optimizer.schedule, &["constant", "linear", "cosine"])?;
        one_of("model.export", &self.model.export, &["f32", "bf16"])?;
        if self.model.device == "gpu" {
            return Err(TrainError::Config(
                "model.device = \"gpu\" is not known: write \"cuda\", or \"cuda:N\" for one of several"
                    .into(),
            ));
        }
        if super::place::ordinal(&self.model.device).is_none() {
            one_of("model.device", &self.model.device, &["cpu", "cuda", "cuda:N", "cpu-candle"])?;
        }
        if let Some(dtype) = &self.model.dtype {
            one_of("model.dtype", dtype, &["f32", "bf16"])?;
        }
        let (r, o) = (&self.rollout, &self.optimizer);
        within("rollout.temperature", r.temperature, 1e-3, 100.0)?;
        within("rollout.top_p", r.top_p, 1e-6, 1.0)?;
        within("rollout.prompts", r.prompts as f64, 1.0, 1e6)?;
        within("rollout.samples", r.samples as f64, 1.0, 1e6)?;
        within("rollout.max_samples", r.max_samples as f64, 1.0, 1e6)?;
        within("rollout.max_new_tokens", r.max_new_tokens as f64, 1.0, 1e6)?;
        within("data.digits", f64::from(self.data.digits), 1.0, 9.0)?;
        within("data.batch", self.data.batch as f64, 1.0, 1e6)?;
        within("steps", self.steps.unwrap_or(1) as f64, 1.0, 1e9)?;
        within("optimizer.lr", o.lr.unwrap_or(0.0), 0.0, 10.0)?;
        within("optimizer.betas[0]", o.betas[0], 0.0, 0.999_999)?;
        within("optimizer.betas[1]", o.betas[1], 0.0, 0.999_999_9)?;
        within("optimizer.eps", o.eps, 1e-20, 1.0)?;
        within("optimizer.weight_decay", o.weight_decay, 0.0, 10.0)?;
        within("optimizer.final_lr", o.final_lr, 0.0, 1.0)?;
        within("optimizer.max_grad_norm", o.max_grad_norm, 0.0, 1e12)?;
        within("optimizer.updates_per_batch", o.updates_per_batch as f64, 1.0, 1000.0)?;
        within("optimizer.micro_batch_tokens", o.micro_batch_tokens as f64, 1.0, 1e9)?;
        within("checkpoint.every", self.checkpoint.every as f64, 1.0, 1e9)?;
        within("checkpoint.keep", self.checkpoint.keep as f64, 1.0, 1e6)?;
        if self.checkpoint.dir.as_deref() == Some("") {
            return Err(TrainError::Config(
                "checkpoint.dir (--out) is empty: name the run's folder, or leave it out for runs/OBJECTIVE-N"
                    .into(),
            ));
        }
        if self.data.task != "arithmetic" && self.data.file.is_none() {
            return Err(TrainError::Config(format!(
                "data.task = \"{0}\" needs a file: write data.file = \"{0}.jsonl\" or pass {1}",
                self.data.task,
                if self.data.task == "offline" { "--offline FILE" } else { "--data FILE" }
            )));
        }
        if self.data.task == "arithmetic" && self.data.file.is_some() {
            return Err(TrainError::Config(
                "data.file is set, but data.task = \"arithmetic\" generates its problems: \
                 write data.task = \"prompts\" (or \"offline\")"
                    .into(),
            ));
        }
        if !self.data.template.contains("{prompt}") {
            return Err(TrainError::Config(format!(
                "data.template = {:?} does not contain {{prompt}}: write data.template = \"{{prompt}}\"",
                self.data.template
            )));
        }
        Ok(())
    }

    /// Rollout batches of the run.
    pub fn total_steps(&self) -> u64 {
        self.steps.unwrap_or(1)
    }

    /// Completions in one batch.
    pub fn batch_size(&self) -> usize {
        if self.data.task == "offline" {
            self.data.batch
        } else {
            self.rollout.prompts * self.rollout.samples
        }
    }
}

/// Serde's message, with the nearest known key where one was misspelt.
fn explain(message: &str) -> String {
    let message = message.trim().replace('\n', " ");
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if !message.starts_with("unknown field") || quoted.is_empty() {
        return message;
    }
    match nearest(quoted[0], quoted[1..].iter().copied()) {
        Some(near) => format!("unknown key `{}`; did you mean `{near}`?", quoted[0]),
        None => format!("unknown key `{}`; known here: {}", quoted[0], quoted[1..].join(", ")),
    }
}

fn within(name: &str, value: f64, low: f64, high: f64) -> Result<()> {
    if value.is_finite() && (low..=high).contains(&value) {
        return Ok(());
    }
    Err(TrainError::Config(format!("{name} = {value} is outside [{low}, {high}]")))
}

fn one_of(name: &str, value: &str, known: &[&str]) -> Result<()> {
    if known.contains(&value) {
        return Ok(());
    }
    let hint = match nearest(value, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write one of {}", known.join(", ")),
    };
    Err(TrainError::Config(format!("{name} = \"{value}\" is not known: {hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_key_names_line_and_neighbour() {
        let e = Config::parse("seed = 1\n\n[optimizer]\nlrr = 1.0\n", "run.toml").unwrap_err();
        let text = e.to_string();
        assert!(text.contains("run.toml:4:") && text.contains("did you mean `lr`"), "{text}");
        let e = Config::parse("[optimiser]\n", "run.toml").unwrap_err().to_string();
        assert!(e.contains("run.toml:1:") && e.contains("`optimizer`"), "{e}");
    }

    #[test]
    fn wrong_types_and_ranges() {
        let e = Config::parse("seed = \"x\"\n", "run.toml").unwrap_err().to_string();
        assert!(e.contains("run.toml:1"), "{e}");
        let c = Config::parse("[rollout]\ntemperature = -1.0\n", "run.toml").unwrap();
        let e = c.resolve().unwrap_err().to_string();
        assert!(e.contains("rollout.temperature"), "{e}");
        let c = Config::parse("[data]\ntask = \"prompt\"\n", "run.toml").unwrap();
        let e = c.resolve().unwrap_err().to_string();
        assert!(e.contains("did you mean \"prompts\""), "{e}");
    }

    #[test]
    fn resolved_text_reads_back() {
        let c = Config { objective: "grpo".into(), ..Default::default() }.resolve().unwrap();
        let again = Config::parse(&c.to_toml().unwrap(), "resolved").unwrap();
        assert_eq!(c, again);
    }
}
