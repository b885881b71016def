//! Row primitives that the compiler can vectorise for the machine at hand.
//!
//! A [`Kernel`] is plain Rust, compiled once per instruction set by pulp and chosen at run time, so there are no
//! intrinsics and no `unsafe` here. Everything a kernel calls must be `inline(always)`: code that stays behind a call
//! is compiled for the oldest machine. Sums have a fixed order, so results depend on the machine but never on threads.
#![allow(clippy::inline_always, reason = "see above: inlining is what selects the instruction set")]

use pulp::{Arch, Simd, WithSimd};

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
        // Without fused hardware `f32::mul_add` is a slow library call.
        if S::F32_LANES >= 8 || cfg!(target_arch = "aarch64") {
            self.0.run::<true>()
        } else {
            self.0.run::<false>()
        }
    }
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
    let x = x.max(-87.0).min(88.0);
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

const LANES: usize = 16;

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

/// `out[j] += sum over r of coef[r] * rows[r * stride + j]`: a row times a matrix.
#[inline(always)]
pub(crate) fn combine<const FMA: bool>(out: &mut [f32], coef: &[f32], rows: &[f32], stride: usize) {
    const BLOCK: usize = 8;
    let n = out.len();
    let blocks = coef.chunks_exact(BLOCK);
    let tail = blocks.remainder();
    let mut at = 0;
    for c in blocks {
        let row = |u: usize| &rows[(at + u) * stride..][..n];
        let (r0, r1, r2, r3) = (row(0), row(1), row(2), row(3));
        let (r4, r5, r6, r7) = (row(4), row(5), row(6), row(7));
        for j in 0..n {
            let a = fma::<FMA>(c[0], r0[j], out[j]);
            let a = fma::<FMA>(c[1], r1[j], a);
            let a = fma::<FMA>(c[2], r2[j], a);
            let a = fma::<FMA>(c[3], r3[j], a);
            let a = fma::<FMA>(c[4], r4[j], a);
            let a = fma::<FMA>(c[5], r5[j], a);
            let a = fma::<FMA>(c[6], r6[j], a);
            out[j] = fma::<FMA>(c[7], r7[j], a);
        }
        at += BLOCK;
    }
    for c in tail {
        let row = &rows[at * stride..][..n];
        for j in 0..n {
            out[j] = fma::<FMA>(*c, row[j], out[j]);
        }
        at += 1;
    }
}

/// `dst[j * rows + i] = src[i * stride + j]`: a `rows x columns` block turned, `dst` packed.
#[inline(always)]
pub(crate) fn transpose(dst: &mut [f32], src: &[f32], rows: usize, columns: usize, stride: usize) {
    for i in 0..rows {
        let row = &src[i * stride..][..columns];
        for (j, v) in row.iter().enumerate() {
            dst[j * rows + i] = *v;
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

    struct Combine<'a>(&'a mut [f32], &'a [f32], &'a [f32]);

    impl Kernel for Combine<'_> {
        type Output = (f32, f32);
        #[inline(always)]
        fn run<const FMA: bool>(self) -> (f32, f32) {
            let n = self.0.len();
            combine::<FMA>(self.0, self.1, self.2, n);
            (dot::<FMA>(self.0, self.0), max(self.0))
        }
    }

    #[test]
    fn combine_dot_and_max_are_what_they_say() {
        for (rows, n) in [(1, 1), (7, 5), (8, 33), (19, 16), (40, 70)] {
            let coef: Vec<f32> = (0..rows).map(|i| (i as f32 * 0.7).sin()).collect();
            let matrix: Vec<f32> = (0..rows * n).map(|i| (i as f32 * 0.3).cos()).collect();
            let mut out = vec![0.5; n];
            let (square, largest) = run(Combine(&mut out, &coef, &matrix));
            let exact: Vec<f32> = (0..n)
                .map(|j| 0.5 + (0..rows).map(|r| coef[r] * matrix[r * n + j]).sum::<f32>())
                .collect();
            for (a, b) in out.iter().zip(&exact) {
                assert!((a - b).abs() < 1e-5);
            }
            assert!((square - exact.iter().map(|v| v * v).sum::<f32>()).abs() < 1e-3);
            assert!((largest - exact.iter().copied().fold(f32::MIN, f32::max)).abs() < 1e-5);
        }
    }
}
