//! The same blocks in candle's differentiable ops: the reference in tests, and the path for devices other than the CPU.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::{sigmoid, softmax};

use super::{HeadShape, Packing};
use crate::config::Config;

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

fn head_norm(qkv: &Tensor, q: &Tensor, k: &Tensor, shape: HeadShape, eps: f64) -> Result<Tensor> {
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

/// `[heads, length, dim]` of one sequence, turned by its positions.
fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(2)? / 2;
    let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let second = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
    Tensor::cat(&[first, second], 2)
}

fn attention(qkv: &Tensor, shape: HeadShape, packing: &Packing) -> Result<Tensor> {
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

pub(crate) fn block(
    x: &Tensor,
    config: &Config,
    packing: &Packing,
    weight: impl Fn(&str) -> Tensor,
) -> Result<Tensor> {
    let (shape, eps) = (HeadShape::of(config), config.rms_norm_eps);
    let project = |x: &Tensor, part: &str, bias: bool| {
        let bias = bias.then(|| weight(&format!("{part}.bias")));
        linear(x, &weight(&format!("{part}.weight")), bias.as_ref())
    };
    let y = rms_norm(x, &weight("input_layernorm.weight"), eps)?;
    let heads = ["q", "k", "v"]
        .map(|part| project(&y, &format!("self_attn.{part}_proj"), config.qkv_bias()));
    let mut qkv = Tensor::cat(&heads.into_iter().collect::<Result<Vec<_>>>()?, 1)?;
    if config.qk_norm() {
        let (q, k) = (weight("self_attn.q_norm.weight"), weight("self_attn.k_norm.weight"));
        qkv = head_norm(&qkv, &q, &k, shape, eps)?;
    }
    let y = attention(&qkv, shape, packing)?;
    let x = (x + project(&y, "self_attn.o_proj", config.attention_bias)?)?;
    let y = rms_norm(&x, &weight("post_attention_layernorm.weight"), eps)?;
    let gate = project(&y, "mlp.gate_proj", config.mlp_bias)?;
    let up = project(&y, "mlp.up_proj", config.mlp_bias)?;
    let y = ((&gate * sigmoid(&gate)?)? * up)?;
    x + project(&y, "mlp.down_proj", config.mlp_bias)?
}
