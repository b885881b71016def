//! The sampler: distributions, seeds, independence of the batch, limits, refusals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

mod common;

use candle_core::Device;
use rlc_model::{Completion, Model, ModelError, SampleOptions, generate, generate_each};

fn model(name: &str) -> Model {
    Model::load(&common::reference(name), &Device::Cpu).unwrap()
}

/// The next-token probabilities after a prompt, in f64.
fn probabilities(model: &Model, prompt: &[u32], temperature: f64) -> Vec<f64> {
    let hidden = model.forward_frozen(prompt, &[prompt.len()]).unwrap();
    let last = model.hidden_rows(&hidden, &[prompt.len() as u32 - 1]).unwrap();
    let logits = model.logits(&last).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let weights: Vec<f64> = logits.iter().map(|v| (f64::from(*v) / temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

/// Chi-square of first tokens against probabilities, over entries expected at least 5 times; and degrees of freedom.
fn chi_square(out: &[Completion], p: &[f64]) -> (f64, f64) {
    let mut counts = vec![0f64; p.len()];
    for c in out {
        counts[c.ids[0] as usize] += 1.0;
    }
    let (mut sum, mut cells) = (0.0, 0.0);
    let (mut rest_count, mut rest_expected) = (0.0, 0.0);
    for (count, p) in counts.iter().zip(p) {
        let expected = p * out.len() as f64;
        if expected >= 5.0 {
            sum += (count - expected).powi(2) / expected;
            cells += 1.0;
        } else {
            rest_count += count;
            rest_expected += expected;
        }
    }
    if rest_expected > 1.0 {
        sum += (rest_count - rest_expected).powi(2) / rest_expected;
        cells += 1.0;
    } else {
        assert!(rest_count <= 10.0);
    }
    (sum, cells - 1.0)
}

#[test]
fn the_first_token_follows_the_softmax() {
    let model = model("llama");
    let prompt = vec![3, 17, 4];
    for (temperature, top_k, top_p) in
        [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 0, 1.0), (1.0, 5, 1.0), (1.0, 0, 0.7), (1.3, 20, 0.9)]
    {
        let mut p = probabilities(&model, &prompt, temperature);
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
        if top_k > 0 {
            order.truncate(top_k);
        }
        let mass: f64 = order.iter().map(|i| p[*i]).sum();
        let mut sum = 0.0;
        let kept = order.iter().position(|i| {
            sum += p[*i] / mass;
            sum >= top_p
        });
        order.truncate(kept.map_or(order.len(), |k| k + 1));
        let full = p.clone();
        let mass: f64 = order.iter().map(|i| p[*i]).sum();
        for (i, p) in p.iter_mut().enumerate() {
            *p = if order.contains(&i) { *p / mass } else { 0.0 };
        }
        let options = SampleOptions {
            temperature,
            top_k,
            top_p,
            max_new_tokens: 1,
            seed: 11,
            ..SampleOptions::default()
        };
        let out = generate(&model, std::slice::from_ref(&prompt), 10_000, &options).unwrap();
        let (chi, freedom) = chi_square(&out, &p);
        // Four standard deviations of a chi-square.
        let limit = freedom + 4.0 * (2.0 * freedom).sqrt();
        eprintln!("t {temperature}, k {top_k}, p {top_p}: chi-square {chi:.1} of {freedom}");
        assert!(chi < limit, "{chi} > {limit}");
        for c in out.iter().take(200) {
            let id = c.ids[0] as usize;
            assert!((f64::from(c.logp[0]) - full[id].ln()).abs() < 1e-4);
            assert!((f64::from(c.sampled_logp[0]) - p[id].ln()).abs() < 1e-4);
            assert!(c.truncated);
        }
    }
}

#[test]
fn a_seed_fixes_everything_and_another_changes_it() {
    let model = model("qwen3");
    let prompts = vec![vec![3, 17, 4], vec![9]];
    let options = SampleOptions { max_new_tokens: 24, seed: 5, ..SampleOptions::default() };
    let a = generate(&model, &prompts, 4, &options).unwrap();
    assert_eq!(a, generate(&model, &prompts, 4, &options).unwrap());
    let other = SampleOptions { seed: 6, ..options };
    assert_ne!(a, generate(&model, &prompts, 4, &other).unwrap());
    assert_eq!(a.len(), 8);
    assert!((1..4).all(|i| a[i].ids != a[0].ids), "rollouts of a prompt differ");
}

#[test]
fn a_completion_does_not_depend_on_its_batch() {
    for name in common::REFERENCES {
        let model = model(name);
        let prompts: Vec<Vec<u32>> =
            (0..13).map(|i| (0..=i).map(|j| (i * 11 + j * 5) % 64).collect()).collect();
        let options = SampleOptions {
            max_new_tokens: 25,
            stop: vec![1, 7, 23],
            seed: 9,
            ..SampleOptions::default()
        };
        let whole = generate(&model, &prompts, 3, &options).unwrap();
        // Few places at once: rollouts wait, and join batches of other sizes.
        for max_batch in [1, 5, 17] {
            let narrow = SampleOptions { max_batch, ..options.clone() };
            assert_eq!(whole, generate(&model, &prompts, 3, &narrow).unwrap(), "{name}");
        }
        // Prompt by prompt.
        for (i, prompt) in prompts.iter().enumerate() {
            let alone = SampleOptions { first_prompt: i as u64, ..options.clone() };
            let out = generate(&model, std::slice::from_ref(prompt), 3, &alone).unwrap();
            assert_eq!(whole[i * 3..(i + 1) * 3], out, "{name}, prompt {i}");
        }
        let (stopped, cut): (Vec<_>, Vec<_>) = whole.iter().partition(|c| !c.truncated);
        assert!(!stopped.is_empty() && !cut.is_empty());
        for c in &whole {
            let last = *c.ids.last().unwrap();
            assert_eq!(options.stop.contains(&last), !c.truncated);
            assert!(c.ids[..c.ids.len() - 1].iter().all(|id| !options.stop.contains(id)));
            assert!(c.truncated == (c.ids.len() == 25) || !c.truncated);
            assert_eq!((c.ids.len(), c.ids.len()), (c.logp.len(), c.sampled_logp.len()));
        }
    }
}

#[test]
fn greedy_takes_the_most_likely_token() {
    let model = model("qwen2");
    let options =
        SampleOptions { temperature: 0.0, max_new_tokens: 12, ..SampleOptions::default() };
    let out = generate(&model, &[vec![12, 47]], 2, &options).unwrap();
    assert_eq!(out[0], out[1]);
    let mut text = vec![12, 47];
    for (id, logp) in out[0].ids.iter().zip(&out[0].logp) {
        let p = probabilities(&model, &text, 1.0);
        let best = (0..p.len()).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap();
        assert_eq!(*id as usize, best);
        assert!((f64::from(*logp) - p[best].ln()).abs() < 1e-4);
        text.push(*id);
    }
    assert!(out[0].sampled_logp.iter().all(|l| *l == 0.0));
}

#[test]
fn the_context_ends_a_completion() {
    let model = model("llama");
    let limit = model.config().max_position_embeddings;
    let options = SampleOptions { max_new_tokens: 1000, ..SampleOptions::default() };
    let out = generate(&model, &[vec![3; limit - 5]], 1, &options).unwrap();
    assert_eq!(out[0].ids.len(), 5);
    assert!(out[0].truncated);
}

#[test]
fn prompts_may_get_different_numbers_of_completions() {
    let model = model("llama");
    let prompts = vec![vec![3, 17, 4], vec![9], vec![5, 6]];
    let options = SampleOptions { max_new_tokens: 12, seed: 2, ..SampleOptions::default() };
    let whole = generate(&model, &prompts, 4, &options).unwrap();
    for max_batch in [1, 3, 512] {
        let narrow = SampleOptions { max_batch, ..options.clone() };
        let out = generate_each(&model, &prompts, &[1, 4, 2], &narrow).unwrap();
        assert_eq!(out, [&whole[..1], &whole[4..8], &whole[8..10]].concat());
    }
    let e = generate_each(&model, &prompts, &[1, 4], &options).unwrap_err().to_string();
    assert!(e.contains("2 for 3 prompts"), "{e}");
}

#[test]
fn bad_arguments_are_errors_that_name_them() {
    let model = model("llama");
    let good = SampleOptions { max_new_tokens: 4, ..SampleOptions::default() };
    let message = |prompts: &[Vec<u32>], per: usize, options: &SampleOptions| -> String {
        match generate(&model, prompts, per, options) {
            Err(e @ ModelError::Argument { .. }) => e.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let prompt = [vec![1u32]];
    assert!(message(&[vec![]], 1, &good).contains("prompt 0 is empty"));
    assert!(message(&[vec![64]], 1, &good).contains("id 64 at index 0"));
    assert!(message(&[vec![1; 128]], 1, &good).contains("max_position_embeddings"));
    assert!(message(&prompt, 0, &good).contains("per_prompt: 0"));
    let with = |change: fn(&mut SampleOptions)| {
        let mut options = good.clone();
        change(&mut options);
        message(&prompt, 1, &options)
    };
    assert!(with(|o| o.temperature = -1.0).contains("temperature: -1"));
    assert!(with(|o| o.temperature = f64::NAN).contains("temperature: NaN"));
    assert!(with(|o| o.top_p = 0.0).contains("top_p: 0"));
    assert!(with(|o| o.max_new_tokens = 0).contains("max_new_tokens: 0"));
    assert!(with(|o| o.stop = vec![99]).contains("stop: id 99"));
}

#[test]
fn diverged_weights_are_an_error_not_noise() {
    let model = model("llama");
    for (name, var) in model.vars() {
        if name == "model.norm.weight" {
            var.set(&(var.as_tensor() * f64::NAN).unwrap()).unwrap();
        }
    }
    let options = SampleOptions { max_new_tokens: 4, ..SampleOptions::default() };
    let error = generate(&model, &[vec![1]], 1, &options).unwrap_err().to_string();
    assert!(error.contains("NaN"), "{error}");
}
