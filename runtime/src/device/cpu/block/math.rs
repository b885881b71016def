//! Functions of one row, written so that a loop over them becomes vector code, with the same bits at every width.
//!
//! Exponentials are made of fused multiply-adds and a table of 2^(j/16): half the instructions of those that sweeps
//! have, and as exact. On a machine without such instructions they are calls, and slow.
#![allow(clippy::inline_always, reason = "inside the function of a width only")]

use std::f64::consts::LOG2_E;

use rlc_compiler::hir::ReduceOp;
use rlc_compiler::op::{Binary, Unary};

/// Adding it rounds to sixteenths, the number of which then stands in the low bits of the sum.
pub const ROUND: f64 = 422_212_465_065_984.0; // 1.5 * 2^48

/// ln 2 in two parts; the first has so few bits that its product with a number of sixteenths is exact.
pub const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
/// The rest of ln 2.
pub const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

/// Taylor's polynomial of (e^r - 1 - r) / r^2: 1 / 2! to 1 / 7!, off by less than 6e-17 r for |r| <= ln 2 / 32.
pub const TAYLOR: [f64; 6] =
    [1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0];

/// 2^(j/16).
pub const POWERS: [f64; 16] = [
    f64::from_bits(0x3ff0_0000_0000_0000),
    f64::from_bits(0x3ff0_b558_6cf9_890f),
    f64::from_bits(0x3ff1_72b8_3c7d_517b),
    f64::from_bits(0x3ff2_387a_6e75_6238),
    f64::from_bits(0x3ff3_06fe_0a31_b715),
    f64::from_bits(0x3ff3_dea6_4c12_3422),
    f64::from_bits(0x3ff4_bfda_d536_2a27),
    f64::from_bits(0x3ff5_ab07_dd48_5429),
    f64::from_bits(0x3ff6_a09e_667f_3bcd),
    f64::from_bits(0x3ff7_a114_73eb_0187),
    f64::from_bits(0x3ff8_ace5_422a_a0db),
    f64::from_bits(0x3ff9_c491_82a3_f090),
    f64::from_bits(0x3ffa_e89f_995a_d3ad),
    f64::from_bits(0x3ffc_199b_dd85_529c),
    f64::from_bits(0x3ffd_5818_dcfb_a487),
    f64::from_bits(0x3ffe_a4af_a2a4_90da),
];

/// What [`POWERS`] lack, as a share of each.
pub const RESTS: [f64; 16] = [
    f64::from_bits(0x0000_0000_0000_0000),
    f64::from_bits(0x3c97_9aa6_5d83_7b6d),
    f64::from_bits(0xbc80_1b15_eaa5_9348),
    f64::from_bits(0x3c96_8efd_e3a8_a894),
    f64::from_bits(0x3c83_4d75_4db0_abb6),
    f64::from_bits(0x3c85_9f48_a72a_4c6d),
    f64::from_bits(0x3c76_90ce_bb7a_afb0),
    f64::from_bits(0x3c90_63e1_e21c_5409),
    f64::from_bits(0xbc93_b3ef_bf5e_2228),
    f64::from_bits(0xbc7b_32dc_b94d_a51d),
    f64::from_bits(0x3c8d_b72f_c1f0_eab4),
    f64::from_bits(0x3c71_affc_2b91_ce27),
    f64::from_bits(0x3c8c_1a77_92cb_3387),
    f64::from_bits(0x3c73_6eae_30af_0cb3),
    f64::from_bits(0x3c74_a385_a63d_07a7),
    f64::from_bits(0xbc8f_f712_8fd3_91f0),
];

/// 2^k for a whole number k in [-1022, 1023].
#[inline(always)]
fn power_of_two(k: i64) -> f64 {
    f64::from_bits(((k + 1023) as u64) << 52)
}

/// x as k ln 2 + r with k in sixteenths: k, the number of sixteenths, and e^r - 1.
#[inline(always)]
fn reduced(x: f64) -> (i64, f64) {
    let sum = x.mul_add(LOG2_E, ROUND);
    let sixteenths = sum.to_bits().wrapping_sub(ROUND.to_bits()) as i64;
    let k = sum - ROUND;
    let r = (-k).mul_add(LN2_LOW, (-k).mul_add(LN2_HIGH, x));
    let r2 = r * r;
    let low = r.mul_add(TAYLOR[1], TAYLOR[0]);
    let middle = r.mul_add(TAYLOR[3], TAYLOR[2]);
    let high = r.mul_add(TAYLOR[5], TAYLOR[4]);
    (sixteenths, r2.mul_add(r2.mul_add(r2.mul_add(high, middle), low), r))
}

