//! Random well-typed programs: compiled kernels against the interpreter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod device_support;

use std::sync::Arc;

use device_support::compare::{compare, compare_within, kernel};
use device_support::{Rng, batch};
use rlc_compiler::hir::{ColumnId, ColumnInfo, E, Expr, Graph, ParamInfo, ReduceOp};
use rlc_compiler::level::{BATCH, GROUP, Level, ROLLOUT, TOKEN, TURN, VOCAB};
use rlc_compiler::op::{Binary, Ty, Unary};
use rlc_compiler::program::{Emitted, Phase, Program};
use rlc_compiler::source::{FileId, Span};
use rlc_compiler::stage;
use rlc_compiler::table::{Data, Table};

/// Values are kept near 1, so that rounding is not amplified, and compared only with odd numbers,
/// so that rounding decides no branch.
struct Builder {
    graph: Graph,
    reals: Vec<E>,
    bools: Vec<E>,
    action: E,
}

fn column(graph: &mut Graph, level: Level, name: &str, ty: Ty, differentiable: bool) -> E {
    let info =
        ColumnInfo { level, name: name.into(), ty, differentiable, default: None, span: None };
    graph.columns.push(info);
    graph.column(ColumnId(graph.columns.len() as u16 - 1))
}

impl Builder {
    fn new(rng: &mut Rng) -> Builder {
        let mut graph = Graph::default();
        let span = Span { file: FileId(0), start: 0, end: 0 };
        for (name, value) in [("alpha", 0.7), ("beta", 1.3)] {
            let name = name.into();
            graph.params.push(ParamInfo {
                name,
                ty: Ty::Real,
                value,
                range: None,
                doc: None,
                span,
            });
        }
        let mut reals = Vec::new();
        let logits = column(&mut graph, VOCAB, "logits", Ty::Real, true);
        reals.push(logits);
        reals.push(column(&mut graph, VOCAB, "ref_logits", Ty::Real, false));
        for (level, name) in
            [(TOKEN, "old_logp"), (TOKEN, "ref_logp"), (TURN, "step_reward"), (ROLLOUT, "reward")]
        {
            reals.push(column(&mut graph, level, name, Ty::Real, false));
        }
        reals.push(column(&mut graph, TOKEN, "value", Ty::Real, true));
        reals.push(graph.add(Expr::Param(rlc_compiler::hir::ParamId(0)), BATCH, Ty::Real));
        reals.push(graph.constant(0.37, Ty::Real));
        let action = column(&mut graph, TOKEN, "action", Ty::Int, false);
        let mut bools = vec![
            column(&mut graph, TOKEN, "mask", Ty::Bool, false),
            column(&mut graph, ROLLOUT, "truncated", Ty::Bool, false),
        ];
        let index = graph.add(Expr::VocabIndex, VOCAB, Ty::Int);
        let two = graph.constant(2.0, Ty::Int);
        bools.push(graph.binary(Binary::Ge, index, two));
        let wide = graph.broadcast(action, VOCAB);
        bools.push(graph.binary(Binary::Eq, index, wide));
        // What real programs have, so that the rules for them are met often.
        let total = graph.reduce(ReduceOp::LogSumExp, logits, None, TOKEN);
        let log_p = graph.binary(Binary::Sub, logits, total);
        let p = graph.unary(Unary::Exp, log_p);
        let zero = graph.constant(0.0, Ty::Real);
        let positive = graph.binary(Binary::Gt, p, zero);
        reals.extend([total, log_p, p]);
        bools.push(positive);
        let mut b = Builder { graph, reals, bools, action };
        for _ in 0..40 + rng.below(60) {
            b.grow(rng);
        }
        b
    }

    fn real(&self, rng: &mut Rng) -> E {
        // Recent ones more often.
        let n = self.reals.len();
        let back = rng.below(n).min(rng.below(n));
        self.reals[n - 1 - back]
    }

    fn level(&self, e: E) -> Level {
        self.graph.level(e)
    }

