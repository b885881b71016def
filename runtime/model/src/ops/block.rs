//! One transformer layer as one candle op: norm, attention, norm, SwiGLU, with the whole backward pass by hand.
//!
//! As separate ops each gradient would be zeroed, added and copied by candle, and every activation kept twice. Here a layer
//! keeps what is dear to compute (projections and attention) and computes norms and SwiGLU again in the backward pass. Its
//! weights come as one flat tensor, because a candle op has at most three arguments.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{HeadShape, Packing, attention, norm, slice, swiglu, with_slice};
use crate::config::Config;
use crate::gemm::{Matrix, product};

/// The parts of a layer's weights, in the order they are concatenated. Names are relative to `model.layers.N.`; each part
/// stacks some of them along their first dimension.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub names: Vec<String>,
    /// Where each part lies in the flat tensor; absent ones are empty.
    ranges: [(usize, usize); COUNT],
}

// Places in `Parts::ranges`. A projection's bias is the part after it.
const INPUT_NORM: usize = 0;
const QKV: usize = 1;
const Q_NORM: usize = 3;
const K_NORM: usize = 4;
const OUTPUT: usize = 5;
const MLP_NORM: usize = 7;
const GATE_UP: usize = 8;
const DOWN: usize = 10;
const COUNT: usize = 12;

impl Parts {
    pub fn of(config: &Config) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (query, width) = (config.query_width(), HeadShape::of(config).width());
        let qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        let (output, gate_up, down) =
            (["self_attn.o_proj"], ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"]);
        let (q, k) = (["self_attn.q_norm"], ["self_attn.k_norm"]);
        let norm = config.qk_norm();
        let parts: [(&[&str], &str, usize, bool); COUNT] = [
            (&["input_layernorm"], "weight", hidden, true),
            (&qkv, "weight", width * hidden, true),
            (&qkv, "bias", width, config.qkv_bias()),
            (&q, "weight", config.head_dim, norm),
            (&k, "weight", config.head_dim, norm),
            (&output, "weight", hidden * query, true),
            (&output, "bias", hidden, config.attention_bias),
            (&["post_attention_layernorm"], "weight", hidden, true),
            (&gate_up, "weight", 2 * inner * hidden, true),
            (&gate_up, "bias", 2 * inner, config.mlp_bias),
            (&down, "weight", hidden * inner, true),
            (&down, "bias", hidden, config.mlp_bias),
        ];
        let mut names = Vec::new();
        let mut ranges = [(0, 0); COUNT];
        let mut start = 0;
        for (range, (modules, kind, size, present)) in ranges.iter_mut().zip(parts) {
            let size = if present { size } else { 0 };
            *range = (start, start + size);
            start += size;
            if present {
                names.extend(modules.iter().map(|m| format!("{m}.{kind}")));
            }
        }
        Self { names, ranges }
    }

    fn get<'a>(&self, flat: &'a [f32], part: usize) -> &'a [f32] {
        &flat[self.ranges[part].0..self.ranges[part].1]
    }

    fn get_mut<'a>(&self, flat: &'a mut [f32], part: usize) -> &'a mut [f32] {
        &mut flat[self.ranges[part].0..self.ranges[part].1]
    }

    fn size(&self) -> usize {
        self.ranges[COUNT - 1].1
    }
}

/// What the backward pass needs besides the input.
struct Saved {
    /// Projected heads before their norms; only kept if there are such norms.
    raw: Option<Vec<f32>>,
    /// Query, key and value heads, rotated.
    qkv: Vec<f32>,
    /// Attention output before its projection.
    mixed: Vec<f32>,
    /// The residual stream between attention and SwiGLU.
    middle: Vec<f32>,
    gate_up: Vec<f32>,
}

/// x `[n, hidden]` and flat weights to `[n, hidden]`.
pub(crate) struct Block {
    pub config: Config,
    pub parts: Parts,
    pub packing: Packing,
    /// Keep what a backward pass needs.
    pub train: bool,
    saved: OnceLock<Saved>,
}