/// x * 2^n, in two factors, so that results below the normal range come out right.
#[inline(always)]
fn scaled(x: f64, n: i64) -> f64 {
    let half = n >> 1;
    (x * power_of_two(half)) * power_of_two(n - half)
}

/// e^x, off by at most 1 unit in the last place where the result is normal; exp(0) = 1 and exp(-inf) = 0 exactly,
/// infinite above 709.8, NaN of NaN.
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    // Beyond these the result is 0 or infinite, and the whole number would not fit.
    let x = if x > 1000.0 { 1000.0 } else { x };
    let x = if x < -1000.0 { -1000.0 } else { x };
    let (sixteenths, part) = reduced(x);
    let power = POWERS[(sixteenths & 15) as usize];
    scaled(power.mul_add(part, power), sixteenths >> 4)
}

/// e^x - 1, off by at most 2 units in the last place; -1 at -inf, infinite above 709.8, NaN of NaN.
#[inline(always)]
pub fn expm1(x: f64) -> f64 {
    // Beyond, the result is infinite; below, it is -1.
    let x = if x > MOST { MOST } else { x };
    let x = if x < LEAST { LEAST } else { x };
    let (sixteenths, part) = reduced(x);
    let (power, rest) = (POWERS[(sixteenths & 15) as usize], RESTS[(sixteenths & 15) as usize]);
    // s (e^r (1 + rest) - 1/s) for s = 2^n power, where rest is what the power lacks. Near 2^1024 it is half of that.
    let n = sixteenths >> 4;
    let half = n >= HALVED as i64;
    let s = power * power_of_two(if half { n - 1 } else { n });
    let less_one = s.mul_add(part + rest, s - if half { 0.5 } else { 1.0 });
    if half { less_one + less_one } else { less_one }
}

/// Arguments of [`expm1`] between which the result is neither -1 nor infinite.
pub const LEAST: f64 = -60.0;
/// The largest of them.
pub const MOST: f64 = 710.0;
/// Powers of two from which on [`expm1`] computes half of its result.
pub const HALVED: f64 = 1001.0;

/// An operator on a number, with the bits that it has in a block.
#[inline(always)]
pub fn unary(op: Unary, x: f64) -> f64 {
    match op {
        Unary::Exp => exp(x),
        Unary::Expm1 => expm1(x),
        Unary::Neg => -x,
        op => op.eval(x),
    }
}

/// An operator on two numbers; those of most numbers of a segment without a call.
#[inline(always)]
pub fn binary(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Chain => {
            let product = a * b;
            if a == 0.0 { 0.0 } else { product }
        }
        op => op.eval(a, b),
    }
}

/// Two numbers folded.
#[inline(always)]
pub fn fold(op: ReduceOp, a: f64, b: f64) -> f64 {
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

    use super::{exp, expm1};

    /// Largest relative difference to the library, over the numbers from `low` to `high` and tiny ones.
    fn worst(own: fn(f64) -> f64, of: Unary, low: f64, high: f64) -> f64 {
        let mut worst: f64 = 0.0;
        let mut check = |x: f64| worst = worst.max((own(x) / of.eval(x) - 1.0).abs());
        for i in 0..1_000_000 {
            check(low + f64::from(i) * (high - low) * 1e-6);
        }
        let mut x = 1e-300;
        while x < 0.8 {
            check(x);
            check(-x);
            x *= 1.01;
        }
        worst
    }

    #[test]
    fn exponentials_are_as_good_as_the_library() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for (x, want) in [(0.0, 1.0), (-0.0, 1.0), (-inf, 0.0), (inf, inf), (1e4, inf), (-1e4, 0.0)]
        {
            assert_eq!(exp(x), want, "{x}");
        }
        for (x, want) in [(0.0, 0.0), (-inf, -1.0), (inf, inf), (1e4, inf), (-1e4, -1.0)] {
            assert_eq!(expm1(x), want, "{x}");
        }
        assert!(exp(nan).is_nan() && expm1(nan).is_nan());
        let found = worst(exp, Unary::Exp, -707.0, 709.0);
        assert!(found < 4e-16, "{found:e}");
        let found = worst(expm1, Unary::Expm1, -70.0, 709.0);
        assert!(found < 5e-16, "{found:e}");
        // Below the normal range in steps of the smallest number.
        for x in [-709.0, -720.5, -744.0, -745.2, -800.0] {
            assert!((exp(x) - Unary::Exp.eval(x)).abs() <= 5e-324, "{x}: {:e}", exp(x));
        }
    }
}
