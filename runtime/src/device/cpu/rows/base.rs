//! Exponentials of a row.

use std::f64::consts::LOG2_E;

/// 1.5 * 2^23: added to a smaller f32 it leaves the nearest whole number in the low bits.
pub(super) const MAGIC: f32 = 12_582_912.0;

/// How entries of a row become powers of two: `exp(scale * (l - reference))` is `2^((l - reference) * c)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    /// scale * log2(e), rounded.
    pub c: f32,
    /// Taken off before anything is rounded, so that errors do not grow with the size of the logits.
    pub reference: f32,
}

impl Base {
    /// Powers of `exp(scale)`, with nothing taken off; none for scales that f32 cannot hold well.
    pub(super) fn new(scale: f64) -> Option<Base> {
        (1e-20..1e20)
            .contains(&scale)
            .then_some(Base { c: (scale * LOG2_E) as f32, reference: 0.0 })
    }

    /// The whole number nearest to `reference * c`.
    pub(super) fn origin(self) -> f64 {
        (f64::from(self.reference) * f64::from(self.c)).round()
    }
}
