//! Keys and values of the tokens seen so far, and attention of one new token over them.
//!
//! A prompt's entries are computed once and shared by all its rollouts; each rollout owns the entries of the tokens it has
//! produced, in a buffer of fixed capacity that is handed on when it ends. Keys lie turned (`[dim, capacity]` for each
//! head), so that one query's scores are a row times a matrix.
#![allow(
    clippy::inline_always,
    reason = "kernels must be inlined into their dispatch, see simd.rs"
)]

use crate::ops::HeadShape;
use crate::simd::{Kernel, Left, exp_sum, matmul, max, padded, run};

/// Keys and values of up to `capacity` tokens in every layer.
pub(crate) struct KvCache {
    shape: HeadShape,
    /// Tokens that fit, in whole vectors.
    capacity: usize,
    /// Width of a value row, in whole vectors.
    wide: usize,
    length: usize,
    /// Turned keys, `[layer, kv head, dim, capacity]`.
    keys: Vec<f32>,
    /// Values, `[layer, kv head, capacity, wide]`.
    values: Vec<f32>,
}

impl KvCache {
    pub fn new(layers: usize, shape: HeadShape, capacity: usize) -> Self {
        let (capacity, wide) = (padded(capacity), padded(shape.dim));
        let heads = layers * shape.kv_heads;
        // Zeroed pages come from the system untouched, so capacity that is never reached costs nothing.
        let keys = vec![0.0; heads * shape.dim * capacity];
        let values = vec![0.0; heads * wide * capacity];
        Self { shape, capacity, wide, length: 0, keys, values }
    }

    /// Tokens stored in all layers.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Forgets everything, for reuse.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Declares `count` more tokens stored, after every layer has got them.
    pub fn advance(&mut self, count: usize) {
        self.length += count;
    }

    /// Where the keys and the values of a head start.
    fn head(&self, layer: usize, g: usize) -> (usize, usize) {
        let head = (layer * self.shape.kv_heads + g) * self.capacity;
        (head * self.shape.dim, head * self.wide)
    }

    /// Stores rotated `qkv` rows as the next tokens of a layer.
    pub fn store(&mut self, layer: usize, qkv: &[f32]) {
        let (shape, dim) = (self.shape, self.shape.dim);
        for (offset, row) in qkv.chunks_exact(shape.width()).enumerate() {
            let at = self.length + offset;
            for g in 0..shape.kv_heads {
                let (keys, values) = self.head(layer, g);
                let key = &row[shape.key(g)..][..dim];
                for (d, k) in key.iter().enumerate() {
                    self.keys[keys + d * self.capacity + at] = *k;
                }
                self.values[values + at * self.wide..][..dim]
                    .copy_from_slice(&row[shape.value(g)..][..dim]);
            }
        }
    }
}

/// Attention of one token: `row` is its rotated qkv row, already stored in `own`.
pub(crate) struct Attend<'a> {
    pub prefix: &'a KvCache,
    pub own: &'a KvCache,
    pub layer: usize,
    pub row: &'a [f32],
    pub out: &'a mut [f32],
    /// At least [`scores_len`] long.
    pub scores: &'a mut [f32],
}

/// Room that the scores of one token over two caches need.
pub(crate) fn scores_len(prefix: &KvCache, own: &KvCache) -> usize {
    padded(prefix.length) + padded(own.length + 1) + padded(own.shape.dim)
}

impl Attend<'_> {
    pub fn run(self) {
        run(self);
    }
}

impl Kernel for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let shape = self.own.shape;
        let dim = shape.dim;
        // The token itself is stored but not yet counted.
        let parts = [(self.prefix, self.prefix.length), (self.own, self.own.length + 1)];
        let (mixed, scores) = self.scores.split_at_mut(padded(dim));
        let (early, late) = scores.split_at_mut(padded(parts[0].1));
        let late = &mut late[..padded(parts[1].1)];
        for h in 0..shape.heads {
            let g = h / shape.group();
            let q = Left { data: &self.row[shape.query(h)..][..dim], row: dim, column: 1 };
            let mut largest = f32::NEG_INFINITY;
            for (scores, (cache, length)) in [&mut *early, &mut *late].into_iter().zip(parts) {
                let keys = &cache.keys[cache.head(self.layer, g).0..];
                matmul::<FMA>(scores, 0, q, (1, dim, scores.len()), keys, cache.capacity, false);
                scores[length..].fill(f32::NEG_INFINITY);
                largest = largest.max(max(scores));
            }
            let mut sum = 0.0;
            let both = [&mut *early, &mut *late].into_iter().zip(parts);
            for (part, (scores, (cache, length))) in both.enumerate() {
                let add = part > 0;
                sum += exp_sum::<FMA>(scores, largest, shape.scale());
                let values = &cache.values[cache.head(self.layer, g).1..];
                let p = Left { data: scores, row: 0, column: 1 };
                matmul::<FMA>(mixed, 0, p, (1, length, cache.wide), values, cache.wide, add);
            }
            let inverse = 1.0 / sum;
            for (out, v) in self.out[shape.query(h)..][..dim].iter_mut().zip(mixed.iter()) {
                *out = v * inverse;
            }
        }
    }
}
