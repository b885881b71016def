//! The training loop's way through hidden states beside the plain one: logits as a candle tensor, gradients of the
//! logits, candle's backward pass from there.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::{Device, Tensor};
use rlc_compiler::link::NoFiles;
use rlc_compiler::source::{Source, Sources};
use rlc_model::{Config, Model};
use rlc_runtime::objective::{Backend, Objective};
use rlc_runtime::train::batch::{Batch, Moment, Offered, Rollout};
use rlc_runtime::train::compiled::Compiled;
use rlc_runtime::train::forward;
use rlc_runtime::train::gradients::Gradients;
use rlc_runtime::train::learner::{Learner, join_pieces};
use rlc_runtime::train::reward::Score;

const VOCAB: usize = 301;

fn model(tied: bool) -> Model {
    let config = format!(
        r#"{{"model_type": "llama", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 40, "vocab_size": {VOCAB}, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64, "initializer_range": 0.3, "tie_word_embeddings": {tied}}}"#
    );
    let config = Config::from_json(config.as_bytes(), "here").unwrap();
    Model::random(config, 7, &Device::Cpu).unwrap()
}

/// Ragged rollouts in two groups.
fn batch(model: &Model) -> Batch {
    let mut next = 1usize;
    let mut tokens = |n: usize| -> Vec<u32> {
        (0..n)
            .map(|_| {
                next = next * 75 % 65_537;
                (next % VOCAB) as u32
            })
            .collect()
    };
    let sizes = [(3, 5), (3, 1), (3, 9), (4, 2), (4, 7)];
    let rollouts = sizes.iter().enumerate().map(|(i, (prompt, n))| Rollout {
        prompt: tokens(*prompt),
        tokens: tokens(*n),
        score: Score { reward: [1.0, 0.0, 0.5][i % 3], ..Score::default() },
        ..Rollout::default()
    });
    let mut batch = Batch { groups: vec![3, 2], prompts: vec![0, 1], rollouts: rollouts.collect() };
    forward::fill_logprobs(model, &mut batch, 1.0, |r| &mut r.old_logp).unwrap();
    // Another policy than the present one: ratios on both sides of 1.
    for (i, logp) in batch.rollouts.iter_mut().flat_map(|r| &mut r.old_logp).enumerate() {
        *logp += (i % 5) as f32 * 0.1 - 0.2;
    }
    batch
}

fn learner(text: &str) -> Compiled {
    let mut sources = Sources::default();
    let root = sources.add(Source { name: "t.rl".into(), text: text.into(), library: false });
    let (checked, found) = rlc_compiler::check(&mut sources, root, &NoFiles);
    Compiled::new(Objective::new(checked.unwrap_or_else(|| panic!("{found:?}")), Backend::Cpu))
}

#[test]
fn loss_and_gradients_are_those_of_the_plain_path() {
    let programs =
        ["extend grpo\n", "extend gspo\n", "loss = seq_mean(token_loss - 0.01 * entropy)\n"];
    for (tied, text) in [true, false].into_iter().flat_map(|t| programs.map(|p| (t, p))) {
        let model = model(tied);
        let batch = batch(&model);
        let vars = model.vars();
        let offered = Offered { reward: true, ..Offered::default() };
        let table = batch.table(offered, Moment { step: 0, total: 1, seed: 1 });
        for budget in [1, 20, 1000] {
            let mut learner = learner(text);
            let mut update = learner.begin(&table, VOCAB).unwrap();
            let pieces = join_pieces(&update.pieces(), |r| batch.inputs(r), budget);
            let got = Gradients::default()
                .gradients(&model, &batch, update.as_mut(), &pieces, &vars, None)
                .unwrap();
            let loss = update.finish().unwrap().loss;

            let mut want: Vec<Option<Tensor>> = vec![None; vars.len()];
            for piece in &pieces {
                let hidden = forward::hidden(&model, &batch.rollouts[piece.clone()]).unwrap();
                let logits = model.logits(&hidden).unwrap();
                let values = logits.detach().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let d_logits = update.live(piece.clone(), &values).unwrap();
                let d_logits = Tensor::from_vec(d_logits, logits.shape(), &Device::Cpu).unwrap();
                let store = rlc_model::seed_backward(&logits, &d_logits).unwrap();
                for (slot, (_, var)) in want.iter_mut().zip(&vars) {
                    let grad = store.get(var).unwrap();
                    *slot = Some(match slot.take() {
                        Some(sum) => (sum + grad).unwrap(),
                        None => grad.clone(),
                    });
                }
            }
            let plain = update.finish().unwrap().loss;
            assert!((loss - plain).abs() <= 1e-5 * plain.abs().max(0.1), "{text}: {loss} {plain}");
            for (((name, _), got), want) in vars.iter().zip(got).zip(want) {
                let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let (got, want) = (numbers(&got.unwrap()), numbers(&want.unwrap()));
                let size = want.iter().fold(0f32, |a, b| a.max(b.abs()));
                assert!(size > 0.0, "{name}");
                for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                    let close = (g - w).abs() <= 1e-5 * size;
                    assert!(close, "{text} tied {tied} {budget} {name}[{i}]: {g} instead of {w}");
                }
            }
        }
    }
}

/// Hidden states that the old log-probs were taken from serve the first update: nothing changes by a bit.
#[test]
fn known_hidden_states_give_the_same_gradients() {
    let model = model(true);
    let mut batch = batch(&model);
    forward::fill_logprobs(&model, &mut batch, 0.7, |r| &mut r.old_logp).unwrap();
    let recomputed: Vec<Vec<f32>> = batch.rollouts.iter().map(|r| r.old_logp.clone()).collect();
    let hidden = forward::fill_old_logprobs(&model, &mut batch, 0.7).unwrap();
    for (rollout, logp) in batch.rollouts.iter().zip(&recomputed) {
        assert_eq!(&rollout.old_logp, logp);
    }
    let offered = Offered { reward: true, ..Offered::default() };
    let table = batch.table(offered, Moment { step: 0, total: 1, seed: 1 });
    let vars = model.vars();
    for budget in [20, 1000] {
        let [plain, known] = [None, Some(hidden.clone())].map(|known| {
            let mut learner = learner("extend gspo\n");
            let mut update = learner.begin(&table, VOCAB).unwrap();
            let pieces = join_pieces(&update.pieces(), |r| batch.inputs(r), budget);
            let grads = Gradients::default()
                .gradients(&model, &batch, update.as_mut(), &pieces, &vars, known)
                .unwrap();
            let numbers = |t: Option<Tensor>| t.unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let grads: Vec<Vec<f32>> = grads.into_iter().map(numbers).collect();
            (update.finish().unwrap().loss, grads)
        });
        assert!(plain.1.iter().flatten().any(|g| *g != 0.0));
        assert_eq!(plain, known, "pieces of {budget} tokens");
    }
}
