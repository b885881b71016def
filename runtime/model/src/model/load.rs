//! Reading a Hugging Face folder: every tensor accounted for, every disagreement named.
//!
//! Files are parsed as data and never executed; `.bin` checkpoints (Python pickles) are refused for that reason.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use safetensors::{Dtype as Stored, SafeTensors, tensor::TensorView};

use super::{EMBEDDING, HEAD, How, Model};
use crate::config::Config;
use crate::error::{ModelError, Result, json, read, read_optional};
use crate::tokenizer::Tokenizer;

/// Files that are kept verbatim and written back.
const SIDECARS: [&str; 4] = [
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

impl Model {
    /// Loads a folder with `config.json`, `model.safetensors` (or shards with `model.safetensors.index.json`) and, if
    /// there is one, `tokenizer.json`. Weights become f32.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        if !dir.is_dir() {
            let why = if dir.exists() { "it is a file" } else { "there is no such folder" };
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, why);
            return Err(ModelError::io("open the model folder", dir)(source));
        }
        let config = Config::load(&dir.join("config.json"))?;
        let mut weights = Weights::new(&config, device);
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        let files = if single.is_file() {
            vec![single]
        } else if index.is_file() {
            shards(&index)?.into_iter().map(|name| dir.join(name)).collect()
        } else {
            let source = std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "neither it nor model.safetensors.index.json exists (.bin and .gguf files are not read: save the model with save_pretrained, which writes safetensors)",
            );
            return Err(ModelError::io("read", &single)(source));
        };
        for file in &files {
            weights.add(&read(file)?, &file.display().to_string())?;
        }
        let weights = weights.finish(&match files.as_slice() {
            [one] => format!("`{}`", one.display()),
            many => format!("the {} files of `{}`", many.len(), index.display()),
        })?;
        let mut sidecars = BTreeMap::new();
        for name in SIDECARS {
            if let Some(bytes) = read_optional(&dir.join(name))? {
                if Path::new(name).extension().is_some_and(|e| e == "json") {
                    json(&bytes, &dir.join(name).display().to_string())?;
                }
                sidecars.insert(name, bytes);
            }
        }
        let mut model = Model {
            config,
            device: device.clone(),
            how: How::on(device),
            weights,
            tokenizer: None,
            sidecars,
        };
        let path = dir.join("tokenizer.json");
        if let Some(bytes) = read_optional(&path)? {
            let settings = model.sidecars.get("tokenizer_config.json").map(Vec::as_slice);
            let tokenizer = Tokenizer::from_bytes(&bytes, settings, &path.display().to_string())?;
            model.set_tokenizer(tokenizer)?;
        }
        Ok(model)
    }

    /// A model from the contents of `config.json`, `model.safetensors` and `tokenizer.json`, for weights compiled into a
    /// program.
    pub fn from_bytes(
        config: &[u8],
        weights: &[u8],
        tokenizer: Option<&[u8]>,
        device: &Device,
    ) -> Result<Self> {
        let config = Config::from_json(config, "config.json")?;
        let mut store = Weights::new(&config, device);
        store.add(weights, "model.safetensors")?;
        let weights = store.finish("`model.safetensors`")?;
        let mut model = Model {
            config,
            device: device.clone(),
            how: How::on(device),
            weights,
            tokenizer: None,
            sidecars: BTreeMap::new(),
        };
        if let Some(bytes) = tokenizer {
            model.set_tokenizer(Tokenizer::from_bytes(bytes, None, "tokenizer.json")?)?;
        }
        Ok(model)
    }
}

