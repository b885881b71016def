//! The model without gradients on plain slices: what the sampler runs for every token.
//!
//! No graph, no tensors, no allocation per token: weights are borrowed, activations live in [`Scratch`]. It computes the
//! same function as `Model::forward` (a test compares them). A row's result does not depend on the rows beside it.

use candle_core::{Device, Tensor};

use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::gemm::{Matrix, product};
use crate::model::{EMBEDDING, HEAD, Model};
use crate::ops::{HeadShape, Rope, norm, swiglu};

/// gemm switches to other summation orders for a single row and for tiny products: never fewer rows than this.
const LEAST_ROWS: usize = 2;
/// Weights with so few outputs are kept turned, which keeps gemm off its path for tiny products.
const SMALL: usize = 128;

/// A projection's weight `[out, in]` and bias.
struct Projection {
    weight: Vec<f32>,
    turned: bool,
    outputs: usize,
    inputs: usize,
    bias: Option<Vec<f32>>,
}

impl Projection {
    fn new(weight: Vec<f32>, inputs: usize, bias: Option<Vec<f32>>) -> Self {
        let outputs = weight.len() / inputs;
        if outputs > SMALL {
            return Self { weight, turned: false, outputs, inputs, bias };
        }
        let mut turned = vec![0f32; weight.len()];
        for (o, row) in weight.chunks_exact(inputs).enumerate() {
            for (i, v) in row.iter().enumerate() {
                turned[i * outputs + o] = *v;
            }
        }
        Self { weight: turned, turned: true, outputs, inputs, bias }
    }

    /// `out[r, at..at + outputs] (+)= x[r] w^T + b` for `rows` rows of `out`, each `stride` wide.
    fn apply(&self, x: &[f32], rows: usize, out: &mut [f32], stride: usize, add: bool) {
        let w = if self.turned {
            Matrix::new(&self.weight, self.inputs, self.outputs)
        } else {
            Matrix::new(&self.weight, self.outputs, self.inputs).turned()
        };
        product(out, stride, Matrix::new(x, rows, self.inputs), w, add);
        if let Some(bias) = &self.bias {
            for row in out.chunks_mut(stride) {
                for (y, b) in row.iter_mut().zip(bias) {
                    *y += b;
                }
            }
        }
    }
}

struct Layer {
    input_norm: Vec<f32>,
    qkv: [Projection; 3],
    head_norms: Option<[Vec<f32>; 2]>,
    output: Projection,
    mlp_norm: Vec<f32>,
    gate_up: [Projection; 2],
    down: Projection,
}

/// A model's weights, ready for decoding.
pub(crate) struct Decoder {
    pub config: Config,
    pub shape: HeadShape,
    pub rope: Rope,
    embedding: Vec<f32>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// Nothing if tied and large: then the embedding serves.
    head: Option<Projection>,
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
}

