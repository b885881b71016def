//! The batch that is measured: ragged, with every column that the program reads, the same numbers
//! on every machine.

use half::{bf16, f16};
use rlc_compiler::level::{Levels, VOCAB};
use rlc_compiler::op::Ty;
use rlc_compiler::program::Program;
use rlc_compiler::shape::Shape;
use rlc_compiler::table::{Array, Data, Table};
use rlc_model::gemm::{Matrix, product};

use super::{Dtype, hidden};
use crate::failure::{Failure, Outcome};
use crate::synthetic::{self, Read, Sizes};

/// Tokens of a rollout where the command line does not say how many rollouts there are.
const TOKENS_OF_A_ROLLOUT: usize = 64;
/// Rollouts of a group.
const ROLLOUTS: usize = 8;

/// What batch is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Tokens in all.
    pub tokens: usize,
    /// Entries of a token's logits.
    pub vocab: usize,
    /// Their number type.
    pub dtype: Dtype,
    /// Numbers of a hidden state, for a batch that has those and a projection in place of logits.
    pub hidden: Option<usize>,
    /// Groups of rollouts.
    pub groups: Option<usize>,
    /// Rollouts of a group.
    pub rollouts: Option<usize>,
    /// What logits are divided by.
    pub temperature: f64,
}

impl Wanted {
    /// Rollouts of each group and tokens of each rollout.
    fn sizes(&self) -> Outcome<Sizes> {
        let rollouts = self.rollouts.unwrap_or(ROLLOUTS.min(self.tokens));
        let groups = self
            .groups
            .unwrap_or_else(|| (self.tokens / (rollouts * TOKENS_OF_A_ROLLOUT)).clamp(1, ROLLOUTS));
        let count = groups.saturating_mul(rollouts);
        if count > self.tokens {
            return Err(Failure::input(
                format!(
                    "{} tokens are too few for {groups} groups of {rollouts} rollouts",
                    self.tokens
                ),
                format!("a rollout has at least one token: `--tokens {count}`, or fewer rollouts"),
            ));
        }
        // Lengths from an eighth of the mean to almost twice the mean.
        let mut random = Random(1);
        let weights: Vec<f64> = (0..count).map(|_| 0.125 + 1.75 * random.unit()).collect();
        let total: f64 = weights.iter().sum();
        let spare = (self.tokens - count) as f64;
        let (mut sum, mut before) = (0.0, 0);
        let lengths = weights.iter().map(|w| {
            sum += w;
            let end = (spare * (sum / total)).round() as usize;
            let length = 1 + end - before;
            before = end;
            length
        });
        let rollouts_of = vec![rollouts; groups];
        Ok(Sizes { groups: rollouts_of, rollouts: lengths.collect(), segments: 3, rows: 2 })
    }
}

/// A batch for a program.
pub fn build(program: &Program, wanted: &Wanted) -> Outcome<Table> {
    let levels: &Levels = &program.graph.level_table;
    let mut table = synthetic::structure(levels, &wanted.sizes()?);
    let shape = Shape::new(levels, &table)
        .map_err(|e| Failure::running(e.to_string(), "a fault of rlc"))?;
    let columns = synthetic::reads(program);
    let mut random = Random(2);
    let given = |c: &&Read| wanted.hidden.is_none() || c.path != "vocab/logits";
    for read in columns.iter().filter(|c| c.level == VOCAB).filter(given) {
        let data = entries(wanted.dtype, wanted.tokens * wanted.vocab, &mut random);
        let shape = vec![wanted.tokens, wanted.vocab];
        table.arrays.insert(read.path.clone(), Array { data, shape });
    }
    let actions: Vec<usize> = (0..wanted.tokens).map(|_| random.below(wanted.vocab)).collect();
    if let Some(width) = wanted.hidden {
        let mut matrix = |name: &str, rows: usize, scale: f64| {
            let numbers = (0..rows * width).map(|_| (scale * random.normal()) as f32).collect();
            let array = Array { data: Data::F32(numbers), shape: vec![rows, width] };
            table.arrays.insert(name.to_owned(), array);
        };
        matrix(hidden::STATES, wanted.tokens, 1.0);
        // Logits of deviation 2, as in `entries`.
        matrix(hidden::WEIGHT, wanted.vocab, 2.0 / (width as f64).sqrt());
    }
    let logp = match (table.get("vocab/logits"), wanted.hidden) {
        (Some(logits), _) => logps(&logits.data, &actions, wanted),
        (None, Some(width)) => projected(&table, width, &actions, wanted),
        (None, None) => (0..wanted.tokens).map(|_| -2.0 - random.normal().abs()).collect(),
    };
    for read in columns.iter().filter(|c| c.level != VOCAB) {
        let count = shape.count(read.level);
        let values = (0..count).map(|i| value(read, i, &actions, &logp, &mut random)).collect();
        synthetic::set(&mut table, read, values);
    }
    Ok(table)
}

