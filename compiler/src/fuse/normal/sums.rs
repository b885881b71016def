//! Rules for sums over the vocab entries of a token.

use super::{MeanOf, Rewriter};
use crate::hir::{E, Expr, ReduceOp};
use crate::level::{TOKEN, VOCAB};
use crate::loops::Guard;
use crate::op::{Binary, Ty, Unary};
use crate::program::Phase;

/// A factor that is the same for every entry.
#[derive(Clone, Copy)]
struct Factor {
    how: How,
    /// A sum of 0 stays 0 whatever the factor: it stood under a mask or in a derivative.
    guarded: bool,
}

/// Where in a product a factor stands.
#[derive(Clone, Copy)]
struct Place {
    /// Under a mask or in a derivative.
    guarded: bool,
    /// A factor of 0 leaves NaN where the rest is infinite; not in an adjoint, which a 0 ends.
    factors: bool,
    /// Beside a factor that may be infinite per entry, where an adjoint of 0 is not the end. What is
    /// known early stays here, so that equal sums look equal.
    nested: bool,
}

#[derive(Clone, Copy)]
enum How {
    Neg,
    Mul(E),
    Div(E),
    /// An adjoint: 0 gives 0 whatever the sum.
    Adjoint(E),
}

impl Rewriter {
    /// The sum of x over the entries of each token, at token level.
    pub(super) fn sum(&mut self, x: E) -> E {
        if let Some(&known) = self.sums.get(&x) {
            return known;
        }
        if self.is_const(x, 0.0) {
            return self.graph.constant_at(0.0, Ty::Real, TOKEN);
        }
        let mut factors = Vec::new();
        let mut rest =
            self.peel(x, Place { guarded: false, factors: true, nested: false }, &mut factors);
        if let Some(k) = self.coarse(rest)
            && !self.is_const(rest, 1.0)
        {
            factors.push(Factor { how: How::Mul(k), guarded: false });
            rest = self.graph.constant_at(1.0, Ty::Real, VOCAB);
        }
        let mut total = if rest == x { self.split(x) } else { self.sum(rest) };
        for factor in factors.into_iter().rev() {
            total = self.apply(factor, total);
        }
        self.sums.insert(x, total);
        total
    }

