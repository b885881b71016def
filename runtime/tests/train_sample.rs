//! The loop obeys `sample weight` and `sample rollouts`, and a resumed run goes on with what it knew.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rlc_compiler::link::NoFiles;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::table::{Data, Table};
use rlc_runtime::objective::{Backend, Objective};
use rlc_runtime::train::compiled::Compiled;
use rlc_runtime::train::config::{Config, RewardConfig};
use rlc_runtime::train::error::{Result, TrainError};
use rlc_runtime::train::learner::{Learner, Outcome, Reads, State, Update};
use rlc_runtime::train::report::{Evaluation, Reporter, Silent, StepReport};
use rlc_runtime::train::{Ended, Trainer};

/// A batch's groups as the objective saw them, and what it said of them.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    prompts: Vec<i64>,
    sizes: Vec<i64>,
    weights: Vec<f64>,
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// A compiled objective that writes down its batches.
struct Spy {
    inner: Compiled,
    log: Log,
}

struct SpyUpdate<'a> {
    inner: Box<dyn Update + 'a>,
    log: Log,
}

fn ints(table: &Table, name: &str) -> Vec<i64> {
    match &table.get(name).unwrap().data {
        Data::I64(v) => v.clone(),
        other => panic!("{other:?}"),
    }
}

impl Learner for Spy {
    fn reads(&mut self, offered: &BTreeSet<String>) -> Result<Reads> {
        self.inner.reads(offered)
    }
    fn set_temperature(&mut self, temperature: f64) -> Result<()> {
        self.inner.set_temperature(temperature)
    }
    fn begin<'a>(&'a mut self, table: &'a Table, vocab: usize) -> Result<Box<dyn Update + 'a>> {
        self.log.lock().unwrap().push(Seen {
            prompts: ints(table, "group/prompt"),
            sizes: ints(table, "group/size"),
            weights: Vec::new(),
        });
        let log = Arc::clone(&self.log);
        Ok(Box::new(SpyUpdate { inner: self.inner.begin(table, vocab)?, log }))
    }
    fn state(&self) -> State {
        self.inner.state()
    }
    fn set_state(&mut self, state: State) -> Result<()> {
        self.inner.set_state(state)
    }
}

impl Update for SpyUpdate<'_> {
    fn pieces(&self) -> Vec<std::ops::Range<usize>> {
        self.inner.pieces()
    }
    fn live(&mut self, rollouts: std::ops::Range<usize>, logits: &[f32]) -> Result<Vec<f32>> {
        self.inner.live(rollouts, logits)
    }
    fn finish(&mut self) -> Result<Outcome> {
        let outcome = self.inner.finish()?;
        if let (Some(weights), Some(last)) =
            (&outcome.samples.weight, self.log.lock().unwrap().last_mut())
        {
            last.weights.clone_from(weights);
        }
        Ok(outcome)
    }
}

fn learner(text: &str) -> (Box<dyn Learner>, Log) {
    let mut sources = Sources::default();
    let root = sources.add(Source { name: "t.rl".into(), text: text.into(), library: false });
    let (checked, found) = rlc_compiler::check(&mut sources, root, &NoFiles);
    let checked = checked.unwrap_or_else(|| panic!("{found:?}"));
    let log = Log::default();
    let inner = Compiled::new(Objective::new(checked, Backend::Cpu));
    (Box::new(Spy { inner, log: Arc::clone(&log) }), log)
}

fn config(dir: &Path, steps: u64) -> Config {
    let mut c = Config { objective: "t".into(), steps: Some(steps), seed: 3, ..Config::default() };
    c.model.init = "random".into();
    c.data.digits = 1;
    (c.rollout.prompts, c.rollout.samples, c.rollout.max_new_tokens) = (12, 4, 6);
    // Random weights never add: reward something that differs between prompts and rollouts.
    let reward = |kind: &str, max| RewardConfig {
        kind: kind.into(),
        max: Some(max),
        slack: Some(4),
        ..RewardConfig::default()
    };
    c.reward.push(reward("length", 2));
    c.optimizer.lr = Some(1e-4);
    c.optimizer.updates_per_batch = 1;
    c.eval.problems = 0;
    c.checkpoint.every = 2;
    c.checkpoint.dir = Some(dir.display().to_string());
    c.resolve().unwrap()
}

fn trained(text: &str, steps: u64) -> std::result::Result<Vec<Seen>, TrainError> {
    let dir = tempfile::tempdir().unwrap();
    let (learner, log) = learner(text);
    let mut trainer = Trainer::create(config(dir.path(), steps), learner, 1, false)?;
    trainer.train(&AtomicBool::new(false), &mut Silent)?;
    let seen = log.lock().unwrap().clone();
    Ok(seen)
}

#[test]
fn draws_follow_what_the_program_says_of_prompts() {
    let seen = trained("solved = mean(reward per group)\nsample weight = 1 - solved", 40).unwrap();
    let mut known: BTreeMap<i64, f64> = BTreeMap::new();
    // Of draws of known prompts: the weight drawn, and the mean over all that could have been.
    let (mut drawn, mut expected, mut flat) = (Vec::new(), Vec::new(), Vec::new());
    for batch in &seen {
        let unique: BTreeSet<i64> = batch.prompts.iter().copied().collect();
        assert_eq!(unique.len(), batch.prompts.len(), "a prompt twice in a step");
        let sum: f64 = known.values().sum();
        for prompt in &batch.prompts {
            if let Some(weight) = known.get(prompt) {
                drawn.push(*weight);
                // The mean of a draw proportional to the weights, and of one that is not.
                expected.push(known.values().map(|w| w * w).sum::<f64>() / sum);
                flat.push(sum / known.len() as f64);
            }
        }
        known.extend(batch.prompts.iter().copied().zip(batch.weights.iter().copied()));
    }
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (drawn_mean, expected, flat) = (mean(&drawn), mean(&expected), mean(&flat));
    println!("{} draws of known prompts: {drawn_mean} {expected} {flat}", drawn.len());
    assert!(drawn.len() > 200 && known.len() > 60);
    // Draws without replacement lie between the two.
    assert!(drawn_mean > flat + 0.5 * (expected - flat), "{drawn_mean} {expected} {flat}");
    assert!(drawn.iter().all(|w| *w > 0.0));
}

