//! The model: named weights, and the differentiable pass over packed sequences.
//!
//! Weights are candle variables in f32, whatever the files held. A batch is the concatenation of its sequences and their
//! lengths, so row i of every result belongs to token i of the concatenation. On the CPU layers are our own ops; anywhere
//! else they are candle's, in f32 or with activations and products in bf16 (see [`Model::with_candle_ops`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::shapes::Init;
use crate::config::{Config, Dtype, token_list};
use crate::error::{ModelError, Result};
use crate::ops::plain::{self, attention::Places};
use crate::ops::{self, HeadShape, Packing, Parts, Rope};
use crate::tokenizer::Tokenizer;

mod load;
mod save;

/// A decoder-only transformer with its tokenizer.
pub struct Model {
    config: Config,
    device: Device,
    how: How,
    weights: BTreeMap<String, Var>,
    tokenizer: Option<Tokenizer>,
    /// Small files of the folder that are passed on unchanged, by name.
    sidecars: BTreeMap<&'static str, Vec<u8>>,
}

/// What layers are computed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum How {
    /// Our own ops: f32, on the CPU.
    Own,
    /// candle's ops, with activations and products in this type.
    Candle(DType),
}

impl How {
    pub(crate) fn on(device: &Device) -> Self {
        if device.is_cpu() { How::Own } else { How::Candle(DType::F32) }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Model {
    /// A model with random weights: normal with the configuration's `initializer_range`, norms 1, biases 0. The same seed
    /// gives the same weights on every machine.
    pub fn random(config: Config, seed: u64, device: &Device) -> Result<Self> {
        config.check("the model configuration")?;
        let mut weights = BTreeMap::new();
        for (stream, slot) in config.slots().into_iter().enumerate() {
            let count = slot.shape.iter().product();
            let values = match slot.init {
                Init::Ones => vec![1.0; count],
                Init::Zeros => vec![0.0; count],
                Init::Normal => {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    rng.set_stream(stream as u64);
                    normal(&mut rng, count, config.initializer_range)
                }
            };
            let tensor = Tensor::from_vec(values, slot.shape, device)?;
            weights.insert(slot.name, Var::from_tensor(&tensor)?);
        }
        Ok(Self {
            config,
            device: device.clone(),
            how: How::on(device),
            weights,
            tokenizer: None,
            sidecars: BTreeMap::new(),
        })
    }

    /// The same model, computed with candle's ops whatever the device. `dtype` is that of activations and products (in
    /// f16, small gradients vanish); weights, and so their gradients and an optimiser's state, stay f32.
    #[must_use]
    pub fn with_candle_ops(mut self, dtype: Dtype) -> Self {
        self.how = How::Candle(match dtype {
            Dtype::Bf16 => DType::BF16,
            Dtype::F16 => DType::F16,
            Dtype::F32 => DType::F32,
        });
        self
    }

    /// Whether layers are our own ops, on the CPU in f32.
    pub fn own_ops(&self) -> bool {
        self.how == How::Own
    }

    pub(crate) fn how(&self) -> How {
        self.how
    }

    /// The sizes and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The tokenizer that came with the weights.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// Gives the model a tokenizer; an error if it has ids the model has no embedding for.
    pub fn set_tokenizer(&mut self, tokenizer: Tokenizer) -> Result<()> {
        tokenizer.check_vocab(self.config.vocab_size)?;
        self.tokenizer = Some(tokenizer);
        Ok(())
    }

    /// Tokens that end a completion: from `generation_config.json`, else `config.json`, else the tokenizer's end token.
    /// Empty if none of them names one.
    pub fn stop_ids(&self) -> Vec<u32> {
        let from_generation = self
            .sidecars
            .get("generation_config.json")
            .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok())
            .map(|v| crate::tokenizer::token_ids(&v["eos_token_id"]))
            .unwrap_or_default();
        let known = |ids: Vec<u32>| -> Vec<u32> {
            ids.into_iter().filter(|id| (*id as usize) < self.config.vocab_size).collect()
        };
        [from_generation, self.config.eos_token_id.clone()]
            .into_iter()
            .map(known)
            .find(|ids| !ids.is_empty())
            .or_else(|| self.tokenizer.as_ref().and_then(Tokenizer::eos_id).map(|id| vec![id]))
            .unwrap_or_default()
    }

    /// All trained tensors by name, sorted by name.
    pub fn vars(&self) -> Vec<(String, Var)> {
        self.weights.iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// A copy with its own weights on a device, for a frozen reference model. It computes as this model does.
    pub fn copy(&self, device: &Device) -> Result<Self> {
        let mut weights = BTreeMap::new();
        for (name, var) in &self.weights {
            let copy = var.as_detached_tensor().to_device(device)?.copy()?;
            weights.insert(name.clone(), Var::from_tensor(&copy)?);
        }
        Ok(Self { weights, device: device.clone(), ..self.clone_shape() })
    }

    /// Everything but the weights.
    fn clone_shape(&self) -> Self {
        Self {
            config: self.config.clone(),
            device: self.device.clone(),
            how: self.how,
            weights: BTreeMap::new(),
            tokenizer: self.tokenizer.clone(),
            sidecars: self.sidecars.clone(),
        }
    }

    /// Hidden states after the last norm, `[sum of lengths, hidden_size]`, differentiable in every weight but an untied
    /// output projection. `ids` is the concatenation of sequences of the given `lengths` (all at least 1); each
    /// sequence sees itself only and starts at position 0.
    pub fn forward(&self, ids: &[u32], lengths: &[usize]) -> Result<Tensor> {
        self.pass(ids, lengths, true)
    }

    /// The same numbers as [`Model::forward`] without a graph: no gradient, and memory for one layer only.
    pub fn forward_frozen(&self, ids: &[u32], lengths: &[usize]) -> Result<Tensor> {
        self.pass(ids, lengths, false)
    }

    /// The rows of `hidden` at `rows`, `[rows.len(), hidden_size]`: the positions that need logits.
    pub fn hidden_rows(&self, hidden: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let n = hidden.dim(0)?;
        if let Some(bad) = rows.iter().find(|r| **r as usize >= n) {
            return Err(ModelError::argument("rows", format!("row {bad}, but there are {n} rows")));
        }
        Ok(hidden.index_select(&Tensor::new(rows, hidden.device())?, 0)?)
    }

    /// Logits `[n, vocab_size]` of hidden rows `[n, hidden_size]`, before any temperature.
    pub fn logits(&self, hidden_rows: &Tensor) -> Result<Tensor> {
        self.project(hidden_rows, self.head().as_tensor())
    }

    /// The output projection without a gradient, in the type that is computed in: to be asked for once, since it may be a
    /// copy.
    pub fn frozen_head(&self) -> Result<Tensor> {
        let head = self.head().as_detached_tensor();
        Ok(match self.how {
            How::Own => head,
            How::Candle(dtype) => head.to_dtype(dtype)?,
        })
    }

    pub(crate) fn project(&self, rows: &Tensor, head: &Tensor) -> Result<Tensor> {
        Ok(match self.how {
            How::Own => ops::linear(rows, head)?,
            How::Candle(dtype) => {
                plain::linear(&rows.to_dtype(dtype)?, &head.to_dtype(dtype)?, None)?
            }
        })
    }

    /// The output projection `[vocab_size, hidden_size]`: the embedding itself if tied.
    pub fn head(&self) -> &Var {
        &self.weights[head_name(&self.config)]
    }

    /// Lends the output projection, `[vocab_size, hidden_size]` row by row; from another device as a copy.
    pub fn lend_head<R>(&self, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
        let head = self.head().as_detached_tensor().to_device(&Device::Cpu)?;
        Ok(ops::with_slice(&head, |head| Ok(f(head)))?)
    }

    /// The detached tensor of a weight, if the configuration has it.
    pub(crate) fn weight(&self, name: &str) -> Option<Tensor> {
        self.weights.get(name).map(Var::as_detached_tensor)
    }

    fn pass(&self, ids: &[u32], lengths: &[usize], train: bool) -> Result<Tensor> {
        self.check_batch(ids, lengths)?;
        let config = &self.config;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let rope = Arc::new(Rope::new(config, longest));
        let get = |name: &str| {
            let var = &self.weights[name];
            if train { var.as_tensor().clone() } else { var.as_detached_tensor() }
        };
        let ids = Tensor::new(ids, &self.device)?;
        let mut x = get(EMBEDDING).index_select(&ids, 0)?;
        match self.how {
            How::Own => {
                let (packing, parts) =
                    (Packing { lengths: lengths.into(), rope }, Parts::of(config));
                for layer in 0..config.num_hidden_layers {
                    let weight = |part: &str| get(&name_of(layer, part));
                    x = ops::block(&x, config, &parts, &packing, train, weight)?;
                }
                Ok(ops::rms_norm(&x, &get(NORM), config.rms_norm_eps)?)
            }
            How::Candle(dtype) => {
                let places = Places::new(&rope, lengths, &self.device)?;
                let shape = HeadShape::of(config);
                x = x.to_dtype(dtype)?;
                for layer in 0..config.num_hidden_layers {
                    let weight = |part: &str| get(&name_of(layer, part)).to_dtype(dtype);
                    let attend = |qkv: &Tensor| Ok(places.attend(qkv, shape)?.0);
                    x = plain::block(&x, config, weight, attend)?;
                }
                Ok(plain::rms_norm(&x, &get(NORM), config.rms_norm_eps)?)
            }
        }
    }

    fn check_batch(&self, ids: &[u32], lengths: &[usize]) -> Result<()> {
        let total: usize = lengths.iter().sum();
        if total != ids.len() || ids.is_empty() {
            return Err(ModelError::argument(
                "lengths",
                format!("they add up to {total}, but there are {} ids (at least 1)", ids.len()),
            ));
        }
        if let Some(at) = lengths.iter().position(|l| *l == 0) {
            return Err(ModelError::argument("lengths", format!("sequence {at} is empty")));
        }
        self.check_ids("ids", ids)
    }

    pub(crate) fn check_ids(&self, argument: &'static str, ids: &[u32]) -> Result<()> {
        let vocab = self.config.vocab_size;
        match ids.iter().position(|id| *id as usize >= vocab) {
            None => Ok(()),
            Some(at) => Err(ModelError::argument(
                argument,
                format!("id {} at index {at}, but the vocabulary has {vocab} entries", ids[at]),
            )),
        }
    }
}

/// The full name of a layer's tensor.
pub(crate) fn name_of(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}")
}

/// The name of the output projection: the embedding itself if tied.
pub(crate) fn head_name(config: &Config) -> &'static str {
    if config.tie_word_embeddings { EMBEDDING } else { HEAD }
}

pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const NORM: &str = "model.norm.weight";
pub(crate) const HEAD: &str = "lm_head.weight";

/// Runs candle's backward pass from `grad` = d loss / d `output` (same shape) and returns the gradients of all variables.
pub fn seed_backward(output: &Tensor, grad: &Tensor) -> Result<GradStore> {
    let output = output.contiguous()?;
    let grad = grad.contiguous()?;
    if output.shape() != grad.shape() {
        return Err(ModelError::argument(
            "grad",
            format!("shape {:?}, but the output has {:?}", grad.dims(), output.dims()),
        ));
    }
    let grad = grad.to_dtype(output.dtype())?;
    let seed = if output.device().is_cpu() && output.dtype() == DType::F32 {
        output.apply_op2(&grad.detach(), ops::seed::Seed)?
    } else {
        (output * grad.detach())?.sum_all()?
    };
    Ok(seed.backward()?)
}

/// `count` normal values by the Box-Muller transform.
fn normal(rng: &mut ChaCha8Rng, count: usize, deviation: f64) -> Vec<f32> {
    // 53 random bits, in (0, 1].
    let mut unit = || ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = (-2.0 * unit().ln()).sqrt() * deviation;
        let (sin, cos) = (2.0 * std::f64::consts::PI * unit()).sin_cos();
        values.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    values.truncate(count);
    values
}

/// The `generation_config.json` of a model that came without one.
fn generation_config(config: &Config) -> serde_json::Value {
    serde_json::json!({
        "_from_model_config": true,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": token_list(&config.eos_token_id),
        "pad_token_id": config.pad_token_id,
    })
}
