//! Exponents in powers of two.

use std::f64::consts::{LN_2, LOG2_E};

/// 1.5 * 2^23: added to a smaller f32 it leaves the nearest whole number in the low bits.
pub(super) const MAGIC: f32 = 12_582_912.0;
/// Exponents of two beyond this are left to [`super::exact`].
const FURTHEST: f64 = 2_097_152.0;

/// How entries of a row become powers of two: `exp(scale * l - shift) = 2^(l * (c + c_low) - n) * 2^-rest`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    /// scale * log2(e).
    pub wide: f64,
    /// The same, rounded.
    pub c: f32,
    /// What rounding took off.
    pub c_low: f32,
    /// Whole part of `shift` in powers of two.
    pub n: f32,
}

impl Base {
    /// Powers of `exp(scale)`, with nothing taken off; none for scales that f32 cannot hold well.
    pub(super) fn new(scale: f64) -> Option<Base> {
        if !(1e-20..1e20).contains(&scale) {
            return None;
        }
        let wide = scale * LOG2_E;
        let c = wide as f32;
        Some(Base { wide, c, c_low: (wide - f64::from(c)) as f32, n: 0.0 })
    }

    /// Takes the whole part of `shift` (in units of e) off, and returns `rest`, between -0.5 and 0.5;
    /// none where the vectors are not exact enough.
    pub(super) fn shift(&mut self, shift: f64) -> Option<f64> {
        let exponent = shift / LN_2;
        if exponent.is_nan() || exponent.abs() > FURTHEST {
            return None;
        }
        let n = exponent.round();
        self.n = n as f32;
        Some(exponent - n)
    }
}
