//! Sampling with candle's ops, for devices other than the CPU.
//!
//! Rollouts of a batch go in step: prompts are shifted so that all end in the same column, each prompt is computed once,
//! and every step appends one column of keys and values. A rollout draws from the same random stream as on the CPU, so
//! that completions differ where rounding decides and nowhere else.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;

use super::choose::Weights as Room;
use super::{Completion, SampleOptions, stream};
use crate::config::Config;
use crate::error::Result;
use crate::model::{EMBEDDING, Model, NORM, head_name, name_of};
use crate::ops::plain::attention::{Heads, Places, Turn, read};
use crate::ops::{HeadShape, Rope, plain};

mod draw;

/// A completion in the making.
struct Rollout {
    /// Its place in the result.
    index: usize,
    prompt: usize,
    /// New tokens that fit.
    room: usize,
    rng: ChaCha8Rng,
    completion: Completion,
}

/// Frozen weights in the type that is computed in.
struct Decoder<'a> {
    model: &'a Model,
    config: &'a Config,
    shape: HeadShape,
    weights: BTreeMap<String, Tensor>,
    rope: Rope,
}

/// Keys and values of rollouts that go in step.
struct Cache {
    /// Keys and values of each layer, `[rollouts, kv_heads, columns, dim]` each.
    layers: Vec<[Tensor; 2]>,
    /// Minus infinity in the columns before a prompt: `[rollouts, 1, 1, columns]`, f32.
    mask: Tensor,
    /// Columns in use.
    used: usize,
}

pub(super) fn generate(
    model: &Model,
    dtype: DType,
    prompts: &[Vec<u32>],
    counts: &[usize],
    options: &SampleOptions,
) -> Result<Vec<Completion>> {
    let config = model.config();
    let limit = config.max_position_embeddings;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let weights = model.vars().into_iter().map(|(name, var)| {
        let weight = var.as_detached_tensor().to_dtype(dtype)?;
        Ok((name, weight))
    });
    let decoder = Decoder {
        model,
        config,
        shape: HeadShape::of(config),
        weights: weights.collect::<candle_core::Result<_>>()?,
        rope: Rope::new(config, longest.saturating_add(options.max_new_tokens).min(limit)),
    };
    let mut rollouts: Vec<Rollout> = Vec::new();
    for (prompt, count) in counts.iter().enumerate() {
        let room = (limit - prompts[prompt].len()).min(options.max_new_tokens);
        let first = rollouts.len();
        rollouts.extend((0..*count).map(|n| Rollout {
            index: first + n,
            prompt,
            room,
            rng: stream(options, prompt, n),
            completion: Completion::default(),
        }));
    }
    let mut done = vec![Completion::default(); rollouts.len()];
    while !rollouts.is_empty() {
        let rest = rollouts.split_off(options.max_batch.min(rollouts.len()));
        decoder.run(prompts, rollouts, options, &mut done)?;
        rollouts = rest;
    }
    Ok(done)
}

