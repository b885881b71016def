//! Ordered operators: they keep the level and go from kept row to kept row inside one scope.

use crate::ast::{self, Call};
use crate::hir::{E, Expr};
use crate::level::{BATCH, Level, VOCAB};
use crate::op::{Binary, Ty, Unary};
use crate::source::Span;

use super::call::Clauses;
use super::expr::shorten;
use super::{Checker, Scope};

impl Checker<'_> {
    pub(super) fn ordered(&mut self, call: &Call, span: Span, scope: &Scope) -> Option<E> {
        let name = call.function.name.as_str();
        self.clauses(call, Clauses { filter: false, per: false, scope: true, unroll: false })?;
        match name {
            "index" | "is_first" | "is_last" => self.numbered(call, scope),
            "next" | "prev" => self.shifted(call, span, scope),
            "top" => {
                let [x, k] = self.arguments(call, ["x", "k"])?;
                let value = self.expr(x, scope).and_then(|v| self.expect_number(v, x.span));
                let count = self
                    .expr(k, scope)
                    .and_then(|v| self.expect_int(v, k.span, "how many `top` takes"));
                let (value, count) = (value?, count?);
                let (level, within) = self.scope_of(call, x, value, scope)?;
                self.meet(span, &[(value, x.span), (count, k.span)])?;
                // The k largest, ties to the earlier: the k first by falling value.
                let falling = self.graph.unary(Unary::Neg, value);
                let rank = self.rank(falling, level, within, scope.view);
                let count = self.graph.broadcast(count, level);
                let zero = self.graph.constant(0.0, Ty::Int);
                let kept = self.graph.binary(Binary::Ge, rank, zero);
                let among = self.graph.binary(Binary::Lt, rank, count);
                Some(self.graph.binary(Binary::And, kept, among))
            }
            _ => {
                let [x] = self.arguments(call, ["x"])?;
                let value = self.expr(x, scope)?;
                let value = match name {
                    "scan_and" | "rscan_and" => {
                        if !self.expect_bool(value, x.span, "the operand of a running `and`") {
                            return None;
                        }
                        let fails = self.graph.unary(Unary::Not, value);
                        self.graph.cast(fails, Ty::Int)
                    }
                    "rank" => self.expect_number(value, x.span)?,
                    _ if self.graph.ty(value) == Ty::Bool => self.graph.cast(value, Ty::Int),
                    _ => value,
                };
                let (level, within) = self.scope_of(call, x, value, scope)?;
                if name == "rank" {
                    return Some(self.rank(value, level, within, scope.view));
                }
                let filter = self.filter(level, scope.view, None);
                let reverse = name.starts_with('r');
                let ty = self.graph.ty(value);
                let total = self.graph.add(
                    Expr::Scan { x: value, filter, scope: within, reverse, exclusive: false },
                    level,
                    ty,
                );
                if name.ends_with("scan_and") {
                    let zero = self.graph.constant(0.0, Ty::Int);
                    return Some(self.graph.binary(Binary::Eq, total, zero));
                }
                Some(total)
            }
        }
    }

    fn rank(&mut self, x: E, level: Level, scope: Level, view: usize) -> E {
        let filter = self.filter(level, view, None);
        self.graph.add(Expr::Rank { x, filter, scope }, level, Ty::Int)
    }

    /// `index(turn in rollout)` and its relatives, which take a level.
    fn numbered(&mut self, call: &Call, scope: &Scope) -> Option<E> {
        let name = call.function.name.as_str();
        let [argument] = self.arguments(call, ["level"])?;
        let level = if let Some(level) = self.level_argument(argument, scope) {
            level
        } else {
            let value = self.expr(argument, scope)?;
            self.graph.level(value)
        };
        let written = shorten(self.sources.slice(argument.span));
        let within = self.within(call, argument, level, &written, scope)?;
        let kept = self.filter(level, scope.view, None);
        let before = self.count_before(kept, level, within, name == "is_last");
        if name == "index" {
            return Some(before);
        }
        let zero = self.graph.constant(0.0, Ty::Int);
        let end = self.graph.binary(Binary::Eq, before, zero);
        Some(match kept {
            Some(kept) => self.graph.binary(Binary::And, end, kept),
            None => end,
        })
    }

    fn shifted(&mut self, call: &Call, span: Span, scope: &Scope) -> Option<E> {
        let name = call.function.name.as_str();
        let bound = self.bind(call, &["x", "default", "by"])?;
        let (Some(x), Some(default)) = (bound[0], bound[1]) else {
            self.error(
                "E0110",
                format!("`{name}` needs 2 arguments"),
                call.function.span,
                if bound[0].is_none() { "`x` is missing" } else { "`default` is missing" },
                format!(
                    "what to read past the end belongs to the call:\n`{name}(x, 0 in rollout)`"
                ),
            );
            return None;
        };
        let value = self.expr(x, scope);
        let past = self.expr(default, scope);
        let by = match bound[2] {
            Some(by) => self.whole_literal(by, scope),
            None => Some(1),
        };
        let (value, past, by) = (value?, past?, by?);
        let (level, within) = self.scope_of(call, x, value, scope)?;
        let alike = (self.graph.ty(value) == Ty::Bool) == (self.graph.ty(past) == Ty::Bool);
        if !alike {
            self.error(
                "E0204",
                format!("the default of `{name}` has another type than its value"),
                default.span,
                self.graph.ty(past).name(),
                "give both the same type",
            );
            return None;
        }
        if !self.graph.level_table.contains(self.graph.level(past), level) {
            self.meet(span, &[(value, x.span), (past, default.span)])?;
            let per = self.per(self.graph.level(past));
            self.error(
                "E0202",
                format!("the default of `{name}` is finer than its value"),
                default.span,
                per,
                "give a default at the value's level or a coarser one",
            );
            return None;
        }
        let past = self.graph.broadcast(past, level);
        let filter = self.filter(level, scope.view, None);
        let by = if name == "next" { by } else { -by };
        if by == 0 {
            return Some(value);
        }
        let ty = if self.graph.ty(value) == self.graph.ty(past) {
            self.graph.ty(value)
        } else {
            Ty::Real
        };
        Some(self.graph.add(
            Expr::Shift { x: value, default: past, by, filter, scope: within },
            level,
            ty,
        ))
    }

    fn whole_literal(&mut self, by: &ast::Expr, scope: &Scope) -> Option<i32> {
        let value = self.expr(by, scope)?;
        let constant = match self.graph.expr(value) {
            Expr::Const(bits) => Some(f64::from_bits(bits)),
            Expr::Unary(Unary::Neg, x) => match self.graph.expr(x) {
                Expr::Const(bits) => Some(-f64::from_bits(bits)),
                _ => None,
            },
            _ => None,
        };
        match constant {
            Some(k) if k.fract() == 0.0 && k.abs() <= 1e6 => Some(k as i32),
            _ => {
                self.error(
                    "E0204",
                    "`by` is a whole literal",
                    by.span,
                    "how far to go is fixed in the program",
                    "`next(x, 0, by = 2 in rollout)`",
                );
                None
            }
        }
    }

    /// The level of the value and the scope its `in` names.
    fn scope_of(
        &mut self,
        call: &Call,
        x: &ast::Expr,
        value: E,
        scope: &Scope,
    ) -> Option<(Level, Level)> {
        let level = self.graph.level(value);
        if level == VOCAB {
            self.report(crate::link::not_yet(
                call.function.span,
                "ordered operators over the vocabulary",
            ));
            return None;
        }
        let written = shorten(self.sources.slice(x.span));
        let within = self.within(call, x, level, &written, scope)?;
        Some((level, within))
    }

    fn within(
        &mut self,
        call: &Call,
        argument: &ast::Expr,
        level: Level,
        written: &str,
        scope: &Scope,
    ) -> Option<Level> {
        let name = call.function.name.as_str();
        let Some(ident) = &call.scope else {
            let rest = if matches!(name, "next" | "prev") {
                ", 0"
            } else if name == "top" {
                ", 1"
            } else {
                ""
            };
            self.error(
                "E0110",
                format!("`{name}` needs its scope"),
                call.function.span,
                "within what the order runs is open",
                format!("`{name}({written}{rest} in rollout)` starts anew in each rollout;\n`in group` and `in batch` go across"),
            );
            return None;
        };
        let within = self.find_level(ident, scope)?;
        if level == BATCH || !self.graph.level_table.contains(within, level) {
            let per = self.per(level);
            let diagnostic = crate::diagnostic::Diagnostic::error(
                "E0203",
                format!("`{name}` runs inside a coarser level than its value's"),
                ident.span,
                format!("a {} has no order of such values", ident.name),
                format!("name a level that contains a {}: `in rollout`", self.level_name(level)),
            )
            .with(argument.span, per);
            self.report(diagnostic);
            return None;
        }
        Some(within)
    }
}
