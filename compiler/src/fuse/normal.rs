//! Rewrites a program so that vocab-level code needs the fewest sweeps.
//!
//! Scalar code on broadcast values moves up to where they come from. Sums over vocab give up their
//! constant factors, split at `+`, and become single entries where only one entry counts; what is
//! left under a softmax is recognised as a mean, which runs beside its log-sum-exp. Every rule keeps
//! the meaning for finite numbers and keeps a zero adjoint a zero. It never changes what is computed,
//! only where: the original graph stays the one that messages speak of.

mod means;
mod sums;

use std::collections::HashMap;

use crate::hir::{E, Expr, Graph, ReduceOp};
use crate::level::{Level, TOKEN, VOCAB};
use crate::loops::Guard;
use crate::op::{Binary, Ty, Unary};
use crate::program::{Phase, Program};

/// The rewritten program.
pub(super) struct Normal {
    pub graph: Graph,
    /// Phase of each expression of `graph`.
    pub phases: Vec<Phase>,
    /// Where each expression of the program went; none if nothing needs it.
    pub map: Vec<Option<E>>,
    /// Sums that are means under a softmax.
    pub means: HashMap<E, MeanOf>,
}

/// sum(exp(x - logsumexp(x)) * f).
#[derive(Debug, Clone, Copy)]
pub(super) struct MeanOf {
    /// The log-sum-exp.
    pub lse: E,
    pub f: E,
    pub filter: Option<E>,
    pub guard: Guard,
}

pub(super) fn normal(program: &Program) -> Normal {
    let old = &program.graph;
    let needed = old.reachable(program.outputs().into_iter().map(|o| o.1));
    let mut to = Rewriter {
        graph: Graph::like(old),
        phases: Vec::new(),
        means: HashMap::new(),
        sums: HashMap::new(),
    };
    let mut map: Vec<Option<E>> = vec![None; old.len()];
    for e in old.all().filter(|e| needed[e.index()]) {
        // Operands come first, so each has its place; the fallback is never reached.
        let expr = old.map_operands(e, |o| map[o.index()].unwrap_or(E(0)));
        let new = to.copy(expr, old.level(e), old.ty(e), program.phase(e));
        to.graph.copy_label(new, old, e);
        map[e.index()] = Some(new);
    }
    to.settle();
    Normal { graph: to.graph, phases: to.phases, map, means: to.means }
}

struct Rewriter {
    graph: Graph,
    phases: Vec<Phase>,
    means: HashMap<E, MeanOf>,
    /// Sums over vocab already rewritten.
    sums: HashMap<E, E>,
}

