//! The same blocks in candle's differentiable ops: the reference in tests, and the path for devices other than the CPU.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::{sigmoid, softmax};

use super::{HeadShape, Packing};

pub(crate) fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&w.t()?)?;
    match b {
        None => Ok(y),
        Some(b) => y.broadcast_add(b),
    }
}

pub(crate) fn rms_norm(x: &Tensor, scale: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean + eps)?.sqrt()?)?.broadcast_mul(scale)
}

pub(crate) fn head_norm(
    qkv: &Tensor,
    q: &Tensor,
    k: &Tensor,
    shape: HeadShape,
    eps: f64,
) -> Result<Tensor> {
    let n = qkv.dim(0)?;
    let heads = |from: usize, count: usize| {
        qkv.narrow(1, from, count * shape.dim)?.contiguous()?.reshape((n, count, shape.dim))
    };
    let flat = |x: Tensor, count: usize| x.reshape((n, count * shape.dim));
    let normed_q = flat(rms_norm(&heads(0, shape.heads)?, q, eps)?, shape.heads)?;
    let normed_k = flat(rms_norm(&heads(shape.key(0), shape.kv_heads)?, k, eps)?, shape.kv_heads)?;
    let v = qkv.narrow(1, shape.value(0), shape.kv_heads * shape.dim)?;
    Tensor::cat(&[normed_q, normed_k, v.contiguous()?], 1)
}

pub(crate) fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let parts = gate_up.chunk(2, 1)?;
    let gate = parts[0].contiguous()?;
    (&gate * sigmoid(&gate)?)? * parts[1].contiguous()?
}

/// `[heads, length, dim]` of one sequence, turned by its positions.
fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(2)? / 2;
    let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let second = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
    Tensor::cat(&[first, second], 2)
}

pub(crate) fn attention(qkv: &Tensor, shape: HeadShape, packing: &Packing) -> Result<Tensor> {
    let device = qkv.device();
    let mut parts = Vec::with_capacity(packing.lengths.len());
    let mut start = 0;
    for &length in packing.lengths.iter() {
        let rows = qkv.narrow(0, start, length)?;
        start += length;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in 0..length {
            let (c, s) = packing.rope.at(position);
            cos.extend_from_slice(c);
            sin.extend_from_slice(s);
        }
        let table = |values| Tensor::from_vec(values, (length, shape.dim / 2), device);
        let (cos, sin) = (table(cos)?, table(sin)?);
        let heads = |from: usize, count: usize| {
            rows.narrow(1, from, count * shape.dim)?
                .contiguous()?
                .reshape((length, count, shape.dim))?
                .transpose(0, 1)?
                .contiguous()
        };
        let spread = |x: Tensor| {
            // Each key head serves `group` neighbouring query heads.
            let group = shape.group();
            x.unsqueeze(1)?
                .broadcast_as((shape.kv_heads, group, length, shape.dim))?
                .contiguous()?
                .reshape((shape.heads, length, shape.dim))
        };
        let q = rotate(&heads(0, shape.heads)?, &cos, &sin)?;
        let k = spread(rotate(&heads(shape.key(0), shape.kv_heads)?, &cos, &sin)?)?;
        let v = spread(heads(shape.value(0), shape.kv_heads)?)?;
        let scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? * f64::from(shape.scale()))?;
        let mask: Vec<f32> = (0..length * length)
            .map(|at| if at % length > at / length { f32::NEG_INFINITY } else { 0.0 })
            .collect();
        let mask = Tensor::from_vec(mask, (length, length), device)?;
        let probs = softmax(&scores.broadcast_add(&mask)?, D::Minus1)?;
        parts
            .push(probs.matmul(&v)?.transpose(0, 1)?.contiguous()?.reshape((length, shape.out()))?);
    }
    Tensor::cat(&parts, 0)
}
