//! Batched sampling: prompts in, completions with log-probs out, the same for the same seed.
//!
//! Each completion draws from its own random stream, made from the seed, its prompt's index and its rollout's index, and
//! no arithmetic mixes rows, so a completion does not depend on what else is in the batch. Finished rollouts leave at once
//! and waiting ones take their places. Log-probs are recorded as sampled: from the very logits that were drawn from.
//! What follows is for the CPU; [`tensors`] does the same with candle's ops, on any device.

use std::collections::VecDeque;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::decode::{Decoder, Scratch};
use crate::error::{ModelError, Result};
use crate::kv::{Attend, KvCache, together};
use crate::model::{How, Model};
use crate::ops::{attention, map_each};

mod choose;
mod tensors;

use choose::{Choice, Weights, choose};

/// How to sample.
#[derive(Clone, Debug)]
pub struct SampleOptions {
    /// Logits are divided by it. 0 takes the most likely token.
    pub temperature: f64,
    /// Keep the most likely tokens up to this total probability (after `top_k`); 1 keeps all.
    pub top_p: f64,
    /// Keep this many most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Tokens that end a completion (they are part of it).
    pub stop: Vec<u32>,
    /// Longest completion. Also bounded by the model's `max_position_embeddings`.
    pub max_new_tokens: usize,
    /// Randomness; equal seeds give equal completions on one machine and build.
    pub seed: u64,
    /// Added to the prompts' indices in their random streams, so that a list sampled in parts equals the whole.
    pub first_prompt: u64,
    /// Most rollouts decoded at once; the rest wait. Does not change any completion.
    pub max_batch: usize,
}

impl Default for SampleOptions {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            stop: Vec::new(),
            max_new_tokens: 128,
            seed: 0,
            first_prompt: 0,
            max_batch: 512,
        }
    }
}

/// One sampled continuation of a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The new tokens, including the stop token if one was drawn.
    pub ids: Vec<u32>,
    /// For each token, its log-prob under the whole distribution at the temperature, before `top_k` and `top_p`. At
    /// temperature 0 the distribution at temperature 1 is meant.
    pub logp: Vec<f32>,
    /// For each token, its log-prob under the distribution it was drawn from: after `top_k` and `top_p`, 0 if greedy.
    pub sampled_logp: Vec<f32>,
    /// The length limit ended it, not a stop token.
    pub truncated: bool,
}

/// Samples `per_prompt` completions of each prompt, in prompt-major order.
pub fn generate(
    model: &Model,
    prompts: &[Vec<u32>],
    per_prompt: usize,
    options: &SampleOptions,
) -> Result<Vec<Completion>> {
    generate_each(model, prompts, &vec![per_prompt; prompts.len()], options)
}

/// Samples `counts[i]` completions of prompt i, in prompt-major order. A prompt's first completions are those that
/// [`generate`] draws.
pub fn generate_each(
    model: &Model,
    prompts: &[Vec<u32>],
    counts: &[usize],
    options: &SampleOptions,
) -> Result<Vec<Completion>> {
    check(model, prompts, counts, options)?;
    if let How::Candle(dtype) = model.how() {
        return tensors::generate(model, dtype, prompts, counts, options);
    }
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let limit = model.config().max_position_embeddings;
    let decoder = Decoder::new(model, longest.saturating_add(options.max_new_tokens).min(limit))?;
    let mut batch = Batch {
        decoder: &decoder,
        options,
        counts,
        scratches: Vec::new(),
        weights: Weights::default(),
        spare: Vec::new(),
        done: vec![Completion::default(); counts.iter().sum()],
    };
    let places = options.max_batch.min(batch.places());
    let mut waiting: VecDeque<(usize, usize)> = counts
        .iter()
        .scan(0, |next, count| Some(std::mem::replace(next, *next + count)))
        .enumerate()
        .collect();
    let mut ready: VecDeque<Rollout> = VecDeque::new();
    let mut active: Vec<Rollout> = Vec::new();
    loop {
        while active.len() < places {
            if let Some(rollout) = ready.pop_front() {
                active.extend(batch.begin(rollout)?);
            } else if waiting.is_empty() {
                break;
            } else {
                ready = batch.prefill(prompts, &mut waiting, places - active.len())?;
            }
        }
        if active.is_empty() {
            return Ok(batch.done);
        }
        active = batch.step(active)?;
    }
}

