//! Each hand-written op against the plain candle form, forward and backward, on ragged batches and odd sizes.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};

use super::{HeadShape, Packing, Rope, plain};
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
        assert!((x - y).abs() <= 5e-6 * largest, "{what}: {x}, not {y} (largest {largest})");
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
        let (x, w, b) = (var(&[n, inner], 0.1), var(&[out, inner], 0.2), var(&[out], 0.3));
        compare(
            "linear",
            &[&x, &w],
            || super::linear(&x, &w, None),
            || plain::linear(&x, &w, None),
        );
        compare(
            "linear with bias",
            &[&x, &w, &b],
            || super::linear(&x, &w, Some(&b)),
            || plain::linear(&x, &w, Some(&b)),
        );
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

#[test]
fn swiglu_equals_plain() {
    for (n, f) in [(1, 3), (600, 17), (4, 64)] {
        let x = var(&[n, 2 * f], 0.1);
        compare("swiglu", &[&x], || super::swiglu(&x), || plain::swiglu(&x));
    }
}

fn shapes() -> impl Iterator<Item = (HeadShape, Packing)> {
    [(1, 1, 2, [1, 2, 3]), (4, 2, 6, [1, 33, 16]), (6, 2, 16, [17, 64, 5]), (3, 3, 40, [40, 1, 9])]
        .into_iter()
        .map(|(heads, kv_heads, dim, lengths)| {
            let json = format!(
                r#"{{"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 8,
                    "num_attention_heads": {heads}, "num_key_value_heads": {kv_heads},
                    "head_dim": {dim}, "intermediate_size": 8}}"#
            );
            let config = Config::from_json(json.as_bytes(), "test").unwrap();
            let rope = Arc::new(Rope::new(&config, 64));
            (HeadShape::of(&config), Packing { lengths: lengths.as_slice().into(), rope })
        })
}

#[test]
fn attention_equals_plain() {
    for (shape, packing) in shapes() {
        let n: usize = packing.lengths.iter().sum();
        let qkv = var(&[n, shape.width()], 0.4);
        compare(
            &format!("attention {shape:?}"),
            &[&qkv],
            || super::attention(&qkv, shape, &packing),
            || plain::attention(&qkv, shape, &packing),
        );
    }
}

#[test]
fn head_norm_equals_plain() {
    for (shape, packing) in shapes() {
        let n: usize = packing.lengths.iter().sum();
        let qkv = var(&[n, shape.width()], 0.4);
        let (q, k) = (var(&[shape.dim], 0.5), var(&[shape.dim], 0.6));
        compare(
            &format!("head norm {shape:?}"),
            &[&qkv, &q, &k],
            || super::head_norm(&qkv, &q, &k, shape, 1e-5),
            || plain::head_norm(&qkv, &q, &k, shape, 1e-5),
        );
    }
}
