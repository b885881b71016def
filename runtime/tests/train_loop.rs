//! The training loop, driven by objectives with gradients written by hand.
#![allow(clippy::unwrap_used, clippy::panic)]

mod standin;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rlc_runtime::train::config::{Config, RewardConfig};
use rlc_runtime::train::report::{Evaluation, Reporter, StepReport, Timing};
use rlc_runtime::train::{Ended, Trainer};
use standin::{Kind, StandIn};

/// Collects step reports, their times removed, and stops the run after some step.
struct Collect<'a> {
    steps: Vec<StepReport>,
    stop: &'a AtomicBool,
    stop_after: u64,
}

impl Reporter for Collect<'_> {
    fn begin(&mut self, _: u64, _: u64) {}
    fn step(&mut self, report: &StepReport) {
        self.steps.push(StepReport { time: Timing::default(), ..report.clone() });
        if report.step == self.stop_after {
            self.stop.store(true, Ordering::SeqCst);
        }
    }
    fn evaluation(&mut self, _: &str, _: &Evaluation) {}
    fn saved(&mut self, _: &Path) {}
    fn note(&mut self, _: &str) {}
    fn warn(&mut self, _: &str) {}
}

fn small(dir: &Path) -> Config {
    let mut c = Config { objective: "grpo".into(), steps: Some(6), seed: 5, ..Config::default() };
    c.model.init = "random".into();
    c.data.digits = 1;
    (c.rollout.prompts, c.rollout.samples, c.rollout.max_new_tokens) = (3, 4, 6);
    // Random weights never add: reward something that varies.
    c.reward.push(RewardConfig {
        kind: "length".into(),
        max: Some(2),
        slack: Some(4),
        ..RewardConfig::default()
    });
    c.reward.push(RewardConfig { kind: "arithmetic".into(), ..RewardConfig::default() });
    c.optimizer.lr = Some(1e-3);
    c.optimizer.warmup = 2;
    c.eval.problems = 4;
    c.eval.every = 3;
    c.checkpoint.every = 2;
    c.checkpoint.dir = Some(dir.display().to_string());
    c.resolve().unwrap()
}

fn create(config: Config, kind: Kind) -> Trainer {
    Trainer::create(config, StandIn::boxed(kind), 1, false).unwrap()
}

fn train(trainer: &mut Trainer, stop_after: u64) -> (Vec<StepReport>, Ended) {
    let stop = AtomicBool::new(false);
    let mut collect = Collect { steps: Vec::new(), stop: &stop, stop_after };
    let ended = trainer.train(&stop, &mut collect).unwrap();
    (collect.steps, ended)
}

fn metrics(dir: &Path) -> Vec<StepReport> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|l| StepReport {
            time: Timing::default(),
            ..serde_json::from_str::<StepReport>(l).unwrap()
        })
        .collect()
}

#[test]
fn a_stopped_and_resumed_run_equals_an_uninterrupted_one() {
    for kind in [Kind::Calib, Kind::Reference] {
        let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (steps, ended) = train(&mut create(small(whole.path()), kind), 0);
        assert!(matches!(ended, Ended::Finished(_)));
        assert_eq!(steps.len(), 6);
        assert!(steps.iter().any(|s| s.grad_norm > 0.0));
        let (_, ended) = train(&mut create(small(cut.path()), kind), 3);
        assert!(matches!(ended, Ended::Stopped { step: 3 }));
        // As after a kill: lines beyond the checkpoint, the last one torn.
        let file = cut.path().join("metrics.jsonl");
        let mut text = std::fs::read_to_string(&file).unwrap();
        text += &serde_json::to_string(&steps[4]).unwrap();
        text += "\n{\"step\": 6, \"rew";
        std::fs::write(&file, text).unwrap();
        let config = Config::read(&cut.path().join("config.resolved.toml")).unwrap();
        assert_eq!(config, small(cut.path()));
        let mut again = Trainer::resume(cut.path(), config, StandIn::boxed(kind), 1).unwrap();
        assert_eq!(again.step(), 3);
        let (rest, ended) = train(&mut again, 0);
        assert!(matches!(ended, Ended::Finished(_)));
        assert_eq!(rest, steps[3..]);
        assert_eq!(metrics(cut.path()), metrics(whole.path()));
        let bytes =
            |d: &Path, f: &str| std::fs::read(d.join("checkpoints/step-000006").join(f)).unwrap();
        for file in ["model/model.safetensors", "optimizer.safetensors", "trainer.json"] {
            assert_eq!(bytes(whole.path(), file), bytes(cut.path(), file), "{file}");
        }
    }
}

