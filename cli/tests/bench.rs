//! `rlc bench`: what it measures is on the batch it says, and its numbers fit each other. No test
//! looks at a time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn rlc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rlc")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The JSON of a short measurement.
#[track_caller]
fn measured(args: &[&str]) -> Value {
    let done = rlc(&[&["bench", "--json", "--seconds", "0"], args].concat());
    assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[track_caller]
fn fails(args: &[&str], said: &str) {
    let done = rlc(&[&["bench"], args].concat());
    let err = text(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{err}");
    assert!(err.contains(said), "{said:?} is not in:\n{err}");
}

fn n(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/objectives/cases")
}

#[test]
fn bytes_are_those_of_the_sizes() {
    for (dtype, width) in [("f32", 4), ("bf16", 2), ("f16", 2), ("f64", 8)] {
        let m = measured(&["grpo", "--tokens", "30", "--vocab", "17", "--dtype", dtype]);
        assert_eq!((n(&m["tokens"]), n(&m["vocab"]), m["dtype"].as_str()), (30, 17, Some(dtype)));
        let bytes = &m["bytes"];
        assert_eq!(n(&bytes["logits"]), 30 * 17 * width);
        assert_eq!(n(&bytes["gradients"]), 30 * 17 * 4);
        let parts = ["logits", "gradients", "columns", "outputs"];
        assert_eq!(n(&bytes["least"]), parts.iter().map(|p| n(&bytes[*p])).sum::<u64>());
        // One sweep for statistics, one for the gradient, and columns beside them.
        assert_eq!(n(&m["sweeps"]), 2);
        let beside = n(&bytes["read"]) - 2 * n(&bytes["logits"]);
        assert!(beside > 0 && beside < 8 * n(&bytes["columns"]), "{bytes}");
        assert!(n(&bytes["written"]) > n(&bytes["gradients"]));
    }
}

#[test]
fn every_number_is_there() {
    let args = ["gspo", "--tokens", "60", "--vocab", "5", "--groups", "3", "--rollouts", "4"];
    let m = measured(&[&args[..], &["--micro-batch", "5"]].concat());
    assert_eq!((n(&m["groups"]), n(&m["rollouts"])), (3, 12));
    // GSPO couples tokens of a rollout; so pieces are whole rollouts.
    assert_eq!((m["coupling"].as_str(), n(&m["pieces"])), (Some("rollout"), 3));
    for part in ["recorded", "live", "after", "pass", "fresh"] {
        let time = &m["time"][part];
        let (least, median) = (time["min"].as_f64().unwrap(), time["median"].as_f64().unwrap());
        assert!(0.0 < least && least <= median && n(&time["count"]) >= 2, "{part}: {time}");
    }
    for part in ["check", "specialize", "kernel", "whole"] {
        assert!(m["compile"][part]["median"].as_f64().unwrap() > 0.0, "{part}");
    }
    let rate = m["copy"]["one_thread"].as_f64().unwrap();
    let floor = m["floor"].as_f64().unwrap();
    assert!((floor * rate / m["bytes"]["least"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    let pass = m["time"]["pass"]["median"].as_f64().unwrap();
    assert!((m["floor_ratio"].as_f64().unwrap() * floor / pass - 1.0).abs() < 1e-9);
    assert!((m["ns_per_token"].as_f64().unwrap() * 60.0 / 1e9 / pass - 1.0).abs() < 1e-9);
    assert!((m["ns_per_logit"].as_f64().unwrap() * 300.0 / 1e9 / pass - 1.0).abs() < 1e-9);
    assert!(n(&m["memory"]["plan"]) > 0);
    assert!(m["loss"].as_f64().unwrap().is_finite());
}

#[test]
fn log_probs_need_no_logits() {
    let m = measured(&["grpo", "--logp", "--tokens", "50"]);
    assert!(m["dtype"].is_null() && m["ns_per_logit"].is_null());
    let bytes = &m["bytes"];
    assert_eq!((n(&bytes["logits"]), n(&bytes["gradients"]), n(&m["sweeps"])), (0, 0, 0));
    assert!(n(&bytes["outputs"]) >= 8 * 50, "the gradient of each token's log-prob");
}

#[test]
fn a_batch_of_the_users_is_measured() {
    let folder = cases().join("gspo_logits");
    let file = folder.join("batch.safetensors");
    let batch = file.to_str().unwrap();
    let m = measured(&["gspo", "--batch", batch]);
    let evaluated = rlc(&["eval", "gspo", "--batch", batch, "--json"]);
    let evaluated: Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    let (loss, expected) = (m["loss"].as_f64().unwrap(), evaluated["loss"].as_f64().unwrap());
    assert!((loss - expected).abs() <= 1e-12 * expected.abs(), "{loss} is not {expected}");
}

#[test]
fn batches_have_whatever_a_program_reads() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.rl");
    let program = "\
level step in rollout
level candidate in token
list comparison in rollout
input step_reward : real @ step
input guess_logp : real @ candidate
input preference : real @ comparison
input prompt_id : int @ group
input done : bool @ rollout
key task = (batch, prompt_id)
state rate[prompt] : real @ group = 0.5
update rate = 0.9 * rate + 0.1 * mean(reward per group)
extra = sum(step_reward per rollout) + sum(preference per rollout) + real(done)
guessed = sum(guess_logp per token)
advantage = reward - mean(reward per task) + extra - rate + uniform(rollout) + sum(guessed per rollout) / 1000
";
    std::fs::write(&file, program).unwrap();
    for input in [&["--vocab", "7"][..], &["--logp"]] {
        let m = measured(&[&[file.to_str().unwrap(), "--tokens", "40"], input].concat());
        assert!(m["loss"].as_f64().unwrap().is_finite());
    }
}

#[test]
fn tables_have_units() {
    let done = rlc(&["bench", "sft", "--tokens", "16", "--vocab", "9", "--seconds", "0"]);
    let out = text(&done.stdout);
    for part in ["16 tokens x 9 logits in f32", "min", "median", "GB/s", "ns a logit", "sweep"] {
        assert!(out.contains(part), "{part:?} is not in:\n{out}");
    }
    assert!(done.stderr.is_empty(), "{}", text(&done.stderr));
}

#[test]
fn bad_arguments_are_refused() {
    fails(&[], "OBJECTIVE");
    fails(&["grpo", "--tokens", "0"], "--tokens");
    fails(&["grpo", "--tokens", "5", "--groups", "3"], "--tokens 15");
    fails(&["grpo", "--dtype", "f8"], "bf16");
    fails(&["grpo", "--logp", "--vocab", "5"], "--vocab");
    fails(&["grpo", "--batch", "b.safetensors", "--tokens", "5"], "--tokens");
    fails(&["grpo", "--batch", "none.safetensors"], "no such file");
    fails(&["grpo", "--seconds=-1"], "0 to 3600");
    fails(&["grpo", "--set", "bta=1"], "beta");
    fails(&["grpo", "--compile-times"], "--compile-times");
    fails(&["grpo", "--tokens", "4000000", "--vocab", "4000000"], "smaller");
}

#[test]
fn whole_distributions_need_logits() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.rl");
    let squares = "token_loss = base.token_loss + 0.1 * sum(softmax(logits) ^ 2 per token)\n";
    std::fs::write(&file, squares).unwrap();
    let name = file.to_str().unwrap();
    assert_eq!(n(&measured(&[name, "--tokens", "16", "--vocab", "4"])["tokens"]), 16);
    fails(&[name, "--logp"], "leave out `--logp`");
}

#[test]
fn compile_times_of_the_library() {
    let m = measured(&["--compile-times"]);
    for name in ["grpo", "gspo", "sft"] {
        assert_eq!(n(&m["compile"][name]["whole"]["count"]), 3, "{name}");
    }
}
