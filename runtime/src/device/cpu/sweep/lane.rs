//! Functions of one entry, written so that a loop over them becomes vector code, with the same bits at
//! every width: no fused multiply-add, no branch.
#![allow(clippy::inline_always, reason = "inside the function of a width only")]

use std::f64::consts::LOG2_E;

/// Adding it rounds to a whole number, which then stands in the low bits of the sum.
const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52

/// ln 2 in two parts; the first has so few bits that its product with a whole number is exact.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

/// 2^k for a whole number k in [-1022, 1023].
#[inline(always)]
fn power_of_two(k: f64) -> f64 {
    f64::from_bits((k + ROUND).to_bits().wrapping_add(1023) << 52)
}

/// e^x. Off by at most 1 unit in the last place where the result is normal; exp(0) = 1 and
/// exp(-inf) = 0 exactly, infinite above 709.8, NaN of NaN.
#[inline(always)]
pub(in crate::device::cpu) fn exp(x: f64) -> f64 {
    // Beyond these the result is 0 or infinite, and the whole number would not fit.
    let x = if x > 1000.0 { 1000.0 } else { x };
    let x = if x < -1000.0 { -1000.0 } else { x };
    let k = (x * LOG2_E + ROUND) - ROUND;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    // Taylor's polynomial to the 13th power: the rest is below 5e-18 for |r| <= ln 2 / 2.
    let r2 = r * r;
    let r4 = r2 * r2;
    let r8 = r4 * r4;
    let low = (1.0 / 6.0 + r * (1.0 / 24.0)) + r2 * (1.0 / 120.0 + r * (1.0 / 720.0));
    let middle =
        (1.0 / 5040.0 + r * (1.0 / 40_320.0)) + r2 * (1.0 / 362_880.0 + r * (1.0 / 3_628_800.0));
    let high = (1.0 / 39_916_800.0 + r * (1.0 / 479_001_600.0)) + r2 * (1.0 / 6_227_020_800.0);
    let tail = low + r4 * middle + r8 * high;
    let value = 1.0 + (r + (r2 * 0.5 + r2 * r * tail));
    // Two factors, so that results below the normal range come out right.
    let half = (k * 0.5 + ROUND) - ROUND;
    (value * power_of_two(half)) * power_of_two(k - half)
}

#[cfg(test)]
mod tests {
    use rlc_compiler::op::Unary;

    use super::exp;

    #[test]
    fn exp_is_as_good_as_the_library() {
        for (x, want) in [(0.0, 1.0), (f64::NEG_INFINITY, 0.0), (f64::INFINITY, f64::INFINITY)] {
            assert_eq!(exp(x), want);
        }
        assert!(exp(f64::NAN).is_nan());
        assert_eq!(exp(-0.0), 1.0);
        let mut worst: f64 = 0.0;
        for i in 0..2_000_000 {
            let x = -708.0 + f64::from(i) * 7.08e-4;
            worst = worst.max((exp(x) / Unary::Exp.eval(x) - 1.0).abs());
        }
        assert!(worst < 3e-16, "{worst:e}");
        // Below the normal range in steps of the smallest number.
        for x in [-709.0, -720.5, -744.0, -745.2, -800.0] {
            assert!((exp(x) - Unary::Exp.eval(x)).abs() <= 5e-324, "{x}: {:e}", exp(x));
        }
        assert!((exp(709.7) / Unary::Exp.eval(709.7) - 1.0).abs() < 3e-16);
        assert_eq!(exp(710.0), f64::INFINITY);
    }
}
