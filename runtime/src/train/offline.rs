//! Rollouts from a file instead of the sampler: supervised fine-tuning, or any objective on recorded
//! completions. Consecutive lines with one prompt are one group.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::batch::{Batch, Offered, Rollout};
use super::config::Config;
use super::data::{read_jsonl, shuffled, text_field};
use super::error::{Result, TrainError};
use super::reward::Score;
use super::rollouts::Codec;

/// All rollouts of a file, in groups.
pub struct Offline {
    groups: Vec<(i64, Vec<Rollout>)>,
    offered: Offered,
    fingerprint: u64,
}

impl Offline {
    /// Reads and tokenises the file; every line must have the fields that the first one has.
    pub fn open(config: &Config, codec: &Codec) -> Result<Self> {
        let data = &config.data;
        let file = Path::new(data.file.as_deref().unwrap_or_default());
        let (rows, fingerprint) = read_jsonl(file)?;
        let has = |key: &str| rows.first().is_some_and(|(_, o)| o.contains_key(key));
        let offered = Offered {
            reward: has("reward"),
            correct: has("correct"),
            steps: has("step_correct"),
            sampler_logp: has("sampler_logp"),
        };
        let optional = ["reward", "correct", "step_correct", "sampler_logp", "truncated"];
        let present: Vec<&str> = optional.into_iter().filter(|k| has(k)).collect();
        let mut groups: Vec<(i64, Vec<Rollout>)> = Vec::new();
        let mut ids: BTreeMap<String, i64> = BTreeMap::new();
        for (line, object) in &rows {
            let row = Row { file, line: *line, object };
            for key in optional {
                if object.contains_key(key) != present.contains(&key) {
                    return Err(row.fault(format!(
                        "field \"{key}\" is on some lines only: give it on every line or on none"
                    )));
                }
            }
            let prompt = text_field(file, *line, object, &data.prompt_key)?;
            let text = text_field(file, *line, object, &data.completion_key)?;
            let rollout = row.rollout(&prompt, &text, config, codec, offered)?;
            let next = ids.len() as i64;
            let id = *ids.entry(prompt).or_insert(next);
            match groups.last_mut() {
                Some((last, rollouts)) if *last == id => rollouts.push(rollout),
                _ => groups.push((id, vec![rollout])),
            }
        }
        Ok(Offline { groups, offered, fingerprint })
    }

    /// Columns that the file gives.
    pub fn offered(&self) -> Offered {
        self.offered
    }

    /// Identity of the file, kept in checkpoints.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The next batch: whole groups until it holds `size` rollouts. Returns how many groups it took.
    pub fn batch(&self, seed: u64, position: u64, size: usize) -> (Batch, u64) {
        let mut batch = Batch::default();
        let mut taken = 0;
        for index in shuffled(self.groups.len(), seed, position).take(size) {
            if batch.rollouts.len() >= size {
                break;
            }
            let (id, rollouts) = &self.groups[index];
            batch.groups.push(rollouts.len());
            batch.prompts.push(*id);
            batch.rollouts.extend(rollouts.iter().cloned());
            taken += 1;
        }
        (batch, taken)
    }
}

struct Row<'a> {
    file: &'a Path,
    line: usize,
    object: &'a Map<String, Value>,
}

impl Row<'_> {
    fn fault(&self, what: String) -> TrainError {
        TrainError::Data { file: self.file.to_path_buf(), line: self.line, what }
    }

    fn rollout(
        &self,
        prompt: &str,
        text: &str,
        config: &Config,
        codec: &Codec,
        offered: Offered,
    ) -> Result<Rollout> {
        let data = &config.data;
        let truncated = self.flag("truncated")?.unwrap_or(false);
        let tokens = codec.completion(text, data.append_eos && !truncated)?;
        if tokens.is_empty() {
            return Err(self.fault(format!("field \"{}\" has no tokens", data.completion_key)));
        }
        let lines = data.line_turns || offered.steps;
        let turns = codec.turns(&tokens, lines);
        let reward = match self.object.get("reward") {
            None => 0.0,
            Some(value) => value
                .as_f64()
                .filter(|r| r.is_finite())
                .ok_or_else(|| self.fault("field \"reward\" is not a number".into()))?,
        };
        let steps = self.numbers("step_correct", turns.len(), "lines of the completion")?;
        if steps.iter().flatten().any(|s| !(0.0..=1.0).contains(s)) {
            return Err(self.fault("field \"step_correct\" has a number outside [0, 1]".into()));
        }
        let prompt = codec.prompt(&data.template.replace("{prompt}", prompt))?;
        if prompt.len() + tokens.len() > codec.positions() + 1 {
            return Err(self.fault(format!(
                "prompt and completion have {} tokens, more than the model's {} positions: shorten \
                 them, or take a model with more (max_position_embeddings)",
                prompt.len() + tokens.len(),
                codec.positions()
            )));
        }
        let logp = self.numbers("sampler_logp", tokens.len(), "tokens (end token included)")?;
        Ok(Rollout {
            prompt,
            sampler_logp: logp.unwrap_or_default().iter().map(|x| *x as f32).collect(),
            tokens,
            truncated,
            turns,
            score: Score { reward, correct: self.flag("correct")?, steps },
            ..Rollout::default()
        })
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.object.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(_) => Err(self.fault(format!("field \"{key}\" is neither true nor false"))),
        }
    }

    fn numbers(&self, key: &str, count: usize, of: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.object.get(key) else { return Ok(None) };
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let numbers: Vec<f64> =
            list.iter().filter_map(Value::as_f64).filter(|x| x.is_finite()).collect();
        if numbers.len() != count || list.len() != count {
            return Err(self.fault(format!(
                "field \"{key}\" holds {} numbers for {count} {of}",
                numbers.len()
            )));
        }
        Ok(Some(numbers))
    }
}
