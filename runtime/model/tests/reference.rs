//! Logits and parameter gradients against Hugging Face transformers (see tests/reference/models/make.py).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

mod common;

use candle_core::{Device, Tensor};
use rlc_model::{Dtype, Model, SampleOptions, generate, seed_backward};

fn weights(count: usize) -> Vec<f32> {
    (1..=count).map(|i| (0.1 * i as f64).cos() as f32).collect()
}

#[test]
fn logits_and_all_gradients_equal_transformers() {
    for name in common::REFERENCES {
        let dir = common::reference(name);
        let model = Model::load(&dir, &Device::Cpu).unwrap();
        let expected = common::arrays(&dir.join("expected.safetensors"));
        let (ids, lengths) = common::sequences();
        let hidden = model.forward(&ids, &lengths).unwrap();
        let logits = model.logits(&hidden).unwrap();
        let flat = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let off = common::relative(&flat, &expected["logits"]);
        eprintln!("{name}: logits off by {off:.1e}");
        assert!(off < 1e-5, "{name}: logits {off}");

        let grad = Tensor::from_vec(weights(flat.len()), logits.shape(), &Device::Cpu).unwrap();
        let grads = seed_backward(&logits, &grad).unwrap();
        let mut worst = 0f32;
        for (key, var) in model.vars() {
            let found = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("{name}: {key}"));
            assert_eq!(found.dims(), var.dims());
            let found = found.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let off = common::relative(&found, &expected[&format!("grad.{key}")]);
            assert!(off < 2e-5, "{name}: gradient of {key} off by {off}");
            worst = worst.max(off);
        }
        assert_eq!(model.vars().len(), expected.len() - 1, "{name}");
        eprintln!("{name}: gradients off by {worst:.1e}");

        let frozen = model.forward_frozen(&ids, &lengths).unwrap();
        let same = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(same(&frozen), same(&hidden), "{name}");
    }
}

#[test]
fn every_parameter_gets_a_gradient() {
    for name in common::REFERENCES {
        let config = rlc_model::Config::load(&common::reference(name).join("config.json")).unwrap();
        let model = Model::random(config, 7, &Device::Cpu).unwrap();
        let (ids, lengths) = common::sequences();
        let hidden = model.forward(&ids, &lengths).unwrap();
        let rows = model.hidden_rows(&hidden, &[1, 4, 9, 13]).unwrap();
        let loss = model.logits(&rows).unwrap().sqr().unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        for (key, var) in model.vars() {
            let grad = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("{name}: {key}"));
            let size = grad.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(size > 0.0, "{name}: the gradient of {key} is zero");
        }
    }
}

#[test]
fn saving_and_loading_is_the_identity() {
    let root = tempfile::tempdir().unwrap();
    for name in common::REFERENCES {
        let model = Model::load(&common::reference(name), &Device::Cpu).unwrap();
        let dir = root.path().join(name);
        // Twice: the second replaces the first.
        model.save(&dir, Dtype::Bf16).unwrap();
        model.save(&dir, Dtype::F32).unwrap();
        let again = Model::load(&dir, &Device::Cpu).unwrap();
        assert_eq!(again.config(), model.config(), "{name}");
        for ((a, x), (b, y)) in model.vars().into_iter().zip(again.vars()) {
            assert_eq!(a, b);
            let flat = |v: &candle_core::Var| v.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(flat(&x), flat(&y), "{name}: {a}");
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing left beside it");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// Needs a Python with torch and transformers: set RLC_PYTHON to it.
#[test]
fn transformers_loads_what_we_save() {
    let Some(python) = std::env::var_os("RLC_PYTHON") else {
        // Not eprintln: the test runner swallows what passing tests print with it.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"SKIPPED (optional): transformers_loads_what_we_save: RLC_PYTHON is not set\n",
        );
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let mut sources: Vec<_> = common::REFERENCES.iter().map(|n| common::reference(n)).collect();
    sources.extend(common::shared_data("transformers_loads_what_we_save (part)", "stories260k"));
    for (index, source) in sources.iter().enumerate() {
        let mut model = Model::load(source, &Device::Cpu).unwrap();
        if source.ends_with("llama") {
            // A model without files beside it, as made by training from random weights.
            model = Model::random(model.config().clone(), 1, &Device::Cpu).unwrap();
        }
        let dir = root.path().join(index.to_string());
        model.save(&dir, Dtype::F32).unwrap();
        let output = std::process::Command::new(&python)
            .arg(common::reference("make.py"))
            .arg("compare")
            .arg(&dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let theirs: Vec<f32> = value["logits"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32))
            .collect();
        let (ids, lengths) = common::sequences();
        let vocab = model.config().vocab_size as u32;
        let ids: Vec<u32> = ids.iter().map(|i| i % vocab).collect();
        let logits = model.logits(&model.forward_frozen(&ids, &lengths).unwrap()).unwrap();
        let ours = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let off = common::relative(&ours, &theirs);
        eprintln!("{}: transformers differs by {off:.1e}", source.display());
        assert!(off < 1e-5);
        if let Some(tokenizer) = model.tokenizer() {
            let ours = tokenizer.encode("Once upon a time", false).unwrap();
            assert_eq!(value["ids"], serde_json::json!(ours));
            assert_eq!(value["eos"], serde_json::json!(model.stop_ids()[0]));
        }
    }
}

#[test]
fn decoding_with_a_cache_equals_the_packed_pass() {
    for name in common::REFERENCES {
        let model = Model::load(&common::reference(name), &Device::Cpu).unwrap();
        let prompts = vec![vec![3, 17, 4], vec![9], vec![5, 60, 33, 2, 7, 7, 12]];
        let options = SampleOptions { max_new_tokens: 20, seed: 3, ..SampleOptions::default() };
        let out = generate(&model, &prompts, 3, &options).unwrap();
        let mut ids = Vec::new();
        let mut lengths = Vec::new();
        let (mut rows, mut targets, mut recorded) = (Vec::new(), Vec::new(), Vec::new());
        for (i, c) in out.iter().enumerate() {
            let prompt = &prompts[i / 3];
            for (at, id) in c.ids.iter().enumerate() {
                rows.push((ids.len() + prompt.len() - 1 + at) as u32);
                targets.push(*id);
            }
            recorded.extend_from_slice(&c.logp);
            ids.extend_from_slice(prompt);
            ids.extend_from_slice(&c.ids);
            lengths.push(prompt.len() + c.ids.len());
        }
        let again = rlc_model::logprobs(&model, &ids, &lengths, &rows, &targets, 1.0).unwrap();
        let worst = again.iter().zip(&recorded).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        eprintln!("{name}: sampled and recomputed log-probs differ by {worst:.1e}");
        assert!(worst < 2e-5, "{name}: {worst}");
    }
}
