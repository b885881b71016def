//! candle's tensors on a GPU as vocab-level columns of a piece.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::{CudaStorage, DType, Device, Layout, Storage, Tensor};
use half::{bf16, f16};
use rlc_compiler::clif::Float;

use super::gpu::Gpu;
use crate::device::{DeviceError, Resident};

fn failed(e: candle_core::Error) -> DeviceError {
    DeviceError::Cuda(e.to_string())
}

/// The GPU that candle's device is, on its stream: what either launches waits for the other.
pub fn gpu(device: &Device) -> Result<Gpu, DeviceError> {
    Ok(Gpu::on(device.as_cuda_device().map_err(failed)?.cuda_stream()))
}

/// The number type of logits of candle's type.
pub fn float(dtype: DType) -> Result<Float, DeviceError> {
    match dtype {
        DType::F32 => Ok(Float::F32),
        DType::BF16 => Ok(Float::Bf16),
        DType::F16 => Ok(Float::F16),
        other => Err(DeviceError::Cuda(format!("logits are f32, bf16 or f16, not {other:?}"))),
    }
}

/// Logits as a column whose gradient goes to another tensor of their type and size, or to themselves. Both are nobody
/// else's from here to the end of the piece.
pub fn resident(logits: &Tensor, gradient: &Tensor) -> Result<Resident, DeviceError> {
    let (float, numbers) = (float(logits.dtype())?, logits.elem_count());
    if gradient.dtype() != logits.dtype() || gradient.elem_count() != numbers {
        return Err(DeviceError::Order("a gradient on a device is as its logits"));
    }
    let (entries, gradient) = (address(logits)?, address(gradient)?);
    // SAFETY: both addresses are of tensors of so many numbers, which the caller keeps; `gpu` launches on the stream that
    // candle computes them on.
    Ok(unsafe { Resident::new(float, numbers, entries, gradient) })
}

fn address(tensor: &Tensor) -> Result<u64, DeviceError> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        return Err(DeviceError::Order("a tensor on the GPU is needed"));
    };
    start(storage, layout).map_err(failed)
}

/// Where a packed tensor of f32, bf16 or f16 begins.
pub(super) fn start(storage: &CudaStorage, layout: &Layout) -> candle_core::Result<u64> {
    let Some((start, _)) = layout.contiguous_offsets() else {
        candle_core::bail!("a packed tensor on the GPU is needed")
    };
    let dtype = storage.dtype();
    let first = match dtype {
        DType::F32 => first::<f32>(storage),
        DType::BF16 => first::<bf16>(storage),
        _ => first::<f16>(storage),
    };
    Ok(first? + (start * dtype.size_in_bytes()) as u64)
}

fn first<T: CudaDType>(storage: &CudaStorage) -> candle_core::Result<u64> {
    let stream = storage.device.cuda_stream();
    Ok(storage.as_cuda_slice::<T>()?.device_ptr(&stream).0)
}
