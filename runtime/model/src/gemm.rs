//! Matrix products on slices: the one place of this crate with `unsafe`, around candle's own gemm.
//!
//! Each function checks every length before the call. One output element is the same sum in the same order whatever the
//! number of rows beside it and whatever the number of threads: that is what makes a completion independent of its batch.

use gemm::Parallelism;

/// Most numbers of the inner dimension that a product packs at once.
pub const INNER: usize = 512;
/// Most rows, or columns, of which each thread packs so many for itself.
pub const ROWS: usize = 512;

/// Threads that a product may use: what candle uses too.
pub fn threads() -> usize {
    candle_core::utils::get_num_threads().max(1)
}

fn parallelism() -> Parallelism {
    match threads() {
        1 => Parallelism::None,
        n => Parallelism::Rayon(n),
    }
}

/// A matrix inside a slice: element (r, c) is `data[r * row + c * column]`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// Where the elements lie.
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// A packed row-major matrix.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row: columns, column: 1 }
    }

    /// Rows that begin every `stride` numbers.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self { data, rows, columns, row: stride, column: 1 }
    }

    /// The same values, rows and columns exchanged.
    #[must_use]
    pub fn turned(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row: self.column,
            column: self.row,
        }
    }

    fn fits(&self) -> bool {
        self.rows == 0
            || self.columns == 0
            || (self.rows - 1) * self.row + (self.columns - 1) * self.column < self.data.len()
    }
}

/// `out[r * stride + c] = (a b)[r, c]`, added to what is there if `accumulate`.
///
/// # Panics
/// When a slice is shorter than its matrix; callers derive both from the same sizes.
pub fn product(out: &mut [f32], stride: usize, a: Matrix<'_>, b: Matrix<'_>, accumulate: bool) {
    let (rows, columns, inner) = (a.rows, b.columns, a.columns);
    assert_eq!(inner, b.rows, "inner dimensions");
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(a.fits() && b.fits() && columns <= stride, "operand bounds");
    assert!((rows - 1) * stride + columns <= out.len(), "output bounds");
    // gemm calls the fast-moving output index its rows, so the product is computed transposed: out^T = b^T a^T.
    // SAFETY: every index gemm forms is below the lengths just asserted: out (c, r) at r * stride + c, b^T (c, i) at
    // i * b.row + c * b.column, a^T (i, r) at r * a.row + i * a.column. `out` is borrowed mutably, so it overlaps neither.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            columns,
            rows,
            inner,
            out.as_mut_ptr(),
            stride as isize,
            1,
            accumulate,
            b.data.as_ptr(),
            b.row as isize,
            b.column as isize,
            a.data.as_ptr(),
            a.row as isize,
            a.column as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What makes completions independent of their batch: a row's product has the same bits alone or among others.
    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        for (inner, outputs) in
            [(64, 512), (128, 344), (172, 64), (344, 128), (896, 300), (3000, 256)]
        {
            let w: Vec<f32> = (0..inner * outputs).map(|i| (i as f32 * 0.37).sin()).collect();
            let most = 200;
            let x: Vec<f32> = (0..most * inner).map(|i| (i as f32 * 0.11).cos()).collect();
            let weight = Matrix::new(&w, outputs, inner).turned();
            let turned: Vec<f32> = (0..inner)
                .flat_map(|i| (0..outputs).map(move |o| (i, o)))
                .map(|(i, o)| w[o * inner + i])
                .collect();
            // With few outputs only the turned form keeps the promise, and only it is used (see decode.rs).
            let forms = [Matrix::new(&turned, inner, outputs), weight];
            for weight in &forms[..if outputs > 128 { 2 } else { 1 }] {
                let mut all = vec![0f32; most * outputs];
                product(&mut all, outputs, Matrix::new(&x, most, inner), *weight, false);
                for rows in [2, 3, 7, 16, 33, 65, 130] {
                    let mut some = vec![0f32; rows * outputs];
                    product(&mut some, outputs, Matrix::new(&x, rows, inner), *weight, false);
                    assert_eq!(some, all[..rows * outputs], "{inner} x {outputs}, {rows} rows");
                }
            }
        }
    }
}
