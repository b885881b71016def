//! Rules for sums over the vocab entries of a token.

use super::Rewriter;
use crate::hir::{E, Expr};
use crate::level::{TOKEN, VOCAB};
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
}
