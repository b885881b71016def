//! What a name means: locals, definitions under late binding, standard inputs, levels.

use crate::ast::{self, Body, ExprKind, Ident};
use crate::diagnostic::{Diagnostic, nearest};
use crate::hir::{ColumnInfo, E, Expr, Prefer, ReduceOp};
use crate::level::{BATCH, GROUP, Level, ROLLOUT, TOKEN, TURN, VOCAB};
use crate::link::{Entry, Function, Item, defined_twice};
use crate::op::{Binary, Ty};
use crate::source::Span;

use super::{Checker, Scope, literal_value, type_of};

/// A column every program may read without declaring it.
struct StandardInput {
    name: &'static str,
    level: Level,
    ty: Ty,
    differentiable: bool,
    default: Option<f64>,
}

const fn input(name: &'static str, level: Level, ty: Ty) -> StandardInput {
    StandardInput { name, level, ty, differentiable: false, default: None }
}

const fn policy(name: &'static str, level: Level) -> StandardInput {
    StandardInput { name, level, ty: Ty::Real, differentiable: true, default: None }
}

const STANDARD: &[StandardInput] = &[
    policy("logits", VOCAB),
    input("ref_logits", VOCAB, Ty::Real),
    input("old_logits", VOCAB, Ty::Real),
    input("action", TOKEN, Ty::Int),
    // Without the column the policy wrote every token.
    StandardInput { default: Some(1.0), ..input("mask", TOKEN, Ty::Bool) },
    policy("logp", TOKEN),
    policy("entropy", TOKEN),
    input("old_logp", TOKEN, Ty::Real),
    input("ref_logp", TOKEN, Ty::Real),
    input("sampler_logp", TOKEN, Ty::Real),
    policy("value", TOKEN),
    input("old_value", TOKEN, Ty::Real),
    input("token_reward", TOKEN, Ty::Real),
    input("position", TOKEN, Ty::Int),
    input("step_correct", TURN, Ty::Real),
    input("step_reward", TURN, Ty::Real),
    input("reward", ROLLOUT, Ty::Real),
    input("truncated", ROLLOUT, Ty::Bool),
    input("correct", ROLLOUT, Ty::Bool),
    input("length", ROLLOUT, Ty::Int),
    input("prompt", GROUP, Ty::Int),
    input("train.step", BATCH, Ty::Int),
    input("train.total", BATCH, Ty::Int),
    input("train.progress", BATCH, Ty::Real),
];

/// Names of the inputs that need no declaration.
pub fn standard_inputs() -> impl Iterator<Item = &'static str> {
    STANDARD.iter().map(|s| s.name)
}

/// Type, level and whether it is differentiable, of an input that needs no declaration.
pub fn standard_input(name: &str) -> Option<(Ty, Level, bool)> {
    STANDARD.iter().find(|s| s.name == name).map(|s| (s.ty, s.level, s.differentiable))
}

