//! Row primitives that the compiler can vectorise for the machine at hand.
//!
//! A [`Kernel`] is plain Rust, compiled once per instruction set by pulp and chosen at run time, so there are no
//! intrinsics and no `unsafe` here. Everything a kernel calls must be `inline(always)`: code that stays behind a call
//! is compiled for the oldest machine. Sums have a fixed order, so results depend on the machine but never on threads.
#![allow(clippy::inline_always, reason = "see above: inlining is what selects the instruction set")]

use pulp::{Arch, Simd, WithSimd};

pub(crate) mod tile;

/// Work to run with the widest vectors there are. `FMA` says whether `mul_add` is one instruction.
pub(crate) trait Kernel {
    type Output;
    fn run<const FMA: bool>(self) -> Self::Output;
}

struct Dispatch<K>(K);

impl<K: Kernel> WithSimd for Dispatch<K> {
    type Output = K::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> K::Output {
        if fused::<S>() { self.0.run::<true>() } else { self.0.run::<false>() }
    }
}

/// Whether multiply-add is one instruction: without it `f32::mul_add` is a slow library call.
#[inline(always)]
const fn fused<S: Simd>() -> bool {
    S::F32_LANES >= 8 || cfg!(target_arch = "aarch64")
}

/// Runs a kernel.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Output {
    Arch::new().dispatch(Dispatch(kernel))
}

#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` to 2 units in the last place, without branches; below -87 it is (almost) 0, above 88 it saturates.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    let x = x.clamp(-87.0, 88.0);
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -0.693_359_4, x);
    let r = fma::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_2e-4;
    p = fma::<FMA>(p, r, 1.398_2e-3);
    p = fma::<FMA>(p, r, 8.333_452e-3);
    p = fma::<FMA>(p, r, 4.166_579_6e-2);
    p = fma::<FMA>(p, r, 1.666_666_5e-1);
    p = fma::<FMA>(p, r, 0.5);
    let p = fma::<FMA>(p * r, r, r) + 1.0;
    p * f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23)
}

/// Floats of the widest vector: buffers are padded to it on every machine.
pub(crate) const LANES: usize = 16;

/// Sum of `a[i] * b[i]`.
#[inline(always)]
pub(crate) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a16, b16) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut rest = 0.0;
    for (x, y) in a16.remainder().iter().zip(b16.remainder()) {
        rest = fma::<FMA>(*x, *y, rest);
    }
    for (x, y) in a16.zip(b16) {
        for l in 0..LANES {
            lanes[l] = fma::<FMA>(x[l], y[l], lanes[l]);
        }
    }
    fold(lanes) + rest
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Largest element (minus infinity for none).
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for c in chunks {
        for l in 0..LANES {
            lanes[l] = if c[l] > lanes[l] { c[l] } else { lanes[l] };
        }
    }
    lanes.into_iter().fold(rest, f32::max)
}

/// Replaces each `x` by `exp((x - shift) * scale)` and returns the sum.
#[inline(always)]
pub(crate) fn exp_sum<const FMA: bool>(x: &mut [f32], shift: f32, scale: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let mut chunks = x.chunks_exact_mut(LANES);
    for c in &mut chunks {
        for l in 0..LANES {
            c[l] = exp::<FMA>((c[l] - shift) * scale);
            lanes[l] += c[l];
        }
    }
    let mut rest = 0.0;
    for v in chunks.into_remainder() {
        *v = exp::<FMA>((*v - shift) * scale);
        rest += *v;
    }
    fold(lanes) + rest
}

/// [`exp_sum`] inside a kernel that is written over pulp's vectors.
#[inline(always)]
pub(crate) fn exp_sum_on<S: Simd>(x: &mut [f32], shift: f32, scale: f32) -> f32 {
    if fused::<S>() { exp_sum::<true>(x, shift, scale) } else { exp_sum::<false>(x, shift, scale) }
}

/// Rounds a length up to whole vectors.
pub(crate) fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

/// The left operand of [`matmul`]: element (r, i) is `data[r * row + i * column]`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub column: usize,
}

/// `out[r * out_stride + j] (+)= sum over i < inner of a(r, i) * b[i * b_stride + j]` for a few rows and `n` columns.
///
/// For products too small for gemm. `n` is a multiple of 16: callers pad their buffers, not this loop.
#[inline(always)]
pub(crate) fn matmul<const FMA: bool>(
    out: &mut [f32],
    out_stride: usize,
    a: Left<'_>,
    (rows, inner, n): (usize, usize, usize),
    b: &[f32],
    b_stride: usize,
    add: bool,
) {
    debug_assert!(n.is_multiple_of(LANES));
    let mut r = 0;
    while r < rows {
        let left = Left { data: &a.data[r * a.row..], ..a };
        let tall = rows - r >= 4;
        let mut j = 0;
        while j < n {
            let (o, b) = (&mut out[r * out_stride + j..], &b[j..]);
            match (tall, n - j) {
                (true, LANES) => tile::<FMA, 4, 1>(o, out_stride, left, inner, b, b_stride, add),
                (true, _) => tile::<FMA, 4, 2>(o, out_stride, left, inner, b, b_stride, add),
                (false, LANES) => tile::<FMA, 1, 1>(o, out_stride, left, inner, b, b_stride, add),
                (false, _) => tile::<FMA, 1, 2>(o, out_stride, left, inner, b, b_stride, add),
            }
            j += LANES * if n - j == LANES { 1 } else { 2 };
        }
        r += if tall { 4 } else { 1 };
    }
}

