//! Functions of a token's distribution: they work on the vocab row and never store one.

use crate::ast::Call;
use crate::hir::{E, Expr, ReduceOp};
use crate::level::{LevelKind, TOKEN, VOCAB};
use crate::op::{Binary, Ty, Unary};
use crate::source::Span;

use super::call::Clauses;
use super::expr::shorten;
use super::reduce::Elements;
use super::{Checker, Scope};

impl Checker<'_> {
    pub(super) fn vocab_function(&mut self, call: &Call, _span: Span, scope: &Scope) -> Option<E> {
        let name = call.function.name.as_str();
        self.clauses(call, Clauses { filter: false, per: false, scope: false, unroll: false })?;
        if name == "at" {
            let [x, i] = self.arguments(call, ["x", "i"])?;
            let row = self.row(x, name, scope);
            let index = self
                .expr(i, scope)
                .and_then(|v| self.expect_int(v, i.span, "the entry that `at` reads"));
            let (row, index) = (row?, index?);
            let from = self.graph.level(index);
            let table = &self.graph.level_table;
            let below = matches!(table.def(from).kind, LevelKind::Below);
            if !below && !table.contains(from, TOKEN) {
                let per = self.per(from);
                self.error(
                    "E0202",
                    "`at` reads entries of a token's distribution",
                    i.span,
                    per,
                    "give an int per token, `at(log_softmax(logits), action)`, or one per row\nof a level in token",
                );
                return None;
            }
            let level = if below { from } else { TOKEN };
            let index = self.graph.broadcast(index, level);
            let ty = self.graph.ty(row);
            return Some(self.graph.add(Expr::At(row, index), level, ty));
        }
        let [x] = self.arguments(call, ["x"])?;
        let row = self.row(x, name, scope)?;
        let row = self.expect_number(row, x.span)?;
        let row = self.graph.cast(row, Ty::Real);
        let total = self.graph.reduce(ReduceOp::LogSumExp, row, None, TOKEN);
        let log_p = self.graph.binary(Binary::Sub, row, total);
        Some(if name == "softmax" { self.graph.unary(Unary::Exp, log_p) } else { log_p })
    }

    fn row(&mut self, x: &crate::ast::Expr, name: &str, scope: &Scope) -> Option<E> {
        let value = self.expr(x, scope)?;
        let level = self.graph.level(value);
        if level == VOCAB {
            return Some(value);
        }
        let per = self.per(level);
        let written = shorten(self.sources.slice(x.span));
        self.error(
            "E0202",
            format!("`{name}` works on the vocabulary of a token"),
            x.span,
            per,
            format!("`{written}` has no distribution behind it; `logits`, `ref_logits` and\n`old_logits` have: `{name}(logits{})`", if name == "at" { ", action" } else { "" }),
        );
        None
    }

    /// The n largest entries of each token's row, ties to the earlier.
    pub(super) fn top_entries(&mut self, x: E, n: E) -> E {
        let last = self.graph.add(Expr::Nth(x, n), TOKEN, Ty::Int);
        let ty = self.graph.ty(x);
        let least = self.graph.add(Expr::At(x, last), TOKEN, ty);
        let entry = self.graph.add(Expr::VocabIndex, VOCAB, Ty::Int);
        let above = self.graph.binary(Binary::Gt, x, least);
        let ties = self.graph.binary(Binary::Eq, x, least);
        let early = self.graph.binary(Binary::Le, entry, last);
        let tied = self.graph.binary(Binary::And, ties, early);
        self.graph.binary(Binary::Or, above, tied)
    }

    /// The first or last entry of each token's row, or of its entries that count.
    pub(super) fn end_entry(&mut self, x: E, filter: Option<E>, last: bool) -> E {
        let entry = self.graph.add(Expr::VocabIndex, VOCAB, Ty::Int);
        let every = self.graph.constant_at(1.0, Ty::Bool, VOCAB);
        let counts = filter.unwrap_or(every);
        let none = self.graph.constant(-1.0, Ty::Int);
        // The largest of the numbers; from the front their negatives, which are at most 0.
        let number = if last { entry } else { self.graph.unary(Unary::Neg, entry) };
        let none = if last { none } else { self.graph.constant(f64::NEG_INFINITY, Ty::Real) };
        let number = self.graph.select(counts, number, none);
        let one = self.graph.constant_at(1.0, Ty::Int, TOKEN);
        let place = self.graph.add(Expr::Nth(number, one), TOKEN, Ty::Int);
        let some = self.graph.add(Expr::At(counts, place), TOKEN, Ty::Bool);
        let ty = self.graph.ty(x);
        let value = self.graph.add(Expr::At(x, place), TOKEN, ty);
        let nothing = self.graph.constant_at(0.0, ty, TOKEN);
        self.graph.select(some, value, nothing)
    }

    /// Interpolates linearly between the two order statistics around q * (n - 1).
    pub(super) fn entry_quantile(&mut self, s: Elements, q: E) -> E {
        let n = self.count_of(s);
        let one = self.graph.constant(1.0, Ty::Int);
        let zero = self.graph.constant(0.0, Ty::Int);
        let last = self.graph.binary(Binary::Sub, n, one);
        let place = self.graph.binary(Binary::Mul, q, last);
        let low = self.graph.unary(Unary::Floor, place);
        let weight = self.graph.binary(Binary::Sub, place, low);
        let mut x = self.graph.cast(s.x, Ty::Real);
        if let Some(counts) = s.filter {
            let least = self.graph.constant(f64::NEG_INFINITY, Ty::Real);
            x = self.graph.select(counts, x, least);
        }
        // The k-th smallest of n is the (n - k)-th largest, k from 0.
        let from_top = self.graph.binary(Binary::Sub, n, low);
        let next = self.graph.binary(Binary::Sub, from_top, one);
        let mut value = |nth: E| {
            let nth = self.graph.broadcast(nth, TOKEN);
            let place = self.graph.add(Expr::Nth(x, nth), TOKEN, Ty::Int);
            self.graph.add(Expr::At(x, place), TOKEN, Ty::Real)
        };
        let (lower, upper) = (value(from_top), value(next));
        let keep = self.graph.binary(Binary::Sub, one, weight);
        let lower = self.graph.binary(Binary::Mul, lower, keep);
        let upper = self.graph.binary(Binary::Mul, upper, weight);
        let both = self.graph.binary(Binary::Add, lower, upper);
        // Without weight the upper neighbour may be absent.
        let between = self.graph.binary(Binary::Gt, weight, zero);
        let value = self.graph.select(between, both, lower);
        let some = self.graph.binary(Binary::Gt, n, zero);
        self.graph.select(some, value, zero)
    }
}
