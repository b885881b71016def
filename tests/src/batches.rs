//! Random ragged batches, by seed.

use rlc_cli::synthetic::{self, Read};
use rlc_compiler::check::Checked;
use rlc_compiler::level::{TOKEN, VOCAB};
use rlc_compiler::op::Ty;
use rlc_compiler::shape::Shape;
use rlc_compiler::table::{Array, Data, Table};
use rlc_runtime::objective::{Backend, Objective};

/// A small random generator (SplitMix64): the same numbers on every machine.
pub struct Random(u64);

impl Random {
    /// By seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }
}

/// Where the policy's numbers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// `vocab/logits` with so many entries.
    Logits(usize),
    /// `token/logp` and `token/entropy`.
    Logp,
}

/// A batch with every standard column: 3 to 4 groups, one of them a singleton, 1 to 4 rollouts a
/// group, 1 to 3 turns a rollout, also in `items` of other sizes, and masked tokens.
pub fn random(seed: u64, policy: Policy) -> Table {
    let random = &mut Random::new(seed);
    let mut groups: Vec<i64> =
        (0..2 + random.below(2)).map(|_| 2 + random.below(3) as i64).collect();
    groups.insert(random.below(groups.len()), 1);
    let rollouts = groups.iter().sum::<i64>() as usize;
    let mut sizes: Vec<i64> = (0..rollouts).map(|_| 1 + random.below(6) as i64).collect();
    sizes[0] = 5;
    let tokens = sizes.iter().sum::<i64>() as usize;
    let (turn_sizes, turns) = segments(random, &sizes);
    let (item_sizes, items) = segments(random, &sizes);

    let mut table = Table::default();
    let mut reals = |table: &mut Table, name: &str, n: usize, low: f64, high: f64| {
        table.set(name, Data::F64((0..n).map(|_| random.between(low, high)).collect()));
    };
    let (n_turns, n_items) = (turn_sizes.len(), item_sizes.len());
    for name in ["old_logp", "ref_logp", "sampler_logp"] {
        reals(&mut table, &format!("token/{name}"), tokens, -3.0, -0.05);
    }
    for name in ["value", "old_value", "token_reward"] {
        reals(&mut table, &format!("token/{name}"), tokens, -1.0, 1.0);
    }
    reals(&mut table, "turn/step_correct", n_turns, 0.0, 1.0);
    reals(&mut table, "turn/step_reward", n_turns, -1.0, 1.0);
    reals(&mut table, "item/weight", n_items, 0.1, 1.0);
    reals(&mut table, "rollout/reward", rollouts, -1.0, 1.0);
    reals(&mut table, "batch/train.progress", 1, 0.0, 1.0);
    let vocab = match policy {
        Policy::Logits(vocab) => {
            for name in ["logits", "ref_logits", "old_logits"] {
                let data = (0..tokens * vocab).map(|_| random.between(-2.0, 2.0)).collect();
                let array = Array { data: Data::F64(data), shape: vec![tokens, vocab] };
                table.arrays.insert(format!("vocab/{name}"), array);
            }
            vocab
        }
        Policy::Logp => {
            let logp = (0..tokens).map(|_| random.between(-3.0, -0.05)).collect();
            let entropy = (0..tokens).map(|_| random.between(0.1, 2.0)).collect();
            table.set("token/logp", Data::F64(logp));
            table.set("token/entropy", Data::F64(entropy));
            8
        }
    };
    let bools = |random: &mut Random, n: usize, share: f64| {
        Data::U8((0..n).map(|_| u8::from(random.unit() < share)).collect())
    };
    table.set("token/mask", bools(random, tokens, 0.8));
    table.set("rollout/truncated", bools(random, rollouts, 0.3));
    table.set("rollout/correct", bools(random, rollouts, 0.5));
    let actions = (0..tokens).map(|_| random.below(vocab) as i64).collect();
    table.set("token/action", Data::I64(actions));
    table.set("group/prompt", Data::I64((0..groups.len() as i64).collect()));
    table.set("batch/train.step", Data::I64(vec![3]));
    table.set("batch/train.total", Data::I64(vec![10]));
    table.set("group/size", Data::I64(groups));
    table.set("rollout/size", Data::I64(sizes));
    table.set("rollout/turns", Data::I64(turns));
    table.set("turn/size", Data::I64(turn_sizes));
    table.set("rollout/items", Data::I64(items));
    table.set("item/size", Data::I64(item_sizes));
    table
}

