//! Sums under a softmax: means that can run beside the log-sum-exp.

use super::{MeanOf, Rewriter};
use crate::hir::{E, Expr, ReduceOp};
use crate::level::{TOKEN, VOCAB};
use crate::loops::Guard;
use crate::op::{Binary, Ty, Unary};
use crate::program::Phase;

impl Rewriter {
    /// The sum of an expression without constant factors, remembered as a mean if it is one.
    pub(super) fn whole(&mut self, x: E) -> E {
        let Some(mean) = self.mean(x) else {
            return self.graph.add(Expr::Reduce(ReduceOp::Sum, x, None), TOKEN, Ty::Real);
        };
        let (rest, constant) = self.affine(mean.f);
        let Some(k) = constant else { return self.add_mean(mean) };
        // sum(p * (f + k)) = sum(p * f) + k * sum(p), so that f need not wait for k: the
        // difference of two log-probs need not wait for their log-sum-exps.
        let one = self.graph.constant_at(1.0, Ty::Real, VOCAB);
        let mass = self.add_mean(Parts { f: one, ..mean });
        let shift = self.graph.binary(Binary::Chain, mass, k);
        match rest {
            Some(f) => {
                let total = self.add_mean(Parts { f, ..mean });
                self.graph.binary(Binary::Add, total, shift)
            }
            None => shift,
        }
    }

    /// In one canonical form, so that equal means are one expression.
    fn add_mean(&mut self, mean: Parts) -> E {
        let Parts { lse, weight, f, filter, guard } = mean;
        let mut content = self.graph.binary(Binary::Mul, weight, f);
        let zero = self.graph.constant_at(0.0, Ty::Real, VOCAB);
        let test = match guard {
            Guard::None => None,
            Guard::NonZero => Some(self.graph.binary(Binary::Ne, weight, zero)),
            Guard::Positive => Some(self.graph.binary(Binary::Gt, weight, zero)),
        };
        if let Some(test) = test {
            content = self.mask(test, content);
        }
        if let Some(filter) = filter {
            content = self.mask(filter, content);
        }
        let e = self.graph.add(Expr::Reduce(ReduceOp::Sum, content, None), TOKEN, Ty::Real);
        self.means.insert(e, MeanOf { lse, f, filter, guard });
        e
    }

    /// f as a part per entry and a part per token; of the latter only what the live phase finds.
    fn affine(&mut self, f: E) -> (Option<E>, Option<E>) {
        self.settle();
        if let Some(k) = self.coarse(f) {
            let live = self.phases[k.index()] != Phase::Recorded;
            return if live { (None, Some(k)) } else { (Some(f), None) };
        }
        let (op, a, b) = match self.graph.expr(f) {
            Expr::Unary(Unary::Neg, a) => {
                let (rest, k) = self.affine(a);
                let minus = |s: &mut Self, x: E| s.graph.unary(Unary::Neg, x);
                return match k {
                    Some(k) => (rest.map(|r| minus(self, r)), Some(minus(self, k))),
                    None => (Some(f), None),
                };
            }
            Expr::Binary(op @ (Binary::Add | Binary::Sub), a, b) => (op, a, b),
            Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::Choose(..)
            | Expr::Unary(..)
            | Expr::Binary(..)
            | Expr::Select(..)
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
            | Expr::Detach(_) => return (Some(f), None),
        };
        let ((rest_a, k_a), (rest_b, k_b)) = (self.affine(a), self.affine(b));
        if k_a.is_none() && k_b.is_none() {
            return (Some(f), None);
        }
        (self.join(op, rest_a, rest_b), self.join(op, k_a, k_b))
    }

    /// a + b or a - b, where either may be 0.
    fn join(&mut self, op: Binary, a: Option<E>, b: Option<E>) -> Option<E> {
        match (a, b) {
            (Some(a), Some(b)) => Some(self.graph.binary(op, a, b)),
            (None, Some(b)) if op == Binary::Sub => Some(self.graph.unary(Unary::Neg, b)),
            (a, b) => a.or(b),
        }
    }

