//! Functions of one row, written so that a loop over them becomes vector code, with the same bits at every width.
#![allow(clippy::inline_always, reason = "inside the function of a width only")]

use std::f64::consts::LOG2_E;

use rlc_compiler::op::{Binary, Unary};

use crate::device::cpu::sweep::exp;

/// Adding it rounds to a whole number, which then stands in the low bits of the sum.
const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52

/// ln 2 in two parts; the first has so few bits that its product with a whole number is exact.
pub const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
/// The rest of ln 2.
pub const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

/// Taylor's polynomial of (e^r - 1 - r - r^2 / 2) / r^3, as sweeps have it: 1 / 3! to 1 / 13!.
pub const TAIL: [f64; 11] = [
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5040.0,
    1.0 / 40_320.0,
    1.0 / 362_880.0,
    1.0 / 3_628_800.0,
    1.0 / 39_916_800.0,
    1.0 / 479_001_600.0,
    1.0 / 6_227_020_800.0,
];

/// 2^k for a whole number k in [-1022, 1023].
#[inline(always)]
fn power_of_two(k: f64) -> f64 {
    f64::from_bits((k + ROUND).to_bits().wrapping_add(1023) << 52)
}

/// e^x - 1, off by at most 2 units in the last place; -1 at -inf, infinite above 709.8, NaN of NaN.
#[inline(always)]
pub fn expm1(x: f64) -> f64 {
    let x = if x > 1000.0 { 1000.0 } else { x };
    // Below, the result is -1.
    let x = if x < -60.0 { -60.0 } else { x };
    let k = (x * LOG2_E + ROUND) - ROUND;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let r2 = r * r;
    let r4 = r2 * r2;
    let r8 = r4 * r4;
    let low = (TAIL[0] + r * TAIL[1]) + r2 * (TAIL[2] + r * TAIL[3]);
    let middle = (TAIL[4] + r * TAIL[5]) + r2 * (TAIL[6] + r * TAIL[7]);
    let high = (TAIL[8] + r * TAIL[9]) + r2 * TAIL[10];
    let tail = low + r4 * middle + r8 * high;
    let fraction = r + (r2 * 0.5 + r2 * r * tail);
    // e^x - 1 = 2^k ((e^r - 1) + (1 - 2^-k)): nothing cancels, and for k = 0 nothing is added.
    let small = if k > 100.0 { 100.0 } else { k };
    let value = fraction + (1.0 - power_of_two(0.0 - small));
    let half = (k * 0.5 + ROUND) - ROUND;
    (value * power_of_two(half)) * power_of_two(k - half)
}

/// An operator on a number, with the bits that it has in a block.
#[inline(always)]
pub fn unary(op: Unary, x: f64) -> f64 {
    match op {
        Unary::Exp => exp(x),
        Unary::Expm1 => expm1(x),
        op => op.eval(x),
    }
}

/// Two numbers folded.
#[inline(always)]
pub fn fold(op: rlc_compiler::hir::ReduceOp, a: f64, b: f64) -> f64 {
    use rlc_compiler::hir::ReduceOp;
    match op {
        ReduceOp::Sum | ReduceOp::LogSumExp => a + b,
        ReduceOp::Prod => a * b,
        ReduceOp::Max => Binary::Max.eval(a, b),
        ReduceOp::Min => Binary::Min.eval(a, b),
    }
}

#[cfg(test)]
mod tests {
    use rlc_compiler::op::Unary;

    use super::expm1;

    #[test]
    fn expm1_is_as_good_as_the_library() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for (x, want) in [(0.0, 0.0), (-0.0, 0.0), (-inf, -1.0), (inf, inf), (1e4, inf), (-1e4, -1.0)] {
            assert_eq!(expm1(x), want, "{x}");
        }
        assert!(expm1(nan).is_nan());
        let mut worst: f64 = 0.0;
        for i in 0..2_000_000 {
            let x = -70.0 + f64::from(i) * 3.85e-4;
            worst = worst.max((expm1(x) / Unary::Expm1.eval(x) - 1.0).abs());
        }
        let mut x = 1e-300;
        while x < 0.8 {
            for x in [x, -x] {
                worst = worst.max((expm1(x) / Unary::Expm1.eval(x) - 1.0).abs());
            }
            x *= 1.01;
        }
        assert!(worst < 5e-16, "{worst:e}");
    }
}
