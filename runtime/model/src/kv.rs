//! Keys and values of the tokens seen so far, and attention of new tokens over them.
//!
//! A prompt's entries are computed once and shared by all its rollouts, which are attended over together; each rollout
//! owns the entries of the tokens it has produced, in a buffer of fixed capacity that is handed on when it ends. Keys lie
//! turned in blocks of 16 tokens, so that a query's scores are vectors and a short cache is a short stretch of memory.
#![allow(
    clippy::inline_always,
    reason = "kernels must be inlined into their dispatch, see simd.rs"
)]

use pulp::{Arch, Simd, WithSimd};

use crate::ops::HeadShape;
use crate::simd::tile::Product;
use crate::simd::{LANES, exp_sum_on, max, padded};

/// Keys and values of up to `capacity` tokens in every layer.
pub(crate) struct KvCache {
    shape: HeadShape,
    /// Tokens that fit, in whole vectors.
    capacity: usize,
    /// Width of a value row, in whole vectors.
    wide: usize,
    length: usize,
    /// `[layer, kv head, capacity / 16, dim, 16]`.
    keys: Vec<f32>,
    /// `[layer, kv head, capacity, wide]`.
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
                let block = &mut self.keys[keys + at / LANES * LANES * dim..][..LANES * dim];
                for (to, k) in block.chunks_exact_mut(LANES).zip(key) {
                    to[at % LANES] = *k;
                }
                self.values[values + at * self.wide..][..dim]
                    .copy_from_slice(&row[shape.value(g)..][..dim]);
            }
        }
    }

    /// `scores[r, j] = queries[r] . key j` for `rows` packed queries and the first `length` keys, to whole vectors.
    #[inline(always)]
    fn scores<S: Simd>(&self, simd: S, at: At<'_>, rows: usize, length: usize) {
        let dim = self.shape.dim;
        let product = Product {
            left: at.from,
            left_stride: dim,
            inner: dim,
            right: &self.keys[self.head(at.layer, at.head).0..],
            step: LANES,
            group: dim * LANES,
            out: at.to,
            out_stride: at.stride,
            bias: &[],
            add: false,
        };
        product.run(simd, rows, padded(length));
    }

    /// `mixed[r] (+)= sum over j < length of weights[r, j] value j` for `rows` rows.
    #[inline(always)]
    fn mix<S: Simd>(&self, simd: S, at: At<'_>, rows: usize, length: usize, add: bool) {
        let product = Product {
            left: at.from,
            left_stride: at.stride,
            inner: length,
            right: &self.values[self.head(at.layer, at.head).1..],
            step: self.wide,
            group: LANES,
            out: at.to,
            out_stride: self.wide,
            bias: &[],
            add,
        };
        product.run(simd, rows, self.wide);
    }
}

/// A head of a layer, and what its keys or values are multiplied with; `stride` is that between rows of scores.
struct At<'a> {
    layer: usize,
    head: usize,
    from: &'a [f32],
    to: &'a mut [f32],
    stride: usize,
}

/// Attention of one new token in each of some rollouts of one prompt.
pub(crate) struct Attend<'a> {
    pub prefix: &'a KvCache,
    /// Their own caches; the new token is stored but not yet counted.
    pub own: &'a [&'a KvCache],
    pub layer: usize,
    /// The new tokens' rotated qkv rows.
    pub rows: &'a [f32],
    pub out: &'a mut [f32],
    pub room: &'a mut Room,
}

/// Memory that attention works in.
#[derive(Default)]
pub(crate) struct Room {
    queries: Vec<f32>,
    scores: Vec<f32>,
    mixed: Vec<f32>,
    /// One over the sum of a row's weights.
    inverse: Vec<f32>,
}

impl Attend<'_> {
    pub fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { prefix, own, layer, rows, out, room } = self;
        let (shape, dim, wide, group) =
            (prefix.shape, prefix.shape.dim, prefix.wide, prefix.shape.group());
        let early = padded(prefix.length);
        let longest = own.iter().map(|c| c.length + 1).max().unwrap_or(0);
        let stride = early + padded(longest);
        let count = own.len() * group;
        room.queries.resize(count * dim, 0.0);
        room.scores.resize(count * stride, 0.0);
        room.mixed.resize(count * wide, 0.0);
        room.inverse.resize(count, 0.0);
        let Room { queries, scores, mixed, inverse } = room;
        for head in 0..shape.kv_heads {
            let first = shape.query(head * group);
            for (row, queries) in
                rows.chunks_exact(shape.width()).zip(queries.chunks_exact_mut(group * dim))
            {
                queries.copy_from_slice(&row[first..][..group * dim]);
            }
            prefix.scores(
                simd,
                At { layer, head, from: queries, to: scores, stride },
                count,
                prefix.length,
            );
            for (j, cache) in own.iter().enumerate() {
                let from = &queries[j * group * dim..];
                let to = &mut scores[j * group * stride + early..];
                cache.scores(simd, At { layer, head, from, to, stride }, group, cache.length + 1);
            }
            for ((r, row), inverse) in
                scores.chunks_exact_mut(stride).enumerate().zip(&mut *inverse)
            {
                let length = own[r / group].length + 1;
                row[prefix.length..early].fill(f32::NEG_INFINITY);
                let row = &mut row[..early + padded(length)];
                row[early + length..].fill(f32::NEG_INFINITY);
                let largest = max(row);
                *inverse = 1.0 / exp_sum_on::<S>(row, largest, shape.scale());
            }
            prefix.mix(
                simd,
                At { layer, head, from: scores, to: mixed, stride },
                count,
                prefix.length,
                false,
            );
            for (j, cache) in own.iter().enumerate() {
                let from = &scores[j * group * stride + early..];
                let to = &mut mixed[j * group * wide..];
                cache.mix(
                    simd,
                    At { layer, head, from, to, stride },
                    group,
                    cache.length + 1,
                    true,
                );
            }
            let rows = out
                .chunks_exact_mut(shape.out())
                .flat_map(|row| row[first..][..group * dim].chunks_exact_mut(dim));
            for ((to, mixed), inverse) in rows.zip(mixed.chunks_exact(wide)).zip(&*inverse) {
                for (to, value) in to.iter_mut().zip(mixed) {
                    *to = value * inverse;
                }
            }
        }
    }
}

/// Rows of scores held at once.
const MOST: usize = 64;

/// Rollouts of one prompt that may be attended over together.
pub(crate) fn together(shape: HeadShape) -> usize {
    (MOST / shape.group()).max(1)
}