    /// The log-sum-exp of which p is the softmax.
    fn softmax(&self, p: E) -> Option<E> {
        let Expr::Unary(Unary::Exp, d) = self.graph.expr(p) else { return None };
        let Expr::Binary(Binary::Sub, x, l) = self.graph.expr(d) else { return None };
        let lse = self.coarse(l)?;
        (self.graph.expr(lse) == Expr::Reduce(ReduceOp::LogSumExp, x, None)).then_some(lse)
    }

    fn mean(&mut self, x: E) -> Option<Parts> {
        if let Some(lse) = self.softmax(x) {
            let f = self.graph.constant_at(1.0, Ty::Real, VOCAB);
            return Some(Parts { lse, weight: x, f, filter: None, guard: Guard::None });
        }
        match self.graph.expr(x) {
            Expr::Binary(Binary::Mul, a, b) => {
                let (mean, other) = match self.mean(a) {
                    Some(m) => (m, b),
                    None => (self.mean(b)?, a),
                };
                // Outside a mask the product is 0 only for finite factors, so masks stay inside.
                mean.bare()?;
                Some(self.times(mean, Binary::Mul, other))
            }
            Expr::Binary(Binary::Div, a, b) => {
                let mean = self.mean(a)?.bare()?;
                let f = self.graph.binary(Binary::Div, mean.f, b);
                Some(Parts { f, ..mean })
            }
            Expr::Binary(Binary::Chain, a, b) => {
                if let Some(mean) = self.mean(b) {
                    Some(self.times(mean.bare()?, Binary::Chain, a))
                } else {
                    // An adjoint p of 0 gives 0, whatever the derivative b.
                    let mean = self.mean(a)?.bare()?;
                    let exact = self.is_const(mean.f, 1.0);
                    exact.then_some(Parts { f: b, guard: Guard::NonZero, ..mean })
                }
            }
            Expr::Binary(op @ (Binary::Add | Binary::Sub), a, b) => {
                let (a, b) = (self.mean(a)?.bare()?, self.mean(b)?.bare()?);
                let f = self.graph.binary(op, a.f, b.f);
                (a.lse == b.lse).then_some(Parts { f, ..a })
            }
            Expr::Select(c, y, z) if self.is_const(z, 0.0) => {
                let mean = self.mean(y)?;
                if self.is_positive(c, mean.weight) {
                    return Some(Parts { guard: Guard::Positive, ..mean });
                }
                let filter = match mean.filter {
                    Some(f) => self.graph.binary(Binary::And, c, f),
                    None => c,
                };
                Some(Parts { filter: Some(filter), ..mean })
            }
            Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::Choose(..)
            | Expr::Unary(..)
            | Expr::Binary(..)
            | Expr::Select(..)
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

    /// Whether c is `p > 0`.
    fn is_positive(&self, c: E, p: E) -> bool {
        match self.graph.expr(c) {
            Expr::Binary(Binary::Gt, a, b) => a == p && self.is_const(b, 0.0),
            Expr::Binary(Binary::Lt, a, b) => b == p && self.is_const(a, 0.0),
            Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::Choose(..)
            | Expr::Unary(..)
            | Expr::Binary(..)
            | Expr::Select(..)
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
            | Expr::Detach(_) => false,
        }
    }

    fn times(&mut self, mean: Parts, op: Binary, other: E) -> Parts {
        let f =
            if self.is_const(mean.f, 1.0) { other } else { self.graph.binary(op, other, mean.f) };
        Parts { f, ..mean }
    }
}

/// A mean under a softmax, taken apart.
#[derive(Clone, Copy)]
struct Parts {
    lse: E,
    weight: E,
    f: E,
    filter: Option<E>,
    guard: Guard,
}

impl Parts {
    /// Itself, if it has no mask.
    fn bare(self) -> Option<Parts> {
        (self.filter.is_none() && self.guard == Guard::None).then_some(self)
    }
}
