//! Completions drawn from the model and judged, and the log-probs that the objective compares with.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use rlc_model::{Completion, Model, SampleOptions, Tokenizer};

use super::batch::{Batch, Rollout};
use super::config::RolloutConfig;
use super::data::Problem;
use super::error::{Result, TrainError};
use super::reward::{Judged, Score, Scorer};

/// Text on one side, tokens on the other.
pub struct Codec {
    tokenizer: Tokenizer,
    stop: Vec<u32>,
    newline: Vec<bool>,
    positions: usize,
}

impl Codec {
    /// The codec of a model; an error if it has no tokenizer or no end token.
    pub fn of(model: &Model) -> Result<Self> {
        let tokenizer = model.tokenizer().cloned().ok_or_else(|| {
            TrainError::Config(
                "the model folder has no tokenizer.json: training needs one, copy it there".into(),
            )
        })?;
        let stop = model.stop_ids();
        if stop.is_empty() {
            return Err(TrainError::Config(
                "the model names no end token: set eos_token_id in its config.json".into(),
            ));
        }
        let newline = (0..model.config().vocab_size as u32)
            .map(|id| tokenizer.decode(&[id], false).is_ok_and(|t| t.contains('\n')))
            .collect();
        let positions = model.config().max_position_embeddings;
        Ok(Codec { tokenizer, stop, newline, positions })
    }

    /// A prompt's tokens, with what the tokenizer's template adds in front.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.tokenizer.encode(text, true).map_err(model)?;
        if ids.is_empty() {
            return Err(TrainError::Config(format!(
                "the prompt {text:?} has no tokens: give it some text, or a data.template"
            )));
        }
        Ok(ids)
    }

    /// A completion's tokens, with the end token if asked for.
    pub fn completion(&self, text: &str, end: bool) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode(text, false).map_err(model)?;
        if end {
            ids.extend(self.stop.first());
        }
        Ok(ids)
    }

    /// The longest sequence of the model.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Refuses problems whose prompts leave the model no room to answer.
    pub fn check_room(&self, problems: &[Problem], file: &Path) -> Result<()> {
        for problem in problems {
            let fault = |what: String| match problem.line {
                Some(line) => TrainError::Data { file: file.to_path_buf(), line, what },
                None => TrainError::Config(what),
            };
            let tokens = self.prompt(&problem.prompt).map_err(|e| fault(e.to_string()))?.len();
            if tokens >= self.positions {
                return Err(fault(format!(
                    "the prompt has {tokens} tokens, which leaves no room in the model's {} positions: \
                     shorten it, or take a model with more (max_position_embeddings)",
                    self.positions
                )));
            }
        }
        Ok(())
    }

    /// Characters of the prompts that the model cannot see, in one sentence: spaces aside, which many
    /// tokenizers fold into words.
    pub fn unknown(&self, problems: &[Problem], file: &Path) -> Result<Option<String>> {
        let mut known: HashMap<char, bool> = HashMap::new();
        let mut lost: Vec<char> = Vec::new();
        let (mut prompts, mut first) = (0, None);
        for problem in problems {
            let mut whole = true;
            for c in problem.prompt.chars().filter(|c| !c.is_whitespace()) {
                let known = match known.entry(c) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(place) => {
                        let known = *place.insert(self.tokenizer.knows(c).map_err(model)?);
                        if !known {
                            lost.push(c);
                        }
                        known
                    }
                };
                whole &= known;
            }
            if !whole {
                prompts += 1;
                first = first.or(problem.line);
            }
        }
        if lost.is_empty() {
            return Ok(None);
        }
        let shown: Vec<String> = lost.iter().take(5).map(|c| format!("{c:?}")).collect();
        let more = if lost.len() > 5 { ", …" } else { "" };
        let place = match first {
            Some(line) => format!(" (first at {}:{line})", file.display()),
            None => String::new(),
        };
        Ok(Some(format!(
            "{prompts} of {} prompts have characters that the model's tokenizer does not know{place}, which the \
             model will not see: {}{more}",
            problems.len(),
            shown.join(", ")
        )))
    }

    /// Tokens that end a completion.
    pub fn stop(&self) -> &[u32] {
        &self.stop
    }

    /// The text of tokens, special ones left out.
    pub fn text(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(model)
    }

    /// Sizes of the turns: by lines, each with its line end and the last with the end token, or all
    /// in one.
    pub fn turns(&self, ids: &[u32], lines: bool) -> Vec<usize> {
        if !lines {
            return vec![ids.len()];
        }
        let is_newline = |id: &u32| self.newline.get(*id as usize).copied().unwrap_or(false);
        ids.split_inclusive(is_newline).map(<[u32]>::len).collect()
    }

    /// The text of each turn.
    pub fn turn_texts(&self, ids: &[u32], turns: &[usize]) -> Result<Vec<String>> {
        let mut start = 0;
        let mut texts = Vec::with_capacity(turns.len());
        for size in turns {
            texts.push(self.text(&ids[start..start + size])?);
            start += size;
        }
        Ok(texts)
    }
}

