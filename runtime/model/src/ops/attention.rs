//! Causal attention over packed sequences: no padding, no mask, no array of all scores.
//!
//! A row holds the query heads, then the key heads, then the value heads of one token. Sequences are independent, so they
//! are what threads share; inside one, a head's scores exist for one query row (forward) or a tile of rows (backward) at
//! a time and the softmax is computed again in the backward pass. Query heads share key heads in groups.
#![allow(
    clippy::inline_always,
    reason = "kernels must be inlined into their dispatch, see simd.rs"
)]

use super::{Rope, each};
use crate::config::Config;
use crate::simd::{Kernel, Left, dot, exp_sum, matmul, max, padded, run, transpose};

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

/// The gradient of [`forward`]: `dqkv` from rotated rows and the gradient of the output.
pub(crate) fn backward(
    qkv: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
    shape: HeadShape,
    lengths: &[usize],
) {
    let tasks: Vec<_> = split(qkv, lengths, shape.width())
        .into_iter()
        .zip(split(dout, lengths, shape.out()))
        .zip(split_mut(dqkv, lengths, shape.width()))
        .collect();
    each(tasks, |((qkv, dout), dqkv)| run(Backward { qkv, dout, dqkv, shape }));
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

/// Turns row `i`'s scores into probabilities: entries after `i` become 0.
#[inline(always)]
fn causal_softmax<const FMA: bool>(scores: &mut [f32], i: usize) {
    scores[i + 1..].fill(f32::NEG_INFINITY);
    let largest = max(scores);
    let sum = exp_sum::<FMA>(scores, largest, 1.0);
    scores[i + 1..].fill(0.0);
    let inverse = 1.0 / sum;
    for s in scores {
        *s *= inverse;
    }
}

/// `dst[i * dst_stride + j] = src[i * stride + j] * factor`: a block packed, its padding left alone.
#[inline(always)]
fn pack(
    dst: &mut [f32],
    dst_stride: usize,
    src: &[f32],
    (rows, columns): (usize, usize),
    stride: usize,
    factor: f32,
) {
    for i in 0..rows {
        let from = &src[i * stride..][..columns];
        for (d, s) in dst[i * dst_stride..][..columns].iter_mut().zip(from) {
            *d = s * factor;
        }
    }
}

/// Query rows whose scores are held at once.
const TILE: usize = 16;

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
        let (long, wide) = (padded(length), padded(dim));
        let mut keys = vec![0f32; dim * long]; // turned
        let mut values = vec![0f32; length * wide];
        let mut queries = vec![0f32; TILE * dim];
        let mut scores = vec![0f32; TILE * long];
        let mut mixed = vec![0f32; TILE * wide];
        for g in 0..shape.kv_heads {
            let size = (length, dim);
            transpose(&mut keys, long, &self.qkv[shape.key(g)..], size, width);
            pack(&mut values, wide, &self.qkv[shape.value(g)..], size, width, 1.0);
            for h in g * shape.group()..(g + 1) * shape.group() {
                for start in (0..length).step_by(TILE) {
                    let rows = TILE.min(length - start);
                    let seen = start + rows;
                    let n = padded(seen);
                    let from = &self.qkv[start * width + shape.query(h)..];
                    pack(&mut queries, dim, from, (rows, dim), width, shape.scale());
                    let q = Left { data: &queries, row: dim, column: 1 };
                    matmul::<FMA>(&mut scores, n, q, (rows, dim, n), &keys, long, false);
                    for (r, row) in scores.chunks_exact_mut(n).take(rows).enumerate() {
                        causal_softmax::<FMA>(row, start + r);
                    }
                    let p = Left { data: &scores, row: n, column: 1 };
                    matmul::<FMA>(&mut mixed, wide, p, (rows, seen, wide), &values, wide, false);
                    let to = &mut self.out[start * out_width + h * dim..];
                    pack(to, out_width, &mixed, (rows, dim), wide, 1.0);
                }
            }
        }
    }
}

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
        let (long, wide) = (padded(length), padded(dim));
        let turned = || vec![0f32; dim * long];
        let tall = || vec![0f32; length * wide];
        let (mut keys_turned, mut values_turned) = (turned(), turned());
        let (mut keys, mut dkeys, mut dvalues) = (tall(), tall(), tall());
        let tile = |n: usize| vec![0f32; TILE * n];
        let (mut queries, mut dout, mut dqueries) = (tile(wide), tile(wide), tile(wide));
        let (mut probs, mut dscores) = (tile(long), tile(long));
        for g in 0..shape.kv_heads {
            let size = (length, dim);
            transpose(&mut keys_turned, long, &self.qkv[shape.key(g)..], size, width);
            transpose(&mut values_turned, long, &self.qkv[shape.value(g)..], size, width);
            pack(&mut keys, wide, &self.qkv[shape.key(g)..], size, width, 1.0);
            dkeys.fill(0.0);
            dvalues.fill(0.0);
            for h in g * shape.group()..(g + 1) * shape.group() {
                for start in (0..length).step_by(TILE) {
                    let rows = TILE.min(length - start);
                    let seen = start + rows;
                    let n = padded(seen);
                    // With the scale in the queries, dscores need it only on their way to dqueries.
                    let from = &self.qkv[start * width + shape.query(h)..];
                    pack(&mut queries, wide, from, (rows, dim), width, scale);
                    let from = &self.dout[start * out_width + h * dim..];
                    pack(&mut dout, wide, from, (rows, dim), out_width, 1.0);

                    let q = Left { data: &queries, row: wide, column: 1 };
                    matmul::<FMA>(&mut probs, n, q, (rows, dim, n), &keys_turned, long, false);
                    let d = Left { data: &dout, row: wide, column: 1 };
                    matmul::<FMA>(&mut dscores, n, d, (rows, dim, n), &values_turned, long, false);
                    let both = probs.chunks_exact_mut(n).zip(dscores.chunks_exact_mut(n));
                    for (r, (p, ds)) in both.take(rows).enumerate() {
                        causal_softmax::<FMA>(p, start + r);
                        let mean = dot::<FMA>(p, ds);
                        for (ds, p) in ds.iter_mut().zip(p.iter()) {
                            *ds = p * (*ds - mean);
                        }
                    }
                    let ds = Left { data: &dscores, row: n, column: 1 };
                    matmul::<FMA>(&mut dqueries, wide, ds, (rows, seen, wide), &keys, wide, false);
                    let to = &mut self.dqkv[start * width + shape.query(h)..];
                    pack(to, width, &dqueries, (rows, dim), wide, scale);
                    let ds = Left { data: &dscores, row: 1, column: n };
                    matmul::<FMA>(&mut dkeys, wide, ds, (seen, rows, wide), &queries, wide, true);
                    let p = Left { data: &probs, row: 1, column: n };
                    matmul::<FMA>(&mut dvalues, wide, p, (seen, rows, wide), &dout, wide, true);
                }
            }
            pack(&mut self.dqkv[shape.key(g)..], width, &dkeys, size, wide, 1.0);
            pack(&mut self.dqkv[shape.value(g)..], width, &dvalues, size, wide, 1.0);
        }
    }
}
