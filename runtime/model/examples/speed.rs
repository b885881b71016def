//! How fast sampling and a training pass are, for a random model of one of a few shapes or one from a folder.
//!
//! Times are CPU seconds of the main thread where the system tells them and there is one thread, so a busy machine does
//! not matter much; with more threads they are seconds.
//!
//! `RAYON_NUM_THREADS=1 cargo run --release -p rlc-model --example speed -- [small|llama|qwen|FOLDER] [ROUNDS] [sampling]`
//!
//! The last word leaves out all but sampling.
//!
//! | shape | | parameters | sequences |
//! |---|---|---|---|
//! | `small` | 4 layers of width 128, vocabulary 16 | 0.8 M | 32 x 8 of 16 + 64 tokens |
//! | `llama` | 4 layers of width 256, vocabulary 4,096, tied | 4.3 M | 8 x 8 of 32 + 64 |
//! | `qwen` | 6 layers of width 384, 6 heads over 2, biases, vocabulary 49,152, tied | 28 M | 8 x 8 of 32 + 64 |
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, run by hand")]

use std::sync::LazyLock;
use std::time::Instant;

use candle_core::{Device, Tensor};
use rlc_model::{Config, Model, SampleOptions, generate, logprobs, seed_backward};

/// As in the command line's binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Seconds this thread has run, or seconds if it is one of several.
fn now() -> f64 {
    if candle_core::utils::get_num_threads() > 1 {
        return ORIGIN.elapsed().as_secs_f64();
    }
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = text.and_then(|t| t.split(' ').next()?.parse::<f64>().ok());
    nanos.map_or_else(|| ORIGIN.elapsed().as_secs_f64(), |n| n * 1e-9)
}

const SMALL: &str = r#"{"model_type": "llama", "hidden_size": 128, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 344,
    "vocab_size": 16, "tie_word_embeddings": false, "max_position_embeddings": 2048}"#;
const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 704,
    "vocab_size": 4096, "tie_word_embeddings": true, "max_position_embeddings": 512}"#;
const QWEN: &str = r#"{"model_type": "qwen2", "hidden_size": 384, "num_hidden_layers": 6,
    "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 1024,
    "vocab_size": 49152, "tie_word_embeddings": true, "max_position_embeddings": 512}"#;

fn random(config: &str) -> Model {
    let config = Config::from_json(config.as_bytes(), "here").unwrap();
    Model::random(config, 1, &Device::Cpu).unwrap()
}

fn main() {
    let mut args = std::env::args().skip(1);
    let shape = args.next().unwrap_or_else(|| "small".to_owned());
    let rounds: usize = args.next().map_or(4, |n| n.parse().unwrap());
    let only_sampling = args.next().is_some_and(|word| word == "sampling");
    let (model, count, length) = match shape.as_str() {
        "small" => (random(SMALL), 32, 16),
        "llama" => (random(LLAMA), 8, 32),
        "qwen" => (random(QWEN), 8, 32),
        folder => (Model::load(folder.as_ref(), &Device::Cpu).unwrap(), 8, 32),
    };
    let vocab = model.config().vocab_size as u32;
    let prompts: Vec<Vec<u32>> =
        (0..count).map(|i| (0..length).map(|j| (i * 7 + j * 3) % vocab).collect()).collect();
    let new = 64;
    let options = SampleOptions { max_new_tokens: new, max_batch: 256, ..SampleOptions::default() };
    for round in 0..rounds {
        let start = now();
        let out = generate(&model, &prompts, 8, &options).unwrap();
        let took = now() - start;
        let tokens: usize = out.iter().map(|c| c.ids.len()).sum();
        println!(
            "sampling      {tokens} tokens in {took:.3} s: {:.0} tokens/s",
            tokens as f64 / took
        );
        if only_sampling {
            continue;
        }

        let (mut ids, mut lengths) = (Vec::new(), Vec::new());
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for (i, c) in out.iter().enumerate() {
            let prompt = &prompts[i / 8];
            let base = ids.len() + prompt.len() - 1;
            rows.extend((0..c.ids.len()).map(|at| (base + at) as u32));
            targets.extend_from_slice(&c.ids);
            ids.extend_from_slice(prompt);
            ids.extend_from_slice(&c.ids);
            lengths.push(prompt.len() + c.ids.len());
        }
        let start = now();
        logprobs(&model, &ids, &lengths, &rows, &targets, 1.0).unwrap();
        let took = now() - start;
        println!(
            "log-probs     {} tokens in {took:.3} s: {:.0} tokens/s",
            ids.len(),
            ids.len() as f64 / took
        );

        let start = now();
        let hidden = model.forward(&ids, &lengths).unwrap();
        let logits = model.logits(&model.hidden_rows(&hidden, &rows).unwrap()).unwrap();
        let forward = now() - start;
        let seed = Tensor::ones(logits.shape(), logits.dtype(), &Device::Cpu).unwrap();
        let grads = seed_backward(&logits, &seed).unwrap();
        let took = now() - start;
        // Equal for every number of threads.
        let mut print = 0u64;
        let mut mix = |v: f32| print = print.rotate_left(7) ^ u64::from(v.to_bits());
        out.iter().flat_map(|c| &c.logp).for_each(|v| mix(*v));
        for (_, var) in model.vars() {
            let grad = grads.get(var.as_tensor()).unwrap().flatten_all().unwrap();
            grad.to_vec1().unwrap().into_iter().for_each(&mut mix);
        }
        println!(
            "training pass {} tokens in {took:.3} s (forward {forward:.3}): {:.0} tokens/s, round {round}, bits {print:x}",
            ids.len(),
            ids.len() as f64 / took
        );
    }
}
