//! Broken folders and configurations: an error that names the file, the key or tensor and both values; never a panic.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

mod common;

use std::fs;
use std::path::Path;

use candle_core::Device;
use rlc_model::{Config, Dtype, Model};
use serde_json::{Value, json};

/// A copy of the reference model `llama` to damage.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "generation_config.json"] {
        fs::copy(common::reference("llama").join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn edit(dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = dir.join("config.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn message(dir: &Path) -> String {
    Model::load(dir, &Device::Cpu).unwrap_err().to_string()
}

#[test]
fn settings_that_are_not_implemented_are_refused() {
    for (key, value, parts) in [
        ("model_type", json!("mistral"), ["`mistral`", "qwen3"]),
        ("architectures", json!(["Qwen2ForCausalLM"]), ["Qwen2ForCausalLM", "`llama`"]),
        ("hidden_act", json!("gelu"), ["`gelu`", "`silu`"]),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 4}), ["`yarn`", "`llama3`"]),
        ("quantization_config", json!({"bits": 4}), ["quantised", "bf16"]),
        ("sliding_window", json!(4096), ["sliding_window", "full attention"]),
        ("partial_rotary_factor", json!(0.5), ["0.5", "only 1"]),
        ("hidden_size", json!(null), ["hidden_size", "missing"]),
        ("hidden_size", json!("32"), ["\"32\"", "whole number"]),
        ("hidden_size", json!(0), ["is 0", "between 1"]),
        ("num_key_value_heads", json!(3), ["is 3", "num_attention_heads = 4"]),
        ("head_dim", json!(7), ["is 7", "even"]),
        ("rms_norm_eps", json!(-1.0), ["-1", "positive"]),
        ("eos_token_id", json!(64), ["token 64", "vocab_size is 64"]),
        ("dtype", json!("int8"), ["`int8`", "bfloat16"]),
    ] {
        let dir = folder();
        edit(dir.path(), |c| {
            if key == "rope_scaling" {
                c.as_object_mut().unwrap().remove("rope_parameters");
            }
            c[key] = value.clone();
        });
        let text = message(dir.path());
        assert!(text.contains("config.json"), "{text}");
        for part in parts {
            assert!(text.contains(part), "{key} = {value}: {text}");
        }
    }
}

#[test]
fn a_qwen_window_matters_only_when_it_is_used() {
    let json = |used: bool, layers: u32| {
        json!({"model_type": "qwen2", "hidden_size": 8, "num_hidden_layers": layers, "vocab_size": 9,
            "num_attention_heads": 2, "intermediate_size": 8, "sliding_window": 16,
            "use_sliding_window": used, "max_window_layers": 3})
        .to_string()
    };
    Config::from_json(json(false, 4).as_bytes(), "c").unwrap();
    Config::from_json(json(true, 3).as_bytes(), "c").unwrap();
    let error = Config::from_json(json(true, 4).as_bytes(), "c").unwrap_err().to_string();
    assert!(error.contains("use_sliding_window"), "{error}");
}

#[test]
fn both_layouts_of_rope_settings_mean_the_same() {
    let base = json!({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 9,
        "num_attention_heads": 2, "intermediate_size": 8});
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
    let mut old = base.clone();
    old["rope_theta"] = json!(500.0);
    old["rope_scaling"] = scaling.clone();
    let mut new = base;
    new["rope_parameters"] = scaling;
    new["rope_parameters"]["rope_theta"] = json!(500.0);
    let parse = |v: Value| Config::from_json(v.to_string().as_bytes(), "c").unwrap();
    assert_eq!(parse(old), parse(new));
}

