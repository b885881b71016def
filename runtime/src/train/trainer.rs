//! The loop: rollouts, old log-probs, a few optimiser steps on the whole batch, one line of metrics;
//! a checkpoint every so often. A step is a function of the weights, the seed and the step number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rlc_model::{Dtype, Model};

use super::assets::initial_model;
use super::batch::{Batch, Moment, Offered};
use super::checkpoint::{self, Metrics, Saved};
use super::config::Config;
use super::data::{Problem, Source, mix};
use super::error::{Result, TrainError};
use super::evaluate::evaluate;
use super::forward;
use super::gradients::Gradients;
use super::learner::{Learner, Outcome, Reads, join_pieces};
use super::lock::Lock;
use super::offline::Offline;
use super::optimizer::AdamW;
use super::place::Place;
use super::prompts::Known;
use super::report::{Evaluation, Prompts, Reporter, StepReport, Timing};
use super::reward::Scorer;
use super::rollouts::{Codec, model as model_error, sample_batch};
use super::signal::Signal;

mod models;

/// Where batches come from.
enum Feed {
    Sampled(Source),
    Recorded(Box<Offline>),
}

/// A run, ready to train.
pub struct Trainer {
    config: Config,
    dir: PathBuf,
    place: Place,
    model: Model,
    reference: Option<Model>,
    codec: Codec,
    optimizer: AdamW,
    learner: Box<dyn Learner>,
    feed: Feed,
    scorer: Scorer,
    held_out: Vec<Problem>,
    offered: Offered,
    reads: Reads,
    /// What `sample` statements said so far.
    known: Known,
    saved: Saved,
    /// Said when training begins.
    notes: Vec<String>,
    /// What rewards told so far.
    signal: Signal,
    /// Of the folder, from the first file written to the end.
    lock: Option<Lock>,
    /// Memory that every pass uses again.
    room: Gradients,
}

/// A batch, with what it leaves behind.
struct Next {
    batch: Batch,
    /// How far into the run's order prompts (or groups of a file) have then been used.
    position: u64,
    /// How its prompts were drawn, where the program has a say in that.
    prompts: Option<Prompts>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum Ended {
    /// All steps are done.
    Finished(Summary),
    /// It was asked to stop and saved itself.
    Stopped {
        /// Steps done.
        step: u64,
    },
}

/// What a finished run leaves.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Held out, before training.
    pub before: Option<Evaluation>,
    /// Held out, after training.
    pub after: Option<Evaluation>,
    /// The trained weights, a Hugging Face folder.
    pub model: PathBuf,
}

impl Trainer {
    /// Starts a run: checks everything that can be checked, then creates the folder. `program`
    /// identifies the objective.
    pub fn create(
        mut config: Config,
        learner: Box<dyn Learner>,
        program: u64,
        force: bool,
    ) -> Result<Self> {
        let dir = match config.checkpoint.dir.take() {
            Some(dir) => PathBuf::from(dir),
            None => checkpoint::default_dir(&config.objective),
        };
        config.checkpoint.dir = Some(dir.display().to_string());
        let place = Place::open(&config.model)?;
        let model = initial_model(&config.model.init, config.seed, place.device())?;
        let mut trainer = Self::assemble(config, dir.clone(), place, model, learner, program)?;
        trainer.lock = Some(Lock::take(&dir)?);
        checkpoint::create(&dir, &trainer.config.to_toml()?, force)?;
        if trainer.needs_reference() {
            trainer
                .model
                .save(&checkpoint::reference_dir(&dir), Dtype::F32)
                .map_err(model_error)?;
            let device = trainer.reference_device();
            trainer.reference = Some(trainer.model.copy(device).map_err(model_error)?);
        }
        trainer.save()?;
        Ok(trainer)
    }

