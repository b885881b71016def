//! The embedded model: a small Llama that has seen demonstrations of the arithmetic task, made by
//! `scripts/make_embedded_model.sh`.

use std::path::Path;

use candle_core::Device;
use rlc_model::{Config as Shape, Model, ModelError, Tokenizer};

use super::error::{Result, TrainError};
use super::rollouts::model as model_error;

/// Files of a model's folder; one of them missing says what else must be there.
const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
const SHAPE: &[u8] = include_bytes!("../../assets/arithmetic/config.json");
const TOKENIZER: &[u8] = include_bytes!("../../assets/arithmetic/tokenizer.json");
const WEIGHTS: &[u8] = include_bytes!("../../assets/arithmetic/model.safetensors");

/// Loads the weights that `model.init` names.
pub fn initial_model(init: &str, seed: u64, device: &Device) -> Result<Model> {
    match init {
        "embedded" => {
            Model::from_bytes(SHAPE, WEIGHTS, Some(TOKENIZER), device).map_err(model_error)
        }
        "random" => {
            let shape = Shape::from_json(SHAPE, "embedded config.json").map_err(model_error)?;
            let tokenizer = Tokenizer::from_bytes(TOKENIZER, None, "embedded tokenizer.json");
            random(shape, tokenizer.map_err(model_error)?, seed, device)
        }
        _ => match init.strip_prefix("random:") {
            Some(dir) => {
                let dir = Path::new(dir);
                let shape = Shape::load(&dir.join("config.json")).map_err(input)?;
                random(shape, Tokenizer::load(dir).map_err(input)?, seed, device)
            }
            None => Model::load(Path::new(init), device).map_err(input),
        },
    }
}

const THREADS: &str = "RAYON_NUM_THREADS";

/// Makes candle use as many threads as pay off for the model that `init` names, unless the user chose:
/// small models are slower on several. To be called at the start of a program; it does nothing once
/// there are other threads.
pub fn use_suggested_threads(init: &str) {
    if std::env::var_os(THREADS).is_some() {
        return;
    }
    let shape = match init {
        "embedded" | "random" => Shape::from_json(SHAPE, "embedded config.json"),
        _ => Shape::load(
            &Path::new(init.strip_prefix("random:").unwrap_or(init)).join("config.json"),
        ),
    };
    // A folder that cannot be read is explained by loading it.
    let Ok(shape) = shape else { return };
    use_threads(rlc_model::suggested_threads(&shape));
}

/// Makes kernels and matrix products use so many threads. To be called at the start of a program;
/// false where there are other threads already, and then nothing changes.
pub fn use_threads(count: usize) -> bool {
    let alone = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|s| s.lines().any(|l| l.split_whitespace().eq(["Threads:", "1"])));
    if alone {
        // SAFETY: changing the environment races with other threads only, and this is the only thread.
        unsafe { std::env::set_var(THREADS, count.to_string()) };
    }
    alone
}

/// What the user pointed at is at fault, not the run.
fn input(e: ModelError) -> TrainError {
    let hint = match &e {
        ModelError::Io { path, .. }
            if path.file_name().is_some_and(|n| FILES.iter().any(|f| n == *f)) =>
        {
            "a model's folder holds config.json, model.safetensors or shards with \
             model.safetensors.index.json, and tokenizer.json, as save_pretrained writes them"
        }
        ModelError::Io { .. } => {
            "write \"embedded\", \"random\", \"random:DIR\" or a Hugging Face folder on this machine: \
             nothing is downloaded"
        }
        _ => "write \"embedded\", \"random\", \"random:DIR\" or a Hugging Face folder",
    };
    TrainError::Config(format!("model.init: {e} ({hint})"))
}

fn random(shape: Shape, tokenizer: Tokenizer, seed: u64, device: &Device) -> Result<Model> {
    let mut model = Model::random(shape, seed, device).map_err(model_error)?;
    model.set_tokenizer(tokenizer).map_err(model_error)?;
    Ok(model)
}
