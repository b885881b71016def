//! Causal attention over packed sequences: no padding, no mask, no array of all scores.
//!
//! A row holds the query heads, then the key heads, then the value heads of one token. Sequences are independent, so they
//! are what threads share; inside one, a head's scores exist for one query row (forward) or a tile of rows (backward) at
//! a time and the softmax is computed again in the backward pass. Query heads share key heads in groups.
#![allow(
    clippy::inline_always,
    reason = "kernels must be inlined into their dispatch, see simd.rs"
)]

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{Packing, Rope, each, slice, with_slice};
use crate::config::Config;
use crate::simd::{Kernel, combine, dot, exp_sum, max, run, transpose};

/// How the heads lie in a qkv row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
}

impl HeadShape {
    pub fn of(config: &Config) -> Self {
        Self {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            dim: config.head_dim,
        }
    }

    /// Values in a qkv row.
    pub fn width(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.dim
    }

    /// Values in an output row.
    pub fn out(self) -> usize {
        self.heads * self.dim
    }

    /// Query heads for each key head.
    pub fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// Where query head `h` starts in a row.
    pub fn query(self, h: usize) -> usize {
        h * self.dim
    }

    /// Where key head `g` starts in a row.
    pub fn key(self, g: usize) -> usize {
        (self.heads + g) * self.dim
    }

    /// Where value head `g` starts in a row.
    pub fn value(self, g: usize) -> usize {
        (self.heads + self.kv_heads + g) * self.dim
    }

    /// The factor on the scores.
    pub fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

/// qkv `[n, width]` before rotation to `[n, heads * dim]`.
pub(crate) struct PackedAttention {
    pub shape: HeadShape,
    pub packing: Packing,
}

/// Rotates the query and key heads of all rows, positions restarting with each sequence.
pub(crate) fn rotate(
    qkv: &mut [f32],
    shape: HeadShape,
    lengths: &[usize],
    rope: &Rope,
    back: bool,
) {
    let tasks = split_mut(qkv, lengths, shape.width());
    each(tasks, |rows| {
        for (position, row) in rows.chunks_exact_mut(shape.width()).enumerate() {
            rope.rotate(row, shape, position, back);
        }
    });
}

/// Attention of rotated rows into `out`.
pub(crate) fn forward(qkv: &[f32], out: &mut [f32], shape: HeadShape, lengths: &[usize]) {
    let inputs = split(qkv, lengths, shape.width());
    let tasks: Vec<_> = inputs.into_iter().zip(split_mut(out, lengths, shape.out())).collect();
    each(tasks, |(qkv, out)| run(Forward { qkv, out, shape }));
}

fn split<'a>(mut data: &'a [f32], lengths: &[usize], width: usize) -> Vec<&'a [f32]> {
    let mut parts = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (head, tail) = data.split_at(length * width);
        parts.push(head);
        data = tail;
    }
    parts
}

fn split_mut<'a>(mut data: &'a mut [f32], lengths: &[usize], width: usize) -> Vec<&'a mut [f32]> {
    let mut parts = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (head, tail) = data.split_at_mut(length * width);
        parts.push(head);
        data = tail;
    }
    parts
}

/// Probabilities of query `q` (already scaled) over the first `scores.len()` keys, given turned keys.
#[inline(always)]
fn softmax_row<const FMA: bool>(scores: &mut [f32], q: &[f32], keys: &[f32], length: usize) {
    scores.fill(0.0);
    combine::<FMA>(scores, q, keys, length);
    let sum = exp_sum::<FMA>(scores, max(scores), 1.0);
    let inverse = 1.0 / sum;
    for s in scores {
        *s *= inverse;
    }
}

struct Forward<'a> {
    qkv: &'a [f32],
    out: &'a mut [f32],
    shape: HeadShape,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (shape, dim) = (self.shape, self.shape.dim);
        let (width, out_width) = (shape.width(), shape.out());
        let length = self.qkv.len() / width;
        let mut keys = vec![0f32; dim * length];
        let mut scores = vec![0f32; length];
        let mut q = vec![0f32; dim];
        for g in 0..shape.kv_heads {
            transpose(&mut keys, &self.qkv[shape.key(g)..], length, dim, width);
            let values = &self.qkv[shape.value(g)..];
            for h in g * shape.group()..(g + 1) * shape.group() {
                for i in 0..length {
                    let row = &self.qkv[i * width + shape.query(h)..][..dim];
                    for (q, v) in q.iter_mut().zip(row) {
                        *q = v * shape.scale();
                    }
                    softmax_row::<FMA>(&mut scores[..=i], &q, &keys, length);
                    let out = &mut self.out[i * out_width + h * dim..][..dim];
                    out.fill(0.0);
                    combine::<FMA>(out, &scores[..=i], values, width);
                }
            }
        }
    }
}

/// Query rows whose scores are held at once in the backward pass.
const TILE: usize = 32;