/// A ragged batch with every column that this program reads, declared ones and levels too; none where it cannot do with
/// these policy columns. One group has a single rollout, rollouts have 1 to 6 tokens, some segments and lists are empty.
pub fn random_for(checked: &Checked, seed: u64, policy: Policy) -> Option<Table> {
    const ENTRIES: usize = 5;
    let offered: &[&str] = match policy {
        Policy::Logits(_) => &["vocab/logits"],
        Policy::Logp => &["token/logp", "token/entropy"],
    };
    let mut objective = Objective::new(checked.clone(), Backend::Interp);
    let offered = offered.iter().map(|c| (*c).to_owned()).collect();
    let specialized = objective.specialized(Some(offered)).ok()?;
    let reads = synthetic::reads(&specialized.program);
    if policy == Policy::Logp && reads.iter().any(|r| r.path == "vocab/logits") {
        return None;
    }
    let random = &mut Random::new(seed);
    let mut groups: Vec<usize> = (0..3).map(|_| 2 + random.below(3)).collect();
    groups.insert(random.below(groups.len()), 1);
    let rollouts: Vec<usize> =
        (0..groups.iter().sum::<usize>()).map(|_| 1 + random.below(6)).collect();
    let (mut cutting, mut listing) = (Random::new(seed ^ 1), Random::new(seed ^ 2));
    let mut cuts =
        |n: usize| segments(&mut cutting, &[n as i64]).0.iter().map(|&s| s as usize).collect();
    let levels = &checked.graph.level_table;
    let mut table =
        synthetic::ragged(levels, &groups, &rollouts, &mut cuts, &mut || 1 + listing.below(3));
    let entries = if let Policy::Logits(entries) = policy { entries } else { ENTRIES };
    let shape = Shape::new(levels, &table).unwrap_or_else(|e| panic!("{e}"));
    let tokens = shape.count(TOKEN);
    for read in &reads {
        if read.level == VOCAB {
            let data = (0..tokens * entries).map(|_| random.between(-2.0, 2.0)).collect();
            let array = Array { data: Data::F64(data), shape: vec![tokens, entries] };
            table.arrays.insert(read.path.clone(), array);
            continue;
        }
        let count = shape.count(read.level);
        let values = (0..count).map(|i| value(random, read, i, entries)).collect();
        synthetic::set(&mut table, read, values);
    }
    Some(table)
}

/// A number for row `i` of a column: what its name or its type allows.
fn value(random: &mut Random, read: &Read, i: usize, entries: usize) -> f64 {
    let name = read.path.rsplit('/').next().unwrap_or("");
    match (read.path.as_str(), read.ty) {
        ("token/action", _) => random.below(entries) as f64,
        ("token/mask", _) => f64::from(random.unit() < 0.8),
        ("batch/train.step", _) => 3.0,
        ("batch/train.total", _) => 10.0,
        ("group/prompt", _) => i as f64,
        (_, Ty::Bool) => f64::from(random.unit() < 0.5),
        (_, Ty::Int) => random.below(3) as f64,
        ("rollout/reward" | "token/value" | "token/old_value" | "token/token_reward", _) => {
            random.between(-1.0, 1.0)
        }
        (_, Ty::Real) if name.contains("logp") || name.contains("lp_") => {
            random.between(-3.0, -0.05)
        }
        // Probabilities, deviations, weights and scores alike may lie here.
        (_, Ty::Real) => random.between(0.1, 0.9),
    }
}

/// Cuts each rollout into 1 to 3 segments, some of them empty: sizes, and segments per rollout.
fn segments(random: &mut Random, rollouts: &[i64]) -> (Vec<i64>, Vec<i64>) {
    let (mut sizes, mut counts) = (Vec::new(), Vec::new());
    for &rollout in rollouts {
        let count = 1 + random.below(3);
        let mut left = rollout;
        for i in 0..count {
            let size = if i + 1 == count { left } else { random.below(left as usize + 1) as i64 };
            sizes.push(size);
            left -= size;
        }
        counts.push(count as i64);
    }
    (sizes, counts)
}
