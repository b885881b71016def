//! Functions of a token's distribution: they work on the vocab row and never store one.

use crate::ast::Call;
use crate::hir::{E, Expr, ReduceOp};
use crate::level::{TOKEN, VOCAB};
use crate::op::{Binary, Ty, Unary};
use crate::source::Span;

use super::call::Clauses;
use super::expr::shorten;
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
            if !self.graph.level_table.contains(self.graph.level(index), TOKEN) {
                let per = self.per(self.graph.level(index));
                self.error(
                    "E0202",
                    "`at` reads one entry per token",
                    i.span,
                    per,
                    "give a token-level int: `at(log_softmax(logits), action)`",
                );
                return None;
            }
            let index = self.graph.broadcast(index, TOKEN);
            let ty = self.graph.ty(row);
            return Some(self.graph.add(Expr::At(row, index), TOKEN, ty));
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
}