/// A number for row `i` of a column: near the policy for what says how likely a token was.
fn value(read: &Read, i: usize, actions: &[usize], logp: &[f64], random: &mut Random) -> f64 {
    let name = read.path.split('/').next_back().unwrap_or("");
    let token = read.path.starts_with("token/").then(|| logp.get(i)).flatten();
    match (name, token, read.ty) {
        ("action", Some(_), _) => actions[i] as f64,
        ("logp", Some(logp), _) => *logp,
        (_, Some(logp), Ty::Real) if name.ends_with("logp") => logp + 0.1 * random.normal(),
        ("entropy", ..) => 1.0 + random.unit(),
        ("mask", ..) => f64::from(random.unit() < 0.9),
        ("train.total", ..) => 100.0,
        ("train.step", ..) => 10.0,
        (_, _, Ty::Bool) => f64::from(random.unit() < 0.5),
        (_, _, Ty::Int) => random.below(8) as f64,
        (_, _, Ty::Real) => random.unit(),
    }
}

/// Logits, about normal with deviation 2.
fn entries(dtype: Dtype, count: usize, random: &mut Random) -> Data {
    let mut draw = || 2.0 * random.normal() as f32;
    match dtype {
        Dtype::F32 => Data::F32((0..count).map(|_| draw()).collect()),
        Dtype::F64 => Data::F64((0..count).map(|_| f64::from(draw())).collect()),
        Dtype::Bf16 => Data::Bf16((0..count).map(|_| bf16::from_f32(draw()).to_bits()).collect()),
        Dtype::F16 => Data::F16((0..count).map(|_| f16::from_f32(draw()).to_bits()).collect()),
    }
}

/// The log-probability of each action.
fn logps(logits: &Data, actions: &[usize], wanted: &Wanted) -> Vec<f64> {
    let row = |t: usize| (t * wanted.vocab..(t + 1) * wanted.vocab).map(|i| logits.get(i));
    let logp = |(t, &action): (usize, &usize)| {
        let sum: f64 = row(t).map(|x| (x / wanted.temperature).exp()).sum();
        logits.get(t * wanted.vocab + action) / wanted.temperature - sum.ln()
    };
    actions.iter().enumerate().map(logp).collect()
}

/// The same of logits that are products, a token at a time.
fn projected(table: &Table, width: usize, actions: &[usize], wanted: &Wanted) -> Vec<f64> {
    let numbers = |name: &str| match table.get(name).map(|a| &a.data) {
        Some(Data::F32(x)) => &x[..],
        _ => &[],
    };
    let weight = Matrix::new(numbers(hidden::WEIGHT), wanted.vocab, width).turned();
    let mut logits = vec![0.0f32; wanted.vocab];
    let of = |(state, &action): (&[f32], &usize)| {
        product(&mut logits, wanted.vocab, Matrix::new(state, 1, width), weight, false);
        let scaled = |x: &f32| f64::from(*x) / wanted.temperature;
        let sum: f64 = logits.iter().map(|x| scaled(x).exp()).sum();
        scaled(&logits[action]) - sum.ln()
    };
    numbers(hidden::STATES).chunks_exact(width).zip(actions).map(of).collect()
}

/// Numbers that look random and are the same everywhere (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// In [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// About normal: four 16-bit numbers added up, mean 0, deviation 1.
    fn normal(&mut self) -> f64 {
        let bits = self.next();
        let sum = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum::<u64>();
        (sum as f64 / 65_535.0 - 2.0) * 3f64.sqrt()
    }
}
