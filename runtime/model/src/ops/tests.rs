//! Each hand-written op against the plain candle form, forward and backward, on ragged batches and odd sizes.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};

use super::{Packing, Parts, Rope, plain};
use crate::config::Config;

fn values(count: usize, phase: f32) -> Vec<f32> {
    (0..count).map(|i| ((i as f32 * 0.737 + phase).sin() * 43.7).fract() * 1.5).collect()
}

fn var(shape: &[usize], phase: f32) -> Var {
    let tensor = Tensor::from_vec(values(shape.iter().product(), phase), shape, &Device::Cpu);
    Var::from_tensor(&tensor.unwrap()).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn close(a: &Tensor, b: &Tensor, what: &str) {
    assert_eq!(a.dims(), b.dims(), "{what}");
    let (a, b) = (flat(a), flat(b));
    let largest = b.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    for (x, y) in a.iter().zip(&b) {
        assert!((x - y).abs() <= 1e-5 * largest, "{what}: {x}, not {y} (largest {largest})");
    }
}

/// Both forms of an op: values, then the gradient of a fixed function for every argument.
fn compare(
    what: &str,
    vars: &[&Var],
    ours: impl Fn() -> Result<Tensor>,
    theirs: impl Fn() -> Result<Tensor>,
) {
    let (a, b) = (ours().unwrap(), theirs().unwrap());
    close(&a, &b, what);
    let weights = Tensor::from_vec(values(b.elem_count(), 9.0), b.shape(), &Device::Cpu).unwrap();
    let ours = crate::seed_backward(&a, &weights).unwrap();
    let theirs = (b * weights).unwrap().sum_all().unwrap().backward().unwrap();
    for (i, v) in vars.iter().enumerate() {
        let name = format!("{what}, gradient of argument {i}");
        close(ours.get(v.as_tensor()).unwrap(), theirs.get(v.as_tensor()).unwrap(), &name);
    }
}

#[test]
fn linear_equals_plain() {
    for (n, inner, out) in [(1, 3, 5), (300, 20, 7), (9, 64, 130)] {
        let (x, w) = (var(&[n, inner], 0.1), var(&[out, inner], 0.2));
        compare("linear", &[&x, &w], || super::linear(&x, &w), || plain::linear(&x, &w, None));
    }
}

#[test]
fn rms_norm_equals_plain() {
    for (n, d) in [(1, 6), (700, 33), (5, 128)] {
        let (x, w) = (var(&[n, d], 0.1), var(&[d], 0.2));
        compare(
            "rms_norm",
            &[&x, &w],
            || super::rms_norm(&x, &w, 1e-5),
            || plain::rms_norm(&x, &w, 1e-5),
        );
    }
}

/// Whole layers: every family, biases or not, odd head widths, sequences shorter and longer than a tile.
#[test]
fn a_block_equals_plain() {
    for (family, heads, kv_heads, dim, bias, lengths) in [
        ("llama", 1, 1, 2, false, vec![1, 2, 3]),
        ("llama", 4, 2, 6, true, vec![1, 33, 16]),
        ("qwen2", 6, 2, 16, false, vec![17, 64, 5]),
        ("qwen3", 3, 3, 40, false, vec![40, 1, 9]),
        ("qwen3", 4, 1, 8, true, vec![300, 20]),
    ] {
        let json = format!(
            r#"{{"model_type": "{family}", "hidden_size": 20, "num_hidden_layers": 1, "vocab_size": 8,
                "num_attention_heads": {heads}, "num_key_value_heads": {kv_heads}, "head_dim": {dim},
                "intermediate_size": 11, "attention_bias": {bias}, "mlp_bias": {bias}}}"#
        );
        let config = Config::from_json(json.as_bytes(), "test").unwrap();
        let longest = lengths.iter().copied().max().unwrap();
        let packing =
            Packing { lengths: lengths.into(), rope: Arc::new(Rope::new(&config, longest)) };
        let x = var(&[packing.lengths.iter().sum(), 20], 0.4);
        let weights: BTreeMap<String, Var> = config
            .slots()
            .iter()
            .zip(1u8..)
            .filter_map(|(slot, i)| {
                let name = slot.name.strip_prefix("model.layers.0.")?;
                Some((name.to_owned(), var(&slot.shape, 0.31 * f32::from(i))))
            })
            .collect();
        let weight = |name: &str| weights[name].as_tensor().clone();
        let parts = Parts::of(&config);
        assert_eq!(parts.names.len(), weights.len());
        let vars: Vec<&Var> = std::iter::once(&x).chain(weights.values()).collect();
        compare(
            &format!("{family} {heads}/{kv_heads} x {dim}"),
            &vars,
            || super::block(&x, &config, &parts, &packing, true, weight),
            || {
                let (rope, shape) = (&packing.rope, super::HeadShape::of(&config));
                let places = plain::attention::Places::new(rope, &packing.lengths, &Device::Cpu)?;
                let attend = |qkv: &Tensor| Ok(places.attend(qkv, shape)?.0);
                plain::block(&x, &config, |name| Ok(weight(name)), attend)
            },
        );
    }
}