/// Attaches nothing: the model's messages name their cause.
pub(crate) fn model(e: rlc_model::ModelError) -> TrainError {
    TrainError::Model(e.to_string())
}

/// Draws `counts[i]` completions of problem i, problem by problem.
pub fn draw(
    model_: &Model,
    codec: &Codec,
    problems: &[Problem],
    counts: &[usize],
    settings: &RolloutConfig,
    seed: u64,
) -> Result<Vec<(Vec<u32>, Completion)>> {
    let prompts = problems.iter().map(|p| codec.prompt(&p.prompt)).collect::<Result<Vec<_>>>()?;
    let options = SampleOptions {
        temperature: settings.temperature,
        top_p: settings.top_p,
        top_k: settings.top_k,
        stop: codec.stop.clone(),
        max_new_tokens: settings.max_new_tokens,
        seed,
        ..SampleOptions::default()
    };
    let drawn = rlc_model::generate_each(model_, &prompts, counts, &options).map_err(model)?;
    let prompts = prompts.iter().zip(counts).flat_map(|(p, n)| std::iter::repeat_n(p, *n));
    Ok(prompts.cloned().zip(drawn).collect())
}

/// Judges one completion.
pub fn judge(
    codec: &Codec,
    scorer: &mut Scorer,
    problem: &Problem,
    ids: &[u32],
    turns: &[usize],
    truncated: bool,
) -> Result<Score> {
    let judged = Judged {
        problem,
        text: codec.text(ids)?,
        turns: codec.turn_texts(ids, turns)?,
        tokens: ids.len(),
        truncated,
    };
    scorer.score(&judged)
}

/// A batch of groups of completions with their scores, `counts[i]` completions of problem i.
#[allow(clippy::too_many_arguments)] // what a batch is made of
pub fn sample_batch(
    model_: &Model,
    codec: &Codec,
    scorer: &mut Scorer,
    problems: &[Problem],
    counts: &[usize],
    settings: &RolloutConfig,
    line_turns: bool,
    seed: u64,
) -> Result<Batch> {
    let drawn = draw(model_, codec, problems, counts, settings, seed)?;
    let mut batch = Batch {
        groups: counts.to_vec(),
        prompts: problems.iter().map(|p| p.id).collect(),
        rollouts: Vec::with_capacity(drawn.len()),
    };
    let owners = problems.iter().zip(counts).flat_map(|(p, n)| std::iter::repeat_n(p, *n));
    for (problem, (prompt, completion)) in owners.zip(drawn) {
        let turns = codec.turns(&completion.ids, line_turns);
        let score = judge(codec, scorer, problem, &completion.ids, &turns, completion.truncated)?;
        batch.rollouts.push(Rollout {
            prompt,
            tokens: completion.ids,
            sampler_logp: completion.sampled_logp,
            truncated: completion.truncated,
            turns,
            score,
            ..Rollout::default()
        });
    }
    Ok(batch)
}
