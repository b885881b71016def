//! What is written out where it stands: the bodies of functions, and the members of unrolled calls.

use crate::ast::{self, Call};
use crate::diagnostic::Diagnostic;
use crate::hir::E;
use crate::link::Function;
use crate::op::{Binary, Ty};
use crate::source::Span;

use super::call::{Clauses, NONE};
use super::{Checker, Scope};

/// How deep calls may nest. Each costs a scope, and a person cannot follow more.
const MAX_CALLS: usize = 256;

/// How many operators calls may come to. Functions that call each other twice double with each, so
/// that a short program could take for ever.
const MAX_WRITTEN: usize = 1 << 18;

impl Checker<'_> {
    /// Counts one operator of a body that is written out; none when there are too many.
    pub(super) fn written(&mut self, span: Span, scope: &Scope) -> Option<()> {
        if self.calls.is_empty() && scope.unrolled.is_empty() {
            return Some(());
        }
        self.written += 1;
        if self.written == MAX_WRITTEN {
            self.report(Diagnostic::error(
                "E0016",
                format!("the calls of this program come to over {MAX_WRITTEN} operators"),
                self.calls.first().map_or(span, |c| c.2),
                "not the first, but here they are too many",
                "each call is written out; a definition is evaluated once, however\noften it is read:\n\n    part = f(logp)\n    whole = part * part",
            ));
        }
        (self.written < MAX_WRITTEN).then_some(())
    }

    /// `sum(f(w[k]) for k in 1..3)`: written out, one copy per k.
    pub(super) fn unrolled(&mut self, call: &Call, span: Span, scope: &Scope) -> Option<E> {
        self.clauses(call, Clauses { unroll: true, ..NONE })?;
        let (ident, (from, to), range) = call.unroll.as_ref()?;
        let members = to.saturating_sub(*from).saturating_add(1).max(0);
        if members == 0 || members > ast::MAX_MEMBERS as i64 {
            self.error(
                "E0112",
                format!("`{from}..{to}` goes over {members} members"),
                *range,
                format!("1 to {} are possible", ast::MAX_MEMBERS),
                "both ends belong to the range: `1..4` is 1, 2, 3, 4",
            );
            return None;
        }
        let [x] = self.arguments(call, ["x"])?;
        let mut values = Vec::new();
        for k in *from..=*to {
            let mut inner = scope.clone();
            inner.unrolled.push((ident.name.clone(), k));
            let number = self.graph.constant(k as f64, Ty::Int);
            inner.locals.push((ident.name.clone(), Some(number)));
            let value = self.expr(x, &inner)?;
            values.push(match self.graph.ty(value) {
                Ty::Bool => self.graph.cast(value, Ty::Int),
                Ty::Int | Ty::Real => value,
            });
        }
        let pairs: Vec<(E, Span)> = values.iter().map(|v| (*v, x.span)).collect();
        self.meet(span, &pairs)?;
        let name = call.function.name.as_str();
        if let "max" | "min" = name {
            let op = if name == "max" { Binary::Max } else { Binary::Min };
            return self.best(op, &values);
        }
        let count = values.len();
        let mut values = values.into_iter();
        let first = values.next()?;
        let all = values.fold(first, |a, b| self.graph.binary(Binary::Add, a, b));
        if name != "mean" {
            return Some(all);
        }
        let n = self.graph.constant(count as f64, Ty::Int);
        Some(self.graph.binary(Binary::Div, all, n))
    }

    /// Evaluates a function's body with its arguments in place.
    pub(super) fn inline(
        &mut self,
        function: &Function,
        call: &Call,
        span: Span,
        scope: &Scope,
    ) -> Option<E> {
        let takes = Clauses { per: function.scope.is_some(), ..NONE };
        self.clauses(call, takes)?;
        let key = (&function.ident.name, function.depth);
        if self.calls.iter().any(|c| (&c.0, c.1) == key) {
            self.recursion(function, span);
            return None;
        }
        if self.calls.len() >= MAX_CALLS {
            self.report(Diagnostic::error(
                "E0008",
                format!("calls are nested over {MAX_CALLS} deep"),
                span,
                "one too many",
                "a function is put in the place of its call, and so are those that\nit calls; give what lies between a name of its own:\n\n    inner = exp(logp - old_logp)\n    outer = clip(inner, 0.8, 1.2)",
            ));
            return None;
        }
        let names: Vec<&str> = function.params.iter().map(|p| p.name.name.as_str()).collect();
        let bound = self.bind(call, &names)?;
        let required: Vec<&str> = function
            .params
            .iter()
            .zip(&bound)
            .filter(|(p, b)| p.default.is_none() && b.is_none())
            .map(|(p, _)| p.name.name.as_str())
            .collect();
        if !required.is_empty() {
            let needed: Vec<&str> = function
                .params
                .iter()
                .filter(|p| p.default.is_none())
                .map(|p| p.name.name.as_str())
                .collect();
            self.arity(call, &needed, &required);
            return None;
        }
        let mut inner = Scope {
            view: scope.view,
            owner: Some((function.ident.name.clone(), function.depth)),
            ..Scope::default()
        };
        for (param, argument) in function.params.iter().zip(&bound) {
            let value = match (argument, &param.default) {
                (Some(argument), _) => self.expr(argument, scope),
                (None, Some(default)) => {
                    let program = Scope { view: scope.view, ..Scope::default() };
                    self.expr(default, &program)
                }
                (None, None) => None,
            };
            inner.locals.push((param.name.name.clone(), value));
        }
        if let Some((ident, default)) = &function.scope {
            let level = match (&call.per, default) {
                (Some(per), _) => self.partition(per, scope),
                (None, Some(default)) => {
                    let program = Scope { view: scope.view, ..Scope::default() };
                    self.partition(default, &program)
                }
                (None, None) => {
                    self.error(
                        "E0110",
                        format!("`{}` needs a `per` clause", function.ident.name),
                        call.function.span,
                        "which scope is meant is open",
                        format!("`{}({} per group)`", function.ident.name, names.join(", ")),
                    );
                    None
                }
            };
            inner.levels.push((ident.name.clone(), level?));
        }
        // A wrong argument was reported; the body would only repeat it.
        if inner.locals.iter().any(|l| l.1.is_none()) {
            return None;
        }
        self.usage.functions.insert((function.ident.name.clone(), function.depth));
        self.calls.push((function.ident.name.clone(), function.depth, span));
        let value = self.body(&function.body, &inner);
        self.calls.pop();
        value
    }

    fn recursion(&mut self, function: &Function, span: Span) {
        let name = &function.ident.name;
        let mut diagnostic = Diagnostic::error(
            "E0109",
            format!("the function `{name}` calls itself"),
            function.ident.span,
            "functions are inlined, so none may lead back to itself",
            format!(
                "for what a file extends, write `base.{name}(...)`; over the rows of\na level, use a reduction or `cumsum`"
            ),
        );
        for (called, _, at) in self.calls.clone() {
            if at != span {
                diagnostic = diagnostic.with(at, format!("by way of `{called}`"));
            }
        }
        diagnostic = diagnostic.with(span, "called again here");
        // The primary label stands at the function, whoever called it.
        let calls = std::mem::take(&mut self.calls);
        self.report(diagnostic);
        self.calls = calls;
    }
}