#[test]
fn prompts_of_weight_0_never_come_back() {
    let text = "sample weight = if prompt < 50 then 1.0 else 0.0";
    let seen = trained(text, 25).unwrap();
    let mut before: BTreeSet<i64> = BTreeSet::new();
    let mut again = 0;
    for batch in &seen {
        for prompt in batch.prompts.iter().filter(|p| before.contains(p)) {
            assert!(*prompt < 50);
            again += 1;
        }
        before.extend(&batch.prompts);
    }
    assert!(again > 150, "{again}");
}

#[test]
fn a_prompt_gets_the_rollouts_that_were_said() {
    let text = "sample weight = 1.0\nsample rollouts = prompt % 7 - 1";
    let seen = trained(text, 14).unwrap();
    let mut before: BTreeSet<i64> = BTreeSet::new();
    let mut again = 0;
    for batch in &seen {
        for (prompt, size) in batch.prompts.iter().zip(&batch.sizes) {
            let known = before.contains(prompt);
            assert_eq!(*size, if known { (prompt % 7 - 1).max(1) } else { 4 });
            again += usize::from(known);
        }
        before.extend(&batch.prompts);
    }
    assert!(again > 40, "{again}");
}

#[test]
fn without_statements_the_order_is_unchanged() {
    let plain = trained("", 3).unwrap();
    let counted = trained("sample rollouts = 4", 3).unwrap();
    let order = |seen: &[Seen]| seen.iter().map(|s| s.prompts.clone()).collect::<Vec<_>>();
    assert_eq!(order(&plain), order(&counted));
}

#[test]
fn what_cannot_be_drawn_is_an_error() {
    for (text, words) in [
        ("sample weight = 0.5 - prompt", ["is -", "=\""]),
        ("sample weight = log(0.0 * prompt)", ["-inf", "the prompt"]),
        ("sample rollouts = 65", ["rollout.max_samples", "at most 64"]),
    ] {
        let e = trained(text, 2).unwrap_err();
        assert_eq!(e.exit_code(), 1);
        assert!(words.iter().all(|w| e.to_string().contains(w)), "{e}");
    }
    let e = trained("sample weight = 0.0", 12).unwrap_err().to_string();
    assert!(e.contains("is 0 for all"), "{e}");
}

/// Collects step reports and stops the run after some step.
struct Halt<'a> {
    at: u64,
    stop: &'a AtomicBool,
    reports: Vec<StepReport>,
}

impl Reporter for Halt<'_> {
    fn begin(&mut self, _: u64, _: u64) {}
    fn step(&mut self, report: &StepReport) {
        self.reports.push(report.clone());
        self.stop.store(report.step == self.at, Ordering::SeqCst);
    }
    fn evaluation(&mut self, _: &str, _: &Evaluation) {}
    fn saved(&mut self, _: &Path) {}
    fn note(&mut self, _: &str) {}
    fn warn(&mut self, _: &str) {}
}

#[test]
fn a_resumed_run_draws_as_an_uninterrupted_one() {
    let text = "
solved = mean(reward per group)
keep group where solved < 0.9
sample weight = 0.1 + solved * (1 - solved)
sample rollouts = if solved < 0.4 then 6 else 3
";
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let train = |trainer: &mut Trainer, at: u64| {
        let stop = AtomicBool::new(false);
        let mut reporter = Halt { at, stop: &stop, reports: Vec::new() };
        let ended = trainer.train(&stop, &mut reporter).unwrap();
        (ended, reporter.reports)
    };
    let (one, all) = learner(text);
    let mut trainer = Trainer::create(config(whole.path(), 10), one, 1, false).unwrap();
    let (_, reports) = train(&mut trainer, 0);
    let last = reports.last().unwrap().prompts.clone().unwrap();
    assert_eq!(last.count, 12);
    assert!(last.effective.unwrap() > 1.0 && last.new.unwrap() < 12);
    assert!(last.rollouts > 1.0 && last.rollouts.fract() != 0.0, "{last:?}");

    let (one, first) = learner(text);
    let mut trainer = Trainer::create(config(cut.path(), 10), one, 1, false).unwrap();
    let (ended, _) = train(&mut trainer, 5);
    assert!(matches!(ended, Ended::Stopped { step: 5 }));
    // A run's folder belongs to one trainer at a time.
    drop(trainer);
    let (one, rest) = learner(text);
    let settings = Config::read(&cut.path().join("config.resolved.toml")).unwrap();
    let mut trainer = Trainer::resume(cut.path(), settings, one, 1).unwrap();
    train(&mut trainer, 0);
    let joined = [first.lock().unwrap().clone(), rest.lock().unwrap().clone()].concat();
    assert_eq!(*all.lock().unwrap(), joined);
    for file in ["model/model.safetensors", "trainer.json"] {
        let bytes = |d: &Path| std::fs::read(d.join("checkpoints/step-000010").join(file)).unwrap();
        assert_eq!(bytes(whole.path()), bytes(cut.path()), "{file}");
    }
    let text = std::fs::read_to_string(cut.path().join("checkpoints/step-000010/trainer.json"));
    let saved: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
    assert!(saved["sampling"]["weight"]["keys"].as_array().unwrap().len() > 12);
}
