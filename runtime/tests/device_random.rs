//! Random well-typed programs: compiled kernels against the interpreter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod device_support;

use std::sync::Arc;

use device_support::compare::{compare, compare_within, kernel};
use device_support::rows::{self, CANDIDATE, DUEL, NOTE, NOWHERE, PLY};
use device_support::{Rng, batch};
use rlc_compiler::hir::{ColumnId, ColumnInfo, E, Expr, Graph, ParamInfo, ReduceOp};
use rlc_compiler::level::{BATCH, GROUP, Level, ROLLOUT, TOKEN, TURN, VOCAB};
use rlc_compiler::op::{Binary, Ty, Unary};
use rlc_compiler::program::{Emitted, Phase, Program};
use rlc_compiler::stage;
use rlc_compiler::table::{Data, Table};

/// Values are kept near 1, so that rounding is not amplified, and compared only with odd numbers,
/// so that rounding decides no branch.
struct Builder {
    graph: Graph,
    reals: Vec<E>,
    bools: Vec<E>,
    action: E,
    /// Entries that rows below a token name, some of them none.
    entry: E,
    /// A column of each level that has one.
    columns: Vec<E>,
    indices: Vec<Index>,
}

/// Numbers of rows.
#[derive(Clone, Copy)]
struct Index {
    e: E,
    /// Whose rows.
    of: Level,
    /// What holds a row and the row it names.
    scope: Level,
}

fn column(graph: &mut Graph, level: Level, name: &str, ty: Ty, differentiable: bool) -> E {
    let info =
        ColumnInfo { level, name: name.into(), ty, differentiable, default: None, span: None };
    graph.columns.push(info);
    graph.column(ColumnId(graph.columns.len() as u16 - 1))
}

/// A level of the tree, or a list or pairs.
fn any_level(rng: &mut Rng) -> Level {
    Level([0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11][rng.below(11)])
}