/// The distinct files of an index, in order of name.
fn shards(index: &Path) -> Result<Vec<String>> {
    let file = index.display().to_string();
    let value = json(&read(index)?, &file)?;
    let Some(map) = value["weight_map"].as_object() else {
        return Err(ModelError::config(&file, "weight_map", "is missing or not an object"));
    };
    let mut names = Vec::new();
    for (tensor, name) in map {
        match name.as_str() {
            Some(name) if !name.contains(['/', '\\']) => names.push(name.to_owned()),
            _ => {
                return Err(ModelError::config(
                    &file,
                    &format!("weight_map.{tensor}"),
                    format!("is {name}, but must be the name of a file in the same folder"),
                ));
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Tensors found so far, against those the configuration asks for.
struct Weights<'a> {
    config: &'a Config,
    device: &'a Device,
    expected: BTreeMap<String, Vec<usize>>,
    found: BTreeMap<String, Var>,
}

impl<'a> Weights<'a> {
    fn new(config: &'a Config, device: &'a Device) -> Self {
        let expected = config.slots().into_iter().map(|s| (s.name, s.shape)).collect();
        Self { config, device, expected, found: BTreeMap::new() }
    }

    fn add(&mut self, bytes: &[u8], file: &str) -> Result<()> {
        let parsed = SafeTensors::deserialize(bytes).map_err(|e| ModelError::Safetensors {
            file: file.to_owned(),
            message: e.to_string(),
        })?;
        let mut tensors = parsed.tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        for (stored_name, view) in tensors {
            // Folders saved from the bare decoder lack the prefix.
            let name = if self.expected.contains_key(&stored_name) {
                stored_name.clone()
            } else {
                format!("model.{stored_name}")
            };
            let Some(expected) = self.expected.get(&name) else {
                if self.ignorable(&stored_name) {
                    continue;
                }
                return Err(Self::unexpected(stored_name, &view, file));
            };
            if view.shape() != expected {
                return Err(ModelError::Shape {
                    file: file.to_owned(),
                    name: stored_name,
                    found: view.shape().to_vec(),
                    expected: expected.clone(),
                });
            }
            let values = floats(&view).ok_or_else(|| ModelError::Dtype {
                file: file.to_owned(),
                name: stored_name.clone(),
                found: format!("{:?}", view.dtype()),
            })?;
            let tensor = Tensor::from_vec(values, expected.as_slice(), self.device)?;
            self.found.insert(name, Var::from_tensor(&tensor)?);
        }
        Ok(())
    }

    /// Buffers that old files carry and that are computed here; a tied head stored twice.
    fn ignorable(&self, name: &str) -> bool {
        name.ends_with("rotary_emb.inv_freq") || (name == HEAD && self.config.tie_word_embeddings)
    }

    fn unexpected(name: String, view: &TensorView<'_>, file: &str) -> ModelError {
        let hint = if name.contains(".bias") {
            "it is a bias; is `attention_bias` or `mlp_bias` (or the family) wrong in config.json?"
        } else if name.contains("_norm") {
            "it is a head norm, which only qwen3 has; is `model_type` wrong in config.json?"
        } else if name.contains("layers.") {
            "is `num_hidden_layers` or `model_type` wrong in config.json?"
        } else {
            "only plain decoder weights are supported (no adapters, no quantisation)"
        };
        ModelError::UnexpectedTensor {
            file: file.to_owned(),
            name,
            found: view.shape().to_vec(),
            hint: hint.to_owned(),
        }
    }

    fn finish(self, files: &str) -> Result<BTreeMap<String, Var>> {
        for (name, shape) in &self.expected {
            if !self.found.contains_key(name) {
                let hint = if name == HEAD && self.found.contains_key(EMBEDDING) {
                    "; if the output projection is the embedding, set `tie_word_embeddings` to true"
                } else {
                    ""
                };
                return Err(ModelError::MissingTensor {
                    file: files.to_owned(),
                    name: name.clone(),
                    expected: shape.clone(),
                    hint: hint.to_owned(),
                });
            }
        }
        Ok(self.found)
    }
}

/// The values as f32; nothing for formats that are not plain floats.
fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = view.data();
    let pairs = || data.chunks_exact(2).map(|b| [b[0], b[1]]);
    match view.dtype() {
        Stored::F32 => Some(
            data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        ),
        Stored::BF16 => Some(pairs().map(|b| half::bf16::from_le_bytes(b).to_f32()).collect()),
        Stored::F16 => Some(pairs().map(|b| half::f16::from_le_bytes(b).to_f32()).collect()),
        Stored::F64 => Some(
            data.chunks_exact(8)
                .map(|b| {
                    f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32
                })
                .collect(),
        ),
        _ => None,
    }
}