/// `R` rows and `B` vectors of columns, summed in registers.
#[inline(always)]
fn tile<const FMA: bool, const R: usize, const B: usize>(
    out: &mut [f32],
    out_stride: usize,
    a: Left<'_>,
    inner: usize,
    b: &[f32],
    b_stride: usize,
    add: bool,
) {
    let mut sums = [[[0f32; LANES]; B]; R];
    if inner > 0 {
        // One bound for the whole loop: the last elements it reads.
        let (a_end, b_end) = ((R - 1) * a.row + (inner - 1) * a.column, (inner - 1) * b_stride);
        assert!(a_end < a.data.len() && b_end + LANES * B <= b.len());
        for i in 0..inner {
            let right = &b[i * b_stride..][..LANES * B];
            for (r, sums) in sums.iter_mut().enumerate() {
                let c = a.data[r * a.row + i * a.column];
                for (block, sums) in sums.iter_mut().enumerate() {
                    for l in 0..LANES {
                        sums[l] = fma::<FMA>(c, right[block * LANES + l], sums[l]);
                    }
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (block, sums) in sums.iter().enumerate() {
            let out = &mut out[r * out_stride + block * LANES..][..LANES];
            for l in 0..LANES {
                out[l] = if add { out[l] + sums[l] } else { sums[l] };
            }
        }
    }
}

/// `dst[j * dst_stride + i] = src[i * stride + j]`: a `rows x columns` block turned.
#[inline(always)]
pub(crate) fn transpose(
    dst: &mut [f32],
    dst_stride: usize,
    src: &[f32],
    (rows, columns): (usize, usize),
    stride: usize,
) {
    for i in 0..rows {
        let row = &src[i * stride..][..columns];
        for (j, v) in row.iter().enumerate() {
            dst[j * dst_stride + i] = *v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct ExpAll<'a>(&'a mut [f32]);

    impl Kernel for ExpAll<'_> {
        type Output = f32;
        #[inline(always)]
        fn run<const FMA: bool>(self) -> f32 {
            exp_sum::<FMA>(self.0, 0.0, 1.0)
        }
    }

    #[test]
    fn exp_agrees_with_the_library() {
        let xs: Vec<f32> = (0..40_000).map(|i| (i as f32 - 20_000.0) / 240.0).collect();
        let mut ys = xs.clone();
        run(ExpAll(&mut ys));
        for (x, y) in xs.iter().zip(&ys) {
            let exact = f64::from(*x).exp();
            assert!((f64::from(*y) - exact).abs() <= 3e-7 * exact, "exp({x}) = {y}, not {exact}");
        }
    }

    struct Multiply<'a> {
        out: &'a mut [f32],
        a: Left<'a>,
        sizes: (usize, usize, usize),
        b: &'a [f32],
    }

    impl Kernel for Multiply<'_> {
        type Output = (f32, f32);
        #[inline(always)]
        fn run<const FMA: bool>(self) -> (f32, f32) {
            let n = self.sizes.2;
            matmul::<FMA>(self.out, n, self.a, self.sizes, self.b, n, true);
            (dot::<FMA>(self.out, self.out), max(self.out))
        }
    }

    #[test]
    fn matmul_dot_and_max_are_what_they_say() {
        for (rows, inner, n) in [(1, 1, 16), (7, 5, 48), (4, 33, 32), (9, 16, 80)] {
            let a: Vec<f32> = (0..rows * inner).map(|i| (i as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..inner * n).map(|i| (i as f32 * 0.3).cos()).collect();
            for turned in [false, true] {
                let (row, column) = if turned { (1, rows) } else { (inner, 1) };
                let left = Left { data: &a, row, column };
                let mut out = vec![0.5; rows * n];
                let sizes = (rows, inner, n);
                let (square, largest) = run(Multiply { out: &mut out, a: left, sizes, b: &b });
                for r in 0..rows {
                    for j in 0..n {
                        let exact: f32 =
                            (0..inner).map(|i| a[r * row + i * column] * b[i * n + j]).sum();
                        assert!((out[r * n + j] - 0.5 - exact).abs() < 1e-5);
                    }
                }
                assert!((square - out.iter().map(|v| v * v).sum::<f32>()).abs() < 1e-3 * square);
                assert_eq!(largest, out.iter().copied().fold(f32::MIN, f32::max));
            }
        }
    }
}