/// What a GPU does, on the CPU: the same run up to rounding; and resumed where it was cut.
#[test]
fn candle_ops_train_alike() {
    for (dtype, near) in [(None, 1e-3), (Some("bf16"), 0.1)] {
        let run = |device: &str, offload: bool, stop: u64| {
            let dir = tempfile::tempdir().unwrap();
            let mut config = small(dir.path());
            config.steps = Some(4);
            config.model.device = device.into();
            config.model.offload_reference = offload;
            if device != "cpu" {
                config.model.dtype = dtype.map(str::to_owned);
            }
            let (mut steps, _) = train(&mut create(config, Kind::Reference), stop);
            if stop > 0 {
                let config = Config::read(&dir.path().join("config.resolved.toml")).unwrap();
                let learner = StandIn::boxed(Kind::Reference);
                let mut again = Trainer::resume(dir.path(), config, learner, 1).unwrap();
                steps.extend(train(&mut again, 0).0);
            }
            steps
        };
        let (own, theirs) = (run("cpu", false, 0), run("cpu-candle", false, 0));
        assert_eq!(
            theirs,
            run("cpu-candle", true, 2),
            "cut, resumed, with the reference offloaded"
        );
        // Another token drawn makes another run of what follows: the first steps tell.
        for (a, b) in own.iter().zip(&theirs).take(if dtype.is_none() { 4 } else { 1 }) {
            assert_eq!(a.tokens, b.tokens, "{dtype:?}, step {}", a.step);
            assert!((a.loss - b.loss).abs() <= near * (1e-2 + a.loss.abs()), "{a:?}\n{b:?}");
            assert!((a.grad_norm - b.grad_norm).abs() <= near * a.grad_norm, "{a:?}\n{b:?}");
        }
    }
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let refused = |device: &str, dtype: Option<&str>| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = small(dir.path());
        config.model.device = device.into();
        config.model.dtype = dtype.map(str::to_owned);
        let config = match config.resolve() {
            Ok(config) => config,
            Err(e) => return e.to_string(),
        };
        Trainer::create(config, StandIn::boxed(Kind::Grpo), 1, false).err().unwrap().to_string()
    };
    assert!(refused("cuda:1", None).contains("scripts/build_cuda.sh"));
    assert!(refused("cuda1", None).contains("did you mean \"cuda\""));
    assert!(refused("cpu", Some("bf16")).contains("--device cuda"));
}

#[test]
fn micro_batches_do_not_change_the_gradient() {
    let norms: Vec<Vec<f64>> = [1, 40, 100_000]
        .into_iter()
        .map(|budget| {
            let dir = tempfile::tempdir().unwrap();
            let mut config = small(dir.path());
            config.optimizer.micro_batch_tokens = budget;
            config.steps = Some(1);
            config.eval.every = 0;
            let (steps, _) = train(&mut create(config, Kind::Grpo), 0);
            steps.iter().map(|s| s.grad_norm).collect()
        })
        .collect();
    for other in &norms[1..] {
        for (a, b) in norms[0].iter().zip(other) {
            assert!((a - b).abs() <= 1e-5 * a.abs(), "{norms:?}");
        }
    }
}

#[test]
fn every_weight_moves_and_state_changes_once_per_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(dir.path());
    config.steps = Some(1);
    config.checkpoint.keep = 9;
    let mut trainer = create(config, Kind::Grpo);
    train(&mut trainer, 0);
    let read = |step: &str| {
        let file = dir.path().join("checkpoints").join(step).join("model/model.safetensors");
        candle_core::safetensors::load(file, &candle_core::Device::Cpu).unwrap()
    };
    let (before, after) = (read("step-000000"), read("step-000001"));
    for (name, old) in &before {
        let moved = (old - &after[name]).unwrap().abs().unwrap().sum_all().unwrap();
        assert!(moved.to_scalar::<f32>().unwrap() > 0.0, "{name} did not move");
    }
    let text = std::fs::read_to_string(dir.path().join("checkpoints/step-000001/trainer.json"));
    let saved: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
    // Two updates of 12 rollouts each, but one batch.
    assert_eq!(saved["state"]["seen"]["values"], serde_json::json!(["12"]));
}

