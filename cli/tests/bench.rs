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
        // In the type of the logits; f32 for those of f64.
        assert_eq!(n(&bytes["gradients"]), 30 * 17 * width.min(4));
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
    let rate = m["copy"]["used"].as_f64().unwrap();
    assert_eq!(rate, m["copy"]["one_thread"].as_f64().unwrap());
    assert!(m["matrix"]["flops_per_second"].as_f64().unwrap() > 0.0);
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
fn operations_are_counted_from_the_plan() {
    let at = |tokens: &str, vocab: &str| {
        let m = measured(&["sft", "--tokens", tokens, "--vocab", vocab]);
        let live = &m["flops"]["live"];
        assert_eq!(n(&m["sweeps"]), 2);
        let all: u64 = ["recorded", "live", "after"]
            .iter()
            .map(|p| n(&m["flops"][p]["operators"]) + 16 * n(&m["flops"][p]["functions"]))
            .sum();
        assert_eq!(n(&m["flops"]["all"]), all);
        assert_eq!(n(&m["flops"]["function"]), 16);
        (n(&live["operators"]), n(&live["functions"]))
    };
    let (small, wide) = (at("24", "50"), at("24", "150"));
    // An exponential for the sum and one for the probabilities, at every entry.
    assert_eq!(wide.1 - small.1, 2 * 24 * 100);
    assert_eq!((wide.0 - small.0) % (24 * 100), 0);
    let long = at("48", "50");
    assert!(long.0 > 2 * small.0 - 200 && long.0 < 2 * small.0 + 200, "{long:?}, {small:?}");
}

#[test]
fn threads_change_no_gradient() {
    let folder = tempfile::tempdir().unwrap();
    let gradients = |threads: &str, input: &[&str]| {
        let file = folder.path().join(format!("{threads}.safetensors"));
        let out = ["--threads", threads, "--out", file.to_str().unwrap()];
        let m = measured(&[&["grpo", "--tokens", "300"], input, &out].concat());
        assert_eq!(m["threads"].to_string(), threads);
        std::fs::read(file).unwrap()
    };
    for input in [&["--vocab", "700"][..], &["--hidden", "12", "--vocab", "700"], &["--logp"]] {
        assert!(gradients("1", input) == gradients("2", input), "{input:?}");
    }
}

/// Loss and gradients that a file of `--out` holds.
fn found(file: &Path) -> rlc_compiler::table::Table {
    rlc_runtime::batch::read(file).unwrap()
}

#[test]
fn gradients_are_those_of_eval() {
    let folder = tempfile::tempdir().unwrap();
    for case in ["gspo_logits", "calibadv_logp"] {
        let batch = cases().join(case).join("batch.safetensors");
        let (own, other) = (folder.path().join("a"), folder.path().join("b"));
        let program = case.split('_').next().unwrap();
        let batch = batch.to_str().unwrap();
        measured(&[program, "--batch", batch, "--out", own.to_str().unwrap()]);
        let args = ["eval", program, "--batch", batch, "--out", other.to_str().unwrap()];
        assert!(rlc(&args).status.success());
        let (own, other) = (found(&own), found(&other));
        for (name, array) in &own.arrays {
            let expected = &other.arrays[name];
            assert_eq!(array.shape.iter().product::<usize>(), expected.data.len(), "{name}");
            for i in 0..expected.data.len() {
                let (a, b) = (array.data.get(i), expected.data.get(i));
                assert!((a - b).abs() <= 1e-6 * b.abs(), "{case}: {name} {i}: {a} is not {b}");
            }
        }
        assert_eq!(own.arrays.len(), 2, "{:?}", own.arrays.keys());
    }
}

#[test]
fn hidden_states_stand_beside_bare_products() {
    for (objective, products) in [("grpo", 3), ("gspo", 4)] {
        let args = [objective, "--hidden", "24", "--tokens", "200", "--vocab", "300"];
        let m = measured(&[&args[..], &["--memory", "0.25"]].concat());
        let hidden = &m["hidden"];
        assert_eq!((n(&hidden["width"]), n(&hidden["products"]["count"])), (24, products));
        assert_eq!(n(&hidden["products"]["flops"]), 2 * 200 * 24 * 300);
        assert!(n(&hidden["room"]) > 0);
        // A rollout whose tokens are coupled may take more than the budget.
        assert!(objective != "grpo" || n(&hidden["room"]) <= 200 * 300, "a quarter: {hidden}");
        // States and projection are read, their gradients written.
        assert_eq!(n(&m["bytes"]["logits"]), 4 * 24 * (200 + 300));
        assert_eq!(n(&m["bytes"]["gradients"]), 4 * 24 * (200 + 300));
        let phases = ["recorded", "live", "after"];
        let loops: u64 = phases
            .iter()
            .map(|p| n(&m["flops"][p]["operators"]) + 16 * n(&m["flops"][p]["functions"]))
            .sum();
        assert_eq!(n(&m["flops"]["all"]), loops + products * 2 * 200 * 24 * 300);
        let whole = hidden["products"]["median"].as_f64().unwrap();
        let pass = m["time"]["pass"]["median"].as_f64().unwrap();
        assert!((hidden["ratio"].as_f64().unwrap() * whole / pass - 1.0).abs() < 1e-9);
        assert!(m["time"]["fresh"].is_null());
    }
}