impl Rewriter {
    fn copy(&mut self, expr: Expr, level: Level, ty: Ty, phase: Phase) -> E {
        match expr {
            Expr::Detach(x) | Expr::Unary(Unary::Cast, x) => x,
            Expr::Broadcast(x) => self.graph.broadcast(x, level),
            Expr::Unary(op, x) => match self.lift(&[x], level) {
                Some((above, o)) => self.scalar(Expr::Unary(op, o[0]), above, ty, level),
                None => self.vocab_unary(op, x, level, ty),
            },
            Expr::Binary(op, a, b) => match self.lift(&[a, b], level) {
                Some((above, o)) => self.scalar(Expr::Binary(op, o[0], o[1]), above, ty, level),
                None => self.vocab_binary(op, a, b, level, ty),
            },
            Expr::Select(c, a, b) => match self.lift(&[c, a, b], level) {
                Some((above, o)) => self.scalar(Expr::Select(o[0], o[1], o[2]), above, ty, level),
                None => self.graph.add(expr, level, ty),
            },
            Expr::Reduce(op, x, filter) if self.graph.level(x) == VOCAB => {
                let x = match filter {
                    Some(f) => {
                        let other = self.graph.constant_at(op.identity(), Ty::Real, VOCAB);
                        self.graph.select(f, x, other)
                    }
                    None => x,
                };
                if op == ReduceOp::Sum {
                    self.sum(x)
                } else {
                    self.timed(Expr::Reduce(op, x, None), level, ty, phase)
                }
            }
            Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::Choose(..)
            | Expr::Reduce(..)
            | Expr::Scan { .. }
            | Expr::Shift { .. }
            | Expr::Rank { .. }
            | Expr::Scatter { .. }
            | Expr::Gather { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Row
            | Expr::Nth(..)
            | Expr::Spread { .. }
            | Expr::At(..)
            | Expr::VocabIndex => self.timed(expr, level, ty, phase),
        }
    }

    /// Adds an expression whose phase is given.
    fn timed(&mut self, expr: Expr, level: Level, ty: Ty, phase: Phase) -> E {
        self.settle();
        let e = self.graph.add(expr, level, ty);
        if self.phases.len() < self.graph.len() {
            self.phases.push(phase);
        }
        e
    }

    /// Gives expressions that rules have made the latest phase of their operands.
    fn settle(&mut self) {
        for i in self.phases.len()..self.graph.len() {
            let operands = self.graph.operands(E(i as u32));
            let phase = operands.map(|o| self.phases[o.index()]).max();
            self.phases.push(phase.unwrap_or(Phase::Recorded));
        }
    }

    /// Scalar code at `at`, brought down to `level`.
    fn scalar(&mut self, expr: Expr, at: Level, ty: Ty, level: Level) -> E {
        let x = self.graph.add(expr, at, ty);
        self.graph.broadcast(x, level)
    }

    /// Where all operands are broadcast: the coarser level at which they meet, and they there.
    fn lift(&mut self, operands: &[E], level: Level) -> Option<(Level, Vec<E>)> {
        let sources: Vec<E> = operands.iter().map(|o| self.coarse(*o)).collect::<Option<_>>()?;
        let table = &self.graph.level_table;
        let meet = sources
            .iter()
            .try_fold(self.graph.level(sources[0]), |l, s| table.meet(l, self.graph.level(*s)));
        let target = meet.unwrap_or(if level == VOCAB { TOKEN } else { level });
        if target == level {
            return None;
        }
        Some((target, sources.iter().map(|s| self.graph.broadcast(*s, target)).collect()))
    }

    /// What a broadcast expression is broadcast from.
    fn coarse(&self, e: E) -> Option<E> {
        match self.graph.expr(e) {
            Expr::Broadcast(x) => Some(x),
            Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::Choose(..)
            | Expr::Unary(..)
            | Expr::Binary(..)
            | Expr::Select(..)
            | Expr::Reduce(..)
            | Expr::Scan { .. }
            | Expr::Shift { .. }
            | Expr::Rank { .. }
            | Expr::Scatter { .. }
            | Expr::Gather { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Row
            | Expr::Nth(..)
            | Expr::Spread { .. }
            | Expr::At(..)
            | Expr::VocabIndex
            | Expr::Detach(_) => None,
        }
    }

    /// Whether it is this number, at any level.
    fn is_const(&self, e: E, value: f64) -> bool {
        let source = self.coarse(e).unwrap_or(e);
        matches!(self.graph.expr(source), Expr::Const(bits) if f64::from_bits(bits) == value)
    }

    /// The condition and value of `if c then y else 0`.
    fn masked(&self, e: E) -> Option<(E, E)> {
        match self.graph.expr(e) {
            Expr::Select(c, y, z) if self.is_const(z, 0.0) => Some((c, y)),
            Expr::Select(..)
            | Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::Choose(..)
            | Expr::Unary(..)
            | Expr::Binary(..)
            | Expr::Broadcast(_)
            | Expr::Reduce(..)
            | Expr::Scan { .. }
            | Expr::Shift { .. }
            | Expr::Rank { .. }
            | Expr::Scatter { .. }
            | Expr::Gather { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Row
            | Expr::Nth(..)
            | Expr::Spread { .. }
            | Expr::At(..)
            | Expr::VocabIndex
            | Expr::Detach(_) => None,
        }
    }

    fn mask(&mut self, c: E, y: E) -> E {
        if let Some((inner, _)) = self.masked(y)
            && inner == c
        {
            return y;
        }
        let zero = self.graph.constant_at(0.0, Ty::Real, self.graph.level(c));
        self.graph.select(c, y, zero)
    }

    fn vocab_unary(&mut self, op: Unary, x: E, level: Level, ty: Ty) -> E {
        // The mask of an adjoint moves outwards, to where a sum looks for it.
        if level == VOCAB
            && op == Unary::Neg
            && let Some((c, y)) = self.masked(x)
        {
            let y = self.vocab_unary(op, y, level, ty);
            return self.mask(c, y);
        }
        self.graph.add(Expr::Unary(op, x), level, ty)
    }

    fn vocab_binary(&mut self, op: Binary, a: E, b: E, level: Level, ty: Ty) -> E {
        if level == VOCAB
            && op == Binary::Chain
            && let Some((c, y)) = self.masked(a)
        {
            let y = self.vocab_binary(op, y, b, level, ty);
            return self.mask(c, y);
        }
        self.graph.add(Expr::Binary(op, a, b), level, ty)
    }
}