fn grow(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

impl Decoder {
    /// Copies the weights of `model`; the rotary table covers `positions`.
    pub fn new(model: &Model, positions: usize) -> Result<Self> {
        let config = model.config().clone();
        let values = |name: &str| -> Result<Option<Vec<f32>>> {
            let Some(tensor) = model.weight(name) else { return Ok(None) };
            let tensor: Tensor = tensor.to_device(&Device::Cpu)?;
            Ok(Some(tensor.flatten_all()?.to_vec1()?))
        };
        let need = |name: &str| -> Result<Vec<f32>> {
            values(name)?.ok_or_else(|| ModelError::MissingTensor {
                file: "the model".to_owned(),
                name: name.to_owned(),
                expected: Vec::new(),
                hint: String::new(),
            })
        };
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let at = |part: &str| format!("model.layers.{layer}.{part}");
            let projection = |part: &str, inputs: usize| -> Result<Projection> {
                let bias = values(&at(&format!("{part}.bias")))?;
                Ok(Projection::new(need(&at(&format!("{part}.weight")))?, inputs, bias))
            };
            let hidden = config.hidden_size;
            let head_norms = if config.qk_norm() {
                Some([need(&at("self_attn.q_norm.weight"))?, need(&at("self_attn.k_norm.weight"))?])
            } else {
                None
            };
            layers.push(Layer {
                input_norm: need(&at("input_layernorm.weight"))?,
                qkv: [
                    projection("self_attn.q_proj", hidden)?,
                    projection("self_attn.k_proj", hidden)?,
                    projection("self_attn.v_proj", hidden)?,
                ],
                head_norms,
                output: projection("self_attn.o_proj", config.query_width())?,
                mlp_norm: need(&at("post_attention_layernorm.weight"))?,
                gate_up: [projection("mlp.gate_proj", hidden)?, projection("mlp.up_proj", hidden)?],
                down: projection("mlp.down_proj", config.intermediate_size)?,
            });
        }
        let embedding = need(EMBEDDING)?;
        let head = if !config.tie_word_embeddings {
            Some(Projection::new(need(HEAD)?, config.hidden_size, None))
        } else if config.vocab_size <= SMALL {
            Some(Projection::new(embedding.clone(), config.hidden_size, None))
        } else {
            None
        };
        Ok(Self {
            shape: HeadShape::of(&config),
            rope: Rope::new(&config, positions),
            norm: need("model.norm.weight")?,
            embedding,
            layers,
            head,
            config,
        })
    }

    /// Runs all layers over one row for each id; `attend(layer, qkv, mixed)` gets unrotated qkv rows and fills the rows
    /// of attention outputs. Afterwards `scratch` holds the residual stream.
    pub fn layers(
        &self,
        ids: &[u32],
        scratch: &mut Scratch,
        mut attend: impl FnMut(usize, &mut [f32], &mut [f32]),
    ) {
        let config = &self.config;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (width, out) = (self.shape.width(), self.shape.out());
        let eps = config.rms_norm_eps as f32;
        let rows = ids.len().max(LEAST_ROWS);
        let x = grow(&mut scratch.x, rows * hidden);
        let normed = grow(&mut scratch.normed, rows * hidden);
        let qkv = grow(&mut scratch.qkv, rows * width);
        let mixed = grow(&mut scratch.mixed, rows * out);
        let gate_up = grow(&mut scratch.gate_up, rows * 2 * inner);
        let act = grow(&mut scratch.inner, rows * inner);
        x[ids.len() * hidden..].fill(0.0);
        mixed[ids.len() * out..].fill(0.0);
        for (row, id) in x.chunks_exact_mut(hidden).zip(ids) {
            row.copy_from_slice(&self.embedding[*id as usize * hidden..][..hidden]);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            norm::rows(x, normed, &layer.input_norm, eps);
            let mut start = 0;
            for projection in &layer.qkv {
                projection.apply(normed, rows, &mut qkv[start..], width, false);
                start += projection.outputs;
            }
            let used = ids.len() * width;
            if let Some([q, k]) = &layer.head_norms {
                let copy = grow(&mut scratch.qkv_normed, used);
                norm::heads(&qkv[..used], copy, self.shape, [q, k], eps);
                qkv[..used].copy_from_slice(copy);
            }
            attend(index, &mut qkv[..used], &mut mixed[..ids.len() * out]);
            layer.output.apply(mixed, rows, x, hidden, true);
            norm::rows(x, normed, &layer.mlp_norm, eps);
            for (half, projection) in layer.gate_up.iter().enumerate() {
                projection.apply(normed, rows, &mut gate_up[half * inner..], 2 * inner, false);
            }
            swiglu::forward(act, gate_up, inner);
            layer.down.apply(act, rows, x, hidden, true);
        }
    }

    /// Logits `[rows.len(), vocab_size]` of the given rows of the residual stream, left in `scratch.logits`.
    pub fn logits(&self, rows: &[usize], scratch: &mut Scratch) {
        let hidden = self.config.hidden_size;
        let count = rows.len().max(LEAST_ROWS);
        let mixed = grow(&mut scratch.mixed, count * hidden);
        mixed[rows.len() * hidden..].fill(0.0);
        for (to, from) in mixed.chunks_exact_mut(hidden).zip(rows) {
            to.copy_from_slice(&scratch.x[from * hidden..][..hidden]);
        }
        let normed = grow(&mut scratch.normed, count * hidden);
        norm::rows(mixed, normed, &self.norm, self.config.rms_norm_eps as f32);
        let vocab = self.config.vocab_size;
        let logits = grow(&mut scratch.logits, count * vocab);
        if let Some(head) = &self.head {
            head.apply(normed, count, logits, vocab, false);
        } else {
            let w = Matrix::new(&self.embedding, vocab, hidden).turned();
            product(logits, vocab, Matrix::new(normed, count, hidden), w, false);
        }
    }
}
