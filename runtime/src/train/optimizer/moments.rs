//! Moments of a parameter and its update: one sweep in place on the CPU, candle's ops on any other device.

use std::cell::RefCell;

use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Storage, Tensor, Var};
use rayon::prelude::*;

use super::super::error::{Result, TrainError};

/// First and second moments of a parameter, f32.
pub(super) enum Moments {
    Host([Vec<f32>; 2]),
    /// Beside the parameter; nothing before the first step.
    Device(Option<[Tensor; 2]>),
}

impl Moments {
    pub fn zeros(var: &Var) -> Self {
        if !var.device().is_cpu() {
            return Moments::Device(None);
        }
        let zeros = || vec![0f32; var.elem_count()];
        Moments::Host([zeros(), zeros()])
    }

    /// Saved ones.
    pub fn from(var: &Var, saved: &[Tensor; 2]) -> Result<Self> {
        let [first, second] = saved;
        if var.device().is_cpu() {
            let values = |t: &Tensor| t.flatten_all()?.to_vec1();
            return Ok(Moments::Host([values(first)?, values(second)?]));
        }
        let there = |t: &Tensor| t.to_device(var.device());
        Ok(Moments::Device(Some([there(first)?, there(second)?])))
    }

    /// As they are saved.
    pub fn tensors(&self, var: &Var) -> Result<[Tensor; 2]> {
        Ok(match self {
            Moments::Host(both) => {
                let tensor = |m: &Vec<f32>| Tensor::from_slice(m, var.shape(), &Device::Cpu);
                [tensor(&both[0])?, tensor(&both[1])?]
            }
            Moments::Device(Some([first, second])) => {
                [first.to_device(&Device::Cpu)?, second.to_device(&Device::Cpu)?]
            }
            Moments::Device(None) => {
                let zeros = Tensor::zeros(var.shape(), DType::F32, &Device::Cpu)?;
                [zeros.clone(), zeros]
            }
        })
    }

    /// Moves the parameter.
    pub fn step(&mut self, var: &Var, grad: &Tensor, sweep: Sweep) -> Result<()> {
        match self {
            Moments::Host([first, second]) => {
                let moments = RefCell::new([first, second]);
                var.as_tensor().inplace_op2(&grad.contiguous()?, &InPlace { sweep, moments })?;
            }
            Moments::Device(kept) => {
                let Sweep { clip, betas, rest, rate, correct, eps, keep } = sweep;
                let scaled = |x: &Tensor, by: f32| x.affine(f64::from(by), 0.0);
                let g = scaled(&grad.to_dtype(DType::F32)?, clip)?;
                let mean = |old: Option<&Tensor>, new: Tensor| match old {
                    Some(old) => old + new,
                    None => Ok(new),
                };
                let old = kept.as_ref().map(|m| [scaled(&m[0], betas[0]), scaled(&m[1], betas[1])]);
                let (m, v) = match old {
                    Some([m, v]) => (Some(m?), Some(v?)),
                    None => (None, None),
                };
                let first = mean(m.as_ref(), scaled(&g, rest[0])?)?;
                let second = mean(v.as_ref(), scaled(&g.sqr()?, rest[1])?)?;
                let scale = (scaled(&second, correct)?.sqrt()? + f64::from(eps))?;
                let weights = scaled(&var.as_detached_tensor(), keep)?;
                var.set(&(weights - (scaled(&first, rate)? / scale)?)?)?;
                *kept = Some([first, second]);
            }
        }
        Ok(())
    }
}

/// Sum of squares of each gradient, 0 where there is none.
pub(super) fn squares(grads: &[Option<Tensor>]) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; grads.len()];
    let mut there = Vec::new();
    for (n, grad) in grads.iter().enumerate() {
        let Some(grad) = grad else { continue };
        if grad.device().is_cpu() {
            sums[n] = squares_of(grad)?;
        } else {
            there.push((n, grad.to_dtype(DType::F32)?.sqr()?.sum_all()?));
        }
    }
    if !there.is_empty() {
        // One copy for all: each waits for the device.
        let tensors: Vec<&Tensor> = there.iter().map(|(_, t)| t).collect();
        let values = Tensor::stack(&tensors, 0)?.to_vec1::<f32>()?;
        for ((n, _), value) in there.iter().zip(values) {
            sums[*n] = f64::from(value);
        }
    }
    Ok(sums)
}

/// Elements of one task: small enough to share out, and the unit of sums.
pub(super) const BLOCK: usize = 1 << 16;

/// The elements of a contiguous f32 CPU array.
fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let range = layout.contiguous_offsets();
    match (storage, range) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        _ => candle_core::bail!("a contiguous f32 array is needed, not {layout:?}"),
    }
}

/// Sum of squares, in f64.
fn squares_of(grad: &Tensor) -> Result<f64> {
    let grad = grad.contiguous()?;
    let (storage, layout) = grad.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(TrainError::Objective("an array on the CPU is needed".into()));
    };
    let sum = |block: &[f32]| -> f64 {
        // Eight sums at once, which the compiler makes vectors of.
        let mut lanes = [0f64; 8];
        for part in block.chunks(lanes.len()) {
            for (lane, g) in lanes.iter_mut().zip(part) {
                *lane += f64::from(*g) * f64::from(*g);
            }
        }
        lanes.iter().sum()
    };
    let sums: Vec<f64> = elements(storage, layout)?.par_chunks(BLOCK).map(sum).collect();
    Ok(sums.iter().sum())
}

/// One update of a parameter: `rest` is one minus `betas`, and `correct` and `rate` hold the
/// corrections for the moments' start at zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sweep {
    pub clip: f32,
    pub betas: [f32; 2],
    pub rest: [f32; 2],
    pub rate: f32,
    pub correct: f32,
    pub eps: f32,
    /// What weight decay leaves.
    pub keep: f32,
}

/// The update in one pass over memory, in place. Blocks have a fixed size, so that the result is the same with every
/// number of threads.
struct InPlace<'a> {
    sweep: Sweep,
    moments: RefCell<[&'a mut Vec<f32>; 2]>,
}

impl InplaceOp2 for InPlace<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        weights: &mut CpuStorage,
        layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> candle_core::Result<()> {
        let grad = elements(grad, grad_layout)?;
        let (CpuStorage::F32(weights), Some((start, end))) = (weights, layout.contiguous_offsets())
        else {
            candle_core::bail!("contiguous f32 weights are needed, not {layout:?}");
        };
        let weights = &mut weights[start..end];
        let [first, second] = &mut *self.moments.borrow_mut();
        if weights.len() != grad.len() {
            candle_core::bail!("{} gradients for {} weights", grad.len(), weights.len());
        }
        let Sweep { clip, betas, rest, rate, correct, eps, keep } = self.sweep;
        weights
            .par_chunks_mut(BLOCK)
            .zip(grad.par_chunks(BLOCK))
            .zip(first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK)))
            .for_each(|((weights, grad), (first, second))| {
                let moments = first.iter_mut().zip(second);
                for ((w, g), (m, v)) in weights.iter_mut().zip(grad).zip(moments) {
                    let g = g * clip;
                    *m = *m * betas[0] + g * rest[0];
                    *v = *v * betas[1] + g * g * rest[1];
                    *w = *w * keep - *m * rate / ((*v * correct).sqrt() + eps);
                }
            });
        Ok(())
    }
}