    /// Takes up a run at its newest checkpoint; `config` is its `config.resolved.toml`.
    pub fn resume(
        dir: &Path,
        config: Config,
        learner: Box<dyn Learner>,
        program: u64,
    ) -> Result<Self> {
        checkpoint::latest(dir)?;
        let lock = Lock::take(dir)?;
        let (path, saved) = checkpoint::newest(dir)?;
        let damaged = |e| checkpoint::damaged(dir, &path, &e);
        let place = Place::open(&config.model)?;
        let model = checkpoint::read_model(&path, place.device()).map_err(damaged)?;
        let moments = checkpoint::read_moments(&path).map_err(damaged)?;
        let mut trainer =
            Self::assemble(config, dir.to_path_buf(), place, model, learner, program)?;
        if saved.program != program {
            return Err(TrainError::Checkpoint(format!(
                "the objective {} changed since {} was started: undo the change, or start a new run \
                 from {}/model with --model",
                trainer.config.objective,
                dir.display(),
                path.display()
            )));
        }
        if saved.data != trainer.saved.data {
            return Err(TrainError::Checkpoint(format!(
                "{} changed since {} was started: restore it, or start a new run",
                trainer.config.data.file.as_deref().unwrap_or("the data"),
                dir.display()
            )));
        }
        trainer.optimizer.restore(moments, saved.optimizer_steps)?;
        trainer.learner.set_state(saved.state.clone())?;
        trainer.known = Known::from_state(&saved.sampling);
        if trainer.needs_reference() {
            let reference = checkpoint::read_reference(dir, trainer.reference_device())?;
            trainer.reference = Some(trainer.place.prepare(reference));
        }
        trainer.saved = saved;
        trainer.lock = Some(lock);
        Ok(trainer)
    }

    fn assemble(
        config: Config,
        dir: PathBuf,
        place: Place,
        model: Model,
        mut learner: Box<dyn Learner>,
        program: u64,
    ) -> Result<Self> {
        let model = place.prepare(model);
        let codec = Codec::of(&model)?;
        let scorer = Scorer::new(&config)?;
        let recorded = config.data.task == "offline";
        let (feed, offered) = if recorded {
            let offline = Offline::open(&config, &codec)?;
            let offered = offline.offered();
            (Feed::Recorded(Box::new(offline)), offered)
        } else {
            let offered = Offered {
                reward: !config.reward.is_empty(),
                correct: scorer.gives_correct(),
                steps: scorer.gives_steps(),
                sampler_logp: true,
            };
            (Feed::Sampled(Source::open(&config)?), offered)
        };
        learner.set_place(&place)?;
        learner.set_temperature(config.rollout.temperature)?;
        let reads = reads(learner.as_mut(), offered, &config.data.task)?;
        let held_out = held_out(&config, &feed)?;
        let notes = check_problems(&config, &feed, &held_out, &scorer, &codec)?;
        let updates = config.total_steps() * config.optimizer.updates_per_batch;
        let mut optimizer = AdamW::new(model.vars(), &config.optimizer, updates)?;
        if !place.own_ops() {
            optimizer = optimizer.with_candle_ops();
        }
        let data = match &feed {
            Feed::Sampled(source) => source.fingerprint(),
            Feed::Recorded(offline) => offline.fingerprint(),
        };
        let saved = Saved {
            step: 0,
            position: 0,
            optimizer_steps: 0,
            seed: config.seed,
            started_in: std::env::current_dir().unwrap_or_default(),
            data,
            program,
            before: None,
            state: learner.state(),
            sampling: super::learner::State::new(),
        };
        Ok(Trainer {
            config,
            dir,
            place,
            model,
            reference: None,
            codec,
            optimizer,
            learner,
            feed,
            scorer,
            held_out,
            offered,
            reads,
            known: Known::default(),
            saved,
            notes,
            signal: Signal::default(),
            lock: None,
            room: Gradients::default(),
        })
    }

