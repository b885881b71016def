//! Decoder-only transformers on candle: loading, sampling, packed training passes, saving.
//!
//! The policy network of an objective: a Hugging Face folder of the Llama, Qwen2 or Qwen3 family goes in, log-probs and
//! gradients come out, and a folder that `transformers` loads goes back. It ends at the logits: losses, optimisers and the
//! training loop live elsewhere and nothing here knows about them. Nothing here touches the network or prints.

pub mod config;
mod decode;
pub mod error;
pub mod gemm;
mod kv;
mod logprobs;
mod model;
mod ops;
mod packed;
pub mod sample;
mod simd;
pub mod tokenizer;

pub use config::{Config, Dtype, Family};
pub use error::{ModelError, Result};
pub use logprobs::{logprobs, logprobs_from_hidden};
pub use model::{Model, seed_backward};
pub use sample::{Completion, SampleOptions, generate, generate_each};
pub use tokenizer::Tokenizer;

/// How many threads pay off for a model of this size: one for each 80,000 parameters, as many as there are cores at most.
///
/// Small products lose more by being shared than they gain. With hundreds of sequences at once the crossing lies low: on
/// two cores a run of 23,000 parameters takes 4 % longer with two threads than with one, 91,000 take 8 % less time, and
/// 161,000 take 25 % less, for 12 % more CPU time. More cores than two were not measured. candle reads the number from
/// `RAYON_NUM_THREADS` before its first use, so the program must set it at its start, before it touches a model. It
/// changes no result.
pub fn suggested_threads(config: &Config) -> usize {
    const EACH: usize = 80_000;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (config.parameters() / EACH).clamp(1, cores)
}
