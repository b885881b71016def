//! RMSNorm of whole rows, and of the query and key heads inside a row, with their backward passes.
//!
//! With r = 1 / sqrt(mean(x^2) + eps): y = x r w, dx = r (w dy) - x r^3 / d * sum(w dy x), dw = sum over rows of dy x r.
#![allow(
    clippy::inline_always,
    reason = "kernels must be inlined into their dispatch, see simd.rs"
)]

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{HeadShape, ROWS_PER_TASK, each, map_each, slice, with_slice};
use crate::simd::{Kernel, dot, run};

/// x `[n, d]`, scale `[d]` to `[n, d]`.
pub(crate) struct RmsNorm {
    pub eps: f32,
}

/// A row is a number of heads of equal width; each head is scaled by one of two vectors or copied.
#[derive(Clone, Copy)]
struct Plan<'a> {
    /// Heads of the first kind, of the second, and copied ones.
    heads: [usize; 3],
    dim: usize,
    scales: [&'a [f32]; 2],
    eps: f32,
}

impl Plan<'_> {
    fn width(&self) -> usize {
        self.heads.iter().sum::<usize>() * self.dim
    }

    #[inline(always)]
    fn kind(&self, head: usize) -> usize {
        if head < self.heads[0] {
            0
        } else if head < self.heads[0] + self.heads[1] {
            1
        } else {
            2
        }
    }
}

#[inline(always)]
fn inverse_rms<const FMA: bool>(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot::<FMA>(x, x) / x.len() as f32 + eps).sqrt()
}

struct Forward<'a> {
    plan: Plan<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (plan, dim) = (self.plan, self.plan.dim);
        let width = plan.width();
        for (x, y) in self.x.chunks_exact(width).zip(self.y.chunks_exact_mut(width)) {
            for (head, (x, y)) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)).enumerate() {
                let kind = plan.kind(head);
                if kind == 2 {
                    y.copy_from_slice(x);
                    continue;
                }
                let r = inverse_rms::<FMA>(x, plan.eps);
                for ((y, x), w) in y.iter_mut().zip(x).zip(plan.scales[kind]) {
                    *y = x * r * w;
                }
            }
        }
    }
}

struct Backward<'a> {
    plan: Plan<'a>,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    /// The gradients of the two scales from these rows.
    type Output = [Vec<f32>; 2];

    #[inline(always)]
    fn run<const FMA: bool>(self) -> [Vec<f32>; 2] {
        let (plan, dim) = (self.plan, self.plan.dim);
        let width = plan.width();
        let mut dw = plan.scales.map(|s| vec![0f32; s.len()]);
        let mut wdy = vec![0f32; dim];
        let rows = self.x.chunks_exact(width).zip(self.dy.chunks_exact(width));
        for ((x, dy), dx) in rows.zip(self.dx.chunks_exact_mut(width)) {
            let heads = x.chunks_exact(dim).zip(dy.chunks_exact(dim));
            for (head, ((x, dy), dx)) in heads.zip(dx.chunks_exact_mut(dim)).enumerate() {
                let kind = plan.kind(head);
                if kind == 2 {
                    dx.copy_from_slice(dy);
                    continue;
                }
                let r = inverse_rms::<FMA>(x, plan.eps);
                for (((dw, wdy), (x, dy)), w) in
                    dw[kind].iter_mut().zip(&mut wdy).zip(x.iter().zip(dy)).zip(plan.scales[kind])
                {
                    *dw += dy * x * r;
                    *wdy = w * dy;
                }
                let pull = dot::<FMA>(&wdy, x) * r * r * r / dim as f32;
                for ((dx, x), wdy) in dx.iter_mut().zip(x).zip(&wdy) {
                    *dx = r * wdy - x * pull;
                }
            }
        }
        dw
    }
}

fn forward_rows(plan: Plan<'_>, x: &[f32], y: &mut [f32]) {
    let chunk = ROWS_PER_TASK * plan.width();
    let tasks: Vec<_> = x.chunks(chunk).zip(y.chunks_mut(chunk)).collect();
    each(tasks, |(x, y)| run(Forward { plan, x, y }));
}

fn backward_rows(plan: Plan<'_>, x: &[f32], dy: &[f32]) -> (Vec<f32>, [Vec<f32>; 2]) {
    let chunk = ROWS_PER_TASK * plan.width();
    let mut dx = vec![0f32; x.len()];
    let tasks: Vec<_> = x.chunks(chunk).zip(dy.chunks(chunk)).zip(dx.chunks_mut(chunk)).collect();
    let parts = map_each(tasks, |((x, dy), dx)| run(Backward { plan, x, dy, dx }));
    let mut dw = plan.scales.map(|s| vec![0f32; s.len()]);
    for part in parts {
        for (sum, part) in dw.iter_mut().zip(part) {
            for (s, p) in sum.iter_mut().zip(part) {
                *s += p;
            }
        }
    }
    (dx, dw)
}

/// Normalises rows of `x` `[n, scale.len()]` into `y`.
pub(crate) fn rows(x: &[f32], y: &mut [f32], scale: &[f32], eps: f32) {
    forward_rows(whole(scale, eps), x, y);
}

/// Normalises the query and key heads of `qkv` rows into `y`.
pub(crate) fn heads(qkv: &[f32], y: &mut [f32], shape: HeadShape, scales: [&[f32]; 2], eps: f32) {
    forward_rows(by_head(shape, scales, eps), qkv, y);
}

/// Gradients of [`rows`]: of `x`, and of the scale.
pub(crate) fn rows_backward(
    x: &[f32],
    dy: &[f32],
    scale: &[f32],
    eps: f32,
) -> (Vec<f32>, Vec<f32>) {
    let (dx, [dw, _]) = backward_rows(whole(scale, eps), x, dy);
    (dx, dw)
}

/// Gradients of [`heads`]: of `qkv`, and of the two scales.
pub(crate) fn heads_backward(
    qkv: &[f32],
    dy: &[f32],
    shape: HeadShape,
    scales: [&[f32]; 2],
    eps: f32,
) -> (Vec<f32>, [Vec<f32>; 2]) {
    backward_rows(by_head(shape, scales, eps), qkv, dy)
}

fn whole(scale: &[f32], eps: f32) -> Plan<'_> {
    Plan { heads: [1, 0, 0], dim: scale.len(), scales: [scale, &[]], eps }
}

fn by_head(shape: HeadShape, scales: [&[f32]; 2], eps: f32) -> Plan<'_> {
    Plan { heads: [shape.heads, shape.kv_heads, shape.kv_heads], dim: shape.dim, scales, eps }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, d) = xl.shape().dims2()?;
        let (x, w) = (slice(x, xl)?, slice(w, wl)?);
        if w.len() != d {
            candle_core::bail!("rms-norm: rows of width {d}, scale of {}", w.len());
        }
        let mut y = vec![0f32; x.len()];
        rows(x, &mut y, w, self.eps);
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = with_slice(x, |x| {
            with_slice(w, |w| with_slice(grad, |dy| Ok(rows_backward(x, dy, w, self.eps))))
        })?;
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), x.device())?),
            Some(Tensor::from_vec(dw, w.shape(), x.device())?),
        ))
    }
}
