//! Reverse mode on the typed graph, through every level down to the vocabulary.
//!
//! The adjoint of x is written d_x and stands at x's level. Each arm adds the adjoints of one
//! expression's operands, as more expressions; `simplify` runs afterwards.
//! A product of an adjoint and a partial derivative is `Chain`, in which an adjoint of 0 gives 0
//! also where the derivative is not finite: that is what makes a branch not taken harmless.

use crate::hir::{ColumnId, E, Expr, Graph, ReduceOp};
use crate::level::{Level, TOKEN};
use crate::op::{Binary, Ty, Unary};

/// The operands that gradient passes to.
pub fn differentiable_operands(graph: &Graph, e: E) -> Vec<E> {
    match graph.expr(e) {
        Expr::Const(_)
        | Expr::Param(_)
        | Expr::Column(_)
        | Expr::VocabIndex
        | Expr::Rank { .. }
        | Expr::Find { .. }
        | Expr::Prefix(..)
        | Expr::Side(_)
        | Expr::Row
        | Expr::Nth(..)
        | Expr::Detach(_) => vec![],
        Expr::Unary(op, x) => match op {
            Unary::Not
            | Unary::Sign
            | Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Trunc
            | Unary::IsFinite
            | Unary::IsNan => vec![],
            Unary::Neg
            | Unary::Exp
            | Unary::Log
            | Unary::Log1p
            | Unary::Expm1
            | Unary::Log1mexp
            | Unary::Log2
            | Unary::Sqrt
            | Unary::Abs
            | Unary::Sigmoid
            | Unary::LogSigmoid
            | Unary::Tanh
            | Unary::Softplus
            | Unary::Relu
            | Unary::Sin
            | Unary::Cos
            | Unary::Cast => vec![x],
        },
        Expr::Binary(op, a, b) => match op {
            Binary::Add
            | Binary::Sub
            | Binary::Mul
            | Binary::Div
            | Binary::Mod
            | Binary::Pow
            | Binary::Min
            | Binary::Max
            | Binary::Chain => vec![a, b],
            Binary::FloorDiv
            | Binary::Eq
            | Binary::Ne
            | Binary::Lt
            | Binary::Le
            | Binary::Gt
            | Binary::Ge
            | Binary::And
            | Binary::Or => vec![],
        },
        Expr::Select(_, a, b) => vec![a, b],
        Expr::Choose(_, x, _)
        | Expr::Broadcast(x)
        | Expr::Reduce(_, x, _)
        | Expr::Scatter { x, .. }
        | Expr::Gather { x, .. }
        | Expr::Spread { d: x, .. }
        | Expr::At(x, _) => vec![x],
        Expr::Scan { x, factor, .. } => std::iter::once(x).chain(factor).collect(),
        Expr::Shift { x, default, .. } => vec![x, default],
    }
}

/// Which expressions pass gradient on to a differentiable column.
pub fn carries_gradient(graph: &Graph) -> Vec<bool> {
    let mut carries = vec![false; graph.len()];
    for e in graph.all() {
        carries[e.index()] = match graph.expr(e) {
            Expr::Column(c) => graph.columns[c.0 as usize].differentiable,
            _ => differentiable_operands(graph, e).into_iter().any(|o| carries[o.index()]),
        };
    }
    carries
}

/// Adds d(loss)/d(column) for every differentiable column that `loss` reads. None: the loss reads
/// the column, but no gradient reaches it.
pub fn differentiate(graph: &mut Graph, loss: E) -> Vec<(ColumnId, Option<E>)> {
    let needed = graph.reachable([loss]);
    let carries = carries_gradient(graph);
    let mut sweep = Sweep { adjoints: vec![None; graph.len()], carries, graph };
    sweep.adjoints[loss.index()] = Some(sweep.graph.constant(1.0, Ty::Real));
    let mut out = Vec::new();
    for index in (0..=loss.index()).rev() {
        let e = E(index as u32);
        if !needed[index] {
            continue;
        }
        if let Expr::Column(c) = sweep.graph.expr(e) {
            if sweep.graph.columns[c.0 as usize].differentiable {
                out.push((c, sweep.adjoints[index]));
            }
            continue;
        }
        if let (Some(adjoint), true) = (sweep.adjoints[index], sweep.carries[index]) {
            if let Some(name) = sweep.graph.name(e).map(|n| format!("d_{n}")) {
                sweep.graph.set_name(adjoint, &name);
            }
            sweep.step(e, adjoint);
        }
    }
    out.sort_by_key(|o| o.0);
    out
}

