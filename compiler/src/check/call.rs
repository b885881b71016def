//! Calls: which operator or function a name is, and how its arguments and clauses bind.

use crate::ast::{self, Arg, Call, Ident};
use crate::diagnostic::nearest;
use crate::hir::{E, Expr};
use crate::op::{Binary, Ty, Unary};
use crate::source::Span;

use super::{Checker, Scope};

/// Functions of one number, elementwise.
const SCALAR: &[(&str, Unary)] = &[
    ("exp", Unary::Exp),
    ("log", Unary::Log),
    ("log1p", Unary::Log1p),
    ("expm1", Unary::Expm1),
    ("log1mexp", Unary::Log1mexp),
    ("log2", Unary::Log2),
    ("sqrt", Unary::Sqrt),
    ("abs", Unary::Abs),
    ("sign", Unary::Sign),
    ("sigmoid", Unary::Sigmoid),
    ("log_sigmoid", Unary::LogSigmoid),
    ("tanh", Unary::Tanh),
    ("softplus", Unary::Softplus),
    ("relu", Unary::Relu),
    ("floor", Unary::Floor),
    ("ceil", Unary::Ceil),
    ("round", Unary::Round),
    ("isfinite", Unary::IsFinite),
    ("isnan", Unary::IsNan),
    ("sin", Unary::Sin),
    ("cos", Unary::Cos),
];

pub(super) const REDUCTIONS: &[&str] = &[
    "sum",
    "mean",
    "max",
    "min",
    "std",
    "var",
    "count",
    "any",
    "all",
    "first",
    "last",
    "prod",
    "logsumexp",
    "quantile",
];

const ORDERED: &[&str] = &[
    "next",
    "prev",
    "cumsum",
    "rcumsum",
    "index",
    "is_first",
    "is_last",
    "rank",
    "top",
    "scan_and",
    "rscan_and",
    "discounted",
    "argmax",
    "sort",
    "pick",
];

const VOCAB_FUNCTIONS: &[&str] = &["softmax", "log_softmax", "at"];

const OTHER: &[&str] = &["clip", "real", "int", "detach", "uniform", "left", "right"];

/// Every operator of the language that is called by name.
pub fn builtins() -> impl Iterator<Item = &'static str> {
    SCALAR
        .iter()
        .map(|s| s.0)
        .chain(REDUCTIONS.iter().copied())
        .chain(ORDERED.iter().copied())
        .chain(VOCAB_FUNCTIONS.iter().copied())
        .chain(OTHER.iter().copied())
}

pub(super) fn is_builtin(name: &str) -> bool {
    builtins().any(|b| b == name)
}

/// Which clauses a call may carry.
#[derive(Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "four independent yes-or-no answers")]
pub(super) struct Clauses {
    pub filter: bool,
    pub per: bool,
    pub scope: bool,
    pub unroll: bool,
}

pub(super) const NONE: Clauses = Clauses { filter: false, per: false, scope: false, unroll: false };

