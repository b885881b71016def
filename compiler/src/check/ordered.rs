//! Ordered operators: they keep the level and go from kept row to kept row inside one scope.

use crate::ast::{self, Call};
use crate::hir::{E, Expr};
use crate::level::{BATCH, Level, TOKEN, VOCAB};
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
            "top" => self.top(call, span, scope),
            "discounted" => self.discounted(call, scope),
            "argmax" | "sort" => self.sorted(call, scope),
            "pick" => self.pick(call, scope),
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
                let filter = self.filter(level, scope.view, None);
                if name == "rank" {
                    return Some(self.rank(value, filter, within));
                }
                let reverse = name.starts_with('r');
                let ty = self.graph.ty(value);
                let (scope, within) = self.run_in(within, level);
                let total = Expr::Scan {
                    x: value,
                    filter,
                    factor: None,
                    scope,
                    within,
                    reverse,
                    exclusive: false,
                };
                let total = self.graph.add(total, level, ty);
                if name.ends_with("scan_and") {
                    let zero = self.graph.constant(0.0, Ty::Int);
                    return Some(self.graph.binary(Binary::Eq, total, zero));
                }
                Some(total)
            }
        }
    }

    /// How many kept rows of the scope come before each row when sorted by x.
    pub(super) fn rank(&mut self, x: E, filter: Option<E>, scope: Level) -> E {
        let level = self.graph.level(x);
        let (scope, within) = self.run_in(scope, level);
        self.graph.add(Expr::Rank { x, filter, scope, within }, level, Ty::Int)
    }

    fn top(&mut self, call: &Call, span: Span, scope: &Scope) -> Option<E> {
        let [x, k] = self.arguments(call, ["x", "k"])?;
        let value = self.expr(x, scope).and_then(|v| self.expect_number(v, x.span));
        let count =
            self.expr(k, scope).and_then(|v| self.expect_int(v, k.span, "how many `top` takes"));
        let (value, count) = (value?, count?);
        if self.graph.level(value) == VOCAB {
            self.within_token(call, x, scope)?;
            self.contained(call, (count, k.span), TOKEN)?;
            let count = self.graph.broadcast(count, TOKEN);
            return Some(self.top_entries(value, count));
        }
        let (level, within) = self.scope_of(call, x, value, scope)?;
        self.meet(span, &[(value, x.span), (count, k.span)])?;
        // The k largest, ties to the earlier: the k first by falling value.
        let falling = self.graph.unary(Unary::Neg, value);
        let filter = self.filter(level, scope.view, None);
        let rank = self.rank(falling, filter, within);
        let count = self.graph.broadcast(count, level);
        let zero = self.graph.constant(0.0, Ty::Int);
        let kept = self.graph.binary(Binary::Ge, rank, zero);
        let among = self.graph.binary(Binary::Lt, rank, count);
        Some(self.graph.binary(Binary::And, kept, among))
    }

    /// x + gamma * (the next row's), from the end of the scope.
    fn discounted(&mut self, call: &Call, scope: &Scope) -> Option<E> {
        let [x, gamma] = self.arguments(call, ["x", "gamma"])?;
        let value = self.expr(x, scope).and_then(|v| self.expect_number(v, x.span));
        let factor = self.expr(gamma, scope).and_then(|v| self.expect_number(v, gamma.span));
        let (value, factor) = (value?, factor?);
        let (level, within) = self.scope_of(call, x, value, scope)?;
        self.contained(call, (factor, gamma.span), level)?;
        let value = self.graph.cast(value, Ty::Real);
        let factor = self.graph.cast(factor, Ty::Real);
        let factor = Some(self.graph.broadcast(factor, level));
        let filter = self.filter(level, scope.view, None);
        let (scope, within) = self.run_in(within, level);
        let total =
            Expr::Scan { x: value, filter, factor, scope, within, reverse: true, exclusive: false };
        Some(self.graph.add(total, level, Ty::Real))
    }

    /// `argmax`: the place of the largest row of the scope. `sort`: the rows in rising order.
    fn sorted(&mut self, call: &Call, scope: &Scope) -> Option<E> {
        let name = call.function.name.as_str();
        let [x] = self.arguments(call, ["x"])?;
        let value = self.expr(x, scope).and_then(|v| self.expect_number(v, x.span))?;
        if self.graph.level(value) == VOCAB && name == "argmax" {
            self.within_token(call, x, scope)?;
            let one = self.graph.constant_at(1.0, Ty::Int, TOKEN);
            return Some(self.graph.add(Expr::Nth(value, one), TOKEN, Ty::Int));
        }
        let (level, within) = self.scope_of(call, x, value, scope)?;
        let filter = self.filter(level, scope.view, None);
        let place = self.count_before(filter, level, within, false);
        let run = self.run_in(within, level);
        if name == "sort" {
            let rank = self.rank(value, filter, within);
            let row = self.first_equal(rank, place, filter, run);
            return Some(self.read_row(value, row, filter, 0.0, run.0));
        }
        let falling = self.graph.unary(Unary::Neg, value);
        let rank = self.rank(falling, filter, within);
        let largest = self.graph.constant_at(0.0, Ty::Int, level);
        let row = self.first_equal(rank, largest, filter, run);
        Some(self.read_row(place, row, filter, -1.0, run.0))
    }

    /// The value at the i-th kept row of the scope.
    fn pick(&mut self, call: &Call, scope: &Scope) -> Option<E> {
        let [x, i, default] = self.arguments(call, ["x", "i", "default"])?;
        let value = self.expr(x, scope);
        let wanted =
            self.expr(i, scope).and_then(|v| self.expect_int(v, i.span, "the place that is read"));
        let past = self.expr(default, scope);
        let (value, wanted, past) = (value?, wanted?, past?);
        let (level, within) = self.scope_of(call, x, value, scope)?;
        self.contained(call, (wanted, i.span), level)?;
        self.contained(call, (past, default.span), level)?;
        self.same_kind(call, value, (past, default.span))?;
        let filter = self.filter(level, scope.view, None);
        let place = self.count_before(filter, level, within, false);
        let wanted = self.graph.broadcast(wanted, level);
        let run = self.run_in(within, level);
        let row = self.first_equal(place, wanted, filter, run);
        let found = self.read_row(value, row, filter, 0.0, run.0);
        let none = self.graph.constant(0.0, Ty::Int);
        let missing = self.graph.binary(Binary::Lt, row, none);
        let missing = match filter {
            Some(kept) => self.graph.binary(Binary::And, missing, kept),
            None => missing,
        };
        Some(self.graph.select(missing, past, found))
    }

    /// x at another row of the same scope; `outside` at rows that are not kept.
    fn read_row(&mut self, x: E, row: E, filter: Option<E>, outside: f64, scope: Level) -> E {
        let (level, ty) = (self.graph.level(row), self.graph.ty(x));
        let read = self.graph.add(Expr::Gather { x, index: row, scope }, level, ty);
        match filter {
            Some(kept) => {
                let outside = self.graph.constant_at(outside, ty, level);
                self.graph.select(kept, read, outside)
            }
            None => read,
        }
    }

    /// Reports an argument that is finer than the rows it is read at.
    fn contained(&mut self, call: &Call, (value, at): (E, Span), level: Level) -> Option<()> {
        let from = self.graph.level(value);
        if self.graph.level_table.contains(from, level) {
            return Some(());
        }
        let (per, here) = (self.per(from), self.level_name(level).to_owned());
        self.error(
            "E0202",
            format!("this argument of `{}` is finer than what it goes with", call.function.name),
            at,
            per,
            format!("give one value per {here}, or a number"),
        );
        None
    }

    fn same_kind(&mut self, call: &Call, value: E, (past, at): (E, Span)) -> Option<()> {
        if (self.graph.ty(value) == Ty::Bool) == (self.graph.ty(past) == Ty::Bool) {
            return Some(());
        }
        self.error(
            "E0204",
            format!("the default of `{}` has another type than its value", call.function.name),
            at,
            self.graph.ty(past).name(),
            "give both the same type",
        );
        None
    }

    /// An operator over the vocabulary runs in a token.
    fn within_token(&mut self, call: &Call, x: &ast::Expr, scope: &Scope) -> Option<()> {
        let written = shorten(self.sources.slice(x.span));
        let within = self.within(call, x, VOCAB, &written, scope)?;
        if within == TOKEN {
            return Some(());
        }
        let span = call.scope.as_ref().map_or(x.span, |i| i.span);
        self.error(
            "E0206",
            format!("`{}` would join the vocabularies of several tokens", call.function.name),
            span,
            "nothing of vocabulary size is stored",
            "stay in the token: `in token`",
        );
        None
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
        self.same_kind(call, value, (past, default.span))?;
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
        let (scope, within) = self.run_in(within, level);
        let shift = Expr::Shift { x: value, default: past, by, filter, scope, within };
        Some(self.graph.add(shift, level, ty))
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
            let name = &call.function.name;
            self.error(
                "E0206",
                format!("`{name}` would need one number per vocabulary entry"),
                call.function.span,
                "nothing of vocabulary size is stored",
                "over the entries of a token there are `top(x, n in token)`,\n`argmax(x in token)` and reductions `per token`; what needs all of them\nin order is passed in as a column",
            );
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
            let rest = match name {
                "next" | "prev" => ", 0",
                "top" => ", 1",
                "discounted" => ", 0.99",
                "pick" => ", 0, 0",
                _ => "",
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
