//! The same blocks in candle's differentiable ops: the reference in tests, and the path for devices other than the CPU.
//!
//! Activations and products are in the type of `x` (f32, or bf16 on a GPU); norms, rotations and softmaxes are computed in
//! f32 whatever it is.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops::sigmoid;

use super::HeadShape;
use crate::config::Config;

pub(crate) mod attention;

pub(crate) fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&w.t()?)?;
    match b {
        None => Ok(y),
        Some(b) => y.broadcast_add(b),
    }
}

pub(crate) fn rms_norm(x: &Tensor, scale: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let mean = wide.sqr()?.mean_keepdim(D::Minus1)?;
    let y = wide.broadcast_div(&(mean + eps)?.sqrt()?)?;
    y.broadcast_mul(&scale.to_dtype(DType::F32)?)?.to_dtype(x.dtype())
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

/// One layer: x `[n, hidden]`; `attend` makes of the rows' queries, keys and values `[n, width]`, before rotation, what
/// the query heads read, `[n, heads x dim]`.
pub(crate) fn block(
    x: &Tensor,
    config: &Config,
    weight: impl Fn(&str) -> Result<Tensor>,
    attend: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (shape, eps) = (HeadShape::of(config), config.rms_norm_eps);
    let project = |x: &Tensor, part: &str, bias: bool| {
        let bias = if bias { Some(weight(&format!("{part}.bias"))?) } else { None };
        linear(x, &weight(&format!("{part}.weight"))?, bias.as_ref())
    };
    let y = rms_norm(x, &weight("input_layernorm.weight")?, eps)?;
    let heads = ["q", "k", "v"]
        .map(|part| project(&y, &format!("self_attn.{part}_proj"), config.qkv_bias()));
    let mut qkv = Tensor::cat(&heads.into_iter().collect::<Result<Vec<_>>>()?, 1)?;
    if config.qk_norm() {
        let (q, k) = (weight("self_attn.q_norm.weight")?, weight("self_attn.k_norm.weight")?);
        qkv = head_norm(&qkv, &q, &k, shape, eps)?;
    }
    let y = attend(&qkv)?;
    let x = (x + project(&y, "self_attn.o_proj", config.attention_bias)?)?;
    let y = rms_norm(&x, &weight("post_attention_layernorm.weight")?, eps)?;
    let gate = project(&y, "mlp.gate_proj", config.mlp_bias)?;
    let up = project(&y, "mlp.up_proj", config.mlp_bias)?;
    let y = ((&gate * sigmoid(&gate)?)? * up)?;
    x + project(&y, "mlp.down_proj", config.mlp_bias)?
}
