//! `silu(gate) * up` in one pass, forward and backward.
#![allow(
    clippy::inline_always,
    reason = "kernels must be inlined into their dispatch, see simd.rs"
)]

use super::{ROWS_PER_TASK, each};
use crate::simd::{Kernel, exp, run};

struct Forward<'a> {
    y: &'a mut [f32],
    gate_up: &'a [f32],
    width: usize,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let f = self.width;
        for (y, x) in self.y.chunks_exact_mut(f).zip(self.gate_up.chunks_exact(2 * f)) {
            let (gate, up) = x.split_at(f);
            for j in 0..f {
                y[j] = gate[j] / (1.0 + exp::<FMA>(-gate[j])) * up[j];
            }
        }
    }
}

struct Backward<'a> {
    dx: &'a mut [f32],
    gate_up: &'a [f32],
    dy: &'a [f32],
    width: usize,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let f = self.width;
        let rows = self.dx.chunks_exact_mut(2 * f).zip(self.gate_up.chunks_exact(2 * f));
        for ((dx, x), dy) in rows.zip(self.dy.chunks_exact(f)) {
            let (gate, up) = x.split_at(f);
            let (dgate, dup) = dx.split_at_mut(f);
            let (gate, up, dy) = (&gate[..f], &up[..f], &dy[..f]);
            for j in 0..f {
                let s = 1.0 / (1.0 + exp::<FMA>(-gate[j]));
                dup[j] = dy[j] * gate[j] * s;
                dgate[j] = dy[j] * up[j] * s * (1.0 + gate[j] * (1.0 - s));
            }
        }
    }
}

/// Fills `y` `[n, width]` from `gate_up` `[n, 2 width]`.
pub(crate) fn forward(y: &mut [f32], gate_up: &[f32], width: usize) {
    let tasks: Vec<_> = y
        .chunks_mut(ROWS_PER_TASK * width)
        .zip(gate_up.chunks(ROWS_PER_TASK * 2 * width))
        .collect();
    each(tasks, |(y, gate_up)| run(Forward { y, gate_up, width }));
}

/// Fills `dx` `[n, 2 width]` from `gate_up` and the gradient `dy` `[n, width]`.
pub(crate) fn backward(dx: &mut [f32], gate_up: &[f32], dy: &[f32], width: usize) {
    let tasks: Vec<_> = dx
        .chunks_mut(ROWS_PER_TASK * 2 * width)
        .zip(gate_up.chunks(ROWS_PER_TASK * 2 * width))
        .zip(dy.chunks(ROWS_PER_TASK * width))
        .collect();
    each(tasks, |((dx, gate_up), dy)| run(Backward { dx, gate_up, dy, width }));
}
