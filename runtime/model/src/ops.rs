//! The differentiable building blocks of a transformer on packed rows.
//!
//! candle's fused norm, softmax and rotary ops have no backward pass and say nothing about it, and its plain ops cost an
//! allocation and a pass over memory each. So the blocks are our own candle ops with hand-written backward passes, for
//! the CPU; on any other device [`plain`] says the same in differentiable candle ops, and the tests compare the two.
//! A missing backward here is a hard error in candle, never a silent zero.

use std::sync::Arc;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor};

pub(crate) mod attention;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod plain;
pub(crate) mod rope;
pub(crate) mod seed;
pub(crate) mod swiglu;
#[cfg(test)]
mod tests;

pub(crate) use attention::HeadShape;
pub(crate) use rope::Rope;

/// The layout of a batch: sequence lengths, and the rotary table that covers the longest.
#[derive(Clone)]
pub(crate) struct Packing {
    pub lengths: Arc<[usize]>,
    pub rope: Arc<Rope>,
}

/// `x w^T + b`: x `[n, in]`, w `[out, in]`, b `[out]`.
pub(crate) fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return plain::linear(x, w, b);
    }
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    match b {
        None => x.apply_op2(&w, linear::Linear),
        Some(b) => x.apply_op3(&w, &b.contiguous()?, linear::LinearBias),
    }
}

/// RMSNorm of each row: x `[n, d]`, scale `[d]`.
pub(crate) fn rms_norm(x: &Tensor, scale: &Tensor, eps: f64) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return plain::rms_norm(x, scale, eps);
    }
    x.contiguous()?.apply_op2(scale, norm::RmsNorm { eps: eps as f32 })
}

/// RMSNorm of each query and key head of `qkv` rows; values pass through.
pub(crate) fn head_norm(
    qkv: &Tensor,
    q: &Tensor,
    k: &Tensor,
    shape: HeadShape,
    eps: f64,
) -> Result<Tensor> {
    if !qkv.device().is_cpu() {
        return plain::head_norm(qkv, q, k, shape, eps);
    }
    qkv.contiguous()?.apply_op3(q, k, norm::HeadNorm { shape, eps: eps as f32 })
}

/// Rotary embedding and causal attention inside each sequence: qkv `[n, width]` to `[n, heads * head_dim]`.
pub(crate) fn attention(qkv: &Tensor, shape: HeadShape, packing: &Packing) -> Result<Tensor> {
    if !qkv.device().is_cpu() {
        return plain::attention(qkv, shape, packing);
    }
    qkv.contiguous()?.apply_op1(attention::PackedAttention { shape, packing: packing.clone() })
}

/// `silu(gate) * up` of rows `[gate | up]`: `[n, 2 f]` to `[n, f]`.
pub(crate) fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    if !gate_up.device().is_cpu() {
        return plain::swiglu(gate_up);
    }
    gate_up.contiguous()?.apply_op1(swiglu::SwiGlu)
}

/// The elements of a contiguous f32 CPU tensor.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = match storage {
        CpuStorage::F32(data) => data.as_slice(),
        other => candle_core::bail!("an f32 tensor is needed, not {:?}", other.dtype_of()),
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => candle_core::bail!("a contiguous tensor is needed, not {layout:?}"),
    }
}

trait DtypeOf {
    fn dtype_of(&self) -> candle_core::DType;
}

impl DtypeOf for CpuStorage {
    fn dtype_of(&self) -> candle_core::DType {
        use candle_core::backend::BackendStorage;
        self.dtype()
    }
}

/// Lends the elements of a CPU tensor to `f`; a strided one is packed first.
pub(crate) fn with_slice<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(slice(storage, layout)?),
        _ => candle_core::bail!("a CPU tensor is needed"),
    }
}

/// Runs `work(item)` for every item, on all threads if there is more than one.
pub(crate) fn each<T: Send>(items: Vec<T>, work: impl Fn(T) + Sync + Send) {
    use rayon::prelude::*;
    if rayon::current_num_threads() > 1 && items.len() > 1 {
        items.into_par_iter().for_each(work);
    } else {
        items.into_iter().for_each(work);
    }
}

/// Runs `work(item)` for every item and keeps the results in order.
pub(crate) fn map_each<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> R + Sync + Send,
) -> Vec<R> {
    use rayon::prelude::*;
    if rayon::current_num_threads() > 1 && items.len() > 1 {
        items.into_par_iter().map(work).collect()
    } else {
        items.into_iter().map(work).collect()
    }
}

/// Rows that one task handles: fixed, so that partial sums do not depend on the number of threads.
pub(crate) const ROWS_PER_TASK: usize = 256;