    /// The run's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.saved.step
    }

    /// Every setting.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the objective reads.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        self.model.vars().iter().map(|(_, v)| v.elem_count()).sum()
    }

    /// Trains to the end, or until `stop` is set; looks at it between optimiser steps.
    pub fn train(&mut self, stop: &AtomicBool, reporter: &mut dyn Reporter) -> Result<Ended> {
        let total = self.config.total_steps();
        let mut metrics = Metrics::open(&self.dir, self.saved.step)?;
        if self.saved.before.is_none() && self.saved.step == 0 && !self.held_out.is_empty() {
            self.saved.before = Some(self.evaluate()?);
        }
        if self.held_out.is_empty() && self.config.eval.problems > 0 && !self.scorer.is_empty() {
            reporter.note(
                "no held-out problems, so nothing is measured: set data.held_out or data.eval_file",
            );
        }
        for note in &self.notes {
            reporter.note(note);
        }
        if let Some(before) = &self.saved.before {
            reporter.evaluation("before", before);
        }
        let says = self.reads.sample_weight || self.reads.sample_rollouts;
        if says && matches!(self.feed, Feed::Recorded(_)) {
            reporter.note(
                "the rollouts are recorded, so the program's `sample` statements change nothing",
            );
        }
        reporter.begin(self.saved.step, total);
        while self.saved.step < total {
            if stop.load(Ordering::SeqCst) {
                metrics.sync()?;
                let path = self.save()?;
                reporter.saved(&path);
                return Ok(Ended::Stopped { step: self.saved.step });
            }
            let report = self.one_step()?;
            metrics.append(&report)?;
            reporter.step(&report);
            if let Some(text) = self.signal.warning(report.step, &self.config) {
                reporter.warn(&text);
            }
            if let Some(evaluation) = &report.eval {
                reporter.evaluation(&format!("step {}", report.step), evaluation);
            }
            if self.saved.step.is_multiple_of(self.config.checkpoint.every)
                || self.saved.step == total
            {
                metrics.sync()?;
                let path = self.save()?;
                reporter.saved(&path);
            }
        }
        let after = if self.held_out.is_empty() { None } else { Some(self.evaluate()?) };
        if let Some(after) = &after {
            reporter.evaluation("after", after);
        }
        checkpoint::plot(&self.dir, &self.config.objective)?;
        let folder = self.dir.join("model");
        let dtype = if self.config.model.export == "bf16" { Dtype::Bf16 } else { Dtype::F32 };
        self.model.save(&folder, dtype).map_err(model_error)?;
        Ok(Ended::Finished(Summary { before: self.saved.before.clone(), after, model: folder }))
    }

    fn evaluate(&mut self) -> Result<Evaluation> {
        evaluate(&self.model, &self.codec, &mut self.scorer, &self.held_out, &self.config)
    }

    fn save(&mut self) -> Result<PathBuf> {
        self.saved.sampling = self.known.to_state();
        checkpoint::save(
            &self.dir,
            &self.model,
            &self.optimizer,
            &self.saved,
            self.config.checkpoint.keep,
        )
    }

    fn needs(&self, column: &str) -> bool {
        self.reads.columns.contains(column)
    }

    fn needs_reference(&self) -> bool {
        self.needs("token/ref_logp") || self.needs("vocab/ref_logits")
    }

    fn one_step(&mut self) -> Result<StepReport> {
        let started = Instant::now();
        let Next { mut batch, position, prompts } = self.next_batch()?;
        let sampled = started.elapsed().as_secs_f64();
        let temperature = self.config.rollout.temperature;
        let mut known = None;
        if self.needs("token/old_logp") {
            let whole = batch.inputs(0..batch.rollouts.len());
            if whole <= self.config.optimizer.micro_batch_tokens {
                known = Some(forward::fill_old_logprobs(&self.model, &mut batch, temperature)?);
            } else {
                forward::fill_logprobs(&self.model, &mut batch, temperature, |r| &mut r.old_logp)?;
            }
        }
        if self.needs("token/ref_logp") {
            self.with_reference(|reference| {
                forward::fill_logprobs(reference, &mut batch, temperature, |r| &mut r.ref_logp)
            })?;
        }
        let moment = Moment {
            step: self.saved.step,
            total: self.config.total_steps(),
            seed: mix(mix(self.config.seed, 0x6261_7463), self.saved.step),
        };
        let mut table = batch.table(self.offered, moment);
        self.add_logits(&mut table, &batch)?;
        let updates = self.config.optimizer.updates_per_batch;
        let budget = self.config.optimizer.micro_batch_tokens;
        let mut first: Option<Outcome> = None;
        let (mut loss, mut grad_norm, mut lr) = (0.0, 0.0, 0.0);
        let mut metrics: BTreeMap<String, f64> = BTreeMap::new();
        let mut update = self.learner.begin(&table, self.model.config().vocab_size)?;
        let pieces = join_pieces(&update.pieces(), |r| batch.inputs(r), budget);
        for _ in 0..updates {
            let (model, vars, known) = (&self.model, self.optimizer.vars(), known.take());
            let grads =
                self.room.gradients(model, &batch, update.as_mut(), &pieces, vars, known)?;
            let outcome = update.finish()?;
            let applied = self.optimizer.step(&grads)?;
            loss += outcome.loss / updates as f64;
            grad_norm += applied.grad_norm / updates as f64;
            lr = applied.lr;
            for (name, value) in &outcome.metrics {
                *metrics.entry(name.clone()).or_default() += value / updates as f64;
            }
            // What is kept is what the pass says that saw the weights which drew the batch.
            first.get_or_insert(outcome);
        }
        drop(update);
        if let Some(first) = first {
            self.learn(&batch, &first)?;
            self.learner.set_state(first.state.clone())?;
            self.saved.state = first.state;
        }
        self.signal.see(&batch, &self.reads.columns, grad_norm);
        self.saved.step += 1;
        self.saved.position = position;
        self.saved.optimizer_steps = self.optimizer.steps();
        let every = self.config.eval.every;
        let due = every > 0 && self.saved.step.is_multiple_of(every) && !self.held_out.is_empty();
        let eval = if due { Some(self.evaluate()?) } else { None };
        let count = batch.rollouts.len() as f64;
        let mean = |f: &dyn Fn(&super::batch::Rollout) -> f64| {
            batch.rollouts.iter().map(f).sum::<f64>() / count
        };
        let tokens = batch.tokens(0..batch.rollouts.len());
        let seconds = started.elapsed().as_secs_f64();
        Ok(StepReport {
            step: self.saved.step,
            reward: self.offered.reward.then(|| mean(&|r| r.score.reward)),
            correct: self
                .offered
                .correct
                .then(|| mean(&|r| f64::from(r.score.correct == Some(true)))),
            loss,
            metrics,
            grad_norm,
            lr,
            length: tokens as f64 / count,
            truncated: mean(&|r| f64::from(r.truncated)),
            tokens: tokens as u64,
            prompts,
            eval,
            time: Timing {
                seconds,
                sampling: sampled,
                tokens_per_second: tokens as f64 / seconds.max(1e-9),
            },
        })
    }

    fn next_batch(&mut self) -> Result<Next> {
        let (seed, position, step) = (self.config.seed, self.saved.position, self.saved.step);
        let source = match &self.feed {
            Feed::Recorded(offline) => {
                let (batch, taken) = offline.batch(seed, position, self.config.data.batch);
                return Ok(Next { batch, position: position + taken, prompts: None });
            }
            Feed::Sampled(source) => source,
        };
        let settings = &self.config.rollout;
        let (problems, position, new, effective) = if self.reads.sample_weight {
            let drawn = self.known.draw(source, seed, step, position, settings.prompts)?;
            (drawn.problems, drawn.position, Some(drawn.new), Some(drawn.effective))
        } else {
            let problems = source.training(seed, position, settings.prompts);
            (problems, position + settings.prompts as u64, None, None)
        };
        let known = |p: &Problem| self.known.rollouts(p.id).unwrap_or(settings.samples);
        let counts: Vec<usize> = problems.iter().map(known).collect();
        let batch = sample_batch(
            &self.model,
            &self.codec,
            &mut self.scorer,
            &problems,
            &counts,
            settings,
            self.config.data.line_turns || self.offered.steps,
            mix(mix(seed, 0x7361_6d70), step),
        )?;
        let says = self.reads.sample_weight || self.reads.sample_rollouts;
        let prompts = says.then(|| Prompts {
            count: problems.len(),
            new,
            effective,
            rollouts: batch.rollouts.len() as f64 / problems.len().max(1) as f64,
        });
        Ok(Next { batch, position, prompts })
    }

    /// Keeps what the program says of the batch's prompts, for the steps that follow.
    fn learn(&mut self, batch: &Batch, outcome: &Outcome) -> Result<()> {
        match &self.feed {
            Feed::Sampled(source) if self.reads.sample_weight || self.reads.sample_rollouts => self
                .known
                .learn(source, &batch.prompts, &outcome.samples, self.config.rollout.max_samples),
            Feed::Sampled(_) | Feed::Recorded(_) => Ok(()),
        }
    }
}

