//! Rotary position embeddings: a table of angles and the rotation of the heads in a row.
//!
//! Element i of a head turns together with element i + head_dim / 2, as Hugging Face's weights expect.

use crate::config::Config;

use super::HeadShape;

/// Cosine and sine for every position below a length.
pub(crate) struct Rope {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// The table for positions `0..length`; angles are formed in f64, so that far positions stay exact.
    pub fn new(config: &Config, length: usize) -> Self {
        let frequencies = config.rope_frequencies();
        let half = frequencies.len();
        let (mut cos, mut sin) =
            (Vec::with_capacity(length * half), Vec::with_capacity(length * half));
        for position in 0..length {
            for f in &frequencies {
                let (s, c) = (position as f64 * f).sin_cos();
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
        Self { half, cos, sin }
    }

    /// Cosines and sines at one position, each of head_dim / 2 values.
    pub fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }

    /// Rotates the query and key heads of one row; `back` undoes it (and is the backward pass).
    pub fn rotate(&self, row: &mut [f32], shape: HeadShape, position: usize, back: bool) {
        let (cos, sin) = self.at(position);
        let turned = (shape.heads + shape.kv_heads) * shape.dim;
        for head in row[..turned].chunks_exact_mut(shape.dim) {
            let (a, b) = head.split_at_mut(self.half);
            for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                let s = if back { -s } else { *s };
                let (x, y) = (*a, *b);
                *a = x * c - y * s;
                *b = y * c + x * s;
            }
        }
    }
}
