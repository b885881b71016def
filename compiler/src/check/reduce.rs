//! Reductions: from the surface forms to the five that every back end knows.
//!
//! `mean`, `std`, `var`, `count`, `any`, `all`, `first`, `last` and `quantile` are built here from
//! sums, extrema, ranks and running counts, so that their gradients follow from those.

use crate::ast::{self, Call};
use crate::hir::{E, Expr, ReduceOp};
use crate::level::{BATCH, Level, TOKEN, VOCAB};
use crate::op::{Binary, Ty, Unary};
use crate::source::Span;

use super::call::Clauses;
use super::expr::shorten;
use super::{Checker, Scope};

/// The elements of a reduction.
#[derive(Clone, Copy)]
pub(super) struct Elements {
    pub x: E,
    /// Which of them count; none: all.
    pub filter: Option<E>,
    /// The level of x.
    pub from: Level,
    /// The level of the result.
    pub to: Level,
}

impl Checker<'_> {
    pub(super) fn reduction(&mut self, call: &Call, span: Span, scope: &Scope) -> Option<E> {
        let name = call.function.name.as_str();
        self.clauses(call, Clauses { filter: true, per: true, scope: false, unroll: false })?;
        let names: &[&str] = match name {
            "quantile" => &["x", "q"],
            "std" | "var" => &["x", "ddof"],
            "max" | "min" => &["x", "default"],
            _ => &["x"],
        };
        let bound = self.bind(call, names)?;
        let (first, second) = (bound[0], bound.get(1).copied().flatten());
        let Some(argument) = first else {
            self.error(
                "E0110",
                format!("`{name}` has nothing to reduce"),
                call.function.span,
                "no argument",
                format!("`{name}(x per rollout)`"),
            );
            return None;
        };
        if name == "quantile" && second.is_none() {
            self.error(
                "E0110",
                "`quantile` needs 2 arguments",
                call.function.span,
                "`q` is missing",
                "`quantile(x, 0.5 per group)` is the median",
            );
            return None;
        }
        let x = self.reduced_value(name, argument, scope);
        let own = call.filter.as_ref().map(|cond| {
            self.expr(cond, scope)
                .filter(|c| self.expect_bool(*c, cond.span, "a `where` condition"))
        });
        let to = match &call.per {
            Some(per) => self.partition(per, scope),
            None => Some(BATCH),
        };
        let second = second.map(|e| {
            self.expr(e, scope).and_then(|v| self.expect_number(v, e.span)).map(|v| (v, e.span))
        });
        // Everything was looked at; now the first part that failed ends it.
        let x = x?;
        let own = match own {
            Some(cond) => Some(cond?),
            None => None,
        };
        let to = to?;
        let second = match second {
            Some(value) => Some(value?),
            None => None,
        };
        let from = self.graph.level(x);
        self.check_levels(call, argument, from, to, own)?;
        if let Some((value, at)) = second
            && !self.graph.level_table.contains(self.graph.level(value), to)
        {
            let per = self.per(self.graph.level(value));
            self.error(
                "E0202",
                format!("`{}` of this reduction is finer than its result", names[1]),
                at,
                per,
                format!("give one value per {}, or a number", self.level_name(to)),
            );
            return None;
        }
        if let (Some((q, at)), "quantile") = (second, name)
            && let Expr::Const(bits) = self.graph.expr(q)
            && !(0.0..=1.0).contains(&f64::from_bits(bits))
        {
            self.error(
                "E0112",
                "the share of this quantile is outside its range",
                at,
                "from 0 to 1",
                "0 is the smallest, 0.5 the median, 1 the largest: the 90th\npercentile is `quantile(x, 0.9 per group)`",
            );
            return None;
        }
        let second = second.map(|s| s.0);
        if from == to {
            return Some(self.own_level(name, x, own, second));
        }
        if matches!(name, "max" | "min") && second.is_none() {
            self.bare_extremum(name, span, own.is_some(), (from, to), scope.view);
        }
        let filter = self.filter(from, scope.view, own);
        let value = self.reduce_elements(name, Elements { x, filter, from, to }, second);
        Some(self.unpaired(value))
    }

    /// The reduced value, in the type that the reduction works on.
    fn reduced_value(&mut self, name: &str, argument: &ast::Expr, scope: &Scope) -> Option<E> {
        if name == "count" {
            if let Some(level) = self.level_argument(argument, scope) {
                return Some(self.graph.constant_at(1.0, Ty::Int, level));
            }
            let x = self.expr(argument, scope)?;
            if self.graph.ty(x) == Ty::Bool {
                return Some(self.graph.cast(x, Ty::Int));
            }
            let level = self.graph.level(x);
            return Some(self.graph.constant_at(1.0, Ty::Int, level));
        }
        let x = self.expr(argument, scope)?;
        let is_bool = self.graph.ty(x) == Ty::Bool;
        match name {
            "any" | "all" => {
                self.expect_bool(x, argument.span, "the operand of a truth reduction").then_some(x)
            }
            "sum" | "mean" if is_bool => Some(self.graph.cast(x, Ty::Int)),
            "first" | "last" => Some(x),
            _ => self.expect_number(x, argument.span),
        }
    }

    fn check_levels(
        &mut self,
        call: &Call,
        argument: &ast::Expr,
        from: Level,
        to: Level,
        own: Option<E>,
    ) -> Option<()> {
        let name = &call.function.name;
        let written = shorten(self.sources.slice(argument.span));
        if let (Some(cond), Some(filter)) = (own, &call.filter) {
            let level = self.graph.level(cond);
            if !self.graph.level_table.contains(level, from) {
                let (at, x_at) = (self.per(level), self.per(from));
                let fine = self.level_name(level).to_owned();
                let diagnostic = crate::diagnostic::Diagnostic::error(
                    "E0202",
                    "this `where` is finer than what it selects from",
                    filter.span,
                    at,
                    format!("bring the value to the condition's level:\n`{name}({written} @ {fine} where ...)`"),
                )
                .with(argument.span, x_at);
                self.report(diagnostic);
                return None;
            }
        }
        let per_span = call.per.as_ref().map_or(argument.span, ast::Partition::span);
        if from == VOCAB && to != TOKEN && to != VOCAB {
            self.error(
                "E0206",
                format!("`{name}` would join the vocabularies of several tokens"),
                argument.span,
                "one value per vocabulary entry",
                format!("end at the token first: `{name}({written} per token)`.\nNothing of vocabulary size is stored; to keep such a value, pass\nit in as a column"),
            );
            return None;
        }
        if !self.graph.level_table.contains(to, from) {
            let per = self.per(from);
            let target = self.level_name(to).to_owned();
            let finer = self.graph.level_table.contains(from, to);
            let (label, help) = if finer {
                (
                    format!("a {target} is finer than that"),
                    format!(
                        "a reduction goes to coarser levels;\n`{written} @ {target}` goes to finer ones"
                    ),
                )
            } else {
                (
                    format!("a {} does not lie inside a {target}", self.level_name(from)),
                    self.way_up(name, &written, from, to),
                )
            };
            let diagnostic = crate::diagnostic::Diagnostic::error(
                "E0203",
                format!("`{name}` cannot reduce this to the {target}"),
                per_span,
                label,
                help,
            )
            .with(argument.span, per);
            self.report(diagnostic);
            return None;
        }
        Some(())
    }

    /// How a value gets to a level that it is not inside.
    fn way_up(&self, name: &str, written: &str, from: Level, to: Level) -> String {
        let target = self.level_name(to);
        if self.keys.is_paired(to) {
            let pairs = target.split('.').next().unwrap_or(target);
            return format!(
                "read one side of each pair first:\n`{name}(left({written} in {pairs}) per {pairs}.left)`"
            );
        }
        let table = &self.graph.level_table;
        let both = table.all().filter(|l| *l != VOCAB && !table.is_derived(*l));
        let both = both.filter(|l| table.contains(from, *l) && table.contains(to, *l));
        match both.min_by_key(|l| table.depth(*l)) {
            Some(both) => format!(
                "bring it to a level inside both: `{name}({written} @ {} per {target})`",
                self.level_name(both)
            ),
            None => format!("name a level that a {} lies inside", self.level_name(from)),
        }
    }

    /// A reduction of single elements: the element itself, or the value of nothing.
    fn own_level(&mut self, name: &str, x: E, own: Option<E>, second: Option<E>) -> E {
        let (level, ty) = (self.graph.level(x), self.graph.ty(x));
        let empty = match name {
            "std" | "var" => return self.graph.constant_at(0.0, Ty::Real, level),
            "max" | "min" => match second {
                Some(default) => self.graph.broadcast(default, level),
                None => self.graph.constant_at(0.0, ty, level),
            },
            "prod" => self.graph.constant_at(1.0, ty, level),
            "logsumexp" => self.graph.constant_at(f64::NEG_INFINITY, Ty::Real, level),
            "all" => self.graph.constant_at(1.0, Ty::Bool, level),
            "any" => self.graph.constant_at(0.0, Ty::Bool, level),
            _ => self.graph.constant_at(0.0, ty, level),
        };
        match own {
            Some(cond) => self.graph.select(cond, x, empty),
            None => x,
        }
    }

    fn reduce_elements(&mut self, name: &str, s: Elements, second: Option<E>) -> E {
        match name {
            "sum" => self.fold(ReduceOp::Sum, s, s.x),
            "count" => self.fold(ReduceOp::Sum, s, s.x),
            "prod" => self.fold(ReduceOp::Prod, s, s.x),
            "logsumexp" => self.fold(ReduceOp::LogSumExp, s, s.x),
            "mean" => self.mean(s),
            "max" | "min" => {
                let op = if name == "max" { ReduceOp::Max } else { ReduceOp::Min };
                let value = self.fold(op, s, s.x);
                let default = second.unwrap_or_else(|| self.graph.constant(0.0, Ty::Int));
                let some = self.is_some(s);
                self.graph.select(some, value, default)
            }
            "any" | "all" => {
                let number = self.graph.cast(s.x, Ty::Int);
                let op = if name == "any" { ReduceOp::Max } else { ReduceOp::Min };
                let value = self.fold(op, s, number);
                // Of nothing: -inf > 0 is false, inf > 0 is true.
                let zero = self.graph.constant(0.0, Ty::Int);
                self.graph.binary(Binary::Gt, value, zero)
            }
            "std" | "var" => {
                let ddof = second.unwrap_or_else(|| self.graph.constant(1.0, Ty::Int));
                let var = self.variance(s, ddof);
                if name == "std" { self.graph.unary(Unary::Sqrt, var) } else { var }
            }
            "first" | "last" if s.from == VOCAB => self.end_entry(s.x, s.filter, name == "last"),
            "first" | "last" => self.end(s, name == "last"),
            _ => {
                let q = second.unwrap_or_else(|| self.graph.constant(0.5, Ty::Real));
                let value =
                    if s.from == VOCAB { self.entry_quantile(s, q) } else { self.quantile(s, q) };
                self.where_share(q, value)
            }
        }
    }

    fn fold(&mut self, op: ReduceOp, s: Elements, x: E) -> E {
        self.graph.reduce(op, x, s.filter, s.to)
    }

    pub(super) fn count_of(&mut self, s: Elements) -> E {
        let one = self.graph.constant_at(1.0, Ty::Int, s.from);
        self.fold(ReduceOp::Sum, s, one)
    }

    fn is_some(&mut self, s: Elements) -> E {
        let n = self.count_of(s);
        let zero = self.graph.constant(0.0, Ty::Int);
        self.graph.binary(Binary::Gt, n, zero)
    }

    fn mean(&mut self, s: Elements) -> E {
        let n = self.count_of(s);
        let zero = self.graph.constant(0.0, Ty::Int);
        let some = self.graph.binary(Binary::Gt, n, zero);
        // The mean of equal elements must be that element to the last bit, so that their deviations
        // are 0. Live values are summed plainly: a maximum of them would couple what a sum does not.
        let value = if self.graph.ty(s.x) == Ty::Real && !self.is_live(s.x) && s.from != VOCAB {
            self.shifted_mean(s, n)
        } else {
            let sum = self.fold(ReduceOp::Sum, s, s.x);
            self.graph.binary(Binary::Div, sum, n)
        };
        self.graph.select(some, value, zero)
    }

    /// m + sum(x - m) / n for m the largest finite element, as a constant.
    fn shifted_mean(&mut self, s: Elements, n: E) -> E {
        let real = self.graph.cast(s.x, Ty::Real);
        let top = self.fold(ReduceOp::Max, s, real);
        let finite = self.graph.unary(Unary::IsFinite, top);
        let zero = self.graph.constant(0.0, Ty::Real);
        let pivot = self.graph.select(finite, top, zero);
        let level = self.graph.level(pivot);
        let pivot = self.graph.add(Expr::Detach(pivot), level, Ty::Real);
        let rest = self.graph.binary(Binary::Sub, real, pivot);
        let sum = self.fold(ReduceOp::Sum, s, rest);
        let share = self.graph.binary(Binary::Div, sum, n);
        self.graph.binary(Binary::Add, pivot, share)
    }

    fn variance(&mut self, s: Elements, ddof: E) -> E {
        let n = self.count_of(s);
        let enough = self.graph.binary(Binary::Gt, n, ddof);
        let mean = self.shifted_mean(s, n);
        let deviation = self.graph.binary(Binary::Sub, s.x, mean);
        let square = self.graph.binary(Binary::Mul, deviation, deviation);
        let sum = self.fold(ReduceOp::Sum, s, square);
        let free = self.graph.binary(Binary::Sub, n, ddof);
        let value = self.graph.binary(Binary::Div, sum, free);
        let zero = self.graph.constant(0.0, Ty::Real);
        self.graph.select(enough, value, zero)
    }

    /// `first` and `last`: a sum over the one element at the end.
    fn end(&mut self, s: Elements, last: bool) -> E {
        let before = self.count_before(s.filter, s.from, s.to, last);
        let zero = self.graph.constant_at(0.0, Ty::Int, s.from);
        let at_end = self.graph.binary(Binary::Eq, before, zero);
        let is_bool = self.graph.ty(s.x) == Ty::Bool;
        let x = if is_bool { self.graph.cast(s.x, Ty::Int) } else { s.x };
        let nothing = self.graph.constant_at(0.0, self.graph.ty(x), s.from);
        let only = self.graph.select(at_end, x, nothing);
        let value = self.fold(ReduceOp::Sum, s, only);
        if is_bool {
            let none = self.graph.constant(0.0, Ty::Int);
            self.graph.binary(Binary::Gt, value, none)
        } else {
            value
        }
    }

    /// How many kept rows of the same scope come before (or, from the end, after) each row.
    pub(super) fn count_before(
        &mut self,
        filter: Option<E>,
        level: Level,
        scope: Level,
        from_end: bool,
    ) -> E {
        let one = self.graph.constant_at(1.0, Ty::Int, level);
        let (scope, within) = self.run_in(scope, level);
        let count = Expr::Scan {
            x: one,
            filter,
            factor: None,
            scope,
            within,
            reverse: from_end,
            exclusive: true,
        };
        self.graph.add(count, level, Ty::Int)
    }

    /// Interpolates linearly between the two order statistics around q * (n - 1).
    fn quantile(&mut self, s: Elements, q: E) -> E {
        let n = self.count_of(s);
        let one = self.graph.constant(1.0, Ty::Int);
        let last = self.graph.binary(Binary::Sub, n, one);
        let place = self.graph.binary(Binary::Mul, q, last);
        let low = self.graph.unary(Unary::Floor, place);
        let weight = self.graph.binary(Binary::Sub, place, low);
        let high = self.graph.binary(Binary::Add, low, one);
        let rank = self.rank(s.x, s.filter, s.to);
        let zero = self.graph.constant(0.0, Ty::Real);
        let keep = self.graph.binary(Binary::Sub, one, weight);
        let at_low = self.graph.binary(Binary::Eq, rank, low);
        let scaled = self.graph.binary(Binary::Mul, s.x, keep);
        let lower = self.graph.select(at_low, scaled, zero);
        let at_high = self.graph.binary(Binary::Eq, rank, high);
        // Without weight the upper neighbour may be infinite or absent.
        let wanted = self.graph.binary(Binary::Gt, weight, zero);
        let at_high = self.graph.binary(Binary::And, at_high, wanted);
        let scaled = self.graph.binary(Binary::Mul, s.x, weight);
        let upper = self.graph.select(at_high, scaled, zero);
        let both = self.graph.binary(Binary::Add, lower, upper);
        self.fold(ReduceOp::Sum, s, both)
    }

    /// A quantile's value, NaN where its share is none: no order statistics stand around it.
    fn where_share(&mut self, q: E, value: E) -> E {
        if matches!(self.graph.expr(q), Expr::Const(_)) {
            return value;
        }
        let ends = [0.0, 1.0].map(|end| self.graph.constant(end, Ty::Real));
        let above = self.graph.binary(Binary::Ge, q, ends[0]);
        let below = self.graph.binary(Binary::Le, q, ends[1]);
        let share = self.graph.binary(Binary::And, above, below);
        let none = self.graph.constant(f64::NAN, Ty::Real);
        self.graph.select(share, value, none)
    }

    /// Whether a value depends on a differentiable column in any way.
    pub(super) fn is_live(&self, root: E) -> bool {
        let needed = self.graph.reachable([root]);
        self.graph.all().any(|e| {
            needed[e.index()]
                && match self.graph.expr(e) {
                    Expr::Column(c) | Expr::Choose(c, _, _) => {
                        self.graph.columns[c.0 as usize].differentiable
                    }
                    _ => false,
                }
        })
    }
}