impl Checker<'_> {
    pub(super) fn call(&mut self, call: &Call, span: Span, scope: &Scope) -> Option<E> {
        let name = call.function.name.as_str();
        let linked = self.linked;
        if let Some(name) = name.strip_prefix("base.") {
            return self.base_call(name, call, span, scope);
        }
        if let Some(function) = linked.function(name) {
            return self.inline(function, call, span, scope);
        }
        if let Some((_, op)) = SCALAR.iter().find(|s| s.0 == name) {
            self.clauses(call, NONE)?;
            let [x] = self.arguments(call, ["x"])?;
            let value = self.expr(x, scope)?;
            self.expect_number(value, x.span)?;
            return Some(self.graph.unary(*op, value));
        }
        if call.unroll.is_some() && ["sum", "mean", "max", "min"].contains(&name) {
            return self.unrolled(call, span, scope);
        }
        let positional = call.args.iter().filter(|a| a.name.is_none()).count();
        if (name == "min" || name == "max") && positional >= 2 {
            return self.extremum(call, span, scope);
        }
        if REDUCTIONS.contains(&name) {
            return self.reduction(call, span, scope);
        }
        if ORDERED.contains(&name) {
            return self.ordered(call, span, scope);
        }
        if VOCAB_FUNCTIONS.contains(&name) {
            return self.vocab_function(call, span, scope);
        }
        match name {
            "clip" => self.clip(call, span, scope),
            "real" | "int" => self.conversion(call, scope),
            "uniform" => self.uniform(call, scope),
            "left" | "right" => self.paired(call, scope),
            "detach" => {
                self.clauses(call, NONE)?;
                let [x] = self.arguments(call, ["x"])?;
                let value = self.expr(x, scope)?;
                let (level, ty) = (self.graph.level(value), self.graph.ty(value));
                Some(self.graph.add(Expr::Detach(value), level, ty))
            }
            _ => {
                self.unknown_function(&call.function);
                None
            }
        }
    }

    pub(super) fn unknown_function(&mut self, ident: &Ident) {
        let name = &ident.name;
        if self.linked.broken.contains(name) {
            return;
        }
        let defined = self.linked.functions.keys().cloned();
        let names: Vec<String> = defined.chain(builtins().map(str::to_owned)).collect();
        let near = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
        let is_value = self.linked.values.contains_key(name)
            || super::names::standard_inputs().any(|s| s == name);
        let help = match near {
            _ if is_value => format!("`{name}` is a value; read it without arguments"),
            Some(near) => format!("did you mean `{near}`?"),
            // The base that is missing may define it.
            None if self.linked.stand_in => return,
            None => format!("define it: `fn {name}(x) = ...`"),
        };
        self.error(
            "E0102",
            format!("there is no function `{name}`"),
            ident.span,
            "not defined",
            help,
        );
    }

    /// Refuses clauses that the function does not take.
    pub(super) fn clauses(&mut self, call: &Call, takes: Clauses) -> Option<()> {
        let name = &call.function.name;
        let mut wrong = None;
        if let (Some(filter), false) = (&call.filter, takes.filter) {
            wrong = Some(("where", filter.span));
        }
        if let (Some(per), false) = (&call.per, takes.per) {
            wrong = Some(("per", per.span()));
        }
        if let (Some(scope), false) = (&call.scope, takes.scope) {
            wrong = Some(("in", scope.span));
        }
        if let (Some((ident, _, _)), false) = (&call.unroll, takes.unroll) {
            wrong = Some(("for", ident.span));
        }
        let Some((clause, span)) = wrong else { return Some(()) };
        let help = match clause {
            "where" => "`where` belongs to reductions: `mean(x where cond per rollout)`",
            "per" if matches!(name.as_str(), "min" | "max") => {
                "of two or more values it is the best, row by row; of one it is a\nreduction: `max(max(x per group), 0)`"
            }
            "per" => {
                "`per` belongs to reductions, as in `mean(x per rollout)`, and to\nfunctions that declare it: `fn f(x per L = group) = ...`"
            }
            "in" => {
                "`in` belongs to ordered operators: `cumsum(x in rollout)`.\nReductions say `per`: `sum(x per rollout)`"
            }
            _ => "`for` belongs to `sum`, `mean`, `max` and `min`:\n`sum(w[k] for k in 1..3)`",
        };
        self.error(
            "E0113",
            format!("`{name}` takes no `{clause}`"),
            span,
            format!("`{clause}` clause"),
            help,
        );
        None
    }

    /// The arguments of a builtin, all required, by position or by name.
    pub(super) fn arguments<'c, const N: usize>(
        &mut self,
        call: &'c Call,
        names: [&str; N],
    ) -> Option<[&'c ast::Expr; N]> {
        let bound = self.bind(call, &names)?;
        let mut missing = Vec::new();
        for (i, b) in bound.iter().enumerate() {
            if b.is_none() {
                missing.push(names[i]);
            }
        }
        if !missing.is_empty() {
            self.arity(call, &names, &missing);
            return None;
        }
        let mut out = bound.into_iter().flatten();
        // All N are present: each was checked above.
        let found: Vec<&'c ast::Expr> = out.by_ref().collect();
        found.try_into().ok()
    }

    pub(super) fn arity(&mut self, call: &Call, names: &[&str], missing: &[&str]) {
        let name = &call.function.name;
        let list = missing.iter().map(|m| format!("`{m}`")).collect::<Vec<_>>().join(", ");
        self.error(
            "E0110",
            format!(
                "`{name}` needs {} argument{}",
                names.len(),
                if names.len() == 1 { "" } else { "s" }
            ),
            call.function.span,
            format!("{list} {} missing", if missing.len() == 1 { "is" } else { "are" }),
            format!("`{name}({})`", names.join(", ")),
        );
    }

    /// Binds arguments to parameter names. Too many, unknown or repeated ones are errors.
    pub(super) fn bind<'c>(
        &mut self,
        call: &'c Call,
        names: &[&str],
    ) -> Option<Vec<Option<&'c ast::Expr>>> {
        let mut bound: Vec<Option<&'c ast::Expr>> = vec![None; names.len()];
        let mut next = 0;
        let mut fine = true;
        for Arg { name, value } in &call.args {
            let slot = match name {
                None => {
                    next += 1;
                    next - 1
                }
                Some(ident) => {
                    if let Some(slot) = names.iter().position(|n| *n == ident.name) {
                        slot
                    } else {
                        self.unknown_argument(call, ident, names);
                        fine = false;
                        continue;
                    }
                }
            };
            match bound.get_mut(slot) {
                Some(free @ None) => *free = Some(value),
                Some(Some(_)) => {
                    self.error(
                        "E0110",
                        format!("`{}` is given twice", names[slot]),
                        value.span,
                        "the second time",
                        format!("`{}({})`", call.function.name, names.join(", ")),
                    );
                    fine = false;
                }
                None => {
                    self.error(
                        "E0110",
                        format!(
                            "`{}` takes {} argument{}",
                            call.function.name,
                            names.len(),
                            if names.len() == 1 { "" } else { "s" }
                        ),
                        value.span,
                        format!("argument {}", slot + 1),
                        format!("`{}({})`", call.function.name, names.join(", ")),
                    );
                    return None;
                }
            }
        }
        fine.then_some(bound)
    }

    pub(super) fn unknown_argument(&mut self, call: &Call, ident: &Ident, names: &[&str]) {
        let name = &call.function.name;
        let help = match nearest(&ident.name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near} = ...`?"),
            None => format!("`{name}({})`", names.join(", ")),
        };
        self.error(
            "E0111",
            format!("`{name}` has no argument `{}`", ident.name),
            ident.span,
            "not one of its names",
            help,
        );
    }

    fn extremum(&mut self, call: &Call, span: Span, scope: &Scope) -> Option<E> {
        self.clauses(call, NONE)?;
        let op = if call.function.name == "min" { Binary::Min } else { Binary::Max };
        let mut values = Vec::new();
        let mut fine = true;
        for arg in &call.args {
            if let Some(ident) = &arg.name {
                self.unknown_argument(call, ident, &["x", "y"]);
                fine = false;
                continue;
            }
            let value =
                self.expr(&arg.value, scope).and_then(|v| self.expect_number(v, arg.value.span));
            match value {
                Some(v) => values.push((v, arg.value.span)),
                None => fine = false,
            }
        }
        if !fine {
            return None;
        }
        self.meet(span, &values)?;
        let values: Vec<E> = values.into_iter().map(|v| v.0).collect();
        self.best(op, &values)
    }

    /// The largest or smallest of several values that meet, the gradient shared among equals.
    pub(super) fn best(&mut self, op: Binary, values: &[E]) -> Option<E> {
        let (first, others) = values.split_first()?;
        let best = others.iter().fold(*first, |a, b| self.graph.binary(op, a, *b));
        if values.len() <= 2 {
            return Some(best);
        }
        // Folding pairs would give the last of three equal operands half of the gradient: the value
        // is the fold's, the gradient is shared among all that equal it.
        let level = self.graph.level(best);
        let constant = |g: &mut crate::hir::Graph, e: E| {
            let (level, ty) = (g.level(e), g.ty(e));
            g.add(Expr::Detach(e), level, ty)
        };
        let value = constant(&mut self.graph, best);
        let zero = self.graph.constant_at(0.0, Ty::Int, level);
        let (mut change, mut count) = (zero, zero);
        for &x in values {
            let hit = self.graph.binary(Binary::Eq, x, best);
            let finite = self.graph.unary(Unary::IsFinite, x);
            let hit = self.graph.binary(Binary::And, hit, finite);
            let fixed = constant(&mut self.graph, x);
            let moved = self.graph.binary(Binary::Sub, x, fixed);
            let moved = self.graph.select(hit, moved, zero);
            change = self.graph.binary(Binary::Add, change, moved);
            let one = self.graph.cast(hit, Ty::Int);
            count = self.graph.binary(Binary::Add, count, one);
        }
        let some = self.graph.binary(Binary::Gt, count, zero);
        let share = self.graph.binary(Binary::Div, change, count);
        let share = self.graph.select(some, share, zero);
        let ty = self.graph.ty(best);
        let sum = self.graph.binary(Binary::Add, value, share);
        Some(if ty == Ty::Int { self.graph.cast(sum, Ty::Int) } else { sum })
    }

    fn clip(&mut self, call: &Call, span: Span, scope: &Scope) -> Option<E> {
        self.clauses(call, NONE)?;
        let args = self.arguments(call, ["x", "lo", "hi"])?;
        let values = args.map(|a| self.expr(a, scope).and_then(|v| self.expect_number(v, a.span)));
        let [x, lo, hi] = values;
        let (x, lo, hi) = (x?, lo?, hi?);
        self.meet(span, &[(x, args[0].span), (lo, args[1].span), (hi, args[2].span)])?;
        // Selects, not min and max: on a bound the gradient passes to x alone.
        let below = self.graph.binary(Binary::Lt, x, lo);
        let above = self.graph.binary(Binary::Gt, x, hi);
        let upper = self.graph.select(above, hi, x);
        Some(self.graph.select(below, lo, upper))
    }

    fn conversion(&mut self, call: &Call, scope: &Scope) -> Option<E> {
        self.clauses(call, NONE)?;
        let [x] = self.arguments(call, ["x"])?;
        let value = self.expr(x, scope)?;
        Some(match (call.function.name.as_str(), self.graph.ty(value)) {
            ("int", Ty::Real) => self.graph.unary(Unary::Trunc, value),
            ("int", _) => self.graph.cast(value, Ty::Int),
            _ => self.graph.cast(value, Ty::Real),
        })
    }

    fn base_call(&mut self, name: &str, call: &Call, span: Span, scope: &Scope) -> Option<E> {
        let inside = scope.owner.as_ref().filter(|o| o.0 == name).map(|o| o.1);
        let Some(depth) = inside else {
            self.error(
                "E0108",
                format!("`base.{name}` stands outside the definition of `{name}`"),
                call.function.span,
                format!("not inside `fn {name}(...) = ...`"),
                format!("call `{name}(...)`, or replace the function:\n`fn {name}(x) = ... base.{name}(x) ...`"),
            );
            return None;
        };
        let linked = self.linked;
        if let Some(function) = linked.base_function(name, depth) {
            return self.inline(function, call, span, scope);
        }
        self.error(
            "E0102",
            format!("the extended file has no function `{name}`"),
            call.function.span,
            "nothing to call",
            format!("`{name}` is new here: define it without `base`"),
        );
        None
    }
}
