//! A real pretrained checkpoint, a foreign bf16 checkpoint, real tokenizers and real configurations.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

mod common;

use candle_core::Device;
use rlc_model::{Config, Model, SampleOptions, Tokenizer, generate, logprobs};
use serde_json::Value;

fn numbers(v: &Value) -> Vec<f32> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn ids(v: &Value) -> Vec<u32> {
    v.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect()
}

fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn stories_logits_match_the_golden_file() {
    let Some(dir) = common::shared_data("stories_logits_match_the_golden_file", "stories260k")
    else {
        return;
    };
    let model = Model::load(&dir, &Device::Cpu).unwrap();
    assert_eq!(model.config().parameters(), 260_032);
    assert_eq!(model.stop_ids(), [1]);
    let golden = lines(&dir.join("golden.jsonl"));
    // All texts packed into one pass.
    let parts: Vec<Vec<u32>> = golden.iter().map(|g| ids(&g["ids"])).collect();
    let lengths: Vec<usize> = parts.iter().map(Vec::len).collect();
    let packed = parts.concat();
    let hidden = model.forward_frozen(&packed, &lengths).unwrap();
    let rows: Vec<u32> = (0..packed.len() as u32).collect();
    let logits = model.logits(&model.hidden_rows(&hidden, &rows).unwrap()).unwrap();
    let logits = logits.detach().to_vec2::<f32>().unwrap();
    let mut start = 0;
    let mut worst = 0f64;
    for g in &golden {
        let text = g["text"].as_str().unwrap();
        let these = ids(&g["ids"]);
        let encoded = model.tokenizer().unwrap().encode(text, true).unwrap();
        assert_eq!(encoded, these, "{text}");
        let expected = numbers(&g["token_logprobs"]);
        let (entropies, argmax) = (numbers(&g["entropies"]), ids(&g["argmax"]));
        for (i, row) in logits[start..start + these.len()].iter().enumerate() {
            let exps: Vec<f64> = row.iter().map(|v| f64::from(*v).exp()).collect();
            let sum: f64 = exps.iter().sum();
            let entropy: f64 = exps.iter().map(|e| -(e / sum) * (e / sum).ln()).sum();
            worst = worst.max((entropy - f64::from(entropies[i])).abs());
            let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
            assert_eq!(best as u32, argmax[i]);
            if i + 1 < these.len() {
                let logp = (exps[these[i + 1] as usize] / sum).ln();
                worst = worst.max((logp - f64::from(expected[i])).abs());
            }
        }
        let last = numbers(&g["last_logits"]);
        for (a, b) in logits[start + these.len() - 1].iter().zip(&last) {
            worst = worst.max(f64::from((a - b).abs()));
        }
        start += these.len();
    }
    eprintln!("stories260k: worst difference {worst:.2e}");
    assert!(worst < 1e-4, "{worst}");

    // The same log-probs by the helper, packed.
    let mut rows = Vec::new();
    let mut targets = Vec::new();
    let mut expected = Vec::new();
    let mut start = 0;
    for g in &golden {
        let these = ids(&g["ids"]);
        for i in 0..these.len() - 1 {
            rows.push((start + i) as u32);
            targets.push(these[i + 1]);
        }
        expected.extend(numbers(&g["token_logprobs"]));
        start += these.len();
    }
    let found = logprobs(&model, &packed, &lengths, &rows, &targets, 1.0).unwrap();
    for (a, b) in found.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-4);
    }
}

#[test]
fn stories_greedy_text_is_the_known_one() {
    let Some(dir) = common::shared_data("stories_greedy_text_is_the_known_one", "stories260k")
    else {
        return;
    };
    let model = Model::load(&dir, &Device::Cpu).unwrap();
    let golden: Value =
        serde_json::from_slice(&std::fs::read(dir.join("greedy.json")).unwrap()).unwrap();
    let all = ids(&golden["greedy_ids"]);
    let n = golden["prompt_tokens"].as_u64().unwrap() as usize;
    let prompt =
        model.tokenizer().unwrap().encode(golden["prompt"].as_str().unwrap(), true).unwrap();
    assert_eq!(prompt, all[..n]);
    let options = SampleOptions {
        temperature: 0.0,
        max_new_tokens: all.len() - n,
        stop: Vec::new(),
        ..SampleOptions::default()
    };
    let out = generate(&model, &[prompt], 1, &options).unwrap();
    assert_eq!(out[0].ids, all[n..]);
    assert!(out[0].truncated);
}

#[test]
fn a_bf16_untied_folder_loads() {
    let Some(dir) = common::shared_data("a_bf16_untied_folder_loads", "digit_completion/model")
    else {
        return;
    };
    let model = Model::load(&dir, &Device::Cpu).unwrap();
    assert_eq!(model.config().parameters(), 795_776);
    assert_eq!(model.config().dtype, rlc_model::Dtype::Bf16);
    let total: usize = model.vars().iter().map(|(_, v)| v.elem_count()).sum();
    assert_eq!(total, 795_776);
    assert_eq!(model.stop_ids(), [1]);
    let prompt = model.tokenizer().unwrap().encode("8,3:9,4", false).unwrap();
    let hidden = model.forward(&prompt, &[prompt.len()]).unwrap();
    let logits = model.logits(&hidden).unwrap().detach().to_vec2::<f32>().unwrap();
    assert_eq!((logits.len(), logits[0].len()), (prompt.len(), 16));
    assert!(logits.iter().flatten().all(|v| v.is_finite()));
}

#[test]
fn real_tokenizers_give_the_expected_ids() {
    let Some(dir) = common::shared_data("real_tokenizers_give_the_expected_ids", "tokenizers")
    else {
        return;
    };
    for name in ["qwen2.5", "gpt2"] {
        let tokenizer = Tokenizer::load(&dir.join(name)).unwrap();
        for case in lines(&dir.join(name).join("vectors.jsonl")) {
            let text = case["text"].as_str().unwrap();
            let expected = ids(&case["ids"]);
            assert_eq!(tokenizer.encode(text, false).unwrap(), expected, "{name}: {text:?}");
            // Qwen composes accents before it encodes, so the text itself need not come back.
            let decoded = tokenizer.decode(&expected, false).unwrap();
            assert_eq!(tokenizer.encode(&decoded, false).unwrap(), expected, "{name}");
            assert!(name != "gpt2" || decoded == text, "{text:?}");
        }
    }
}

#[test]
fn parameter_counts_of_published_models() {
    let Some(dir) = common::shared_data("parameter_counts_of_published_models", "configs") else {
        return;
    };
    for (name, expected) in [
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen3-0.6b", 596_049_920),
        ("llama-3.2-1b", 1_235_814_400),
    ] {
        let config = Config::load(&dir.join(format!("{name}.json"))).unwrap();
        assert_eq!(config.parameters(), expected, "{name}");
        // What is written reads back as the same model.
        let json = config.to_json(config.dtype).to_string();
        assert_eq!(Config::from_json(json.as_bytes(), "again").unwrap(), config);
    }
}