    /// A filter at this level, or none.
    fn filter(&mut self, rng: &mut Rng, level: Level) -> Option<E> {
        if rng.below(2) == 0 {
            return None;
        }
        let f = self.bools[rng.below(self.bools.len())];
        if !self.graph.level_table.contains(self.level(f), level) {
            return None;
        }
        Some(self.graph.broadcast(f, level))
    }

    fn grow(&mut self, rng: &mut Rng) {
        let x = self.real(rng);
        let level = self.level(x);
        let made = match rng.below(13) {
            0 => {
                let ops = [
                    Unary::Exp,
                    Unary::Sigmoid,
                    Unary::Sin,
                    Unary::Cos,
                    Unary::Neg,
                    Unary::Abs,
                    Unary::LogSigmoid,
                    Unary::Softplus,
                ];
                // Of large numbers a sine is noise.
                let small = self.graph.unary(Unary::Tanh, x);
                self.graph.unary(ops[rng.below(ops.len())], small)
            }
            1..=4 => {
                let y = self.real(rng);
                let ops = [
                    Binary::Add,
                    Binary::Sub,
                    Binary::Mul,
                    Binary::Mul,
                    Binary::Chain,
                    Binary::Min,
                    Binary::Max,
                ];
                self.graph.binary(ops[rng.below(ops.len())], x, y)
            }
            5 => {
                let y = self.real(rng);
                let c = self.bools[rng.below(self.bools.len())];
                let zero = self.graph.constant(0.0, Ty::Real);
                let y = if rng.below(2) == 0 { zero } else { y };
                self.graph.select(c, x, y)
            }
            6 | 7 => {
                // A reduction; from vocab only to tokens.
                let ops = [
                    ReduceOp::Sum,
                    ReduceOp::Sum,
                    ReduceOp::Sum,
                    ReduceOp::Max,
                    ReduceOp::Min,
                    ReduceOp::LogSumExp,
                ];
                let to = if level == VOCAB { TOKEN } else { Level(rng.below(5) as u8) };
                if to == level || !self.graph.level_table.contains(to, level) {
                    return;
                }
                let op = ops[rng.below(ops.len())];
                let filter = self.filter(rng, level);
                let total = self.graph.reduce(op, x, filter, to);
                // Of nothing they are infinite; many are large.
                if op == ReduceOp::Sum {
                    self.graph.unary(Unary::Tanh, total)
                } else {
                    let finite = self.graph.unary(Unary::IsFinite, total);
                    let other = self.graph.constant(0.25, Ty::Real);
                    self.graph.select(finite, total, other)
                }
            }
            8 => {
                if level == VOCAB {
                    let t = self.graph.unary(Unary::Tanh, x);
                    return self.reals.push(t);
                }
                let scope = Level(rng.below(5) as u8);
                if !self.graph.level_table.contains(scope, level) {
                    return;
                }
                let filter = self.filter(rng, level);
                let (reverse, exclusive) = (rng.below(2) == 0, rng.below(2) == 0);
                let (factor, within) = (None, None);
                let scan = Expr::Scan { x, filter, factor, scope, within, reverse, exclusive };
                let total = self.graph.add(scan, level, Ty::Real);
                self.graph.unary(Unary::Tanh, total)
            }
            9 => {
                if level == VOCAB {
                    return;
                }
                let scope = Level(rng.below(5) as u8);
                if !self.graph.level_table.contains(scope, level) {
                    return;
                }
                let filter = self.filter(rng, level);
                let default = self.graph.constant_at(0.125, Ty::Real, level);
                let by = [-3, -2, -1, 1, 2, 3][rng.below(6)];
                let shift = Expr::Shift { x, default, by, filter, scope, within: None };
                self.graph.add(shift, level, Ty::Real)
            }
            10 => {
                if level == VOCAB {
                    return;
                }
                let scope = Level(rng.below(5) as u8);
                if !self.graph.level_table.contains(scope, level) {
                    return;
                }
                // Of a column, since rounding may decide an order.
                let x = match level {
                    TOKEN => self.reals[2],
                    TURN => self.reals[4],
                    ROLLOUT => self.reals[5],
                    _ => return,
                };
                let filter = self.filter(rng, level);
                let rank = Expr::Rank { x, filter, scope, within: None };
                self.graph.add(rank, level, Ty::Int)
            }
            11 => {
                let odd = self.graph.constant(0.2345 + rng.unit(), Ty::Real);
                let c = self.graph.binary(Binary::Gt, x, odd);
                let flip = self.graph.unary(Unary::Not, c);
                return self.bools.push(if rng.below(2) == 0 { c } else { flip });
            }
            _ => {
                if level == VOCAB {
                    self.graph.add(Expr::At(x, self.action), TOKEN, Ty::Real)
                } else {
                    self.graph.add(Expr::Detach(x), level, Ty::Real)
                }
            }
        };
        self.reals.push(made);
    }