struct Backward<'a> {
    qkv: &'a [f32],
    dout: &'a [f32],
    dqkv: &'a mut [f32],
    shape: HeadShape,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (shape, dim) = (self.shape, self.shape.dim);
        let (width, out_width, scale) = (shape.width(), shape.out(), shape.scale());
        let length = self.qkv.len() / width;
        let block = || vec![0f32; dim * length];
        // Turned (`[dim, length]`): keys, values, one head's queries and output gradients, key and value gradients.
        let (mut keys, mut values, mut queries, mut douts) = (block(), block(), block(), block());
        let (mut dkeys, mut dvalues) = (block(), block());
        let (mut probs, mut dscores) = (vec![0f32; TILE * length], vec![0f32; TILE * length]);
        let mut q = vec![0f32; dim];
        for g in 0..shape.kv_heads {
            transpose(&mut keys, &self.qkv[shape.key(g)..], length, dim, width);
            transpose(&mut values, &self.qkv[shape.value(g)..], length, dim, width);
            dkeys.fill(0.0);
            dvalues.fill(0.0);
            for h in g * shape.group()..(g + 1) * shape.group() {
                transpose(&mut queries, &self.qkv[shape.query(h)..], length, dim, width);
                transpose(&mut douts, &self.dout[h * dim..], length, dim, out_width);
                let mut start = 0;
                while start < length {
                    let end = (start + TILE).min(length);
                    // Keys that any row of the tile sees; entries right of the diagonal stay zero.
                    probs[..(end - start) * end].fill(0.0);
                    dscores[..(end - start) * end].fill(0.0);
                    for i in start..end {
                        let p = &mut probs[(i - start) * end..][..=i];
                        let ds = &mut dscores[(i - start) * end..][..=i];
                        let row = &self.qkv[i * width + shape.query(h)..][..dim];
                        for (q, v) in q.iter_mut().zip(row) {
                            *q = v * scale;
                        }
                        softmax_row::<FMA>(p, &q, &keys, length);
                        let dout = &self.dout[i * out_width + h * dim..][..dim];
                        combine::<FMA>(ds, dout, &values, length);
                        let mean = dot::<FMA>(p, ds);
                        for (ds, p) in ds.iter_mut().zip(p.iter()) {
                            *ds = p * (*ds - mean) * scale;
                        }
                        let dq = &mut self.dqkv[i * width + shape.query(h)..][..dim];
                        dq.fill(0.0);
                        combine::<FMA>(dq, ds, &self.qkv[shape.key(g)..], width);
                    }
                    for d in 0..dim {
                        let tile = d * length + start..d * length + end;
                        let dk = &mut dkeys[d * length..][..end];
                        combine::<FMA>(dk, &queries[tile.clone()], &dscores, end);
                        let dv = &mut dvalues[d * length..][..end];
                        combine::<FMA>(dv, &douts[tile], &probs, end);
                    }
                    start = end;
                }
            }
            for i in 0..length {
                let row = &mut self.dqkv[i * width..][..width];
                for d in 0..dim {
                    row[shape.key(g) + d] = dkeys[d * length + i];
                    row[shape.value(g) + d] = dvalues[d * length + i];
                }
            }
        }
    }
}

impl PackedAttention {
    fn rotated(&self, qkv: &[f32]) -> Vec<f32> {
        let mut qkv = qkv.to_vec();
        rotate(&mut qkv, self.shape, &self.packing.lengths, &self.packing.rope, false);
        qkv
    }
}

impl CustomOp1 for PackedAttention {
    fn name(&self) -> &'static str {
        "packed-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, width) = layout.shape().dims2()?;
        if width != self.shape.width() || n != self.packing.lengths.iter().sum::<usize>() {
            candle_core::bail!("packed-attention: rows {:?} for {:?}", layout.shape(), self.shape);
        }
        let qkv = self.rotated(slice(qkv, layout)?);
        let mut out = vec![0f32; n * self.shape.out()];
        forward(&qkv, &mut out, self.shape, &self.packing.lengths);
        Ok((CpuStorage::F32(out), (n, self.shape.out()).into()))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (shape, lengths) = (self.shape, &self.packing.lengths);
        let mut dqkv = vec![0f32; qkv.elem_count()];
        let rows = with_slice(qkv, |qkv| Ok(self.rotated(qkv)))?;
        with_slice(grad, |dout| {
            let tasks: Vec<_> = split(&rows, lengths, shape.width())
                .into_iter()
                .zip(split(dout, lengths, shape.out()))
                .zip(split_mut(&mut dqkv, lengths, shape.width()))
                .collect();
            each(tasks, |((qkv, dout), dqkv)| run(Backward { qkv, dout, dqkv, shape }));
            Ok(())
        })?;
        rotate(&mut dqkv, shape, lengths, &self.packing.rope, true);
        Tensor::from_vec(dqkv, qkv.shape(), qkv.device()).map(Some)
    }
}
