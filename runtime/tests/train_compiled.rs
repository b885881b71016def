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
    Box::new(Compiled::new(Objective::new(checked.unwrap_or_else(|| panic!("{found:?}")), backend)))
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
fn full_divergences_train() {
    // Metrics that a column costs too much for are left out, so the loss reads both.
    let text = "
fn full_kl(a, b) = sum(softmax(a) * (log_softmax(a) - log_softmax(b)) per token)
to_ref  = full_kl(logits, ref_logits)
to_old  = full_kl(old_logits, logits)
penalty = 0.1 * to_ref + 0.1 * to_old
metric to_ref = token_mean(to_ref)
metric to_old = token_mean(to_old)
fn drawn(x) = at(log_softmax(x / temperature), action)
metric apart = max(abs(drawn(old_logits) - old_logp)) + max(abs(drawn(ref_logits) - ref_logp))
loss = base.loss + 0 * mean(ref_logp)
";
    for backend in [Backend::Cpu, Backend::Interp] {
        let found = steps(compiled(text, backend));
        let all = |name: &str| found.iter().map(|s| s.metrics[name]).collect::<Vec<_>>();
        // The log-probs that runs have always given are those of these logits.
        assert!(all("apart").iter().all(|x| *x < 1e-4), "{:?}", all("apart"));
        // A mean over two updates: in the first of all, the policy is both.
        let (to_ref, to_old) = (all("to_ref"), all("to_old"));
        assert!(to_old.iter().all(|x| *x > 0.0), "{to_old:?}");
        assert!(to_ref[0] > 0.0 && to_ref[1] > 1.5 * to_ref[0], "{to_ref:?}");
        assert!((to_ref[0] - to_old[0]).abs() < 0.2 * to_old[0], "{to_ref:?} {to_old:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let metric = "metric spread = token_mean(logsumexp(ref_logits - old_logits per token))\n";
    let trainer = Trainer::create(config(dir.path()), compiled(metric, Backend::Cpu), 1, false);
    let reads = trainer.unwrap().reads().clone();
    assert_eq!(reads.left_out.len(), 1);
    assert!(!reads.columns.contains("vocab/old_logits") && !dir.path().join("reference").exists());
}

#[test]
fn schedules_see_where_the_run_is() {
    // The loss is the schedule's value, with the gradient of the objective.
    let text = "
schedule = 0.3 - 0.2 * train.progress
clip_high = schedule
loss = with_grad(schedule, base.loss)
metric step = train.step
metric total = train.total
metric progress = train.progress
metric bound = clip_high
";
    let found = steps(compiled(text, Backend::Cpu));
    assert!(found[0].grad_norm > 0.0);
    for (i, step) in found.iter().enumerate() {
        let progress = i as f64 / 2.0;
        let wanted = [("step", i as f64), ("total", 2.0), ("progress", progress)];
        for (name, value) in wanted {
            assert_eq!(step.metrics[name], value, "{name}");
        }
        let value = 0.3 - 0.2 * progress;
        assert!((step.metrics["bound"] - value).abs() < 1e-6);
        assert!((step.loss - value).abs() < 1e-6, "{}", step.loss);
    }
}

#[test]
fn a_column_that_no_run_gives_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let learner = compiled("extend grpo\n\nadvantage = reward - value\n", Backend::Cpu);
    let e = Trainer::create(config(dir.path()), learner, 1, false).err().unwrap().to_string();
    assert!(e.contains("token/value"), "{e}");
}