/// Columns that cost a model of their own, or an array as large as all logits.
const COSTLY: [&str; 3] = ["token/ref_logp", "vocab/ref_logits", "vocab/old_logits"];

/// What the program reads of what the run offers. What is costly is offered only to a program that
/// cannot do without it: a metric that reads it is left out.
fn reads(learner: &mut dyn Learner, offered: Offered, task: &str) -> Result<Reads> {
    let mut columns = offered.columns();
    columns.retain(|c| !COSTLY.contains(&c.as_str()));
    let mut reads = learner.reads(&columns)?;
    let needed: Vec<String> =
        reads.missing.iter().filter(|c| COSTLY.contains(&c.as_str())).cloned().collect();
    if !needed.is_empty() {
        columns.extend(needed);
        reads = learner.reads(&columns)?;
    }
    match reads.missing.first() {
        Some(missing) => Err(Offered::refusal(missing, task)),
        None => Ok(reads),
    }
}

/// The problems that accuracy is measured on.
fn held_out(config: &Config, feed: &Feed) -> Result<Vec<Problem>> {
    let count = config.eval.problems;
    match feed {
        Feed::Sampled(source) => Ok(source.held_out(count)),
        Feed::Recorded(_) => {
            let mut config = config.clone();
            if let Some(eval) = config.data.eval_file.take() {
                config.data.task = "prompts".into();
                config.data.file = Some(eval);
                config.data.held_out = 0;
                let Source::Prompts { train, .. } = Source::open(&config)? else {
                    return Ok(Vec::new());
                };
                return Ok(train.into_iter().take(count).collect());
            }
            if config.reward.iter().any(|r| r.kind == "arithmetic") {
                return Ok(Source::Arithmetic { digits: config.data.digits }.held_out(count));
            }
            Ok(Vec::new())
        }
    }
}

/// Finds what would stop the run later: answers that a reward misses, prompts that do not fit. Returns
/// what is odd but no obstacle.
fn check_problems(
    config: &Config,
    feed: &Feed,
    held_out: &[Problem],
    scorer: &Scorer,
    codec: &Codec,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let own = config.data.file.as_deref().unwrap_or_default();
    let train: &[Problem] = match feed {
        Feed::Sampled(Source::Prompts { train, .. }) => train,
        _ => &[],
    };
    for (problems, file) in
        [(train, own), (held_out, config.data.eval_file.as_deref().unwrap_or(own))]
    {
        let file = Path::new(file);
        codec.check_room(problems, file)?;
        notes.extend(codec.unknown(problems, file)?);
        if scorer.needs_answer()
            && let Some(problem) = problems.iter().find(|p| p.answer.is_none())
        {
            return Err(TrainError::Data {
                file: file.to_path_buf(),
                line: problem.line.unwrap_or(0),
                what: format!(
                    "no field \"{}\", which rewards exact and numeric compare with: add it, or set \
                     data.answer_key",
                    config.data.answer_key
                ),
            });
        }
    }
    Ok(notes)
}