fn check(
    model: &Model,
    prompts: &[Vec<u32>],
    counts: &[usize],
    options: &SampleOptions,
) -> Result<()> {
    if counts.len() != prompts.len() {
        return Err(ModelError::argument(
            "counts",
            format!("{} for {} prompts; one is for each", counts.len(), prompts.len()),
        ));
    }
    let limit = model.config().max_position_embeddings;
    for (index, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() {
            return Err(ModelError::argument(
                "prompts",
                format!("prompt {index} is empty; give it at least a start token"),
            ));
        }
        if prompt.len() >= limit {
            return Err(ModelError::argument(
                "prompts",
                format!(
                    "prompt {index} has {} tokens, which leaves no room in the model's {limit} positions (max_position_embeddings)",
                    prompt.len()
                ),
            ));
        }
        model.check_ids("prompts", prompt)?;
    }
    model.check_ids("stop", &options.stop)?;
    let bad = |argument, value: String, range: &str| {
        Err(ModelError::argument(argument, format!("{value}; allowed: {range}")))
    };
    if !(options.temperature >= 0.0 && options.temperature.is_finite()) {
        return bad("temperature", options.temperature.to_string(), "0 (greedy) and above");
    }
    if !(options.top_p > 0.0 && options.top_p <= 1.0) {
        return bad("top_p", options.top_p.to_string(), "above 0, up to 1 (keep all)");
    }
    for (argument, value) in [
        ("max_new_tokens", options.max_new_tokens),
        ("max_batch", options.max_batch),
        ("per_prompt", counts.iter().copied().min().unwrap_or(1)),
    ] {
        if value == 0 {
            return bad(argument, "0".to_owned(), "1 and above");
        }
    }
    Ok(())
}

/// What the rollouts of one prompt share.
struct Prefix {
    cache: KvCache,
    /// Next-token logits after the prompt.
    logits: Vec<f32>,
    /// New tokens that fit.
    room: usize,
}

/// A completion in the making.
struct Rollout {
    /// Its place in the result.
    index: usize,
    prefix: Arc<Prefix>,
    /// Without room until the first token is drawn and the rollout goes on.
    cache: KvCache,
    rng: ChaCha8Rng,
    completion: Completion,
}

impl Rollout {
    /// Appends a drawn token; true if the completion goes on.
    fn push(&mut self, choice: Choice, options: &SampleOptions) -> bool {
        self.completion.push(choice, options, self.prefix.room)
    }
}

impl Completion {
    /// Appends a drawn token of at most `room`; true if the completion goes on.
    fn push(&mut self, choice: Choice, options: &SampleOptions, room: usize) -> bool {
        self.ids.push(choice.token);
        self.logp.push(choice.logp);
        self.sampled_logp.push(choice.sampled_logp);
        let stopped = options.stop.contains(&choice.token);
        self.truncated = !stopped && self.ids.len() >= room;
        !stopped && !self.truncated
    }
}

struct Batch<'a> {
    decoder: &'a Decoder,
    options: &'a SampleOptions,
    /// Completions of each prompt.
    counts: &'a [usize],
    /// One for each thread.
    scratches: Vec<(Scratch, Weights)>,
    weights: Weights,
    /// Caches of finished rollouts, for the next ones.
    spare: Vec<KvCache>,
    done: Vec<Completion>,
}

/// Prompt tokens computed in one pass.
const PREFILL_TOKENS: usize = 4096;
/// Rollouts that are worth a thread.
const LEAST: usize = 4;
/// Bytes that stay in a last cache between two steps.
const CACHE: usize = 16 << 20;
/// Logits that a thread holds at once.
const LOGITS: usize = 1 << 22;

