//! A tile of a matrix product in registers, for the widest vectors there are.
//!
//! Unlike the rest of this module it is written over pulp's vector types: two dozen sums at once are more than an
//! auto-vectoriser can be trusted to keep in registers. One element is one chain of multiply-adds over `inner`, whatever
//! the tile's size, so a row's bits do not depend on the rows beside it.
#![allow(clippy::inline_always, reason = "inlining is what selects the instruction set")]

use pulp::Simd;

/// Rows that a tile may have.
pub(crate) const TALL: usize = 6;

/// `sums[r][v] = sum over i of rows[r][i] * (vector v of step i)`; vector v of step i begins at `b[i * step + at(v)]`.
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    b: &[f32],
    step: usize,
    at: impl Fn(usize) -> usize,
) -> [[S::f32s; V]; R] {
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    let inner = rows[0].len();
    for i in 0..inner {
        let b = &b[i * step..];
        let mut right = [simd.splat_f32s(0.0); V];
        for (v, right) in right.iter_mut().enumerate() {
            *right = S::as_simd_f32s(&b[at(v)..][..S::F32_LANES]).0[0];
        }
        for (row, sums) in rows.iter().zip(&mut sums) {
            let left = simd.splat_f32s(row[i]);
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_e_f32s(left, right, *sum);
            }
        }
    }
    sums
}

/// Where a product reads and writes.
pub(crate) struct Product<'a> {
    /// Row r of the left operand is `left[r * left_stride..][..inner]`.
    pub left: &'a [f32],
    pub left_stride: usize,
    pub inner: usize,
    /// Columns `16 c..16 c + 16` of step i begin at `right[i * step + c * group]`.
    pub right: &'a [f32],
    pub step: usize,
    pub group: usize,
    /// Row r of the result is `out[r * out_stride..][..columns]`.
    pub out: &'a mut [f32],
    pub out_stride: usize,
    /// Added to every row, if not empty.
    pub bias: &'a [f32],
    /// Add to what is there.
    pub add: bool,
}

impl Product<'_> {
    /// Multiplies `rows` rows into `columns` columns; the right operand is readable up to whole groups of 16.
    #[inline(always)]
    pub fn run<S: Simd>(mut self, simd: S, rows: usize, columns: usize) {
        let mut column = 0;
        while column < columns {
            // As many vectors as leave room for the sums of a tall tile.
            let vectors = match S::F32_LANES {
                16 => (columns - column).div_ceil(16).min(4),
                8 => 2,
                _ => 4,
            };
            match vectors {
                1 => self.strip::<S, 1>(simd, rows, column, columns),
                2 => self.strip::<S, 2>(simd, rows, column, columns),
                3 => self.strip::<S, 3>(simd, rows, column, columns),
                _ => self.strip::<S, 4>(simd, rows, column, columns),
            }
            column += vectors * S::F32_LANES;
        }
    }

    /// All rows of a strip of `V` vectors of columns, in tiles of nearly equal height.
    #[inline(always)]
    fn strip<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        rows: usize,
        column: usize,
        columns: usize,
    ) {
        let tiles = rows.div_ceil(TALL);
        for index in 0..tiles {
            let (from, to) = (index * rows / tiles, (index + 1) * rows / tiles);
            match to - from {
                1 => self.tile::<S, 1, V>(simd, from, column, columns),
                2 => self.tile::<S, 2, V>(simd, from, column, columns),
                3 => self.tile::<S, 3, V>(simd, from, column, columns),
                4 => self.tile::<S, 4, V>(simd, from, column, columns),
                5 => self.tile::<S, 5, V>(simd, from, column, columns),
                _ => self.tile::<S, 6, V>(simd, from, column, columns),
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        columns: usize,
    ) {
        let left =
            std::array::from_fn(|r| &self.left[(row + r) * self.left_stride..][..self.inner]);
        let at = |v: usize| {
            let c = column + v * S::F32_LANES;
            c / 16 * self.group + c % 16
        };
        let sums = tile::<S, R, V>(simd, left, self.right, self.step, at);
        for (r, sums) in sums.into_iter().enumerate() {
            let out = &mut self.out[(row + r) * self.out_stride..][..columns];
            for (v, mut sum) in sums.into_iter().enumerate() {
                let lanes = S::F32_LANES;
                let c = column + v * lanes;
                if c + lanes <= columns {
                    if !self.bias.is_empty() {
                        let bias = S::as_simd_f32s(&self.bias[c..c + lanes]).0[0];
                        sum = simd.add_f32s(sum, bias);
                    }
                    let to = &mut S::as_mut_simd_f32s(&mut out[c..c + lanes]).0[0];
                    *to = if self.add { simd.add_f32s(*to, sum) } else { sum };
                    continue;
                }
                let mut values = [0f32; 16];
                S::as_mut_simd_f32s(&mut values).0[0] = sum;
                for (l, value) in values.iter().enumerate().take(columns.saturating_sub(c)) {
                    let value =
                        if self.bias.is_empty() { *value } else { value + self.bias[c + l] };
                    out[c + l] = if self.add { out[c + l] + value } else { value };
                }
            }
        }
    }
}
