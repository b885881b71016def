//! Which tensors a configuration asks for: the one list that loading, initialising, saving and counting share.

use super::{Config, Family};

/// How a tensor starts out in a random model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Init {
    /// Normal with `initializer_range` as standard deviation.
    Normal,
    /// Norm scales.
    Ones,
    /// Biases.
    Zeros,
}

/// One tensor of the model, named as in the weight files.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub name: String,
    pub shape: Vec<usize>,
    pub init: Init,
}

impl Config {
    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key heads together (the value heads are as wide).
    pub fn key_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Are there biases on the query, key and value projections?
    pub fn qkv_bias(&self) -> bool {
        self.family == Family::Qwen2 || self.attention_bias
    }

    /// Are query and key heads normalised?
    pub fn qk_norm(&self) -> bool {
        self.family == Family::Qwen3
    }

    /// Number of trained values; a tied output projection is counted once.
    pub fn parameters(&self) -> usize {
        self.slots().iter().map(|s| s.shape.iter().product::<usize>()).sum()
    }

    /// The frequency of each pair of a head, [head_dim / 2], in radians per position.
    pub fn rope_frequencies(&self) -> Vec<f64> {
        let half = self.head_dim / 2;
        (0..half)
            .map(|i| {
                let plain = self.rope_theta.powf(-(2.0 * i as f64) / self.head_dim as f64);
                let Some(s) = self.rope_scaling else { return plain };
                let wavelength = 2.0 * std::f64::consts::PI / plain;
                let original = s.original_max_position_embeddings as f64;
                if wavelength < original / s.high_freq_factor {
                    plain
                } else if wavelength > original / s.low_freq_factor {
                    plain / s.factor
                } else {
                    let smooth = (original / wavelength - s.low_freq_factor)
                        / (s.high_freq_factor - s.low_freq_factor);
                    (1.0 - smooth) * plain / s.factor + smooth * plain
                }
            })
            .collect()
    }

    pub(crate) fn slots(&self) -> Vec<Slot> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (query, key) = (self.query_width(), self.key_width());
        let mut slots = Vec::new();
        let mut add = |name: String, shape: &[usize], init: Init| {
            slots.push(Slot { name, shape: shape.to_vec(), init });
        };
        add("model.embed_tokens.weight".to_owned(), &[self.vocab_size, hidden], Init::Normal);
        for layer in 0..self.num_hidden_layers {
            let at = |part: &str| format!("model.layers.{layer}.{part}");
            add(at("input_layernorm.weight"), &[hidden], Init::Ones);
            for (part, width) in [("q_proj", query), ("k_proj", key), ("v_proj", key)] {
                add(at(&format!("self_attn.{part}.weight")), &[width, hidden], Init::Normal);
                if self.qkv_bias() {
                    add(at(&format!("self_attn.{part}.bias")), &[width], Init::Zeros);
                }
            }
            add(at("self_attn.o_proj.weight"), &[hidden, query], Init::Normal);
            if self.attention_bias {
                add(at("self_attn.o_proj.bias"), &[hidden], Init::Zeros);
            }
            if self.qk_norm() {
                add(at("self_attn.q_norm.weight"), &[self.head_dim], Init::Ones);
                add(at("self_attn.k_norm.weight"), &[self.head_dim], Init::Ones);
            }
            add(at("post_attention_layernorm.weight"), &[hidden], Init::Ones);
            for (part, shape) in [
                ("gate_proj", [inner, hidden]),
                ("up_proj", [inner, hidden]),
                ("down_proj", [hidden, inner]),
            ] {
                add(at(&format!("mlp.{part}.weight")), &shape, Init::Normal);
                if self.mlp_bias {
                    add(at(&format!("mlp.{part}.bias")), &shape[..1], Init::Zeros);
                }
            }
        }
        add("model.norm.weight".to_owned(), &[hidden], Init::Ones);
        if !self.tie_word_embeddings {
            add("lm_head.weight".to_owned(), &[self.vocab_size, hidden], Init::Normal);
        }
        slots
    }
}