impl Block {
    pub fn new(config: &Config, parts: &Parts, packing: &Packing, train: bool) -> Self {
        Self {
            config: config.clone(),
            parts: parts.clone(),
            packing: packing.clone(),
            train,
            saved: OnceLock::new(),
        }
    }

    fn eps(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    fn head_norms<'a>(&self, w: &'a [f32]) -> Option<[&'a [f32]; 2]> {
        let get = |part| self.parts.get(w, part);
        self.config.qk_norm().then(|| [get(Q_NORM), get(K_NORM)])
    }

    /// `y (+)= x w^T + b` for the projection `weight` with its bias in the next part.
    fn project(&self, y: &mut [f32], x: &[f32], flat: &[f32], weight: usize, add: bool) {
        let w = self.parts.get(flat, weight);
        let b = self.parts.get(flat, weight + 1);
        let n: usize = self.packing.lengths.iter().sum();
        let (inner, out) = (x.len() / n, y.len() / n);
        product(y, out, Matrix::new(x, n, inner), Matrix::new(w, out, inner).turned(), add);
        if !b.is_empty() {
            for row in y.chunks_exact_mut(out) {
                for (y, b) in row.iter_mut().zip(b) {
                    *y += b;
                }
            }
        }
    }

    /// Gradients of [`Block::project`]: weight and bias into `dflat`, and the input's as a new vector.
    fn project_backward(
        &self,
        dy: &[f32],
        x: &[f32],
        flat: &[f32],
        dflat: &mut [f32],
        weight: usize,
    ) -> Vec<f32> {
        let n: usize = self.packing.lengths.iter().sum();
        let (inner, out) = (x.len() / n, dy.len() / n);
        let dy = Matrix::new(dy, n, out);
        let dw = self.parts.get_mut(dflat, weight);
        product(dw, inner, dy.turned(), Matrix::new(x, n, inner), false);
        let db = self.parts.get_mut(dflat, weight + 1);
        if !db.is_empty() {
            for row in dy.data.chunks_exact(out) {
                for (sum, v) in db.iter_mut().zip(row) {
                    *sum += v;
                }
            }
        }
        let mut dx = vec![0f32; n * inner];
        let w = Matrix::new(self.parts.get(flat, weight), out, inner);
        product(&mut dx, inner, dy, w, false);
        dx
    }

    fn forward(&self, x: &[f32], w: &[f32]) -> (Vec<f32>, Saved) {
        let (lengths, rope) = (&self.packing.lengths, &self.packing.rope);
        let shape = HeadShape::of(&self.config);
        let n: usize = lengths.iter().sum();
        let rows = |width: usize| vec![0f32; n * width];
        let mut normed = rows(self.config.hidden_size);
        norm::rows(x, &mut normed, self.parts.get(w, INPUT_NORM), self.eps());
        let mut qkv = rows(shape.width());
        self.project(&mut qkv, &normed, w, QKV, false);
        let raw = self.head_norms(w).map(|scales| {
            let raw = qkv.clone();
            norm::heads(&raw, &mut qkv, shape, scales, self.eps());
            raw
        });
        attention::rotate(&mut qkv, shape, lengths, rope, false);
        let mut mixed = rows(shape.out());
        attention::forward(&qkv, &mut mixed, shape, lengths);
        let mut middle = x.to_vec();
        self.project(&mut middle, &mixed, w, OUTPUT, true);
        norm::rows(&middle, &mut normed, self.parts.get(w, MLP_NORM), self.eps());
        let mut gate_up = rows(2 * self.config.intermediate_size);
        self.project(&mut gate_up, &normed, w, GATE_UP, false);
        let mut act = rows(self.config.intermediate_size);
        swiglu::forward(&mut act, &gate_up, self.config.intermediate_size);
        let mut y = middle.clone();
        self.project(&mut y, &act, w, DOWN, true);
        (y, Saved { raw, qkv, mixed, middle, gate_up })
    }