impl Batch<'_> {
    /// Rollouts to decode at once: every step reads all of their keys and values again, so no more than stay in cache
    /// beside the weights, where these leave room for a batch that is worth reading them for.
    fn places(&self) -> usize {
        const WORTH: usize = 32;
        let config = &self.decoder.config;
        let shape = self.decoder.shape;
        let tokens = self.options.max_new_tokens.min(config.max_position_embeddings);
        let own =
            tokens * config.num_hidden_layers * 2 * shape.kv_heads * shape.dim * size_of::<f32>();
        let weights = config.parameters() * size_of::<f32>();
        let fit = CACHE.saturating_sub(weights) / own.max(1);
        if fit >= WORTH { fit } else { usize::MAX }
    }

    /// Computes the next waiting prompts (each with the place of its first completion), enough for `wanted` rollouts if they fit in one pass.
    fn prefill(
        &mut self,
        prompts: &[Vec<u32>],
        waiting: &mut VecDeque<(usize, usize)>,
        wanted: usize,
    ) -> Result<VecDeque<Rollout>> {
        let (mut ids, mut lengths, mut chosen) = (Vec::new(), Vec::new(), Vec::new());
        let mut rollouts = 0;
        while let Some(&(next, first)) = waiting.front() {
            let full = ids.len() + prompts[next].len() > PREFILL_TOKENS;
            if !chosen.is_empty() && (full || rollouts >= wanted) {
                break;
            }
            waiting.pop_front();
            ids.extend_from_slice(&prompts[next]);
            lengths.push(prompts[next].len());
            chosen.push((next, first));
            rollouts += self.counts[next];
        }
        let (decoder, shape) = (self.decoder, self.decoder.shape);
        let layers = decoder.config.num_hidden_layers;
        let mut caches: Vec<KvCache> =
            lengths.iter().map(|l| KvCache::new(layers, shape, *l)).collect();
        let mut scratch = Scratch::default();
        decoder.layers(&ids, &mut scratch, true, |layer, qkv, mixed, _| {
            attention::rotate(qkv, shape, &lengths, &decoder.rope, false);
            attention::forward(qkv, mixed, shape, &lengths);
            let mut rows = &*qkv;
            for (cache, length) in caches.iter_mut().zip(&lengths) {
                let (mine, rest) = rows.split_at(length * shape.width());
                cache.store(layer, mine);
                rows = rest;
            }
        })?;
        let last: Vec<usize> = lengths
            .iter()
            .scan(0, |end, n| Some(std::mem::replace(end, *end + n) + n - 1))
            .collect();
        let vocab = decoder.config.vocab_size;
        let mut logits = Vec::with_capacity(last.len() * vocab);
        for rows in last.chunks((LOGITS / vocab).max(1)) {
            decoder.logits(rows, &mut scratch, true);
            logits.extend_from_slice(&scratch.logits[..rows.len() * vocab]);
        }
        let mut ready = VecDeque::new();
        let prefixes = caches.into_iter().zip(&lengths).zip(logits.chunks_exact(vocab));
        for (((mut cache, length), logits), (prompt, first)) in prefixes.zip(chosen) {
            cache.advance(*length);
            let logits = logits.to_vec();
            let room = decoder.config.max_position_embeddings - length;
            let room = room.min(self.options.max_new_tokens);
            let prefix = Arc::new(Prefix { cache, logits, room });
            for rollout in 0..self.counts[prompt] {
                ready.push_back(Rollout {
                    index: first + rollout,
                    prefix: Arc::clone(&prefix),
                    cache: KvCache::new(0, shape, 0),
                    rng: stream(self.options, prompt, rollout),
                    completion: Completion::default(),
                });
            }
        }
        Ok(ready)
    }

    /// Draws a rollout's first token from its prompt's logits; nothing if that already ends it.
    fn begin(&mut self, mut rollout: Rollout) -> Result<Option<Rollout>> {
        let choice =
            choose(&rollout.prefix.logits, self.options, &mut rollout.rng, &mut self.weights)?;
        if rollout.push(choice, self.options) {
            let config = &self.decoder.config;
            rollout.cache = self.spare.pop().unwrap_or_else(|| {
                let room = self.options.max_new_tokens.min(config.max_position_embeddings);
                KvCache::new(config.num_hidden_layers, self.decoder.shape, room)
            });
            return Ok(Some(rollout));
        }
        self.finish(rollout);
        Ok(None)
    }

    fn finish(&mut self, mut rollout: Rollout) {
        self.done[rollout.index] = std::mem::take(&mut rollout.completion);
        if rollout.cache.len() > 0 {
            rollout.cache.clear();
            self.spare.push(rollout.cache);
        }
    }

    /// One more token for every active rollout; returns those that go on.
    ///
    /// Each thread takes some rollouts through the whole model: what it computes for one does not depend on the others.
    fn step(&mut self, mut active: Vec<Rollout>) -> Result<Vec<Rollout>> {
        let threads = rayon::current_num_threads();
        let size = active.len().div_ceil(threads).max(LEAST);
        self.scratches.resize_with(threads, Default::default);
        let (decoder, options) = (self.decoder, self.options);
        let tasks: Vec<_> = active.chunks_mut(size).zip(&mut self.scratches).collect();
        let results =
            map_each(tasks, |(rollouts, scratch)| advance(decoder, options, rollouts, scratch));
        let goes_on = results.into_iter().collect::<Result<Vec<_>>>()?.concat();
        let mut going = Vec::with_capacity(active.len());
        for (rollout, goes_on) in active.into_iter().zip(goes_on) {
            if goes_on {
                going.push(rollout);
            } else {
                self.finish(rollout);
            }
        }
        Ok(going)
    }
}

