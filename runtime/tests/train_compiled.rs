//! The loop with compiled objectives: the same training as with gradients written by hand.
#![allow(clippy::unwrap_used, clippy::panic)]

mod standin;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use rlc_compiler::link::NoFiles;
use rlc_compiler::source::{Source, Sources};
use rlc_runtime::objective::{Backend, Objective};
use rlc_runtime::train::Trainer;
use rlc_runtime::train::compiled::Compiled;
use rlc_runtime::train::config::Config;
use rlc_runtime::train::learner::Learner;
use rlc_runtime::train::report::{Silent, StepReport};
use standin::{Kind, StandIn};

fn compiled(text: &str, backend: Backend) -> Box<dyn Learner> {
    let mut sources = Sources::default();
    let root = sources.add(Source { name: "t.rl".into(), text: text.into(), library: false });
    let (checked, found) = rlc_compiler::check(&mut sources, root, &NoFiles);
    Box::new(Compiled(Objective::new(checked.unwrap_or_else(|| panic!("{found:?}")), backend)))
}

fn config(dir: &Path) -> Config {
    let mut c = Config { objective: "t".into(), steps: Some(2), ..Config::default() };
    (c.rollout.prompts, c.rollout.samples) = (4, 6);
    c.optimizer.lr = Some(1e-3);
    c.optimizer.warmup = 0;
    c.optimizer.micro_batch_tokens = 400;
    c.eval.problems = 0;
    c.checkpoint.dir = Some(dir.display().to_string());
    c.resolve().unwrap()
}

fn steps(learner: Box<dyn Learner>) -> Vec<StepReport> {
    let dir = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::create(config(dir.path()), learner, 1, false).unwrap();
    trainer.train(&AtomicBool::new(false), &mut Silent).unwrap();
    let text = std::fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn compiled_objectives_train_as_gradients_written_by_hand() {
    let programs = [
        (Kind::Grpo, "extend grpo\n"),
        (Kind::Calib, "advantage = calib(group_norm(reward), step_correct)\n"),
        (Kind::Dapo, "extend dapo\n"),
        (Kind::DrGrpo, "extend dr_grpo\n"),
        (Kind::Gspo, "extend gspo\n"),
        (Kind::Rloo, "extend rloo\n\nparam beta = 0.0\n"),
    ];
    for (kind, text) in programs {
        let by_hand = steps(StandIn::boxed(kind));
        let backends: &[Backend] = match kind {
            // Slow here; one program with turns and two passes over the groups is enough.
            Kind::Calib => &[Backend::Cpu, Backend::Interp],
            _ => &[Backend::Cpu],
        };
        for &backend in backends {
            let by_compiler = steps(compiled(text, backend));
            for (a, b) in by_hand.iter().zip(&by_compiler) {
                let (x, y) = (a.grad_norm, b.grad_norm);
                assert!((x - y).abs() <= 2e-3 * x, "{kind:?} {backend:?}: {x} {y}");
                assert_eq!(a.reward, b.reward, "{kind:?} {backend:?}");
            }
        }
    }
}

#[test]
fn a_reference_model_is_there_exactly_when_needed() {
    for (text, wanted) in [
        ("extend grpo\n", false),
        ("extend grpo\n\nparam beta = 0.04\n", true),
        ("extend grpo\n\nmetric drift = token_mean(logp - ref_logp)\n", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let learner = compiled(text, Backend::Cpu);
        let mut trainer = Trainer::create(config(dir.path()), learner, 1, false).unwrap();
        assert_eq!(dir.path().join("reference").exists(), wanted, "{text}");
        trainer.train(&AtomicBool::new(false), &mut Silent).unwrap();
    }
}

#[test]
fn a_column_that_no_run_gives_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let learner = compiled("extend grpo\n\nadvantage = reward - value\n", Backend::Cpu);
    let e = Trainer::create(config(dir.path()), learner, 1, false).err().unwrap().to_string();
    assert!(e.contains("token/value"), "{e}");
}
