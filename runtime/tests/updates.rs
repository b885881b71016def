//! Several optimiser updates over one batch of rollouts: what does not depend on the policy is computed once, and
//! each update comes to what a step of its own comes to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rlc_compiler::link::NoFiles;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::table::{Array, Data, Table};
use rlc_runtime::objective::{AllReduce, Backend, Exchange, Logits, Objective, Outcome, Step};

/// Live sums to groups and to the batch, a scan, a state and vocab rows of a reference.
const PROGRAM: &str = "
extend nothing
state seen = 1.0
update seen = seen + 1
advantage = (reward - mean(reward)) / (std(reward) + 0.1)
ratio = exp(mean(logp - old_logp per rollout))
trace = cumsum(ratio @ token * advantage in rollout)
kl = sum(softmax(logits) * (log_softmax(logits) - log_softmax(ref_logits)) per token)
loss = mean(mean(kl - trace + seen * entropy per group)) / mean(mask)
minimize loss
metric kl = mean(kl)
";

const VOCAB: usize = 300;
const SIZES: [i64; 4] = [3, 1, 4, 2];

fn numbers(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 250.0 - 2.0).collect()
}

fn batch() -> Table {
    let mut t = Table::default();
    t.set("group/size", Data::I64(vec![2, 2]));
    t.set("rollout/size", Data::I64(SIZES.to_vec()));
    t.set("rollout/reward", Data::F32(vec![1.0, 0.0, 1.0, 0.25]));
    t.set("token/action", Data::I64((0..10).map(|i| i * 13 % 300).collect()));
    t.set("token/mask", Data::U8(vec![1, 1, 0, 1, 1, 1, 1, 0, 1, 1]));
    t.set("token/old_logp", Data::F32(vec![-5.5; 10]));
    let data = Data::F32(numbers(3, 10 * VOCAB));
    t.arrays.insert("vocab/ref_logits".into(), Array { data, shape: vec![10, VOCAB] });
    t
}

fn objective(backend: Backend) -> Objective {
    let mut sources = Sources::default();
    let source = Source { name: "updates.rl".into(), text: PROGRAM.into(), library: false };
    let root = sources.add(source);
    let (checked, found) = rlc_compiler::check(&mut sources, root, &NoFiles);
    Objective::new(checked.unwrap_or_else(|| panic!("{found:?}")), backend)
}

/// One update: all pieces with these logits.
fn update(step: &mut Step<'_>, logits: &[f32]) -> (Outcome, Vec<f32>) {
    let mut grads = Vec::new();
    for piece in step.pieces(1, usize::MAX) {
        let first: i64 = SIZES[..piece.start].iter().sum();
        let tokens: i64 = SIZES[piece.clone()].iter().sum();
        let rows = first as usize * VOCAB..(first + tokens) as usize * VOCAB;
        grads.extend(step.live(piece, Some(&logits[rows])).unwrap().logits);
    }
    (step.finish().unwrap().clone(), grads)
}

#[test]
fn updates_of_one_batch_are_those_of_steps_of_their_own() {
    let (table, live) = (batch(), Logits::Live { vocab: VOCAB });
    for backend in [Backend::Interp, Backend::Cpu] {
        let mut kept = objective(backend);
        let mut step = kept.begin(&table, live).unwrap();
        for seed in 0..4 {
            let logits = numbers(seed, 10 * VOCAB);
            let mut alone = objective(backend);
            let (want, want_grads) = update(&mut alone.begin(&table, live).unwrap(), &logits);
            let (got, grads) = update(&mut step, &logits);
            assert!(want_grads.iter().any(|g| *g != 0.0));
            assert_eq!(grads, want_grads, "{backend:?}, update {seed}");
            assert_eq!(got.loss.to_bits(), want.loss.to_bits(), "{backend:?}, update {seed}");
            assert_eq!((got.metrics, got.state), (want.metrics, want.state));
        }
        let said = step.finish().unwrap_err().to_string();
        assert!(said.contains("0 of 4 rollouts have run"), "{said}");
    }
}

/// One worker of one, which counts how often something crosses.
struct Counting(Arc<AtomicUsize>);

impl AllReduce for Counting {
    fn rank(&self) -> usize {
        0
    }

    fn workers(&self) -> usize {
        1
    }

    fn all_reduce(&mut self, part: Exchange) -> Result<Exchange, String> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(part)
    }
}

#[test]
fn the_recorded_stage_runs_once() {
    let (table, live) = (batch(), Logits::Live { vocab: VOCAB });
    let crossings = Arc::new(AtomicUsize::new(0));
    for backend in [Backend::Interp, Backend::Cpu] {
        let mut objective = objective(backend);
        objective.set_workers(Some(Box::new(Counting(Arc::clone(&crossings)))));
        let since = |before: usize| crossings.load(Ordering::Relaxed) - before;
        let before = crossings.load(Ordering::Relaxed);
        let mut step = objective.begin(&table, live).unwrap();
        let recorded = since(before);
        assert!(recorded > 0, "{backend:?}: the means of rewards cross");
        let mut each = Vec::new();
        for seed in 0..3 {
            let before = crossings.load(Ordering::Relaxed);
            update(&mut step, &numbers(seed, 10 * VOCAB));
            each.push(since(before));
        }
        let before = crossings.load(Ordering::Relaxed);
        drop(step);
        let mut step = objective.begin(&table, live).unwrap();
        update(&mut step, &numbers(0, 10 * VOCAB));
        assert_eq!(each, [since(before) - recorded; 3], "{backend:?}");
    }
}