#[test]
fn damaged_files_are_named() {
    let dir = folder();
    let weights = dir.path().join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    for length in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&weights, &whole[..length]).unwrap();
        let text = message(dir.path());
        assert!(text.contains("model.safetensors") && text.contains("not a complete"), "{text}");
    }
    // A header that claims to be enormous.
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&weights, &huge).unwrap();
    assert!(message(dir.path()).contains("not a complete"));
    fs::remove_file(&weights).unwrap();
    assert!(message(dir.path()).contains("save_pretrained"));

    let dir = folder();
    fs::write(dir.path().join("config.json"), "{\"model_type\": ").unwrap();
    let text = message(dir.path());
    assert!(text.contains("config.json") && text.contains("line 1"), "{text}");
    fs::remove_file(dir.path().join("config.json")).unwrap();
    assert!(message(dir.path()).contains("config.json"));
    assert!(message(Path::new("/no/such/folder")).contains("no such folder"));

    let dir = folder();
    fs::write(dir.path().join("tokenizer.json"), "[1]").unwrap();
    assert!(message(dir.path()).contains("tokenizer.json"));
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let dir = folder();
    edit(dir.path(), |c| c["vocab_size"] = json!(65));
    let text = message(dir.path());
    assert!(text.contains("[64, 32]") && text.contains("[65, 32]"), "{text}");

    let dir = folder();
    edit(dir.path(), |c| c["num_hidden_layers"] = json!(3));
    let text = message(dir.path());
    assert!(text.contains("model.layers.2.") && text.contains("missing"), "{text}");

    let dir = folder();
    edit(dir.path(), |c| c["num_hidden_layers"] = json!(1));
    let text = message(dir.path());
    assert!(text.contains("model.layers.1.") && text.contains("num_hidden_layers"), "{text}");

    let dir = folder();
    edit(dir.path(), |c| c["attention_bias"] = json!(true));
    assert!(message(dir.path()).contains("k_proj.bias"));
}

/// One-byte changes anywhere in the header or the configuration: an error or a model, never a panic.
#[test]
fn no_byte_makes_it_panic() {
    let dir = folder();
    let config = fs::read(dir.path().join("config.json")).unwrap();
    let weights = fs::read(dir.path().join("model.safetensors")).unwrap();
    for at in (0..1200).step_by(7) {
        let mut damaged = weights.clone();
        damaged[at] ^= 0x15;
        let _ = Model::from_bytes(&config, &damaged, None, &Device::Cpu);
    }
    for at in 0..config.len() {
        let mut damaged = config.clone();
        damaged[at] ^= 0x05;
        let _ = Model::from_bytes(&damaged, &weights, None, &Device::Cpu);
    }
}

#[test]
fn shards_and_half_precision_load() {
    let source = Model::load(&common::reference("qwen3"), &Device::Cpu).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("m");
    source.save(&folder, Dtype::F32).unwrap();
    // Split by hand into two shards.
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut map = serde_json::Map::new();
    let mut tensors = all.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let (first, second) = tensors.split_at(5);
    for (file, part) in [("a.safetensors", first), ("b.safetensors", second)] {
        let bytes = safetensors::serialize(part.iter().map(|(n, v)| (n, v)), None).unwrap();
        fs::write(folder.join(file), bytes).unwrap();
        for (name, _) in part {
            map.insert(name.clone(), json!(file));
        }
    }
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let index = json!({"metadata": {}, "weight_map": map});
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    let flat = |m: &Model| -> Vec<Vec<f32>> {
        m.vars().iter().map(|(_, v)| v.flatten_all().unwrap().to_vec1().unwrap()).collect()
    };
    assert_eq!(flat(&Model::load(&folder, &Device::Cpu).unwrap()), flat(&source));
    fs::remove_file(folder.join("b.safetensors")).unwrap();
    assert!(message(&folder).contains("b.safetensors"));

    for (dtype, precision) in [(Dtype::Bf16, 1.0 / 256.0), (Dtype::F16, 1.0 / 2048.0)] {
        source.save(&folder, dtype).unwrap();
        let again = Model::load(&folder, &Device::Cpu).unwrap();
        assert_eq!(again.config().dtype, dtype);
        for (a, b) in flat(&again).iter().zip(&flat(&source)) {
            for (a, b) in a.iter().zip(b) {
                assert!((a - b).abs() <= b.abs() * precision + 1e-7);
            }
        }
    }
}

#[test]
fn a_tokenizer_larger_than_the_model_is_refused() {
    let name = "a_tokenizer_larger_than_the_model_is_refused";
    let Some(data) = common::shared_data(name, "stories260k") else { return };
    let dir = folder();
    fs::copy(data.join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let text = message(dir.path());
    assert!(text.contains("511") && text.contains("64"), "{text}");
}

#[test]
fn wrong_batches_are_refused() {
    let model = Model::load(&common::reference("llama"), &Device::Cpu).unwrap();
    let text = |ids: &[u32], lengths: &[usize]| {
        model.forward(ids, lengths).map(drop).unwrap_err().to_string()
    };
    assert!(text(&[1, 2, 3], &[2]).contains("add up to 2"));
    assert!(text(&[], &[]).contains("at least 1"));
    assert!(text(&[1, 2], &[2, 0]).contains("sequence 1 is empty"));
    assert!(text(&[1, 64], &[2]).contains("id 64 at index 1"));
}
