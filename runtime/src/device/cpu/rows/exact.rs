//! The same in plain f64, one entry at a time: for f64 rows and rows out of the ordinary.

use super::block::{Out, bf16};
use super::statistics::{Pair, Statistics, Wanted};
use super::{Gradient, Row};

impl Row<'_> {
    fn at(&self, i: usize) -> f64 {
        self.logits.get(i) * self.scale
    }
}

/// The largest entry; NaN where there is one.
fn largest(row: Row) -> f64 {
    (0..row.logits.len())
        .map(|i| row.at(i))
        .fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || a > b { a } else { b })
}

/// exp(x - shift), 0 at minus infinity whatever the shift.
fn power(x: f64, shift: f64) -> f64 {
    if x == f64::NEG_INFINITY { 0.0 } else { (x - shift).exp() }
}

/// `p * f`, 0 where p is 0.
fn weighted(p: f64, f: f64) -> f64 {
    if p == 0.0 { 0.0 } else { p * f }
}

pub(super) fn statistics(x: Row, y: Option<Row>, wanted: Wanted) -> Pair {
    let other = y.unwrap_or(Row { logits: x.logits.slice(0..0), scale: 1.0 });
    let none = |max| Statistics { max, sum: 0.0, moment: 0.0, square: 0.0 };
    let mut pair =
        Pair { x: none(largest(x)), y: none(largest(other)), forward: 0.0, reverse: 0.0 };
    let finite = |max: f64| if max == f64::NEG_INFINITY { 0.0 } else { max };
    let tops = [finite(pair.x.max), finite(pair.y.max)];
    for i in 0..x.logits.len() {
        let below = x.at(i) - tops[0];
        let e = power(x.at(i), tops[0]);
        pair.x.sum += e;
        pair.x.moment += weighted(e, below);
        pair.x.square += e * e;
        if let Some(y) = y {
            let apart = below - (y.at(i) - tops[1]);
            let other = power(y.at(i), tops[1]);
            pair.y.sum += other;
            pair.forward += weighted(e, apart);
            pair.reverse -= weighted(other, apart);
        }
    }
    (pair.y.moment, pair.y.square) = (f64::NAN, f64::NAN);
    if !wanted.moment {
        pair.x.moment = f64::NAN;
    }
    if !wanted.square {
        pair.x.square = f64::NAN;
    }
    pair
}

pub(super) fn gradient(x: Row, how: &Gradient, mut out: Out) {
    for i in 0..x.logits.len() {
        let log_p = x.at(i) - how.lse;
        let p = log_p.exp();
        let mut factor = how.p + how.p_squared * p;
        if how.p_log_p != 0.0 {
            factor += how.p_log_p * log_p;
        }
        let mut value = 0.0;
        if let Some(other) = &how.other {
            let log_q = other.row.at(i) - other.lse;
            if other.p_log_q != 0.0 {
                factor += other.p_log_q * log_q;
            }
            if other.q != 0.0 {
                value = other.q * log_q.exp();
            }
        }
        value += weighted(p, factor);
        value += how.add.iter().filter(|a| a.0 == i).map(|a| a.1).sum::<f64>();
        match &mut out {
            Out::F32(out) => out[i] = value as f32,
            Out::Bf16(out) => out[i] = bf16(value as f32),
        }
    }
}