#[test]
fn only_the_newest_checkpoints_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    train(&mut create(small(dir.path()), Kind::Grpo), 0);
    let mut names: Vec<String> = std::fs::read_dir(dir.path().join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["step-000004", "step-000006"]);
    assert!(dir.path().join("model/config.json").exists());
}

#[test]
fn a_run_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    create(small(dir.path()), Kind::Grpo);
    let again = |force| Trainer::create(small(dir.path()), StandIn::boxed(Kind::Grpo), 1, force);
    let e = again(false).err().unwrap().to_string();
    assert!(e.contains("--resume") && e.contains("--force"), "{e}");
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    again(true).unwrap();
    assert!(dir.path().join("notes.txt").exists());
}

#[test]
fn resuming_refuses_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    create(small(dir.path()), Kind::Grpo);
    let resume = |config: Config, program| {
        Trainer::resume(dir.path(), config, StandIn::boxed(Kind::Grpo), program).err().unwrap()
    };
    let e = resume(small(dir.path()), 2).to_string();
    assert!(e.contains("changed"), "{e}");
    let mut other = small(dir.path());
    other.data.digits = 2;
    assert!(resume(other, 1).to_string().contains("the data changed"));
    std::fs::write(dir.path().join("checkpoints/step-000000/optimizer.safetensors"), "x").unwrap();
    let e = resume(small(dir.path()), 1).to_string();
    assert!(e.contains("optimizer.safetensors"), "{e}");
    let empty = tempfile::tempdir().unwrap();
    let e = Trainer::resume(empty.path(), small(dir.path()), StandIn::boxed(Kind::Grpo), 1);
    assert!(e.err().unwrap().to_string().contains("not a run's folder"));
}

#[test]
fn a_missing_column_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(dir.path());
    config.reward.truncate(1);
    config.eval.problems = 0;
    let e = Trainer::create(config, StandIn::boxed(Kind::Calib), 1, false).err().unwrap();
    assert!(e.to_string().contains("turn/step_correct"), "{e}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn offline_rollouts_train() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("demos.jsonl");
    let mut lines = String::new();
    for i in 0..20 {
        let line =
            serde_json::json!({ "prompt": format!("{i}+1="), "completion": (i + 1).to_string() });
        lines += &format!("{line}\n");
    }
    std::fs::write(&file, lines).unwrap();
    let mut config = small(&dir.path().join("run"));
    config.data.task = "offline".into();
    config.data.file = Some(file.display().to_string());
    (config.data.batch, config.optimizer.updates_per_batch) = (8, 1);
    config.steps = Some(12);
    config.reward.clear();
    let mut trainer = create(config.clone(), Kind::Sft);
    let (steps, _) = train(&mut trainer, 0);
    assert!(steps[11].loss < steps[0].loss, "{steps:?}");
    assert_eq!(steps[0].reward, None);
    for (line, wanted) in [
        ("{\"prompt\": \"1+1=\"}", "demos.jsonl:2: no field \"completion\""),
        ("{\"prompt\": \"1\", \"completion\": \"2\", \"reward\": 1}", "on some lines only"),
    ] {
        let first = "{\"prompt\": \"1+1=\", \"completion\": \"2\"}\n";
        std::fs::write(&file, format!("{first}{line}\n")).unwrap();
        let made = Trainer::create(config.clone(), StandIn::boxed(Kind::Sft), 1, true);
        let e = made.err().unwrap().to_string();
        assert!(e.contains(wanted), "{e}");
    }
    // What went wrong above left the run alone.
    assert!(dir.path().join("run/model/model.safetensors").exists());
    let resumed = Trainer::resume(&dir.path().join("run"), config, StandIn::boxed(Kind::Sft), 1);
    assert!(resumed.is_err(), "the data changed");
}