/// One more token for some rollouts; says of each whether it goes on.
fn advance(
    decoder: &Decoder,
    options: &SampleOptions,
    rollouts: &mut [Rollout],
    (scratch, weights): &mut (Scratch, Weights),
) -> Result<Vec<bool>> {
    let shape = decoder.shape;
    let ids: Vec<u32> =
        rollouts.iter().map(|r| r.completion.ids.last().copied().unwrap_or(0)).collect();
    decoder.layers(&ids, scratch, false, |layer, qkv, mixed, room| {
        for (rollout, row) in rollouts.iter_mut().zip(qkv.chunks_exact_mut(shape.width())) {
            let position = rollout.prefix.cache.len() + rollout.cache.len();
            decoder.rope.rotate(row, shape, position, false);
            rollout.cache.store(layer, row);
        }
        let mut start = 0;
        for same in rollouts.chunk_by(|a, b| Arc::ptr_eq(&a.prefix, &b.prefix)) {
            for part in same.chunks(together(shape)) {
                let own: Vec<&KvCache> = part.iter().map(|r| &r.cache).collect();
                Attend {
                    prefix: &part[0].prefix.cache,
                    own: &own,
                    layer,
                    rows: &qkv[start * shape.width()..][..part.len() * shape.width()],
                    out: &mut mixed[start * shape.out()..][..part.len() * shape.out()],
                    room,
                }
                .run();
                start += part.len();
            }
        }
    })?;
    let vocab = decoder.config.vocab_size;
    let rows: Vec<usize> = (0..rollouts.len()).collect();
    let size = (LOGITS / vocab).max(1);
    let mut goes_on = Vec::with_capacity(rollouts.len());
    for (rollouts, rows) in rollouts.chunks_mut(size).zip(rows.chunks(size)) {
        decoder.logits(rows, scratch, false);
        for (rollout, logits) in rollouts.iter_mut().zip(scratch.logits.chunks_exact(vocab)) {
            rollout.cache.advance(1);
            let choice = choose(logits, options, &mut rollout.rng, weights)?;
            goes_on.push(rollout.push(choice, options));
        }
    }
    Ok(goes_on)
}

/// The random stream of one completion.
fn stream(options: &SampleOptions, prompt: usize, rollout: usize) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&options.seed.to_le_bytes());
    key[8..16].copy_from_slice(&(options.first_prompt + prompt as u64).to_le_bytes());
    key[16..24].copy_from_slice(&(rollout as u64).to_le_bytes());
    key[24..].copy_from_slice(b"sampling");
    ChaCha8Rng::from_seed(key)
}