    /// Takes factors that are the same for every entry out of a product.
    fn peel(&mut self, x: E, at: Place, out: &mut Vec<Factor>) -> E {
        let ty = self.graph.ty(x);
        let guarded = at.guarded;
        match self.graph.expr(x) {
            Expr::Unary(Unary::Neg, y) => {
                out.push(Factor { how: How::Neg, guarded });
                self.peel(y, at, out)
            }
            Expr::Binary(Binary::Mul, a, b) if at.factors => {
                if let Some(k) = self.factor(a, at) {
                    out.push(Factor { how: How::Mul(k), guarded });
                    return self.peel(b, at, out);
                }
                if let Some(k) = self.factor(b, at) {
                    out.push(Factor { how: How::Mul(k), guarded });
                    return self.peel(a, at, out);
                }
                let at = Place { nested: true, ..at };
                let (a, b) = (self.peel(a, at, out), self.peel(b, at, out));
                self.vocab_binary(Binary::Mul, a, b, VOCAB, ty)
            }
            Expr::Binary(Binary::Div, a, b) if at.factors => {
                if let Some(k) = self.factor(b, at) {
                    out.push(Factor { how: How::Div(k), guarded });
                    return self.peel(a, at, out);
                }
                let a = self.peel(a, Place { nested: true, ..at }, out);
                self.vocab_binary(Binary::Div, a, b, VOCAB, ty)
            }
            Expr::Binary(Binary::Chain, a, b) => {
                if let Some(k) = self.coarse(a) {
                    if at.nested {
                        return x;
                    }
                    out.push(Factor { how: How::Adjoint(k), guarded });
                    return self.peel(b, at, out);
                }
                let under = Place { guarded: true, ..at };
                if let Some(k) = self.coarse(b) {
                    if !at.factors {
                        return x;
                    }
                    out.push(Factor { how: How::Mul(k), guarded: true });
                    return self.peel(a, at, out);
                }
                let a = self.peel(a, Place { factors: false, ..under }, out);
                let b = self.peel(b, Place { nested: true, ..under }, out);
                self.vocab_binary(Binary::Chain, a, b, VOCAB, ty)
            }
            Expr::Select(c, y, z) if self.is_const(z, 0.0) && self.coarse(c).is_none() => {
                let y = self.peel(y, Place { guarded: true, ..at }, out);
                self.mask(c, y)
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
            | Expr::At(..)
            | Expr::VocabIndex
            | Expr::Detach(_) => x,
        }
    }

    /// What to take out of a product, if this operand is the same for every entry.
    fn factor(&mut self, e: E, at: Place) -> Option<E> {
        self.settle();
        let k = self.coarse(e)?;
        (!at.nested || self.phases[k.index()] != Phase::Recorded).then_some(k)
    }

    fn apply(&mut self, factor: Factor, total: E) -> E {
        let g = &mut self.graph;
        let product = match factor.how {
            How::Neg => return g.unary(Unary::Neg, total),
            How::Mul(k) if factor.guarded => return g.binary(Binary::Chain, total, k),
            How::Mul(k) => g.binary(Binary::Mul, total, k),
            How::Div(k) => g.binary(Binary::Div, total, k),
            How::Adjoint(k) => g.binary(Binary::Chain, k, total),
        };
        if !factor.guarded {
            return product;
        }
        let zero = g.constant_at(0.0, Ty::Real, TOKEN);
        let none = g.binary(Binary::Eq, total, zero);
        g.select(none, zero, product)
    }

    /// The sum of an expression without constant factors.
    fn split(&mut self, x: E) -> E {
        match self.graph.expr(x) {
            Expr::Binary(op @ (Binary::Add | Binary::Sub), a, b) => {
                let (a, b) = (self.sum(a), self.sum(b));
                self.graph.binary(op, a, b)
            }
            Expr::Select(c, a, b) if self.coarse(c).is_some() => {
                let (a, b) = (self.sum(a), self.sum(b));
                let c = self.coarse(c).unwrap_or(c);
                self.graph.select(c, a, b)
            }
            Expr::Select(c, y, z) if self.is_const(z, 0.0) => match self.entry_test(c) {
                Some(index) => self.single(y, index),
                None => self.whole(x),
            },
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
            | Expr::At(..)
            | Expr::VocabIndex
            | Expr::Detach(_) => self.whole(x),
        }
    }

    /// The i of `vocab_index == i`.
    fn entry_test(&self, c: E) -> Option<E> {
        let Expr::Binary(Binary::Eq, a, b) = self.graph.expr(c) else { return None };
        if self.graph.expr(a) == Expr::VocabIndex {
            self.coarse(b)
        } else if self.graph.expr(b) == Expr::VocabIndex {
            self.coarse(a)
        } else {
            None
        }
    }

    /// y at one entry, 0 where the index is none.
    fn single(&mut self, y: E, index: E) -> E {
        let index = self.graph.broadcast(index, TOKEN);
        let at = |to: &mut Self, y: E| {
            to.settle();
            to.graph.add(Expr::At(y, index), TOKEN, Ty::Real)
        };
        let one = self.graph.constant_at(1.0, Ty::Real, VOCAB);
        let probe = at(self, one);
        let outside = self.graph.unary(Unary::IsNan, probe);
        let value = match self.coarse(y) {
            Some(y) => self.graph.broadcast(y, TOKEN),
            None => at(self, y),
        };
        let zero = self.graph.constant_at(0.0, Ty::Real, TOKEN);
        self.graph.select(outside, zero, value)
    }

    /// The sum itself, remembered as a mean if it is one.
    fn whole(&mut self, x: E) -> E {
        let Some(mean) = self.mean(x) else {
            return self.graph.add(Expr::Reduce(ReduceOp::Sum, x, None), TOKEN, Ty::Real);
        };
        // In one canonical form, so that equal means are one expression.
        let mut content = self.graph.binary(Binary::Mul, mean.weight, mean.f);
        let zero = self.graph.constant_at(0.0, Ty::Real, VOCAB);
        let guard = match mean.guard {
            Guard::None => None,
            Guard::NonZero => Some(self.graph.binary(Binary::Ne, mean.weight, zero)),
            Guard::Positive => Some(self.graph.binary(Binary::Gt, mean.weight, zero)),
        };
        if let Some(guard) = guard {
            content = self.mask(guard, content);
        }
        if let Some(filter) = mean.filter {
            content = self.mask(filter, content);
        }
        let e = self.graph.add(Expr::Reduce(ReduceOp::Sum, content, None), TOKEN, Ty::Real);
        let Parts { lse, weight: _, f, filter, guard } = mean;
        self.means.insert(e, MeanOf { lse, f, filter, guard });
        e
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
