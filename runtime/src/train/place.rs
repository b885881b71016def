//! Where a run computes: the CPU with our own ops, or a device with candle's.

use candle_core::Device;
use rlc_model::{Dtype, Model};

use super::config::ModelConfig;
use super::error::{Result, TrainError};
use crate::device::cuda::gpu::Gpu;

/// A device, and how the model computes there.
#[derive(Debug, Clone)]
pub struct Place {
    device: Device,
    /// candle's ops in this type; our own ops without it.
    candle: Option<Dtype>,
}

impl Place {
    /// The place that `model.device` and `model.dtype` name; an error where there is no such device.
    pub fn open(config: &ModelConfig) -> Result<Self> {
        let dtype = match config.dtype.as_deref() {
            Some("f32") => Some(Dtype::F32),
            Some("bf16") => Some(Dtype::Bf16),
            _ => None,
        };
        match config.device.as_str() {
            "cpu" if dtype == Some(Dtype::Bf16) => Err(TrainError::Config(
                "model.dtype = \"bf16\" is for a GPU: write model.device = \"cuda\" (--device cuda), \
                 or leave model.dtype out"
                    .into(),
            )),
            "cpu" => Ok(Place { device: Device::Cpu, candle: None }),
            "cpu-candle" => {
                Ok(Place { device: Device::Cpu, candle: Some(dtype.unwrap_or(Dtype::F32)) })
            }
            name => {
                let ordinal = ordinal(name).unwrap_or(0);
                Ok(Place { device: cuda(ordinal)?, candle: Some(dtype.unwrap_or(Dtype::Bf16)) })
            }
        }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Type of activations and products, and so of logits.
    pub fn dtype(&self) -> Dtype {
        self.candle.unwrap_or(Dtype::F32)
    }

    /// The GPU, to be measured; none on the CPU.
    pub fn gpu(&self) -> Result<Option<Gpu>> {
        #[cfg(feature = "cuda")]
        if self.device.is_cuda() {
            let gpu = crate::device::cuda::tensors::gpu(&self.device);
            return gpu.map(Some).map_err(|e| TrainError::Objective(e.to_string()));
        }
        Ok(None)
    }

    /// Makes a model on this device compute as this place does.
    pub fn prepare(&self, model: Model) -> Model {
        match self.candle {
            None => model,
            Some(dtype) => model.with_candle_ops(dtype),
        }
    }

    /// Whether our own ops compute.
    pub fn own_ops(&self) -> bool {
        self.candle.is_none()
    }
}

/// The number of `cuda` or `cuda:N`.
pub fn ordinal(name: &str) -> Option<usize> {
    match name.strip_prefix("cuda")? {
        "" => Some(0),
        rest => rest.strip_prefix(':')?.parse().ok(),
    }
}

#[cfg(feature = "cuda")]
fn cuda(ordinal: usize) -> Result<Device> {
    let refused = |text: String| {
        // candle appends where in itself it happened.
        let what = text.lines().next().unwrap_or_default();
        TrainError::Config(format!(
            "model.device = \"cuda:{ordinal}\": {what}; `rlc doctor` says what this machine has"
        ))
    };
    let device = Device::new_cuda_with_stream(ordinal).map_err(|e| refused(e.to_string()))?;
    let gpu = crate::device::cuda::tensors::gpu(&device);
    gpu.and_then(|gpu| gpu.keep_memory()).map_err(|e| refused(e.to_string()))?;
    Ok(device)
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device> {
    Err(TrainError::Config(
        "this rlc trains on the CPU only: build it with scripts/build_cuda.sh (needs no GPU), or leave \
         --device out"
            .into(),
    ))
}
