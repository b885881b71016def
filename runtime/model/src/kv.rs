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
use crate::simd::{Kernel, combine, exp_sum, max, run};

/// Keys and values of up to `capacity` tokens in every layer.
pub(crate) struct KvCache {
    shape: HeadShape,
    capacity: usize,
    length: usize,
    /// Turned keys, `[layer, kv head, dim, capacity]`.
    keys: Vec<f32>,
    /// Values, `[layer, kv head, capacity, dim]`.
    values: Vec<f32>,
}

impl KvCache {
    pub fn new(layers: usize, shape: HeadShape, capacity: usize) -> Self {
        let size = layers * shape.kv_heads * shape.dim * capacity;
        // Zeroed pages come from the system untouched, so capacity that is never reached costs nothing.
        Self { shape, capacity, length: 0, keys: vec![0.0; size], values: vec![0.0; size] }
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

    fn head(&self, layer: usize, g: usize) -> usize {
        (layer * self.shape.kv_heads + g) * self.shape.dim * self.capacity
    }

    /// Stores rotated `qkv` rows as the next tokens of a layer.
    pub fn store(&mut self, layer: usize, qkv: &[f32]) {
        let (shape, dim) = (self.shape, self.shape.dim);
        for (offset, row) in qkv.chunks_exact(shape.width()).enumerate() {
            let at = self.length + offset;
            for g in 0..shape.kv_heads {
                let base = self.head(layer, g);
                let key = &row[shape.key(g)..][..dim];
                for (d, k) in key.iter().enumerate() {
                    self.keys[base + d * self.capacity + at] = *k;
                }
                self.values[base + at * dim..][..dim]
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
    /// At least as long as both caches together.
    pub scores: &'a mut [f32],
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
        let (before, after) = (self.prefix.length, self.own.length + 1);
        let scores = &mut self.scores[..before + after];
        let mut q = [0f32; 512];
        let q = &mut q[..dim];
        for h in 0..shape.heads {
            let g = h / shape.group();
            for (q, v) in q.iter_mut().zip(&self.row[shape.query(h)..][..dim]) {
                *q = v * shape.scale();
            }
            scores.fill(0.0);
            let (early, late) = scores.split_at_mut(before);
            let (p, o) = (self.prefix.head(self.layer, g), self.own.head(self.layer, g));
            combine::<FMA>(early, q, &self.prefix.keys[p..], self.prefix.capacity);
            combine::<FMA>(late, q, &self.own.keys[o..], self.own.capacity);
            let largest = max(early).max(max(late));
            let sum = exp_sum::<FMA>(early, largest, 1.0) + exp_sum::<FMA>(late, largest, 1.0);
            let out = &mut self.out[shape.query(h)..][..dim];
            out.fill(0.0);
            combine::<FMA>(out, early, &self.prefix.values[p..], dim);
            combine::<FMA>(out, late, &self.own.values[o..], dim);
            let inverse = 1.0 / sum;
            for v in out {
                *v *= inverse;
            }
        }
    }
}
