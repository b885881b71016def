//! Random ragged batches, and programs from text.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "a test fails by panicking")]

pub mod compare;
pub mod rows;

use std::sync::Arc;

use rlc_compiler::link::NoFiles;
use rlc_compiler::program::Program;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::table::{Array, Data, Table};

/// A small generator of its own, so that batches never change.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 53) as f64
    }

    /// Roughly normal.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    pub fn normals(&mut self, n: usize, scale: f64) -> Vec<f64> {
        (0..n).map(|_| self.normal() * scale).collect()
    }

    pub fn bools(&mut self, n: usize, share: f64) -> Vec<u8> {
        (0..n).map(|_| u8::from(self.unit() < share)).collect()
    }
}

/// The program of a text, for batches with these columns (none: all that it reads).
pub fn program(text: &str) -> Arc<Program> {
    program_with(text, &Settings::default())
}

pub fn program_with(text: &str, settings: &Settings) -> Arc<Program> {
    let mut sources = Sources::default();
    let root = sources.add(Source { name: "test.rl".into(), text: text.into(), library: false });
    let (checked, diagnostics) = rlc_compiler::check(&mut sources, root, &NoFiles);
    let Some(checked) = checked else {
        let text: Vec<String> =
            diagnostics.iter().map(|d| format!("{}: {}", d.code, d.message)).collect();
        panic!("{text:?}");
    };
    specialize(&checked, settings).unwrap().program
}

/// A batch with every standard column. Rollouts may be empty, groups may be single.
pub fn batch(rng: &mut Rng, groups: usize, width: usize) -> Table {
    let mut t = Table::default();
    let group: Vec<i64> = (0..groups).map(|_| 1 + rng.below(4) as i64).collect();
    let rollouts = group.iter().sum::<i64>() as usize;
    let rollout: Vec<i64> = (0..rollouts).map(|_| rng.below(8) as i64).collect();
    let tokens = rollout.iter().sum::<i64>() as usize;
    let (mut turn, mut turns) = (Vec::new(), Vec::new());
    for &size in &rollout {
        let mut left = size;
        let before = turn.len();
        while left > 0 {
            let n = (1 + rng.below(3) as i64).min(left);
            turn.push(n);
            left -= n;
        }
        if rng.below(5) == 0 {
            turn.push(0);
        }
        turns.push((turn.len() - before) as i64);
    }
    let n_turns = turn.len();
    t.set("group/size", Data::I64(group));
    t.set("rollout/size", Data::I64(rollout));
    t.set("turn/size", Data::I64(turn));
    t.set("rollout/turns", Data::I64(turns));
    let f64s = |x: Vec<f64>| Data::F64(x);
    for (name, n, scale) in [
        ("token/old_logp", tokens, 1.0),
        ("token/ref_logp", tokens, 1.0),
        ("token/sampler_logp", tokens, 1.0),
        ("token/value", tokens, 1.0),
        ("token/old_value", tokens, 1.0),
        ("token/token_reward", tokens, 1.0),
        ("turn/step_reward", n_turns, 1.0),
        ("rollout/reward", rollouts, 1.0),
    ] {
        t.set(name, f64s(rng.normals(n, scale)));
    }
    t.set("turn/step_correct", f64s((0..n_turns).map(|_| rng.unit()).collect()));
    t.set("token/mask", Data::U8(rng.bools(tokens, 0.7)));
    t.set("rollout/truncated", Data::U8(rng.bools(rollouts, 0.2)));
    t.set("rollout/correct", Data::U8(rng.bools(rollouts, 0.5)));
    t.set("group/prompt", Data::I64((0..groups as i64).collect()));
    t.set("batch/train.step", Data::I64(vec![3]));
    t.set("batch/train.total", Data::I64(vec![10]));
    t.set("batch/train.progress", Data::F64(vec![0.3]));
    let action = (0..tokens).map(|_| rng.below(width) as i64).collect();
    t.set("token/action", Data::I64(action));
    for name in ["vocab/logits", "vocab/ref_logits", "vocab/old_logits"] {
        let x = rng.normals(tokens * width, 2.0).iter().map(|x| *x as f32).collect();
        t.arrays.insert(name.into(), Array { data: Data::F32(x), shape: vec![tokens, width] });
    }
    t
}
