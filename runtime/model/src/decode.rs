//! The model without gradients on plain slices: what the sampler runs for every token.
//!
//! No graph, no tensors, no allocation per token: weights are packed once, activations live in [`Scratch`]. It computes the
//! same function as `Model::forward` (a test compares them). A row's result does not depend on the rows beside it.

use candle_core::{Device, Storage, Tensor};

use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::kv::Room;
use crate::model::{EMBEDDING, Model, NORM, head_name, name_of};
use crate::ops::{HeadShape, Rope, norm, slice, swiglu, with_slice};
use crate::packed::Packed;

struct Layer {
    input_norm: Vec<f32>,
    qkv: Packed,
    head_norms: Option<[Vec<f32>; 2]>,
    output: Packed,
    mlp_norm: Vec<f32>,
    gate_up: Packed,
    down: Packed,
}

/// A model's weights, ready for decoding.
pub(crate) struct Decoder {
    pub config: Config,
    pub shape: HeadShape,
    pub rope: Rope,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Packed,
}

/// Activations of up to some number of rows.
#[derive(Default)]
pub(crate) struct Scratch {
    x: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    qkv_normed: Vec<f32>,
    mixed: Vec<f32>,
    gate_up: Vec<f32>,
    inner: Vec<f32>,
    pub logits: Vec<f32>,
    pub room: Room,
}

fn grow(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

impl Decoder {
    /// Packs the weights of `model`; the rotary table covers `positions`.
    pub fn new(model: &Model, positions: usize) -> Result<Self> {
        let config = model.config().clone();
        let tensor = |name: &str| -> Result<Option<Tensor>> {
            let Some(tensor) = model.weight(name) else { return Ok(None) };
            Ok(Some(tensor.to_device(&Device::Cpu)?.contiguous()?))
        };
        let need = |name: &str| -> Result<Tensor> {
            tensor(name)?.ok_or_else(|| ModelError::MissingTensor {
                file: "the model".to_owned(),
                name: name.to_owned(),
                expected: Vec::new(),
                hint: String::new(),
            })
        };
        let vector = |name: &str| -> Result<Vec<f32>> { Ok(need(name)?.to_vec1()?) };
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let at = |part: &str| name_of(layer, part);
            // Projections of the same input are one.
            let projection = |parts: &[&str], inputs: usize| -> Result<Packed> {
                let (mut weights, mut bias) = (Vec::new(), Vec::new());
                for part in parts {
                    weights.push(need(&at(&format!("{part}.weight")))?);
                    if let Some(more) = tensor(&at(&format!("{part}.bias")))? {
                        bias.extend(more.to_vec1::<f32>()?);
                    }
                }
                packed(inputs, &weights, bias)
            };
            let hidden = config.hidden_size;
            let head_norms = if config.qk_norm() {
                let [q, k] = ["self_attn.q_norm.weight", "self_attn.k_norm.weight"];
                Some([vector(&at(q))?, vector(&at(k))?])
            } else {
                None
            };
            let qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
            layers.push(Layer {
                input_norm: vector(&at("input_layernorm.weight"))?,
                qkv: projection(&qkv, hidden)?,
                head_norms,
                output: projection(&["self_attn.o_proj"], config.query_width())?,
                mlp_norm: vector(&at("post_attention_layernorm.weight"))?,
                gate_up: projection(&["mlp.gate_proj", "mlp.up_proj"], hidden)?,
                down: projection(&["mlp.down_proj"], config.intermediate_size)?,
            });
        }
        let head = head_name(&config);
        Ok(Self {
            shape: HeadShape::of(&config),
            rope: Rope::new(&config, positions),
            norm: vector(NORM)?,
            embedding: need(EMBEDDING)?,
            layers,
            head: packed(config.hidden_size, &[need(head)?], Vec::new())?,
            config,
        })
    }

    /// Runs all layers over one row for each id; `attend(layer, qkv, mixed, room)` gets unrotated qkv rows and fills the
    /// rows of attention outputs. Afterwards `scratch` holds the residual stream. `share` spreads rows over threads.
    pub fn layers(
        &self,
        ids: &[u32],
        scratch: &mut Scratch,
        share: bool,
        mut attend: impl FnMut(usize, &mut [f32], &mut [f32], &mut Room),
    ) -> Result<()> {
        let config = &self.config;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (width, out) = (self.shape.width(), self.shape.out());
        let eps = config.rms_norm_eps as f32;
        let rows = ids.len();
        let x = grow(&mut scratch.x, rows * hidden);
        let normed = grow(&mut scratch.normed, rows * hidden);
        let qkv = grow(&mut scratch.qkv, rows * width);
        let mixed = grow(&mut scratch.mixed, rows * out);
        let gate_up = grow(&mut scratch.gate_up, rows * 2 * inner);
        let act = grow(&mut scratch.inner, rows * inner);
        with_slice(&self.embedding, |embedding| {
            for (row, id) in x.chunks_exact_mut(hidden).zip(ids) {
                row.copy_from_slice(&embedding[*id as usize * hidden..][..hidden]);
            }
            Ok(())
        })?;
        for (index, layer) in self.layers.iter().enumerate() {
            norm::rows(x, normed, &layer.input_norm, eps);
            layer.qkv.apply(normed, qkv, false, share);
            if let Some([q, k]) = &layer.head_norms {
                let copy = grow(&mut scratch.qkv_normed, rows * width);
                norm::heads(qkv, copy, self.shape, [q, k], eps);
                qkv.copy_from_slice(copy);
            }
            attend(index, qkv, mixed, &mut scratch.room);
            layer.output.apply(mixed, x, true, share);
            norm::rows(x, normed, &layer.mlp_norm, eps);
            layer.gate_up.apply(normed, gate_up, false, share);
            swiglu::forward(act, gate_up, inner);
            layer.down.apply(act, x, true, share);
        }
        Ok(())
    }

    /// Logits `[rows.len(), vocab_size]` of the given rows of the residual stream, left in `scratch.logits`.
    pub fn logits(&self, rows: &[usize], scratch: &mut Scratch, share: bool) {
        let hidden = self.config.hidden_size;
        let mixed = grow(&mut scratch.mixed, rows.len() * hidden);
        for (to, from) in mixed.chunks_exact_mut(hidden).zip(rows) {
            to.copy_from_slice(&scratch.x[from * hidden..][..hidden]);
        }
        let normed = grow(&mut scratch.normed, rows.len() * hidden);
        norm::rows(mixed, normed, &self.norm, self.config.rms_norm_eps as f32);
        let logits = grow(&mut scratch.logits, rows.len() * self.config.vocab_size);
        self.head.apply(normed, logits, false, share);
    }
}

/// Packs weights of the same width, one below the other.
fn packed(inputs: usize, weights: &[Tensor], bias: Vec<f32>) -> Result<Packed> {
    let storages: Vec<_> = weights.iter().map(Tensor::storage_and_layout).collect();
    let mut slices = Vec::with_capacity(weights.len());
    for (storage, layout) in &storages {
        match &**storage {
            Storage::Cpu(storage) => slices.push(slice(storage, layout)?),
            _ => return Err(candle_core::Error::Msg("a CPU tensor is needed".into()).bt().into()),
        }
    }
    Ok(Packed::new(inputs, &slices, bias))
}
