//! The same in plain f64, one entry at a time: for f64 rows and rows out of the ordinary.

use super::block::{Source, Target};
use super::gradient::{Place, Terms};
use super::statistics::{Beside, Statistics, Wanted};

/// The largest number; NaN where there is one.
fn largest(x: impl Iterator<Item = f64>) -> f64 {
    x.fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || a > b { a } else { b })
}

/// exp(x - shift), 0 at minus infinity whatever the shift.
fn power(x: f64, shift: f64) -> f64 {
    if x == f64::NEG_INFINITY { 0.0 } else { (x - shift).exp() }
}

/// `p * f`, 0 where p is 0.
fn weighted(p: f64, f: f64) -> f64 {
    if p == 0.0 { 0.0 } else { p * f }
}

/// # Safety
///
/// The row and the one beside it have `len` entries.
pub(super) unsafe fn statistics(
    row: Source,
    len: usize,
    scale: f64,
    wanted: &Wanted<'_>,
) -> Statistics {
    // SAFETY: promised by the caller.
    let logit = |i: usize| unsafe { row.get(i) };
    let max = largest((0..len).map(|i| logit(i) * scale));
    let top = if max == f64::NEG_INFINITY { 0.0 } else { max };
    let none = f64::NAN;
    let mut out = Statistics {
        max,
        sum: 0.0,
        moment: 0.0,
        square: 0.0,
        beside: 0.0,
        origin: 0.0,
        lowest: 0.0,
    };
    for i in 0..len {
        let below = logit(i) * scale - top;
        let e = power(logit(i) * scale, top);
        out.sum += e;
        out.moment += weighted(e, below);
        out.square += e * e;
    }
    if !wanted.moment {
        out.moment = none;
    }
    if !wanted.square {
        out.square = none;
    }
    let Some(Beside { row: beside, share }) = wanted.beside else {
        (out.beside, out.origin, out.lowest) = (none, none, none);
        return out;
    };
    let most = (0..len).find(|i| logit(*i) * scale == max).map_or(0.0, |i| beside.get(i));
    out.origin = if most.is_finite() { most } else { 0.0 };
    let least = |x: f64, y: f64| if y < x { y } else { x };
    out.lowest = (0..len).map(|i| least(logit(i), beside.get(i))).fold(f64::INFINITY, least);
    for i in 0..len {
        let apart = (beside.get(i) - out.origin) - share * (logit(i) - top / scale);
        out.beside += weighted(power(logit(i) * scale, top), apart);
    }
    out
}

/// # Safety
///
/// Rows and target have `len` entries; the target may be one of the rows.
pub(super) unsafe fn gradient(len: usize, terms: &[Terms], add: &[(usize, f64)], target: Target) {
    // Entries are read before they are written, and never again.
    for i in 0..len {
        let mut value = 0.0;
        for t in terms {
            let Place { logits, scale } = t.row;
            // SAFETY: promised by the caller.
            let logit = unsafe { logits.get(i) };
            let log_p = logit * scale - t.lse;
            let p = log_p.exp();
            let mut factor = t.p + t.p_squared * p;
            if t.p_log_p != 0.0 {
                factor += t.p_log_p * log_p;
            }
            if let Some((other, y)) = t.other {
                // SAFETY: promised by the caller.
                factor += y * unsafe { other.get(i) };
            }
            value += weighted(p, factor);
        }
        value += add.iter().filter(|a| a.0 == i).map(|a| a.1).sum::<f64>();
        // SAFETY: promised by the caller.
        unsafe { target.set(i, value as f32) };
    }
}