impl Builder {
    fn new(rng: &mut Rng) -> Builder {
        let mut graph = Graph::default();
        rows::declare(&mut graph.level_table);
        let span = NOWHERE;
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
        let columns = [
            column(&mut graph, CANDIDATE, "weight", Ty::Real, false),
            column(&mut graph, NOTE, "score", Ty::Real, false),
        ];
        reals.extend(columns);
        let entry = column(&mut graph, CANDIDATE, "entry", Ty::Int, false);
        let columns = [columns.as_slice(), &[reals[2], reals[4], reals[5]]].concat();
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
        let indices = Vec::new();
        let mut b = Builder { graph, reals, bools, action, entry, columns, indices };
        for _ in 0..60 + rng.below(80) {
            match rng.below(7) {
                0 => b.index(rng),
                1 => b.along(rng),
                _ => b.grow(rng),
            }
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

    /// A level of the tree that holds another.
    fn scope(&self, rng: &mut Rng, level: Level) -> Level {
        loop {
            let scope = any_level(rng);
            if self.graph.level_table.contains(scope, level) {
                return scope;
            }
        }
    }

    /// A few different ints at this level, sometimes of the current policy.
    fn kind(&mut self, rng: &mut Rng, level: Level) -> E {
        let truth = self.bools[rng.below(self.bools.len())];
        if self.graph.level_table.contains(self.level(truth), level) && rng.below(3) > 0 {
            let truth = self.graph.broadcast(truth, level);
            return self.graph.cast(truth, Ty::Int);
        }
        let above = self.scope(rng, level);
        let row = self.graph.add(Expr::Row, above, Ty::Int);
        let few = self.graph.constant(2.0 + rng.below(3) as f64, Ty::Int);
        let kind = self.graph.binary(Binary::Mod, row, few);
        self.graph.broadcast(kind, level)
    }

    /// The element that each row of a level belongs to, by a number.
    fn within(&mut self, rng: &mut Rng, level: Level) -> Option<E> {
        let rows: Vec<E> =
            self.indices.iter().map(|i| i.e).filter(|e| self.level(*e) == level).collect();
        match rng.below(5) {
            0 | 1 => None,
            2 => Some(self.kind(rng, level)),
            _ if rows.is_empty() => None,
            _ => Some(rows[rng.below(rows.len())]),
        }
    }

    /// Numbers of rows, and often a derived level of the elements that they tell.
    fn index(&mut self, rng: &mut Rng) {
        let level = any_level(rng);
        if level == BATCH {
            return;
        }
        let scope = self.scope(rng, level);
        let mut of = level;
        let filter = self.filter(rng, level);
        let mut e = match rng.below(8) {
            0 => self.graph.add(Expr::Row, level, Ty::Int),
            1 | 5 if level == TOKEN || level == TURN || level == rows::ITEM => {
                if !self.graph.level_table.contains(scope, ROLLOUT) {
                    return;
                }
                let x = self.kind(rng, level);
                self.graph.add(Expr::Prefix(x, scope), level, Ty::Int)
            }
            2 | 4 if level == DUEL || level == PLY => {
                of = if level == DUEL { ROLLOUT } else { TURN };
                let inside = if level == DUEL { GROUP } else { ROLLOUT };
                if !self.graph.level_table.contains(scope, inside) {
                    return;
                }
                self.graph.add(Expr::Side(rng.below(2) == 0), level, Ty::Int)
            }
            3 => {
                of = self.scope(rng, level);
                if !self.graph.level_table.contains(scope, of) {
                    return;
                }
                let row = self.graph.add(Expr::Row, of, Ty::Int);
                self.graph.broadcast(row, level)
            }
            n => {
                let key = self.kind(rng, level);
                let want = if n % 2 == 0 { key } else { self.kind(rng, level) };
                let within = self.within(rng, level);
                self.graph.add(Expr::Find { key, want, filter, scope, within }, level, Ty::Int)
            }
        };
        if let (Some(kept), 0) = (filter, rng.below(3)) {
            let none = self.graph.constant(-1.0, Ty::Int);
            e = self.graph.select(kept, e, none);
        }
        self.indices.push(Index { e, of, scope });
        let table = &mut self.graph.level_table;
        if rng.below(3) > 0 && table.all().count() < 40 {
            let name = format!("key{}", table.all().count());
            let parents = if table.tree(scope) == scope { scope } else { BATCH };
            let key = table.add_derived(name, level, of, &[parents], NOWHERE);
            self.graph.elements.insert(key, e);
        }
    }

    /// What goes through indices, or along elements.
    fn along(&mut self, rng: &mut Rng) {
        let x = self.real(rng);
        let level = self.level(x);
        let made = match rng.below(8) {
            0 => {
                let below: Vec<E> =
                    self.reals.iter().copied().filter(|e| self.level(*e) == CANDIDATE).collect();
                let d = below[rng.below(below.len())];
                self.graph.add(Expr::Spread { d, index: self.entry }, VOCAB, Ty::Real)
            }
            1 => {
                // Of columns, as for ranks.
                let x = self.reals[rng.below(2)];
                let n = 1 + rng.below(4);
                let n = self.graph.constant_at(n as f64, Ty::Int, TOKEN);
                let nth = self.graph.add(Expr::Nth(x, n), TOKEN, Ty::Int);
                let row = self.graph.add(Expr::VocabIndex, VOCAB, Ty::Int);
                let last = self.graph.broadcast(nth, VOCAB);
                let early = self.graph.binary(Binary::Le, row, last);
                self.bools.push(early);
                let value = self.graph.add(Expr::At(x, nth), TOKEN, Ty::Real);
                self.finite(value)
            }
            2 if level == VOCAB => {
                let found = self.graph.add(Expr::At(x, self.entry), CANDIDATE, Ty::Real);
                self.finite(found)
            }
            _ if level == VOCAB => return,
            2 => {
                // The same rows under another name.
                let table = &self.graph.level_table;
                let same: Vec<Level> = table
                    .all()
                    .filter(|l| *l != level && table.rows(*l) == table.rows(level))
                    .collect();
                if same.is_empty() {
                    return;
                }
                self.graph.add(Expr::Broadcast(x), same[rng.below(same.len())], Ty::Real)
            }
            3 => {
                let keys: Vec<Level> = self.graph.elements.keys().copied().collect();
                let Some(&to) = keys.get(rng.below(keys.len().max(1))) else { return };
                if to == level || !self.graph.level_table.contains(to, level) {
                    return;
                }
                self.reduction(rng, x, to)
            }
            n => {
                if self.indices.is_empty() {
                    return;
                }
                let Index { e: index, of, scope } = self.indices[rng.below(self.indices.len())];
                let table = &self.graph.level_table;
                let here = self.level(index);
                if n < 6 {
                    if table.rows(level) != of {
                        return;
                    }
                    self.graph.add(Expr::Gather { x, index, scope }, here, Ty::Real)
                } else {
                    if !table.contains(level, here) {
                        return;
                    }
                    let x = self.graph.broadcast(x, here);
                    let filter = self.filter(rng, here);
                    let op = [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Prod, ReduceOp::LogSumExp]
                        [rng.below(4)];
                    let found =
                        self.graph.add(Expr::Scatter { op, x, filter, index, scope }, of, Ty::Real);
                    let found = self.finite(found);
                    self.graph.unary(Unary::Tanh, found)
                }
            }
        };
        self.reals.push(made);
    }

    /// x, or a number where it is none.
    fn finite(&mut self, x: E) -> E {
        let finite = self.graph.unary(Unary::IsFinite, x);
        let other = self.graph.constant(0.25, Ty::Real);
        self.graph.select(finite, x, other)
    }

    fn reduction(&mut self, rng: &mut Rng, x: E, to: Level) -> E {
        let ops = [
            ReduceOp::Sum,
            ReduceOp::Sum,
            ReduceOp::Sum,
            ReduceOp::Max,
            ReduceOp::Min,
            ReduceOp::LogSumExp,
        ];
        let op = ops[rng.below(ops.len())];
        let filter = self.filter(rng, self.level(x));
        let total = self.graph.reduce(op, x, filter, to);
        // Of nothing they are infinite; many are large.
        if op == ReduceOp::Sum { self.graph.unary(Unary::Tanh, total) } else { self.finite(total) }
    }

    /// Whether one lies inside the other.
    fn meet(&self, a: E, b: E) -> bool {
        self.graph.level_table.meet(self.level(a), self.level(b)).is_some()
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
                if !self.meet(x, y) {
                    return;
                }
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
                let finest =
                    if self.graph.level_table.contains(level, self.level(y)) { y } else { x };
                if !self.meet(x, y) || !self.meet(c, finest) {
                    return;
                }
                self.graph.select(c, x, y)
            }
            6 | 7 => {
                // A reduction; from vocab only to tokens.
                let to = if level == VOCAB { TOKEN } else { any_level(rng) };
                if to == level || !self.graph.level_table.contains(to, level) {
                    return;
                }
                self.reduction(rng, x, to)
            }
            8 => {
                if level == VOCAB {
                    let t = self.graph.unary(Unary::Tanh, x);
                    return self.reals.push(t);
                }
                let scope = self.scope(rng, level);
                let filter = self.filter(rng, level);
                let (reverse, exclusive) = (rng.below(2) == 0, rng.below(2) == 0);
                let within = self.within(rng, level);
                let factor = match rng.below(3) {
                    0 => {
                        let y = self.real(rng);
                        if !self.graph.level_table.contains(self.level(y), level) {
                            return;
                        }
                        let y = self.graph.broadcast(y, level);
                        Some(self.graph.unary(Unary::Tanh, y))
                    }
                    _ => None,
                };
                let scan = Expr::Scan { x, filter, factor, scope, within, reverse, exclusive };
                let total = self.graph.add(scan, level, Ty::Real);
                self.graph.unary(Unary::Tanh, total)
            }
            9 => {
                if level == VOCAB {
                    return;
                }
                let scope = self.scope(rng, level);
                let filter = self.filter(rng, level);
                let default = self.graph.constant_at(0.125, Ty::Real, level);
                let by = [-3, -2, -1, 1, 2, 3][rng.below(6)];
                let within = self.within(rng, level);
                let shift = Expr::Shift { x, default, by, filter, scope, within };
                self.graph.add(shift, level, Ty::Real)
            }
            10 => {
                if level == VOCAB {
                    return;
                }
                let scope = self.scope(rng, level);
                // Of a column, since rounding may decide an order; or with ties.
                let column = self.columns.iter().copied().find(|c| self.level(*c) == level);
                let x = match column {
                    Some(column) if rng.below(2) == 0 => column,
                    _ => self.kind(rng, level),
                };
                let filter = self.filter(rng, level);
                let within = self.within(rng, level);
                let rank = Expr::Rank { x, filter, scope, within };
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
        self.graph.elements.clear();
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
            let mut table = batch(&mut rng, groups, width);
            rows::add(&mut rng, &mut table, width);
            for rows in [1, 3, usize::MAX / 2] {
                compare(&name, &program, &mut kernel, &table, rows);
            }
        }
        let mut table = wild(&mut rng, 3, 3);
        rows::add(&mut rng, &mut table, 3);
        // Differences of large numbers magnify rounding.
        compare_within(&name, &program, &mut kernel, &table, 1, 1e-4);
    }
}
