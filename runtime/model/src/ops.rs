//! The differentiable building blocks of a transformer on packed rows.
//!
//! candle's fused norm, softmax and rotary ops have no backward pass and say nothing about it, and its plain ops cost an
//! allocation and a pass over memory each. So a layer, the last norm and the output projection are our own candle ops with
//! hand-written backward passes, for the CPU; on any other device [`plain`] says the same in differentiable candle ops,
//! and the tests compare the two.
//! A missing backward here is a hard error in candle, never a silent zero.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout, Result, Storage, Tensor};

use crate::config::Config;

pub(crate) mod attention;
pub(crate) mod block;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod plain;
pub(crate) mod rope;
pub(crate) mod seed;
pub(crate) mod swiglu;
#[cfg(test)]
mod tests;

pub(crate) use attention::HeadShape;
pub(crate) use block::Parts;
pub(crate) use rope::Rope;

/// The layout of a batch: sequence lengths, and the rotary table that covers the longest.
#[derive(Clone)]
pub(crate) struct Packing {
    pub lengths: Arc<[usize]>,
    pub rope: Arc<Rope>,
}

/// `x w^T`: x `[n, in]`, w `[out, in]`.
pub(crate) fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&w.contiguous()?, linear::Linear)
}

/// RMSNorm of each row: x `[n, d]`, scale `[d]`.
pub(crate) fn rms_norm(x: &Tensor, scale: &Tensor, eps: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op2(scale, norm::RmsNorm { eps: eps as f32 })
}

/// One layer: x `[n, hidden]`; `weight(name)` gives the layer's tensors by name (`self_attn.q_proj.weight`).
pub(crate) fn block(
    x: &Tensor,
    config: &Config,
    parts: &Parts,
    packing: &Packing,
    train: bool,
    weight: impl Fn(&str) -> Tensor,
) -> Result<Tensor> {
    let flat = parts.names.iter().map(|name| weight(name).flatten_all());
    let flat = Tensor::cat(&flat.collect::<Result<Vec<_>>>()?, 0)?;
    let op = block::Block::new(config, parts, packing, train);
    let x = x.contiguous()?;
    if train { x.apply_op2(&flat, op) } else { x.apply_op2_no_bwd(&flat, &op) }
}

/// The elements of a contiguous f32 CPU tensor.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = match storage {
        CpuStorage::F32(data) => data.as_slice(),
        other => candle_core::bail!("an f32 tensor is needed, not {:?}", other.dtype()),
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => candle_core::bail!("a contiguous tensor is needed, not {layout:?}"),
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