    fn backward(&self, x: &[f32], w: &[f32], dy: &[f32], saved: &Saved) -> (Vec<f32>, Vec<f32>) {
        let (lengths, rope) = (&self.packing.lengths, &self.packing.rope);
        let shape = HeadShape::of(&self.config);
        let inner = self.config.intermediate_size;
        let mut dw = vec![0f32; self.parts.size()];
        let n: usize = lengths.iter().sum();
        let rows = |width: usize| vec![0f32; n * width];
        // SwiGLU.
        let mut act = rows(inner);
        swiglu::forward(&mut act, &saved.gate_up, inner);
        let dact = self.project_backward(dy, &act, w, &mut dw, DOWN);
        let mut dgate_up = rows(2 * inner);
        swiglu::backward(&mut dgate_up, &saved.gate_up, &dact, inner);
        let scale = self.parts.get(w, MLP_NORM);
        let mut normed = rows(self.config.hidden_size);
        norm::rows(&saved.middle, &mut normed, scale, self.eps());
        let dnormed = self.project_backward(&dgate_up, &normed, w, &mut dw, GATE_UP);
        let (mut dmiddle, dscale) = norm::rows_backward(&saved.middle, &dnormed, scale, self.eps());
        self.parts.get_mut(&mut dw, MLP_NORM).copy_from_slice(&dscale);
        add(&mut dmiddle, dy);
        // Attention.
        let dmixed = self.project_backward(&dmiddle, &saved.mixed, w, &mut dw, OUTPUT);
        let mut dqkv = rows(shape.width());
        attention::backward(&saved.qkv, &dmixed, &mut dqkv, shape, lengths);
        attention::rotate(&mut dqkv, shape, lengths, rope, true);
        if let (Some(scales), Some(raw)) = (self.head_norms(w), &saved.raw) {
            let (draw, [dq, dk]) = norm::heads_backward(raw, &dqkv, shape, scales, self.eps());
            self.parts.get_mut(&mut dw, Q_NORM).copy_from_slice(&dq);
            self.parts.get_mut(&mut dw, K_NORM).copy_from_slice(&dk);
            dqkv = draw;
        }
        let scale = self.parts.get(w, INPUT_NORM);
        norm::rows(x, &mut normed, scale, self.eps());
        let dnormed = self.project_backward(&dqkv, &normed, w, &mut dw, QKV);
        let (mut dx, dscale) = norm::rows_backward(x, &dnormed, scale, self.eps());
        self.parts.get_mut(&mut dw, INPUT_NORM).copy_from_slice(&dscale);
        add(&mut dx, &dmiddle);
        (dx, dw)
    }
}

fn add(sum: &mut [f32], more: &[f32]) {
    for (s, m) in sum.iter_mut().zip(more) {
        *s += m;
    }
}

impl CustomOp2 for Block {
    fn name(&self) -> &'static str {
        "transformer-block"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, hidden) = xl.shape().dims2()?;
        let (x, w) = (slice(x, xl)?, slice(w, wl)?);
        if hidden != self.config.hidden_size
            || n != self.packing.lengths.iter().sum::<usize>()
            || w.len() != self.parts.size()
        {
            candle_core::bail!("block: x {:?}, {} weights", xl.shape(), w.len());
        }
        let (y, saved) = self.forward(x, w);
        if self.train {
            // An op is applied once, so the cell is empty.
            let _ = self.saved.set(saved);
        }
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(saved) = self.saved.get() else {
            candle_core::bail!("block: the forward pass kept nothing for a backward pass");
        };
        let (dx, dw) = with_slice(x, |x| {
            with_slice(w, |w| with_slice(grad, |dy| Ok(self.backward(x, w, dy, saved))))
        })?;
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), x.device())?),
            Some(Tensor::from_vec(dw, w.shape(), w.device())?),
        ))
    }
}