/// How a reduction's elements meet its result.
#[derive(Clone, Copy)]
struct Through {
    from: Level,
    to: Level,
    /// The index of a scatter and its scope; none for a reduction along the tree.
    by: Option<(E, Level)>,
}

struct Sweep<'g> {
    graph: &'g mut Graph,
    adjoints: Vec<Option<E>>,
    carries: Vec<bool>,
}

impl Sweep<'_> {
    /// Adds `d` to the adjoint of `x`.
    fn give(&mut self, x: E, d: E) {
        if !self.carries[x.index()] {
            return;
        }
        let total = match self.adjoints[x.index()] {
            Some(other) => self.graph.binary(Binary::Add, other, d),
            None => d,
        };
        self.adjoints[x.index()] = Some(total);
    }

    /// Adds adjoint * partial to the adjoint of `x`.
    fn chain(&mut self, x: E, adjoint: E, partial: E) {
        if self.carries[x.index()] {
            let d = self.graph.binary(Binary::Chain, adjoint, partial);
            self.give(x, d);
        }
    }

    /// Adds the adjoint to that of `x` where the condition holds.
    fn give_where(&mut self, x: E, cond: E, adjoint: E) {
        if self.carries[x.index()] {
            let zero = self.zero(self.graph.level(adjoint));
            let d = self.graph.select(cond, adjoint, zero);
            self.give(x, d);
        }
    }

    fn zero(&mut self, level: Level) -> E {
        self.graph.constant_at(0.0, Ty::Real, level)
    }

    fn number(&mut self, value: f64, like: E) -> E {
        let level = self.graph.level(like);
        self.graph.constant_at(value, Ty::Real, level)
    }

    fn step(&mut self, e: E, d: E) {
        match self.graph.expr(e) {
            Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::VocabIndex
            | Expr::Rank { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Row
            | Expr::Nth(..)
            | Expr::Detach(_) => {}
            Expr::Choose(_, x, _) => self.give(x, d),
            Expr::Unary(op, x) => self.unary(op, x, e, d),
            Expr::Binary(op, a, b) => self.binary(op, a, b, e, d),
            Expr::Select(c, a, b) => {
                self.give_where(a, c, d);
                let not = self.graph.unary(Unary::Not, c);
                self.give_where(b, not, d);
            }
            Expr::Broadcast(x) => {
                let level = self.graph.level(x);
                let table = &self.graph.level_table;
                // The same rows under another name.
                let total = if table.rows(level) == table.rows(self.graph.level(e)) {
                    self.graph.add(Expr::Broadcast(d), level, Ty::Real)
                } else {
                    self.graph.reduce(ReduceOp::Sum, d, None, level)
                };
                self.give(x, total);
            }
            Expr::Gather { x, index, scope } => {
                let level = self.graph.level(x);
                let back = Expr::Scatter { op: ReduceOp::Sum, x: d, filter: None, index, scope };
                let total = self.graph.add(back, level, Ty::Real);
                self.give(x, total);
            }
            Expr::Reduce(op, x, filter) => {
                let through =
                    Through { from: self.graph.level(x), to: self.graph.level(e), by: None };
                self.reduce(op, x, filter, through, (e, d));
            }
            Expr::Scatter { op, x, filter, index, scope } => {
                let by = Some((index, scope));
                let through = Through { from: self.graph.level(x), to: self.graph.level(e), by };
                // Rows of no element are no elements of the reduction.
                let zero = self.graph.constant_at(0.0, Ty::Int, through.from);
                let inside = self.graph.binary(Binary::Ge, index, zero);
                let filter = match filter {
                    Some(f) => self.graph.binary(Binary::And, inside, f),
                    None => inside,
                };
                self.reduce(op, x, Some(filter), through, (e, d));
            }
            Expr::Scan { .. } => self.scan(e, d),
            Expr::Shift { x, default, by, filter, scope, within } => {
                let level = self.graph.level(e);
                let zero = self.zero(level);
                let back = self.graph.add(
                    Expr::Shift { x: d, default: zero, by: -by, filter, scope, within },
                    level,
                    Ty::Real,
                );
                self.give(x, back);
                // Rows past the end took the default.
                let one = self.graph.constant_at(1.0, Ty::Real, level);
                let inside = self.graph.add(
                    Expr::Shift { x: one, default: zero, by, filter, scope, within },
                    level,
                    Ty::Real,
                );
                let past = self.graph.binary(Binary::Eq, inside, zero);
                let inside = within.map(|index| self.graph.binary(Binary::Ge, index, zero));
                let past = [filter, inside]
                    .into_iter()
                    .flatten()
                    .fold(past, |past, f| self.graph.binary(Binary::And, past, f));
                self.give_where(default, past, d);
            }
            Expr::At(x, index) if self.graph.level(index) != TOKEN => {
                let level = self.graph.level(x);
                let spread = self.graph.add(Expr::Spread { d, index }, level, Ty::Real);
                self.give(x, spread);
            }
            Expr::Spread { d: x, index } => {
                let level = self.graph.level(x);
                let read = self.graph.add(Expr::At(d, index), level, Ty::Real);
                self.give(x, read);
            }
            Expr::At(x, index) => {
                let level = self.graph.level(x);
                let row = self.graph.add(Expr::VocabIndex, level, Ty::Int);
                let here = self.graph.binary(Binary::Eq, row, index);
                let d = self.graph.broadcast(d, level);
                self.give_where(x, here, d);
            }
        }
    }

    fn unary(&mut self, op: Unary, x: E, y: E, d: E) {
        let one = self.number(1.0, y);
        let partial = match op {
            Unary::Not
            | Unary::Sign
            | Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Trunc
            | Unary::IsFinite
            | Unary::IsNan => return,
            Unary::Cast => return self.give(x, d),
            Unary::Neg => {
                let d = self.graph.unary(Unary::Neg, d);
                return self.give(x, d);
            }
            Unary::Relu => {
                let zero = self.number(0.0, y);
                let positive = self.graph.binary(Binary::Gt, x, zero);
                return self.give_where(x, positive, d);
            }
            Unary::Exp => y,
            Unary::Log => self.graph.binary(Binary::Div, one, x),
            Unary::Log1p => {
                let sum = self.graph.binary(Binary::Add, one, x);
                self.graph.binary(Binary::Div, one, sum)
            }
            Unary::Expm1 => self.graph.binary(Binary::Add, y, one),
            Unary::Log1mexp => {
                // -exp(x) / (1 - exp(x)), without cancellation near 0.
                let minus = self.graph.unary(Unary::Neg, x);
                let denominator = self.graph.unary(Unary::Expm1, minus);
                let minus_one = self.number(-1.0, y);
                self.graph.binary(Binary::Div, minus_one, denominator)
            }
            Unary::Log2 => {
                let c = self.number(std::f64::consts::LOG2_E, y);
                self.graph.binary(Binary::Div, c, x)
            }
            Unary::Sqrt => {
                let zero = self.number(0.0, y);
                let half = self.number(0.5, y);
                let positive = self.graph.binary(Binary::Gt, y, zero);
                let slope = self.graph.binary(Binary::Div, half, y);
                self.graph.select(positive, slope, zero)
            }
            Unary::Abs => self.graph.unary(Unary::Sign, x),
            Unary::Sigmoid => {
                let rest = self.graph.binary(Binary::Sub, one, y);
                self.graph.binary(Binary::Mul, y, rest)
            }
            Unary::LogSigmoid => {
                let minus = self.graph.unary(Unary::Neg, x);
                self.graph.unary(Unary::Sigmoid, minus)
            }
            Unary::Tanh => {
                let square = self.graph.binary(Binary::Mul, y, y);
                self.graph.binary(Binary::Sub, one, square)
            }
            Unary::Softplus => self.graph.unary(Unary::Sigmoid, x),
            Unary::Sin => self.graph.unary(Unary::Cos, x),
            Unary::Cos => {
                let sin = self.graph.unary(Unary::Sin, x);
                self.graph.unary(Unary::Neg, sin)
            }
        };
        self.chain(x, d, partial);
    }

    fn binary(&mut self, op: Binary, a: E, b: E, y: E, d: E) {
        match op {
            Binary::Add => {
                self.give(a, d);
                self.give(b, d);
            }
            Binary::Sub => {
                self.give(a, d);
                if self.carries[b.index()] {
                    let minus = self.graph.unary(Unary::Neg, d);
                    self.give(b, minus);
                }
            }
            Binary::Mul | Binary::Chain => {
                self.chain(a, d, b);
                self.chain(b, d, a);
            }
            Binary::Div => {
                let one = self.number(1.0, y);
                let inverse = self.graph.binary(Binary::Div, one, b);
                self.chain(a, d, inverse);
                if self.carries[b.index()] {
                    let share = self.graph.binary(Binary::Div, y, b);
                    let partial = self.graph.unary(Unary::Neg, share);
                    self.chain(b, d, partial);
                }
            }
            Binary::Mod => {
                self.give(a, d);
                if self.carries[b.index()] {
                    let turns = self.graph.binary(Binary::FloorDiv, a, b);
                    let partial = self.graph.unary(Unary::Neg, turns);
                    self.chain(b, d, partial);
                }
            }
            Binary::Pow => self.power(a, b, y, d),
            Binary::Min | Binary::Max => {
                let smaller = if op == Binary::Min { Binary::Lt } else { Binary::Gt };
                // At a tie both share equally.
                let half = self.number(0.5, y);
                let shared = self.graph.binary(Binary::Chain, d, half);
                let tie = self.graph.binary(Binary::Eq, a, b);
                let zero = self.number(0.0, y);
                let tied = self.graph.select(tie, shared, zero);
                for (x, other) in [(a, b), (b, a)] {
                    if self.carries[x.index()] {
                        let wins = self.graph.binary(smaller, x, other);
                        let share = self.graph.select(wins, d, tied);
                        self.give(x, share);
                    }
                }
            }
            Binary::FloorDiv
            | Binary::Eq
            | Binary::Ne
            | Binary::Lt
            | Binary::Le
            | Binary::Gt
            | Binary::Ge
            | Binary::And
            | Binary::Or => {}
        }
    }

    fn power(&mut self, a: E, b: E, y: E, d: E) {
        let one = self.number(1.0, y);
        let zero = self.number(0.0, y);
        if self.carries[a.index()] {
            let lower = self.graph.binary(Binary::Sub, b, one);
            let power = self.graph.binary(Binary::Pow, a, lower);
            let slope = self.graph.binary(Binary::Mul, b, power);
            // x^0 is 1 everywhere, also where 0 * x^-1 is not a number.
            let flat = self.graph.binary(Binary::Eq, b, zero);
            let partial = self.graph.select(flat, zero, slope);
            self.chain(a, d, partial);
        }
        if self.carries[b.index()] {
            let log = self.graph.unary(Unary::Log, a);
            let slope = self.graph.binary(Binary::Mul, y, log);
            let positive = self.graph.binary(Binary::Gt, a, zero);
            let partial = self.graph.select(positive, slope, zero);
            self.chain(b, d, partial);
        }
    }

    /// The adjoint runs the other way: a row takes what later rows had of it, and the factor that
    /// met its running value is that of the row it came to.
    fn scan(&mut self, e: E, d: E) {
        let Expr::Scan { x, filter, factor, scope, within, reverse, exclusive } =
            self.graph.expr(e)
        else {
            return;
        };
        let level = self.graph.level(e);
        let zero = self.zero(level);
        let neighbour = if reverse { 1 } else { -1 };
        let moved = |s: &mut Self, x: E, by: i32| {
            let shift = Expr::Shift { x, default: zero, by, filter, scope, within };
            s.graph.add(shift, level, Ty::Real)
        };
        // Without a factor rows that do not count see the running value too, so theirs flows back.
        let (kept, against) = match factor {
            Some(f) => (filter, Some(moved(self, f, -neighbour))),
            None => (None, None),
        };
        let back = Expr::Scan {
            x: d,
            filter: kept,
            factor: against,
            scope,
            within,
            reverse: !reverse,
            exclusive,
        };
        let back = self.graph.add(back, level, Ty::Real);
        match filter {
            Some(f) => self.give_where(x, f, back),
            None => self.give(x, back),
        }
        let Some(factor) = factor else { return };
        if self.carries[factor.index()] {
            let met = moved(self, e, neighbour);
            let share = self.graph.binary(Binary::Chain, back, met);
            match filter {
                Some(f) => self.give_where(factor, f, share),
                None => self.give(factor, share),
            }
        }
    }

    /// A value of the reduction's result, at the elements it came from.
    fn down(&mut self, y: E, through: Through) -> E {
        match through.by {
            Some((index, scope)) => {
                let ty = self.graph.ty(y);
                self.graph.add(Expr::Gather { x: y, index, scope }, through.from, ty)
            }
            None => self.graph.broadcast(y, through.from),
        }
    }

    /// A reduction of other values of the same elements.
    fn up(&mut self, op: ReduceOp, x: E, filter: Option<E>, through: Through) -> E {
        match through.by {
            Some((index, scope)) => {
                let ty = self.graph.ty(x);
                let scatter = Expr::Scatter { op, x, filter, index, scope };
                self.graph.add(scatter, through.to, ty)
            }
            None => self.graph.reduce(op, x, filter, through.to),
        }
    }

    /// `filter` holds for no row outside the reduction; y is its value, d the adjoint of that.
    fn reduce(&mut self, op: ReduceOp, x: E, filter: Option<E>, through: Through, (y, d): (E, E)) {
        let down = self.down(d, through);
        match op {
            ReduceOp::Sum => match filter {
                Some(f) => self.give_where(x, f, down),
                None => self.give(x, down),
            },
            ReduceOp::Max | ReduceOp::Min => {
                let best = self.down(y, through);
                let mut hit = self.graph.binary(Binary::Eq, x, best);
                if let Some(f) = filter {
                    hit = self.graph.binary(Binary::And, hit, f);
                }
                let ones = self.graph.cast(hit, Ty::Int);
                let count = self.up(ReduceOp::Sum, ones, None, through);
                let one = self.number(1.0, y);
                let inverse = self.graph.binary(Binary::Div, one, count);
                let share = self.graph.binary(Binary::Chain, d, inverse);
                let share = self.down(share, through);
                self.give_where(x, hit, share);
            }
            ReduceOp::LogSumExp => {
                let total = self.down(y, through);
                let gap = self.graph.binary(Binary::Sub, x, total);
                let weight = self.graph.unary(Unary::Exp, gap);
                let share = self.graph.binary(Binary::Chain, down, weight);
                match filter {
                    Some(f) => self.give_where(x, f, share),
                    None => self.give(x, share),
                }
            }
            ReduceOp::Prod => self.product(x, filter, through, (y, down)),
        }
    }

    /// The product of the other elements: with one zero among them only that zero has a derivative.
    fn product(&mut self, x: E, filter: Option<E>, through: Through, (y, down): (E, E)) {
        let zero = self.zero(through.from);
        let is_zero = self.graph.binary(Binary::Eq, x, zero);
        let not_zero = self.graph.unary(Unary::Not, is_zero);
        let keep = |g: &mut Graph, c: E| match filter {
            Some(f) => g.binary(Binary::And, c, f),
            None => c,
        };
        let zeros_here = keep(self.graph, is_zero);
        let rest_here = keep(self.graph, not_zero);
        let ones = self.graph.cast(zeros_here, Ty::Int);
        let zeros = self.up(ReduceOp::Sum, ones, None, through);
        let rest = self.up(ReduceOp::Prod, x, Some(rest_here), through);
        let none = self.number(0.0, y);
        let one = self.number(1.0, y);
        let without = self.graph.binary(Binary::Eq, zeros, none);
        let single = self.graph.binary(Binary::Eq, zeros, one);
        let (without, single) = (self.down(without, through), self.down(single, through));
        let rest = self.down(rest, through);
        let quotient = self.graph.binary(Binary::Div, rest, x);
        let for_rest = self.graph.binary(Binary::Chain, down, quotient);
        let for_zero = self.graph.binary(Binary::Chain, down, rest);
        let in_rest = self.graph.binary(Binary::And, rest_here, without);
        let in_zero = self.graph.binary(Binary::And, zeros_here, single);
        let a = self.graph.select(in_rest, for_rest, zero);
        let share = self.graph.select(in_zero, for_zero, a);
        self.give(x, share);
    }
}
