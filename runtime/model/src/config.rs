//! The shape of a model: Hugging Face's `config.json`, read, checked and written.
//!
//! Everything else in this crate takes its sizes from [`Config`] and nothing reads the JSON a second time. A setting
//! which would change the result and is not implemented is an error here, never ignored.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{ModelError, Result, json as parse_json, read};

mod keys;
pub(crate) mod shapes;

use keys::Keys;

/// The architectures whose layers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `LlamaForCausalLM`.
    Llama,
    /// `Qwen2ForCausalLM`: biases on the query, key and value projections.
    Qwen2,
    /// `Qwen3ForCausalLM`: RMSNorm on each query and key head.
    Qwen3,
}

impl Family {
    const ALL: [Family; 3] = [Family::Llama, Family::Qwen2, Family::Qwen3];

    /// The `model_type` of `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        }
    }

    /// The class name in `architectures`.
    pub fn architecture(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// The `llama3` rotary scaling of Llama 3.1 and later.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// How much longer the context became.
    pub factor: f64,
    /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are stretched by `factor`.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_max_position_embeddings / high_freq_factor` stay as they are.
    pub high_freq_factor: f64,
    /// The context length before stretching.
    pub original_max_position_embeddings: usize,
}

/// Number format of saved weights. In memory they are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half.
    F16,
}

impl Dtype {
    /// The name `config.json` uses.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "float32",
            Dtype::Bf16 => "bfloat16",
            Dtype::F16 => "float16",
        }
    }
}

/// A decoder-only transformer's sizes and constants.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which layers it is made of.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head (even); need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Width of the SwiGLU layer.
    pub intermediate_size: usize,
    /// Rows of the embedding and of the output projection.
    pub vocab_size: usize,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Stretching of the rotary frequencies, if any.
    pub rope_scaling: Option<Llama3Scaling>,
    /// The output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// Biases on q, k, v and o (Llama, Qwen3). Qwen2 has q, k, v biases regardless and this stays false.
    pub attention_bias: bool,
    /// Biases in the SwiGLU layer (Llama).
    pub mlp_bias: bool,
    /// Longest sequence the model was made for; the sampler stops there.
    pub max_position_embeddings: usize,
    /// Standard deviation of random initial weights.
    pub initializer_range: f64,
    /// Start token, if the model has one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_id: Vec<u32>,
    /// Padding token, kept for other programs (nothing is padded here).
    pub pad_token_id: Option<u32>,
    /// Format the weights were stored in.
    pub dtype: Dtype,
}

impl Config {
    /// Reads `config.json`.
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_json(&read(path)?, &path.display().to_string())
    }

    /// Parses a `config.json`; `file` is the name errors show.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let value = parse_json(bytes, file)?;
        let Value::Object(map) = value else {
            return Err(ModelError::Json {
                file: file.to_owned(),
                message: "the document is not an object".to_owned(),
            });
        };
        let keys = Keys::new(file, &map);
        let family = family(&keys)?;
        refuse_unsupported(&keys, family)?;

        let hidden_size = keys.count("hidden_size")?;
        let heads = keys.count("num_attention_heads")?;
        let default_head = if family == Family::Qwen3 { 128 } else { hidden_size / heads.max(1) };
        let (rope_theta, rope_scaling) = rope(&keys)?;
        let config = Config {
            family,
            hidden_size,
            num_hidden_layers: keys.count("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: keys.count_or("num_key_value_heads", heads)?,
            head_dim: keys.count_or("head_dim", default_head)?,
            intermediate_size: keys.count("intermediate_size")?,
            vocab_size: keys.count("vocab_size")?,
            rms_norm_eps: keys.number_or("rms_norm_eps", 1e-6)?,
            rope_theta,
            rope_scaling,
            tie_word_embeddings: keys.flag_or("tie_word_embeddings", false)?,
            attention_bias: family != Family::Qwen2 && keys.flag_or("attention_bias", false)?,
            mlp_bias: family == Family::Llama && keys.flag_or("mlp_bias", false)?,
            max_position_embeddings: keys.count_or(
                "max_position_embeddings",
                if family == Family::Llama { 2048 } else { 32768 },
            )?,
            initializer_range: keys.number_or("initializer_range", 0.02)?,
            bos_token_id: keys.token("bos_token_id")?,
            eos_token_id: keys.tokens("eos_token_id")?,
            pad_token_id: keys.token("pad_token_id")?,
            dtype: dtype(&keys)?,
        };
        config.check(file)?;
        Ok(config)
    }

    /// Checks that the sizes fit together; `file` is the name errors show.
    pub fn check(&self, file: &str) -> Result<()> {
        let fail = |key: &str, message: String| Err(ModelError::config(file, key, message));
        for (key, value) in [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            // The upper bound keeps products of two sizes inside usize whatever the file says.
            if value == 0 || value > 1 << 28 {
                return fail(key, format!("is {value}; it must lie between 1 and {}", 1 << 28));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return fail(
                "num_key_value_heads",
                format!(
                    "is {}, which does not divide num_attention_heads = {}",
                    self.num_key_value_heads, self.num_attention_heads
                ),
            );
        }
        if !self.head_dim.is_multiple_of(2) {
            return fail(
                "head_dim",
                format!("is {}; rotary embeddings need an even width", self.head_dim),
            );
        }
        for (key, value) in [("rms_norm_eps", self.rms_norm_eps), ("rope_theta", self.rope_theta)] {
            if !(value.is_finite() && value > 0.0) {
                return fail(key, format!("is {value}; it must be positive and finite"));
            }
        }
        if let Some(s) = self.rope_scaling
            && !(s.factor > 0.0
                && s.low_freq_factor > 0.0
                && s.high_freq_factor > s.low_freq_factor)
        {
            return fail(
                "rope_scaling",
                format!(
                    "factor {}, low_freq_factor {}, high_freq_factor {}: they must be positive, and high above low",
                    s.factor, s.low_freq_factor, s.high_freq_factor
                ),
            );
        }
        for &id in self.eos_token_id.iter().chain(&self.bos_token_id) {
            if id as usize >= self.vocab_size {
                return fail(
                    "eos_token_id",
                    format!("token {id} does not exist: vocab_size is {}", self.vocab_size),
                );
            }
        }
        Ok(())
    }

    /// The JSON document that `transformers` reads, with `dtype` as the format of the weights beside it.
    pub fn to_json(&self, dtype: Dtype) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
        put("architectures", json!([self.family.architecture()]));
        put("model_type", json!(self.family.model_type()));
        put("hidden_size", json!(self.hidden_size));
        put("num_hidden_layers", json!(self.num_hidden_layers));
        put("num_attention_heads", json!(self.num_attention_heads));
        put("num_key_value_heads", json!(self.num_key_value_heads));
        put("head_dim", json!(self.head_dim));
        put("intermediate_size", json!(self.intermediate_size));
        put("vocab_size", json!(self.vocab_size));
        put("hidden_act", json!("silu"));
        put("rms_norm_eps", json!(self.rms_norm_eps));
        put("max_position_embeddings", json!(self.max_position_embeddings));
        put("initializer_range", json!(self.initializer_range));
        put("tie_word_embeddings", json!(self.tie_word_embeddings));
        put("attention_dropout", json!(0.0));
        put("use_cache", json!(true));
        // The older layout: transformers 4 and 5 both read it.
        put("rope_theta", json!(self.rope_theta));
        put(
            "rope_scaling",
            self.rope_scaling.map_or(Value::Null, |s| {
                json!({
                    "rope_type": "llama3",
                    "factor": s.factor,
                    "low_freq_factor": s.low_freq_factor,
                    "high_freq_factor": s.high_freq_factor,
                    "original_max_position_embeddings": s.original_max_position_embeddings,
                })
            }),
        );
        match self.family {
            Family::Llama => {
                put("attention_bias", json!(self.attention_bias));
                put("mlp_bias", json!(self.mlp_bias));
            }
            Family::Qwen2 => {
                put("use_sliding_window", json!(false));
            }
            Family::Qwen3 => {
                put("attention_bias", json!(self.attention_bias));
                put("use_sliding_window", json!(false));
            }
        }
        put("bos_token_id", json!(self.bos_token_id));
        put("eos_token_id", token_list(&self.eos_token_id));
        put("pad_token_id", json!(self.pad_token_id));
        put("torch_dtype", json!(dtype.name()));
        Value::Object(map)
    }
}

/// One id as a number, several as a list, none as null: Hugging Face's convention.
pub(crate) fn token_list(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [one] => json!(one),
        many => json!(many),
    }
}

fn family(keys: &Keys) -> Result<Family> {
    let supported =
        "supported: llama (LlamaForCausalLM), qwen2 (Qwen2ForCausalLM), qwen3 (Qwen3ForCausalLM)";
    let named = keys.text("model_type")?;
    let class = keys.first_text("architectures")?;
    let by_type = named.map(|n| Family::ALL.into_iter().find(|f| f.model_type() == n));
    let by_class = class.map(|c| Family::ALL.into_iter().find(|f| f.architecture() == c));
    match (by_type, by_class) {
        (Some(None), _) => {
            Err(keys.error("model_type", format!("`{}`; {supported}", named.unwrap_or_default())))
        }
        (_, Some(None)) => {
            Err(keys
                .error("architectures", format!("`{}`; {supported}", class.unwrap_or_default())))
        }
        (Some(Some(a)), Some(Some(b))) if a != b => Err(keys.error(
            "architectures",
            format!("`{}` contradicts model_type `{}`", b.architecture(), a.model_type()),
        )),
        (Some(Some(family)), _) | (None, Some(Some(family))) => Ok(family),
        (None, None) => Err(keys.error("model_type", format!("is missing; {supported}"))),
    }
}

/// Settings that would change the numbers and have no implementation here.
fn refuse_unsupported(keys: &Keys, family: Family) -> Result<()> {
    let act = keys.text("hidden_act")?.unwrap_or("silu");
    if act != "silu" {
        return Err(keys.error("hidden_act", format!("`{act}`; only `silu` is supported")));
    }
    if keys.present("quantization_config") {
        return Err(keys.error(
            "quantization_config",
            "quantised weights are not supported; use the bf16, f16 or f32 version of the model",
        ));
    }
    let partial = keys.number_or("partial_rotary_factor", 1.0)?;
    if partial != 1.0 {
        return Err(keys.error(
            "partial_rotary_factor",
            format!("is {partial}; only 1 (rotate the whole head) is supported"),
        ));
    }
    if keys.list_holds("layer_types", "sliding_attention") {
        return Err(keys.error(
            "layer_types",
            "contains `sliding_attention`; only `full_attention` layers are supported",
        ));
    }
    // Qwen2 files carry sliding_window with use_sliding_window = false, which means full attention everywhere.
    if family != Family::Llama && keys.flag_or("use_sliding_window", false)? {
        let layers = keys.count("num_hidden_layers")?;
        let first = keys.count_or("max_window_layers", 28)?;
        if first < layers && keys.present("sliding_window") {
            return Err(keys.error(
                "use_sliding_window",
                format!(
                    "is true and max_window_layers = {first} of {layers} layers; only full attention is supported"
                ),
            ));
        }
    }
    if family == Family::Llama && keys.present("sliding_window") {
        return Err(keys.error("sliding_window", "is set; only full attention is supported"));
    }
    Ok(())
}

/// `rope_theta` and the scaling, from either layout: top-level keys with `rope_scaling`, or `rope_parameters`.
fn rope(keys: &Keys) -> Result<(f64, Option<Llama3Scaling>)> {
    let top = keys.number_or("rope_theta", 10_000.0)?;
    let (key, nested) = match (keys.object("rope_parameters")?, keys.object("rope_scaling")?) {
        (Some(parameters), _) => ("rope_parameters", parameters),
        (None, Some(scaling)) => ("rope_scaling", scaling),
        (None, None) => return Ok((top, None)),
    };
    let rope = keys.nested(key, nested);
    let theta = rope.number_or("rope_theta", top)?;
    let partial = rope.number_or("partial_rotary_factor", 1.0)?;
    if partial != 1.0 {
        return Err(rope.error(
            "partial_rotary_factor",
            format!("is {partial}; only 1 (rotate the whole head) is supported"),
        ));
    }
    let kind = match rope.text("rope_type")? {
        Some(kind) => kind,
        None => rope.text("type")?.unwrap_or("default"),
    };
    match kind {
        "default" => Ok((theta, None)),
        "llama3" => Ok((
            theta,
            Some(Llama3Scaling {
                factor: rope.number("factor")?,
                low_freq_factor: rope.number("low_freq_factor")?,
                high_freq_factor: rope.number("high_freq_factor")?,
                original_max_position_embeddings: rope.count("original_max_position_embeddings")?,
            }),
        )),
        other => Err(rope.error(
            "rope_type",
            format!("`{other}`; `default` and `llama3` are supported (dynamic, yarn, longrope and linear are not)"),
        )),
    }
}

fn dtype(keys: &Keys) -> Result<Dtype> {
    let (key, found) = match keys.text("dtype")? {
        Some(name) => ("dtype", Some(name)),
        None => ("torch_dtype", keys.text("torch_dtype")?),
    };
    match found.map(|name| name.trim_start_matches("torch.")) {
        None | Some("float32" | "float" | "float64") => Ok(Dtype::F32),
        Some("bfloat16") => Ok(Dtype::Bf16),
        Some("float16" | "half") => Ok(Dtype::F16),
        Some(other) => {
            Err(keys.error(key, format!("`{other}`; float32, bfloat16 and float16 are supported")))
        }
    }
}
