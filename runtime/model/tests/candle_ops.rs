//! The model with candle's ops, as on a GPU, against our own ops on the CPU: passes, gradients, samples.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{REFERENCES, reference, relative, sequences};
use rlc_model::{Completion, Dtype, Model, SampleOptions, generate_each, logprobs, seed_backward};

fn load(name: &str) -> Model {
    Model::load(&reference(name), &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn passes_and_gradients_are_equal() {
    let (ids, lengths) = sequences();
    let rows: Vec<u32> = (0..ids.len() as u32 - 1).collect();
    let targets: Vec<u32> = ids[1..].to_vec();
    for name in REFERENCES {
        for (dtype, near) in [(Dtype::F32, 2e-5), (Dtype::Bf16, 4e-2)] {
            let models = [load(name), load(name).with_candle_ops(dtype)];
            let outcome = models.each_ref().map(|model| {
                let hidden = model.forward(&ids, &lengths).unwrap();
                let seed: Vec<f32> =
                    (0..hidden.elem_count()).map(|i| (i as f32 * 0.37).sin()).collect();
                let seed = Tensor::from_vec(seed, hidden.dims(), &Device::Cpu).unwrap();
                let grads = seed_backward(&hidden, &seed).unwrap();
                let logp = logprobs(model, &ids, &lengths, &rows, &targets, 0.8).unwrap();
                let grads: Vec<(String, Vec<f32>)> = model
                    .vars()
                    .into_iter()
                    .filter_map(|(n, v)| Some((n, flat(grads.get(v.as_tensor())?))))
                    .collect();
                (flat(&hidden), logp, grads)
            });
            let [ours, theirs] = outcome;
            assert!(relative(&theirs.0, &ours.0) < near, "{name} {dtype:?}");
            assert!(relative(&theirs.1, &ours.1) < near, "{name} {dtype:?}");
            assert_eq!(ours.2.len(), theirs.2.len());
            for ((weight, a), (other, b)) in ours.2.iter().zip(&theirs.2) {
                assert_eq!(weight, other);
                let off = relative(b, a);
                assert!(off < near * 3.0, "{name} {dtype:?}: {weight} is off by {off}");
            }
        }
    }
}

fn close(a: &[Completion], b: &[Completion], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (n, (a, b)) in a.iter().zip(b).enumerate() {
        assert_eq!((&a.ids, a.truncated), (&b.ids, b.truncated), "{what}: completion {n}");
        for (x, y) in a.logp.iter().chain(&a.sampled_logp).zip(b.logp.iter().chain(&b.sampled_logp))
        {
            assert!((x - y).abs() < 2e-4, "{what}: completion {n}: {x}, not {y}");
        }
    }
}

#[test]
fn samples_are_equal() {
    let prompts: Vec<Vec<u32>> =
        vec![vec![3, 17, 4], vec![5], vec![12, 47, 33, 6, 21, 7, 7, 2], vec![9, 9]];
    let counts = [3, 1, 4, 2];
    for name in REFERENCES {
        let (ours, theirs) = (load(name), load(name).with_candle_ops(Dtype::F32));
        for (temperature, top_k, top_p, max_batch) in [
            (0.0, 0, 1.0, 512),
            (1.0, 0, 1.0, 512),
            (0.7, 0, 1.0, 3),
            (1.0, 5, 1.0, 4),
            (1.2, 0, 0.8, 512),
        ] {
            let options = SampleOptions {
                temperature,
                top_k,
                top_p,
                max_batch,
                stop: vec![1, 7],
                max_new_tokens: 12,
                seed: 3,
                first_prompt: 5,
            };
            let what = format!("{name}, temperature {temperature}, {top_k}, {top_p}, {max_batch}");
            let draw = |model| generate_each(model, &prompts, &counts, &options).unwrap();
            close(&draw(&ours), &draw(&theirs), &what);
        }
    }
}

#[test]
fn a_vocabulary_of_several_blocks() {
    let json =
        br#"{"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 1000,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 24,
        "max_position_embeddings": 24, "initializer_range": 0.6}"#;
    let make = || {
        let config = rlc_model::Config::from_json(json, "test").unwrap();
        Model::random(config, 4, &Device::Cpu).unwrap()
    };
    let (ours, theirs) = (make(), make().with_candle_ops(Dtype::F32));
    let options = SampleOptions { max_new_tokens: 40, seed: 9, ..SampleOptions::default() };
    let prompts = vec![vec![1, 2, 3], vec![999; 20]];
    let draw = |model| generate_each(model, &prompts, &[8, 5], &options).unwrap();
    let drawn = draw(&ours);
    assert_eq!((drawn[0].ids.len(), drawn[12].ids.len()), (21, 4), "the positions end");
    close(&drawn, &draw(&theirs), "1,000 tokens");
}
