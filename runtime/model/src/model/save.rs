//! Writing a Hugging Face folder that `transformers` loads back.
//!
//! The folder is written under another name, flushed to disk and then renamed, so that a reader sees the whole old folder
//! or the whole new one, never a half.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype as Stored, TensorView, serialize};
use serde_json::{Value, json};

use super::{Model, generation_config};
use crate::config::Dtype;
use crate::error::{ModelError, Result};

impl Model {
    /// Writes `config.json`, `model.safetensors` (in `dtype`), `generation_config.json` and the tokenizer's files to
    /// `dir`, replacing what is there.
    pub fn save(&self, dir: &Path, dtype: Dtype) -> Result<()> {
        let Some(name) = dir.file_name() else {
            return Err(ModelError::argument("dir", format!("`{}` has no name", dir.display())));
        };
        let beside = |suffix: &str| -> PathBuf {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{suffix}-{}", std::process::id()));
            dir.with_file_name(hidden)
        };
        let (fresh, old) = (beside("new"), beside("old"));
        remove(&fresh)?;
        fs::create_dir_all(&fresh).map_err(ModelError::io("create", &fresh))?;
        let written = self.write(&fresh, dtype);
        if written.is_err() {
            // The first error is the one to report.
            let _ = remove(&fresh);
            return written;
        }
        let replaced = dir.exists();
        if replaced {
            remove(&old)?;
            fs::rename(dir, &old).map_err(ModelError::io("move aside", dir))?;
        }
        fs::rename(&fresh, dir).map_err(ModelError::io("rename into place", &fresh))?;
        if replaced {
            remove(&old)?;
        }
        Ok(())
    }

    fn write(&self, dir: &Path, dtype: Dtype) -> Result<()> {
        let put = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            let mut file = fs::File::create(&path).map_err(ModelError::io("create", &path))?;
            file.write_all(bytes).map_err(ModelError::io("write", &path))?;
            file.sync_all().map_err(ModelError::io("write", &path))
        };
        put("config.json", &pretty(&self.config().to_json(dtype)))?;
        put("model.safetensors", &self.weight_bytes(dtype)?)?;
        for (name, bytes) in &self.sidecars {
            put(name, bytes)?;
        }
        if !self.sidecars.contains_key("generation_config.json") {
            put("generation_config.json", &pretty(&generation_config(self.config())))?;
        }
        if let Some(tokenizer) = self.tokenizer() {
            put("tokenizer.json", tokenizer.json())?;
            if !self.sidecars.contains_key("tokenizer_config.json") {
                let config = self.config();
                let text = |id: Option<&u32>| id.and_then(|id| tokenizer.token(*id));
                put(
                    "tokenizer_config.json",
                    &pretty(&json!({
                        "tokenizer_class": "PreTrainedTokenizerFast",
                        "bos_token": text(config.bos_token_id.as_ref()),
                        "eos_token": text(config.eos_token_id.first()),
                        "pad_token": text(config.pad_token_id.as_ref()),
                        "model_max_length": config.max_position_embeddings,
                        "clean_up_tokenization_spaces": false,
                    })),
                )?;
            }
        }
        Ok(())
    }

    /// The contents of a `model.safetensors` with all weights in `dtype`.
    pub fn weight_bytes(&self, dtype: Dtype) -> Result<Vec<u8>> {
        let stored = match dtype {
            Dtype::F32 => Stored::F32,
            Dtype::Bf16 => Stored::BF16,
            Dtype::F16 => Stored::F16,
        };
        let mut arrays = Vec::new();
        for (name, var) in self.vars() {
            let values = var.as_detached_tensor().flatten_all()?.to_vec1::<f32>()?;
            let bytes: Vec<u8> = match dtype {
                Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                Dtype::Bf16 => {
                    values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect()
                }
                Dtype::F16 => {
                    values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect()
                }
            };
            arrays.push((name, var.dims().to_vec(), bytes));
        }
        let fail = |e: safetensors::SafeTensorError| ModelError::Safetensors {
            file: "model.safetensors".to_owned(),
            message: e.to_string(),
        };
        let mut views = Vec::new();
        for (name, shape, bytes) in &arrays {
            let view = TensorView::new(stored, shape.clone(), bytes).map_err(fail)?;
            views.push((name.as_str(), view));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        serialize(views, Some(metadata)).map_err(fail)
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(ModelError::io("remove", path)(e)),
    }
}