impl Decoder<'_> {
    fn device(&self) -> &Device {
        self.model.device()
    }

    /// Takes rollouts, of neighbouring prompts, to their ends.
    fn run(
        &self,
        prompts: &[Vec<u32>],
        rollouts: Vec<Rollout>,
        options: &SampleOptions,
        done: &mut [Completion],
    ) -> Result<()> {
        let mut room = Room::default();
        let (mut cache, mut logits) = self.prefill(prompts, &rollouts)?;
        // Rollouts in rows of the cache; those that are done stay until it is worth packing the rest.
        let mut rows: Vec<Option<Rollout>> = rollouts.into_iter().map(Some).collect();
        loop {
            let streams = rows.iter_mut().map(|r| r.as_mut().map(|r| &mut r.rng)).collect();
            let choices = draw::draw(&logits, streams, options, &mut room)?;
            for (row, choice) in rows.iter_mut().zip(choices) {
                let (Some(rollout), Some(choice)) = (row.as_mut(), choice) else { continue };
                if !rollout.completion.push(choice, options, rollout.room) {
                    done[rollout.index] = std::mem::take(&mut rollout.completion);
                    *row = None;
                }
            }
            let going = rows.iter().flatten().count();
            if going == 0 {
                return Ok(());
            }
            if going * 2 <= rows.len() {
                let kept: Vec<u32> =
                    (0u32..).zip(&rows).filter(|(_, r)| r.is_some()).map(|(n, _)| n).collect();
                cache.keep(&Tensor::new(kept, self.device())?)?;
                rows.retain(Option::is_some);
            }
            logits = self.step(prompts, &rows, &mut cache)?;
        }
    }

    fn layer(
        &self,
        x: &Tensor,
        layer: usize,
        attend: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor> {
        let weight = |part: &str| Ok(self.weights[&name_of(layer, part)].clone());
        Ok(plain::block(x, self.config, weight, attend)?)
    }

    /// Logits `[rows, vocab]` in f32 after the last layer.
    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let x = plain::rms_norm(x, &self.weights[NORM], self.config.rms_norm_eps)?;
        let logits = plain::linear(&x, &self.weights[head_name(self.config)], None)?;
        Ok(logits.to_dtype(DType::F32)?)
    }

    /// Computes each prompt once; gives the cache of all rollouts and the logits of their first tokens.
    fn prefill(&self, prompts: &[Vec<u32>], rollouts: &[Rollout]) -> Result<(Cache, Tensor)> {
        let device = self.device();
        let mut used: Vec<usize> = rollouts.iter().map(|r| r.prompt).collect();
        used.dedup();
        let lengths: Vec<usize> = used.iter().map(|p| prompts[*p].len()).collect();
        let width = lengths.iter().copied().max().unwrap_or(0);
        let room = rollouts.iter().map(|r| r.room).max().unwrap_or(0);
        let columns = width + room;
        let starts: Vec<usize> = lengths
            .iter()
            .scan(0, |next, length| Some(std::mem::replace(next, *next + length)))
            .collect();
        // The packed row of each column of each rollout; before a prompt, any row: it is masked.
        let (mut gather, mut mask, mut last) = (Vec::new(), Vec::new(), Vec::new());
        for rollout in rollouts {
            let at = used.binary_search(&rollout.prompt).unwrap_or(0);
            let empty = width - lengths[at];
            gather.extend((0..width).map(|c| (starts[at] + c.saturating_sub(empty)) as u32));
            mask.extend((0..columns).map(|c| if c < empty { f32::NEG_INFINITY } else { 0.0 }));
            last.push((starts[at] + lengths[at] - 1) as u32);
        }
        let gather = Tensor::new(gather, device)?;
        let n = rollouts.len();
        let shape = self.shape;
        let ids: Vec<u32> = used.iter().flat_map(|p| &prompts[*p]).copied().collect();
        let mut x = self.weights[EMBEDDING].index_select(&Tensor::new(ids, device)?, 0)?;
        let places = Places::new(&self.rope, &lengths, device)?;
        let mut layers = Vec::with_capacity(self.config.num_hidden_layers);
        for layer in 0..self.config.num_hidden_layers {
            let mut heads = None;
            x = self.layer(&x, layer, |qkv| {
                let (out, found) = places.attend(qkv, shape)?;
                heads = Some(found);
                Ok(out)
            })?;
            let Some(Heads { k, v, .. }) = heads else { continue };
            let cached = |x: Tensor| -> Result<Tensor> {
                let x = x.index_select(&gather, 0)?;
                let x = x.reshape((n, width, shape.kv_heads, shape.dim))?.transpose(1, 2)?;
                let all = (n, shape.kv_heads, columns, shape.dim);
                let cache = Tensor::zeros(all, x.dtype(), device)?;
                cache.slice_set(&x.contiguous()?, 2, 0)?;
                Ok(cache)
            };
            layers.push([cached(k)?, cached(v)?]);
        }
        let mask = Tensor::from_vec(mask, (n, 1, 1, columns), device)?;
        let logits = self.logits(&x.index_select(&Tensor::new(last, device)?, 0)?)?;
        Ok((Cache { layers, mask, used: width }, logits))
    }

    /// Logits after the newest token of every rollout. A row without one computes something that nobody reads.
    fn step(
        &self,
        prompts: &[Vec<u32>],
        rows: &[Option<Rollout>],
        cache: &mut Cache,
    ) -> Result<Tensor> {
        let (n, shape, device) = (rows.len(), self.shape, self.device());
        let newest = |r: &Rollout| {
            let position = prompts[r.prompt].len() + r.completion.ids.len() - 1;
            (r.completion.ids.last().copied().unwrap_or(0), position)
        };
        let (ids, positions): (Vec<u32>, Vec<usize>) =
            rows.iter().map(|r| r.as_ref().map_or((0, 0), newest)).unzip();
        let turn = Turn::new(&self.rope, &positions, device)?;
        let mut x = self.weights[EMBEDDING].index_select(&Tensor::new(ids, device)?, 0)?;
        let column = cache.used;
        cache.used += 1;
        let mask = cache.mask.narrow(3, 0, cache.used)?;
        for (layer, [keys, values]) in cache.layers.iter().enumerate() {
            x = self.layer(&x, layer, |qkv| {
                let Heads { q, k, v } = Heads::of(qkv, shape, &turn)?;
                keys.slice_set(&k.unsqueeze(2)?, 2, column)?;
                values.slice_set(&v.unsqueeze(2)?, 2, column)?;
                let q = q.reshape((n, shape.kv_heads, shape.group(), shape.dim))?;
                let (keys, values) =
                    (keys.narrow(2, 0, cache.used)?, values.narrow(2, 0, cache.used)?);
                read(&q, &keys, &values, shape, |scores| scores.broadcast_add(&mask))?
                    .reshape((n, shape.out()))
            })?;
        }
        self.logits(&x)
    }
}

impl Cache {
    /// Keeps the named rows.
    fn keep(&mut self, rows: &Tensor) -> Result<()> {
        for cached in self.layers.iter_mut().flatten() {
            *cached = cached.index_select(rows, 0)?;
        }
        self.mask = self.mask.index_select(rows, 0)?;
        Ok(())
    }
}