    fn program(mut self, rng: &mut Rng) -> Program {
        let loss = *self.reals.iter().rev().find(|e| self.level(**e) == BATCH).unwrap();
        let mut values = Vec::new();
        for _ in 0..14 {
            let e = self.real(rng);
            if self.level(e) != VOCAB {
                values.push(Emitted { name: format!("v{}", e.0), value: e, exists: None });
            }
        }
        let piece = [ROLLOUT, GROUP, BATCH][rng.below(3)];
        let gradient = *self.reals.iter().rev().find(|e| self.level(**e) == VOCAB).unwrap();
        let per_token = self.graph.constant_at(0.5, Ty::Real, TOKEN);
        let reads = stage::Reads::of(&self.graph);
        let phases = stage::phases(&self.graph, &reads, piece);
        let vocab = (phases[gradient.index()] != Phase::After).then_some(gradient);
        Program {
            graph: self.graph,
            phases,
            loss,
            grads: vec![(ColumnId(0), vocab), (ColumnId(6), Some(per_token))],
            metrics: Vec::new(),
            values,
            updates: Vec::new(),
            samples: Vec::new(),
            kept: Vec::new(),
            coupling: piece,
            cause: None,
            piece,
        }
    }
}

/// A batch with large logits and some of -inf, though never the action's: a sum over entries that
/// multiplies by an infinite number is not finite either way, but may be NaN in one of the two.
fn wild(rng: &mut Rng, groups: usize, width: usize) -> Table {
    let mut table = batch(rng, groups, width);
    let Data::I64(action) = table.arrays["token/action"].data.clone() else { panic!("no actions") };
    if let Data::F32(x) = &mut table.arrays.get_mut("vocab/logits").unwrap().data {
        for (i, v) in x.iter_mut().enumerate() {
            let chosen = action[i / width] as usize == i % width;
            match rng.below(12) {
                0 if !chosen => *v = f32::NEG_INFINITY,
                1 => *v = 300.0,
                2 => *v = -300.0,
                _ => {}
            }
        }
    }
    table
}

#[test]
fn random_programs_match_interpreter() {
    let count = std::env::var("RLC_RANDOM").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let first = std::env::var("RLC_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for seed in first..first + count {
        let mut rng = Rng(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15) | 1);
        let program = Arc::new(Builder::new(&mut rng).program(&mut rng));
        program.graph.verify().unwrap();
        let name = format!("seed {seed}");
        let mut kernel = kernel(&name, &program, &[]);
        if std::env::var("RLC_PRINT").is_ok() {
            println!("{}\n{}", program.print(), kernel.plan().print());
        }
        for (groups, width) in [(3, 4), (5, 7)] {
            let table = batch(&mut rng, groups, width);
            for rows in [1, 3, usize::MAX / 2] {
                compare(&name, &program, &mut kernel, &table, rows);
            }
        }
        let table = wild(&mut rng, 3, 3);
        // Differences of large numbers magnify rounding.
        compare_within(&name, &program, &mut kernel, &table, 1, 1e-4);
    }
}
