//! Projections of the sampler: weights packed once, multiplied with few rows at a time, thousands of times.
//!
//! A general matrix product rearranges its operands in every call, which costs as much as the product itself when there
//! are only a few dozen rows. Here a weight lies in panels of 64 outputs, input by input.
#![allow(
    clippy::inline_always,
    reason = "kernels must be inlined into their dispatch, see simd.rs"
)]

use pulp::{Arch, Simd, WithSimd};

use crate::ops::each;
use crate::simd::padded;
use crate::simd::tile::Product;

/// Outputs of a panel: four of the widest vectors.
const PANEL: usize = 64;
/// Multiplications that are worth a thread.
const SHARED: usize = 1 << 22;
/// Floats in a cache line.
const LINE: usize = 16;

/// A weight `[outputs, inputs]` in panels, with its bias.
pub(crate) struct Packed {
    inputs: usize,
    outputs: usize,
    /// For each panel `[inputs, its width]`; widths are whole vectors, the last panel's lesser.
    data: Vec<f32>,
    /// Where the panels start, so that no vector straddles a cache line.
    start: usize,
    bias: Vec<f32>,
}

impl Packed {
    /// Packs row-major weights `[n_i, inputs]`, one below the other, and their joint bias (empty for none).
    pub fn new(inputs: usize, weights: &[&[f32]], bias: Vec<f32>) -> Self {
        let rows: Vec<&[f32]> = weights.iter().flat_map(|w| w.chunks_exact(inputs)).collect();
        let outputs = rows.len();
        let size = padded(outputs) * inputs;
        let mut data = vec![0f32; size + LINE - 1];
        // Left at 0 where the address cannot be known: that costs time only.
        let start = data.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE - 1);
        let panels = data[start..start + size].chunks_mut(PANEL * inputs).zip(rows.chunks(PANEL));
        each(panels.collect(), |(panel, rows)| turn(panel, rows));
        Self { inputs, outputs, data, start, bias }
    }

    /// `out (+)= x w^T + b` for packed rows `x` `[rows, inputs]` and `out` `[rows, outputs]`; `share` allows threads.
    pub fn apply(&self, x: &[f32], out: &mut [f32], add: bool, share: bool) {
        let rows = x.len() / self.inputs;
        let parts = if share { rows * self.inputs * self.outputs / SHARED } else { 1 };
        let size = rows.div_ceil(parts.clamp(1, rayon::current_num_threads()));
        let x = x.chunks(size * self.inputs);
        let tasks: Vec<_> = x.zip(out.chunks_mut(size * self.outputs)).collect();
        each(tasks, |(x, out)| Arch::new().dispatch(Apply { weight: self, x, out, add }));
    }
}

/// Writes weight rows as `[inputs, panel width]`.
fn turn(panel: &mut [f32], rows: &[&[f32]]) {
    let width = padded(rows.len());
    for (block, to) in panel.chunks_mut(LINE * width).enumerate() {
        for (c, row) in rows.iter().enumerate() {
            let row = &row[block * LINE..];
            for (to, value) in to.chunks_exact_mut(width).zip(row) {
                to[c] = *value;
            }
        }
    }
}

struct Apply<'a> {
    weight: &'a Packed,
    x: &'a [f32],
    out: &'a mut [f32],
    add: bool,
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Packed { inputs, outputs, data, start, bias } = self.weight;
        let panels = data[*start..][..padded(*outputs) * inputs].chunks(PANEL * inputs);
        for (index, panel) in panels.enumerate() {
            let (first, width) = (index * PANEL, panel.len() / inputs);
            let columns = width.min(outputs - first);
            let product = Product {
                left: self.x,
                left_stride: *inputs,
                inner: *inputs,
                right: panel,
                step: width,
                group: LINE,
                out: &mut self.out[first..],
                out_stride: *outputs,
                bias: if bias.is_empty() { bias } else { &bias[first..][..columns] },
                add: self.add,
            };
            product.run(simd, self.x.len() / inputs, columns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize, speed: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * speed).sin()).collect()
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (inputs, sizes) in [
            (1, vec![1]),
            (33, vec![16, 5]),
            (64, vec![64, 32, 32]),
            (100, vec![130]),
            (7, vec![200, 11]),
        ] {
            let weights: Vec<Vec<f32>> =
                sizes.iter().map(|n| wave(n * inputs, 0.37 + *n as f32)).collect();
            let outputs: usize = sizes.iter().sum();
            for bias in [Vec::new(), wave(outputs, 0.9)] {
                let slices: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
                let packed = Packed::new(inputs, &slices, bias.clone());
                let all = weights.concat();
                for rows in [1, 2, 5, 6, 7, 13, 40] {
                    let x = wave(rows * inputs, 0.11);
                    let mut out = vec![0.25; rows * outputs];
                    packed.apply(&x, &mut out, true, true);
                    for r in 0..rows {
                        for o in 0..outputs {
                            let sum: f64 = (0..inputs)
                                .map(|i| {
                                    f64::from(x[r * inputs + i]) * f64::from(all[o * inputs + i])
                                })
                                .sum();
                            let exact = 0.25 + sum + f64::from(bias.get(o).copied().unwrap_or(0.0));
                            let found = f64::from(out[r * outputs + o]);
                            assert!(
                                (found - exact).abs() < 2e-5,
                                "{inputs} -> {outputs}, {rows} rows: {found}, not {exact}"
                            );
                        }
                    }
                }
            }
        }
    }

    /// What makes completions independent of their batch: a row's product has the same bits alone or among others.
    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        for (inputs, outputs) in [(64, 16), (64, 512), (172, 64), (896, 300), (300, 20_000)] {
            let packed = Packed::new(inputs, &[&wave(inputs * outputs, 0.37)], Vec::new());
            let most = 50;
            let x = wave(most * inputs, 0.11);
            let mut all = vec![0f32; most * outputs];
            packed.apply(&x, &mut all, false, true);
            for rows in [1, 2, 3, 7, 16, 33] {
                for share in [false, true] {
                    let mut some = vec![0f32; rows * outputs];
                    packed.apply(&x[..rows * inputs], &mut some, false, share);
                    assert_eq!(some, all[..rows * outputs], "{inputs} x {outputs}, {rows} rows");
                }
            }
        }
    }
}