/// What the system says that a pass took: logits, copies, and all that threads and allocator add.
#[test]
#[cfg(target_os = "linux")]
fn extra_memory_is_within_the_budget() {
    // Where the system gives huge pages unasked, each end of a block and each thread's own take one.
    let pages = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let rounding = if pages.is_ok_and(|p| p.contains("[always]")) { 12 << 20 } else { 0 };
    for (objective, share) in [("grpo", 0.25), ("gspo", 0.25), ("gspo", 0.125)] {
        let sizes = ["--hidden", "64", "--tokens", "600", "--vocab", "32000", "--threads", "2"];
        let share_said = share.to_string();
        let m = measured(&[&[objective][..], &sizes, &["--memory", &share_said]].concat());
        let (extra, all) = (n(&m["memory"]["grown"]), 600 * 32_000 * 4);
        let budget = (share * all as f64) as u64;
        assert!((1..=budget + rounding).contains(&extra), "{objective}: {extra} of {budget}");
    }
}

/// The gradients of hidden states and projection are the chain rule over those of the logits.
#[test]
fn hidden_states_of_a_file() {
    use rlc_compiler::table::{Array, Data};
    let folder = tempfile::tempdir().unwrap();
    let (width, vocab) = (3, 9);
    let mut batch = found(&cases().join("gspo_logits").join("batch.safetensors"));
    let tokens = batch.arrays["token/action"].data.len();
    let wave = |rows: usize, by: f64| -> Vec<f32> {
        (0..rows * width).map(|i| (by * (i + 1) as f64).sin() as f32).collect()
    };
    let (states, weight) = (wave(tokens, 0.7), wave(vocab, 1.3));
    let dot = |t: usize, v: usize| -> f32 {
        (0..width).map(|h| states[t * width + h] * weight[v * width + h]).sum()
    };
    let logits = (0..tokens * vocab).map(|i| dot(i / vocab, i % vocab)).collect();
    let array = |data: Vec<f32>, rows: usize, columns: usize| Array {
        data: Data::F32(data),
        shape: vec![rows, columns],
    };
    let run = |batch: &rlc_compiler::table::Table, name: &str| {
        let (file, out) = (folder.path().join(name), folder.path().join(format!("{name}.out")));
        rlc_runtime::batch::write(batch, &file).unwrap();
        let (file, to) = (file.to_str().unwrap(), out.to_str().unwrap());
        measured(&["gspo", "--batch", file, "--out", to]);
        found(&out)
    };
    batch.arrays.insert("vocab/logits".into(), array(logits, tokens, vocab));
    let expected = run(&batch, "logits");
    batch.arrays.remove("vocab/logits");
    batch.arrays.insert("token/hidden".into(), array(states.clone(), tokens, width));
    batch.arrays.insert("head/weight".into(), array(weight.clone(), vocab, width));
    let own = run(&batch, "hidden");
    let d = &expected.arrays["grad/logits"].data;
    let mut largest: f64 = 0.0;
    for t in 0..tokens {
        for h in 0..width {
            let want: f64 =
                (0..vocab).map(|v| d.get(t * vocab + v) * f64::from(weight[v * width + h])).sum();
            let got = own.arrays["grad/hidden"].data.get(t * width + h);
            assert!((got - want).abs() < 1e-6, "d hidden [{t}, {h}]: {got} is not {want}");
            largest = largest.max(want.abs());
        }
    }
    assert!(largest > 1e-3, "gradients of nothing: {largest}");
    for v in 0..vocab {
        for h in 0..width {
            let want: f64 =
                (0..tokens).map(|t| d.get(t * vocab + v) * f64::from(states[t * width + h])).sum();
            let got = own.arrays["grad/weight"].data.get(v * width + h);
            assert!((got - want).abs() < 1e-6, "d projection [{v}, {h}]: {got} is not {want}");
        }
    }
}

#[test]
fn growth_is_measured_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("growth.svg");
    let m = measured(&["sft", "--growth", "--out", file.to_str().unwrap()]);
    for (name, count) in [("tokens", 8), ("vocab", 8), ("pieces", 5)] {
        let series = &m["growth"][name];
        let points = series["points"].as_array().unwrap();
        assert_eq!(points.len(), count, "{name}");
        assert!(points.windows(2).all(|p| n(&p[1]["n"]) == 2 * n(&p[0]["n"])), "{name}");
        assert!(points.iter().all(|p| p["min"].as_f64().unwrap() > 0.0), "{name}");
    }
    let drawn = std::fs::read_to_string(&file).unwrap();
    for word in ["tokens", "vocab", "pieces", "linear", "flat"] {
        assert!(drawn.contains(&format!(">{word}</text>")), "{word}");
    }
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
    fails(&["grpo", "--threads", "0"], "--threads");
    fails(&["grpo", "--threads", "100000"], "cores");
    fails(&["grpo", "--hidden", "8", "--logp"], "--logp");
    fails(&["grpo", "--hidden", "8", "--memory", "2"], "0.25");
    fails(&["grpo", "--memory", "0.5", "--tokens", "8", "--vocab", "8"], "--hidden");
    fails(&["grpo", "--growth", "--tokens", "8"], "--growth");
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