impl Checker<'_> {
    /// The value of a name.
    pub(super) fn name(&mut self, name: &str, span: Span, scope: &Scope) -> Option<E> {
        if let Some((_, value)) = scope.locals.iter().rev().find(|l| l.0 == name) {
            return *value;
        }
        if let Some(later) = scope.later.iter().find(|l| l.name == name) {
            self.read_before(later, span);
            return None;
        }
        let linked = self.linked;
        if let Some(entry) = linked.value(name) {
            return self.entry(entry, scope.view, span);
        }
        match name {
            "pi" => return Some(self.graph.constant(std::f64::consts::PI, Ty::Real)),
            "inf" => return Some(self.graph.constant(f64::INFINITY, Ty::Real)),
            _ => {}
        }
        if let Some(value) = self.standard(name) {
            return Some(value);
        }
        self.unknown_name(name, span, scope);
        None
    }

    /// A block's definition that is read above it. Without this, a name of the program would be read in
    /// silence where the block has one of its own.
    fn read_before(&mut self, later: &Ident, span: Span) {
        let name = &later.name;
        let diagnostic = Diagnostic::error(
            "E0101",
            format!("`{name}` is read above its definition in this block"),
            span,
            "not defined yet",
            format!(
                "inside a function a name is defined above what reads it:\nmove `{name} = ...` up"
            ),
        );
        self.report(diagnostic.with(later.span, "defined here"));
    }

    fn unknown_name(&mut self, name: &str, span: Span, scope: &Scope) {
        if self.linked.broken.contains(name) || self.refused_level(name) {
            return;
        }
        if self.is_level(name) {
            self.error(
                "E0101",
                format!("`{name}` is a level, not a value"),
                span,
                "a level",
                format!("count its elements with `count({name} per rollout)`, number them\nwith `index({name} in rollout)`, or name a value here"),
            );
            return;
        }
        if self.linked.functions.contains_key(name) || super::call::is_builtin(name) {
            self.error(
                "E0101",
                format!("`{name}` is a function, not a value"),
                span,
                "needs arguments",
                format!("call it: `{name}(...)`"),
            );
            return;
        }
        let locals = scope.locals.iter().map(|l| l.0.clone());
        let defined = self.linked.values.keys().cloned();
        let inputs = standard_inputs().map(str::to_owned);
        let candidates: Vec<String> = locals.chain(defined).chain(inputs).collect();
        let near = nearest(name, candidates.iter().map(String::as_str)).map(str::to_owned);
        let help = match &near {
            Some(near) => format!("did you mean `{near}`?"),
            // The base that is missing may define it.
            None if self.linked.stand_in => return,
            None => format!(
                "define it (`{name} = ...`), or declare it as a column of the batch:\n`input {name} : real @ rollout`"
            ),
        };
        let mut diagnostic =
            Diagnostic::error("E0101", format!("cannot find `{name}`"), span, "not defined", help);
        if let Some(entry) = near.as_deref().and_then(|n| self.linked.value(n))
            && entry.ident.span.file == span.file
        {
            diagnostic = diagnostic.with(entry.ident.span, "this name is similar");
        }
        self.report(diagnostic);
    }

    /// A standard input's column.
    fn standard(&mut self, name: &str) -> Option<E> {
        let s = STANDARD.iter().find(|s| s.name == name)?;
        let id = self.column_id(ColumnInfo {
            level: s.level,
            name: s.name.to_owned(),
            ty: s.ty,
            differentiable: s.differentiable,
            default: s.default,
            span: None,
        });
        let computed = match name {
            // Both see the whole rollout, whatever filters leave.
            "position" => {
                let one = self.graph.constant_at(1.0, Ty::Int, TOKEN);
                Some(self.graph.add(
                    Expr::Scan {
                        x: one,
                        filter: None,
                        factor: None,
                        scope: ROLLOUT,
                        within: None,
                        reverse: false,
                        exclusive: true,
                    },
                    TOKEN,
                    Ty::Int,
                ))
            }
            "length" => {
                let one = self.graph.constant_at(1.0, Ty::Int, TOKEN);
                Some(self.graph.reduce(ReduceOp::Sum, one, None, ROLLOUT))
            }
            "train.progress" => {
                let step = self.standard("train.step")?;
                let total = self.standard("train.total")?;
                Some(self.graph.binary(Binary::Div, step, total))
            }
            _ => None,
        };
        let e = match computed {
            Some(x) => self.graph.add(Expr::Choose(id, x, Prefer::Column), s.level, s.ty),
            None => self.graph.column(id),
        };
        self.graph.set_name(e, name);
        Some(e)
    }

    /// The value of one meaning of a name.
    pub(super) fn entry(&mut self, entry: &Entry, view: usize, span: Span) -> Option<E> {
        let name = entry.ident.name.as_str();
        // A definition looked at for its own sake is asked for at its own name.
        if span != entry.ident.span {
            let reader = self.open.last().map(|o| (o.0.clone(), o.1));
            self.usage.edges.entry(reader).or_default().insert((name.to_owned(), entry.depth));
        }
        let body = match &entry.item {
            Item::Param { family: None, .. } => {
                let id = *self.params.get(name)?;
                let ty = self.graph.params[id.0 as usize].ty;
                let e = self.graph.add(Expr::Param(id), BATCH, ty);
                self.graph.set_name(e, name);
                return Some(e);
            }
            Item::Column { decl, differentiable } if decl.family.is_none() => {
                return self.declared(entry, decl, *differentiable, None);
            }
            Item::Param { .. } | Item::Column { .. } => {
                if span != entry.ident.span {
                    self.error(
                        "E0204",
                        format!("`{name}` is a family, not one value"),
                        span,
                        "needs an index",
                        format!("name a member, `{name}[1]`, or go over all of them:\n`sum({name}[k] for k in 1..2)`"),
                    );
                }
                return None;
            }
            Item::State { .. } => return self.state(entry, view),
            Item::Def(body) => body,
        };
        let key = (name.to_owned(), entry.depth, view);
        if let Some(&known) = self.values.get(&key) {
            return known;
        }
        if self.opened.contains(&key) {
            let at = |o: &(String, usize, usize, Span)| (&o.0, o.1, o.2) == (&key.0, key.1, key.2);
            let start = self.open.iter().position(at).unwrap_or(0);
            self.cycle(start, entry, span);
            return None;
        }
        self.open.push((key.0.clone(), entry.depth, view, span));
        self.opened.insert(key.clone());
        // A definition is evaluated on its own: errors in it are not those of a call that led here.
        let calls = std::mem::take(&mut self.calls);
        let scope = Scope { view, owner: Some((name.to_owned(), entry.depth)), ..Scope::default() };
        let mut value = self.body(body, &scope);
        self.calls = calls;
        self.open.pop();
        self.opened.remove(&key);
        if let (Some(e), 0, "logp" | "entropy") = (value, entry.depth, name) {
            value = self.policy_statistic(name, e);
        }
        if let Some(e) = value {
            self.graph.set_name(e, name);
        }
        self.values.insert(key, value);
        value
    }

    /// The prelude's `logp` and `entropy`: columns where a batch has no logits.
    fn policy_statistic(&mut self, name: &str, computed: E) -> Option<E> {
        let s = STANDARD.iter().find(|s| s.name == name)?;
        let id = self.column_id(ColumnInfo {
            level: TOKEN,
            name: name.to_owned(),
            ty: Ty::Real,
            differentiable: s.differentiable,
            default: None,
            span: None,
        });
        self.standard("logits");
        let logits = *self.columns.get(&("logits".to_owned(), VOCAB))?;
        if self.graph.level(computed) != TOKEN {
            return Some(computed);
        }
        Some(self.graph.add(
            Expr::Choose(id, computed, Prefer::ComputedWith(logits)),
            TOKEN,
            Ty::Real,
        ))
    }

    fn cycle(&mut self, start: usize, entry: &Entry, span: Span) {
        let name = &entry.ident.name;
        let mut diagnostic = Diagnostic::error(
            "E0104",
            format!("`{name}` is defined in terms of itself"),
            entry.ident.span,
            "1. to compute this...",
            "within a step a value is defined once, from values that do not\nneed it. To read what the base file calls so, write\n`base.".to_owned()
                + name
                + "` inside its definition.",
        );
        let path: Vec<Span> = self.open[start + 1..].iter().map(|o| o.3).collect();
        let count = path.len();
        for (i, at) in path.into_iter().enumerate() {
            diagnostic = diagnostic.with(at, format!("{}. ...this is needed first...", i + 2));
        }
        diagnostic = diagnostic.with(span, format!("{}. ...which needs `{name}` again", count + 2));
        // Every member of the cycle is without a value, and one message says it for all.
        self.diagnostics.push(diagnostic);
        let members: Vec<_> = self.open[start..].iter().map(|o| (o.0.clone(), o.1, o.2)).collect();
        for key in members {
            self.values.insert(key, None);
        }
    }

    fn declared(
        &mut self,
        entry: &Entry,
        decl: &ast::ColumnDecl,
        differentiable: bool,
        member: Option<i64>,
    ) -> Option<E> {
        let level = self.column_level(&decl.level)?;
        let ty = type_of(decl.ty.0);
        if differentiable && ty != Ty::Real {
            self.error(
                "E0204",
                format!("the policy column `{}` must be real", entry.ident.name),
                decl.ty.1,
                format!("{} has no gradient", ty.name()),
                format!("`policy {} : real @ {}`", entry.ident.name, decl.level.name),
            );
            return None;
        }
        let default = match decl.default {
            None => None,
            Some((literal, span)) => {
                let (value, found) = literal_value(literal);
                let fits = found == ty || (found == Ty::Int && ty == Ty::Real);
                if !fits {
                    self.error(
                        "E0204",
                        format!("the default of `{}` is not {}", entry.ident.name, ty.name()),
                        span,
                        found.name(),
                        format!("give a {} literal, or change the declared type", ty.name()),
                    );
                    return None;
                }
                Some(value)
            }
        };
        let name = match member {
            Some(k) => format!("{}.{k}", entry.ident.name),
            None => entry.ident.name.clone(),
        };
        let id = self.column_id(ColumnInfo {
            level,
            name: name.clone(),
            ty,
            differentiable,
            default,
            span: Some(entry.ident.span),
        });
        let e = self.graph.column(id);
        self.graph.set_name(e, &name);
        self.graph.set_span(e, entry.ident.span);
        Some(e)
    }

    /// `weights[k]`.
    pub(super) fn member(&mut self, ident: &Ident, index: &ast::Expr, scope: &Scope) -> Option<E> {
        let linked = self.linked;
        let Some(entry) = linked.value(&ident.name) else {
            if self.standard(&ident.name).is_some() {
                self.not_a_family(ident);
            } else {
                self.unknown_name(&ident.name, ident.span, scope);
            }
            return None;
        };
        let reader = self.open.last().map(|o| (o.0.clone(), o.1));
        self.usage.edges.entry(reader).or_default().insert((ident.name.clone(), entry.depth));
        let size = match &entry.item {
            Item::Param { family, .. } => *family,
            Item::Column { decl, .. } => decl.family.map(|f| f.0),
            Item::Def(_) | Item::State { .. } => None,
        };
        let Some(size) = size else {
            self.not_a_family(ident);
            return None;
        };
        let index_value = self.expr(index, scope)?;
        let Expr::Const(bits) = self.graph.expr(index_value) else {
            self.error(
                "E0204",
                "the index of a family is a literal or an unrolled variable",
                index.span,
                "known only when the kernel runs",
                format!("`{0}[1]`, or `sum({0}[k] for k in 1..{size})`", ident.name),
            );
            return None;
        };
        let k = f64::from_bits(bits);
        if k.fract() != 0.0 || k < 1.0 || k > size as f64 {
            self.error(
                "E0112",
                format!("`{}` has members 1 to {size}", ident.name),
                index.span,
                format!("{k}"),
                format!("members are counted from 1: `{}[1]`", ident.name),
            );
            return None;
        }
        match &entry.item {
            Item::Column { decl, differentiable } => {
                self.declared(entry, decl, *differentiable, Some(k as i64))
            }
            Item::Param { .. } | Item::Def(_) | Item::State { .. } => {
                let id = *self.params.get(&format!("{}.{k}", ident.name))?;
                let ty = self.graph.params[id.0 as usize].ty;
                Some(self.graph.add(Expr::Param(id), BATCH, ty))
            }
        }
    }

    fn not_a_family(&mut self, ident: &Ident) {
        self.error(
            "E0204",
            format!("`{}` is one value, not a family", ident.name),
            ident.span,
            "has no members",
            format!("leave the index out, or declare a family:\n`param {}[3] = 1.0`", ident.name),
        );
    }

    /// `base.name`.
    pub(super) fn base(&mut self, name: &str, span: Span, scope: &Scope) -> Option<E> {
        let inside = scope.owner.as_ref().filter(|o| o.0 == name).map(|o| o.1);
        let Some(depth) = inside else {
            let help = match &scope.owner {
                Some((owner, _)) => format!(
                    "`base.x` reads what the extended file calls `x`, inside the\ndefinition that replaces `x`; here that is `base.{owner}`.\nElsewhere write `{name}`"
                ),
                None => format!("write `{name}`, or replace it: `{name} = ... base.{name} ...`"),
            };
            self.error(
                "E0108",
                format!("`base.{name}` stands outside the definition of `{name}`"),
                span,
                format!("not inside `{name} = ...`"),
                help,
            );
            return None;
        };
        let linked = self.linked;
        if let Some(entry) = linked.base_value(name, depth) {
            return self.entry(entry, scope.view, span);
        }
        if let Some(value) = self.standard(name) {
            return Some(value);
        }
        if self.linked.stand_in {
            return None;
        }
        self.error(
            "E0101",
            format!("the extended file has no `{name}`"),
            span,
            "nothing to read",
            format!("`{name}` is new here: define it without `base`"),
        );
        None
    }

    /// Definitions, then the result.
    pub(super) fn body(&mut self, body: &Body, scope: &Scope) -> Option<E> {
        if body.locals.is_empty() {
            return self.expr(&body.result, scope);
        }
        let mut inner = scope.clone();
        for (i, (ident, expr)) in body.locals.iter().enumerate() {
            inner.later = later(body, i, &inner);
            let value = self.expr(expr, &inner);
            if let Some(e) = value {
                self.graph.set_name(e, &ident.name);
            }
            inner.locals.push((ident.name.clone(), value));
        }
        self.expr(&body.result, &inner)
    }

    /// Reports names that no call of `function` could give a meaning.
    pub(super) fn check_names(&mut self, function: &Function) {
        let mut scope = Scope { view: 0, ..Scope::default() };
        scope.locals.extend(function.params.iter().map(|p| (p.name.name.clone(), None)));
        for (i, param) in function.params.iter().enumerate() {
            let name = &param.name;
            if let Some(first) = function.params[..i].iter().find(|p| p.name.name == name.name) {
                self.report(defined_twice(name, first.name.span, "these parameters", RENAME));
            }
        }
        let locals = &function.body.locals;
        for (i, (ident, expr)) in locals.iter().enumerate() {
            if let Some(first) = locals[..i].iter().find(|l| l.0.name == ident.name) {
                self.report(defined_twice(ident, first.0.span, "this block", RENAME));
            }
            scope.later = later(&function.body, i, &scope);
            self.walk_names(expr, &mut scope);
            scope.locals.push((ident.name.clone(), None));
        }
        self.walk_names(&function.body.result, &mut scope);
    }

    fn walk_names(&mut self, expr: &ast::Expr, scope: &mut Scope) {
        super::expr::grown(|| self.walk_names_here(expr, scope));
    }

    fn walk_names_here(&mut self, expr: &ast::Expr, scope: &mut Scope) {
        match &expr.kind {
            ExprKind::Literal(_) | ExprKind::Base(_) => {}
            ExprKind::Name(name) => {
                if let Some(later) = scope.later.iter().find(|l| l.name == *name).cloned() {
                    self.read_before(&later, expr.span);
                    return;
                }
                let known = scope.locals.iter().any(|l| l.0 == *name)
                    || scope.unrolled.iter().any(|l| l.0 == *name)
                    || self.linked.values.contains_key(name)
                    || matches!(name.as_str(), "pi" | "inf")
                    || standard_inputs().any(|s| s == name)
                    // Some operators take a level where others take a value.
                    || self.is_level(name);
                if !known {
                    self.unknown_name(name, expr.span, scope);
                }
            }
            ExprKind::Unary(_, x) | ExprKind::At(x, _) | ExprKind::Index(_, x) => {
                self.walk_names(x, scope);
            }
            ExprKind::Binary(_, _, a, b) => {
                self.walk_names(a, scope);
                self.walk_names(b, scope);
            }
            ExprKind::If(c, a, b) => {
                self.walk_names(c, scope);
                self.walk_names(a, scope);
                self.walk_names(b, scope);
            }
            ExprKind::Call(call) => {
                if !super::call::is_builtin(&call.function.name)
                    && !call.function.name.starts_with("base.")
                    && !self.linked.functions.contains_key(&call.function.name)
                {
                    self.unknown_function(&call.function);
                }
                let mark = scope.unrolled.len();
                if let Some((ident, (from, _), _)) = &call.unroll {
                    scope.unrolled.push((ident.name.clone(), *from));
                }
                for arg in &call.args {
                    self.walk_names(&arg.value, scope);
                }
                if let Some(filter) = &call.filter {
                    self.walk_names(filter, scope);
                }
                scope.unrolled.truncate(mark);
            }
        }
    }
}

const RENAME: &str = "rename one of them";

/// The definitions of a block below the `i`th whose names have no meaning in it yet.
fn later(body: &Body, i: usize, scope: &Scope) -> Vec<Ident> {
    let idents = body.locals[i + 1..].iter().map(|l| &l.0);
    idents.filter(|n| scope.locals.iter().all(|l| l.0 != n.name)).cloned().collect()
}
